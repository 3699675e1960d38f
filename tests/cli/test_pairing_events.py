"""A pairing's events are found on real topics among others, wherever they lie and whatever else lies there."""

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

KINDS = (PairingProposed, PairingFormed, SessionHeld, ContactNeeded, NotificationSent)
OTHERS = 20
_PARTITIONS = 12


@pytest.fixture(autouse=True)
def topics(run: Run, servers: Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICEVERSA_KAFKA", servers.kafka)
    monkeypatch.setenv("VICEVERSA_TOPIC_PREFIX", prefix)
    assert run("provision").exit_code == 0


def example(kind: type[EventData], **changes: Any) -> EventData:
    return examples()[kind].model_copy(update=changes)


MINE = [example(kind) for kind in KINDS]
PAIRING, READER = MINE[0].key(), MINE[-1].key()


def said(servers: Endpoints, prefix: str, events: Iterable[EventData], *, elsewhere: bool = False) -> None:
    """Publishes them where our producers do, or each in the next partition."""

    async def say() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=servers.kafka)
        await producer.start()
        try:
            for event in events:
                key = event.key().encode()
                place = DefaultPartitioner()(key, range(_PARTITIONS), [])
                await producer.send_and_wait(
                    event.TOPIC.full_name(prefix),
                    key=key,
                    value=event.model_dump_json().encode(),
                    headers=envelope_of(event).headers(),
                    partition=(place + elsewhere) % _PARTITIONS,
                )
            await producer.send_and_wait(PairingProposed.TOPIC.full_name(prefix), key=PAIRING.encode(), value=b"{}")
        finally:
            await producer.stop()

    asyncio.run(say())


def found(servers: Endpoints, prefix: str) -> tuple[list[EventData], list[str]]:
    """What is found, and what was reported on the way."""
    reported: list[str] = []
    reading = read_pairing_events(Connection(servers.kafka), prefix, PAIRING, [READER], reported.append)
    return [one.data for one in asyncio.run(reading)], reported


def test_in_the_partition_of_its_key_and_of_its_readers(servers: Endpoints, prefix: str) -> None:
    others = [example(kind, pairing_id=f"other-{number}") for kind in KINDS for number in range(OTHERS)]
    said(servers, prefix, [*others, *MINE])
    assert found(servers, prefix) == (MINE, [])


def test_where_something_else_wrote_the_topics_all_of_them_are_read_and_that_is_said(
    servers: Endpoints, prefix: str
) -> None:
    said(servers, prefix, [*MINE, example(SessionHeld, pairing_id="other")], elsewhere=True)
    events, reported = found(servers, prefix)
    assert events == MINE
    assert len(reported) == 1


def test_of_a_pairing_that_nobody_spoke_of_nothing_is_found(servers: Endpoints, prefix: str) -> None:
    assert found(servers, prefix)[0] == []
