"""Kafka: connection, the producer, and plain readers without a group."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from chassis.core.connection import Connection
from chassis.messaging.records import KafkaRecord

log = logging.getLogger(__name__)

RawRecord: TypeAlias = ConsumerRecord[bytes, bytes]

# The largest record of all topics is a dead letter: 1,000,000 bytes and 64 KiB. The client refuses what is larger by
# itself, before the broker sees it: a refusal by the broker would poison the idempotent producer.
MAX_REQUEST = 1_000_000 + 64 * 1024 - 1024


REACH = 20.0  # seconds that reading one record may take
FLUSH = 5.0  # seconds that a producer may take for its last records


class Producer:
    """An idempotent producer that waits for all in-sync replicas, and can be renewed after a fatal error."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None
        self._renewing = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()  # old producers that still have records under way

    async def start(self) -> None:
        self._producer = await self._connected()

    async def _connected(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._connection.client_arguments(),
            acks="all",
            enable_idempotence=True,
            max_request_size=MAX_REQUEST,
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
        """Deliver what is under way and disconnect; gives up on it after a while, when no broker answers."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            self._leave(producer)
        if self._leaving:
            _, late = await asyncio.wait(self._leaving, timeout=FLUSH)
            for task in late:
                task.cancel()

    def _leave(self, producer: AIOKafkaProducer) -> "asyncio.Task[None]":
        task = asyncio.create_task(producer.stop())
        self._leaving.add(task)
        task.add_done_callback(self._left)
        return task

    def _left(self, task: "asyncio.Task[None]") -> None:
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a producer did not stop cleanly: %s", type(error).__name__)

    async def send(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[Any]":
        """Hand a record over; the future is done when it is acknowledged."""
        if self._producer is None:
            raise ConnectionError("the producer is not connected")
        return await self._producer.send(topic, key=key, value=value, headers=headers)

    async def deliver(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        """Send, and wait until it is acknowledged; what cannot be tried again leaves a producer that works."""
        try:
            await (await self.send(topic, key=key, value=value, headers=headers))
        except KafkaError as error:
            if not error.retriable:
                await self.renew()
            raise

    async def ping(self) -> None:
        """Raises an error of Kafka when no broker answers."""
        if self._producer is None:
            raise ConnectionError("the producer is not connected")
        if not await self._producer.client.force_metadata_update():
            raise ConnectionError("no broker answers")

    async def renew(self) -> None:
        """Replace the producer: after some errors it would refuse every later record of a partition.

        Raises an error of Kafka when no broker answers; then the old producer stays. What the old one had taken is
        delivered or fails, in its own time: nobody waits in vain for an acknowledgement.
        """
        async with self._renewing:
            new = await self._connected()
            old, self._producer = self._producer, new
            if old is not None:
                await asyncio.wait({self._leave(old)}, timeout=FLUSH)


@asynccontextmanager
async def open_reader(
    connection: Connection, topic: str, *, min_fetch_bytes: int = 1
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of all partitions of a topic without a group: it commits nothing and disturbs nobody.

    ``gathers``: so many bytes the broker gathers, for half a second at most, before it answers; for who is in no hurry.
    Raises ``LookupError`` when the broker has no such topic.
    """
    consumer = AIOKafkaConsumer(
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
    """Without the prefix of its topic; header values that are absent become empty."""
    return KafkaRecord(
        topic=record.topic.removeprefix(prefix),
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=tuple((name, value or b"") for name, value in record.headers),
        timestamp=record.timestamp,
    )


def topic_partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic) or ())]


async def read_offset_ranges(connection: Connection, prefix: str, topic: str) -> dict[int, tuple[int, int]]:
    """First and next offset of each partition."""
    async with open_reader(connection, prefix + topic) as consumer:
        partitions = topic_partitions(consumer, prefix + topic)
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
        return {place.partition: (first[place], end[place]) for place in partitions}


async def read_topic(connection: Connection, prefix: str, topic: str) -> AsyncIterator[KafkaRecord]:
    """Every record that a topic holds now, partition by partition in order of offsets."""
    async with open_reader(connection, prefix + topic) as consumer:
        ends = await consumer.end_offsets(topic_partitions(consumer, prefix + topic))
        await consumer.seek_to_beginning()
        while any([await consumer.position(place) < end for place, end in ends.items() if end]):
            for place, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    if record.offset < ends[place]:
                        yield convert_record(record, prefix)


async def read_key(
    connection: Connection, prefix: str, topic: str, key: str, since: datetime | None = None
) -> AsyncIterator[KafkaRecord]:
    """Every record of one key that a topic holds now, in order.

    Reads the one partition that our producers give the key; a topic that something else wrote may hold it elsewhere.
    ``since``: by machine time; what was written before is not read.
    """
    async with open_reader(connection, prefix + topic) as consumer:
        partitions = topic_partitions(consumer, prefix + topic)
        place = DefaultPartitioner()(key.encode(), partitions, partitions)
        consumer.pause(*(other for other in partitions if other != place))
        end = (await consumer.end_offsets([place]))[place]
        start = await _offset_since(consumer, place, since)
        if start is None:
            return
        consumer.seek(place, start)
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(place, timeout_ms=500)).values():
                for record in records:
                    if record.offset < end and record.key == key.encode():
                        yield convert_record(record, prefix)


async def _offset_since(consumer: AIOKafkaConsumer, place: TopicPartition, since: datetime | None) -> int | None:
    """Where to begin; None when there is nothing so late."""
    if since is None:
        return int((await consumer.beginning_offsets([place]))[place])
    found = (await consumer.offsets_for_times({place: int(since.timestamp() * 1000)}))[place]
    return None if found is None else int(found.offset)


async def read_record(
    connection: Connection, prefix: str, topic: str, partition: int, offset: int
) -> KafkaRecord | None:
    """The record at one place; None when it is not there any longer, or never was."""
    async with open_reader(connection, prefix + topic) as consumer:
        partitions = topic_partitions(consumer, prefix + topic)
        place = TopicPartition(prefix + topic, partition)
        if place not in partitions:
            return None
        consumer.pause(*(other for other in partitions if other != place))
        first, end = (await consumer.beginning_offsets([place]))[place], (await consumer.end_offsets([place]))[place]
        if not first <= offset < end:
            return None
        consumer.seek(place, offset)
        async with asyncio.timeout(REACH):
            while await consumer.position(place) <= offset:
                for records in (await consumer.getmany(place, timeout_ms=500, max_records=1)).values():
                    for record in records:
                        return convert_record(record, prefix) if record.offset == offset else None
        return None
