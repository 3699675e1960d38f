"""A Kafka consumer that steps over what its client cannot decode.

Whoever may write to a topic can put a record there that aiokafka cannot decode: a header name that is not UTF-8, or a
codec that is not installed. Each read then fails for ever, and the records before it in the same fetch are lost. No
record of ours is of this kind, so it is skipped, and everything beside it is read.
"""

import logging
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

log = logging.getLogger(__name__)

UNDECODABLE = (UnicodeDecodeError, CorruptRecordException, UnsupportedCodecError)
STEP_TIMEOUT_MS = 2_000  # for one record that is known to be there
MAX_STEPS = 1_000  # records that are read one by one before the next usual read

Fetched = dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]


class SafeConsumer(AIOKafkaConsumer):
    """``getmany`` behaves as the client's own, but for records that cannot be decoded."""

    def __init__(self, *topics: str, **arguments: Any) -> None:
        super().__init__(*topics, **arguments)
        self._is_in_group = arguments.get("group_id") is not None
        self._next_offsets: dict[TopicPartition, int] = {}  # of readers without a group

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._next_offsets[partition] = offset
        super().seek(partition, offset)

    async def seek_to_beginning(self, *partitions: TopicPartition) -> bool:
        for partition in partitions or self.assignment():
            self._next_offsets.pop(partition, None)
        return bool(await super().seek_to_beginning(*partitions))

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Fetched:
        try:
            fetched: Fetched = await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        except UNDECODABLE:
            return await self._read_around(partitions or self.assignment())
        for partition, records in fetched.items():
            self._next_offsets[partition] = records[-1].offset + 1
        return fetched

    async def _read_around(self, partitions: Iterable[TopicPartition]) -> Fetched:
        """Read again from where the caller stands, one record at a time, without those that cannot be decoded."""
        readable = [partition for partition in partitions if partition not in self.paused()]
        starts = {partition: await self._start_of(partition) for partition in readable}
        ends = await self.end_offsets(readable)
        fetched: Fetched = {}
        for partition, start in starts.items():
            super().seek(partition, start)
            if start < ends[partition] and (records := await self._step_through(partition, ends[partition])):
                fetched[partition] = records
            self._next_offsets[partition] = await self.position(partition)
        return fetched

    async def _start_of(self, partition: TopicPartition) -> int:
        """The next offset that the caller has not got: what its group has committed, or what it has read itself."""
        offset = await self.committed(partition) if self._is_in_group else self._next_offsets.get(partition)
        return (await self.beginning_offsets([partition]))[partition] if offset is None else int(offset)

    async def _step_through(self, partition: TopicPartition, end: int) -> list[ConsumerRecord[bytes, bytes]]:
        records: list[ConsumerRecord[bytes, bytes]] = []
        for _ in range(MAX_STEPS):
            position = await self.position(partition)
            if position >= end:
                break
            try:
                step = await super().getmany(partition, timeout_ms=STEP_TIMEOUT_MS, max_records=1)
            except UNDECODABLE as error:
                position = await self.position(partition)
                log.warning(
                    "skipped a record that cannot be decoded: %s",
                    type(error).__name__,
                    extra={"topic": partition.topic, "partition": partition.partition, "offset": position},
                )
                super().seek(partition, position + 1)
                continue
            if not step:
                break
            records += step[partition]
        return records
