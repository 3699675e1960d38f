"""A store in memory that does what the real one does with the few operations that the chassis and services use.

Any other operation, operator or option raises, so that nothing is tested against a guess.
`test_memory_store.py` runs the same operations here and on the real store. Documents are encoded as BSON: unsupported
values are refused, times are cut to milliseconds, and callers hold no reference into the store. Each operation is
atomic; before a write, others may run, so what was read may be outdated.
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

from chassis.storage.mongo import DUPLICATE_KEY, BulkWriteError, Collection, Document, DuplicateKeyError, Filter

COMPARED = (str, int, datetime)
TIMES = ("due", "lease", "outbox_since")  # as provisioned in the chassis: what the sweeps look for

Test: TypeAlias = Callable[[Mapping[str, Any]], bool]

_CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)
_MISSING = object()


class NotSupportedInMemory(NotImplementedError):
    """The store in memory does not know this; add it together with its comparison to the real store."""


class MemoryStore:
    """One service's database, as ``chassis.storage.mongo.Mongo`` gives it."""

    def __init__(self) -> None:
        self.collections: dict[str, MemoryCollection] = {}

    def collection(self, name: str) -> Collection:
        return cast("Collection", self.collections.setdefault(name, MemoryCollection(name)))


class MemoryCollection:
    """``earliest`` tells when a sweep would find something."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stored: dict[Any, bytes] = {}
        self._read: dict[Any, Document] = {}  # some of them decoded, to be searched; never handed out
        self._times: dict[str, list[tuple[datetime, Any]]] = {field: [] for field in TIMES}
        self._places: dict[Any, list[tuple[str, datetime]]] = {}  # where in those lists each document stands

    def earliest(self, field: str) -> datetime | None:
        """The earliest time in this field of any document."""
        times = self._times[field]
        return times[0][0] if times else None

    async def find_one(self, filter: Filter) -> Document | None:
        found = next(iter(self._matching(filter)), _MISSING)
        return None if found is _MISSING else self._copy(found)

    def find(self, filter: Filter, fields: Mapping[str, int] | None = None) -> "MemoryCursor":
        return MemoryCursor(self, filter, fields)

    async def count_documents(self, filter: Filter) -> int:
        return sum(1 for _ in self._matching(filter))

    async def insert_one(self, document: Document) -> None:
        await asyncio.sleep(0)
        if not self._insert(document):
            raise DuplicateKeyError("the _id exists", DUPLICATE_KEY)

    async def insert_many(self, documents: Sequence[Document], *, ordered: bool) -> None:
        _unordered(ordered)
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
        return SimpleNamespace(matched_count=self._update(filter, change, most=1))

    async def update_many(self, filter: Filter, change: Mapping[str, Any]) -> SimpleNamespace:
        await asyncio.sleep(0)
        return SimpleNamespace(matched_count=self._update(filter, change))

    async def bulk_write(
        self, operations: Iterable[ReplaceOne[Document] | UpdateOne], *, ordered: bool
    ) -> SimpleNamespace:
        """``matched_count`` leaves out what was inserted by an upsert, as the driver's does."""
        _unordered(ordered)
        await asyncio.sleep(0)
        matched = 0
        for one in operations:
            if isinstance(one, UpdateOne):
                matched += self._update(one._filter, cast("Document", one._doc), most=1)
            elif isinstance(one, ReplaceOne):
                matched += self._replace(one._filter, cast("Document", one._doc), bool(one._upsert))
            else:
                raise NotSupportedInMemory(type(one).__name__)
        return SimpleNamespace(matched_count=matched)

    async def delete_many(self, filter: Filter) -> SimpleNamespace:
        await asyncio.sleep(0)
        found = list(self._matching(filter))
        for id in found:
            self._drop(id)
        return SimpleNamespace(deleted_count=len(found))

    def _matching(self, filter: Filter) -> Iterable[Any]:
        """The ids of what the filter finds."""
        found, rest = self._looked_up(filter)
        if not rest:
            return found
        finds = compile_filter(rest)
        return (id for id in found if finds(self._seen(id)))

    def _looked_up(self, filter: Filter) -> tuple[list[Any], Filter]:
        """The ids that an index finds, and what of the filter is still to be asked."""
        id = filter.get("_id", _MISSING)
        if isinstance(id, str):
            return [id] if id in self._stored else [], _without(filter, "_id")
        if isinstance(id, Mapping) and list(id) == ["$in"]:
            return [one for one in dict.fromkeys(id["$in"]) if one in self._stored], _without(filter, "_id")
        for field in TIMES:
            wanted = filter.get(field)
            if isinstance(wanted, Mapping) and list(wanted) == ["$lte"]:
                times = self._times[field]
                found = times[: bisect_right(times, wanted["$lte"], key=_time_of)]
                return [one for _, one in found], _without(filter, field)
        return list(self._stored), filter

    def _seen(self, id: Any) -> Document:
        if id not in self._read:
            self._read[id] = self._copy(id)
        return self._read[id]

    def _copy(self, id: Any) -> Document:
        return bson.decode(self._stored[id], _CODEC)

    def _insert(self, document: Document) -> bool:
        if document["_id"] in self._stored:
            return False
        self._keep(document)
        return True

    def _replace(self, filter: Filter, document: Document, upsert: bool) -> int:
        found = next(iter(self._matching(filter)), _MISSING)
        if found is _MISSING:
            if upsert and not self._insert(document):
                raise DuplicateKeyError("the _id exists", DUPLICATE_KEY)
            return 0
        if found != document["_id"]:
            raise NotSupportedInMemory("replacing under another _id")
        self._keep(document)
        return 1

    def _update(self, filter: Filter, change: Mapping[str, Any], most: int | None = None) -> int:
        if unknown := set(change) - {"$set", "$pull", "$unset"}:
            raise NotSupportedInMemory(f"update operators {sorted(unknown)}")
        found = list(self._matching(filter))[:most]
        for id in found:
            after = self._copy(id)
            for name, value in change.get("$set", {}).items():
                after[_plain(name)] = value
            for name, condition in change.get("$pull", {}).items():
                after[_plain(name)] = [item for item in after.get(name, []) if not matches(item, condition)]
            for name in change.get("$unset", {}):
                _unset(after, name)
            self._keep(after)
        return len(found)

    def _keep(self, document: Document) -> None:
        id = document["_id"]
        self._drop(id)
        self._stored[id] = bson.encode(document)
        places = [(field, _as_stored(at)) for field in TIMES if isinstance(at := document.get(field), datetime)]
        for field, at in places:
            insort(self._times[field], (at, id))
        self._places[id] = places

    def _drop(self, id: Any) -> None:
        self._stored.pop(id, None)
        self._read.pop(id, None)
        for field, at in self._places.pop(id, ()):
            times = self._times[field]
            del times[bisect_left(times, (at, id))]


class MemoryCursor:
    """What is found when it is first asked for something."""

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

    def limit(self, most: int) -> "MemoryCursor":
        self._most = most or None  # 0 is all, as in the driver
        return self

    async def __aiter__(self) -> AsyncIterator[Document]:
        found = [self._collection._copy(id) for id in self._collection._matching(self._filter)]
        if self._order:
            found.sort(key=lambda document: [_rank(document.get(name)) for name in self._order])
        for document in found[: self._most]:
            yield document if self._fields is None else _projected(document, self._fields)


def matches(document: Mapping[str, Any], filter: Filter) -> bool:
    """Whether the document is one that the filter finds."""
    return compile_filter(filter)(document)


def compile_filter(filter: Filter) -> Test:
    """Whether a document is one that the filter finds; made once for many documents."""
    tests = [_clause(name, wanted) for name, wanted in filter.items()]
    return tests[0] if len(tests) == 1 else lambda document: all(test(document) for test in tests)


def _clause(name: str, wanted: Any) -> Test:
    if name == "$or":
        some = [compile_filter(one) for one in wanted]
        return lambda document: any(test(document) for test in some)
    if name == "$and":
        every = [compile_filter(one) for one in wanted]
        return lambda document: all(test(document) for test in every)
    if name.startswith("$"):
        raise NotSupportedInMemory(name)
    path = name.split(".")
    if not isinstance(wanted, Mapping):
        return lambda document: _equals(list(_reached(document, path)), wanted)
    operators = list(wanted.items())
    return lambda document: all(
        _holds(list(_reached(document, path)), operator, operand) for operator, operand in operators
    )


def _reached(value: Any, path: Sequence[str]) -> Iterable[Any]:
    """What stands at the path, and where a list stands on the way or there, each of its elements too."""
    while path and isinstance(value, dict) and not path[0].isdigit():
        value, path = value.get(path[0], _MISSING), path[1:]
    if not path:
        yield value
        if isinstance(value, list):
            yield from value
    elif isinstance(value, list):
        for one in value:
            yield from _reached(one, path) if isinstance(one, Mapping) else ()
    elif path[0].isdigit():
        raise NotSupportedInMemory("a place in a list")
    else:
        yield from _reached(value.get(path[0], _MISSING) if isinstance(value, Mapping) else _MISSING, path[1:])


def _equals(values: Sequence[Any], wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        raise NotSupportedInMemory("equality of documents")
    if wanted is None:
        if len(values) != 1:
            raise NotSupportedInMemory("null in or below a list")
        return values[0] is None or values[0] is _MISSING
    return any(_kind(value) is _kind(wanted) and value == wanted for value in values)


def _holds(values: Sequence[Any], operator: str, operand: Any) -> bool:
    match operator:
        case "$in":
            return any(_equals(values, one) for one in operand)
        case "$nin":
            return not any(_equals(values, one) for one in operand)
        case "$ne":
            return not _equals(values, operand)
        case "$elemMatch":
            lists = [value for value in values if isinstance(value, list)]
            return any(isinstance(one, Mapping) and matches(one, operand) for value in lists for one in value)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return any(_compares(value, operator, operand) for value in values)
    raise NotSupportedInMemory(operator)


def _compares(value: Any, operator: str, operand: Any) -> bool:
    """Values of another type are neither smaller nor greater."""
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
    """Null and what is absent come first."""
    if value is None:
        return (0, 0)
    if _kind(value) not in COMPARED:
        raise NotSupportedInMemory(f"sorting {type(value).__name__}")
    return (1, value)


def _kind(value: Any) -> type:
    """What may equal or be compared: long whole numbers have a type of their own in BSON, and truth is no number."""
    return int if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _projected(document: Document, fields: Mapping[str, int]) -> Document:
    """The ``_id`` and these fields; a dotted one within what it is in."""
    shown: Document = {"_id": document["_id"]}
    for name, wanted in fields.items():
        if wanted != 1:
            raise NotSupportedInMemory("a projection that leaves out")
        source, target = document, shown
        *above, last = name.split(".")
        for step in above:
            if not isinstance(source.get(step), dict):
                raise NotSupportedInMemory("a projection into something else than a document")
            source, target = source[step], target.setdefault(step, {})
        if last in source:
            target[last] = source[last]
    return shown


def _without(filter: Filter, field: str) -> Filter:
    return {name: wanted for name, wanted in filter.items() if name != field}


def _unset(document: Document, name: str) -> None:
    *above, last = name.split(".")
    for step in above:
        document = document.get(step, {})
    document.pop(last, None)


def _plain(name: str) -> str:
    if "." in name:
        raise NotSupportedInMemory("changing a field within a field")
    return name


def _unordered(ordered: bool) -> None:
    if ordered:
        raise NotSupportedInMemory("ordered writes")


def _as_stored(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=at.microsecond // 1000 * 1000)


def _time_of(entry: tuple[datetime, Any]) -> datetime:
    return entry[0]
