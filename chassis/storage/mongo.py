"""MongoDB: the one file that imports the driver.

Only the portable subset is used: single-document writes, compare-and-swap by equality on a version, unique indexes.
No multi-document transactions, change streams, TTL or partial index on which correctness depends. Writes wait for a
majority and the journal, and only then is anything published.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from aiodataloader import DataLoader
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import ReadPreference, ReplaceOne
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from chassis.storage.store_profile import MONGODB, StoreProfile

Document: TypeAlias = dict[str, Any]
Filter: TypeAlias = Mapping[str, Any]
Collection: TypeAlias = AsyncIOMotorCollection[Document]
Index: TypeAlias = tuple[str, ...]
"""The fields of an index, in their order. A service names the indexes of its collections beside its queries."""

T = TypeVar("T")

LOOKUP_BATCH = 1000  # ids in one query
DUPLICATE_KEY = 11000

# Errors that pass by themselves: a server stops or steps down, a majority or a cursor is lost, a limit is reached. The
# names are in MongoDB's error_codes.yml; 16500 is the rate limit of Cosmos DB. The driver keeps a shorter list.
TRANSIENT_CODES = frozenset(
    {6, 7, 24, 43, 89, 91, 112, 133, 134, 150, 189, 237, 262, 391, 462, 9001, 10058, 10107}
    | {11600, 11601, 11602, 13388, 13435, 13436, 14031, 16500}
)
TRANSIENT_LABELS = ("RetryableWriteError", "RetryableError", "SystemOverloadedError", "TransientTransactionError")

__all__ = [
    "LOOKUP_BATCH",
    "BatchedLookup",
    "BulkWriteError",
    "Collection",
    "ConnectionFailure",
    "Document",
    "Documents",
    "DuplicateKeyError",
    "Filter",
    "Index",
    "Mongo",
    "PyMongoError",
    "chunks",
    "find_by_id",
    "find_page",
    "insert_missing",
    "is_transient",
]


class Mongo:
    """The database of one service."""

    def __init__(self, url: str, database: str, profile: StoreProfile = MONGODB) -> None:
        self.profile = profile
        # The protocol recognises its own success (see aggregates), so the driver must not retry writes by itself:
        # its retries need transaction numbers, which a standalone server refuses.
        self._client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            url,
            tz_aware=True,
            retryWrites=False,
            serverSelectionTimeoutMS=5_000,
            # The driver's own heartbeat waits so long too, before it gives up every open connection: a store that is
            # busy with bulk writes answers the heartbeat late.
            connectTimeoutMS=20_000,
            socketTimeoutMS=30_000,  # a server that hangs counts as a lost connection, which is repeated
            appname="viceversa",
        )
        self._database: AsyncIOMotorDatabase[Document] = self._client.get_database(
            database,
            write_concern=WriteConcern(w="majority", j=True),
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )

    def collection(self, name: str) -> Collection:
        return self._database[name]

    async def ping(self) -> None:
        """Raises ``PyMongoError`` when no server answers within its time limit."""
        await self._client.admin.command("ping")

    async def ensure_index(self, collection: str, fields: Sequence[str], *, unique: bool = False) -> None:
        await self._database[collection].create_index([(field, 1) for field in fields], unique=unique)

    async def drop(self) -> None:
        """Drop the database, or all of its collections where the store would drop more than that."""
        if self.profile.drops_databases:
            await self._client.drop_database(self._database)
            return
        for name in await self._database.list_collection_names():
            await self._database.drop_collection(name)

    def close(self) -> None:
        self._client.close()


class BatchedLookup:
    """Reads single documents by id. All lookups within one turn of the event loop are one query.

    Nothing is cached: every lookup reads after it was made. Several lookups may share one document.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._loader: DataLoader[str, Document | None] | None = None

    async def get(self, id: str) -> Document | None:
        if self._loader is None:  # a loader belongs to the running event loop
            self._loader = DataLoader(self._read, cache=False, max_batch_size=LOOKUP_BATCH)
        return await self._loader.load(id)

    async def _read(self, ids: list[str]) -> list[Document | None]:
        distinct = list(dict.fromkeys(ids))
        if len(distinct) == 1:
            return [await self._collection.find_one({"_id": distinct[0]})] * len(ids)
        documents = await find_by_id(self._collection, distinct)
        return [documents.get(id) for id in ids]


class Documents:
    """Plain documents beside the aggregates, each written whole: parts of an upload, proposals of a round, receipts.

    They have no events and no outbox. Writes are repeatable: the same document with the same ``_id`` is stored once.
    """

    def __init__(self, collection: Collection, profile: StoreProfile = MONGODB) -> None:
        self.collection = collection
        self.profile = profile
        self._by_id = BatchedLookup(collection)

    async def put(self, document: Document) -> None:
        """Insert the document, or replace the one with the same ``_id``."""
        await self.collection.replace_one({"_id": document["_id"]}, document, upsert=True)

    async def put_many(self, documents: Sequence[Document]) -> None:
        """Insert all documents; replace those that exist."""
        for chunk in chunks(documents, self.profile.bulk_operations):
            missed = await insert_missing(self.collection, chunk)
            if missed:
                await self.collection.bulk_write(
                    [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in missed], ordered=False
                )

    async def add_many(self, documents: Sequence[Document]) -> list[Document]:
        """Insert the documents that do not exist; returns the others, whose stored versions are unchanged."""
        existing: list[Document] = []
        for chunk in chunks(documents, self.profile.bulk_operations):
            existing += await insert_missing(self.collection, chunk)
        return existing

    async def get(self, id: str) -> Document | None:
        return await self._by_id.get(id)

    async def get_many(self, ids: Sequence[str]) -> dict[str, Document]:
        return await find_by_id(self.collection, ids)

    def find(
        self, filter: Filter, *, sort: str = "_id", limit: int = 0, after: str | None = None
    ) -> AsyncIterator[Document]:
        return find_page(self.collection, filter, sort=sort, limit=limit, after=after)

    async def count(self, filter: Filter) -> int:
        return await self.collection.count_documents(filter)

    async def unset(self, filter: Filter, field: str) -> None:
        """Remove one field from every document that matches; dots name a nested field."""
        await self.collection.update_many(filter, {"$unset": {field: ""}})

    async def delete(self, filter: Filter) -> int:
        return (await self.collection.delete_many(filter)).deleted_count


def is_transient(error: BaseException) -> bool:
    """Whether a repetition may succeed: the servers were out of reach, slow, overloaded, or without a majority.

    After such an error of a write it is unknown whether the write took place. A repetition must recognise a write that
    did.
    """
    if not isinstance(error, PyMongoError):
        return False
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        write_errors = details.get("writeErrors", [])
        return bool(write_errors or details.get("writeConcernErrors")) and all(
            entry.get("code") in TRANSIENT_CODES for entry in write_errors
        )
    return (
        isinstance(error, ConnectionFailure | WriteConcernError | ExecutionTimeout)
        or (isinstance(error, OperationFailure) and error.code in TRANSIENT_CODES)
        or any(error.has_error_label(label) for label in TRANSIENT_LABELS)
    )


def chunks(items: Sequence[T], size: int = LOOKUP_BATCH) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


async def find_by_id(
    collection: Collection, ids: Sequence[str], fields: Mapping[str, int] | None = None
) -> dict[str, Document]:
    """The documents that exist, by id; ``fields`` limits them to these fields."""
    documents: dict[str, Document] = {}
    for chunk in chunks(ids):
        async for document in collection.find({"_id": {"$in": list(chunk)}}, fields):
            documents[document["_id"]] = document
    return documents


async def find_page(
    collection: Collection, filter: Filter, *, sort: str, limit: int, after: str | None
) -> AsyncIterator[Document]:
    """Documents in ascending order of ``sort`` whose value is greater than ``after``; ``limit`` 0 means all."""
    narrowed: Document = dict(filter)
    if after is not None:
        narrowed = {"$and": [narrowed, {sort: {"$gt": after}}]} if narrowed else {sort: {"$gt": after}}
    async for document in collection.find(narrowed).sort(sort, 1).limit(limit):
        yield document


async def insert_missing(collection: Collection, documents: Sequence[Document]) -> list[Document]:
    """Insert with one command, in no guaranteed order; returns the documents whose key existed. Raises other errors.

    They are sorted by key, so that neighbours share pages of the index: random ids would touch one page each.
    """
    documents = sorted(documents, key=lambda document: str(document["_id"]))
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        details = error.details or {}
        errors = details.get("writeErrors", [])
        if details.get("writeConcernErrors") or any(entry["code"] != DUPLICATE_KEY for entry in errors):
            raise
        return [documents[entry["index"]] for entry in errors]
    return []
