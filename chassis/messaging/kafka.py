"""Kafka: the producer, and readers without a consumer group."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from chassis.core.connection import Connection
from chassis.messaging.records import KafkaRecord
from chassis.messaging.safe_consumer import SafeConsumer

log = logging.getLogger(__name__)

RawRecord: TypeAlias = ConsumerRecord[bytes, bytes]

# The largest record of all topics is a dead letter: 1,000,000 bytes and 64 KiB. The client itself rejects a larger one:
# a rejection by the broker would make the idempotent producer unusable.
MAX_REQUEST_BYTES = 1_000_000 + 64 * 1024 - 1024
READ_TIMEOUT_S = 20.0  # for reading one record
FLUSH_TIMEOUT_S = 5.0  # for the last records of a producer
POLL_MS = 500


class Producer:
    """An idempotent producer that waits for all in-sync replicas, and can be renewed after a fatal error."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None
        self._renewing = asyncio.Lock()
        self._stopping: set[asyncio.Task[None]] = set()  # producers that still deliver their last records

    async def start(self) -> None:
        self._producer = await self._connect()

    async def _connect(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._connection.client_arguments(),
            acks="all",
            enable_idempotence=True,
            max_request_size=MAX_REQUEST_BYTES,
            max_batch_size=128 * 1024,
            linger_ms=0,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def stop(self) -> None:
        """Deliver the records under way and disconnect. Gives up after a while when no broker answers."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            self._stop_in_background(producer)
        if self._stopping:
            _, late = await asyncio.wait(self._stopping, timeout=FLUSH_TIMEOUT_S)
            for task in late:
                task.cancel()

    def _stop_in_background(self, producer: AIOKafkaProducer) -> "asyncio.Task[None]":
        task = asyncio.create_task(producer.stop())
        self._stopping.add(task)
        task.add_done_callback(self._on_stopped)
        return task

    def _on_stopped(self, task: "asyncio.Task[None]") -> None:
        self._stopping.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a producer did not stop cleanly: %s", type(error).__name__)

    async def send(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[Any]":
        """Hand over a record. The future is done when the record is acknowledged."""
        if self._producer is None:
            raise ConnectionError("the producer is not connected")
        return await self._producer.send(topic, key=key, value=value, headers=headers)

    async def deliver(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        """Send a record and wait for its acknowledgement. An error that is not retriable renews the producer."""
        try:
            await (await self.send(topic, key=key, value=value, headers=headers))
        except KafkaError as error:
            if not error.retriable:
                await self.renew()
            raise

    async def ping(self) -> None:
        """Raises a Kafka error or ``ConnectionError`` when no broker answers."""
        if self._producer is None:
            raise ConnectionError("the producer is not connected")
        if not await self._producer.client.force_metadata_update():
            raise ConnectionError("no broker answers")

    async def renew(self) -> None:
        """Replace the producer: after some errors it would reject every later record of a partition.

        Raises a Kafka error when no broker answers; the old producer stays then. The records of the old producer are
        still delivered or fail, so each of their futures ends.
        """
        async with self._renewing:
            new = await self._connect()
            old, self._producer = self._producer, new
            if old is not None:
                await asyncio.wait({self._stop_in_background(old)}, timeout=FLUSH_TIMEOUT_S)


@asynccontextmanager
async def open_reader(
    connection: Connection, topic: str, *, min_fetch_bytes: int = 1
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of all partitions of a topic without a group: it commits nothing and affects no other reader.

    ``min_fetch_bytes``: the broker waits for this many bytes, at most half a second, before it answers.
    Raises ``LookupError`` when the broker has no such topic.
    """
    consumer = SafeConsumer(
        topic,
        **connection.client_arguments(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_min_bytes=min_fetch_bytes,
    )
    try:
        await consumer.start()
        if not consumer.partitions_for_topic(topic):
            raise LookupError(f"the broker has no topic {topic}; `viceversa provision` creates what is missing")
        yield consumer
    finally:
        await consumer.stop()


def convert_record(record: RawRecord, prefix: str) -> KafkaRecord:
    """Convert aiokafka's record: the topic loses its prefix, and a null header value becomes empty."""
    return KafkaRecord(
        topic=record.topic.removeprefix(prefix),
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=tuple((name, value or b"") for name, value in record.headers),
        timestamp=record.timestamp,
    )


def list_partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic) or ())]


async def is_at_end(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> bool:
    """Whether the consumer has read all of these partitions to their current end."""
    ends = await consumer.end_offsets(list(partitions))
    return all([await consumer.position(partition) >= ends[partition] for partition in partitions])


async def read_offset_ranges(connection: Connection, prefix: str, topic: str) -> dict[int, tuple[int, int]]:
    """First and next offset of each partition, by its number."""
    async with open_reader(connection, prefix + topic) as consumer:
        partitions = list_partitions(consumer, prefix + topic)
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
        return {partition.partition: (first[partition], end[partition]) for partition in partitions}


async def read_topic(connection: Connection, prefix: str, topic: str) -> AsyncIterator[KafkaRecord]:
    """Every record that a topic holds at the start of the call, for each partition in order of offsets."""
    async with open_reader(connection, prefix + topic) as consumer:
        ends = await consumer.end_offsets(list_partitions(consumer, prefix + topic))
        await consumer.seek_to_beginning()
        while any([await consumer.position(partition) < end for partition, end in ends.items() if end]):
            for partition, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield convert_record(record, prefix)


async def read_key(
    connection: Connection, prefix: str, topic: str, key: str, since: datetime | None = None
) -> AsyncIterator[KafkaRecord]:
    """Every record of one key that a topic holds at the start of the call, in order.

    Reads only the partition that our producers choose for the key; another producer may have chosen another one.
    ``since``: skip records written before this machine time.
    """
    async with open_reader(connection, prefix + topic) as consumer:
        partitions = list_partitions(consumer, prefix + topic)
        partition = DefaultPartitioner()(key.encode(), partitions, partitions)
        consumer.pause(*(other for other in partitions if other != partition))
        end = (await consumer.end_offsets([partition]))[partition]
        start = await _find_offset_since(consumer, partition, since)
        if start is None:
            return
        consumer.seek(partition, start)
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(partition, timeout_ms=POLL_MS)).values():
                for record in records:
                    if record.offset < end and record.key == key.encode():
                        yield convert_record(record, prefix)


async def _find_offset_since(
    consumer: AIOKafkaConsumer, partition: TopicPartition, since: datetime | None
) -> int | None:
    """The first offset written at ``since`` or later; None when there is none."""
    if since is None:
        return int((await consumer.beginning_offsets([partition]))[partition])
    start = (await consumer.offsets_for_times({partition: int(since.timestamp() * 1000)}))[partition]
    return None if start is None else int(start.offset)


async def read_record(
    connection: Connection, prefix: str, topic: str, partition: int, offset: int
) -> KafkaRecord | None:
    """The record at an offset; None when it no longer exists or never did. Raises ``TimeoutError``."""
    async with open_reader(connection, prefix + topic) as consumer:
        partitions = list_partitions(consumer, prefix + topic)
        target = TopicPartition(prefix + topic, partition)
        if target not in partitions:
            return None
        consumer.pause(*(other for other in partitions if other != target))
        first = (await consumer.beginning_offsets([target]))[target]
        end = (await consumer.end_offsets([target]))[target]
        if not first <= offset < end:
            return None
        consumer.seek(target, offset)
        async with asyncio.timeout(READ_TIMEOUT_S):
            while await consumer.position(target) <= offset:
                for records in (await consumer.getmany(target, timeout_ms=POLL_MS, max_records=1)).values():
                    for record in records:
                        return convert_record(record, prefix) if record.offset == offset else None
        return None
