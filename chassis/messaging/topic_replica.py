"""A reader without a group: every replica hears all of a compacted topic and keeps what it needs of it in memory.

It begins with the first record and commits nothing, so what it has told is the newest state of every key once it has
``caught_up``, and again after each restart. Unlike a consumer it has no effects that anybody else could see: what it
tells may be a moment older or newer than the service's database, and whoever relies on it looks there once more.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.core.connection import Connection
from chassis.messaging.kafka import convert_record, open_reader, topic_partitions
from chassis.messaging.records import ReadableRecord, read_record
from chassis.messaging.subscriptions import HandlerRegistry
from contracts.envelope import Topic

log = logging.getLogger(__name__)

C = TypeVar("C")

POLL_MS = 100  # how long a record may wait for others
BATCH = 500


class TopicReplica(Generic[C]):
    """Tells ``context`` of each record of one topic, by the reactions of ``hearing``; they run one after the other."""

    def __init__(
        self,
        topic: Topic,
        handlers: HandlerRegistry[C],
        context: C,
        *,
        connection: Connection,
        prefix: str,
        after: "TopicReplica[C] | None" = None,
    ) -> None:
        """``after``: what is to be read to its end before this begins."""
        self.topic = topic
        self._hearing = handlers
        self._context = context
        self._connection = connection
        self._prefix = prefix
        self._after = after
        self._next: dict[TopicPartition, int] = {}
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Follow and never stop; errors of the connection are raised, and the next run goes on where it was."""
        if self._after is not None:
            await self._after.caught_up.wait()
        async with self._reading() as (consumer, partitions):
            while True:
                fetched = await consumer.getmany(*partitions, timeout_ms=POLL_MS, max_records=BATCH)
                for place, records in fetched.items():
                    for record in records:
                        await self._tell(record)
                        self._next[place] = record.offset + 1
                        await asyncio.sleep(0)  # whatever else this process does has its turn
                if not self.caught_up.is_set() and await self._at_end(consumer, partitions):
                    self.caught_up.set()

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[tuple[AIOKafkaConsumer, Sequence[TopicPartition]]]:
        name = self.topic.full_name(self._prefix)
        async with open_reader(self._connection, name) as consumer:
            partitions = topic_partitions(consumer, name)
            await consumer.seek_to_beginning()
            for place, offset in self._next.items():
                consumer.seek(place, offset)
            yield consumer, partitions

    async def _tell(self, record: Any) -> None:
        reading = read_record(convert_record(record, self._prefix), self._hearing)
        if isinstance(reading, ReadableRecord):  # what cannot be read is the consumer's to put aside
            for reaction in self._hearing.find_reactions(reading.received):
                await reaction(reading.received, self._context)

    async def _at_end(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> bool:
        ends = await consumer.end_offsets(list(partitions))
        return all([await consumer.position(place) >= ends[place] for place in partitions])
