"""Aggregates: one document each, changed by one atomic write that carries its events with it.

``update(id, op, decide)`` is the only way in: load, let the pure domain decide, replace where the version is still the
one that was read. The load-bearing invariants:

* a document is replaced only by equality on the ``version`` that was read, so no writer overwrites another;
* ``recent`` remembers the last operations with their answers in the same write, so an operation recognises its own
  success after a lost acknowledgement, a crash or a client's retry, and is never applied twice;
* the events of a save lie in ``outbox`` in the same write, so nothing is published that was not saved, and nothing
  saved is forgotten (see relay).

``version`` counts saves; ``sequence`` counts events, one number for each. ``leg`` is the trace of the latest save that
had one: its follow-ups go on in it, and the next action points back to it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, cast
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict, JsonValue
from pymongo import ReplaceOne

from chassis.core.clocks import Clock
from chassis.core.ids import derived_id
from chassis.observability.telemetry import current_traceparent, link_current_span
from chassis.storage import outbox
from chassis.storage.due_queue import DueQueue
from chassis.storage.mongo import (
    LOST_ACKNOWLEDGEMENT,
    MAX_BULK_OPERATIONS,
    BatchedLookup,
    Collection,
    Document,
    DuplicateKeyError,
    Filter,
    PyMongoError,
    chunks,
    find_by_id,
    find_page,
    insert_missing,
)
from contracts.envelope import Envelope, Instant, OutgoingEvent, Tombstone, Topic, iso

RECENT_OPERATIONS = 32  # operations remembered in the document
MAX_ATTEMPTS = 12  # decisions before giving up against faster writers
MAX_OUTBOX = 100  # events waiting in one document; beyond it, commands are refused until the relay caught up
PROTOCOL_FIELDS = frozenset(  # fields of the document that are the protocol's own
    {"_id", "version", "sequence", "outbox", "outbox_since", "relay_until", "recent", "said", "leg"}
)
RELAY_LEASE = timedelta(seconds=30)  # for so long only the saving process publishes; then the sweep may


class State(BaseModel):
    """Base of every aggregate's state; immutable, stored flat in its document.

    ``due`` is when its next follow-up is to happen, in business time; ``lease`` the same in machine time, for work of
    several steps that a crash may have cut short. Both are driven by sweeps.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    due: Instant | None = None
    lease: Instant | None = None


class AggregateState(Protocol):
    """What can be stored as an aggregate: a ``State``, or a domain's own pydantic model with the same two times."""

    @property
    def due(self) -> datetime | None: ...

    @property
    def lease(self) -> datetime | None: ...

    @classmethod
    def model_validate(cls, obj: Any) -> Self: ...

    def model_dump(self, *, mode: str = ..., exclude: set[str] | None = ...) -> dict[str, Any]: ...


S = TypeVar("S", bound=AggregateState)
Follow: TypeAlias = Literal["due", "lease"]
Decide: TypeAlias = Callable[[S | None], tuple[S, Sequence[OutgoingEvent]] | None]


@dataclass(frozen=True)
class Op:
    """What makes an operation the same one when it is tried again.

    ``key``: principal + route + Idempotency-Key, or event id + handler, or due slot. ``request``: a hash of what was
    asked; the same key with another request is refused.
    """

    key: str
    request: str = ""


class KeyReused(Exception):
    """The same operation key came with another request."""


class VersionConflict(Exception):
    """The caller's expected version is not the current one."""


class TooBusy(Exception):
    """Too many faster writers, or too many unpublished events; nothing was saved, trying again later helps."""


@dataclass(frozen=True)
class Stored(Generic[S]):
    """An aggregate as it was read."""

    id: str
    state: S
    version: int


@dataclass(frozen=True)
class SaveResult(Generic[S]):
    """What an update did. ``repeated``: this very operation had been done before, and ``answer`` is that answer."""

    id: str
    state: S | None
    version: int
    answer: JsonValue = None
    repeated: bool = False
    changed: bool = True

    def require_state(self) -> S:
        """The state, where the decision is known to have made one."""
        if self.state is None:
            raise LookupError(f"nothing is stored under {self.id}")
        return self.state


def no_answer(_: AggregateState) -> JsonValue:
    return None


@dataclass(frozen=True)
class Change(Generic[S]):
    """One update of many. ``fresh``: the id was just drawn, so nothing is looked up before it is inserted."""

    id: str
    op: Op
    decide: Decide[S]
    answer: Callable[[S], JsonValue] = no_answer
    fresh: bool = False


class EventPublisher(Protocol):
    """Whoever publishes the events of saved documents: the relay."""

    def push(self, aggregates: "Aggregates[S]", documents: Sequence[Document]) -> None: ...

    async def wait_for_room(self) -> None: ...


class Aggregates(Generic[S]):
    """A collection of aggregates of one kind.

    ``says`` names for each compacted topic how the current state is said on it, for the guardian. ``at_hand`` keeps for
    each of the two times what a save here leaves to be followed up soon.
    """

    def __init__(
        self,
        collection: Collection,
        model: type[S],
        service: str,
        relay: EventPublisher,
        clock: Clock,
        publishes: Mapping[Topic, Callable[[S], OutgoingEvent]] | None = None,
    ) -> None:
        if taken := PROTOCOL_FIELDS & set(cast("type[BaseModel]", model).model_fields):
            raise TypeError(f"{model.__name__} has fields that the protocol needs for itself: {sorted(taken)}")
        self.collection = collection
        self.model = model
        self._by_id = BatchedLookup(collection)
        self.service = service
        self.publishes: Mapping[Topic, Callable[[S], OutgoingEvent]] = publishes or {}
        self.due_queues: Mapping[Follow, DueQueue] = {"due": DueQueue(), "lease": DueQueue()}
        self._relay = relay
        self._clock = clock
        self._epoch = 0
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def name(self) -> str:
        return str(self.collection.name)

    def begin_epoch(self, sequence: int) -> None:
        """From now on every event is numbered above ``sequence``: a restored backup must not reuse numbers."""
        self._epoch = sequence

    async def get(self, id: str) -> Stored[S] | None:
        document = await self._by_id.get(id)
        return self.stored(document) if document else None

    async def get_many(self, ids: Sequence[str]) -> dict[str, Stored[S]]:
        return {id: self.stored(document) for id, document in (await self.documents(ids)).items()}

    async def find(
        self, filter: Filter, *, sort: str = "_id", limit: int = 0, after: str | None = None
    ) -> AsyncIterator[Stored[S]]:
        async for document in find_page(self.collection, filter, sort=sort, limit=limit, after=after):
            yield self.stored(document)

    async def count(self, filter: Filter) -> int:
        return await self.collection.count_documents(filter)

    async def update(
        self,
        id: str,
        op: Op,
        decide: Decide[S],
        *,
        answer: Callable[[S], JsonValue] = no_answer,
        expect: int | None = None,
        cause: Envelope | None = None,
    ) -> SaveResult[S]:
        """Load, decide, save; again when somebody was faster.

        ``expect``: the version that the caller saw (0: none yet). ``cause``: the event that led here. What ``decide``
        raises passes through and nothing is saved. Raises ``KeyReused``, ``Stale``, ``Busy``, ``outbox.TooLarge``.
        """
        lock = self._locks.setdefault(id, asyncio.Lock())
        attempt = _Attempt(Change(id, op, decide, answer), outbox.Draft(self.service, self._clock.machine_now(), cause))
        lost: PyMongoError | None = None
        async with lock:
            for turn in range(MAX_ATTEMPTS):
                try:
                    document = await self._by_id.get(id)
                    if (done := self._already(document, attempt.change)) is not None:
                        self._push_waiting(document)
                        return done
                    if expect is not None and expect != (document["version"] if document else 0):
                        raise VersionConflict(
                            f"the current version is {document['version'] if document else 0}, not {expect}"
                        )
                    decided = self._decided(document, attempt)
                    if decided is None:
                        return self._untouched(id, document)
                    after, state = decided
                    if await self._save(document, after):
                        link_current_span(document.get("leg") if document else None)
                        self._go_on_with([after])
                        return _saved(after, state)
                    lost = None
                except LOST_ACKNOWLEDGEMENT as error:  # perhaps saved all the same: the next load recognises it
                    lost = error
                await asyncio.sleep(min(0.02 * 2**turn, 1.0) if lost else 0)
        if lost is not None:
            raise lost
        raise TooBusy("this is being changed by many others at the moment; try again")

    async def update_many(
        self, changes: Sequence[Change[S]], *, cause: Envelope | None = None
    ) -> list[SaveResult[S] | Exception]:
        """The bulk form: the same guarantees, one read and one write for a thousand documents.

        Each id may occur once. Results come in the order of ``changes``; what ``decide`` raised stands in its place.
        """
        if len({change.id for change in changes}) != len(changes):
            raise ValueError("an aggregate occurs twice in one bulk update")
        results: list[SaveResult[S] | Exception] = []
        for chunk in chunks(changes, MAX_BULK_OPERATIONS):
            await self._relay.wait_for_room()
            results += await self._update_chunk(chunk, cause)
        return results

    async def _update_chunk(
        self, changes: Sequence[Change[S]], cause: Envelope | None
    ) -> list[SaveResult[S] | Exception]:
        results: dict[str, SaveResult[S] | Exception] = {}
        documents = await self.documents([change.id for change in changes if not change.fresh])
        machine = self._clock.machine_now()
        wanted: dict[str, tuple[Change[S], Document | None, Document, S]] = {}
        for change in changes:
            document = documents.get(change.id)
            attempt = _Attempt(change, outbox.Draft(self.service, machine, cause))
            try:
                if (done := self._already(document, change)) is not None:
                    results[change.id] = done
                    continue
                decided = self._decided(document, attempt)
            except Exception as error:  # noqa: BLE001 - the caller gets it in the place of the result
                results[change.id] = error
                continue
            if decided is None:
                results[change.id] = self._untouched(change.id, document)
            else:
                wanted[change.id] = (change, document, *decided)
        missed = await self._save_many([(before, after) for _, before, after, _ in wanted.values()])
        self._go_on_with([after for id, (_, _, after, _) in wanted.items() if id not in missed])
        for id, (change, _, after, state) in wanted.items():
            if id not in missed:
                results[id] = _saved(after, state)
                continue
            try:  # somebody was faster, or the acknowledgement was lost: one by one, the usual way
                results[id] = await self.update(id, change.op, change.decide, answer=change.answer, cause=cause)
            except Exception as error:  # noqa: BLE001 - the same
                results[id] = error
        return [results[change.id] for change in changes]

    def _go_on_with(self, saved: Sequence[Document]) -> None:
        self._relay.push(self, saved)
        for on, at_hand in self.due_queues.items():
            for after in saved:
                at_hand.push(after["_id"], after[on])

    async def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """As they are stored, by id; those that are there."""
        return await find_by_id(self.collection, ids)

    async def _save(self, before: Document | None, after: Document) -> bool:
        if before is None:
            try:
                await self.collection.insert_one(after)
            except DuplicateKeyError:
                return False
            return True
        result = await self.collection.replace_one({"_id": after["_id"], "version": before["version"]}, after)
        return bool(result.matched_count)

    async def _save_many(self, pairs: Sequence[tuple[Document | None, Document]]) -> set[str]:
        """Save all; returns the ids of which it is not certain that this very save took place."""
        new = [after for before, after in pairs if before is None]
        old = [(before, after) for before, after in pairs if before is not None]
        ids = {after["_id"] for _, after in pairs}
        try:
            missed = {document["_id"] for document in await insert_missing(self.collection, new)} if new else set()
            if old:
                result = await self.collection.bulk_write(
                    [ReplaceOne({"_id": after["_id"], "version": before["version"]}, after) for before, after in old],
                    ordered=False,
                )
                if result.matched_count != len(old):
                    missed |= {after["_id"] for _, after in old}
        except PyMongoError:
            # Lost, or refused for some: one by one it will be seen what was applied, and which one fails.
            return ids
        return missed

    def _already(self, document: Document | None, change: Change[S]) -> SaveResult[S] | None:
        if document is None:
            return None
        for entry in document["recent"]:
            if entry["op"] == (change.op.key if entry["request"] is not None else _digest(change.op.key)):
                if entry["request"] not in (change.op.request, None):
                    raise KeyReused("this idempotency key was used for another request")
                stored = self.stored(document)
                return SaveResult(stored.id, stored.state, stored.version, entry["answer"], repeated=True)
        return None

    def _decided(self, document: Document | None, attempt: "_Attempt[S]") -> tuple[Document, S] | None:
        """The document after the decision, with its events in the outbox, and the state; None: nothing to do."""
        waiting: list[Document] = document["outbox"] if document else []
        if len(waiting) >= MAX_OUTBOX:
            raise TooBusy("too many events of this wait to be published; try again shortly")
        decided = attempt.change.decide(self.stored(document).state if document else None)
        if decided is None:
            return None
        state, said = decided
        sequence, said_before = (document["sequence"], document["said"]) if document else (0, {})
        sequence = max(sequence, self._epoch)
        entries = attempt.draft.entries(said, sequence)
        gone = any(isinstance(event, Tombstone) for event in said)
        recent = document["recent"][1 - RECENT_OPERATIONS :] if document else []
        if gone:
            recent = [_forgotten(entry) for entry in recent]
        answer = attempt.change.answer(state)
        now = self._clock.machine_now()
        box = outbox.merged(waiting, entries)
        after = {
            **state.model_dump(mode="json", exclude={"due", "lease"}),
            "_id": attempt.change.id,
            "version": (document["version"] if document else 0) + 1,
            "sequence": sequence + len(entries),
            "due": state.due,
            "lease": state.lease,
            "outbox": box,
            "outbox_since": ((waiting and document and document.get("outbox_since")) or now) if box else None,
            "relay_until": now + RELAY_LEASE if box else None,
            "recent": [*recent, {"op": attempt.change.op.key, "request": attempt.change.op.request, "answer": answer}],
            "said": outbox.published_after(said_before, entries),
            "leg": current_traceparent() or (document.get("leg") if document else None),
        }
        return after, state

    def stored(self, document: Document) -> Stored[S]:
        return Stored(document["_id"], self.model.model_validate(document), document["version"])

    def _untouched(self, id: str, document: Document | None) -> SaveResult[S]:
        if document is None:
            return SaveResult(id, None, 0, changed=False)
        stored = self.stored(document)
        return SaveResult(id, stored.state, stored.version, changed=False)

    def _push_waiting(self, document: Document | None) -> None:
        """The save is recognised but its acknowledgement was lost: nobody may have published its events yet."""
        if document and document["outbox"]:
            self._relay.push(self, [document])


@dataclass(frozen=True)
class _Attempt(Generic[S]):
    """What is drawn once for all tries of one update: event ids and machine time."""

    change: Change[S]
    draft: outbox.Draft


def _saved(after: Document, state: S) -> SaveResult[S]:
    return SaveResult(after["_id"], state, after["version"], after["recent"][-1]["answer"])


def _digest(op: str) -> str:
    return derived_id("operation", op)


def _forgotten(entry: Document) -> Document:
    """An operation of somebody who is erased: recognised if it is tried again, and nothing can be read from it."""
    if entry["request"] is None:
        return entry
    return {"op": _digest(entry["op"]), "request": None, "answer": None}


def stored_instant(value: datetime | None) -> str | None:
    """A time as it stands in a stored state, for filters on state fields."""
    return None if value is None else iso(value)
