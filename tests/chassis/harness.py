"""The test harness of the chassis: a small service with one aggregate, real servers, and faults at named points.

The aggregate is a counter. It publishes ``counter.changed`` on a compacted topic and ``counter.counted`` on a topic
with a retention time. A fault is injected by wrapping an object that the code under test receives, such as a collection
or a producer. The code under test has no hooks of its own.
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
from chassis.core.connection import Connection
from chassis.messaging.guardian import Guardian
from chassis.messaging.kafka import Producer, read_topic
from chassis.messaging.provisioning import provision_topics
from chassis.messaging.records import KafkaRecord
from chassis.messaging.relay import RecordSender, Relay
from chassis.storage.aggregates import Aggregates, Decide, State
from chassis.storage.indexes import provision_indexes
from chassis.storage.mongo import Collection, Document, Mongo
from chassis.storage.store_profile import EMBEDDED
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
from tests.patience import patience

SERVICE = "toys"
COUNTERS = Topic("counters.v1", "compact", partitions=3, writers=(SERVICE,))
COUNTS = Topic("counts.v1", "time", partitions=3, writers=(SERVICE,))
WHISPERS = Topic("whispers.v1", "time", partitions=1, writers=(SERVICE,), readers=("toys",))
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
    """How often work on the counter was started; the run that holds the lease has this number."""
    added: tuple[int, ...] = ()
    """Every amount that was added, so that a test sees which amounts were applied, and how often."""

    LARGEST: ClassVar[int] = 10_000_000


def counter_event(counter: Counter) -> OutgoingEvent:
    if counter.gone:
        return Tombstone(CounterChanged, counter.counter_id)
    return CounterChanged(counter_id=counter.counter_id, value=counter.value)


def add(id: str, amount: int, note: str = "") -> Decide[Counter]:
    """Add to a counter; an erased counter stays erased."""

    def decide(counter: Counter | None) -> tuple[Counter, Sequence[OutgoingEvent]] | None:
        before = counter or Counter(counter_id=id)
        if before.gone:
            return None
        after = before.model_copy(update={"value": before.value + amount, "added": (*before.added, amount)})
        return after, [counter_event(after), Counted(counter_id=id, by=amount, value=after.value, note=note)]

    return decide


def set_fields(id: str, **fields: Any) -> Decide[Counter]:
    """Change the state and publish nothing."""

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
    """A clock whose machine time can be moved forward by ``offset``."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = timedelta()

    def machine_now(self) -> datetime:
        return datetime.now(UTC) + self.offset


class FaultInjector:
    """Wraps an object and runs a test's function before or after its methods.

    ``before[name]`` runs before each call of the method ``name``. ``after[name]`` runs when the call has taken effect,
    before its result is returned. The caller gets their errors. ``calls`` lists the called methods.
    """

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in self.before and name not in self.after:
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            if name in self.before:
                await self.before[name]()
            result = await method(*arguments, **named)
            if name in self.after:
                await self.after[name]()
            return result

        return call


def fail_once(
    error: BaseException, action: Callable[[], Awaitable[object]] | None = None
) -> Callable[[], Awaitable[None]]:
    """A fault for ``FaultInjector``: the first call runs ``action`` and raises ``error``, later calls do nothing."""
    is_done = False

    async def fault() -> None:
        nonlocal is_done
        if is_done:
            return
        is_done = True
        if action is not None:
            await action()
        raise error

    return fault


@dataclass
class ServiceReplica:
    """One process of the service, with its own producer, relay and view of the collection."""

    harness: "ChassisHarness"
    producer: Producer
    producer_faults: FaultInjector
    relay: Relay
    collection_faults: FaultInjector
    counters: Aggregates[Counter]
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def start(self) -> None:
        """Run the relay in the background. Without this call, a test drives it step by step."""
        self.tasks.append(asyncio.create_task(self.relay.run()))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.producer.stop()

    async def publish(self, *documents: Document) -> None:
        """Send the events of these documents as they were read, without the clean-up."""
        await self.relay.publish([(self.counters, document) for document in documents])

    async def read_document(self, id: str) -> Document:
        document = await self.harness.collection.find_one({"_id": id})
        assert document is not None
        return document

    def create_guardian(self) -> Guardian:
        return Guardian(
            COUNTERS,
            self.counters,
            connection=self.harness.connection,
            producer=self.producer,
            prefix=self.harness.prefix,
            clock=self.harness.clock,
        )


@dataclass
class ChassisHarness:
    """Connections to the servers, and the replicas that a test has started."""

    connection: Connection
    mongo: Mongo
    prefix: str
    clock: AdjustableClock
    replicas: list[ServiceReplica] = field(default_factory=list)

    @property
    def collection(self) -> Collection:
        return self.mongo.collection("counters")

    async def start_replica(self, *, running: bool = True) -> ServiceReplica:
        producer = Producer(self.connection)
        await producer.start()
        producer_faults, collection_faults = FaultInjector(producer), FaultInjector(self.collection)
        relay = Relay(cast("RecordSender", producer_faults), SERVICE, self.prefix, self.clock)
        counters: Aggregates[Counter] = Aggregates(
            cast("Collection", collection_faults),
            Counter,
            SERVICE,
            relay,
            self.clock,
            {COUNTERS: counter_event},
            EMBEDDED,
        )
        replica = ServiceReplica(self, producer, producer_faults, relay, collection_faults, counters)
        if running:
            replica.start()
        self.replicas.append(replica)
        return replica

    async def read_records(self, topic: Topic, key: str | None = None) -> list[KafkaRecord]:
        """All records of a topic, or those of one key, in order of partition and offset."""
        records = [record async for record in read_topic(self.connection, self.prefix, topic.name)]
        return [record for record in records if key is None or record.key == key.encode()]

    async def read_counter(self, id: str) -> Counter:
        document = await self.collection.find_one({"_id": id})
        return Counter.model_validate(document)


@asynccontextmanager
async def open_harness(kafka: str, mongo_url: str, prefix: str) -> AsyncIterator[ChassisHarness]:
    mongo = Mongo(mongo_url, f"{prefix.rstrip('.')}_{SERVICE}", EMBEDDED)
    connection = Connection(kafka)
    await provision_topics(connection, TOPICS, prefix, replication=1, min_in_sync=1)
    await provision_indexes(mongo, ["counters"], ["copies"])
    harness = ChassisHarness(connection, mongo, prefix, AdjustableClock())
    try:
        yield harness
    finally:
        for replica in harness.replicas:
            await replica.stop()
        mongo.close()


async def set_max_record_bytes(harness: ChassisHarness, topic: Topic, max_bytes: int) -> None:
    """Change the largest record that the broker accepts on a topic; returns when the change is in force."""
    admin = AIOKafkaAdminClient(**harness.connection.client_arguments())
    await admin.start()
    try:
        name = topic.full_name(harness.prefix)
        resource = ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(max_bytes)})
        await admin.alter_configs([resource])

        async def is_in_force() -> bool:
            [described] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
            settings = {entry[0]: entry[1] for entry in described.resources[0][4]}
            return bool(settings.get("max.message.bytes") == str(max_bytes))

        await eventually(is_in_force, f"{name} takes at most {max_bytes} bytes")
    finally:
        await admin.close()


def read_envelope(record: KafkaRecord) -> Envelope:
    return Envelope.from_headers(record.headers)


def event_ids(records: Sequence[KafkaRecord]) -> list[str]:
    return [read_envelope(record).id for record in records]


def build_envelope(kind: type[EventData], key: str, sequence: int, id: str) -> Envelope:
    return Envelope(
        id=id,
        type=kind.TYPE,
        source=source_of(SERVICE),
        subject=key,
        time=datetime.now(UTC),
        sequence=sequence,
        correlationid=key,
    )


def outbox_is_empty(harness: ChassisHarness, id: str) -> Callable[[], Awaitable[bool]]:
    """Whether all events of the counter are published and cleaned up."""

    async def check() -> bool:
        document = await harness.collection.find_one({"_id": id})
        return document is not None and not document["outbox"] and document.get("outbox_since") is None

    return check


async def eventually(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool], description: str, seconds: float = 5.0
) -> None:
    """Wait until the condition holds; fails with ``description`` when it does not hold within ``patience(seconds)``."""
    limit = patience(seconds)
    try:
        async with asyncio.timeout(limit):
            while True:
                holds = condition()
                if holds if isinstance(holds, bool) else await holds:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"in {limit:g} s this did not happen: {description}") from None
