"""The demo's subscriber, on a real broker: another Kafka client reads what our producer sends."""

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaError, KafkaException

from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer
from chassis.messaging.provisioning import provision_topics
from cli.demo.subscriber import RESTRICTED_TOPICS, SeenEvent, Subscriber
from contracts.catalogue import TOPICS
from contracts.envelope import Envelope, EventData, source_of
from contracts.examples import examples
from contracts.pairings import PairingProposed, PairingState
from contracts.profiles import ContactChanged
from deploy.local.stack import Endpoints

WITHIN_S = 20.0


@pytest.fixture
async def producer(servers: Endpoints, prefix: str) -> AsyncIterator[Producer]:
    connection = Connection(servers.kafka)
    await provision_topics(connection, TOPICS, prefix, replication=1, min_in_sync=1)
    producer = Producer(connection)
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
def events() -> dict[type[EventData], EventData]:
    return dict(examples())


async def send(producer: Producer, prefix: str, event: EventData, number: int, *, tombstone: bool = False) -> str:
    envelope = Envelope(
        id=f"event-{number}",
        type=event.TYPE,
        source=source_of("matcher"),
        subject=event.subject(),
        time=datetime.now(UTC),
        sequence=number,
        correlationid=event.correlation(),
    )
    value = None if tombstone else event.model_dump_json().encode()
    topic = event.TOPIC.full_name(prefix)
    await producer.deliver(topic, key=event.key().encode(), value=value, headers=envelope.headers())
    return event.subject()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


async def test_it_understands_events_counts_each_id_once_and_follows_tombstones(
    servers: Endpoints, prefix: str, producer: Producer, events: dict[type[EventData], EventData]
) -> None:
    shown: list[SeenEvent] = []
    subscriber = Subscriber(servers.kafka, prefix, shown.append)
    subscriber.start()
    witness = subscriber.witness

    await send(producer, prefix, events[PairingProposed], 1)
    await send(producer, prefix, events[PairingProposed], 1)
    pairing = await send(producer, prefix, events[PairingState], 2)
    until(lambda: pairing in witness.states)
    await send(producer, prefix, events[PairingState], 3, tombstone=True)
    until(lambda: pairing not in witness.states)
    until(lambda: subscriber.count_unread() == 0)
    subscriber.stop()

    assert witness.count_by_topic() == {"pairings.v1": 1, "pairing-states.v1": 2}
    assert witness.event_counts == {PairingProposed.TYPE: 1, PairingState.TYPE: 2}
    assert sorted(seen.id for seen in shown) == ["event-1", "event-2", "event-3"]
    assert [seen.id for seen in shown if seen.topic == "pairing-states.v1"] == ["event-2", "event-3"]


async def test_restricted_topics_are_counted_and_never_opened(
    servers: Endpoints, prefix: str, producer: Producer, events: dict[type[EventData], EventData]
) -> None:
    shown: list[SeenEvent] = []
    subscriber = Subscriber(servers.kafka, prefix, shown.append)
    subscriber.start()
    await send(producer, prefix, events[ContactChanged], 1)
    until(lambda: subscriber.witness.count_by_topic() == {"contacts.v1": 1})
    subscriber.stop()
    assert shown[0].data is None
    assert set(RESTRICTED_TOPICS) == {topic.name for topic in TOPICS if topic.restricted}


@pytest.mark.parametrize("code", [KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.LEADER_NOT_AVAILABLE])
def test_while_a_leader_is_being_chosen_nobody_knows_how_far_behind_it_is(
    code: int, servers: Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoLeader:
        def list_topics(self, **_: float) -> None:
            raise KafkaException(KafkaError(code))

    subscriber = Subscriber(servers.kafka, prefix, lambda _seen: None)
    monkeypatch.setattr(subscriber, "_admin", NoLeader())
    assert subscriber.count_unread() > 0
    monkeypatch.undo()
    subscriber.start()
    subscriber.stop()


async def test_a_record_that_is_no_cloudevent_makes_it_fail_and_say_so(
    servers: Endpoints, prefix: str, producer: Producer
) -> None:
    from cli.demo.subscriber import SubscriberFailed

    subscriber = Subscriber(servers.kafka, prefix, lambda _seen: None)
    subscriber.start()
    await producer.deliver(f"{prefix}pairings.v1", key=b"k", value=b"{}", headers=[])
    with pytest.raises(SubscriberFailed):
        until(lambda: subscriber.count_unread() < 0)
    with pytest.raises(SubscriberFailed):
        subscriber.stop()
