"""A replica in memory of a compacted topic: every process reads the whole topic and keeps what it needs of it.

It reads without a consumer group, starts with the first record and commits nothing. Once it has ``caught_up``, it holds
the newest state of every key; after a restart it reads everything again. Unlike a consumer, it has no effects outside
of the process. Its state may be a moment older or newer than the service's database, so a decision that relies on it
must check the database.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.core.connection import Connection
from chassis.messaging.foreign_records import ForeignRecords
from chassis.messaging.kafka import convert_record, is_at_end, list_partitions, open_reader
from chassis.messaging.records import ForeignRecord, ReadableRecord, read_record
from chassis.messaging.subscriptions import HandlerRegistry
from contracts.envelope import Topic

log = logging.getLogger(__name__)

C = TypeVar("C")

POLL_MS = 100  # how long a record may wait for others
READ_BATCH = 500  # records


class TopicReplica(Generic[C]):
    """Runs the reactions of ``handlers`` with ``context`` for each record of one topic, one after the other."""

    def __init__(
        self,
        topic: Topic,
        handlers: HandlerRegistry[C],
        context: C,
        *,
        connection: Connection,
        prefix: str,
        service: str,
        after: "TopicReplica[C] | None" = None,
    ) -> None:
        """``after``: another replica that must have caught up before this one begins."""
        self.topic = topic
        self._foreign = ForeignRecords(service)
        self._handlers = handlers
        self._context = context
        self._connection = connection
        self._prefix = prefix
        self._after = after
        self._next_offsets: dict[TopicPartition, int] = {}
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Follow the topic without end. Raises errors of the connection; the next run continues at the same offsets."""
        if self._after is not None:
            await self._after.caught_up.wait()
        async with self._open_reader() as (consumer, partitions):
            while True:
                fetched = await consumer.getmany(*partitions, timeout_ms=POLL_MS, max_records=READ_BATCH)
                for partition, records in fetched.items():
                    for record in records:
                        await self._run_reactions(record)
                        self._next_offsets[partition] = record.offset + 1
                        await asyncio.sleep(0)  # gives other tasks of this process a turn
                if not self.caught_up.is_set() and await is_at_end(consumer, partitions):
                    self.caught_up.set()

    @contextlib.asynccontextmanager
    async def _open_reader(self) -> AsyncIterator[tuple[AIOKafkaConsumer, Sequence[TopicPartition]]]:
        name = self.topic.full_name(self._prefix)
        async with open_reader(self._connection, name) as consumer:
            partitions = list_partitions(consumer, name)
            await consumer.seek_to_beginning()
            for partition, offset in self._next_offsets.items():
                consumer.seek(partition, offset)
            yield consumer, partitions

    async def _run_reactions(self, record: Any) -> None:
        result = read_record(convert_record(record, self._prefix), self._handlers)
        if isinstance(result, ForeignRecord):
            self._foreign.count(self.topic.name)
        elif isinstance(result, ReadableRecord):  # the consumer moves the others to the dead letters
            for reaction in self._handlers.find_reactions(result.received):
                await reaction(result.received, self._context)
