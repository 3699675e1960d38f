"""A fake service that only consumes: it copies counters, notes the events it handles, and fails on request."""

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

Hook = Callable[[str], Awaitable[None]]


async def _do_nothing(_: str) -> None:
    pass


@dataclass
class FakeService:
    """The context of the handlers.

    ``handled``: (key, value) of each event in order of handling. ``before_handling`` is called with the id of an event
    before it is handled; a test makes it raise or wait. ``active``: handlers that run at this moment.
    """

    copies: Projection[CounterChanged]
    handled: list[tuple[str, object]] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    unfrozen: list[tuple[str, int]] = field(default_factory=list)
    before_handling: Hook = _do_nothing
    active: int = 0
    max_active: int = 0


handlers: HandlerRegistry[FakeService] = HandlerRegistry()
handlers.project(CounterChanged, lambda service: service.copies)


@handlers.on(CounterChanged)
async def when_a_counter_changes_record_it(event: ReceivedEvent[CounterChanged], service: FakeService) -> None:
    await service.before_handling(event.envelope.id)
    service.handled.append((event.data.counter_id, event.data.value))
    service.event_ids.append(event.envelope.id)


@handlers.on_tombstone(CounterChanged)
async def when_a_counter_is_erased_record_it(event: ReceivedTombstone, service: FakeService) -> None:
    await service.before_handling(event.envelope.id)
    service.handled.append((event.key, None))
    service.event_ids.append(event.envelope.id)


@handlers.on_unfreezing(CounterChanged)
async def when_a_counter_is_unfrozen_record_it(event: ReceivedEvent[CounterChanged], service: FakeService) -> None:
    service.unfrozen.append((event.data.counter_id, event.envelope.sequence))


@handlers.on(Counted)
async def when_something_is_counted_record_it(event: ReceivedEvent[Counted], service: FakeService) -> None:
    service.active += 1
    service.max_active = max(service.max_active, service.active)
    try:
        await service.before_handling(event.envelope.id)
        await asyncio.sleep(0)
    finally:
        service.active -= 1
    service.handled.append((event.data.counter_id, event.data.by))
    service.event_ids.append(event.envelope.id)


@handlers.on(Whispered)
async def when_something_is_whispered_record_it(event: ReceivedEvent[Whispered], service: FakeService) -> None:
    await service.before_handling(event.envelope.id)
    service.handled.append((event.data.counter_id, "whispered"))
    service.event_ids.append(event.envelope.id)


@dataclass
class FakeConsumer:
    """One replica of the fake service."""

    service: FakeService
    consumer: Consumer[FakeService]
    health: Health
    dead_letters: DeadLetters
    producer: Producer


@asynccontextmanager
async def run_fake_consumer(
    harness: ChassisHarness, *, started: bool = True, instance: str | None = "one", retry_budget_s: float = 2.0
) -> AsyncIterator[FakeConsumer]:
    """Run one replica of the fake service. Without ``started``, Kafka is left out and a test calls ``process``."""
    producer = Producer(harness.connection)
    await producer.start()
    health = Health(harness.clock.machine_now)
    service = FakeService(Projection(harness.mongo.collection("copies"), CounterChanged))
    dead_letters = DeadLetters(producer, harness.connection, SERVICE, harness.prefix, TOPICS, harness.clock)
    consumer = Consumer(
        SERVICE,
        handlers,
        service,
        dead_letters,
        health,
        connection=harness.connection,
        prefix=harness.prefix,
        group=harness.prefix + SERVICE,
        instance=instance,
        retry_budget_s=retry_budget_s,
    )
    if started:
        await consumer.start()
    try:
        yield FakeConsumer(service, consumer, health, dead_letters, producer)
    finally:
        if started:
            await consumer.stop()
        await producer.stop()
