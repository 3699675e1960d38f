"""Reads a pairing's events from Kafka, without a group: nobody who works there notices."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

from chassis.core.connection import Connection
from chassis.messaging.kafka import read_key, read_topic
from chassis.messaging.records import KafkaRecord
from cli.pairing_story import ReadEvent
from contracts.catalogue import BY_TYPE
from contracts.envelope import Envelope
from contracts.feedback import FEEDBACK, FeedbackEvent
from contracts.notifications import NOTIFICATIONS, NotificationEvent
from contracts.pairings import PAIRINGS, PairingEvent

_MAX_CLOCK_SKEW = timedelta(hours=1)
"""So far may the clocks of two machines be apart; what was written earlier cannot be about this pairing."""


async def read_pairing_events(
    connection: Connection, prefix: str, pairing_id: str, readers: Sequence[str], report: Callable[[str], None]
) -> list[ReadEvent]:
    """All that was said of a pairing, in no order.

    ``readers``: members to whom messages about it may have gone; messages to others, such as assistants, are left out.
    Each topic is read in the one partition that has the key, from the pairing's first event on. Where that one is not
    found, something else than the services wrote the topic (a mirror with other partitions), and all of it is read.
    """
    found = await _select_events(pairing_id, read_key(connection, prefix, PAIRINGS.name, pairing_id))
    if not found:
        report("Its events are not where our producers put them; reading the whole topics, which may take a while ...")
        for topic in (PAIRINGS, FEEDBACK, NOTIFICATIONS):
            found += await _select_events(pairing_id, read_topic(connection, prefix, topic.name))
        return found
    since = min(one.data.recorded_at for one in found) - _MAX_CLOCK_SKEW
    found += await _select_events(pairing_id, read_key(connection, prefix, FEEDBACK.name, pairing_id, since))
    for reader in readers:
        found += await _select_events(pairing_id, read_key(connection, prefix, NOTIFICATIONS.name, reader, since))
    return found


async def _select_events(pairing_id: str, records: AsyncIterator[KafkaRecord]) -> list[ReadEvent]:
    return [told async for record in records if (told := _parse_event(record, pairing_id)) is not None]


def _parse_event(record: KafkaRecord, pairing_id: str) -> ReadEvent | None:
    """None for what is about something else, of a type that is not known, or unreadable."""
    if record.value is None or pairing_id.encode() not in record.value:
        return None
    try:
        envelope = Envelope.from_headers(record.headers)
        kind = BY_TYPE.get(envelope.type)
        if kind is None or not issubclass(kind, PairingEvent | FeedbackEvent | NotificationEvent):
            return None
        data = kind.model_validate_json(record.value)
    except ValueError:
        return None
    return ReadEvent.of(envelope, data) if data.pairing_id == pairing_id else None
