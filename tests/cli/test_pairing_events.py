"""Reading the events of a pairing from real topics that hold other events as well."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from chassis.core.connection import Connection
from cli.pairing_events import read_pairing_events
from contracts.envelope import EventData
from contracts.examples import envelope_of, examples
from contracts.feedback import ContactNeeded, SessionHeld
from contracts.notifications import NotificationSent
from contracts.pairings import PairingFormed, PairingProposed
from deploy.local.stack import Endpoints
from tests.cli.conftest import Run

EVENT_TYPES = (PairingProposed, PairingFormed, SessionHeld, ContactNeeded, NotificationSent)
OTHER_PAIRINGS = 20
_PARTITIONS = 12


@pytest.fixture(autouse=True)
def topics(run: Run, servers: Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICEVERSA_KAFKA", servers.kafka)
    monkeypatch.setenv("VICEVERSA_TOPIC_PREFIX", prefix)
    assert run("provision").exit_code == 0


def example(kind: type[EventData], **changes: Any) -> EventData:
    return examples()[kind].model_copy(update=changes)


EVENTS = [example(kind) for kind in EVENT_TYPES]
PAIRING, READER = EVENTS[0].key(), EVENTS[-1].key()


def publish(servers: Endpoints, prefix: str, events: Iterable[EventData], *, shift_partition: bool = False) -> None:
    """Publish the events to the partitions of our producers, or each to the next partition."""

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=servers.kafka)
        await producer.start()
        try:
            for event in events:
                key = event.key().encode()
                partition = DefaultPartitioner()(key, range(_PARTITIONS), [])
                await producer.send_and_wait(
                    event.TOPIC.full_name(prefix),
                    key=key,
                    value=event.model_dump_json().encode(),
                    headers=envelope_of(event).headers(),
                    partition=(partition + shift_partition) % _PARTITIONS,
                )
            await producer.send_and_wait(PairingProposed.TOPIC.full_name(prefix), key=PAIRING.encode(), value=b"{}")
        finally:
            await producer.stop()

    asyncio.run(send())


def read_events(servers: Endpoints, prefix: str) -> tuple[list[EventData], list[str]]:
    """The events that were found, and the reports on the way."""
    reported: list[str] = []
    reading = read_pairing_events(Connection(servers.kafka), prefix, PAIRING, [READER], reported.append)
    return [event.data for event in asyncio.run(reading)], reported


class TestPairingEvents:
    def test_events_are_read_from_their_partitions(self, servers: Endpoints, prefix: str) -> None:
        others = [
            example(kind, pairing_id=f"other-{number}") for kind in EVENT_TYPES for number in range(OTHER_PAIRINGS)
        ]
        publish(servers, prefix, [*others, *EVENTS])
        assert read_events(servers, prefix) == (EVENTS, [])

    def test_mirrored_topics_are_read_as_a_whole(self, servers: Endpoints, prefix: str) -> None:
        """A mirror may use other partitions. A report says that reading takes longer."""
        publish(servers, prefix, [*EVENTS, example(SessionHeld, pairing_id="other")], shift_partition=True)
        events, reported = read_events(servers, prefix)
        assert events == EVENTS
        assert len(reported) == 1

    def test_an_unknown_pairing_has_no_events(self, servers: Endpoints, prefix: str) -> None:
        assert read_events(servers, prefix)[0] == []
