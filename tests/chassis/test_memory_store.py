"""The in-memory store behaves like the real store, operation by operation."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pymongo import ReplaceOne, UpdateOne

from chassis.storage.mongo import BulkWriteError, Collection, Document, DuplicateKeyError, Mongo, find_page
from deploy.local import stack
from tests.chassis.memory_store import MemoryCollection, NotSupportedInMemory

NOON = datetime(2026, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)

DOCUMENTS: list[Document] = [
    {"_id": "a", "version": 1, "due": NOON, "name": "x", "open": True, "tags": ["red", "blue"], "held": {"s1": "m1"}},
    {"_id": "b", "version": 2, "due": NOON + timedelta(hours=1), "name": "y", "open": False, "tags": [], "held": {}},
    {"_id": "c", "version": 3, "due": None, "name": None, "open": True, "tags": ["blue"], "people": [{"id": "m1"}]},
    {"_id": "d", "version": 2**41, "name": "z", "people": [{"id": "m2", "at": "2026"}, {"id": "m1", "at": "2025"}]},
    {"_id": "e", "version": 0, "name": "", "one": {"side": {"id": "m2"}}, "people": []},
]

FILTERS: list[dict[str, Any]] = [
    {},
    {"_id": "a"},
    {"_id": "a", "version": 2},
    {"_id": {"$in": ["b", "a", "nobody"]}},
    {"_id": {"$in": []}},
    {"_id": {"$gt": "b"}},
    {"version": 2**41},
    {"version": {"$gte": 2}, "name": {"$ne": "y"}},
    {"name": None},
    {"name": {"$ne": None}},
    {"name": {"$gt": ""}},
    {"name": {"$nin": ["x", "y"]}},
    {"name": {"$in": [None, "z"]}},
    {"open": True},
    {"open": 1},
    {"due": None},
    {"due": {"$lte": NOON}},
    {"due": {"$gt": NOON - timedelta(seconds=1), "$lte": NOON}},
    {"due": {"$lt": NOON + timedelta(hours=2)}},
    {"tags": "blue"},
    {"tags": {"$ne": "blue"}},
    {"tags": {"$in": ["red", "green"]}},
    {"tags": {"$nin": ["red"]}},
    {"held.s1": "m1"},
    {"held.s1": {"$gt": ""}},
    {"people.id": "m1"},
    {"people.id": {"$in": ["m2"]}},
    {"people.id": {"$ne": "m1"}},
    {"people": {"$elemMatch": {"id": "m1", "at": {"$gte": "2026"}}}},
    {"people": {"$elemMatch": {"id": "m2", "at": {"$gte": "2026"}}}},
    {"one.side.id": "m2"},
    {"one.side.id": None},
    {"$or": [{"name": "x"}, {"one.side.id": {"$in": ["m2"]}}]},
    {"$and": [{"open": True}, {"$or": [{"version": 1}, {"version": 2}]}]},
]

CHANGES: list[Callable[[Collection], Awaitable[Any]]] = [
    lambda store: store.insert_one({"_id": "f", "version": 1, "due": NOON}),
    lambda store: store.insert_one({"_id": "a", "version": 9}),
    lambda store: store.insert_many([{"_id": "a"}, {"_id": "g"}, {"_id": "b"}], ordered=False),
    lambda store: store.replace_one({"_id": "a", "version": 1}, {"_id": "a", "version": 2, "tags": ["red"]}),
    lambda store: store.replace_one({"_id": "a", "version": 7}, {"_id": "a", "version": 8}),
    lambda store: store.replace_one({"_id": "new"}, {"_id": "new", "n": 1}, upsert=True),
    lambda store: store.replace_one({"_id": "c"}, {"_id": "c", "n": 1}, upsert=True),
    lambda store: store.update_one({"_id": "b", "version": 2}, {"$set": {"open": True, "due": None}}),
    lambda store: store.update_one({"_id": "d"}, {"$pull": {"people": {"id": {"$in": ["m2", "m9"]}}}}),
    lambda store: store.update_many({"_id": {"$in": ["a", "b", "x"]}}, {"$set": {"taken": True}}),
    lambda store: store.update_many({"one.side.id": "m2"}, {"$unset": {"one.side": ""}}),
    lambda store: store.update_many({}, {"$unset": {"held.s1": ""}}),
    lambda store: store.bulk_write(
        [
            ReplaceOne({"_id": "a", "version": 1}, {"_id": "a", "version": 2}),
            ReplaceOne({"_id": "b", "version": 1}, {"_id": "b", "version": 2}),
            ReplaceOne({"_id": "n"}, {"_id": "n"}, upsert=True),
            UpdateOne({"_id": "d"}, {"$set": {"outbox_since": None}}),
        ],
        ordered=False,
    ),
    lambda store: store.delete_many({"$or": [{"name": "x"}, {"people.id": "m1"}]}),
    lambda store: store.delete_many({"_id": "nobody"}),
]


async def read_all(store: Collection) -> list[Document]:
    return [document async for document in store.find({}).sort("_id", 1)]


async def reset(store: Collection) -> Collection:
    await store.delete_many({})
    await store.insert_many([dict(document) for document in DOCUMENTS], ordered=False)
    return store


async def apply(change: Callable[[Collection], Awaitable[Any]], store: Collection) -> tuple[Any, list[Document]]:
    """The result of an operation, and the documents after it."""
    result_summary: Any
    try:
        result = await change(store)
    except DuplicateKeyError:
        result_summary = "exists"
    except BulkWriteError as error:
        result_summary = [(document["index"], document["code"]) for document in error.details["writeErrors"]]
    else:
        result_summary = getattr(result, "matched_count", None)
        result_summary = getattr(result, "deleted_count", None) if result_summary is None else result_summary
    return result_summary, await read_all(store)


class TestMemoryStore:
    async def test_behaves_like_the_real_store(self, servers: stack.Endpoints, prefix: str) -> None:
        mongo = Mongo(servers.mongo, prefix.removesuffix("."))
        real, memory = mongo.collection("documents"), cast("Collection", MemoryCollection("documents"))
        await reset(real)
        await reset(memory)
        assert await read_all(memory) == await read_all(real)
        for filter in FILTERS:
            expected_ids = {document["_id"] async for document in real.find(filter)}
            assert {document["_id"] async for document in memory.find(filter)} == expected_ids, filter
            assert await memory.count_documents(filter) == len(expected_ids), filter
            document = await memory.find_one(filter)
            assert (document is None) == (not expected_ids), filter
        orders: list[list[tuple[str, int]]] = [[("due", 1), ("_id", 1)], [("name", 1), ("_id", 1)], [("version", 1)]]
        for order in orders:
            for limit in (0, 3):
                expected = [document["_id"] async for document in real.find({}).sort(order).limit(limit)]
                assert [document["_id"] async for document in memory.find({}).sort(order).limit(limit)] == expected
        fields = {"version": 1, "held.s1": 1}
        assert [document async for document in memory.find({"_id": "a"}, fields)] == [
            document async for document in real.find({"_id": "a"}, fields)
        ]
        for after in (None, "b"):
            expected = [
                document["_id"] async for document in find_page(real, {"open": True}, sort="_id", limit=2, after=after)
            ]
            paged = find_page(memory, {"open": True}, sort="_id", limit=2, after=after)
            assert [document["_id"] async for document in paged] == expected
        for number, change in enumerate(CHANGES):
            assert await apply(change, await reset(memory)) == await apply(change, await reset(real)), number
        mongo.close()

    @pytest.mark.parametrize(
        "filter",
        [{"name": {"$regex": "x"}}, {"tags.0": "red"}, {"held": {"s1": "m1"}}, {"people.id": None}, {"$nor": []}],
    )
    async def test_unsupported_operations_raise(self, filter: dict[str, Any]) -> None:
        memory = await reset(cast("Collection", MemoryCollection("memory")))
        with pytest.raises(NotSupportedInMemory):
            [document async for document in memory.find(filter)]
        with pytest.raises(NotSupportedInMemory):
            await memory.update_one({"_id": "a"}, {"$inc": {"version": 1}})
        with pytest.raises(NotSupportedInMemory):
            memory.find({}).sort("name", -1)

    async def test_returned_documents_are_copies(self) -> None:
        memory = await reset(cast("Collection", MemoryCollection("memory")))
        expected_ids = await memory.find_one({"_id": "a"})
        assert expected_ids is not None
        expected_ids["tags"].append("green")
        again = await memory.find_one({"_id": "a"})
        assert again is not None
        assert again["tags"] == ["red", "blue"]
