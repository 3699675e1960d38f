"""Lookups by id: concurrent lookups share one query, and no caller gets a document older than its call."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import motor.frameworks.asyncio
import pytest
from pymongo.errors import CursorNotFound, OperationFailure, PyMongoError, WriteConcernError

from chassis.storage.mongo import (
    TRANSIENT_CODES,
    BatchedLookup,
    BulkWriteError,
    Collection,
    ConnectionFailure,
    DuplicateKeyError,
    is_transient,
)
from tests.chassis.harness import ChassisHarness


class RecordingCollection:
    """A collection that records its queries, and fails on request."""

    def __init__(self, inner: Collection) -> None:
        self._inner = inner
        self.queries: list[tuple[str, Any]] = []
        self.is_broken = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(filter: Any, *fields: Any) -> Any:
            if self.is_broken:
                raise ConnectionFailure("closed")
            self.queries.append((name, filter))
            return getattr(self._inner, name)(filter, *fields)

        return call


@pytest.fixture
def recording(harness: ChassisHarness) -> RecordingCollection:
    return RecordingCollection(harness.mongo.collection("things"))


@pytest.fixture
async def by_id(harness: ChassisHarness, recording: RecordingCollection) -> BatchedLookup:
    await harness.mongo.collection("things").insert_many([{"_id": id, "value": 1} for id in "abc"])
    return BatchedLookup(cast("Collection", recording))


class TestBatchedLookup:
    async def test_concurrent_lookups_share_one_query(
        self, by_id: BatchedLookup, recording: RecordingCollection
    ) -> None:
        documents = await asyncio.gather(*(by_id.get(id) for id in ("c", "a", "nobody", "a")))
        assert [document and document["_id"] for document in documents] == ["c", "a", None, "a"]
        assert recording.queries == [("find", {"_id": {"$in": ["c", "a", "nobody"]}})]

    async def test_single_document_is_read_by_equality(
        self, by_id: BatchedLookup, recording: RecordingCollection
    ) -> None:
        first, other = await asyncio.gather(by_id.get("b"), by_id.get("b"))
        assert first == other == {"_id": "b", "value": 1}
        assert recording.queries == [("find_one", {"_id": "b"})]

    async def test_lookup_returns_the_latest_stored_document(
        self, by_id: BatchedLookup, harness: ChassisHarness
    ) -> None:
        collection = harness.mongo.collection("things")
        for value in (2, 3):
            await collection.replace_one({"_id": "a"}, {"_id": "a", "value": value})
            assert await by_id.get("a") == {"_id": "a", "value": value}

    async def test_failure_reaches_every_caller_but_not_the_next(
        self, by_id: BatchedLookup, recording: RecordingCollection
    ) -> None:
        recording.is_broken = True
        errors = await asyncio.gather(by_id.get("a"), by_id.get("b"), return_exceptions=True)
        assert [type(error) for error in errors] == [ConnectionFailure] * 2
        recording.is_broken = False
        assert await by_id.get("a") is not None

    async def test_cancelled_caller_does_not_affect_the_others(self, by_id: BatchedLookup) -> None:
        cancelled, other = asyncio.ensure_future(by_id.get("a")), asyncio.ensure_future(by_id.get("b"))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert await other == {"_id": "b", "value": 1}
        assert cancelled.cancelled()


OVERLOADED = OperationFailure("slow down", 2, {"errorLabels": ["SystemOverloadedError"]})


class TestIsTransient:
    @pytest.mark.parametrize(
        "error",
        [
            ConnectionFailure("away"),
            CursorNotFound("the server was restarted", 43),
            WriteConcernError("no majority", 64),
            BulkWriteError({"writeErrors": [{"code": 91}], "writeConcernErrors": []}),
            BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}),
            OVERLOADED,
            *(OperationFailure("for a while", code) for code in sorted(TRANSIENT_CODES)),
        ],
        ids=lambda error: f"{type(error).__name__} {getattr(error, 'code', '')}",
    )
    def test_errors_that_pass_by_themselves_are_transient(self, error: PyMongoError) -> None:
        assert is_transient(error)

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("not of the store"),
            OperationFailure("the query is wrong", 2),
            OperationFailure("not allowed", 13),
            DuplicateKeyError("exists", 11000),
            BulkWriteError({"writeErrors": [{"code": 91}, {"code": 121}], "writeConcernErrors": []}),
            BulkWriteError({"writeErrors": [], "writeConcernErrors": []}),
        ],
        ids=lambda error: f"{type(error).__name__} {getattr(error, 'code', '')}",
    )
    def test_other_errors_are_permanent(self, error: Exception) -> None:
        assert not is_transient(error)


def test_the_driver_has_a_thread_for_each_connection() -> None:
    """Its default, five for each processor, lets ten slow calls stop a process on a small machine."""
    assert motor.frameworks.asyncio._EXECUTOR._max_workers == 100
