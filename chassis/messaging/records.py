"""From Kafka's records to events: what can be read, what is not for us, and what is poison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from chassis.core.error_redaction import where
from chassis.messaging.subscriptions import Gone, Heard, Hearing
from contracts.envelope import Envelope

ORIGIN = ("dl-topic", "dl-partition", "dl-offset")


@dataclass(frozen=True)
class Record:
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
class Event:
    """A record that was understood."""

    record: Record
    heard: Heard[Any] | Gone


@dataclass(frozen=True)
class Skipped:
    """A record whose type this service does not know; it is counted and passed over."""

    record: Record
    type: str


@dataclass(frozen=True)
class Poison:
    """A record that can never be processed. ``code`` is stable; ``detail`` holds no data of the record."""

    record: Record
    code: str
    detail: str


Reading = Event | Skipped | Poison


def read(record: Record, hearing: Hearing[Any]) -> Reading:
    """Understand one record; never raises for what a record contains."""
    try:
        envelope = Envelope.from_headers(record.headers)
    except UnicodeDecodeError:
        return Poison(record, "header_not_utf8", "a CloudEvents header is not UTF-8")
    except ValidationError as error:
        return Poison(record, "bad_envelope", where(error))
    except ValueError as error:
        return Poison(record, "bad_envelope", str(error))
    type = hearing.type_named(envelope.type)
    if type is None:
        return Skipped(record, envelope.type)
    if type.TOPIC.name != record.topic:
        return Poison(record, "wrong_topic", f"{envelope.type} does not belong on {record.topic}")
    if record.value is None:
        return _tombstone(record, envelope, type.TOPIC.cleanup == "compact")
    try:
        data = type.model_validate_json(record.value)
    except ValidationError as error:
        code = "not_json" if error.errors(include_input=False)[0]["type"] == "json_invalid" else "bad_data"
        return Poison(record, code, where(error))
    except ValueError:
        return Poison(record, "bad_data", f"{envelope.type}: the value cannot be read")
    return Event(record, Heard(envelope, data))


def _tombstone(record: Record, envelope: Envelope, compacted: bool) -> Reading:
    if not compacted:
        return Poison(record, "unexpected_tombstone", f"{record.topic} is not compacted, so it has no tombstones")
    return Event(record, Gone(envelope, (record.key or b"").decode("utf-8", "replace") or envelope.subject))


def origin(headers: Sequence[tuple[str, bytes]]) -> tuple[str, int, int] | None:
    """Topic (without prefix), partition and offset where a record of a dead-letter or retries topic first stood."""
    found: Mapping[str, bytes] = dict(headers)
    try:
        topic, partition, offset = (found[name].decode() for name in ORIGIN)
        return topic, int(partition), int(offset)
    except (KeyError, ValueError):
        return None
