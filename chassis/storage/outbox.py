"""The events in a document's outbox: made in the save, published by the relay, published again by the guardian."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chassis.core.ids import new_id
from chassis.observability.telemetry import current_traceparent
from contracts.envelope import Envelope, OutgoingEvent, Tombstone, Topic, is_restricted, source_of

# Room for headers and framing beside key and value; the contract bounds the length of every header. A record that the
# broker refuses would block the idempotent producer for every later record of its partition, so the size is checked
# before the save.
FRAMING_BYTES = 4096

Entry = dict[str, Any]


class EventTooLarge(ValueError):
    """An event is larger than its topic allows; nothing was saved."""


@dataclass
class Draft:
    """Drawn once for an update, however often it is decided again: time, cause and event ids."""

    service: str
    time: datetime
    cause: Envelope | None = None
    _ids: list[str] = field(default_factory=list)

    def entries(self, events: Sequence[OutgoingEvent], sequence: int, open_sequence: int) -> list[Entry]:
        """The outbox entries for ``events``. Raises ``EventTooLarge``.

        Events of restricted topics are numbered after ``sequence``, which counts all events. Open ones are numbered
        after ``open_sequence``, which counts open ones alone: else a gap would tell of a restricted event.
        """
        while len(self._ids) < len(events):
            self._ids.append(new_id())
        entries = []
        for n, event in enumerate(events):
            open_sequence += is_open(event, self.service)
            number = open_sequence if is_open(event, self.service) else sequence + n + 1
            entries.append(self._entry(event, self._ids[n], number))
        return entries

    def _entry(self, event: OutgoingEvent, id: str, sequence: int) -> Entry:
        kind = event.type if isinstance(event, Tombstone) else type(event)
        topic = kind.topic_of(self.service)
        key = event.key if isinstance(event, Tombstone) else event.key()
        entry: Entry = {
            "id": id,
            "topic": topic.name,
            "type": kind.TYPE,
            "key": key,
            "subject": event.key if isinstance(event, Tombstone) else event.subject(),
            "time": self.time,
            "sequence": sequence,
            "correlationid": event.key if isinstance(event, Tombstone) else event.correlation(),
            "causationid": self._visible_cause(kind.TOPIC),
            "traceparent": current_traceparent(),
            "data": None if isinstance(event, Tombstone) else event.model_dump_json(),
        }
        _check_size(entry, topic)
        if topic.cleanup == "compact":
            entry["compacted"] = True
        return entry

    def _visible_cause(self, topic: Topic) -> str | None:
        """The id of the cause. An open event names no restricted one: that there was one would tell what it was."""
        if self.cause is None or (is_restricted(self.cause.type) and not topic.restricted):
            return None
        return self.cause.id


def is_open(event: OutgoingEvent, service: str) -> bool:
    """Whether everybody may read the topic on which the service publishes the event."""
    kind = event.type if isinstance(event, Tombstone) else type(event)
    return not kind.topic_of(service).restricted


def _check_size(entry: Entry, topic: Topic) -> None:
    size = FRAMING_BYTES + 4 * len(entry["key"]) + (len(entry["data"].encode()) if entry["data"] else 0)
    if size > topic.max_bytes:
        raise EventTooLarge(f"{entry['type']} would take {size} bytes; {topic.name} takes {topic.max_bytes}")


def envelope(entry: Entry, service: str) -> Envelope:
    """The envelope of an event in an outbox."""
    return Envelope(
        id=entry["id"],
        type=entry["type"],
        source=source_of(service),
        subject=entry["subject"],
        time=entry["time"],
        sequence=entry["sequence"],
        correlationid=entry["correlationid"],
        causationid=entry["causationid"],
        traceparent=entry["traceparent"],
    )


def value(entry: Entry) -> bytes | None:
    data: str | None = entry["data"]
    return None if data is None else data.encode()


def merged(waiting: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Both in order; of each key of a compacted topic only the newest, which replaces all older ones."""
    result: list[Entry] = []
    newest: set[tuple[str, str]] = set()
    for entry in reversed([*waiting, *new]):
        address = (entry["topic"], entry["key"])
        if entry.get("compacted") and address in newest:
            continue
        newest.add(address)
        result.append(entry)
    return result[::-1]


def published_after(before: Mapping[str, Any], entries: Sequence[Entry]) -> dict[str, Any]:
    """The last event published on each compacted topic, for the guardian: ``{field: {sequence, id}}``."""
    after = dict(before)
    for entry in entries:
        if entry.get("compacted"):
            after[published_field(entry["topic"])] = {"sequence": entry["sequence"], "id": entry["id"]}
    return after


def published_field(topic: str) -> str:
    """A topic's name as a field name of a document, without dots."""
    return topic.replace(".", "_")


def republished_entry(event: OutgoingEvent, id: str, sequence: int, service: str, time: datetime) -> Entry:
    """The entry that publishes an event again, with its first id and sequence."""
    draft = Draft(service, time, None, [id])
    return draft.entries([event], sequence - 1, sequence - 1)[0]
