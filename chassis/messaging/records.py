"""From Kafka's records to events: what can be read, what is not for us, and what is poison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from chassis.core.error_redaction import validation_locations
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from contracts.envelope import Envelope

ORIGIN = ("dl-topic", "dl-partition", "dl-offset")


@dataclass(frozen=True)
class KafkaRecord:
    """One record as it came, or, from a retries topic, as it first came. ``topic`` is without the prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int = 0

    def header(self, name: str) -> str | None:
        """A header as text; bytes that are no UTF-8 are replaced, since this is for people to read."""
        for found, value in self.headers:
            if found == name:
                return value.decode("utf-8", "replace")
        return None


@dataclass(frozen=True)
class ReadableRecord:
    """A record that was understood."""

    record: KafkaRecord
    received: ReceivedEvent[Any] | ReceivedTombstone


@dataclass(frozen=True)
class SkippedRecord:
    """A record whose type this service does not know; it is counted and passed over."""

    record: KafkaRecord
    type: str


@dataclass(frozen=True)
class PoisonRecord:
    """A record that can never be processed. ``code`` is stable; ``detail`` holds no data of the record."""

    record: KafkaRecord
    code: str
    detail: str


ReadResult = ReadableRecord | SkippedRecord | PoisonRecord


def read_record(record: KafkaRecord, hearing: HandlerRegistry[Any]) -> ReadResult:
    """Understand one record; never raises for what a record contains."""
    try:
        envelope = Envelope.from_headers(record.headers)
    except UnicodeDecodeError:
        return PoisonRecord(record, "header_not_utf8", "a CloudEvents header is not UTF-8")
    except ValidationError as error:
        return PoisonRecord(record, "bad_envelope", validation_locations(error))
    except ValueError as error:
        return PoisonRecord(record, "bad_envelope", str(error))
    type = hearing.find_type(envelope.type)
    if type is None:
        return SkippedRecord(record, envelope.type)
    if type.TOPIC.name != record.topic:
        return PoisonRecord(record, "wrong_topic", f"{envelope.type} does not belong on {record.topic}")
    if record.value is None:
        return _tombstone(record, envelope, type.TOPIC.cleanup == "compact")
    try:
        data = type.model_validate_json(record.value)
    except ValidationError as error:
        code = "not_json" if error.errors(include_input=False)[0]["type"] == "json_invalid" else "bad_data"
        return PoisonRecord(record, code, validation_locations(error))
    except ValueError:
        return PoisonRecord(record, "bad_data", f"{envelope.type}: the value cannot be read")
    return ReadableRecord(record, ReceivedEvent(envelope, data))


def _tombstone(record: KafkaRecord, envelope: Envelope, compacted: bool) -> ReadResult:
    if not compacted:
        return PoisonRecord(record, "unexpected_tombstone", f"{record.topic} is not compacted, so it has no tombstones")
    return ReadableRecord(
        record, ReceivedTombstone(envelope, (record.key or b"").decode("utf-8", "replace") or envelope.subject)
    )


def dead_letter_origin(headers: Sequence[tuple[str, bytes]]) -> tuple[str, int, int] | None:
    """Topic (without prefix), partition and offset where a record of a dead-letter or retries topic first stood."""
    found: Mapping[str, bytes] = dict(headers)
    try:
        topic, partition, offset = (found[name].decode() for name in ORIGIN)
        return topic, int(partition), int(offset)
    except (KeyError, ValueError):
        return None
