"""A service that only listens: it copies counters, counts what it hears, and fails where a test says so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chassis.messaging.consumer import Consumer
from chassis.messaging.dead_letters import DeadLetters
from chassis.messaging.kafka import Producer
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from chassis.observability.health import Health
from chassis.storage.projections import Projection
from tests.chassis.harness import SERVICE, TOPICS, ChassisHarness, Counted, CounterChanged, Whispered

Failing = Callable[[str], Awaitable[None]]


async def _never(_: str) -> None:
    pass


@dataclass
class Ears:
    """``heard`` has (key, what) in order of handling; ``fails`` is called with the event's id before it is heard."""

    copies: Projection[CounterChanged]
    heard: list[tuple[str, object]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    fails: Failing = _never
    at_work: int = 0
    most_at_work: int = 0


hearing: HandlerRegistry[Ears] = HandlerRegistry()
hearing.project(CounterChanged, lambda ears: ears.copies)


@hearing.on(CounterChanged)
async def when_a_counter_changes_note_it(event: ReceivedEvent[CounterChanged], ears: Ears) -> None:
    await ears.fails(event.envelope.id)
    ears.heard.append((event.data.counter_id, event.data.value))
    ears.events.append(event.envelope.id)


@hearing.on_tombstone(CounterChanged)
async def when_a_counter_is_gone_note_it(event: ReceivedTombstone, ears: Ears) -> None:
    await ears.fails(event.envelope.id)
    ears.heard.append((event.key, None))
    ears.events.append(event.envelope.id)


@hearing.on(Counted)
async def when_something_is_counted_note_it(event: ReceivedEvent[Counted], ears: Ears) -> None:
    ears.at_work += 1
    ears.most_at_work = max(ears.most_at_work, ears.at_work)
    try:
        await ears.fails(event.envelope.id)
        await asyncio.sleep(0)
    finally:
        ears.at_work -= 1
    ears.heard.append((event.data.counter_id, event.data.by))
    ears.events.append(event.envelope.id)


@hearing.on(Whispered)
async def when_something_is_whispered_note_it(event: ReceivedEvent[Whispered], ears: Ears) -> None:
    await ears.fails(event.envelope.id)
    ears.heard.append((event.data.counter_id, "whispered"))
    ears.events.append(event.envelope.id)


@dataclass
class Listener:
    ears: Ears
    consumer: Consumer[Ears]
    health: Health
    letters: DeadLetters
    producer: Producer


@asynccontextmanager
async def listener(
    toys: ChassisHarness, *, started: bool = True, instance: str = "one", patience: float = 2.0
) -> AsyncIterator[Listener]:
    """One replica of the listening service; ``started`` false leaves out Kafka, for ``consumer.process`` by hand."""
    producer = Producer(toys.connection)
    await producer.start()
    health = Health(toys.clock.machine_now)
    ears = Ears(Projection(toys.mongo.collection("copies"), CounterChanged))
    letters = DeadLetters(producer, toys.connection, SERVICE, toys.prefix, TOPICS, toys.clock)
    consumer = Consumer(
        SERVICE,
        hearing,
        ears,
        letters,
        health,
        connection=toys.connection,
        prefix=toys.prefix,
        group=toys.prefix + SERVICE,
        instance=instance,
        retry_budget_s=patience,
    )
    if started:
        await consumer.start()
    try:
        yield Listener(ears, consumer, health, letters, producer)
    finally:
        if started:
            await consumer.stop()
        await producer.stop()
