"""Turns Kafka records into events: a record is readable, skipped (an unknown type), or poison (never processable)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from chassis.core.error_redaction import validation_locations
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from contracts.envelope import Envelope
from contracts.text import MAX_NAME_CHARACTERS, find_fault

ORIGIN_HEADERS = ("dl-topic", "dl-partition", "dl-offset")


@dataclass(frozen=True)
class KafkaRecord:
    """One record; for a retry, the original one. ``topic`` is without the prefix, ``timestamp`` in milliseconds."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int = 0

    def header(self, name: str) -> str | None:
        """A header as text for people to read; bytes that are not UTF-8 are replaced."""
        for header, value in self.headers:
            if header == name:
                return value.decode("utf-8", "replace")
        return None


@dataclass(frozen=True)
class ReadableRecord:
    """A record with a valid event."""

    record: KafkaRecord
    received: ReceivedEvent[Any] | ReceivedTombstone


@dataclass(frozen=True)
class SkippedRecord:
    """A record whose type this service does not know; it is counted and skipped."""

    record: KafkaRecord
    type: str


@dataclass(frozen=True)
class PoisonRecord:
    """A record that can never be processed. ``code`` is stable; ``detail`` holds no data of the record."""

    record: KafkaRecord
    code: str
    detail: str


ReadResult = ReadableRecord | SkippedRecord | PoisonRecord


def read_record(record: KafkaRecord, handlers: HandlerRegistry[Any]) -> ReadResult:
    """Parse one record. Never raises an error for the content of a record."""
    try:
        envelope = Envelope.from_headers(record.headers)
    except UnicodeDecodeError:
        return PoisonRecord(record, "header_not_utf8", "a CloudEvents header is not UTF-8")
    except ValidationError as error:
        return PoisonRecord(record, "bad_envelope", validation_locations(error))
    except ValueError as error:
        return PoisonRecord(record, "bad_envelope", str(error))
    if not _is_safe(record.key, envelope):
        return PoisonRecord(record, "unsafe_text", "the key or a header holds characters that no id has")
    type = handlers.find_type(envelope.type)
    if type is None:
        return SkippedRecord(record, envelope.type)
    if type.TOPIC.name != record.topic:
        return PoisonRecord(record, "wrong_topic", f"{envelope.type} does not belong on {record.topic}")
    if record.value is None:
        return _read_tombstone(record, envelope, type.TOPIC.cleanup == "compact")
    try:
        data = type.model_validate_json(record.value)
    except ValidationError as error:
        code = "not_json" if error.errors(include_input=False)[0]["type"] == "json_invalid" else "bad_data"
        return PoisonRecord(record, code, validation_locations(error))
    except ValueError:
        return PoisonRecord(record, "bad_data", f"{envelope.type}: the value cannot be read")
    return ReadableRecord(record, ReceivedEvent(envelope, data))


def _is_safe(key: bytes | None, envelope: Envelope) -> bool:
    """Whether the key and the attributes are plain text. They become ids of documents, log fields and headers."""
    attributes = (envelope.id, envelope.type, envelope.source, envelope.subject, envelope.correlationid)
    optional = (envelope.causationid, envelope.traceparent, (key or b"").decode("utf-8", "replace"))
    return not any(text and find_fault(text, max_characters=MAX_NAME_CHARACTERS) for text in attributes + optional)


def _read_tombstone(record: KafkaRecord, envelope: Envelope, compacted: bool) -> ReadResult:
    if not compacted:
        return PoisonRecord(record, "unexpected_tombstone", f"{record.topic} is not compacted, so it has no tombstones")
    return ReadableRecord(
        record, ReceivedTombstone(envelope, (record.key or b"").decode("utf-8", "replace") or envelope.subject)
    )


def read_dead_letter_origin(headers: Sequence[tuple[str, bytes]]) -> tuple[str, int, int] | None:
    """Topic (without prefix), partition and offset of the original of a dead letter or retry; None if not readable."""
    values: Mapping[str, bytes] = dict(headers)
    try:
        topic, partition, offset = (values[name].decode() for name in ORIGIN_HEADERS)
        return topic, int(partition), int(offset)
    except (KeyError, ValueError):
        return None
