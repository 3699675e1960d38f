"""A projection holds the newest state of each aggregate, for any order and number of writers."""

import asyncio
import random
from typing import cast

import pytest

from chassis.storage.mongo import Collection, ConnectionFailure
from chassis.storage.projections import Projection, ProjectionRow
from chassis.storage.store_profile import EMBEDDED
from contracts.envelope import EventData
from tests.chassis.harness import COUNTERS, ChassisHarness, CounterChanged, FaultInjector, fail_once


def row(id: str, sequence: int, *, is_tombstone: bool = False) -> ProjectionRow:
    return ProjectionRow(id, sequence, None if is_tombstone else CounterChanged(counter_id=id, value=sequence))


@pytest.fixture
def copies(harness: ChassisHarness) -> Projection[CounterChanged]:
    return Projection(harness.mongo.collection("copies"), CounterChanged, EMBEDDED)


async def read_value(copies: Projection[CounterChanged], id: str) -> int | None:
    copy = await copies.get(id)
    return copy.value if copy else None


class TestSequenceGuard:
    async def test_row_is_written_only_by_a_higher_sequence(self, copies: Projection[CounterChanged]) -> None:
        assert await copies.apply([row("a", 5)]) == 1
        assert await copies.apply([row("a", 4)]) == 0
        assert await copies.apply([row("a", 5)]) == 0
        assert await read_value(copies, "a") == 5
        assert await copies.apply([row("a", 6), row("b", 1)]) == 2
        assert (await read_value(copies, "a"), await read_value(copies, "b")) == (6, 1)

    async def test_unordered_batch_leaves_the_newest_row(self, copies: Projection[CounterChanged]) -> None:
        await copies.apply([row("a", 2), row("a", 9), row("a", 3), row("b", 8, is_tombstone=True), row("b", 7)])
        assert await read_value(copies, "a") == 9
        assert await copies.is_grave("b")

    async def test_rows_with_first_sequences_are_guarded_too(
        self,
        copies: Projection[CounterChanged],
    ) -> None:
        await copies.apply([row("a", 1), row("b", 3)])
        assert await copies.apply([row("a", 2), row("b", 2), row("c", 1)]) == 2
        assert [await read_value(copies, id) for id in "abc"] == [2, 3, 1]

    async def test_model_with_a_guard_field_is_rejected(self, harness: ChassisHarness) -> None:
        class Sequenced(EventData):
            TYPE, TOPIC, KEY = "toys.sequenced.v1", COUNTERS, "counter_id"
            sequence: int

        with pytest.raises(TypeError, match="sequence"):
            Projection(harness.mongo.collection("copies"), Sequenced)


class TestGraves:
    async def test_only_a_newer_row_replaces_a_grave(
        self,
        copies: Projection[CounterChanged],
    ) -> None:
        await copies.apply([row("a", 5)])
        await copies.apply([row("a", 6, is_tombstone=True)])
        await copies.apply([row("a", 5)])
        await copies.apply([row("never seen", 6, is_tombstone=True)])
        await copies.apply([row("never seen", 5)])
        assert await copies.get_many(["a", "never seen"]) == {}
        assert [copy async for copy in copies.find({})] == []
        assert await copies.count({}) == 0
        document = await copies.collection.find_one({"_id": "a"})
        assert document == {"_id": "a", "sequence": 6, "grave": True}  # none of the erased data is left
        await copies.apply([row("a", 7)])
        assert await read_value(copies, "a") == 7

    async def test_buried_row_is_replaced_only_by_a_newer_one(
        self,
        copies: Projection[CounterChanged],
    ) -> None:
        await copies.apply([row("a", 5), row("b", 6)])
        await copies.bury({"value": 5})
        assert await copies.collection.find_one({"_id": "a"}) == {"_id": "a", "sequence": 5, "grave": True}
        assert await read_value(copies, "b") == 6
        await copies.apply([row("a", 5)])
        assert await copies.is_grave("a")
        await copies.apply([row("a", 6)])
        assert await read_value(copies, "a") == 6


class TestConcurrentWrites:
    async def test_replicas_that_apply_the_same_rows_agree(self, copies: Projection[CounterChanged]) -> None:
        choice = random.Random(7)
        rows = [row(f"c{n}", sequence, is_tombstone=sequence == 12) for n in range(30) for sequence in (3, 1, 7, 12, 9)]
        batches = [choice.sample(rows, k=len(rows)) for _ in range(4)]

        async def replica(mine: list[ProjectionRow]) -> None:
            for start in range(0, len(mine), 25):
                await copies.apply(mine[start : start + 25])

        await asyncio.gather(*(replica(batch) for batch in batches))
        copy = {d["_id"]: (d["sequence"], d["grave"]) async for d in copies.collection.find({})}
        assert copy == {f"c{n}": (12, True) for n in range(30)}

    @pytest.mark.parametrize("method", ["insert_many", "bulk_write"])
    async def test_rival_between_read_and_write_is_noticed(
        self, copies: Projection[CounterChanged], method: str
    ) -> None:
        if method == "bulk_write":
            await copies.apply([row("a", 1), row("b", 1)])
        raced: list[bool] = []

        async def race() -> None:
            if not raced:
                raced.append(True)
                await copies.apply([row("a", 50), row("b", 2)])

        wrapped = FaultInjector(copies.collection)
        wrapped.before[method] = race
        mine: Projection[CounterChanged] = Projection(cast("Collection", wrapped), CounterChanged, EMBEDDED)
        await mine.apply([row("a", 10), row("b", 10)])
        assert (await read_value(copies, "a"), await read_value(copies, "b")) == (50, 10)

    @pytest.mark.parametrize("method", ["insert_many", "bulk_write"])
    async def test_unacknowledged_write_can_be_repeated(self, copies: Projection[CounterChanged], method: str) -> None:
        await copies.apply([row("old", 10)])
        wrapped = FaultInjector(copies.collection)
        wrapped.after[method] = fail_once(ConnectionFailure("lost"))
        mine: Projection[CounterChanged] = Projection(cast("Collection", wrapped), CounterChanged, EMBEDDED)
        rows = [row("old", 20), row("new", 2)]
        with pytest.raises(ConnectionFailure):
            await mine.apply(rows)
        await mine.apply(rows)
        assert (await read_value(copies, "old"), await read_value(copies, "new")) == (20, 2)


class TestWriteBatches:
    async def test_more_rows_than_one_batch_are_all_written(self, copies: Projection[CounterChanged]) -> None:
        assert await copies.apply([row(f"c{n:04}", 1) for n in range(2500)]) == 2500
        assert await copies.count({}) == 2500
        some = [copy.counter_id async for copy in copies.find({}, limit=3, after="c0009")]
        assert some == ["c0010", "c0011", "c0012"]

    async def test_all_parts_have_ended_before_an_error_is_raised(
        self,
        copies: Projection[CounterChanged],
    ) -> None:
        """A part that is still writing would compete with the retry of the batch."""
        wrapped = FaultInjector(copies.collection)
        wrapped.before["insert_many"] = fail_once(ConnectionFailure("lost"))
        mine: Projection[CounterChanged] = Projection(cast("Collection", wrapped), CounterChanged, EMBEDDED)
        rows = [row(f"c{n:04}", 1) for n in range(EMBEDDED.projection_batch * 3)]
        with pytest.raises(ConnectionFailure):
            await mine.apply(rows)
        assert await copies.count({}) == EMBEDDED.projection_batch * 2
        assert await mine.apply(rows) == EMBEDDED.projection_batch
        assert await copies.count({}) == EMBEDDED.projection_batch * 3
