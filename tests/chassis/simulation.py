"""The protocol under random schedules: the real aggregates, relay and guardian over a store and a broker in memory.

Time is virtual: every step of the store and the broker takes a random time, so that a seed is a schedule; some steps
take longer than a lease. A connection breaks before a write, after it, or before a write that is applied late all the
same. A replica crashes between any two steps and is started again. Only the operations that the code under test uses
exist here; `tests/chassis/test_simulation.py` and `test_memory.py` hold them against the real store.
"""

import asyncio
import copy
import random
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from pymongo import ReplaceOne, UpdateOne

from chassis.core.clocks import Clock
from chassis.core.commands import Op
from chassis.core.connection import Connection
from chassis.messaging.guardian import Guardian
from chassis.messaging.kafka import Producer, RawRecord
from chassis.messaging.relay import Relay
from chassis.storage.aggregates import RECENT_OPERATIONS, Aggregates, TooBusy
from chassis.storage.mongo import Collection, ConnectionFailure, Document, DuplicateKeyError
from contracts.envelope import OutgoingEvent
from tests.chassis.harness import COUNTERS, COUNTS, SERVICE, Counter, add, counter_event, erase
from tests.chassis.memory_store import matches

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
WORK_LEASE = timedelta(seconds=20)


class _Instant(selectors.DefaultSelector):
    """Never waits: the loop's clock is moved on instead."""

    moved = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.moved += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._instant = _Instant()
        super().__init__(self._instant)

    def time(self) -> float:
        return self._instant.moved


class VirtualClock(Clock):
    def machine_now(self) -> datetime:
        return BEGINNING + timedelta(seconds=asyncio.get_running_loop().time())


@dataclass
class Chance:
    """What may happen at each step; ``calm`` once the faults are over."""

    random: random.Random
    calm: bool = False

    async def step(self) -> None:
        stall = not self.calm and self.random.random() < 0.03
        await asyncio.sleep(self.random.uniform(1, 60) if stall else self.random.uniform(0.001, 0.05))

    def fault(self, likely: float) -> bool:
        return not self.calm and self.random.random() < likely


class MemoryCollection:
    """One collection as one replica reaches it; ``documents`` is what all share."""

    name = "counters"

    def __init__(self, documents: dict[str, Document], chance: Chance) -> None:
        self._documents = documents
        self._chance = chance

    async def _write(self, apply: Any) -> Any:
        """Apply a write at some moment, or lose the connection before, after, or in between."""
        await self._chance.step()
        if self._chance.fault(0.06):
            if self._chance.fault(0.5):  # it is still under way, and is applied later than anybody thinks
                later = self._chance.random.uniform(0.01, 5)
                asyncio.get_running_loop().call_later(later, self._quietly, apply)
            raise ConnectionFailure("lost before")
        result = apply()
        await self._chance.step()
        if self._chance.fault(0.06):
            raise ConnectionFailure("lost after")
        return result

    @staticmethod
    def _quietly(apply: Any) -> None:
        try:
            apply()
        except DuplicateKeyError:
            return

    async def find_one(self, filter: Mapping[str, Any]) -> Document | None:
        await self._chance.step()
        found = [d for d in self._documents.values() if matches(d, filter)]
        result = copy.deepcopy(found[0]) if found else None
        await self._chance.step()
        return result

    def find(self, filter: Mapping[str, Any], _fields: object = None) -> "MemoryCursor":
        return MemoryCursor(self, filter)

    async def insert_one(self, document: Document) -> None:
        document = copy.deepcopy(document)

        def apply() -> None:
            if document["_id"] in self._documents:
                raise DuplicateKeyError("exists")
            self._documents[document["_id"]] = document

        await self._write(apply)

    async def replace_one(self, filter: Mapping[str, Any], document: Document) -> SimpleNamespace:
        document = copy.deepcopy(document)
        return cast("SimpleNamespace", await self._write(lambda: self._replace(filter, document)))

    async def update_one(self, filter: Mapping[str, Any], change: Mapping[str, Any]) -> SimpleNamespace:
        return cast("SimpleNamespace", await self._write(lambda: self._update(filter, change)))

    async def bulk_write(self, operations: Iterable[ReplaceOne[Document] | UpdateOne], *, ordered: bool) -> Any:
        assert not ordered

        def apply() -> SimpleNamespace:
            results = [
                self._update(o._filter, cast("Document", o._doc))
                if isinstance(o, UpdateOne)
                else self._replace(o._filter, cast("Document", o._doc))
                for o in operations
            ]
            return SimpleNamespace(matched_count=sum(result.matched_count for result in results))

        return await self._write(apply)

    def _replace(self, filter: Mapping[str, Any], document: Document) -> SimpleNamespace:
        found = [d for d in self._documents.values() if matches(d, filter)]
        if found:
            self._documents[document["_id"]] = copy.deepcopy(document)
        return SimpleNamespace(matched_count=len(found[:1]))

    def _update(self, filter: Mapping[str, Any], change: Mapping[str, Any]) -> SimpleNamespace:
        found = [d for d in self._documents.values() if matches(d, filter)][:1]
        for document in found:
            for name, value in change.get("$set", {}).items():
                document[name] = copy.deepcopy(value)
            for name, condition in change.get("$pull", {}).items():
                document[name] = [item for item in document[name] if not matches(item, condition)]
        assert set(change) <= {"$set", "$pull"}
        return SimpleNamespace(matched_count=len(found))


class MemoryCursor:
    def __init__(self, collection: MemoryCollection, filter: Mapping[str, Any]) -> None:
        self._collection, self._filter = collection, filter
        self._by = "_id"
        self._limit = 0

    def sort(self, field: str, direction: int) -> "MemoryCursor":
        assert direction == 1
        self._by = field
        return self

    def limit(self, limit: int) -> "MemoryCursor":
        self._limit = limit
        return self

    async def __aiter__(self) -> AsyncIterator[Document]:
        await self._collection._chance.step()
        found = [copy.deepcopy(d) for d in self._collection._documents.values() if matches(d, self._filter)]
        found.sort(key=lambda document: document[self._by])
        for document in found[: self._limit or None]:
            yield document
            await self._collection._chance.step()


@dataclass(frozen=True)
class Line:
    """One record of the log."""

    topic: str
    key: str
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def id(self) -> str:
        return dict(self.headers)["ce_id"].decode()

    @property
    def sequence(self) -> int:
        return int(dict(self.headers)["ce_sequence"])


class MemoryProducer:
    """Keeps the order of what one replica sends, as an idempotent producer does; a crash loses what is under way."""

    def __init__(self, log: list[Line], chance: Chance) -> None:
        self._log, self._chance = log, chance
        self._queue: asyncio.Queue[tuple[Line, asyncio.Future[None]]] = asyncio.Queue()

    async def send(
        self, topic: str, *, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((Line(topic, key.decode(), value, tuple(headers)), future))
        return future

    async def deliver(self, topic: str, **record: Any) -> None:
        await (await self.send(topic, **record))

    async def renew(self) -> None:
        await self._chance.step()

    async def run(self) -> None:
        while True:
            line, future = await self._queue.get()
            await self._chance.step()
            self._log.append(line)
            await self._chance.step()
            if not future.done():
                future.set_result(None)


@dataclass
class Process:
    """One replica: crashes as a whole, with all of its tasks."""

    world: "Simulation"
    tasks: list["asyncio.Task[Any]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance, clock = self.world.chance, VirtualClock()
        self.producer = MemoryProducer(self.world.log, chance)
        self.relay = Relay(self.producer, SERVICE, "", clock)
        self.counters: Aggregates[Counter] = Aggregates(
            cast("Collection", MemoryCollection(self.world.documents, chance)),
            Counter,
            SERVICE,
            self.relay,
            clock,
            {COUNTERS: counter_event},
        )
        self.guardian = Guardian(
            COUNTERS,
            self.counters,
            connection=Connection("nowhere"),
            producer=cast("Producer", self.producer),
            prefix="",
            clock=clock,
        )
        for work in (self.producer.run(), self.relay.run(), self._sweep(), self._guard()):
            self.start(work)

    def start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    async def crash(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.world.chance.random.uniform(1, 10))
            try:
                await self.relay.sweep(self.counters)
            except ConnectionFailure:
                continue

    async def _guard(self) -> None:
        place = 0
        while True:
            await asyncio.sleep(self.world.chance.random.uniform(0.1, 3))
            for line in self.world.log[place:]:
                if line.topic == COUNTERS.name:
                    record = SimpleNamespace(key=line.key.encode(), value=line.value, headers=line.headers)
                    self.guardian.observe(cast("RawRecord", record))
            place = len(self.world.log)
            await self.guardian.republish_outdated()


class Simulation:
    """Some replicas, clients that retry what they are not sure of, and then the calm after the faults."""

    def __init__(self, seed: int) -> None:
        self.chance = Chance(random.Random(seed))
        self.documents: dict[str, Document] = {}
        self.log: list[Line] = []
        self.done: dict[
            tuple[str, int], bool
        ] = {}  # (counter, amount): whether the client was told that it was applied
        self.processes: list[Process] = []

    async def run(self) -> None:
        choice = self.chance.random
        self.processes = [Process(self) for _ in range(choice.randint(1, 3))]
        ids = ["a", "b"][: choice.randint(1, 2)]
        clients = [asyncio.create_task(self._client(choice.choice(ids), n)) for n in range(1, choice.randint(4, 9))]
        if choice.random() < 0.5:
            clients.append(asyncio.create_task(self._eraser(choice.choice(ids))))
        clients += [asyncio.create_task(self._worker(choice.choice(ids))) for _ in range(choice.choice((0, 0, 1, 2)))]
        crashes = asyncio.create_task(self._crashes())
        await asyncio.gather(*clients)
        crashes.cancel()
        await asyncio.gather(crashes, return_exceptions=True)
        self.chance.calm = True
        await self._rest()
        for process in self.processes:
            await process.crash()

    async def _rest(self) -> None:
        """Until nothing waits and nothing more is said."""
        for _ in range(60):
            before = len(self.log)
            await asyncio.sleep(40)  # longer than a lease and any round of the guardian
            if len(self.log) == before and not any(document["outbox"] for document in self.documents.values()):
                return
        raise AssertionError("it does not come to rest")

    async def _crashes(self) -> None:
        while True:
            await asyncio.sleep(self.chance.random.uniform(0.05, 20))
            n = self.chance.random.randrange(len(self.processes))
            dead, self.processes[n] = self.processes[n], Process(self)
            await dead.crash()

    async def _client(self, id: str, amount: int) -> None:
        await asyncio.sleep(self.chance.random.uniform(0, 3))
        applied = await self._insist(id, Op(f"add {amount}", "body", "command"), add(id, amount))
        self.done[(id, amount)] = applied

    async def _eraser(self, id: str) -> None:
        await asyncio.sleep(self.chance.random.uniform(0, 5))
        await self._insist(id, Op("erase", "body", "command"), erase(id))

    async def _worker(self, id: str) -> None:
        """A service's own long work: claims the lease, makes many steps and renewals, and lets the lease go."""
        await asyncio.sleep(self.chance.random.uniform(0, 5))
        claimed = await self._until_answered(lambda counters: counters.update(id, Op.once(), _claim))
        run = claimed.state.run if claimed.state else 0
        for _ in range(self.chance.random.randint(0, RECENT_OPERATIONS + 8)):
            if self.chance.random.random() < 0.3:
                await self._until_answered(
                    lambda counters: counters.renew_lease(id, lambda counter: _renewed(counter, run))
                )
            else:
                await self._until_answered(lambda counters: counters.update(id, Op.once(), _step))
        # A claim whose crashed process could not say so has taken a later run: whoever ends, ends all of them.
        await self._until_answered(lambda counters: counters.update(id, Op.once(), _end))

    async def _until_answered(self, call: Callable[[Aggregates[Counter]], Coroutine[Any, Any, Any]]) -> Any:
        """Make the call again, at any replica, until there is an answer."""
        while True:
            process = self.chance.random.choice(self.processes)
            asking = process.start(call(process.counters))
            try:
                return await asyncio.shield(asking)
            except (asyncio.CancelledError, ConnectionFailure, TooBusy):
                await asyncio.sleep(self.chance.random.uniform(0.1, 2))

    async def _insist(self, id: str, op: Op, decide: Any) -> bool:
        """As a client does: again until there is an answer; now and then once more, even much later."""
        while True:
            saved = await self._until_answered(lambda counters: counters.update(id, op, decide))
            if self.chance.random.random() < 0.7:
                return bool(saved.changed or saved.repeated)
            if self.chance.random.random() < 0.3:
                await asyncio.sleep(self.chance.random.uniform(1, 60))


def _machine_time() -> datetime:
    return BEGINNING + timedelta(seconds=asyncio.get_running_loop().time())


def _claim(counter: Counter | None) -> tuple[Counter, list[OutgoingEvent]] | None:
    if counter is None or counter.gone:
        return None
    return counter.model_copy(update={"run": counter.run + 1, "lease": _machine_time() + WORK_LEASE}), []


def _renewed(counter: Counter, run: int) -> datetime | None:
    return _machine_time() + WORK_LEASE if counter.run == run else None


def _step(counter: Counter | None) -> tuple[Counter, list[OutgoingEvent]] | None:
    return None if counter is None else (counter, [])


def _end(counter: Counter | None) -> tuple[Counter, list[OutgoingEvent]] | None:
    return None if counter is None else (counter.model_copy(update={"run": counter.run + 1, "lease": None}), [])


def topics_of(log: Iterable[Line], key: str) -> tuple[list[Line], list[Line]]:
    """What was said of one counter on the compacted topic, and on the other."""
    mine = [line for line in log if line.key == key]
    return [line for line in mine if line.topic == COUNTERS.name], [line for line in mine if line.topic == COUNTS.name]


def simulate(seed: int) -> Simulation:
    loop = VirtualLoop()
    try:
        made = Simulation(seed)
        loop.run_until_complete(made.run())
        return made
    finally:
        loop.close()
