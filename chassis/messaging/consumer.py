"""The consumer: batches, order per key, keys concurrently, commit after the effects.

The load-bearing invariants:

* a batch is committed only after every record of it had its effect, was skipped as unknown, or lies acknowledged among
  the dead letters; a transient failure rewinds the whole batch;
* the guard of a projection protects that write alone: reactions run for every event, however old;
* when most of what is handled fails for good, the consumer stops and is unhealthy, so that a bad deploy does not empty
  a topic into the dead letters.
"""

import asyncio
import dataclasses
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512
from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

from chassis.core.connection import Connection
from chassis.messaging.dead_letters import DeadLetters
from chassis.messaging.kafka import RawRecord, convert_record
from chassis.messaging.records import (
    KafkaRecord,
    PoisonRecord,
    ReadableRecord,
    ReadResult,
    SkippedRecord,
    dead_letter_origin,
    read_record,
)
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedTombstone
from chassis.observability import metrics
from chassis.observability.health import Health
from chassis.observability.telemetry import process_span, record_bulk_processing, record_failure
from chassis.storage import mongo
from chassis.storage.aggregates import TooBusy
from chassis.storage.projections import Contended, ProjectionRow
from contracts.envelope import Topic, retries_of

log = logging.getLogger(__name__)

C = TypeVar("C")

MAX_RECORDS = 1000
POLL_MS = 20  # FastStream waits this long, twice, for more records: the latency of an idle consumer
CONCURRENT_KEYS = 32  # keys whose reactions run concurrently
RETRY_BUDGET_S = 60.0  # seconds of retries in one batch before it is rewound; far below max.poll.interval, which is 300
MAX_BACKOFF_S = 5.0  # seconds between two tries
BREAKER_WINDOW = 100  # last records that count for the breaker
BREAKER_FAILURES = 20  # failures among them, and more than half, stop the consumer


class PermanentFailure(Exception):
    """A reaction says that trying again cannot help; its message holds no personal data."""


class ConsumerHalted(Exception):
    """The consumer has stopped because most records fail."""


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: the servers were out of reach, slow, or somebody else was faster."""
    if isinstance(error, KafkaError):
        return bool(error.retriable)
    return mongo.is_transient(error) or isinstance(error, Contended | TooBusy | TimeoutError | OSError)


@dataclasses.dataclass(frozen=True)
class HandlingFailure:
    """A record that failed for good. ``detail`` holds no data of the record."""

    record: KafkaRecord
    code: str
    detail: str


class Consumer(Generic[C]):
    """Hears for one replica of one service."""

    def __init__(
        self,
        service: str,
        handlers: HandlerRegistry[C],
        context: C,
        dead_letters: DeadLetters,
        health: Health,
        *,
        connection: Connection,
        prefix: str,
        group: str,
        instance: str,
        retry_budget_s: float = RETRY_BUDGET_S,
    ) -> None:
        self._service = service
        self._hearing = handlers
        self._context = context
        self._letters = dead_letters
        self._health = health
        self._prefix = prefix
        self._patience = retry_budget_s
        self._retries = retries_of(service)
        self._results: deque[bool] = deque(maxlen=BREAKER_WINDOW)
        self._closing = asyncio.Event()
        self._halted = False
        self._deadline = 0.0
        self._handled: dict[tuple[str, int], int] = {}
        self._watched: set[tuple[str, int]] = set()
        self._broker = KafkaBroker(
            connection.servers,
            security=_security(connection),
            logger=None,
            apply_types=False,
            consumer_only=True,
            allow_auto_create_topics=False,
            graceful_timeout=15.0,
        )
        self._subscriber = self._broker.subscriber(
            *(topic.full_name(prefix) for topic in self.topics()),
            group_id=group,
            group_instance_id=instance,
            batch=True,
            max_records=MAX_RECORDS,
            batch_timeout_ms=POLL_MS,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            no_reply=True,
            parser=_keep_originals,
            decoder=_originals,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
        )
        self._subscriber(self._heard)

    def topics(self) -> list[Topic]:
        return [*self._hearing.topics(), self._retries]

    async def start(self) -> None:
        await self._broker.start()

    async def stop(self) -> None:
        self._closing.set()
        await self._broker.stop()

    async def _heard(self, records: list[RawRecord]) -> None:
        await self.process([convert_record(record, self._prefix) for record in records])
        for record in records:
            self._handled[(record.topic, record.partition)] = record.offset + 1

    async def process(self, records: Sequence[KafkaRecord]) -> None:
        """Handle one batch; returning means that it may be committed. Raises what makes it come again."""
        if self._halted:
            await self._closing.wait()
            raise ConsumerHalted
        self._deadline = time.monotonic() + self._patience
        readings = [reading for record in records if (reading := await self._read(record)) is not None]
        events = [reading for reading in readings if isinstance(reading, ReadableRecord)]
        failures = [
            HandlingFailure(reading.record, reading.code, reading.detail)
            for reading in readings
            if isinstance(reading, PoisonRecord)
        ]
        failures += (unwritten := await self._project(events))
        passed_over = {id(failure.record) for failure in unwritten}
        failures += await self._react([event for event in events if id(event.record) not in passed_over])
        failed = {id(failure.record) for failure in failures}
        await self._stop_if_most_fail([id(reading.record) in failed for reading in readings])
        for failure in failures:
            log.error(
                "put aside among the dead letters",
                extra={"topic": failure.record.topic, "code": failure.code, "offset": failure.record.offset},
            )
            await self._put_aside(failure)
            metrics.count_dead_letter(self._service, failure.record.topic, failure.code)
        for reading in readings:
            if isinstance(reading, SkippedRecord):
                metrics.count_skipped(self._service, reading.record.topic)
        made: dict[tuple[str, str], list[datetime]] = {}
        for event in events:
            if id(event.record) not in failed:
                envelope = event.received.envelope
                made.setdefault((event.record.topic, envelope.type), []).append(envelope.time)
        for (topic, type), times in made.items():
            metrics.count_handled(self._service, topic, type, times)

    async def _read(self, record: KafkaRecord) -> ReadResult | None:
        if record.topic == self._retries.name:
            place = dead_letter_origin(record.headers)
            if place is None:
                return PoisonRecord(record, "bad_retry", "a retry without its dl-* headers")
            try:
                first = await self._again(lambda: self._letters.resolve(record, place))
            except LookupError:
                return PoisonRecord(record, "bad_retry", "a retry of a record from a topic that is not heard here")
            return None if first is None else read_record(first, self._hearing)
        return read_record(record, self._hearing)

    async def _project(self, events: Sequence[ReadableRecord]) -> list[HandlingFailure]:
        """Bring the projections up to date, each topic's in bulk."""
        by_type: dict[str, list[ReadableRecord]] = {}
        for event in events:
            by_type.setdefault(event.received.envelope.type, []).append(event)
        failures: list[HandlingFailure] = []
        for name, group in by_type.items():
            projection = self._hearing.find_projection(name, self._context)
            if projection is None:
                continue
            rows = [_row(event) for event in group]
            try:
                await self._again(lambda p=projection, r=rows: p.apply(r))  # type: ignore[misc]
            except Exception as error:
                if is_transient(error):
                    raise
                for event, row in zip(group, rows, strict=True):  # find the one that cannot be stored
                    try:
                        await self._again(lambda p=projection, r=row: p.apply([r]))  # type: ignore[misc]
                    except Exception as own:
                        if is_transient(own):
                            raise
                        failures.append(_failure(event, own))
        return failures

    async def _react(self, events: Sequence[ReadableRecord]) -> list[HandlingFailure]:
        """Run the reactions: those of one key one after the other, in order; keys concurrently."""
        by_key: dict[tuple[str, bytes | None], list[ReadableRecord]] = {}
        for event in events:
            if self._hearing.find_reactions(event.received):
                by_key.setdefault((event.record.topic, event.record.key), []).append(event)
            else:
                record = event.record
                record_bulk_processing(
                    self._prefix + record.topic, event.received.envelope, record.partition, record.offset
                )
        groups = iter(by_key.values())
        failures: list[HandlingFailure] = []

        async def follow_some() -> None:
            for group in groups:
                for event in group:
                    if (failure := await self._follow(event)) is not None:
                        failures.append(failure)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(CONCURRENT_KEYS, len(by_key))):
                    tasks.create_task(follow_some())
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from group_error
        return failures

    async def _follow(self, event: ReadableRecord) -> HandlingFailure | None:
        envelope = event.received.envelope
        with process_span(
            self._prefix + event.record.topic, envelope, event.record.partition, event.record.offset
        ) as span:
            for reaction in self._hearing.find_reactions(event.received):
                try:
                    await self._again(lambda r=reaction: r(event.received, self._context))  # type: ignore[misc]
                except Exception as error:
                    record_failure(span, error)
                    if is_transient(error):
                        raise
                    log.exception(
                        "a reaction failed for good", extra={"event_type": envelope.type, "event_id": envelope.id}
                    )
                    return _failure(event, error)
        return None

    async def _again(
        self, action: Callable[[], Awaitable[Any]], worth: Callable[[BaseException], bool] = is_transient
    ) -> Any:
        """Try until it succeeds, fails for good, or the batch's deadline has passed; then raises the last error."""
        try:
            return await action()  # nearly always; the machinery of retries costs more than many a reaction
        except Exception as error:
            if not worth(error) or time.monotonic() >= self._deadline:
                raise
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(worth),
            wait=wait_random_exponential(multiplier=0.1, max=MAX_BACKOFF_S),
            stop=lambda _: time.monotonic() >= self._deadline,
            reraise=True,
        ):
            metrics.count_retry(self._service)
            with attempt:
                return await action()
        raise AssertionError("a retry ends with a result or an error")

    async def _put_aside(self, failure: HandlingFailure) -> None:
        """Nothing else can be done with it, so whatever the broker says, it is tried within the deadline."""
        await self._again(
            lambda: self._letters.send(failure.record, failure.code, failure.detail),
            lambda error: is_transient(error) or isinstance(error, KafkaError),
        )

    async def _stop_if_most_fail(self, failed: Sequence[bool]) -> None:
        recent = deque(self._results, maxlen=BREAKER_WINDOW)
        recent.extend(failed)
        if _most(recent) or _most(failed):
            self._halted = True
            self._health.report_failure("most records fail for good; stopped before they all become dead letters")
            log.critical("most records fail for good; the consumer has stopped and nothing more is put aside")
            await self._closing.wait()
            raise ConsumerHalted
        self._results = recent

    async def report_lag(self) -> None:
        """Tell health and metrics how far behind this replica is; called at intervals."""
        consumer = self._subscriber.consumer
        if consumer is None:
            return
        assigned = consumer.assignment()
        for topic, partition in self._watched - {(place.topic, place.partition) for place in assigned}:
            metrics.clear_lag(self._service, topic.removeprefix(self._prefix), partition)
            self._handled.pop((topic, partition), None)  # another replica goes on from there
        self._watched = {(place.topic, place.partition) for place in assigned}
        for place in assigned:
            end = consumer.highwater(place)
            if end is None:
                continue
            position = self._handled.get((place.topic, place.partition))
            if position is None:
                position = await consumer.position(place)
            topic = place.topic.removeprefix(self._prefix)
            metrics.set_lag(self._service, topic, place.partition, max(0, end - position))
            self._health.report_progress(f"{topic}/{place.partition}", position, end)


def _most(failed: Collection[bool]) -> bool:
    return sum(failed) >= BREAKER_FAILURES and sum(failed) * 2 > len(failed)


def _row(event: ReadableRecord) -> ProjectionRow:
    heard = event.received
    return ProjectionRow(
        heard.envelope.subject, heard.envelope.sequence, None if isinstance(heard, ReceivedTombstone) else heard.data
    )


def _failure(event: ReadableRecord, error: Exception) -> HandlingFailure:
    if isinstance(error, PermanentFailure):
        return HandlingFailure(event.record, "refused", str(error))
    return HandlingFailure(
        event.record, "bug", f"{type(error).__name__} while {event.received.envelope.type} was handled"
    )


async def _keep_originals(message: tuple[RawRecord, ...], original: Callable[..., Awaitable[Any]]) -> Any:
    """Let the raw records through: FastStream would skip a header that is not UTF-8, and hide tombstones."""
    first: dict[tuple[str, int], RawRecord] = {}  # what it needs of a batch, to rewind each partition
    for record in message:
        first.setdefault((record.topic, record.partition), record)
    parsed = await original(tuple(dataclasses.replace(record, headers=()) for record in first.values()))
    parsed.originals = message
    parsed.consumer = _BatchPosition(parsed.consumer, message)
    return parsed


class _BatchPosition:
    """What FastStream commits and rewinds after a batch: the partitions of its records.

    aiokafka's own ``commit()`` would write down every partition that is assigned, some seventy, after each batch.
    """

    def __init__(self, consumer: AIOKafkaConsumer, records: Sequence[RawRecord]) -> None:
        self._consumer = consumer
        self._next: dict[TopicPartition, int] = {}
        for record in records:
            place = TopicPartition(record.topic, record.partition)
            self._next[place] = max(record.offset + 1, self._next.get(place, 0))

    async def commit(self) -> None:
        """What was taken away meanwhile is not ours to commit; whoever has it reads it again."""
        assigned = self._consumer.assignment()
        if ours := {place: offset for place, offset in self._next.items() if place in assigned}:
            await self._consumer.commit(ours)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._consumer.seek(partition, offset)


async def _originals(message: Any) -> list[RawRecord]:
    return list(message.originals)


def _security(connection: Connection) -> BaseSecurity | None:
    """The connection's protocol as FastStream takes it."""
    context = connection.client_arguments().get("ssl_context")
    if not connection.protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context) if context else None
    kinds = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return kinds[connection.mechanism or "PLAIN"](
        username=connection.username or "",
        password=connection.password or "",
        ssl_context=context,
        use_ssl=context is not None,
    )
