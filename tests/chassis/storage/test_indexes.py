"""Each store gets the indexes that it uses, and every query of the services is served by one of them."""

from collections.abc import Sequence
from typing import cast

from chassis.storage.indexes import provision_indexes
from chassis.storage.mongo import Index, Mongo
from chassis.storage.store_profile import EMBEDDED, MONGODB, StoreProfile
from tests.chassis.harness import ChassisHarness


class IndexRecorder:
    """Records the indexes that are asked for, as ``Mongo`` would create them."""

    def __init__(self, profile: StoreProfile) -> None:
        self.profile = profile
        self.indexes: list[tuple[str, tuple[str, ...]]] = []

    async def ensure_index(self, collection: str, fields: Sequence[str], *, unique: bool = False) -> None:
        assert unique == (fields[0] == "_id")
        self.indexes.append((collection, tuple(fields)))


class TestIndexes:
    async def test_each_store_gets_only_the_indexes_that_it_uses(self) -> None:
        searched = [("counters", fields) for fields in (("outbox_since",), ("due", "_id"), ("lease", "_id"))]
        queried = [("counters", ("owner", "_id")), ("things", ("colour",))]
        scanned = [("counters", (field,)) for field in ("outbox_since", "due", "lease")]
        compared = [("counters", ("_id", "version")), ("copies", ("_id", "sequence"))]
        for profile, expected in ((MONGODB, [*searched, *queried]), (EMBEDDED, [*scanned, *compared])):
            mongo = IndexRecorder(profile)
            indexes: dict[str, list[Index]] = {"counters": [("owner", "_id")], "things": [("colour",)]}
            await provision_indexes(cast("Mongo", mongo), ["counters"], ["copies"], indexes)
            assert sorted(mongo.indexes) == sorted(expected)

    async def test_indexes_can_be_created_twice(self, harness: ChassisHarness) -> None:
        for _ in range(2):
            await provision_indexes(harness.mongo, ["counters"], ["copies"])
        indexes = await harness.collection.index_information()
        assert any(index["key"] == [("_id", 1), ("version", 1)] and index.get("unique") for index in indexes.values())
