"""An aggregate is changed by one atomic write; an operation is applied once, whatever is lost on the way."""

import asyncio

import pytest

from chassis.storage.aggregates import Aggregates, Change, KeyReused, SaveResult, State, TooBusy, VersionConflict
from chassis.storage.mongo import BulkWriteError, ConnectionFailure
from chassis.storage.outbox import EventTooLarge
from tests.chassis.harness import (
    COUNTERS,
    COUNTS,
    SERVICE,
    ChassisHarness,
    Counter,
    Replica,
    add,
    envelope_of,
    erase,
    event_ids,
    eventually,
    fail_once,
    op,
    outbox_is_empty,
    set_fields,
)


async def begin(toys: ChassisHarness, replica: Replica, *counters: str) -> None:
    """Counters at 1 of which all is said and cleaned up, so that the next bulk write is not the relay's."""
    for id in counters:
        await replica.counters.update(id, op("first"), add(id, 1))
    for id in counters:
        await eventually(outbox_is_empty(toys, id), "the outbox empties")


class TestLostAcknowledgement:
    async def test_applied_save_counts_once(
        self,
        toys: ChassisHarness,
    ) -> None:
        """Also with another writer in between."""
        one, other = await toys.replica(), await toys.replica()
        await one.counters.update("c", op("first"), add("c", 1))
        one.store.after["replace_one"] = fail_once(
            ConnectionFailure("lost"), first=lambda: other.counters.update("c", op("other"), add("c", 100))
        )

        saved = await one.counters.update("c", op("mine"), add("c", 10), answer=lambda s: s.value)

        assert saved.repeated
        assert saved.answer == 11
        assert (await toys.stored("c")).added == (1, 10, 100)
        await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
        counted = await toys.said(COUNTS, "c")
        assert len(set(event_ids(counted))) == 3
        assert b'"value":111' in (await toys.said(COUNTERS, "c"))[-1].value  # type: ignore[operator]

    async def test_events_of_an_applied_save_are_published(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        await one.counters.update("c", op("first"), add("c", 1))
        one.store.after["replace_one"] = fail_once(ConnectionFailure("lost"))
        await one.counters.update("c", op("mine"), add("c", 10))
        await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
        assert len(set(event_ids(await toys.said(COUNTS, "c")))) == 2

    async def test_save_that_was_not_applied_is_repeated(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        await one.counters.update("c", op("first"), add("c", 1))
        one.store.before["replace_one"] = fail_once(ConnectionFailure("lost"))
        saved = await one.counters.update("c", op("mine"), add("c", 10))
        assert not saved.repeated
        assert (await toys.stored("c")).added == (1, 10)

    async def test_applied_insert_counts_once(
        self,
        toys: ChassisHarness,
    ) -> None:
        """Also with another writer in between."""
        one, other = await toys.replica(), await toys.replica()
        one.store.after["insert_one"] = fail_once(
            ConnectionFailure("lost"), first=lambda: other.counters.update("c", op("other"), add("c", 100))
        )
        saved = await one.counters.update("c", op("mine"), add("c", 10))
        assert saved.repeated
        assert (await toys.stored("c")).added == (10, 100)
        await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
        assert len(set(event_ids(await toys.said(COUNTS, "c")))) == 2

    async def test_applied_bulk_update_counts_once(
        self,
        toys: ChassisHarness,
    ) -> None:
        """Also with another writer in between."""
        one, other = await toys.replica(), await toys.replica()
        old = [f"old{n}" for n in range(5)]
        new = [f"new{n}" for n in range(5)]
        await begin(toys, one, *old)

        async def another() -> None:
            await other.counters.update("old2", op("other"), add("old2", 100))
            await other.counters.update("new2", op("other"), add("new2", 100))

        one.store.after["bulk_write"] = fail_once(ConnectionFailure("lost"), first=another)
        results = await one.counters.update_many([Change(id, op("bulk"), add(id, 10)) for id in old + new])

        assert [result.id for result in results if isinstance(result, SaveResult)] == old + new
        for id in old:
            assert (await toys.stored(id)).added == ((1, 10, 100) if id == "old2" else (1, 10))
        for id in new:
            assert (await toys.stored(id)).added == ((10, 100) if id == "new2" else (10,))
        for id in old + new:
            await eventually(outbox_is_empty(toys, id), "the outbox empties")
        assert len(set(event_ids(await toys.said(COUNTS)))) == 5 + 10 + 2

    async def test_applied_bulk_insert_counts_once(self, toys: ChassisHarness) -> None:
        one, other = await toys.replica(), await toys.replica()
        one.store.after["insert_many"] = fail_once(
            ConnectionFailure("lost"), first=lambda: other.counters.update("c1", op("other"), add("c1", 100))
        )
        results = await one.counters.update_many([Change(f"c{n}", op("bulk"), add(f"c{n}", 10)) for n in range(3)])
        assert all(isinstance(result, SaveResult) for result in results)
        assert [(await toys.stored(f"c{n}")).added for n in range(3)] == [(10,), (10, 100), (10,)]

    async def test_insert_without_majority_does_not_count_as_saved(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        unconfirmed = {"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "waiting timed out"}]}
        one.store.after["insert_many"] = fail_once(BulkWriteError(unconfirmed))
        [result] = await one.counters.update_many([Change("a", op("bulk"), add("a", 10))])
        assert isinstance(result, SaveResult)
        assert result.repeated  # it was read again, with majority read concern, before it was believed


class TestConcurrentWriters:
    async def test_concurrent_creations_both_have_their_effect(self, toys: ChassisHarness) -> None:
        one, other = await toys.replica(), await toys.replica()
        await asyncio.gather(
            *(
                replica.counters.update("c", op(f"{n}"), add("c", n))
                for n, replica in enumerate([one, other, one, other, one, other], start=1)
            )
        )
        assert sorted((await toys.stored("c")).added) == [1, 2, 3, 4, 5, 6]

    async def test_slower_writer_of_a_bulk_update_decides_again(self, toys: ChassisHarness) -> None:
        one, other = await toys.replica(), await toys.replica()
        await begin(toys, one, "a", "b")
        raced: list[bool] = []

        async def race() -> None:
            if not raced:
                raced.append(True)
                await other.counters.update("b", op("other"), add("b", 100))

        one.store.before["bulk_write"] = race
        results = await one.counters.update_many([Change(id, op("bulk"), add(id, 10)) for id in ("a", "b")])
        assert [result.require_state().value for result in results if isinstance(result, SaveResult)] == [11, 111]

    async def test_outdated_expected_version_conflicts(self, toys: ChassisHarness) -> None:
        """A repeated operation with the same outdated version does not."""
        one = await toys.replica()
        first = await one.counters.update("c", op("1"), add("c", 1), expect=0)
        await one.counters.update("c", op("2"), add("c", 1), expect=first.version)
        with pytest.raises(VersionConflict):
            await one.counters.update("c", op("3"), add("c", 1), expect=first.version)
        assert (await one.counters.update("c", op("2"), add("c", 1), expect=first.version)).repeated

    async def test_rival_between_load_and_save_conflicts(self, toys: ChassisHarness) -> None:
        one, other = await toys.replica(), await toys.replica()
        first = await one.counters.update("c", op("1"), add("c", 1))
        raced: list[bool] = []

        async def race() -> None:
            if not raced:
                raced.append(True)
                await other.counters.update("c", op("rival"), add("c", 100))

        one.store.before["replace_one"] = race
        with pytest.raises(VersionConflict):
            await one.counters.update("c", op("2"), add("c", 1), expect=first.version)
        assert (await toys.stored("c")).added == (1, 100)


class TestBulkUpdate:
    async def test_stored_fresh_id_is_decided_again(
        self,
        toys: ChassisHarness,
    ) -> None:
        """``fresh`` skips the read, so the decision is repeated on the stored state."""
        one = await toys.replica()
        await one.counters.update("a", op("first"), add("a", 1))
        changes = [Change(id, op("bulk"), add(id, 10), fresh=True) for id in ("a", "b")]
        results = await one.counters.update_many(changes)
        assert [saved.require_state().value for saved in results if isinstance(saved, SaveResult)] == [11, 10]
        again = await one.counters.update_many(changes)
        assert [saved.repeated for saved in again if isinstance(saved, SaveResult)] == [True, True]

    async def test_error_of_one_decision_leaves_the_others_saved(
        self,
        toys: ChassisHarness,
    ) -> None:
        class Refused(Exception):
            pass

        def refuse(_: Counter | None) -> None:
            raise Refused

        one = await toys.replica()
        results = await one.counters.update_many(
            [Change("a", op("x"), add("a", 1)), Change("b", op("x"), refuse), Change("c", op("x"), lambda _: None)]
        )
        assert isinstance(results[0], SaveResult)
        assert isinstance(results[1], Refused)
        assert isinstance(results[2], SaveResult)
        assert not results[2].changed
        assert await toys.collection.count_documents({}) == 1

    async def test_failed_bulk_write_is_done_one_by_one(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        await begin(toys, one, "a", "b")
        one.store.before["bulk_write"] = fail_once(BulkWriteError({"writeErrors": [{"index": 1, "code": 64}]}))
        results = await one.counters.update_many([Change(id, op("bulk"), add(id, 10)) for id in ("a", "b")])
        assert [result.require_state().value for result in results if isinstance(result, SaveResult)] == [11, 11]


class TestOperationIdempotency:
    async def test_repeated_key_gives_the_stored_answer_without_effect(self, toys: ChassisHarness) -> None:
        one, other = await toys.replica(), await toys.replica()
        first = await one.counters.update("c", op("key", "body"), add("c", 1), answer=lambda s: {"value": s.value})
        await one.counters.update("c", op("between"), add("c", 10))
        again = await other.counters.update("c", op("key", "body"), add("c", 1), answer=lambda s: {"value": s.value})
        assert (first.answer, first.repeated) == ({"value": 1}, False)
        assert (again.answer, again.repeated) == ({"value": 1}, True)
        assert (await toys.stored("c")).added == (1, 10)

    async def test_repeated_key_with_another_body_is_rejected(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        await one.counters.update("c", op("key", "body"), add("c", 1))
        with pytest.raises(KeyReused):
            await one.counters.update("c", op("key", "another"), add("c", 2))
        [result] = await one.counters.update_many([Change("c", op("key", "another"), add("c", 2))])
        assert isinstance(result, KeyReused)
        assert (await toys.stored("c")).added == (1,)

    async def test_last_thirty_two_operations_are_remembered(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        for n in range(40):
            await one.counters.update("c", op(f"{n}"), set_fields("c", value=n))
        recent = [entry["op"] for entry in (await one.document("c"))["recent"]]
        assert recent == [f"{n}" for n in range(8, 40)]


class TestAggregateLimits:
    async def test_commands_are_rejected_while_a_hundred_events_wait(
        self,
        toys: ChassisHarness,
    ) -> None:
        silent, speaking = await toys.replica(running=False), await toys.replica()

        for n in range(99):  # 99 on the time topic and one on the compacted one
            await silent.counters.update("c", op(f"{n}"), add("c", 1))
        with pytest.raises(TooBusy):
            await silent.counters.update("c", op("too many"), add("c", 1))
        assert (await silent.counters.update("c", op("98"), add("c", 1))).repeated  # what was done stays known
        toys.clock.moved += speaking.relay.lease
        await speaking.relay.sweep(speaking.counters)
        await eventually(outbox_is_empty(toys, "c"), "the relay catches up")
        assert not (await silent.counters.update("c", op("later"), add("c", 1))).repeated

    async def test_too_large_event_is_rejected_before_the_save(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        with pytest.raises(EventTooLarge):
            await one.counters.update("c", op("1"), add("c", 1, note="x" * COUNTS.max_bytes))
        assert await one.counters.get("c") is None
        await one.counters.update("c", op("2"), add("c", 1, note="x" * (COUNTS.max_bytes - 4200)))
        await eventually(outbox_is_empty(toys, "c"), "the broker takes what is just small enough")
        assert len(await toys.said(COUNTS, "c")) == 1

    async def test_state_with_a_protocol_field_is_rejected(self, toys: ChassisHarness) -> None:
        class Versioned(State):
            version: int

        one = await toys.replica()
        with pytest.raises(TypeError, match="version"):
            Aggregates(toys.collection, Versioned, SERVICE, one.relay, toys.clock)


class TestEventSequences:
    async def test_each_event_has_its_own_sequence_in_order(
        self,
        toys: ChassisHarness,
    ) -> None:
        one = await toys.replica()
        for n in range(1, 6):
            await one.counters.update("c", op(f"{n}"), add("c", n))
        await one.relay.wait_until_idle()
        on_one = [envelope_of(record).sequence for record in await toys.said(COUNTERS, "c")]
        on_other = [envelope_of(record).sequence for record in await toys.said(COUNTS, "c")]
        assert on_other == [2, 4, 6, 8, 10]
        assert on_one == sorted(on_one)
        assert on_one[-1] == 9
        assert not set(on_one) & set(on_other)

    async def test_new_epoch_numbers_events_above_the_old_ones(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        await one.counters.update("c", op("1"), add("c", 1))
        one.counters.begin_epoch(2**40)
        await one.counters.update("c", op("2"), add("c", 1))
        await one.relay.wait_until_idle()
        assert [envelope_of(record).sequence for record in await toys.said(COUNTS, "c")] == [2, 2**40 + 2]

    async def test_decision_for_nothing_saves_nothing(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        saved = await one.counters.update("c", op("1"), lambda _: None)
        assert (saved.state, saved.version, saved.changed) == (None, 0, False)
        with pytest.raises(LookupError):
            saved.require_state()


class TestErasedAggregate:
    async def test_erasure_leaves_a_tombstone_and_no_old_answers(
        self,
        toys: ChassisHarness,
    ) -> None:
        one = await toys.replica(running=False)
        await one.counters.update("c", op("1", "body"), add("c", 1), answer=lambda _: "Maria's answer")
        await one.counters.update("c", op("2", "body"), add("c", 1), answer=lambda _: "Maria's answer")
        await one.counters.update("c", op("erase"), erase("c"), answer=lambda _: "erased")
        document = await one.document("c")
        assert [entry["data"] for entry in document["outbox"] if entry["topic"] == COUNTERS.name] == [None]
        assert [entry["answer"] for entry in document["recent"] if entry["answer"]] == ["erased"]
        assert "body" not in str(document["recent"])

    async def test_earlier_operation_is_recognised_after_erasure(
        self,
        toys: ChassisHarness,
    ) -> None:
        one, other = await toys.replica(), await toys.replica()
        await one.counters.update("c", op("first"), add("c", 1))
        one.store.after["replace_one"] = fail_once(
            ConnectionFailure("lost"), first=lambda: other.counters.update("c", op("erase"), erase("c"))
        )
        saved = await one.counters.update("c", op("mine", "body"), add("c", 10), answer=lambda s: s.value)
        assert saved.repeated
        assert saved.answer is None
        assert saved.require_state().gone
