"""The demo's subscriber on a real broker: another Kafka client reads the records of our producer."""

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaError, KafkaException

from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer
from chassis.messaging.provisioning import provision_topics
from cli.demo.subscriber import RESTRICTED_TOPICS, SeenEvent, Subscriber, SubscriberFailed
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


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)


class TestDemoSubscriber:
    async def test_each_event_id_counts_once_and_tombstones_are_followed(
        self, servers: Endpoints, prefix: str, producer: Producer, events: dict[type[EventData], EventData]
    ) -> None:
        shown: list[SeenEvent] = []
        subscriber = Subscriber(servers.kafka, prefix, shown.append)
        subscriber.start()
        witness = subscriber.witness

        await send(producer, prefix, events[PairingProposed], 1)
        await send(producer, prefix, events[PairingProposed], 1)
        pairing = await send(producer, prefix, events[PairingState], 2)
        wait_until(lambda: pairing in witness.states)
        await send(producer, prefix, events[PairingState], 3, tombstone=True)
        wait_until(lambda: pairing not in witness.states)
        wait_until(lambda: subscriber.count_unread() == 0)
        subscriber.stop()

        assert witness.count_by_topic() == {"pairings.v1": 1, "pairing-states.v1": 2}
        assert witness.event_counts == {PairingProposed.TYPE: 1, PairingState.TYPE: 2}
        assert sorted(event.id for event in shown) == ["event-1", "event-2", "event-3"]
        assert [event.id for event in shown if event.topic == "pairing-states.v1"] == ["event-2", "event-3"]

    async def test_restricted_topics_are_counted_and_never_opened(
        self, servers: Endpoints, prefix: str, producer: Producer, events: dict[type[EventData], EventData]
    ) -> None:
        shown: list[SeenEvent] = []
        subscriber = Subscriber(servers.kafka, prefix, shown.append)
        subscriber.start()
        await send(producer, prefix, events[ContactChanged], 1)
        wait_until(lambda: subscriber.witness.count_by_topic() == {"contacts.v1": 1})
        subscriber.stop()
        assert shown[0].data is None
        assert set(RESTRICTED_TOPICS) == {topic.name for topic in TOPICS if topic.restricted}

    @pytest.mark.parametrize("code", [KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.LEADER_NOT_AVAILABLE])
    def test_unread_records_are_assumed_without_a_leader(
        self, code: int, servers: Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While a partition has no leader, the number of unread records is unknown."""

        class NoLeader:
            def list_topics(self, **_: float) -> None:
                raise KafkaException(KafkaError(code))

        subscriber = Subscriber(servers.kafka, prefix, lambda _seen: None)
        monkeypatch.setattr(subscriber, "_admin", NoLeader())
        assert subscriber.count_unread() > 0
        monkeypatch.undo()
        subscriber.start()
        subscriber.stop()

    async def test_a_record_that_is_no_cloudevent_makes_it_fail(
        self, servers: Endpoints, prefix: str, producer: Producer
    ) -> None:

        subscriber = Subscriber(servers.kafka, prefix, lambda _seen: None)
        subscriber.start()
        await producer.deliver(f"{prefix}pairings.v1", key=b"k", value=b"{}", headers=[])
        with pytest.raises(SubscriberFailed):
            wait_until(lambda: subscriber.count_unread() < 0)
        with pytest.raises(SubscriberFailed):
            subscriber.stop()
