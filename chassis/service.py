"""The frame of every service: start, wait for the servers, run, stop.

The ``__main__`` of a service calls ``run("name", build, port)``; ``build`` makes a ``ServiceDefinition`` from the
``Chassis``. HTTP answers from the start, and the health report names what is missing. Everything else begins when
MongoDB and Kafka answer, and is started again when it fails. SIGTERM and Ctrl-C stop the service in order: it reports
itself not ready, answers on for the time of ``drain_s``, finishes open requests, then the current batch, and closes its
connections at last. A second signal cuts the waiting short.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from fastapi import APIRouter
from uvicorn.loops.auto import auto_loop_factory

from chassis.core.clocks import Clock
from chassis.core.settings import Settings, SettingsError, load_settings
from chassis.gc_tuning import run_gc_tuning
from chassis.messaging.consumer import Consumer
from chassis.messaging.dead_letters import DeadLetters
from chassis.messaging.guardian import Guardian
from chassis.messaging.kafka import Producer
from chassis.messaging.provisioning import find_topics, prepare_topics
from chassis.messaging.reachability import start_producer
from chassis.messaging.relay import Relay
from chassis.messaging.subscriptions import HandlerRegistry
from chassis.observability import telemetry
from chassis.observability.health import Health
from chassis.observability.logs import REPEAT_INTERVAL_S
from chassis.storage.aggregates import Aggregates, AggregateState
from chassis.storage.indexes import provision_indexes
from chassis.storage.mongo import Documents, Index, Mongo
from chassis.storage.projections import Projection
from chassis.storage.store_profile import PROFILES
from chassis.sweeps import Sweep, run_relay_sweep, run_sweep
from chassis.web.http import create_app
from chassis.web.management import create_management_app
from chassis.web.server import serve_http
from contracts.envelope import EPOCH, EventData, OutgoingEvent, Topic, dead_letters_of, retries_of

log = logging.getLogger(__name__)

C = TypeVar("C")
S = TypeVar("S", bound=AggregateState)
A = TypeVar("A", bound=Aggregates[Any])
D = TypeVar("D", bound=Documents)
E = TypeVar("E", bound=EventData)

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 5.0  # seconds before the next attempt: doubled each time, up to the maximum
WATCH_INTERVAL_S = 2.0  # seconds between two checks of the servers and of the lag
DRAIN_TIMEOUT_S = 10.0  # seconds in which the relay publishes the last events at a stop
CANCEL_TIMEOUT_S = 10.0  # seconds after which a task that still runs is cancelled again
PING_TIMEOUT_S = 5.0  # seconds in which a healthy server answers


@dataclass
class ServiceDefinition(Generic[C]):
    """The parts of a service. ``publishes``: its topics. ``problems``: the HTTP status of each of its errors."""

    context: C
    handlers: HandlerRegistry[C]
    routers: Sequence[APIRouter]
    publishes: Sequence[Topic]
    sweeps: Sequence[Sweep[Any]] = ()
    background: Sequence[Callable[[], Awaitable[None]]] = ()


class Chassis:
    """The collections, clock and settings from which ``build`` makes a service."""

    def __init__(self, service: str, settings: Settings) -> None:
        self.service = service
        self.settings = settings
        self.clock = Clock(settings.clock)
        self.health = Health(self.clock.machine_now)
        self.mongo = Mongo(settings.mongo_url(), settings.database_name(service), PROFILES[settings.mongo_profile])
        self.producer = Producer(settings.connection())
        self.relay = Relay(self.producer, service, settings.topic_prefix, self.clock)
        self._aggregates: dict[str, Aggregates[Any]] = {}
        self._projections: list[str] = []
        self._indexes: dict[str, Sequence[Index]] = {}

    def aggregates(
        self,
        name: str,
        model: type[S],
        publishes: Mapping[Topic, Callable[[S], OutgoingEvent]] | None = None,
        indexes: Sequence[Index] = (),
    ) -> Aggregates[S]:
        """A collection of aggregates; ``publishes`` maps each compacted topic to the event that carries the state.

        The key of those topics must be the aggregate's id. ``indexes`` serve the queries of the service.
        """
        return self.aggregate_store(Aggregates[S], name, model, publishes, indexes)

    def aggregate_store(
        self,
        store: type[A],
        name: str,
        model: type[S],
        publishes: Mapping[Topic, Callable[[S], OutgoingEvent]] | None = None,
        indexes: Sequence[Index] = (),
    ) -> A:
        """Like ``aggregates``, for a service's own subclass with the queries of this collection."""
        aggregates = store(
            self.mongo.collection(name), model, self.service, self.relay, self.clock, publishes, self.mongo.profile
        )
        self._aggregates[name] = aggregates
        self._indexes[name] = indexes
        return aggregates

    def projection(self, name: str, model: type[E], indexes: Sequence[Index] = ()) -> Projection[E]:
        self._projections.append(name)
        self._indexes[name] = indexes
        return Projection(self.mongo.collection(name), model, self.mongo.profile)

    def documents(self, name: str, indexes: Sequence[Index] = ()) -> Documents:
        return self.document_store(Documents, name, indexes)

    def document_store(self, store: type[D], name: str, indexes: Sequence[Index] = ()) -> D:
        """Like ``documents``, for a service's own subclass with the queries of this collection."""
        self._indexes[name] = indexes
        return store(self.mongo.collection(name), self.mongo.profile)

    def all_aggregates(self) -> list[Aggregates[Any]]:
        return list(self._aggregates.values())

    async def prepare_database(self) -> None:
        """Create the indexes and read the epoch; raises the driver's errors."""
        await self.mongo.ping()
        await provision_indexes(self.mongo, list(self._aggregates), self._projections, self._indexes)
        epoch = await self.documents("chassis").get("epoch")
        for aggregates in self._aggregates.values():
            aggregates.begin_epoch((epoch or {"value": 0})["value"] * EPOCH)

    async def prepare_topics(self, reads: Sequence[Topic], writes: Sequence[Topic]) -> None:
        settings = self.settings
        await prepare_topics(
            settings.connection(),
            reads,
            writes,
            settings.topic_prefix,
            create=settings.create_topics == "auto",
            replication=settings.replication,
            min_in_sync=settings.min_in_sync,
        )

    async def find_topics(self, topics: Sequence[Topic]) -> list[Topic]:
        """Those of the topics that the broker has."""
        return await find_topics(self.settings.connection(), topics, self.settings.topic_prefix)

    def guardians(self) -> list[Guardian]:
        return [
            Guardian(
                topic,
                aggregates,
                connection=self.settings.connection(),
                producer=self.producer,
                prefix=self.settings.topic_prefix,
                clock=self.clock,
            )
            for aggregates in self._aggregates.values()
            for topic in aggregates.publishes
        ]


def run(service: str, build: Callable[[Chassis], ServiceDefinition[Any]], port: int) -> None:
    """Run a service until a signal stops it. Ends the process with status 2 when a setting is wrong."""
    try:
        settings = load_settings(default_port=port)
        telemetry.configure(service, settings)
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:  # uvloop where it is installed
            runner.run(_serve(Chassis(service, settings), build))
    except SettingsError as error:
        sys.stderr.write(f"{service} cannot start:\n{error}\n")
        sys.exit(2)
    finally:
        telemetry.shutdown()


def _serve_management(chassis: Chassis) -> AbstractAsyncContextManager[object]:
    settings = chassis.settings
    return serve_http(
        create_management_app(settings, chassis.health),
        settings,
        settings.management_host,
        settings.find_management_port(),
        "MANAGEMENT_PORT",
    )


async def _serve(chassis: Chassis, build: Callable[[Chassis], ServiceDefinition[Any]]) -> None:
    definition = build(chassis)
    app = create_app(
        chassis.service,
        chassis.settings,
        routers=definition.routers,
        context=definition.context,
    )
    stop, hurry = asyncio.Event(), asyncio.Event()

    def stop_or_hurry() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_hurry)
    # HTTP ends before the work does: an open request still needs the database and the producer.
    async with (
        _cancelled_at_end(_run(chassis, definition)) as work,
        _serve_management(chassis),
        serve_http(app, chassis.settings, chassis.settings.http_host, chassis.settings.port()),
    ):
        await _wait_for_any(stop.wait(), work)
        if not work.done():
            chassis.health.begin_drain()
            log.info("not ready any more; requests are answered for %.1f s", chassis.settings.drain_s)
            await _wait_for_any(hurry.wait(), work, timeout_s=chassis.settings.drain_s)
    log.info("stopped")


@asynccontextmanager
async def _cancelled_at_end(work: Coroutine[Any, Any, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Run the work beside the block, and cancel it at the block's end. Raises the error of the work."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _wait_for_any(
    event: Coroutine[Any, Any, object], work: "asyncio.Task[None]", timeout_s: float | None = None
) -> None:
    """Wait until the event happens, the work ends, or the time is over."""
    happening = asyncio.ensure_future(event)
    await asyncio.wait({happening, work}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    happening.cancel()


async def _run(chassis: Chassis, definition: ServiceDefinition[Any]) -> None:
    settings = chassis.settings
    reads = [*definition.handlers.topics(), retries_of(chassis.service)]
    reads += [topic for topic in definition.publishes if topic.cleanup == "compact"]  # for the guardian
    writes = [*definition.publishes, dead_letters_of(chassis.service)]
    topics = list(dict.fromkeys([*reads, *writes]))
    former: list[Topic] = []

    async def prepare_topics() -> None:
        await chassis.prepare_topics(reads, writes)
        former[:] = await chassis.find_topics(definition.handlers.former_topics())

    await _wait_for(chassis.health, "mongodb", chassis.prepare_database)
    await _wait_for(chassis.health, "kafka", partial(start_producer, chassis.producer, settings.connection()))
    await _wait_for(chassis.health, "kafka", prepare_topics)
    dead_letters = DeadLetters(
        chassis.producer,
        settings.connection(),
        chassis.service,
        settings.topic_prefix,
        [*topics, *former],
        chassis.clock,
    )
    consumer = Consumer(
        chassis.service,
        definition.handlers,
        definition.context,
        dead_letters,
        chassis.health,
        connection=settings.connection(),
        prefix=settings.topic_prefix,
        group=settings.consumer_group(chassis.service),
        instance=settings.instance,
        former_topics=former,
    )
    tasks = [asyncio.create_task(_supervise(name, work)) for name, work in _background_work(chassis, definition)]
    try:
        await _wait_for(chassis.health, "consumer", consumer.start)
        log.info("ready")
        await _watch(chassis, consumer)
    finally:
        await _shutdown(chassis, consumer, tasks)


def _background_work(
    chassis: Chassis, definition: ServiceDefinition[Any]
) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
    """The tasks beside HTTP and the consumer, each with its name for the log."""
    return [
        ("garbage collection", run_gc_tuning),
        ("relay", chassis.relay.run),
        *((f"relay sweep {a.name}", partial(run_relay_sweep, chassis.relay, a)) for a in chassis.all_aggregates()),
        *((f"sweep {s.aggregates.name} {s.on}", partial(run_sweep, s, chassis.clock)) for s in definition.sweeps),
        *((f"guardian {g.topic.name}", g.run) for g in chassis.guardians()),
        *((f"background {n}", work) for n, work in enumerate(definition.background)),
    ]


async def _shutdown(chassis: Chassis, consumer: Consumer[Any], tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Finish the current batch, publish the saved events, and close every connection."""
    await consumer.stop()
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            await chassis.relay.wait_until_idle()
    except TimeoutError:
        log.warning("some events are not published yet; they stay in the outboxes and are published at the next start")
    await _cancel_all(tasks)
    await chassis.producer.stop()
    chassis.mongo.close()


async def _cancel_all(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel the tasks until all have ended.

    One cancellation may not be enough: before Python 3.12 ``asyncio.wait_for``, which libraries use, swallows a
    cancellation that arrives at the moment in which it completes.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_TIMEOUT_S)


def _stopping() -> bool:
    """Whether this task was cancelled, even if a library swallowed the cancellation (see ``_cancel_all``)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _wait_for(health: Health, name: str, attempt: Callable[[], Awaitable[None]]) -> None:
    """Try until it succeeds; health and log name the dependency and the reason meanwhile.

    The same reason is logged once a minute.
    """
    logged_at: dict[str, float] = {}
    for wait in _backoffs():
        if _stopping():
            break
        try:
            await attempt()
        except Exception as error:  # noqa: BLE001 - any error is reported and tried again
            reason = telemetry.safe_message(error)
            health.report_dependency(name, ok=False, detail=reason)
            if time.monotonic() - logged_at.get(reason, float("-inf")) >= REPEAT_INTERVAL_S:
                logged_at = {reason: time.monotonic()}
                log.warning("waiting for %s: %s; trying again until it answers", name, reason)
            await asyncio.sleep(wait)
        else:
            health.report_dependency(name, ok=True)
            return
    raise asyncio.CancelledError


async def _supervise(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run a task of the frame, and start it again whenever it fails.

    A task that fails after it was cancelled is not started again.
    """
    for wait in _backoffs():
        try:
            await work()
            return
        except Exception:
            if _stopping():
                log.exception("%s failed while it was stopped", name)
                return
            log.exception("%s failed; starting it again in %.1f s", name, wait)
        await asyncio.sleep(wait)


def _backoffs() -> Iterator[float]:
    """Seconds to wait after each failure, without end."""
    wait = FIRST_BACKOFF_S
    while True:
        yield wait
        wait = min(wait * 2, MAX_BACKOFF_S)


async def _watch(chassis: Chassis, consumer: Consumer[Any]) -> None:
    """Check the servers and the consumer's lag until the service is stopped."""
    while not _stopping():
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await chassis.mongo.ping()
            chassis.health.report_dependency("mongodb", ok=True)
        except Exception as error:  # noqa: BLE001 - any error is reported and tried again
            chassis.health.report_dependency("mongodb", ok=False, detail=telemetry.safe_message(error))
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await chassis.producer.ping()
            chassis.health.report_dependency("kafka", ok=True)
            await consumer.report_lag()
        except Exception as error:  # noqa: BLE001 - any error is reported and tried again
            chassis.health.report_dependency("kafka", ok=False, detail=telemetry.safe_message(error))
        await asyncio.sleep(WATCH_INTERVAL_S)
