"""Remembered operations and leases: neither a heartbeat nor a service's own step makes a client's key forgotten."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from chassis.core.clocks import Clock
from chassis.core.commands import Op, request_op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import RECENT_OPERATIONS, Aggregates, SaveResult, TooBusy
from chassis.storage.mongo import Collection, ConnectionFailure, Document
from contracts.envelope import Envelope
from tests.chassis.harness import SERVICE, Counter, FaultInjector, add, erase, fail_once, set_fields
from tests.chassis.memory_store import MemoryStore

COMMAND = request_op("maria", "POST", "/rounds/r/resolve", "key-1", "body")
LEASE = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = LEASE + timedelta(seconds=20)


class SilentPublisher:
    """Publishes nothing, so that a test sees the outbox as it was saved."""

    def push(self, aggregates: Any, documents: Sequence[Document]) -> None: ...

    async def wait_for_room(self) -> None: ...


@pytest.fixture
def store() -> FaultInjector:
    return FaultInjector(MemoryStore().collection("counters"))


@pytest.fixture
def counters(store: FaultInjector) -> Aggregates[Counter]:
    return Aggregates(cast("Collection", store), Counter, SERVICE, SilentPublisher(), Clock())


async def resolve(counters: Aggregates[Counter], command: Op = COMMAND) -> SaveResult[Counter]:
    return await counters.update("c", command, add("c", 1), answer=lambda state: state.value)


async def document_of(counters: Aggregates[Counter]) -> Document:
    return (await counters.documents(["c"]))["c"]


class TestClientKeys:
    @pytest.mark.parametrize("step", [lambda _: Op.once(), lambda n: Op(f"due/{n}")], ids=["once", "step"])
    async def test_service_steps_do_not_push_out_a_client_key(
        self, counters: Aggregates[Counter], step: Callable[[int], Op]
    ) -> None:
        """A round that is being computed writes more than 32 heartbeats before the client repeats its request."""
        first = await resolve(counters)
        for n in range(3 * RECENT_OPERATIONS):
            await counters.update("c", step(n), set_fields("c"))
        again = await resolve(counters)
        assert (again.repeated, again.answer) == (True, first.answer)
        assert again.require_state().added == (1,)

    async def test_heartbeats_do_not_push_out_the_key_of_a_handler(self, counters: Aggregates[Counter]) -> None:
        handled = Op("event-1/when_it_happens_count_it")
        await resolve(counters, handled)
        for _ in range(3 * RECENT_OPERATIONS):
            await counters.update("c", Op.once(), set_fields("c"))
        assert (await resolve(counters, handled)).repeated

    async def test_each_kind_keeps_its_last_thirty_two(self, counters: Aggregates[Counter]) -> None:
        for n in range(40):
            for op in (Op(f"c{n}", "body", "command"), Op(f"s{n}"), Op(f"o{n}", kind="once")):
                await counters.update("c", op, set_fields("c"))
        recent = (await document_of(counters))["recent"]
        expected = [f"{prefix}{n}" for n in range(8, 40) for prefix in "cso"]
        assert [entry["op"] for entry in recent] == expected

    async def test_operations_of_the_former_version_still_count(self, counters: Aggregates[Counter]) -> None:
        """Its entries have no kind: those with a request hash were commands, all others steps."""
        await resolve(counters)
        former: list[dict[str, Any]] = [{"op": f"s{n}", "request": "", "answer": None} for n in range(30)]
        former += [{"op": COMMAND.key, "request": COMMAND.request, "answer": 1}]
        former += [{"op": derived_id("operation", "erased"), "request": None, "answer": None}]
        await counters.collection.update_one({"_id": "c"}, {"$set": {"recent": former}})
        assert (await resolve(counters, Op("s0"))).repeated
        assert (await resolve(counters, Op("erased"))).repeated
        for n in range(40):
            await counters.update("c", Op(f"new{n}"), set_fields("c"))
        assert (await resolve(counters)).answer == 1
        assert not (await resolve(counters, Op("s0"))).repeated

    async def test_an_erasure_redacts_every_kind_and_keeps_the_kinds(self, counters: Aggregates[Counter]) -> None:
        await resolve(counters)
        for _ in range(RECENT_OPERATIONS):
            await counters.update("c", Op.once(), set_fields("c"))
        await counters.update("c", Op("erase"), erase("c"))
        assert "body" not in str((await document_of(counters))["recent"])
        for _ in range(2 * RECENT_OPERATIONS):
            await counters.update("c", Op.once(), set_fields("c"))
        assert (await resolve(counters)).repeated


class TestRenewLease:
    @pytest.fixture
    async def working(self, counters: Aggregates[Counter]) -> Aggregates[Counter]:
        """Run 1 holds the lease of counter ``c``."""
        await counters.update("c", COMMAND, add("c", 5))
        await counters.update("c", Op.once(), set_fields("c", run=1, lease=LEASE))
        return counters

    async def test_extends_the_lease_and_writes_nothing_else(self, working: Aggregates[Counter]) -> None:
        """The version stays, so a client's If-Match does not fail because of a heartbeat."""
        before = await document_of(working)
        assert await working.renew_lease("c", renewed_by(1))
        assert await document_of(working) == {**before, "lease": LATER}

    @pytest.mark.parametrize(
        "change", [{"run": 2}, {"lease": None}, {"run": 2, "lease": LEASE - timedelta(seconds=1)}], ids=str
    )
    async def test_is_refused_once_another_holds_it_or_it_is_over(
        self, working: Aggregates[Counter], change: dict[str, Any]
    ) -> None:
        await working.update("c", Op.once(), set_fields("c", **change))
        before = await document_of(working)
        assert not await working.renew_lease("c", renewed_by(1))
        assert await document_of(working) == before

    async def test_is_refused_where_nothing_is_stored(self, counters: Aggregates[Counter]) -> None:
        assert not await counters.renew_lease("nobody", renewed_by(0))

    async def test_never_shortens_a_lease(self, working: Aggregates[Counter]) -> None:
        await working.update("c", Op.once(), set_fields("c", lease=LATER + timedelta(hours=1)))
        assert await working.renew_lease("c", renewed_by(1))
        assert (await document_of(working))["lease"] == LATER + timedelta(hours=1)

    async def test_does_not_overwrite_a_writer_who_came_between(
        self, working: Aggregates[Counter], store: FaultInjector
    ) -> None:
        other = another_replica(store)
        store.before["update_one"] = only_once(
            lambda: other.update("c", Op("rival"), set_fields("c", run=2, value=100))
        )
        assert not await working.renew_lease("c", renewed_by(1))
        document = await document_of(working)
        assert (document["run"], document["value"], document["lease"]) == (2, 100, LEASE)

    async def test_tries_again_after_a_writer_who_left_it_the_work(
        self, working: Aggregates[Counter], store: FaultInjector
    ) -> None:
        other = another_replica(store)
        store.before["update_one"] = only_once(lambda: other.update("c", Op("rival"), add("c", 10)))
        assert await working.renew_lease("c", renewed_by(1))
        document = await document_of(working)
        assert (document["added"], document["lease"]) == ([5, 10], LATER)

    async def test_recognises_a_renewal_whose_acknowledgement_was_lost(
        self, working: Aggregates[Counter], store: FaultInjector
    ) -> None:
        store.after["update_one"] = fail_once(ConnectionFailure("lost"))
        assert await working.renew_lease("c", renewed_by(1))
        assert store.calls.count("update_one") == 1

    async def test_gives_up_against_faster_writers(self, working: Aggregates[Counter], store: FaultInjector) -> None:
        other = another_replica(store)

        async def race() -> None:
            await other.update("c", Op.once(), set_fields("c"))

        store.before["update_one"] = race
        with pytest.raises(TooBusy):
            await working.renew_lease("c", renewed_by(1))

    async def test_a_renewed_lease_is_at_hand_for_the_sweep(self, working: Aggregates[Counter]) -> None:
        queue = working.due_queues["lease"]
        queue.horizon = LATER
        await working.renew_lease("c", renewed_by(1))
        assert queue.pop_due(LATER, 10) == ["c"]


class TestOp:
    def test_the_key_of_a_handler_is_the_event_id_and_its_name(self) -> None:
        envelope = Envelope("event-1", "t", "s", "k", LEASE, 1, "k")
        assert Op.handling(envelope, "when_it_happens_count_it") == Op("event-1/when_it_happens_count_it")

    def test_the_key_of_a_command_depends_on_person_route_and_key(self) -> None:
        parts = ("maria", "POST", "/rounds/r/resolve", "key-1")
        assert Op(derived_id("http", *parts), "body", "command") == COMMAND
        assert request_op(*parts[:3], '"key-1"', "body") == COMMAND
        others = [("otto", *parts[1:]), (parts[0], "PUT", *parts[2:]), (*parts[:2], "/other", parts[3])]
        assert COMMAND.key not in {request_op(*other, "body").key for other in others}

    def test_without_an_idempotency_key_every_request_is_its_own(self) -> None:
        assert len({request_op("maria", "POST", "/x", None, "body").key for _ in range(3)}) == 3


def renewed_by(run: int) -> Callable[[Counter], datetime | None]:
    return lambda counter: LATER if counter.run == run else None


def another_replica(store: FaultInjector) -> Aggregates[Counter]:
    """A second process on the same documents, without the faults of the first one's connection."""
    return Aggregates(cast("Collection", store._inner), Counter, SERVICE, SilentPublisher(), Clock())


def only_once(action: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    calls: list[bool] = []

    async def act() -> None:
        if not calls:
            calls.append(True)
            await action()

    return act
