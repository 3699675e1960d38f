"""The guardian keeps the last record of each key right, on the compacted topics of its own service.

A relay that stalled between two steps may publish an old state, or an erased one, after a newer one. Every reader that
starts later would believe it. The stored document holds in ``said`` which sequence was published last on each compacted
topic. When the newest record of a key is older, the guardian publishes the current state or tombstone again, with the
same id and sequence. It does so only at the end of the partition, and only while no event for the topic waits in the
outbox.

A record of another source counts as older than everything. So does a record with a sequence that this service has not
published: somebody writes in its name. Otherwise compaction would leave only that record.

What always holds: a record that is already right is not republished, so a restart publishes nothing. If the guardian
itself publishes an old state late, it reads that record like any other and corrects it.

Once the guardian has caught up, it checks a document only when a record is older than the record before it. A newer
record has already been read then. This needs a guardian that keeps up; compaction takes hours to remove newer records.
"""

import asyncio
import logging
import time
from typing import Any

from chassis.core.clocks import Clock
from chassis.core.connection import Connection
from chassis.messaging.foreign_records import ForeignRecords
from chassis.messaging.kafka import Producer, RawRecord, is_at_end, list_partitions, open_reader
from chassis.observability import metrics
from chassis.storage import outbox
from chassis.storage.aggregates import Aggregates
from chassis.storage.mongo import Document, chunks
from contracts.envelope import Envelope, Topic, find_writer, is_plausible

log = logging.getLogger(__name__)

POLL_MS = 1000
READ_BATCH = 5000  # records
MIN_FETCH_BYTES = 256 * 1024  # nobody waits for a guardian, so the broker need not wake it for each record
END_CHECK_INTERVAL_S = 30.0  # between two checks for the end when no key is doubtful
MAX_TIME_BEHIND_S = 600.0  # since the guardian was last at the end; far below the time that compaction needs
MAX_JUMP = 10_000  # between two records of a key; a larger one begins an epoch, or is forged
FOREIGN_SEQUENCE = -1  # older than every published sequence, so that the state of the key is published again


class Guardian:
    """Guards all partitions of one compacted topic, for the aggregates that are published on it."""

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
        self._foreign = ForeignRecords(aggregates.service)
        self._newest: dict[str, int] = {}  # by key: the sequence of its last record
        self._doubtful: set[str] = set()  # keys whose document must be checked
        self._at_end_at: float | None = None  # monotonic seconds
        self.caught_up = asyncio.Event()
        self.republished = 0

    @property
    def remembered_keys(self) -> int:
        return len(self._newest)

    async def run(self) -> None:
        """Read from the beginning, without end. Raises errors of the connection."""
        name = self.topic.full_name(self._prefix)
        async with open_reader(self._connection, name, min_fetch_bytes=MIN_FETCH_BYTES) as consumer:
            partitions = list_partitions(consumer, name)
            await consumer.seek_to_beginning()
            while True:
                fetched = await consumer.getmany(*partitions, timeout_ms=POLL_MS, max_records=READ_BATCH)
                for records in fetched.values():
                    for record in records:
                        self.observe(record)
                if self._must_check() and await is_at_end(consumer, partitions):
                    await self.republish_outdated()
                    self.caught_up.set()

    def observe(self, record: RawRecord) -> None:
        """Note a record. If its key may be outdated, ``republish_outdated`` will check the document."""
        sequence = self._read_sequence(record)
        if sequence == FOREIGN_SEQUENCE:
            self._foreign.count(self.topic.name)
        key = (record.key or b"").decode("utf-8", "replace")
        before = self._newest.get(key, 0)
        if not self._keeps_up() or not before <= sequence <= before + MAX_JUMP:
            self._doubtful.add(key)
        self._newest[key] = sequence

    def _read_sequence(self, record: RawRecord) -> int:
        """The sequence of a record of ours; ``FOREIGN_SEQUENCE`` for any other record."""
        if find_writer(record.headers) != self._aggregates.service:
            return FOREIGN_SEQUENCE
        try:
            sequence = Envelope.from_headers([(name, value or b"") for name, value in record.headers]).sequence
        except ValueError:
            return FOREIGN_SEQUENCE
        return sequence if is_plausible(sequence) else FOREIGN_SEQUENCE

    def _keeps_up(self) -> bool:
        return self._was_at_end_within(MAX_TIME_BEHIND_S)

    def _must_check(self) -> bool:
        """Whether to check for the end of the topic: for a doubtful key at once, without one only at intervals."""
        return bool(self._doubtful) or not self.caught_up.is_set() or not self._was_at_end_within(END_CHECK_INTERVAL_S)

    def _was_at_end_within(self, seconds: float) -> bool:
        return self._at_end_at is not None and time.monotonic() - self._at_end_at < seconds

    async def republish_outdated(self) -> None:
        """At the end of all partitions: compare the newest records with the documents, and correct outdated ones."""
        self._at_end_at = time.monotonic()
        doubtful, self._doubtful = self._doubtful, set()
        for chunk in chunks(sorted(doubtful)):
            cursor = self._aggregates.collection.find({"_id": {"$in": list(chunk)}}, {"said": 1, "outbox": 1})
            existing = set()
            async for document in cursor:
                existing.add(document["_id"])
                await self._check(document)
            for invented in set(chunk) - existing:  # keys that somebody else made up must not fill the memory
                self._newest.pop(invented, None)

    async def _check(self, document: Document) -> None:
        id = document["_id"]
        last = document["said"].get(outbox.published_field(self.topic.name))
        if last is None or self._newest[id] == last["sequence"]:
            return
        if any(entry["topic"] == self.topic.name for entry in document["outbox"]):
            self._doubtful.add(id)  # its relay is about to publish; check again afterwards
            return
        current = await self._aggregates.collection.find_one({"_id": id})
        if current is None or current["said"].get(outbox.published_field(self.topic.name)) != last:
            self._doubtful.add(id)
            return
        try:
            event = self._aggregates.publishes[self.topic](self._aggregates.stored(current).state)
        except ValueError:  # pydantic's ValidationError is one
            log.exception("an aggregate cannot be read, so its newest record stays outdated")
            return
        entry = outbox.republished_entry(
            event, last["id"], last["sequence"], self._aggregates.service, self._clock.machine_now()
        )
        await self._producer.deliver(
            self.topic.full_name(self._prefix),
            key=entry["key"].encode(),
            value=outbox.value(entry),
            headers=outbox.envelope(entry, self._aggregates.service).headers(),
        )
        self.republished += 1
        metrics.count_republished(self._aggregates.service, self.topic.name)
        log.warning(
            "the newest record of a key was outdated; the current state was published again",
            extra={"topic": self.topic.name},
        )
