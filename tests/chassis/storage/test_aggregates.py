"""An aggregate is changed by one atomic write. An operation is applied once, whichever message is lost."""

import asyncio
from collections.abc import Sequence

import pytest
from pymongo.errors import OperationFailure, PyMongoError

from chassis.core.commands import Op
from chassis.storage import aggregates
from chassis.storage.aggregates import (
    Aggregates,
    Change,
    Decide,
    KeyReused,
    SaveResult,
    State,
    TooBusy,
    VersionConflict,
)
from chassis.storage.mongo import BulkWriteError, ConnectionFailure
from chassis.storage.outbox import EventTooLarge
from contracts.envelope import OutgoingEvent, Topic
from tests.chassis.harness import (
    COUNTERS,
    COUNTS,
    SERVICE,
    WHISPERS,
    ChassisHarness,
    Counter,
    ServiceReplica,
    Whispered,
    add,
    erase,
    event_ids,
    eventually,
    fail_once,
    outbox_is_empty,
    read_envelope,
    set_fields,
)


async def create_counters(harness: ChassisHarness, replica: ServiceReplica, *counters: str) -> None:
    """Create counters at 1 with empty outboxes, so that the next bulk write is not one of the relay."""
    for id in counters:
        await replica.counters.update(id, Op("first"), add(id, 1))
    for id in counters:
        await eventually(outbox_is_empty(harness, id), "the outbox is emptied")


class TestLostAcknowledgement:
    async def test_applied_save_counts_once(
        self,
        harness: ChassisHarness,
    ) -> None:
        """Also with another writer in between."""
        replica, other = await harness.start_replica(), await harness.start_replica()
        await replica.counters.update("c", Op("first"), add("c", 1))
        await eventually(outbox_is_empty(harness, "c"), "the first state is published")
        replica.collection_faults.after["replace_one"] = fail_once(
            ConnectionFailure("lost"), action=lambda: other.counters.update("c", Op("other"), add("c", 100))
        )

        saved = await replica.counters.update("c", Op("mine"), add("c", 10), answer=lambda s: s.value)

        assert saved.repeated
        assert saved.answer == 11
        assert (await harness.read_counter("c")).added == (1, 10, 100)
        await eventually(outbox_is_empty(harness, "c"), "the outbox is emptied")
        counted = await harness.read_records(COUNTS, "c")
        assert len(set(event_ids(counted))) == 3
        assert b'"value":111' in (await harness.read_records(COUNTERS, "c"))[-1].value  # type: ignore[operator]

    async def test_events_of_an_applied_save_are_published(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("first"), add("c", 1))
        replica.collection_faults.after["replace_one"] = fail_once(ConnectionFailure("lost"))
        await replica.counters.update("c", Op("mine"), add("c", 10))
        await eventually(outbox_is_empty(harness, "c"), "the outbox is emptied")
        assert len(set(event_ids(await harness.read_records(COUNTS, "c")))) == 2

    @pytest.mark.parametrize("error", [ConnectionFailure("lost"), OperationFailure("too long", 262)], ids=repr)
    async def test_save_that_was_not_applied_is_repeated(self, harness: ChassisHarness, error: PyMongoError) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("first"), add("c", 1))
        replica.collection_faults.before["replace_one"] = fail_once(error)
        saved = await replica.counters.update("c", Op("mine"), add("c", 10))
        assert not saved.repeated
        assert (await harness.read_counter("c")).added == (1, 10)

    async def test_store_that_hangs_ends_the_update_and_frees_its_lock(
        self, harness: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The write may still arrive. The repetition finds out, and nothing is applied twice."""
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("first"), add("c", 1))

        async def hang() -> None:
            await asyncio.Event().wait()

        replica.collection_faults.after["replace_one"] = hang  # applied, and never acknowledged
        monkeypatch.setattr(aggregates, "SAVE_TIMEOUT_S", 0.3)
        with pytest.raises(TimeoutError):
            await replica.counters.update("c", Op("mine"), add("c", 10))
        del replica.collection_faults.after["replace_one"]
        monkeypatch.setattr(aggregates, "SAVE_TIMEOUT_S", 60.0)
        assert (await replica.counters.update("c", Op("mine"), add("c", 10))).repeated
        assert (await harness.read_counter("c")).added == (1, 10)

    async def test_applied_insert_counts_once(
        self,
        harness: ChassisHarness,
    ) -> None:
        """Also with another writer in between."""
        replica, other = await harness.start_replica(), await harness.start_replica()
        replica.collection_faults.after["insert_one"] = fail_once(
            ConnectionFailure("lost"), action=lambda: other.counters.update("c", Op("other"), add("c", 100))
        )
        saved = await replica.counters.update("c", Op("mine"), add("c", 10))
        assert saved.repeated
        assert (await harness.read_counter("c")).added == (10, 100)
        await eventually(outbox_is_empty(harness, "c"), "the outbox is emptied")
        assert len(set(event_ids(await harness.read_records(COUNTS, "c")))) == 2

    async def test_applied_bulk_update_counts_once(
        self,
        harness: ChassisHarness,
    ) -> None:
        """Also with another writer in between."""
        replica, other = await harness.start_replica(), await harness.start_replica()
        old = [f"old{n}" for n in range(5)]
        new = [f"new{n}" for n in range(5)]
        await create_counters(harness, replica, *old)

        async def save_others() -> None:
            await other.counters.update("old2", Op("other"), add("old2", 100))
            await other.counters.update("new2", Op("other"), add("new2", 100))

        replica.collection_faults.after["bulk_write"] = fail_once(ConnectionFailure("lost"), action=save_others)
        results = await replica.counters.update_many([Change(id, Op("bulk"), add(id, 10)) for id in old + new])

        assert [result.id for result in results if isinstance(result, SaveResult)] == old + new
        for id in old:
            assert (await harness.read_counter(id)).added == ((1, 10, 100) if id == "old2" else (1, 10))
        for id in new:
            assert (await harness.read_counter(id)).added == ((10, 100) if id == "new2" else (10,))
        for id in old + new:
            await eventually(outbox_is_empty(harness, id), "the outbox is emptied")
        assert len(set(event_ids(await harness.read_records(COUNTS)))) == 5 + 10 + 2

    async def test_applied_bulk_insert_counts_once(self, harness: ChassisHarness) -> None:
        replica, other = await harness.start_replica(), await harness.start_replica()
        replica.collection_faults.after["insert_many"] = fail_once(
            ConnectionFailure("lost"), action=lambda: other.counters.update("c1", Op("other"), add("c1", 100))
        )
        results = await replica.counters.update_many([Change(f"c{n}", Op("bulk"), add(f"c{n}", 10)) for n in range(3)])
        assert all(isinstance(result, SaveResult) for result in results)
        assert [(await harness.read_counter(f"c{n}")).added for n in range(3)] == [(10,), (10, 100), (10,)]

    async def test_insert_without_majority_does_not_count_as_saved(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        unconfirmed = {"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "waiting timed out"}]}
        replica.collection_faults.after["insert_many"] = fail_once(BulkWriteError(unconfirmed))
        [result] = await replica.counters.update_many([Change("a", Op("bulk"), add("a", 10))])
        assert isinstance(result, SaveResult)
        assert result.repeated  # it counts as saved only after a read with majority read concern


class TestConcurrentWriters:
    async def test_concurrent_creations_both_have_their_effect(self, harness: ChassisHarness) -> None:
        replica, other = await harness.start_replica(), await harness.start_replica()
        await asyncio.gather(
            *(
                writer.counters.update("c", Op(f"{n}"), add("c", n))
                for n, writer in enumerate([replica, other] * 3, start=1)
            )
        )
        assert sorted((await harness.read_counter("c")).added) == [1, 2, 3, 4, 5, 6]

    async def test_slower_writer_of_a_bulk_update_decides_again(self, harness: ChassisHarness) -> None:
        replica, other = await harness.start_replica(), await harness.start_replica()
        await create_counters(harness, replica, "a", "b")
        raced: list[bool] = []

        async def race() -> None:
            if not raced:
                raced.append(True)
                await other.counters.update("b", Op("other"), add("b", 100))

        replica.collection_faults.before["bulk_write"] = race
        results = await replica.counters.update_many([Change(id, Op("bulk"), add(id, 10)) for id in ("a", "b")])
        assert [result.require_state().value for result in results if isinstance(result, SaveResult)] == [11, 111]

    async def test_outdated_expected_version_conflicts(self, harness: ChassisHarness) -> None:
        """A repeated operation with the same outdated version does not."""
        replica = await harness.start_replica()
        first = await replica.counters.update("c", Op("1"), add("c", 1), expect=0)
        await replica.counters.update("c", Op("2"), add("c", 1), expect=first.version)
        with pytest.raises(VersionConflict):
            await replica.counters.update("c", Op("3"), add("c", 1), expect=first.version)
        assert (await replica.counters.update("c", Op("2"), add("c", 1), expect=first.version)).repeated

    async def test_rival_between_load_and_save_conflicts(self, harness: ChassisHarness) -> None:
        replica, other = await harness.start_replica(), await harness.start_replica()
        first = await replica.counters.update("c", Op("1"), add("c", 1))
        raced: list[bool] = []

        async def race() -> None:
            if not raced:
                raced.append(True)
                await other.counters.update("c", Op("rival"), add("c", 100))

        replica.collection_faults.before["replace_one"] = race
        with pytest.raises(VersionConflict):
            await replica.counters.update("c", Op("2"), add("c", 1), expect=first.version)
        assert (await harness.read_counter("c")).added == (1, 100)


class TestBulkUpdate:
    async def test_stored_fresh_id_is_decided_again(
        self,
        harness: ChassisHarness,
    ) -> None:
        """``fresh`` skips the read, so the decision is repeated on the stored state."""
        replica = await harness.start_replica()
        await replica.counters.update("a", Op("first"), add("a", 1))
        changes = [Change(id, Op("bulk"), add(id, 10), fresh=True) for id in ("a", "b")]
        results = await replica.counters.update_many(changes)
        assert [saved.require_state().value for saved in results if isinstance(saved, SaveResult)] == [11, 10]
        again = await replica.counters.update_many(changes)
        assert [saved.repeated for saved in again if isinstance(saved, SaveResult)] == [True, True]

    async def test_error_of_one_decision_leaves_the_others_saved(
        self,
        harness: ChassisHarness,
    ) -> None:
        class DecisionRejected(Exception):
            pass

        def refuse(_: Counter | None) -> None:
            raise DecisionRejected

        replica = await harness.start_replica()
        results = await replica.counters.update_many(
            [Change("a", Op("x"), add("a", 1)), Change("b", Op("x"), refuse), Change("c", Op("x"), lambda _: None)]
        )
        assert isinstance(results[0], SaveResult)
        assert isinstance(results[1], DecisionRejected)
        assert isinstance(results[2], SaveResult)
        assert not results[2].changed
        assert await harness.collection.count_documents({}) == 1

    async def test_failed_bulk_write_is_done_one_by_one(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        await create_counters(harness, replica, "a", "b")
        replica.collection_faults.before["bulk_write"] = fail_once(
            BulkWriteError({"writeErrors": [{"index": 1, "code": 64}]})
        )
        results = await replica.counters.update_many([Change(id, Op("bulk"), add(id, 10)) for id in ("a", "b")])
        assert [result.require_state().value for result in results if isinstance(result, SaveResult)] == [11, 11]


class TestOperationIdempotency:
    async def test_repeated_key_gives_the_stored_answer_without_effect(self, harness: ChassisHarness) -> None:
        replica, other = await harness.start_replica(), await harness.start_replica()
        first = await replica.counters.update("c", Op("key", "body"), add("c", 1), answer=lambda s: {"value": s.value})
        await replica.counters.update("c", Op("between"), add("c", 10))
        again = await other.counters.update("c", Op("key", "body"), add("c", 1), answer=lambda s: {"value": s.value})
        assert (first.answer, first.repeated) == ({"value": 1}, False)
        assert (again.answer, again.repeated) == ({"value": 1}, True)
        assert (await harness.read_counter("c")).added == (1, 10)

    async def test_repeated_key_with_another_body_is_rejected(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("key", "body"), add("c", 1))
        with pytest.raises(KeyReused):
            await replica.counters.update("c", Op("key", "another"), add("c", 2))
        [result] = await replica.counters.update_many([Change("c", Op("key", "another"), add("c", 2))])
        assert isinstance(result, KeyReused)
        assert (await harness.read_counter("c")).added == (1,)

    async def test_last_thirty_two_operations_are_remembered(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        for n in range(40):
            await replica.counters.update("c", Op(f"{n}"), set_fields("c", value=n))
        recent = [entry["op"] for entry in (await replica.read_document("c"))["recent"]]
        assert recent == [f"{n}" for n in range(8, 40)]


class TestAggregateLimits:
    async def test_commands_are_rejected_while_a_hundred_events_wait(
        self,
        harness: ChassisHarness,
    ) -> None:
        silent, publishing = await harness.start_replica(running=False), await harness.start_replica()

        for n in range(99):  # 99 on the time topic and one on the compacted one
            await silent.counters.update("c", Op(f"{n}"), add("c", 1))
        with pytest.raises(TooBusy):
            await silent.counters.update("c", Op("too many"), add("c", 1))
        assert (
            await silent.counters.update("c", Op("98"), add("c", 1))
        ).repeated  # an applied operation is still recognised
        harness.clock.offset += publishing.relay.lease
        await publishing.relay.sweep(publishing.counters)
        await eventually(outbox_is_empty(harness, "c"), "the relay catches up")
        assert not (await silent.counters.update("c", Op("later"), add("c", 1))).repeated

    async def test_too_large_event_is_rejected_before_the_save(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        with pytest.raises(EventTooLarge):
            await replica.counters.update("c", Op("1"), add("c", 1, note="x" * COUNTS.max_bytes))
        assert await replica.counters.get("c") is None
        await replica.counters.update("c", Op("2"), add("c", 1, note="x" * (COUNTS.max_bytes - 4200)))
        await eventually(outbox_is_empty(harness, "c"), "the broker accepts an event just below the limit")
        assert len(await harness.read_records(COUNTS, "c")) == 1

    async def test_state_with_a_protocol_field_is_rejected(self, harness: ChassisHarness) -> None:
        class Versioned(State):
            version: int

        replica = await harness.start_replica()
        with pytest.raises(TypeError, match="version"):
            Aggregates(harness.collection, Versioned, SERVICE, replica.relay, harness.clock)


def whisper(id: str) -> Decide[Counter]:
    """Publish a restricted event alone."""

    def decide(counter: Counter | None) -> tuple[Counter, Sequence[OutgoingEvent]]:
        return counter or Counter(counter_id=id), [Whispered(counter_id=id, secret="psst")]

    return decide


async def sequences_on(harness: ChassisHarness, topic: Topic) -> list[int]:
    return [read_envelope(record).sequence for record in await harness.read_records(topic, "c")]


class TestEventSequences:
    async def test_each_event_has_its_own_sequence_in_order(
        self,
        harness: ChassisHarness,
    ) -> None:
        replica = await harness.start_replica()
        for n in range(1, 6):
            await replica.counters.update("c", Op(f"{n}"), add("c", n))
        await replica.relay.wait_until_idle()
        on_compacted_topic = [read_envelope(record).sequence for record in await harness.read_records(COUNTERS, "c")]
        on_time_topic = [read_envelope(record).sequence for record in await harness.read_records(COUNTS, "c")]
        assert on_time_topic == [2, 4, 6, 8, 10]
        assert on_compacted_topic == sorted(on_compacted_topic)
        assert on_compacted_topic[-1] == 9
        assert not set(on_compacted_topic) & set(on_time_topic)

    async def test_a_restricted_event_leaves_no_gap_in_open_topics(self, harness: ChassisHarness) -> None:
        """A gap would tell a subscriber that somebody has answered, asked for another partner, or checked in."""
        replica = await harness.start_replica()
        for number, change in enumerate((whisper("c"), add("c", 1), whisper("c"), whisper("c"), add("c", 1))):
            await replica.counters.update("c", Op(f"{number}"), change)
        await replica.relay.wait_until_idle()
        assert await sequences_on(harness, COUNTS) == [2, 4]
        assert await sequences_on(harness, WHISPERS) == [1, 4, 5]

    async def test_numbers_grow_beside_a_replica_of_an_earlier_version(self, harness: ChassisHarness) -> None:
        """It numbers all events together, and writes documents without the second number."""
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("1"), add("c", 1))
        await replica.counters.update("c", Op("2"), whisper("c"))
        await replica.counters.update("c", Op("3"), whisper("c"))
        await replica.relay.wait_until_idle()
        before = await replica.read_document("c")
        assert (before["sequence"], before["open_sequence"]) == (4, 2)
        earlier = {"$set": {"sequence": before["sequence"] + 2}, "$unset": {"open_sequence": ""}}
        await harness.collection.update_one({"_id": "c"}, earlier)
        await replica.counters.update("c", Op("4"), add("c", 1))
        await replica.counters.update("c", Op("5"), whisper("c"))
        await replica.relay.wait_until_idle()
        assert await sequences_on(harness, COUNTS) == [2, 8]
        assert await sequences_on(harness, WHISPERS) == [3, 4, 9]

    async def test_new_epoch_numbers_events_above_the_old_ones(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("1"), add("c", 1))
        replica.counters.begin_epoch(2**40)
        await replica.counters.update("c", Op("2"), add("c", 1))
        await replica.relay.wait_until_idle()
        assert [read_envelope(record).sequence for record in await harness.read_records(COUNTS, "c")] == [2, 2**40 + 2]

    async def test_decision_for_nothing_saves_nothing(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        saved = await replica.counters.update("c", Op("1"), lambda _: None)
        assert (saved.state, saved.version, saved.changed) == (None, 0, False)
        with pytest.raises(LookupError):
            saved.require_state()


class TestErasedAggregate:
    async def test_erasure_leaves_a_tombstone_and_no_old_answers(
        self,
        harness: ChassisHarness,
    ) -> None:
        replica = await harness.start_replica(running=False)
        await replica.counters.update("c", Op("1", "body"), add("c", 1), answer=lambda _: "Maria's answer")
        await replica.counters.update("c", Op("2", "body"), add("c", 1), answer=lambda _: "Maria's answer")
        await replica.counters.update("c", Op("erase"), erase("c"), answer=lambda _: "erased")
        document = await replica.read_document("c")
        assert [entry["data"] for entry in document["outbox"] if entry["topic"] == COUNTERS.name] == [None]
        assert [entry["answer"] for entry in document["recent"] if entry["answer"]] == ["erased"]
        assert "body" not in str(document["recent"])

    async def test_earlier_operation_is_recognised_after_erasure(
        self,
        harness: ChassisHarness,
    ) -> None:
        replica, other = await harness.start_replica(), await harness.start_replica()
        await replica.counters.update("c", Op("first"), add("c", 1))
        replica.collection_faults.after["replace_one"] = fail_once(
            ConnectionFailure("lost"), action=lambda: other.counters.update("c", Op("erase"), erase("c"))
        )
        saved = await replica.counters.update("c", Op("mine", "body"), add("c", 10), answer=lambda s: s.value)
        assert saved.repeated
        assert saved.answer is None
        assert saved.require_state().gone
