"""Dead letters: records that a service could not process, kept for an operator to inspect and to replay.

A record of a restricted topic leaves only a pointer (topic, partition, offset), so that its data stays where it is
protected. A replay goes to the topic ``retries.<service>``, which only that service reads.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.core.clocks import Clock
from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer, read_offset_ranges, read_record, read_topic
from chassis.messaging.records import KafkaRecord
from contracts.envelope import Topic, dead_letters_of, iso, retries_of

MAX_COPIED_BYTES = 1_000_000  # a larger record stays where it is, and the dead letter points to it
MAX_DETAIL_CHARACTERS = 500
# Headers that a pointer may repeat, if their value is an id. Any other value may be a name or an address.
POINTER_HEADERS = ("ce_id", "ce_type", "traceparent")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class DeadLetters:
    """Writes one service's dead letters, and resolves its retries."""

    def __init__(
        self,
        producer: Producer,
        connection: Connection,
        service: str,
        prefix: str,
        topics: Sequence[Topic],
        clock: Clock,
    ) -> None:
        self._producer = producer
        self._connection = connection
        self._prefix = prefix
        self._clock = clock
        self._topics = {topic.name for topic in topics}
        self._restricted = {topic.name for topic in topics if topic.restricted}
        self._topic = dead_letters_of(service).full_name(prefix)

    async def send(self, record: KafkaRecord, code: str, detail: str) -> None:
        """Write a record to the dead letters; returns when all in-sync replicas have it."""
        is_pointer = record.topic in self._restricted or _size(record) > MAX_COPIED_BYTES
        headers = [(name, value) for name, value in record.headers if not name.startswith("dl-")]
        if is_pointer:
            headers = [
                (name, value)
                for name, value in dict(headers).items()
                if name in POINTER_HEADERS and _ID.fullmatch(value)
            ]
        headers += [
            ("dl-topic", record.topic.encode()),
            ("dl-partition", str(record.partition).encode()),
            ("dl-offset", str(record.offset).encode()),
            ("dl-code", code.encode()),
            ("dl-detail", detail[:MAX_DETAIL_CHARACTERS].encode()),
            ("dl-at", iso(self._clock.machine_now()).encode()),
            ("dl-pointer", b"true" if is_pointer else b"false"),
            ("dl-tombstone", b"true" if record.value is None else b"false"),
        ]
        await self._producer.deliver(
            self._topic,
            key=None if is_pointer else record.key,
            value=b"" if is_pointer or (record.key is None and record.value is None) else record.value,
            headers=headers,
        )

    async def resolve(self, record: KafkaRecord, origin: tuple[str, int, int]) -> KafkaRecord | None:
        """The original record for a record of the retries topic.

        None when the dead letter was a pointer and the original no longer exists: compaction or retention has removed
        it. Raises ``LookupError`` when this service does not use the topic.
        """
        topic, partition, offset = origin
        if topic not in self._topics:
            raise LookupError("this service does not use the topic")
        if record.header("dl-pointer") == "true":
            return await read_record(self._connection, self._prefix, topic, partition, offset)
        headers = tuple(header for header in record.headers if not header[0].startswith("dl-"))
        value = None if record.header("dl-tombstone") == "true" else record.value
        return KafkaRecord(topic, partition, offset, record.key, value, headers, record.timestamp)


def _size(record: KafkaRecord) -> int:
    size = len(record.key or b"") + len(record.value or b"")
    return size + sum(len(name.encode()) + len(value) for name, value in record.headers)


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter as an operator sees it.

    ``position`` is ``partition-offset`` in the dead-letters topic. ``restricted``: only a pointer was kept.
    """

    position: str
    topic: str
    partition: int
    offset: int
    code: str
    detail: str
    at: str
    type: str | None
    event_id: str | None
    restricted: bool
    size: int


def _parse_dead_letter(record: KafkaRecord) -> DeadLetter:
    return DeadLetter(
        position=f"{record.partition}-{record.offset}",
        topic=record.header("dl-topic") or "",
        partition=int(record.header("dl-partition") or -1),
        offset=int(record.header("dl-offset") or -1),
        code=record.header("dl-code") or "",
        detail=record.header("dl-detail") or "",
        at=record.header("dl-at") or "",
        type=record.header("ce_type"),
        event_id=record.header("ce_id"),
        restricted=record.header("dl-pointer") == "true",
        size=len(record.value or b""),
    )


async def list_dead_letters(connection: Connection, prefix: str, service: str) -> list[DeadLetter]:
    """All dead letters of a service that the topic still holds, oldest first in each partition."""
    topic = dead_letters_of(service).name
    return [_parse_dead_letter(record) async for record in read_topic(connection, prefix, topic)]


async def count_dead_letters(connection: Connection, prefix: str, service: str) -> int:
    """How many dead letters of a service the topic still holds."""
    ranges = await read_offset_ranges(connection, prefix, dead_letters_of(service).name)
    return sum(end - start for start, end in ranges.values())


async def read_dead_letter(
    connection: Connection, prefix: str, service: str, position: str
) -> tuple[DeadLetter, KafkaRecord]:
    """One dead letter with its record. Raises ``LookupError`` when there is none at ``position``."""
    record = await _read_at(connection, prefix, service, position)
    return _parse_dead_letter(record), record


async def replay_dead_letter(
    producer: Producer, connection: Connection, prefix: str, service: str, position: str
) -> None:
    """Let the service try one dead letter again; the dead letter itself stays until its retention ends."""
    record = await _read_at(connection, prefix, service, position)
    await producer.deliver(
        retries_of(service).full_name(prefix), key=record.key, value=record.value, headers=list(record.headers)
    )


async def _read_at(connection: Connection, prefix: str, service: str, position: str) -> KafkaRecord:
    try:
        partition, offset = (int(part) for part in position.split("-"))
    except ValueError:
        raise LookupError(f"{position!r} is not the position of a dead letter; a position looks like 3-17") from None
    record = await read_record(connection, prefix, dead_letters_of(service).name, partition, offset)
    if record is None:
        raise LookupError(f"there is no dead letter of {service} at {position}")
    return record
