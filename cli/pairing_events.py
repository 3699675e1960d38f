"""Reads the events of a pairing from Kafka. It uses no consumer group, so it does not affect any consumer."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

from chassis.core.connection import Connection
from chassis.messaging.kafka import read_key, read_topic
from chassis.messaging.records import KafkaRecord, is_from_its_writer
from cli.pairing_story import ReadEvent
from contracts.catalogue import BY_TYPE
from contracts.envelope import Envelope
from contracts.feedback import FEEDBACK, FeedbackEvent
from contracts.notifications import NOTIFICATIONS, NotificationEvent
from contracts.pairings import PAIRINGS, PairingEvent

_MAX_CLOCK_SKEW = timedelta(hours=1)
"""Largest difference between the clocks of two machines. Records older than this cannot be about the pairing."""

_PRIVATE_PURPOSES = ("checkin", "checkin_reminder")
"""Older records tell of these messages too. They show who is asked, and who has not answered yet."""


async def read_pairing_events(
    connection: Connection, prefix: str, pairing_id: str, readers: Sequence[str], report: Callable[[str], None]
) -> list[ReadEvent]:
    """All events about a pairing, in no particular order.

    ``readers``: the members who may have received messages about it. Messages to others, such as assistants, are left
    out. Each topic is read only in the partition of its key, from the pairing's first event on. When no event is there,
    the topic was written by something else (a mirror with other partitions), and the whole topics are read.
    """
    events = await _select_events(pairing_id, read_key(connection, prefix, PAIRINGS.name, pairing_id))
    if not events:
        report("The events are not in the expected partitions. Reading the whole topics, which may take a while ...")
        for topic in (PAIRINGS, FEEDBACK, NOTIFICATIONS):
            events += await _select_events(pairing_id, read_topic(connection, prefix, topic.name))
        return events
    since = min(event.data.recorded_at for event in events) - _MAX_CLOCK_SKEW
    events += await _select_events(pairing_id, read_key(connection, prefix, FEEDBACK.name, pairing_id, since))
    for reader in readers:
        events += await _select_events(pairing_id, read_key(connection, prefix, NOTIFICATIONS.name, reader, since))
    return events


async def _select_events(pairing_id: str, records: AsyncIterator[KafkaRecord]) -> list[ReadEvent]:
    return [event async for record in records if (event := _parse_event(record, pairing_id)) is not None]


def _parse_event(record: KafkaRecord, pairing_id: str) -> ReadEvent | None:
    """The event of a record; None when it is about something else, of an unknown type, unreadable, or foreign."""
    if record.value is None or pairing_id.encode() not in record.value:
        return None
    try:
        envelope = Envelope.from_headers(record.headers)
        kind = BY_TYPE.get(envelope.type)
        if kind is None or not issubclass(kind, PairingEvent | FeedbackEvent | NotificationEvent):
            return None
        if not is_from_its_writer(record, kind):
            return None
        data = kind.model_validate_json(record.value)
    except ValueError:
        return None
    if isinstance(data, NotificationEvent) and data.purpose in _PRIVATE_PURPOSES:
        return None
    return ReadEvent.of(envelope, data) if data.pairing_id == pairing_id else None
