"""The guardian reads its own service's compacted topics and sees to it that the last word on each is the right one.

A relay that was stalled between two steps may publish an old state, or what was erased, after a newer one: everybody
who starts late would then believe it. The document knows (``said``) which sequence was last said on each compacted
topic; where the newest record of a key, at the end of its partition and with nothing waiting in the outbox, is older
than that, the current state or tombstone is published again, with the same id and sequence.

A record that is not of this service says nothing, so where it is the last of a key, the service speaks again: otherwise
compaction would leave only that.

The load-bearing invariant: nothing is republished that is already right, so a restart says nothing new. If the guardian
itself publishes an old word late, it reads it like any other, and mends it.

Once it has caught up, only a record that is older than the one before it needs a look at the document: what was newer
has been read. That holds while the guardian keeps up, since compaction takes hours to hide what was newer.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.core.clocks import Clock
from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer, RawRecord, open_reader, topic_partitions
from chassis.observability import metrics
from chassis.storage import outbox
from chassis.storage.aggregates import Aggregates
from chassis.storage.mongo import Document, chunks
from contracts.envelope import Topic, source_of

log = logging.getLogger(__name__)

POLL_MS = 1000
BATCH = 5000
GATHERS = 256 * 1024  # bytes; nobody waits for a guardian, so the broker need not wake it for each record
ASKS_AGAIN = 30.0  # seconds after which it asks again where the end is, though nothing is doubtful
KEEPS_UP = 600.0  # seconds since it was last at the end; far below the time that compaction needs
NOT_OURS = -1  # older than anything that was ever said, so that the last word of this key is said again


class Guardian:
    """Guards one compacted topic, all of its partitions, for the aggregates that speak on it."""

    def __init__(
        self,
        topic: Topic,
        aggregates: Aggregates[Any],
        *,
        connection: Connection,
        producer: Producer,
        prefix: str,
        clock: Clock,
    ) -> None:
        self.topic = topic
        self._aggregates = aggregates
        self._connection = connection
        self._producer = producer
        self._prefix = prefix
        self._clock = clock
        self._source = source_of(aggregates.service).encode()
        self._newest: dict[str, int] = {}  # by key: the sequence of its last record
        self._doubtful: set[str] = set()  # keys whose document is to be looked at
        self._at_end_at: float | None = None  # monotonic seconds
        self.caught_up = asyncio.Event()
        self.republished = 0

    async def run(self) -> None:
        """Read from the beginning and never stop; errors of the connection are raised."""
        name = self.topic.full_name(self._prefix)
        async with open_reader(self._connection, name, min_fetch_bytes=GATHERS) as consumer:
            partitions = topic_partitions(consumer, name)
            await consumer.seek_to_beginning()
            while True:
                fetched = await consumer.getmany(*partitions, timeout_ms=POLL_MS, max_records=BATCH)
                for records in fetched.values():
                    for record in records:
                        self.observe(record)
                if self._has_to_look() and await self._at_end(consumer, partitions):
                    await self.republish_outdated()
                    self.caught_up.set()

    def observe(self, record: RawRecord) -> None:
        """Take note of a record; ``compare`` will look at its key where there may be doubt."""
        headers = dict(record.headers)
        try:
            sequence = int(headers["ce_sequence"] or b"")
        except (KeyError, ValueError):
            sequence = NOT_OURS
        if headers.get("ce_source") != self._source:
            sequence = NOT_OURS
        if sequence == NOT_OURS:
            log.warning("a record that is none of ours on a topic of ours", extra={"topic": self.topic.name})
        key = (record.key or b"").decode("utf-8", "replace")
        if not self._keeps_up() or sequence < self._newest.get(key, 0):
            self._doubtful.add(key)
        self._newest[key] = sequence

    def _keeps_up(self) -> bool:
        return self._was_at_end_within(KEEPS_UP)

    def _has_to_look(self) -> bool:
        """Where nothing is doubtful there is nothing to compare; that this is the end is made sure of now and then."""
        return bool(self._doubtful) or not self.caught_up.is_set() or not self._was_at_end_within(ASKS_AGAIN)

    def _was_at_end_within(self, seconds: float) -> bool:
        return self._at_end_at is not None and time.monotonic() - self._at_end_at < seconds

    async def _at_end(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> bool:
        ends = await consumer.end_offsets(list(partitions))
        return all([await consumer.position(place) >= ends[place] for place in partitions])

    async def republish_outdated(self) -> None:
        """At the end of all partitions: hold what was read against what the documents last said, and mend it."""
        self._at_end_at = time.monotonic()
        doubtful, self._doubtful = self._doubtful, set()
        for chunk in chunks(sorted(doubtful)):
            cursor = self._aggregates.collection.find({"_id": {"$in": list(chunk)}}, {"said": 1, "outbox": 1})
            async for document in cursor:
                await self._mend(document)

    async def _mend(self, document: Document) -> None:
        id = document["_id"]
        last = document["said"].get(outbox.published_field(self.topic.name))
        if last is None or self._newest[id] >= last["sequence"]:
            return
        if any(entry["topic"] == self.topic.name for entry in document["outbox"]):
            self._doubtful.add(id)  # its relay is about to speak; look again afterwards
            return
        whole = await self._aggregates.collection.find_one({"_id": id})
        if whole is None or whole["said"].get(outbox.published_field(self.topic.name)) != last:
            self._doubtful.add(id)
            return
        try:
            said = self._aggregates.publishes[self.topic](self._aggregates.stored(whole).state)
        except ValueError:  # pydantic's ValidationError is one
            log.exception("an aggregate cannot be read, so its last word stays outdated")
            return
        entry = outbox.republished_entry(
            said, last["id"], last["sequence"], self._aggregates.service, self._clock.machine_now()
        )
        await self._producer.deliver(
            self.topic.full_name(self._prefix),
            key=entry["key"].encode(),
            value=outbox.value(entry),
            headers=outbox.envelope(entry, self._aggregates.service).headers(),
        )
        self.republished += 1
        metrics.count_republished(self._aggregates.service, self.topic.name)
        log.warning("an outdated record was the last of its key; said again", extra={"topic": self.topic.name})
