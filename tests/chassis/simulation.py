"""Random schedules of the protocol: the real aggregates, relay and guardian on an in-memory store and broker.

Time is virtual. Every step of the store and the broker takes a random time, so a seed determines a schedule. Some steps
take longer than a lease. A connection breaks before a write, after it, or before a write that is still applied later. A
replica crashes between any two steps and is started again. Only the operations that the code under test uses exist
here; `test_simulation.py` and `test_memory_store.py` compare them with the real store.
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

START_TIME = datetime(2026, 1, 1, tzinfo=UTC)
WORK_LEASE = timedelta(seconds=20)


class _VirtualSelector(selectors.DefaultSelector):
    """Never waits: moves the loop's clock forward instead."""

    seconds = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.seconds += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._selector = _VirtualSelector()
        super().__init__(self._selector)

    def time(self) -> float:
        return self._selector.seconds


class VirtualClock(Clock):
    def machine_now(self) -> datetime:
        return START_TIME + timedelta(seconds=asyncio.get_running_loop().time())


@dataclass
class FaultSchedule:
    """Random delays and faults of each step; with ``calm`` there are no faults."""

    random: random.Random
    calm: bool = False

    async def step(self) -> None:
        stall = not self.calm and self.random.random() < 0.03
        await asyncio.sleep(self.random.uniform(1, 60) if stall else self.random.uniform(0.001, 0.05))

    def fails(self, probability: float) -> bool:
        return not self.calm and self.random.random() < probability


class FaultyCollection:
    """The collection as one replica sees it. ``documents`` is shared by all replicas."""

    name = "counters"

    def __init__(self, documents: dict[str, Document], faults: FaultSchedule) -> None:
        self._documents = documents
        self._faults = faults

    async def _write(self, apply: Any) -> Any:
        """Apply a write after a random time, or lose the connection before it or after it."""
        await self._faults.step()
        if self._faults.fails(0.06):
            if self._faults.fails(0.5):  # the write is still under way, and is applied later
                later = self._faults.random.uniform(0.01, 5)
                asyncio.get_running_loop().call_later(later, self._apply_if_new, apply)
            raise ConnectionFailure("lost before")
        result = apply()
        await self._faults.step()
        if self._faults.fails(0.06):
            raise ConnectionFailure("lost after")
        return result

    @staticmethod
    def _apply_if_new(apply: Any) -> None:
        try:
            apply()
        except DuplicateKeyError:
            return

    async def find_one(self, filter: Mapping[str, Any]) -> Document | None:
        await self._faults.step()
        matching = [d for d in self._documents.values() if matches(d, filter)]
        result = copy.deepcopy(matching[0]) if matching else None
        await self._faults.step()
        return result

    def find(self, filter: Mapping[str, Any], _fields: object = None) -> "FaultyCursor":
        return FaultyCursor(self, filter)

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
        matching = [d for d in self._documents.values() if matches(d, filter)]
        if matching:
            self._documents[document["_id"]] = copy.deepcopy(document)
        return SimpleNamespace(matched_count=len(matching[:1]))

    def _update(self, filter: Mapping[str, Any], change: Mapping[str, Any]) -> SimpleNamespace:
        matching = [d for d in self._documents.values() if matches(d, filter)][:1]
        for document in matching:
            for name, value in change.get("$set", {}).items():
                document[name] = copy.deepcopy(value)
            for name, condition in change.get("$pull", {}).items():
                document[name] = [item for item in document[name] if not matches(item, condition)]
        assert set(change) <= {"$set", "$pull"}
        return SimpleNamespace(matched_count=len(matching))


class FaultyCursor:
    def __init__(self, collection: FaultyCollection, filter: Mapping[str, Any]) -> None:
        self._collection, self._filter = collection, filter
        self._by = "_id"
        self._limit = 0

    def sort(self, field: str, direction: int) -> "FaultyCursor":
        assert direction == 1
        self._by = field
        return self

    def limit(self, limit: int) -> "FaultyCursor":
        self._limit = limit
        return self

    async def __aiter__(self) -> AsyncIterator[Document]:
        await self._collection._faults.step()
        matching = [copy.deepcopy(d) for d in self._collection._documents.values() if matches(d, self._filter)]
        matching.sort(key=lambda document: document[self._by])
        for document in matching[: self._limit or None]:
            yield document
            await self._collection._faults.step()


@dataclass(frozen=True)
class LogRecord:
    """One record of the in-memory broker."""

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


class FaultyProducer:
    """Keeps the order of one replica's records, like an idempotent producer. A crash loses the records under way."""

    def __init__(self, log: list[LogRecord], faults: FaultSchedule) -> None:
        self._log, self._faults = log, faults
        self._queue: asyncio.Queue[tuple[LogRecord, asyncio.Future[None]]] = asyncio.Queue()

    async def send(
        self, topic: str, *, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((LogRecord(topic, key.decode(), value, tuple(headers)), future))
        return future

    async def deliver(self, topic: str, **record: Any) -> None:
        await (await self.send(topic, **record))

    async def renew(self) -> None:
        await self._faults.step()

    async def run(self) -> None:
        while True:
            record, future = await self._queue.get()
            await self._faults.step()
            self._log.append(record)
            await self._faults.step()
            if not future.done():
                future.set_result(None)


@dataclass
class SimulatedProcess:
    """One replica. A crash cancels all of its tasks."""

    simulation: "Simulation"
    tasks: list["asyncio.Task[Any]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        faults, clock = self.simulation.faults, VirtualClock()
        self.producer = FaultyProducer(self.simulation.log, faults)
        self.relay = Relay(self.producer, SERVICE, "", clock)
        self.counters: Aggregates[Counter] = Aggregates(
            cast("Collection", FaultyCollection(self.simulation.documents, faults)),
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
            await asyncio.sleep(self.simulation.faults.random.uniform(1, 10))
            try:
                await self.relay.sweep(self.counters)
            except ConnectionFailure:
                continue

    async def _guard(self) -> None:
        position = 0
        while True:
            await asyncio.sleep(self.simulation.faults.random.uniform(0.1, 3))
            for record in self.simulation.log[position:]:
                if record.topic == COUNTERS.name:
                    raw = SimpleNamespace(key=record.key.encode(), value=record.value, headers=record.headers)
                    self.guardian.observe(cast("RawRecord", raw))
            position = len(self.simulation.log)
            await self.guardian.republish_outdated()


class Simulation:
    """Some replicas and clients under faults, then a calm time. A client retries every unconfirmed operation."""

    def __init__(self, seed: int) -> None:
        self.faults = FaultSchedule(random.Random(seed))
        self.documents: dict[str, Document] = {}
        self.log: list[LogRecord] = []
        # By counter and amount: whether the client got the response that the amount was added.
        self.confirmed: dict[tuple[str, int], bool] = {}
        self.processes: list[SimulatedProcess] = []

    async def run(self) -> None:
        choice = self.faults.random
        self.processes = [SimulatedProcess(self) for _ in range(choice.randint(1, 3))]
        ids = ["a", "b"][: choice.randint(1, 2)]
        clients = [asyncio.create_task(self._run_client(choice.choice(ids), n)) for n in range(1, choice.randint(4, 9))]
        if choice.random() < 0.5:
            clients.append(asyncio.create_task(self._run_eraser(choice.choice(ids))))
        clients += [
            asyncio.create_task(self._run_worker(choice.choice(ids))) for _ in range(choice.choice((0, 0, 1, 2)))
        ]
        crashes = asyncio.create_task(self._crash_randomly())
        await asyncio.gather(*clients)
        crashes.cancel()
        await asyncio.gather(crashes, return_exceptions=True)
        self.faults.calm = True
        await self._wait_until_quiet()
        for process in self.processes:
            await process.crash()

    async def _wait_until_quiet(self) -> None:
        """Wait until all outboxes are empty and nothing more is published."""
        for _ in range(60):
            before = len(self.log)
            await asyncio.sleep(40)  # longer than a lease and any round of the guardian
            if len(self.log) == before and not any(document["outbox"] for document in self.documents.values()):
                return
        raise AssertionError("the system does not come to rest")

    async def _crash_randomly(self) -> None:
        while True:
            await asyncio.sleep(self.faults.random.uniform(0.05, 20))
            n = self.faults.random.randrange(len(self.processes))
            dead, self.processes[n] = self.processes[n], SimulatedProcess(self)
            await dead.crash()

    async def _run_client(self, id: str, amount: int) -> None:
        await asyncio.sleep(self.faults.random.uniform(0, 3))
        applied = await self._send_command(id, Op(f"add {amount}", "body", "command"), add(id, amount))
        self.confirmed[(id, amount)] = applied

    async def _run_eraser(self, id: str) -> None:
        await asyncio.sleep(self.faults.random.uniform(0, 5))
        await self._send_command(id, Op("erase", "body", "command"), erase(id))

    async def _run_worker(self, id: str) -> None:
        """A long task of a service: claims the lease, makes many steps and renewals, and releases the lease."""
        await asyncio.sleep(self.faults.random.uniform(0, 5))
        claimed = await self._call_until_answered(lambda counters: counters.update(id, Op.once(), _claim))
        run = claimed.state.run if claimed.state else 0
        for _ in range(self.faults.random.randint(0, RECENT_OPERATIONS + 8)):
            if self.faults.random.random() < 0.3:
                await self._call_until_answered(
                    lambda counters: counters.renew_lease(id, lambda counter: _renew(counter, run))
                )
            else:
                await self._call_until_answered(lambda counters: counters.update(id, Op.once(), _step))
        # A claim of a crashed process may have started a later run without an answer. The end closes every run.
        await self._call_until_answered(lambda counters: counters.update(id, Op.once(), _end))

    async def _call_until_answered(self, call: Callable[[Aggregates[Counter]], Coroutine[Any, Any, Any]]) -> Any:
        """Repeat the call, at any replica, until there is an answer."""
        while True:
            process = self.faults.random.choice(self.processes)
            call_task = process.start(call(process.counters))
            try:
                return await asyncio.shield(call_task)
            except (asyncio.CancelledError, ConnectionFailure, TooBusy, TimeoutError):
                await asyncio.sleep(self.faults.random.uniform(0.1, 2))

    async def _send_command(self, id: str, op: Op, decide: Any) -> bool:
        """Behave like a client: repeat until there is an answer, and sometimes once more, even much later."""
        while True:
            saved = await self._call_until_answered(lambda counters: counters.update(id, op, decide))
            if self.faults.random.random() < 0.7:
                return bool(saved.changed or saved.repeated)
            if self.faults.random.random() < 0.3:
                await asyncio.sleep(self.faults.random.uniform(1, 60))


def _machine_time() -> datetime:
    return START_TIME + timedelta(seconds=asyncio.get_running_loop().time())


def _claim(counter: Counter | None) -> tuple[Counter, list[OutgoingEvent]] | None:
    if counter is None or counter.gone:
        return None
    return counter.model_copy(update={"run": counter.run + 1, "lease": _machine_time() + WORK_LEASE}), []


def _renew(counter: Counter, run: int) -> datetime | None:
    return _machine_time() + WORK_LEASE if counter.run == run else None


def _step(counter: Counter | None) -> tuple[Counter, list[OutgoingEvent]] | None:
    return None if counter is None else (counter, [])


def _end(counter: Counter | None) -> tuple[Counter, list[OutgoingEvent]] | None:
    return None if counter is None else (counter.model_copy(update={"run": counter.run + 1, "lease": None}), [])


def records_of(log: Iterable[LogRecord], key: str) -> tuple[list[LogRecord], list[LogRecord]]:
    """The records of one counter on the compacted topic, and on the other topic."""
    records = [record for record in log if record.key == key]
    return [record for record in records if record.topic == COUNTERS.name], [
        record for record in records if record.topic == COUNTS.name
    ]


def simulate(seed: int) -> Simulation:
    loop = VirtualLoop()
    try:
        simulation = Simulation(seed)
        loop.run_until_complete(simulation.run())
        return simulation
    finally:
        loop.close()
