"""Aggregates: one document each, changed by one atomic write that carries its events with it.

``update(id, op, decide)`` is the only way to change a state: load the document, let the pure domain decide, and
replace the document if its version is still the one that was read. The load-bearing invariants:

* A document is replaced only by equality on the ``version`` that was read, so no writer overwrites another.
* The same write remembers the operation with its answer in ``recent``. An operation therefore recognises its own
  success after a lost acknowledgement, a crash or a client's retry, and is never applied twice.
* The same write puts the events into ``outbox``. Nothing is published that was not saved, and nothing that was saved
  stays unpublished (see relay).

``recent`` holds the last 32 operations of each kind (see ``chassis.core.commands``). A service's own steps, however
many, therefore never push out the Idempotency-Key of a client. Entries of an earlier version have no kind: an entry
with a request hash is a client's command, any other is a step.

``renew_lease`` is a heartbeat and no operation. It changes nothing but ``lease``, by equality on the version and the
lease that were read; it leaves ``version`` (and so every ETag) and ``recent`` alone. An update that was read before a
renewal and saved after it puts the older lease back. The holder renews several times within a lease, so the next
renewal mends that; should the lease pass all the same, another process takes over, and the state (a run number, a
holder) tells the slower one that its writes no longer apply.

``version`` counts saves. ``sequence`` counts events, and ``open_sequence`` those of topics that everybody may read: an
open event tells nothing of the restricted ones before it. Numbers grow on each topic. ``leg`` is the trace of the
latest save that had one: its follow-ups continue that trace, and the next action links back to it.
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
from chassis.core.commands import Op, OpKind
from chassis.core.ids import derived_id
from chassis.observability.telemetry import current_traceparent, link_current_span
from chassis.storage import outbox
from chassis.storage.due_queue import DueQueue
from chassis.storage.mongo import (
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
    is_transient,
)
from chassis.storage.store_profile import MONGODB, StoreProfile
from contracts.envelope import Envelope, Instant, OutgoingEvent, Tombstone, Topic, iso

RECENT_OPERATIONS = 32  # operations of each kind that a document remembers
MAX_ATTEMPTS = 12  # decisions before an update gives up against faster writers
SAVE_TIMEOUT_S = 10.0  # seconds after which a change gives up; the lock of its aggregate is held no longer
MAX_OUTBOX = 100  # events waiting in one document; beyond it, commands are refused until the relay has caught up
PROTOCOL_FIELDS = frozenset(  # fields of the document that belong to the protocol
    {"_id", "version", "sequence", "open_sequence", "outbox", "outbox_since", "relay_until", "recent", "said", "leg"}
)
RELAY_LEASE = timedelta(seconds=30)  # time in which only the saving process publishes; after it the sweep may


class State(BaseModel):
    """Base of every aggregate's state; immutable, stored flat in its document.

    ``due`` is the business time of the next follow-up. ``lease`` is a machine time: work of several steps that a crash
    may have cut short is taken up again after it. Sweeps drive both.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    due: Instant | None = None
    lease: Instant | None = None


class AggregateState(Protocol):
    """The interface of an aggregate's state: a ``State``, or a domain's own pydantic model with the same two times."""

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


class KeyReused(Exception):
    """The same operation key came with another request."""


class VersionConflict(Exception):
    """The caller's expected version is not the current one."""


class TooBusy(Exception):
    """Too many faster writers, or too many unpublished events. Nothing was saved; trying again later helps."""


@dataclass(frozen=True)
class Stored(Generic[S]):
    """An aggregate as it was read."""

    id: str
    state: S
    version: int


@dataclass(frozen=True)
class SaveResult(Generic[S]):
    """The result of an update. ``repeated``: the operation was applied before, and ``answer`` is its first answer."""

    id: str
    state: S | None
    version: int
    answer: JsonValue = None
    repeated: bool = False
    changed: bool = True

    def require_state(self) -> S:
        """The state, for callers whose decision always makes one. Raises ``LookupError`` if there is none."""
        if self.state is None:
            raise LookupError(f"nothing is stored under {self.id}")
        return self.state


def no_answer(_: AggregateState) -> JsonValue:
    return None


@dataclass(frozen=True)
class Change(Generic[S]):
    """One update of many. ``fresh``: the id was just drawn, so the document is inserted without a lookup."""

    id: str
    op: Op
    decide: Decide[S]
    answer: Callable[[S], JsonValue] = no_answer
    fresh: bool = False


class EventPublisher(Protocol):
    """Publishes the events of saved documents: the relay."""

    def push(self, aggregates: "Aggregates[S]", documents: Sequence[Document]) -> None: ...

    async def wait_for_room(self) -> None: ...


class Aggregates(Generic[S]):
    """A collection of aggregates of one kind.

    ``publishes`` maps each compacted topic to the function that makes its event from a state, for the guardian.
    ``due_queues`` holds, for each of the two times, the near follow-ups of what this process saved.
    """

    def __init__(
        self,
        collection: Collection,
        model: type[S],
        service: str,
        relay: EventPublisher,
        clock: Clock,
        publishes: Mapping[Topic, Callable[[S], OutgoingEvent]] | None = None,
        profile: StoreProfile = MONGODB,
    ) -> None:
        if taken := PROTOCOL_FIELDS & set(cast("type[BaseModel]", model).model_fields):
            raise TypeError(f"{model.__name__} has fields that the protocol needs for itself: {sorted(taken)}")
        self.collection = collection
        self.model = model
        self.profile = profile
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
        """Number every event above ``sequence`` from now on: after a restored backup, numbers must not be reused."""
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
        """Load, decide, save; repeat while another writer is faster.

        ``expect``: the version that the caller saw (0: none yet). ``cause``: the event that led here. An exception of
        ``decide`` passes through and nothing is saved. Raises ``KeyReused``, ``VersionConflict``, ``TooBusy``,
        ``outbox.EventTooLarge``, and ``TimeoutError`` when the store does not answer in time: then it is unknown
        whether the change was saved, and a repetition with the same operation finds out.
        """
        attempt = _Attempt(Change(id, op, decide, answer), outbox.Draft(self.service, self._clock.machine_now(), cause))
        lost: PyMongoError | None = None
        async with asyncio.timeout(SAVE_TIMEOUT_S), self._lock(id):
            for turn in range(MAX_ATTEMPTS):
                try:
                    result = await self._try_update(attempt, expect)
                except PyMongoError as error:
                    if not is_transient(error):
                        raise
                    lost = error  # it may have been saved: the next load recognises it
                else:
                    if result is not None:
                        return result
                    lost = None
                await _pause(turn, lost)
        raise lost or TooBusy("this is being changed by many others at the moment; try again")

    async def _try_update(self, attempt: "_Attempt[S]", expect: int | None) -> SaveResult[S] | None:
        """Load, decide, save. None when another writer was faster."""
        id = attempt.change.id
        document = await self._by_id.get(id)
        if (repeat := self._find_repeat(document, attempt.change)) is not None:
            self._push_waiting(document)
            return repeat
        _check_version(document, expect)
        decision = self._decide(document, attempt)
        if decision is None:
            return self._unchanged(id, document)
        after, state = decision
        if not await self._save(document, after):
            return None
        link_current_span(document.get("leg") if document else None)
        self._hand_over([after])
        return _saved(after, state)

    async def renew_lease(self, id: str, renew: Callable[[S], datetime | None]) -> bool:
        """Extend the lease of work that this process holds; returns whether it still holds it.

        ``renew`` gives the new lease, or None if the state says that the work belongs to another or is over. A lease
        is never shortened, and a document without a lease gets none. Raises ``TooBusy``, ``TimeoutError`` and the
        driver's errors.
        """
        lost: PyMongoError | None = None
        async with asyncio.timeout(SAVE_TIMEOUT_S), self._lock(id):
            for turn in range(MAX_ATTEMPTS):
                try:
                    document = await self._by_id.get(id)
                    if document is None or document["lease"] is None:
                        return False
                    until = renew(self.stored(document).state)
                    if until is None:
                        return False
                    if until <= document["lease"] or await self._extend(document, until):
                        return True
                    lost = None
                except PyMongoError as error:
                    if not is_transient(error):
                        raise
                    lost = error  # if it was applied, the next load sees the new lease
                await _pause(turn, lost)
        raise lost or TooBusy("this is being changed by many others at the moment; try again")

    async def _extend(self, document: Document, until: datetime) -> bool:
        """Write the lease alone. Equality on the old lease keeps a write that arrives late from shortening it."""
        read = {"_id": document["_id"], "version": document["version"], "lease": document["lease"]}
        result = await self.collection.update_one(read, {"$set": {"lease": until}})
        if result.matched_count:
            self.due_queues["lease"].push(document["_id"], until)
        return bool(result.matched_count)

    def _lock(self, id: str) -> asyncio.Lock:
        """One lock for each id, so that writers of this process do not have to race each other."""
        return self._locks.setdefault(id, asyncio.Lock())

    async def update_many(
        self, changes: Sequence[Change[S]], *, cause: Envelope | None = None
    ) -> list[SaveResult[S] | Exception]:
        """The bulk form: the same guarantees, with one read and one write for each chunk of documents.

        Each id may occur once. Results come in the order of ``changes``; an exception stands in place of its result.
        """
        if len({change.id for change in changes}) != len(changes):
            raise ValueError("an aggregate occurs twice in one bulk update")
        results: list[SaveResult[S] | Exception] = []
        for chunk in chunks(changes, self.profile.bulk_operations):
            await self._relay.wait_for_room()
            results += await self._update_chunk(chunk, cause)
        return results

    async def _update_chunk(
        self, changes: Sequence[Change[S]], cause: Envelope | None
    ) -> list[SaveResult[S] | Exception]:
        results: dict[str, SaveResult[S] | Exception] = {}
        documents = await self.documents([change.id for change in changes if not change.fresh])
        recorded_at = self._clock.machine_now()
        decisions: dict[str, tuple[Change[S], Document | None, Document, S]] = {}
        for change in changes:
            document = documents.get(change.id)
            attempt = _Attempt(change, outbox.Draft(self.service, recorded_at, cause))
            try:
                if (repeat := self._find_repeat(document, change)) is not None:
                    results[change.id] = repeat
                    continue
                decision = self._decide(document, attempt)
            except Exception as error:  # noqa: BLE001 - the caller gets it in place of the result
                results[change.id] = error
                continue
            if decision is None:
                results[change.id] = self._unchanged(change.id, document)
            else:
                decisions[change.id] = (change, document, *decision)
        uncertain = await self._save_many([(before, after) for _, before, after, _ in decisions.values()])
        self._hand_over([after for id, (_, _, after, _) in decisions.items() if id not in uncertain])
        for id, (change, _, after, state) in decisions.items():
            if id not in uncertain:
                results[id] = _saved(after, state)
                continue
            try:  # another writer was faster, or the acknowledgement was lost: repeat it as a single update
                results[id] = await self.update(id, change.op, change.decide, answer=change.answer, cause=cause)
            except Exception as error:  # noqa: BLE001 - the caller gets it in place of the result
                results[id] = error
        return [results[change.id] for change in changes]

    def _hand_over(self, saved: Sequence[Document]) -> None:
        """Give the saved events to the relay, and the next times to the queues of the sweeps."""
        self._relay.push(self, saved)
        for field, queue in self.due_queues.items():
            for after in saved:
                queue.push(after["_id"], after[field])

    async def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """The stored documents by id; ids that do not exist are left out."""
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
        """Save all; returns the ids of which it is not certain that this save took place."""
        new = [after for before, after in pairs if before is None]
        old = [(before, after) for before, after in pairs if before is not None]
        ids = {after["_id"] for _, after in pairs}
        try:
            uncertain = {document["_id"] for document in await insert_missing(self.collection, new)} if new else set()
            if old:
                result = await self.collection.bulk_write(
                    [ReplaceOne({"_id": after["_id"], "version": before["version"]}, after) for before, after in old],
                    ordered=False,
                )
                if result.matched_count != len(old):
                    uncertain |= {after["_id"] for _, after in old}
        except PyMongoError:
            # Lost, or refused for some: single updates find out which were applied and which one fails.
            return ids
        return uncertain

    def _find_repeat(self, document: Document | None, change: Change[S]) -> SaveResult[S] | None:
        """The result of this operation if it was applied before. Raises ``KeyReused``."""
        if document is None:
            return None
        for entry in document["recent"]:
            if entry["op"] == (change.op.key if entry["request"] is not None else _digest(change.op.key)):
                if entry["request"] not in (change.op.request, None):
                    raise KeyReused("this idempotency key was used for another request")
                stored = self.stored(document)
                return SaveResult(stored.id, stored.state, stored.version, entry["answer"], repeated=True)
        return None

    def _decide(self, document: Document | None, attempt: "_Attempt[S]") -> tuple[Document, S] | None:
        """The document after the decision, with its events in the outbox, and the state. None: nothing to save."""
        waiting: list[Document] = document["outbox"] if document else []
        if len(waiting) >= MAX_OUTBOX:
            raise TooBusy("too many events of this wait to be published; try again shortly")
        decision = attempt.change.decide(self.stored(document).state if document else None)
        if decision is None:
            return None
        state, events = decision
        published_before = document["said"] if document else {}
        sequence, open_sequence = self._sequences(document)
        entries = attempt.draft.entries(events, sequence, open_sequence)
        recent = document["recent"] if document else []
        if any(isinstance(event, Tombstone) for event in events):
            recent = [_redacted(entry) for entry in recent]
        saved_at = self._clock.machine_now()
        box = outbox.merged(waiting, entries)
        after = {
            **state.model_dump(mode="json", exclude={"due", "lease"}),
            "_id": attempt.change.id,
            "version": _version(document) + 1,
            "sequence": sequence + len(entries),
            "open_sequence": open_sequence + sum(outbox.is_open(event, self.service) for event in events),
            "due": state.due,
            "lease": state.lease,
            "outbox": box,
            "outbox_since": ((waiting and document and document.get("outbox_since")) or saved_at) if box else None,
            "relay_until": saved_at + RELAY_LEASE if box else None,
            "recent": _remember(recent, attempt.change.op, attempt.change.answer(state)),
            "said": outbox.published_after(published_before, entries),
            "leg": current_traceparent() or (document.get("leg") if document else None),
        }
        return after, state

    def _sequences(self, document: Document | None) -> tuple[int, int]:
        """The numbers of the last event of all, and of the last open one.

        An earlier version numbered all events together and drops the second number: it was as high as the first.
        """
        if document is None:
            return self._epoch, self._epoch
        sequence, open_sequence = document["sequence"], document.get("open_sequence")
        return max(sequence, self._epoch), max(sequence if open_sequence is None else open_sequence, self._epoch)

    def stored(self, document: Document) -> Stored[S]:
        return Stored(document["_id"], self.model.model_validate(document), document["version"])

    def _unchanged(self, id: str, document: Document | None) -> SaveResult[S]:
        if document is None:
            return SaveResult(id, None, 0, changed=False)
        stored = self.stored(document)
        return SaveResult(id, stored.state, stored.version, changed=False)

    def _push_waiting(self, document: Document | None) -> None:
        """Publish the events of a repeated operation: the process that saved it may have crashed before that."""
        if document and document["outbox"]:
            self._relay.push(self, [document])


@dataclass(frozen=True)
class _Attempt(Generic[S]):
    """Values drawn once for all attempts of one update: event ids and machine time."""

    change: Change[S]
    draft: outbox.Draft


def _saved(after: Document, state: S) -> SaveResult[S]:
    return SaveResult(after["_id"], state, after["version"], after["recent"][-1]["answer"])


def _version(document: Document | None) -> int:
    return document["version"] if document else 0


def _check_version(document: Document | None, expect: int | None) -> None:
    if expect is not None and expect != _version(document):
        raise VersionConflict(f"the current version is {_version(document)}, not {expect}")


async def _pause(turn: int, lost: PyMongoError | None) -> None:
    """Let the connection recover after an error; after a lost race, only let others run."""
    await asyncio.sleep(min(0.02 * 2**turn, 1.0) if lost else 0)


def _remember(recent: Sequence[Document], op: Op, answer: JsonValue) -> list[Document]:
    """Add an operation, and drop the oldest of its kind beyond ``RECENT_OPERATIONS``; other kinds stay."""
    same_kind = [n for n, entry in enumerate(recent) if _kind(entry) == op.kind]
    dropped = set(same_kind[: max(0, len(same_kind) + 1 - RECENT_OPERATIONS)])
    remaining = [entry for n, entry in enumerate(recent) if n not in dropped]
    return [*remaining, {"op": op.key, "request": op.request, "answer": answer, "kind": op.kind}]


def _kind(entry: Document) -> OpKind:
    """The kind of a remembered operation; an earlier version stored none."""
    kind: OpKind = entry.get("kind") or ("command" if entry["request"] else "step")
    return kind


def _digest(key: str) -> str:
    return derived_id("operation", key)


def _redacted(entry: Document) -> Document:
    """An operation on an erased aggregate: still recognised by a digest of its key, with nothing else left to read."""
    if entry["request"] is None:
        return entry
    return {"op": _digest(entry["op"]), "request": None, "answer": None, "kind": _kind(entry)}


def stored_instant(value: datetime | None) -> str | None:
    """A time as it is written in a stored state, for filters on state fields and for operation keys."""
    return None if value is None else iso(value)
