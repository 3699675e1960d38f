"""An in-memory store that behaves like the real one for the operations that the chassis and the services use.

Any other operation, operator or option raises, so that no test relies on a guess. `test_memory_store.py` runs the same
operations here and on the real store. Documents are encoded as BSON: unsupported values are rejected, times are cut to
milliseconds, and callers get copies. Each operation is atomic. Other tasks may run before a write, so a document that
was read may be outdated.
"""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import bson
from bson.codec_options import CodecOptions
from pymongo import ReplaceOne, UpdateOne

from chassis.storage.mongo import (
    DUPLICATE_KEY,
    BulkWriteError,
    Collection,
    Document,
    DuplicateKeyError,
    Filter,
)
from chassis.storage.store_profile import MONGODB

COMPARED = (str, int, datetime)
TIME_FIELDS = ("due", "lease", "outbox_since")  # the indexed fields of the sweeps

Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]

_CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)
_MISSING = object()


class NotSupportedInMemory(NotImplementedError):
    """The in-memory store does not support this. Add it together with its comparison to the real store."""


class MemoryStore:
    """One service's database, as ``chassis.storage.mongo.Mongo`` gives it."""

    def __init__(self) -> None:
        self.profile = MONGODB
        self.collections: dict[str, MemoryCollection] = {}

    def collection(self, name: str) -> Collection:
        return cast("Collection", self.collections.setdefault(name, MemoryCollection(name)))


class MemoryCollection:
    """One collection. ``earliest`` gives the next time at which a sweep would find a document."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stored: dict[Any, bytes] = {}
        self._decoded: dict[Any, Document] = {}  # a cache for searches; never handed out
        self._times: dict[str, list[tuple[datetime, Any]]] = {field: [] for field in TIME_FIELDS}
        self._entries: dict[Any, list[tuple[str, datetime]]] = {}  # by id: its entries in those lists

    def earliest(self, field: str) -> datetime | None:
        """The earliest time in this field of any document."""
        times = self._times[field]
        return times[0][0] if times else None

    async def find_one(self, filter: Filter) -> Document | None:
        ids = next(iter(self._matching(filter)), _MISSING)
        return None if ids is _MISSING else self._copy(ids)

    def find(self, filter: Filter, fields: Mapping[str, int] | None = None) -> "MemoryCursor":
        return MemoryCursor(self, filter, fields)

    async def count_documents(self, filter: Filter) -> int:
        return sum(1 for _ in self._matching(filter))

    async def insert_one(self, document: Document) -> None:
        await asyncio.sleep(0)
        if not self._insert(document):
            raise DuplicateKeyError("the _id exists", DUPLICATE_KEY)

    async def insert_many(self, documents: Sequence[Document], *, ordered: bool) -> None:
        _require_unordered(ordered)
        await asyncio.sleep(0)
        errors = [
            {"index": n, "code": DUPLICATE_KEY} for n, document in enumerate(documents) if not self._insert(document)
        ]
        if errors:
            raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": []})

    async def replace_one(self, filter: Filter, document: Document, upsert: bool = False) -> SimpleNamespace:
        await asyncio.sleep(0)
        return SimpleNamespace(matched_count=self._replace(filter, document, upsert))

    async def update_one(self, filter: Filter, change: Mapping[str, Any]) -> SimpleNamespace:
        await asyncio.sleep(0)
        return SimpleNamespace(matched_count=self._update(filter, change, limit=1))

    async def update_many(self, filter: Filter, change: Mapping[str, Any]) -> SimpleNamespace:
        await asyncio.sleep(0)
        return SimpleNamespace(matched_count=self._update(filter, change))

    async def bulk_write(
        self, operations: Iterable[ReplaceOne[Document] | UpdateOne], *, ordered: bool
    ) -> SimpleNamespace:
        """``matched_count`` excludes documents inserted by an upsert, like the driver's."""
        _require_unordered(ordered)
        await asyncio.sleep(0)
        matched = 0
        for item in operations:
            if isinstance(item, UpdateOne):
                matched += self._update(item._filter, cast("Document", item._doc), limit=1)
            elif isinstance(item, ReplaceOne):
                matched += self._replace(item._filter, cast("Document", item._doc), bool(item._upsert))
            else:
                raise NotSupportedInMemory(type(item).__name__)
        return SimpleNamespace(matched_count=matched)

    async def delete_many(self, filter: Filter) -> SimpleNamespace:
        await asyncio.sleep(0)
        ids = list(self._matching(filter))
        for id in ids:
            self._drop(id)
        return SimpleNamespace(deleted_count=len(ids))

    def _matching(self, filter: Filter) -> Iterable[Any]:
        """The ids of the matching documents."""
        ids, rest = self._use_index(filter)
        if not rest:
            return ids
        finds = compile_filter(rest)
        return (id for id in ids if finds(self._decode(id)))

    def _use_index(self, filter: Filter) -> tuple[list[Any], Filter]:
        """The ids that an index finds, and the remaining filter."""
        id = filter.get("_id", _MISSING)
        if isinstance(id, str):
            return [id] if id in self._stored else [], _without(filter, "_id")
        if isinstance(id, Mapping) and list(id) == ["$in"]:
            return [item for item in dict.fromkeys(id["$in"]) if item in self._stored], _without(filter, "_id")
        for field in TIME_FIELDS:
            expected = filter.get(field)
            if isinstance(expected, Mapping) and list(expected) == ["$lte"]:
                times = self._times[field]
                ids = times[: bisect_right(times, expected["$lte"], key=_time_of)]
                return [item for _, item in ids], _without(filter, field)
        return list(self._stored), filter

    def _decode(self, id: Any) -> Document:
        if id not in self._decoded:
            self._decoded[id] = self._copy(id)
        return self._decoded[id]

    def _copy(self, id: Any) -> Document:
        return bson.decode(self._stored[id], _CODEC)

    def _insert(self, document: Document) -> bool:
        if document["_id"] in self._stored:
            return False
        self._store(document)
        return True

    def _replace(self, filter: Filter, document: Document, upsert: bool) -> int:
        ids = next(iter(self._matching(filter)), _MISSING)
        if ids is _MISSING:
            if upsert and not self._insert(document):
                raise DuplicateKeyError("the _id exists", DUPLICATE_KEY)
            return 0
        if ids != document["_id"]:
            raise NotSupportedInMemory("replacing under another _id")
        self._store(document)
        return 1

    def _update(self, filter: Filter, change: Mapping[str, Any], limit: int | None = None) -> int:
        if unknown := set(change) - {"$set", "$pull", "$unset"}:
            raise NotSupportedInMemory(f"update operators {sorted(unknown)}")
        ids = list(self._matching(filter))[:limit]
        for id in ids:
            after = self._copy(id)
            for name, value in change.get("$set", {}).items():
                after[_top_level_field(name)] = value
            for name, condition in change.get("$pull", {}).items():
                after[_top_level_field(name)] = [item for item in after.get(name, []) if not matches(item, condition)]
            for name in change.get("$unset", {}):
                _unset(after, name)
            self._store(after)
        return len(ids)

    def _store(self, document: Document) -> None:
        id = document["_id"]
        self._drop(id)
        self._stored[id] = bson.encode(document)
        entries = [
            (field, _truncate_time(at)) for field in TIME_FIELDS if isinstance(at := document.get(field), datetime)
        ]
        for field, at in entries:
            insort(self._times[field], (at, id))
        self._entries[id] = entries

    def _drop(self, id: Any) -> None:
        self._stored.pop(id, None)
        self._decoded.pop(id, None)
        for field, at in self._entries.pop(id, ()):
            times = self._times[field]
            del times[bisect_left(times, (at, id))]


class MemoryCursor:
    """A cursor that searches at its first use."""

    def __init__(self, collection: MemoryCollection, filter: Filter, fields: Mapping[str, int] | None) -> None:
        self._collection, self._filter, self._fields = collection, filter, fields
        self._order: list[str] = []
        self._most: int | None = None

    def sort(self, field: str | list[tuple[str, int]], direction: int = 1) -> "MemoryCursor":
        order = [(field, direction)] if isinstance(field, str) else field
        if any(way != 1 or "." in name for name, way in order):
            raise NotSupportedInMemory(f"sort by {order}")
        self._order = [name for name, _ in order]
        return self

    def limit(self, limit: int) -> "MemoryCursor":
        self._most = limit or None  # 0 is all, as in the driver
        return self

    async def __aiter__(self) -> AsyncIterator[Document]:
        ids = [self._collection._copy(id) for id in self._collection._matching(self._filter)]
        if self._order:
            ids.sort(key=lambda document: [_rank(document.get(name)) for name in self._order])
        for document in ids[: self._most]:
            yield document if self._fields is None else _project(document, self._fields)


def matches(document: Mapping[str, Any], filter: Filter) -> bool:
    """Whether the filter matches the document."""
    return compile_filter(filter)(document)


def compile_filter(filter: Filter) -> Predicate:
    """Compile a filter to a predicate, once for many documents."""
    tests = [_compile_clause(name, expected) for name, expected in filter.items()]
    return tests[0] if len(tests) == 1 else lambda document: all(test(document) for test in tests)


def _compile_clause(name: str, expected: Any) -> Predicate:
    if name == "$or":
        some = [compile_filter(item) for item in expected]
        return lambda document: any(test(document) for test in some)
    if name == "$and":
        every = [compile_filter(item) for item in expected]
        return lambda document: all(test(document) for test in every)
    if name.startswith("$"):
        raise NotSupportedInMemory(name)
    path = name.split(".")
    if not isinstance(expected, Mapping):
        return lambda document: _equals(list(_values_at(document, path)), expected)
    operators = list(expected.items())
    return lambda document: all(
        _evaluate(list(_values_at(document, path)), operator, operand) for operator, operand in operators
    )


def _values_at(value: Any, path: Sequence[str]) -> Iterable[Any]:
    """The values at a path. For a list on the path or at its end, also each of its elements."""
    while path and isinstance(value, dict) and not path[0].isdigit():
        value, path = value.get(path[0], _MISSING), path[1:]
    if not path:
        yield value
        if isinstance(value, list):
            yield from value
    elif isinstance(value, list):
        for item in value:
            yield from _values_at(item, path) if isinstance(item, Mapping) else ()
    elif path[0].isdigit():
        raise NotSupportedInMemory("an index into a list")
    else:
        yield from _values_at(value.get(path[0], _MISSING) if isinstance(value, Mapping) else _MISSING, path[1:])


def _equals(values: Sequence[Any], expected: Any) -> bool:
    if isinstance(expected, Mapping):
        raise NotSupportedInMemory("equality of documents")
    if expected is None:
        if len(values) != 1:
            raise NotSupportedInMemory("null in or below a list")
        return values[0] is None or values[0] is _MISSING
    return any(_kind(value) is _kind(expected) and value == expected for value in values)


def _evaluate(values: Sequence[Any], operator: str, operand: Any) -> bool:
    match operator:
        case "$in":
            return any(_equals(values, item) for item in operand)
        case "$nin":
            return not any(_equals(values, item) for item in operand)
        case "$ne":
            return not _equals(values, operand)
        case "$elemMatch":
            lists = [value for value in values if isinstance(value, list)]
            return any(isinstance(item, Mapping) and matches(item, operand) for value in lists for item in value)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return any(_compare(value, operator, operand) for value in values)
    raise NotSupportedInMemory(operator)


def _compare(value: Any, operator: str, operand: Any) -> bool:
    """Compare values of the same type; values of different types do not match."""
    if _kind(operand) not in COMPARED:
        raise NotSupportedInMemory(f"{operator} with {type(operand).__name__}")
    if _kind(value) is not _kind(operand):
        return False
    match operator:
        case "$gt":
            return bool(value > operand)
        case "$gte":
            return bool(value >= operand)
        case "$lt":
            return bool(value < operand)
    return bool(value <= operand)


def _rank(value: Any) -> tuple[int, Any]:
    """A sort key: null and absent values come first."""
    if value is None:
        return (0, 0)
    if _kind(value) not in COMPARED:
        raise NotSupportedInMemory(f"sorting {type(value).__name__}")
    return (1, value)


def _kind(value: Any) -> type:
    """The type for comparison. In BSON, long integers are a type of their own, and a boolean is not a number."""
    return int if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _project(document: Document, fields: Mapping[str, int]) -> Document:
    """The ``_id`` and these fields; a dotted field stays within its parent document."""
    projected: Document = {"_id": document["_id"]}
    for name, expected in fields.items():
        if expected != 1:
            raise NotSupportedInMemory("a projection that leaves out")
        source, target = document, projected
        *above, last = name.split(".")
        for step in above:
            if not isinstance(source.get(step), dict):
                raise NotSupportedInMemory("a projection into something else than a document")
            source, target = source[step], target.setdefault(step, {})
        if last in source:
            target[last] = source[last]
    return projected


def _without(filter: Filter, field: str) -> Filter:
    return {name: expected for name, expected in filter.items() if name != field}


def _unset(document: Document, name: str) -> None:
    *above, last = name.split(".")
    for step in above:
        document = document.get(step, {})
    document.pop(last, None)


def _top_level_field(name: str) -> str:
    if "." in name:
        raise NotSupportedInMemory("changing a field within a field")
    return name


def _require_unordered(ordered: bool) -> None:
    if ordered:
        raise NotSupportedInMemory("ordered writes")


def _truncate_time(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=at.microsecond // 1000 * 1000)


def _time_of(entry: tuple[datetime, Any]) -> datetime:
    return entry[0]
