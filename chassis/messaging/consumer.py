"""The consumer: handles events in batches, in order for each key, different keys concurrently, and commits afterwards.

What always holds:

* A batch is committed only after each of its records had its effect, was skipped as unknown, or was acknowledged as a
  dead letter. A transient failure rewinds the whole batch.
* The guard of a projection protects only the projection's own write. Reactions run for every event, however old.
* A record of anybody but the writer of its topic and type has no effect.
* When most events fail in the handlers for good, the consumer stops and reports itself unhealthy. So a bad deploy does
  not empty a topic into the dead letters. Records that cannot be read count for nothing here: anybody who may write to
  a topic could stop the service with them.
"""

import asyncio
import dataclasses
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Generic, TypeVar, cast

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512
from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

from chassis.core.connection import Connection
from chassis.messaging.dead_letters import DeadLetters
from chassis.messaging.foreign_records import ForeignRecords
from chassis.messaging.kafka import RawRecord, convert_record
from chassis.messaging.records import (
    ForeignRecord,
    KafkaRecord,
    PoisonRecord,
    ReadableRecord,
    ReadResult,
    SkippedRecord,
    read_dead_letter_origin,
    read_record,
)
from chassis.messaging.safe_consumer import SafeConsumer
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from chassis.messaging.unfreezing import TOPIC_HEADER, find_newest, requested_key
from chassis.observability import metrics
from chassis.observability.health import Health
from chassis.observability.telemetry import process_span, record_bulk_processing, record_failure
from chassis.storage import mongo
from chassis.storage.aggregates import TooBusy
from chassis.storage.projections import Contended, Projection, ProjectionRow
from contracts.envelope import Topic, retries_of

log = logging.getLogger(__name__)

C = TypeVar("C")

MAX_RECORDS = 1000  # records in one batch
POLL_MS = 20  # FastStream waits this long, twice, for more records: the latency of an idle consumer
CONCURRENT_KEYS = 32  # keys whose reactions run concurrently
RETRY_BUDGET_S = 60.0  # retries within one batch before it is rewound; far below max.poll.interval, which is 300 s
MAX_BACKOFF_S = 5.0  # between two retries
BREAKER_WINDOW = 100  # last records that the circuit breaker considers
BREAKER_FAILURES = 20  # this many failures among them, and more than half, stop the consumer
SHUTDOWN_TIMEOUT_S = 15.0  # for the batch in hand
REBALANCE_TIMEOUT_S = 20.0  # without a partition for so long, a replica has no place in its group
REJOIN_WINDOW_S, MAX_REJOINS = 30.0, 10  # a replica that joins more often within the window is thrown out each time


class PermanentFailure(Exception):
    """A reaction cannot handle this event, now or later. The message holds no personal data."""


class ConsumerHalted(Exception):
    """The consumer has stopped because most records fail."""


def is_transient(error: BaseException) -> bool:
    """Whether a retry may help: servers were unreachable or slow, or another writer was faster."""
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
    """Consumes all topics of one service's handlers, and its retries topic, for one replica.

    ``instance``: the stable name of this replica in the group, or None. A named member keeps its partitions over a
    restart. A member without a name leaves the group when it stops.
    """

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
        instance: str | None,
        former_topics: Sequence[Topic] = (),
        retry_budget_s: float = RETRY_BUDGET_S,
    ) -> None:
        """``former_topics``: those topics of an earlier version that the broker still has."""
        self._service = service
        self._handlers = handlers
        self._context = context
        self._dead_letters = dead_letters
        self._health = health
        self._connection, self._prefix = connection, prefix
        self._former_topics = former_topics
        self._retry_budget_s = retry_budget_s
        self._retries_topic = retries_of(service)
        self._foreign = ForeignRecords(service)
        self._recent_failures: deque[bool] = deque(maxlen=BREAKER_WINDOW)
        self._closing = asyncio.Event()
        self._halted = False
        self._deadline = 0.0  # monotonic seconds at which the retries of the current batch end
        self._handled: dict[tuple[str, int], int] = {}  # by topic and partition: the next offset to be handled
        self._reported: set[tuple[str, int]] = set()  # topics and partitions whose lag is in the metrics
        self._assigned_at = 0.0  # monotonic seconds at which partitions were last assigned
        self._joins = _JoinRecorder()
        self._broker = KafkaBroker(
            connection.bootstrap_servers,
            security=_build_security(connection),
            logger=None,
            apply_types=False,
            consumer_only=True,
            allow_auto_create_topics=False,
            graceful_timeout=SHUTDOWN_TIMEOUT_S,
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
            parser=_keep_raw_records,
            decoder=_decode_raw_records,
            listener=self._joins,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
        )
        self._subscriber(self._handle_batch)

    @cached_property
    def _private_topics(self) -> frozenset[str]:
        return frozenset(topic.name for topic in self.topics() if topic.holds_private_acts)

    def topics(self) -> list[Topic]:
        return [*self._handlers.topics(), *self._former_topics, self._retries_topic]

    async def start(self) -> None:
        await self._broker.connect()
        config = self._broker.config.broker_config
        config.builder = partial(SafeConsumer, **config.builder.keywords)  # type: ignore[attr-defined]
        await self._broker.start()
        self._assigned_at = time.monotonic()

    async def stop(self) -> None:
        self._closing.set()
        await self._broker.stop()

    async def _handle_batch(self, records: list[RawRecord]) -> None:
        await self.process([convert_record(record, self._prefix) for record in records])
        for record in records:
            self._handled[(record.topic, record.partition)] = record.offset + 1

    async def process(self, records: Sequence[KafkaRecord]) -> None:
        """Handle one batch. After it returns, the batch may be committed; when it raises, the batch is read again."""
        if self._halted:
            await self._closing.wait()
            raise ConsumerHalted
        self._deadline = time.monotonic() + self._retry_budget_s
        results = [result for record in records if (result := await self._read(record)) is not None]
        events = [result for result in results if isinstance(result, ReadableRecord)]
        failures = [
            HandlingFailure(result.record, result.code, result.detail)
            for result in results
            if isinstance(result, PoisonRecord)
        ]
        failures += (unprojected := await self._update_projections(events))
        skip_reactions = {id(failure.record) for failure in unprojected}
        failures += await self._run_reactions([event for event in events if id(event.record) not in skip_reactions])
        failed = {id(failure.record) for failure in failures}
        await self._halt_if_most_fail([id(event.record) in failed for event in events])
        for failure in failures:
            await self._send_dead_letter(failure)
        self._count_results(results, failed)

    async def _read(self, record: KafkaRecord) -> ReadResult | None:
        """Parse a record. A record of the retries topic is first replaced by the record that it stands for.

        None when that record no longer exists.
        """
        if record.topic != self._retries_topic.name:
            return read_record(record, self._handlers)
        if (unfrozen := record.header(TOPIC_HEADER)) is not None:
            return await self._unfreeze(record, unfrozen)
        origin = read_dead_letter_origin(record.headers)
        if origin is None:
            return PoisonRecord(record, "bad_retry", "a retry without its dl-* headers")
        try:
            original = await self._retry(partial(self._dead_letters.resolve, record, origin))
        except LookupError:
            return PoisonRecord(record, "bad_retry", "a retry of a record from a topic that this service does not read")
        return None if original is None else read_record(original, self._handlers)

    async def _unfreeze(self, request: KafkaRecord, topic: str) -> ReadResult | None:
        """Let the row of one key take the newest record of its topic, which is then handled like any other.

        The topic is read again after the row's sequence was lowered: by then, a newer record may have been refused.
        """
        key = requested_key(request)
        if key is None or self._handlers.find_topic(topic) is None:
            return PoisonRecord(request, "bad_retry", "a request for a topic that this service does not read")
        find = partial(find_newest, self._connection, self._prefix, self._handlers, topic, key)
        newest = await self._retry(find)
        if newest is None:
            log.warning("nothing to unfreeze: the topic holds no record of this key", extra={"topic": topic})
            return None
        projection = self._handlers.find_projection(newest.received.envelope.type, self._context)
        assert projection is not None, "only such records are searched for"
        is_unfrozen = await self._retry(partial(projection.unfreeze, _build_row(newest)))
        log.warning("a row was unfrozen" if is_unfrozen else "the row is not frozen", extra={"topic": topic})
        newest = await self._retry(find)
        if newest is not None and isinstance(newest.received, ReceivedEvent):
            for reaction in self._handlers.find_unfreezing_reactions(newest.received.envelope.type):
                await self._retry(partial(reaction, newest.received, self._context))
        return cast("ReadResult | None", newest)

    async def _update_projections(self, events: Sequence[ReadableRecord]) -> list[HandlingFailure]:
        """Bring the projections up to date, each event type in bulk."""
        by_type: dict[str, list[ReadableRecord]] = {}
        for event in events:
            by_type.setdefault(event.received.envelope.type, []).append(event)
        failures: list[HandlingFailure] = []
        for name, group in by_type.items():
            if (projection := self._handlers.find_projection(name, self._context)) is not None:
                failures += await self._apply(projection, group)
        return failures

    async def _apply(self, projection: Projection[Any], events: Sequence[ReadableRecord]) -> list[HandlingFailure]:
        """Write the rows of these events in bulk; when that fails for good, one by one to find the unwritable rows."""
        rows = [_build_row(event) for event in events]
        try:
            await self._retry(partial(projection.apply, rows))
        except Exception as error:
            if is_transient(error):
                raise
        else:
            return []
        failures: list[HandlingFailure] = []
        for event, row in zip(events, rows, strict=True):
            try:
                await self._retry(partial(projection.apply, [row]))
            except Exception as error:
                if is_transient(error):
                    raise
                failures.append(_build_failure(event, error))
        return failures

    async def _run_reactions(self, events: Sequence[ReadableRecord]) -> list[HandlingFailure]:
        """Run the reactions: in order for one key, different keys concurrently."""
        by_key: dict[tuple[str, bytes | None], list[ReadableRecord]] = {}
        for event in events:
            record = event.record
            if self._handlers.find_reactions(event.received):
                by_key.setdefault((record.topic, record.key), []).append(event)
            else:
                record_bulk_processing(
                    self._prefix + record.topic, event.received.envelope, record.partition, record.offset
                )
        groups = iter(by_key.values())
        failures: list[HandlingFailure] = []

        async def process_groups() -> None:
            for group in groups:
                for event in group:
                    if (failure := await self._react_to(event)) is not None:
                        failures.append(failure)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(CONCURRENT_KEYS, len(by_key))):
                    tasks.create_task(process_groups())
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from group_error
        return failures

    async def _react_to(self, event: ReadableRecord) -> HandlingFailure | None:
        record, envelope = event.record, event.received.envelope
        with process_span(self._prefix + record.topic, envelope, record.partition, record.offset) as span:
            for reaction in self._handlers.find_reactions(event.received):
                try:
                    await self._retry(partial(reaction, event.received, self._context))
                except Exception as error:
                    record_failure(span, error)
                    if is_transient(error):
                        raise
                    log.exception(
                        "a reaction failed for good", extra={"event_type": envelope.type, "event_id": envelope.id}
                    )
                    return _build_failure(event, error)
        return None

    async def _retry(
        self, action: Callable[[], Awaitable[Any]], is_retriable: Callable[[BaseException], bool] = is_transient
    ) -> Any:
        """Try until ``action`` succeeds, fails for good, or the batch's deadline has passed; then raise its error."""
        try:
            return await action()  # the usual case; tenacity would cost more than many a reaction itself
        except Exception as error:
            if not is_retriable(error) or time.monotonic() >= self._deadline:
                raise
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(is_retriable),
            wait=wait_random_exponential(multiplier=0.1, max=MAX_BACKOFF_S),
            stop=lambda _: time.monotonic() >= self._deadline,
            reraise=True,
        ):
            metrics.count_retry(self._service)
            with attempt:
                return await action()
        raise AssertionError("a retry ends with a result or an error")

    async def _send_dead_letter(self, failure: HandlingFailure) -> None:
        """Move a failed record to the dead letters.

        Every error of the broker is retried until the deadline, since nothing else can be done with the record.
        """
        topic = failure.record.topic
        log.error(
            "moved to the dead letters",
            extra={"topic": topic, "code": failure.code, "offset": failure.record.offset},
        )
        await self._retry(
            partial(self._dead_letters.send, failure.record, failure.code, failure.detail),
            lambda error: is_transient(error) or isinstance(error, KafkaError),
        )
        metrics.count_dead_letter(self._service, topic, failure.code)

    def _count_results(self, results: Sequence[ReadResult], failed: Collection[int]) -> None:
        """Count skipped and handled records; ``failed`` holds the ``id()`` of the records that failed."""
        created: dict[tuple[str, str], list[datetime]] = {}
        for result in results:
            if isinstance(result, ForeignRecord):
                self._foreign.count(result.record.topic)
            elif isinstance(result, SkippedRecord):
                metrics.count_skipped(self._service, result.record.topic)
            elif isinstance(result, ReadableRecord) and id(result.record) not in failed:
                envelope = result.received.envelope
                created.setdefault((result.record.topic, envelope.type), []).append(envelope.time)
        for (topic, type), times in created.items():
            metrics.count_handled(self._service, topic, type, times, is_private=topic in self._private_topics)

    async def _halt_if_most_fail(self, failed: Sequence[bool]) -> None:
        recent = deque(self._recent_failures, maxlen=BREAKER_WINDOW)
        recent.extend(failed)
        if _are_mostly_failures(recent) or _are_mostly_failures(failed):
            self._halted = True
            self._health.report_failure("most records fail for good; stopped before they all become dead letters")
            log.critical("most records fail for good; the consumer has stopped and sends no more dead letters")
            await self._closing.wait()
            raise ConsumerHalted
        self._recent_failures = recent

    async def report_lag(self) -> None:
        """Report to health and metrics how far this replica is behind. Called at intervals."""
        consumer = self._subscriber.consumer
        if consumer is None:
            return
        assigned = consumer.assignment()
        self._report_membership(is_member=bool(assigned))
        current = {(partition.topic, partition.partition) for partition in assigned}
        for topic, number in self._reported - current:  # another replica goes on from there
            metrics.clear_lag(self._service, topic.removeprefix(self._prefix), number)
            self._handled.pop((topic, number), None)
        self._reported = current
        for partition in assigned:
            end = consumer.highwater(partition)
            if end is None:
                continue
            position = self._handled.get((partition.topic, partition.partition))
            if position is None:
                position = await consumer.position(partition)
            topic = partition.topic.removeprefix(self._prefix)
            lag = max(0, end - position)
            is_private = topic in self._private_topics
            metrics.set_lag(self._service, topic, partition.partition, lag, is_private=is_private)
            self._health.report_progress(f"{topic}/{partition.partition}", position, end)

    def _report_membership(self, *, is_member: bool) -> None:
        """Report a replica without a place in its group as not ready; a usual rebalance is no reason.

        Two replicas of one name throw each other out for ever, and the client reports no error.
        """
        if is_member:
            self._assigned_at = time.monotonic()
        detail = ""
        if self._joins.count_recent() > MAX_REJOINS:
            detail = "this replica is thrown out of its group again and again: does another one have the same "
            detail += "VICEVERSA_INSTANCE?"
        elif time.monotonic() - self._assigned_at >= REBALANCE_TIMEOUT_S:
            detail = "no partition is left for this replica: there are more replicas than partitions"
        self._health.report_dependency("consumer", ok=not detail, detail=detail)


class _JoinRecorder(ConsumerRebalanceListener):
    """Remembers when partitions were last assigned to this replica."""

    def __init__(self) -> None:
        self._joined_at: deque[float] = deque(maxlen=MAX_REJOINS + 1)

    async def on_partitions_revoked(self, _: Collection[TopicPartition]) -> None: ...

    async def on_partitions_assigned(self, _: Collection[TopicPartition]) -> None:
        self._joined_at.append(time.monotonic())

    def count_recent(self) -> int:
        since = time.monotonic() - REJOIN_WINDOW_S
        return sum(joined_at >= since for joined_at in self._joined_at)


def _are_mostly_failures(failed: Collection[bool]) -> bool:
    return sum(failed) >= BREAKER_FAILURES and sum(failed) * 2 > len(failed)


def _build_row(event: ReadableRecord) -> ProjectionRow:
    received = event.received
    data = None if isinstance(received, ReceivedTombstone) else received.data
    return ProjectionRow(received.envelope.subject, received.envelope.sequence, data)


def _build_failure(event: ReadableRecord, error: Exception) -> HandlingFailure:
    if isinstance(error, PermanentFailure):
        return HandlingFailure(event.record, "refused", str(error))
    return HandlingFailure(
        event.record, "bug", f"{type(error).__name__} while {event.received.envelope.type} was handled"
    )


async def _keep_raw_records(message: tuple[RawRecord, ...], parse: Callable[..., Awaitable[Any]]) -> Any:
    """Keep the raw records of a batch: FastStream would drop a header that is not UTF-8, and hide tombstones.

    FastStream's own parser sees only the first record of each partition, which it needs to rewind the partition.
    """
    first: dict[tuple[str, int], RawRecord] = {}
    for record in message:
        first.setdefault((record.topic, record.partition), record)
    parsed = await parse(tuple(dataclasses.replace(record, headers=()) for record in first.values()))
    parsed.raw_records = message
    parsed.consumer = _BatchPosition(parsed.consumer, message)
    return parsed


class _BatchPosition:
    """Stands in for the consumer when FastStream commits or rewinds a batch: only the partitions of its records.

    aiokafka's own ``commit()`` would write every assigned partition, some seventy, after each batch.
    """

    def __init__(self, consumer: AIOKafkaConsumer, records: Sequence[RawRecord]) -> None:
        self._consumer = consumer
        self._next_offsets: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            self._next_offsets[partition] = max(record.offset + 1, self._next_offsets.get(partition, 0))

    async def commit(self) -> None:
        """Commit the partitions that are still assigned. The new owner of any other one reads its records again."""
        assigned = self._consumer.assignment()
        offsets = {partition: offset for partition, offset in self._next_offsets.items() if partition in assigned}
        if offsets:
            await self._consumer.commit(offsets)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._consumer.seek(partition, offset)


async def _decode_raw_records(message: Any) -> list[RawRecord]:
    return list(message.raw_records)


def _build_security(connection: Connection) -> BaseSecurity | None:
    """The security settings of the connection in FastStream's form."""
    context = connection.client_arguments().get("ssl_context")
    if not connection.protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context) if context else None
    mechanisms = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return mechanisms[connection.mechanism or "PLAIN"](
        username=connection.username or "",
        password=connection.password or "",
        ssl_context=context,
        use_ssl=context is not None,
    )
