"""Turns Kafka records into events.

A record is readable, skipped (an unknown type), poison (of the right writer, and never processable) or foreign. Who
wrote a record is checked before anything else: a record of anybody but the writer of its topic and type is foreign. It
has no effect, and is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from chassis.core.error_redaction import validation_locations
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from contracts.envelope import Envelope, EventData, find_writer, is_plausible, repeats_an_attribute
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


@dataclass(frozen=True)
class ForeignRecord:
    """A record that the writer of its topic and type did not write; it is counted and skipped."""

    record: KafkaRecord


ReadResult = ReadableRecord | SkippedRecord | PoisonRecord | ForeignRecord


def read_record(record: KafkaRecord, handlers: HandlerRegistry[Any]) -> ReadResult:
    """Check the writer of one record, then parse it. Never raises an error for the content of a record."""
    topic, writer = handlers.find_topic(record.topic), find_writer(record.headers)
    if topic is None or writer not in topic.writers:
        return ForeignRecord(record)
    envelope = _read_envelope(record)
    if isinstance(envelope, PoisonRecord):
        return envelope
    type = handlers.find_type(envelope.type)
    if type is None:
        return SkippedRecord(record, envelope.type)
    if not may_write(writer, type):
        return ForeignRecord(record)
    if topic not in (type.topic_of(writer), type.FORMER_TOPIC):
        return PoisonRecord(record, "wrong_topic", f"{envelope.type} does not belong on {record.topic}")
    if record.value is None:
        return _read_tombstone(record, envelope, topic.cleanup == "compact")
    return _read_data(record, record.value, envelope, type, writer)


def may_write(writer: str, type: type[EventData]) -> bool:
    """Whether the service ``writer`` publishes events of this type."""
    return writer in type.topic_of(writer).writers


def is_from_its_writer(record: KafkaRecord, type: type[EventData]) -> bool:
    """Whether the writer of this topic and type wrote the record, for readers without handlers."""
    writer = find_writer(record.headers)
    return writer is not None and may_write(writer, type) and type.topic_of(writer).name == record.topic


def _read_envelope(record: KafkaRecord) -> Envelope | PoisonRecord:
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
    if repeats_an_attribute(record.headers):
        return PoisonRecord(record, "bad_envelope", "an attribute is there twice")
    if not is_plausible(envelope.sequence):
        return PoisonRecord(record, "implausible_sequence", "the sequence is far beyond what its source has reached")
    return envelope


def _read_data(record: KafkaRecord, value: bytes, envelope: Envelope, type: type[EventData], writer: str) -> ReadResult:
    try:
        data = type.model_validate_json(value, strict=True)
    except ValidationError as error:
        code = "not_json" if error.errors(include_input=False)[0]["type"] == "json_invalid" else "bad_data"
        return PoisonRecord(record, code, validation_locations(error))
    except ValueError:
        return PoisonRecord(record, "bad_data", f"{envelope.type}: the value cannot be read")
    if data.writer() not in (None, writer):
        return ForeignRecord(record)
    if type.TOPIC.cleanup == "compact" and not record.key == envelope.subject.encode() == data.key().encode():
        return PoisonRecord(record, "wrong_key", f"{envelope.type}: the key or the subject is not that of the data")
    return ReadableRecord(record, ReceivedEvent(envelope, data))


def _is_safe(key: bytes | None, envelope: Envelope) -> bool:
    """Whether the key and the attributes are plain text. They become ids of documents, log fields and headers."""
    attributes = (envelope.id, envelope.type, envelope.source, envelope.subject, envelope.correlationid)
    optional = (envelope.causationid, envelope.traceparent, (key or b"").decode("utf-8", "replace"))
    return not any(text and find_fault(text, max_characters=MAX_NAME_CHARACTERS) for text in attributes + optional)


def _read_tombstone(record: KafkaRecord, envelope: Envelope, compacted: bool) -> ReadResult:
    if not compacted:
        return PoisonRecord(record, "unexpected_tombstone", f"{record.topic} is not compacted, so it has no tombstones")
    if record.key != envelope.subject.encode():
        return PoisonRecord(record, "wrong_key", f"{envelope.type}: the key of a tombstone is not its subject")
    return ReadableRecord(record, ReceivedTombstone(envelope, envelope.subject))


def read_dead_letter_origin(headers: Sequence[tuple[str, bytes]]) -> tuple[str, int, int] | None:
    """Topic (without prefix), partition and offset of the original of a dead letter or retry; None if not readable."""
    values: Mapping[str, bytes] = dict(headers)
    try:
        topic, partition, offset = (values[name].decode() for name in ORIGIN_HEADERS)
        return topic, int(partition), int(offset)
    except (KeyError, ValueError):
        return None
