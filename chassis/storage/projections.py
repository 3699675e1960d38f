"""Projections: a service's copies of another service's aggregates, each fed by one topic.

The load-bearing invariant: a row is replaced only by a record with a higher sequence, by equality on the sequence that
was read. A tombstone leaves a *grave*, a row with nothing but its sequence, so that no older record can bring the row
back. The guard protects this write alone: reactions always run.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from pydantic import BaseModel
from pymongo import ReplaceOne

from chassis.storage.mongo import (
    BatchedLookup,
    Collection,
    Document,
    Filter,
    chunks,
    find_by_id,
    find_page,
    insert_missing,
)
from chassis.storage.store_profile import MONGODB, StoreProfile
from contracts.envelope import EPOCH

M = TypeVar("M", bound=BaseModel)

MAX_ATTEMPTS = 20  # writes of one part before giving up against other writers
FIRST_SEQUENCES = 2  # the first sequences of an aggregate: its first save publishes at most two events
GUARD_FIELDS = frozenset({"_id", "sequence", "grave"})  # fields of a row that belong to the guard
NOT_A_GRAVE: Filter = {"grave": False}


class Contended(Exception):
    """Other writers kept changing the same rows; the batch must be repeated."""


@dataclass(frozen=True)
class ProjectionRow:
    """The newest record of one aggregate in a batch; ``data`` None is a tombstone."""

    id: str
    sequence: int
    data: BaseModel | None


@dataclass(frozen=True)
class Numbered(Generic[M]):
    """The copy of one aggregate, with the sequence of its record."""

    data: M
    sequence: int


class Projection(Generic[M]):
    """The newest public state of each aggregate of one topic, as its event's data model."""

    def __init__(self, collection: Collection, model: type[M], profile: StoreProfile = MONGODB) -> None:
        if taken := GUARD_FIELDS & set(model.model_fields):
            raise TypeError(f"{model.__name__} has fields that the guard needs for itself: {sorted(taken)}")
        self.collection = collection
        self.model = model
        self.profile = profile
        self._by_id = BatchedLookup(collection)

    async def get(self, id: str) -> M | None:
        document = await self._by_id.get(id)
        return self._data(document) if document and not document["grave"] else None

    async def get_many(self, ids: Sequence[str]) -> dict[str, M]:
        return {id: numbered.data for id, numbered in (await self.numbered(ids)).items()}

    async def numbered(self, ids: Sequence[str]) -> dict[str, Numbered[M]]:
        """The copies that exist, by id, each with its sequence."""
        return {
            id: Numbered(self._data(document), document["sequence"])
            for id, document in (await find_by_id(self.collection, ids)).items()
            if not document["grave"]
        }

    async def sequences(self, ids: Sequence[str]) -> dict[str, int]:
        """The sequence of each row, graves included; ids without a row are left out."""
        documents = await find_by_id(self.collection, ids, {"sequence": 1})
        return {id: document["sequence"] for id, document in documents.items()}

    async def find(
        self, filter: Filter, *, sort: str = "_id", limit: int = 0, after: str | None = None
    ) -> AsyncIterator[M]:
        async for document in find_page(
            self.collection, {**filter, **NOT_A_GRAVE}, sort=sort, limit=limit, after=after
        ):
            yield self._data(document)

    async def count(self, filter: Filter) -> int:
        return await self.collection.count_documents({**filter, **NOT_A_GRAVE})

    async def is_grave(self, id: str) -> bool:
        document = await self._by_id.get(id)
        return bool(document and document["grave"])

    async def apply(self, rows: Sequence[ProjectionRow]) -> int:
        """Write each row whose sequence is higher than the stored one; returns the number of rows written.

        Raises ``Contended`` after many attempts against other writers, and the driver's errors.
        """
        newest: dict[str, ProjectionRow] = {}
        for row in rows:
            if row.id not in newest or row.sequence > newest[row.id].sequence:
                newest[row.id] = row
        by_key = sorted(newest.values(), key=lambda row: row.id)  # each part touches its own pages of the index
        parts = [self._apply_chunk(chunk) for chunk in chunks(by_key, self.profile.projection_batch)]
        # All parts end before an error is raised, so that no part still writes while the batch is repeated.
        results = await asyncio.gather(*parts, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return sum(cast("list[int]", results))

    async def unfreeze(self, row: ProjectionRow) -> bool:
        """Replace a row whose sequence is higher than that of ``row``, the newest record of its topic.

        Returns whether there was one. Raises ``Contended`` when another writer changed it meanwhile.
        """
        stored = (await self.sequences([row.id])).get(row.id)
        if stored is None or stored <= row.sequence:
            return False
        result = await self.collection.replace_one({"_id": row.id, "sequence": stored}, _document(row))
        if not result.matched_count:
            raise Contended(f"{self.collection.name}: the row is being written by others")
        return True

    async def bury(self, filter: Filter) -> None:
        """Replace these rows with graves, for a topic that keeps records which the service must forget.

        A record with a higher sequence still brings the row back.
        """
        async for document in self.collection.find({**filter, **NOT_A_GRAVE}):
            grave = ProjectionRow(document["_id"], document["sequence"], None)
            await self.collection.replace_one({"_id": grave.id, "sequence": grave.sequence}, _document(grave))

    async def _apply_chunk(self, rows: Sequence[ProjectionRow]) -> int:
        before = await self._sequences([row for row in rows if not _is_first(row)])
        newer = [row for row in rows if row.sequence > before.get(row.id, -1)]
        written = len(newer)
        for _ in range(MAX_ATTEMPTS):
            if not newer:
                return written
            doubtful = await self._write(newer, before)
            before = await self._sequences(doubtful)
            newer = [row for row in doubtful if row.sequence > before.get(row.id, -1)]
            written -= len(doubtful) - len(newer)
        raise Contended(f"{self.collection.name}: {len(newer)} rows are being written by others")

    async def _sequences(self, rows: Sequence[ProjectionRow]) -> dict[str, int]:
        return await self.sequences([row.id for row in rows])

    async def _write(self, rows: Sequence[ProjectionRow], before: dict[str, int]) -> list[ProjectionRow]:
        """Returns the rows of which it is not certain that this write stored them."""
        new = {row.id: row for row in rows if row.id not in before}
        old = [row for row in rows if row.id in before]
        doubtful: list[ProjectionRow] = []
        if new:
            lost = await insert_missing(self.collection, [_document(row) for row in new.values()])
            doubtful += [new[document["_id"]] for document in lost]
        if old:
            result = await self.collection.bulk_write(
                [ReplaceOne({"_id": row.id, "sequence": before[row.id]}, _document(row)) for row in old], ordered=False
            )
            if result.matched_count != len(old):
                doubtful += old
        return doubtful

    def _data(self, document: Document) -> M:
        return self.model.model_validate(document)


def _is_first(row: ProjectionRow) -> bool:
    """Whether the row is probably the first record of its aggregate, so that a lookup before the insert is useless."""
    return row.sequence % EPOCH <= FIRST_SEQUENCES


def _document(row: ProjectionRow) -> Document:
    if row.data is None:
        return {"_id": row.id, "sequence": row.sequence, "grave": True}
    return {**row.data.model_dump(mode="json"), "_id": row.id, "sequence": row.sequence, "grave": False}
