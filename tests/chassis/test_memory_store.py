"""The store in memory does what the real one does, operation by operation."""

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


async def everything(store: Collection) -> list[Document]:
    return [document async for document in store.find({}).sort("_id", 1)]


async def fresh(store: Collection) -> Collection:
    await store.delete_many({})
    await store.insert_many([dict(document) for document in DOCUMENTS], ordered=False)
    return store


async def outcome(change: Callable[[Collection], Awaitable[Any]], store: Collection) -> tuple[Any, list[Document]]:
    """What the operation told, and what it left."""
    told: Any
    try:
        result = await change(store)
    except DuplicateKeyError:
        told = "exists"
    except BulkWriteError as error:
        told = [(one["index"], one["code"]) for one in error.details["writeErrors"]]
    else:
        told = getattr(result, "matched_count", None)
        told = getattr(result, "deleted_count", None) if told is None else told
    return told, await everything(store)


class TestMemoryStore:
    async def test_behaves_like_the_real_store(self, servers: stack.Endpoints, prefix: str) -> None:
        mongo = Mongo(servers.mongo, prefix.removesuffix("."))
        real, memory = mongo.collection("documents"), cast("Collection", MemoryCollection("documents"))
        await fresh(real)
        await fresh(memory)
        assert await everything(memory) == await everything(real)
        for filter in FILTERS:
            found = {document["_id"] async for document in real.find(filter)}
            assert {document["_id"] async for document in memory.find(filter)} == found, filter
            assert await memory.count_documents(filter) == len(found), filter
            one = await memory.find_one(filter)
            assert (one is None) == (not found), filter
        orders: list[list[tuple[str, int]]] = [[("due", 1), ("_id", 1)], [("name", 1), ("_id", 1)], [("version", 1)]]
        for order in orders:
            for limit in (0, 3):
                expected = [document["_id"] async for document in real.find({}).sort(order).limit(limit)]
                assert [document["_id"] async for document in memory.find({}).sort(order).limit(limit)] == expected
        shown = {"version": 1, "held.s1": 1}
        assert [one async for one in memory.find({"_id": "a"}, shown)] == [
            one async for one in real.find({"_id": "a"}, shown)
        ]
        for after in (None, "b"):
            expected = [
                document["_id"] async for document in find_page(real, {"open": True}, sort="_id", limit=2, after=after)
            ]
            paged = find_page(memory, {"open": True}, sort="_id", limit=2, after=after)
            assert [document["_id"] async for document in paged] == expected
        for number, change in enumerate(CHANGES):
            assert await outcome(change, await fresh(memory)) == await outcome(change, await fresh(real)), number
        mongo.close()

    @pytest.mark.parametrize(
        "filter",
        [{"name": {"$regex": "x"}}, {"tags.0": "red"}, {"held": {"s1": "m1"}}, {"people.id": None}, {"$nor": []}],
    )
    async def test_unsupported_operations_raise(self, filter: dict[str, Any]) -> None:
        memory = await fresh(cast("Collection", MemoryCollection("memory")))
        with pytest.raises(NotSupportedInMemory):
            [document async for document in memory.find(filter)]
        with pytest.raises(NotSupportedInMemory):
            await memory.update_one({"_id": "a"}, {"$inc": {"version": 1}})
        with pytest.raises(NotSupportedInMemory):
            memory.find({}).sort("name", -1)

    async def test_returned_documents_are_copies(self) -> None:
        memory = await fresh(cast("Collection", MemoryCollection("memory")))
        found = await memory.find_one({"_id": "a"})
        assert found is not None
        found["tags"].append("green")
        again = await memory.find_one({"_id": "a"})
        assert again is not None
        assert again["tags"] == ["red", "blue"]
