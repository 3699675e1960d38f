"""Single documents by id: many that are asked for together come by one query, and nobody gets anything older."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from chassis.storage.mongo import BatchedLookup, Collection, ConnectionFailure
from tests.chassis.harness import ChassisHarness


class Watched:
    """A collection that notes which queries it gets, and fails when told to."""

    def __init__(self, inner: Collection) -> None:
        self._inner = inner
        self.asked: list[tuple[str, Any]] = []
        self.broken = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(filter: Any, *fields: Any) -> Any:
            if self.broken:
                raise ConnectionFailure("gone")
            self.asked.append((name, filter))
            return getattr(self._inner, name)(filter, *fields)

        return call


@pytest.fixture
def watched(toys: ChassisHarness) -> Watched:
    return Watched(toys.mongo.collection("things"))


@pytest.fixture
async def by_id(toys: ChassisHarness, watched: Watched) -> BatchedLookup:
    await toys.mongo.collection("things").insert_many([{"_id": id, "value": 1} for id in "abc"])
    return BatchedLookup(cast("Collection", watched))


class TestBatchedLookup:
    async def test_concurrent_lookups_share_one_query(self, by_id: BatchedLookup, watched: Watched) -> None:
        found = await asyncio.gather(*(by_id.get(id) for id in ("c", "a", "nobody", "a")))
        assert [document and document["_id"] for document in found] == ["c", "a", None, "a"]
        assert watched.asked == [("find", {"_id": {"$in": ["c", "a", "nobody"]}})]

    async def test_single_document_is_read_by_equality(self, by_id: BatchedLookup, watched: Watched) -> None:
        one, other = await asyncio.gather(by_id.get("b"), by_id.get("b"))
        assert one == other == {"_id": "b", "value": 1}
        assert watched.asked == [("find_one", {"_id": "b"})]

    async def test_lookup_returns_the_latest_stored_document(self, by_id: BatchedLookup, toys: ChassisHarness) -> None:
        collection = toys.mongo.collection("things")
        for value in (2, 3):
            await collection.replace_one({"_id": "a"}, {"_id": "a", "value": value})
            assert await by_id.get("a") == {"_id": "a", "value": value}

    async def test_failure_reaches_every_caller_but_not_the_next(self, by_id: BatchedLookup, watched: Watched) -> None:
        watched.broken = True
        failed = await asyncio.gather(by_id.get("a"), by_id.get("b"), return_exceptions=True)
        assert [type(one) for one in failed] == [ConnectionFailure] * 2
        watched.broken = False
        assert await by_id.get("a") is not None

    async def test_cancelled_caller_does_not_affect_the_others(self, by_id: BatchedLookup) -> None:
        given_up, other = asyncio.ensure_future(by_id.get("a")), asyncio.ensure_future(by_id.get("b"))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await other == {"_id": "b", "value": 1}
        assert given_up.cancelled()
