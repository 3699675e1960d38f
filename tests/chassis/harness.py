"""A small world for the tests of the protocol: a counter, real servers, and faults at named points.

The counter says ``counter.changed`` on a compacted topic and ``counter.counted`` on one that is kept for a time. Faults
are injected by wrapping what the code under test is given (a collection, a producer); it has no hooks of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, cast

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.core.clocks import Clock
from chassis.core.commands import Op
from chassis.core.connection import Connection
from chassis.messaging.guardian import Guardian
from chassis.messaging.kafka import Producer, read_topic
from chassis.messaging.provisioning import provision_indexes, provision_topics
from chassis.messaging.records import KafkaRecord
from chassis.messaging.relay import RecordSender, Relay
from chassis.storage.aggregates import Aggregates, Decide, State
from chassis.storage.mongo import Collection, Document, Mongo
from contracts.envelope import (
    Envelope,
    EventData,
    OutgoingEvent,
    Tombstone,
    Topic,
    dead_letters_of,
    retries_of,
    source_of,
)

SERVICE = "toys"
COUNTERS = Topic("counters.v1", "compact", partitions=3)
COUNTS = Topic("counts.v1", "time", partitions=3)
WHISPERS = Topic("whispers.v1", "time", partitions=1, readers=("toys",))
TOPICS = (COUNTERS, COUNTS, WHISPERS, dead_letters_of(SERVICE), retries_of(SERVICE))


class CounterChanged(EventData):
    TYPE = "toys.counter.changed.v1"
    TOPIC = COUNTERS
    KEY = "counter_id"

    counter_id: str
    value: int


class Counted(EventData):
    TYPE = "toys.counter.counted.v1"
    TOPIC = COUNTS
    KEY = "counter_id"

    counter_id: str
    by: int
    value: int
    note: str = ""


class Whispered(EventData):
    TYPE = "toys.whispered.v1"
    TOPIC = WHISPERS
    KEY = "counter_id"

    counter_id: str
    secret: str


class Counter(State):
    counter_id: str
    value: int = 0
    gone: bool = False
    run: int = 0
    """How often work on the counter was taken up; the number of whoever holds its lease."""
    added: tuple[int, ...] = ()
    """Every amount that was added, so that a test sees what was applied, and how often."""

    LARGEST: ClassVar[int] = 10_000_000


def counter_event(counter: Counter) -> OutgoingEvent:
    if counter.gone:
        return Tombstone(CounterChanged, counter.counter_id)
    return CounterChanged(counter_id=counter.counter_id, value=counter.value)


def add(id: str, amount: int, note: str = "") -> Decide[Counter]:
    """Add to a counter; a counter that is gone stays gone."""

    def decide(counter: Counter | None) -> tuple[Counter, Sequence[OutgoingEvent]] | None:
        now = counter or Counter(counter_id=id)
        if now.gone:
            return None
        after = now.model_copy(update={"value": now.value + amount, "added": (*now.added, amount)})
        return after, [counter_event(after), Counted(counter_id=id, by=amount, value=after.value, note=note)]

    return decide


def set_fields(id: str, **fields: Any) -> Decide[Counter]:
    """Change the state and say nothing."""

    def decide(counter: Counter | None) -> tuple[Counter, Sequence[OutgoingEvent]]:
        return (counter or Counter(counter_id=id)).model_copy(update=fields), []

    return decide


def erase(id: str) -> Decide[Counter]:
    def decide(counter: Counter | None) -> tuple[Counter, Sequence[OutgoingEvent]] | None:
        if counter is None or counter.gone:
            return None
        after = Counter(counter_id=id, gone=True, added=counter.added)
        return after, [counter_event(after)]

    return decide


class AdjustableClock(Clock):
    """A clock whose machine time can be moved on."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = timedelta()

    def machine_now(self) -> datetime:
        return datetime.now(UTC) + self.moved


class FaultInjector:
    """An object whose methods fail, pause or are followed by something, as a test says.

    ``before[name]`` runs in front of each call of method ``name``, ``after[name]`` once it took effect and before the
    caller learns of it. What they raise, the caller gets. ``calls`` lists the methods called.
    """

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._inner, name)
        if name not in self.before and name not in self.after:
            return real

        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            if name in self.before:
                await self.before[name]()
            result = await real(*arguments, **named)
            if name in self.after:
                await self.after[name]()
            return result

        return call


def fail_once(
    error: BaseException, first: Callable[[], Awaitable[object]] | None = None
) -> Callable[[], Awaitable[None]]:
    """Raise ``error`` the first time, after doing ``first``; nothing from then on."""
    done: list[bool] = []

    async def fault() -> None:
        if done:
            return
        done.append(True)
        if first is not None:
            await first()
        raise error

    return fault


@dataclass
class Replica:
    """One process of the service, with its own producer, relay and view of the collection."""

    world: "ChassisHarness"
    producer: Producer
    wire: FaultInjector
    relay: Relay
    store: FaultInjector
    counters: Aggregates[Counter]
    running: list["asyncio.Task[None]"] = field(default_factory=list)

    def start(self) -> None:
        """Let the relay run; without this, a test drives it by hand."""
        self.running.append(asyncio.create_task(self.relay.run()))

    async def stop(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        await self.producer.stop()

    async def publish(self, *documents: Document) -> None:
        """Send the events of these documents as they were read, and nothing more: no clean-up."""
        await self.relay.publish([(self.counters, document) for document in documents])

    async def document(self, id: str) -> Document:
        found = await self.world.collection.find_one({"_id": id})
        assert found is not None
        return found

    def guardian(self) -> Guardian:
        return Guardian(
            COUNTERS,
            self.counters,
            connection=self.world.connection,
            producer=self.producer,
            prefix=self.world.prefix,
            clock=self.world.clock,
        )


@dataclass
class ChassisHarness:
    connection: Connection
    mongo: Mongo
    prefix: str
    clock: AdjustableClock
    replicas: list[Replica] = field(default_factory=list)

    @property
    def collection(self) -> Collection:
        return self.mongo.collection("counters")

    async def replica(self, *, running: bool = True) -> Replica:
        producer = Producer(self.connection)
        await producer.start()
        wire, store = FaultInjector(producer), FaultInjector(self.collection)
        relay = Relay(cast("RecordSender", wire), SERVICE, self.prefix, self.clock)
        counters: Aggregates[Counter] = Aggregates(
            cast("Collection", store), Counter, SERVICE, relay, self.clock, {COUNTERS: counter_event}
        )
        made = Replica(self, producer, wire, relay, store, counters)
        if running:
            made.start()
        self.replicas.append(made)
        return made

    async def said(self, topic: Topic, key: str | None = None) -> list[KafkaRecord]:
        """What a reader from the beginning finds on a topic, in order of partition and offset."""
        found = [record async for record in read_topic(self.connection, self.prefix, topic.name)]
        return [record for record in found if key is None or record.key == key.encode()]

    async def stored(self, id: str) -> Counter:
        document = await self.collection.find_one({"_id": id})
        return Counter.model_validate(document)


@asynccontextmanager
async def open_harness(kafka: str, mongo_url: str, prefix: str) -> AsyncIterator[ChassisHarness]:
    mongo = Mongo(mongo_url, f"{prefix.rstrip('.')}_{SERVICE}")
    connection = Connection(kafka)
    await provision_topics(connection, TOPICS, prefix, replication=1, min_in_sync=1)
    await provision_indexes(mongo, ["counters"], ["copies"])
    made = ChassisHarness(connection, mongo, prefix, AdjustableClock())
    try:
        yield made
    finally:
        for replica in made.replicas:
            await replica.stop()
        mongo.close()


async def set_max_record_bytes(toys: ChassisHarness, topic: Topic, largest: int) -> None:
    """Change how large a record the broker takes."""
    admin = AIOKafkaAdminClient(**toys.connection.client_arguments())
    await admin.start()
    try:
        name = topic.full_name(toys.prefix)
        resource = ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(largest)})
        await admin.alter_configs([resource])

        async def known() -> bool:
            [described] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
            settings = {entry[0]: entry[1] for entry in described.resources[0][4]}
            return bool(settings.get("max.message.bytes") == str(largest))

        await eventually(known, f"{name} takes at most {largest} bytes")
    finally:
        await admin.close()


def op(key: str, request: str = "") -> Op:
    return Op(key, request)


def envelope_of(record: KafkaRecord) -> Envelope:
    return Envelope.from_headers(record.headers)


def event_ids(records: Sequence[KafkaRecord]) -> list[str]:
    return [envelope_of(record).id for record in records]


def envelope(kind: type[EventData], key: str, sequence: int, id: str) -> Envelope:
    return Envelope(
        id=id,
        type=kind.TYPE,
        source=source_of(SERVICE),
        subject=key,
        time=datetime.now(UTC),
        sequence=sequence,
        correlationid=key,
    )


def outbox_is_empty(toys: ChassisHarness, id: str) -> Callable[[], Awaitable[bool]]:
    """Whether all events of the counter are published and cleaned up."""

    async def check() -> bool:
        document = await toys.collection.find_one({"_id": id})
        return document is not None and not document["outbox"] and document.get("outbox_since") is None

    return check


async def eventually(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool], what: str, seconds: float = 20.0
) -> None:
    """Wait until the condition holds; fails with ``what`` when it does not in time."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                held = condition()
                if isinstance(held, bool):
                    if held:
                        return
                elif await held:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"in {seconds:g} s it did not come about: {what}") from None
