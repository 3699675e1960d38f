"""An erasure begins once, is reported only when nothing is held any longer, and no writer slips past it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis import erasure
from chassis.core.clocks import Clock
from chassis.erasure import RECHECK_INTERVAL, Erasure, complete_or_recheck, open_erasure, write_about
from chassis.messaging.subscriptions import ReceivedEvent
from chassis.storage.aggregates import Aggregates, Stored
from chassis.storage.mongo import Document
from contracts.envelope import Envelope, source_of
from contracts.moment import Moment
from contracts.privacy import ErasureCompleted, ErasureRequested
from tests.chassis.memory_store import MemoryStore

NOW = datetime(2026, 3, 2, tzinfo=UTC)
MOMENT = Moment(NOW, NOW)
REQUEST = ErasureRequested(member_id="m1", requested_at=NOW)


class RecordingPublisher:
    """Keeps the events of saved documents instead of publishing them."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def push(self, aggregates: Any, documents: Sequence[Document]) -> None:
        self.events += [entry["data"] for document in documents for entry in document["outbox"]]

    async def wait_for_room(self) -> None: ...


@dataclass
class NoteService:
    """A service that keeps notes about members: the member ids of each note."""

    publisher: RecordingPublisher
    erasures: Aggregates[Erasure]
    clock: Clock = field(default_factory=Clock)
    notes: list[set[str]] = field(default_factory=list)
    is_broken: bool = False

    async def forget(self, member_id: str) -> None:
        if self.is_broken:
            raise ConnectionError
        self.notes = [note for note in self.notes if member_id not in note]

    async def holds(self, member_id: str) -> bool:
        return any(member_id in note for note in self.notes)

    async def request(self, event_id: str = "event-1") -> None:
        envelope = Envelope(event_id, REQUEST.TYPE, source_of("profiles"), "m1", NOW, 3, "m1")
        event = ReceivedEvent(envelope, REQUEST)
        await erasure.begin(event, event.op("when_an_erasure_is_requested_begin_to_forget"), self.erasures, self.clock)

    async def sweep(self) -> Stored[Erasure]:
        await erasure.advance(
            await self.stored(), self.erasures, self.clock, forget=self.forget, holds_anything=self.holds
        )
        return await self.stored()

    async def stored(self) -> Stored[Erasure]:
        stored = await self.erasures.get("m1")
        assert stored is not None
        return stored

    async def write(self, *members: str) -> set[str]:
        self.notes.append(set(members))
        return set(members)

    async def find_erased(self, members: Sequence[str]) -> list[str]:
        return list(await self.erasures.get_many(members))

    async def write_note_about(self, *members: str) -> set[str]:
        return await write_about(
            lambda note: note, self.write(*members), find_erased=self.find_erased, forget=self.forget
        )


@pytest.fixture
def service() -> NoteService:
    publisher = RecordingPublisher()
    return NoteService(
        publisher, Aggregates(MemoryStore().collection("erasures"), Erasure, "notifier", publisher, Clock())
    )


class TestDecisions:
    def test_a_second_request_changes_nothing(self) -> None:
        opened = open_erasure(None, REQUEST, NOW)
        assert opened is not None
        assert (opened[0].lease, opened[1]) == (NOW, [])
        assert open_erasure(opened[0], REQUEST, NOW) is None

    def test_while_something_is_held_it_checks_again(self) -> None:
        pending = Erasure(member_id="m1", requested_at=NOW, lease=NOW)
        waiting = complete_or_recheck(pending, "notifier", MOMENT, is_forgotten=False)
        assert waiting is not None
        assert (waiting[0].lease, waiting[1]) == (NOW + RECHECK_INTERVAL, [])

    @pytest.mark.parametrize("name", ["notifier", "feedback"])
    def test_it_reports_its_completion_once(self, name: str) -> None:
        pending = Erasure(member_id="m1", requested_at=NOW, lease=NOW)
        done = complete_or_recheck(pending, name, MOMENT, is_forgotten=True)
        assert done is not None
        assert done[1] == [ErasureCompleted.model_validate({"member_id": "m1", "service": name, "completed_at": NOW})]
        assert (done[0].completed_at, done[0].lease) == (NOW, None)
        assert complete_or_recheck(done[0], name, MOMENT, is_forgotten=True) is None


class TestProtocol:
    async def test_from_the_request_to_the_event(self, service: NoteService) -> None:
        service.notes = [{"m1", "m2"}, {"m2"}]
        await service.request()
        assert service.publisher.events == []
        done = await service.sweep()
        assert done.state.completed_at is not None
        assert service.notes == [{"m2"}]
        [event] = service.publisher.events
        assert ErasureCompleted.model_validate_json(event).member_id == "m1"

    async def test_it_is_not_reported_while_something_is_held(self, service: NoteService) -> None:
        """The tombstone that takes the last of it comes on another topic."""

        async def forget_nothing(_: str) -> None: ...

        service.notes = [{"m1"}]
        await service.request()
        await erasure.advance(
            await service.stored(), service.erasures, Clock(), forget=forget_nothing, holds_anything=service.holds
        )
        assert (await service.stored()).state.completed_at is None
        assert service.publisher.events == []

    async def test_a_failing_step_leaves_the_lease_for_the_sweep(self, service: NoteService) -> None:
        await service.request()
        before = await service.stored()
        service.is_broken = True
        with pytest.raises(ConnectionError):
            await service.sweep()
        assert await service.stored() == before

    async def test_the_operation_keys_are_those_that_are_stored(self, service: NoteService) -> None:
        await service.request()
        await service.sweep()
        [document] = (await service.erasures.documents(["m1"])).values()
        begun, completed = (entry["op"] for entry in document["recent"])
        assert begun == "event-1/when_an_erasure_is_requested_begin_to_forget"
        assert completed.startswith("lease/20")

    async def test_a_request_that_comes_again_opens_nothing(self, service: NoteService) -> None:
        await service.request()
        await service.sweep()
        await service.request("event-2")
        assert (await service.stored()).state.lease is None


class TestWriteAbout:
    async def test_a_write_after_the_erasure_is_forgotten(self, service: NoteService) -> None:
        await service.request()
        await service.sweep()
        assert await service.write_note_about("m1", "m2") == {"m1", "m2"}
        assert service.notes == []

    async def test_a_write_about_others_stays(self, service: NoteService) -> None:
        await service.request()
        await service.write_note_about("m2")
        assert service.notes == [{"m2"}]

    async def test_it_asks_nobody_about_nobody(self, service: NoteService) -> None:
        async def fail(_: Sequence[str]) -> list[str]:
            raise AssertionError

        await write_about(lambda _: [], service.write(), find_erased=fail, forget=service.forget)

    async def test_it_looks_after_the_write_and_not_before(self, service: NoteService) -> None:
        """An erasure that ends while the write is under way has not seen it."""

        async def write() -> set[str]:
            await service.request()
            await service.sweep()
            return await service.write("m1")

        await write_about(lambda note: note, write(), find_erased=service.find_erased, forget=service.forget)
        assert service.notes == []
