"""A record by a writer who does not own the topic or the type: no effect in any service, and no stop.

The consumer of each service reads such records with its real handlers. Their context refuses every access, so any
effect at all fails the test.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from chassis.core.clocks import Clock
from chassis.core.connection import Connection
from chassis.messaging.consumer import Consumer
from chassis.messaging.dead_letters import DeadLetters, list_dead_letters
from chassis.messaging.kafka import Producer
from chassis.messaging.provisioning import provision_topics
from chassis.messaging.records import ForeignRecord, KafkaRecord, read_record
from chassis.messaging.subscriptions import HandlerRegistry
from chassis.observability.health import Health
from contracts.catalogue import BY_TYPE, EVENTS, SERVICES
from contracts.envelope import Envelope, EventData, dead_letters_of, retries_of, source_of
from contracts.examples import examples
from contracts.privacy import ErasureCompleted, ErasureRequested
from contracts.profiles import ProfileChanged
from contracts.programmes import ProgrammeChanged
from deploy.local.stack import Endpoints
from services.matcher.partner_replica import replica_handlers

READERS: Mapping[str, HandlerRegistry[Any]] = {
    service: import_module(f"services.{service}.handlers").registry for service in SERVICES
}
FAR = 2**63 - 2


class Untouchable:
    """A context in which nothing may happen."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a foreign record reached {name}")


@dataclass
class Reader:
    consumer: Consumer[Any]
    health: Health
    connection: Connection
    prefix: str
    service: str

    def count_foreign(self) -> float:
        return sum(
            sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name == "viceversa_events_foreign_total" and sample.labels["service"] == self.service
        )


@asynccontextmanager
async def open_reader_of(service: str, kafka: str, prefix: str) -> AsyncIterator[Reader]:
    connection, clock = Connection(kafka), Clock()
    producer = Producer(connection)
    await producer.start()
    health = Health(clock.machine_now)
    letters = DeadLetters(producer, connection, service, prefix, READERS[service].topics(), clock)
    consumer = Consumer(
        service,
        READERS[service],
        Untouchable(),
        letters,
        health,
        connection=connection,
        prefix=prefix,
        group=prefix + service,
        instance="one",
    )
    try:
        yield Reader(consumer, health, connection, prefix, service)
    finally:
        await producer.stop()


def forge(type: type[EventData], source: bytes, *, topic: str = "", sequence: int = 7, **changed: Any) -> KafkaRecord:
    """A record that is right in everything but its writer."""
    event = examples()[type].model_copy(update=changed)
    envelope = Envelope("e-1", type.TYPE, "/forged", event.subject(), datetime.now(UTC), sequence, event.correlation())
    headers = [(name, source if name == "ce_source" else value) for name, value in envelope.headers()]
    name = topic or type.topics()[0].name
    return KafkaRecord(name, 0, 0, event.key().encode(), event.model_dump_json().encode(), tuple(headers))


def sources_beside(owners: tuple[str, ...]) -> st.SearchStrategy[bytes | None]:
    """Sources of others than these services: other services, near misses, and garbage."""
    owned = {source_of(owner).encode() for owner in owners}
    near = [edit(source_of(owner)).encode() for owner in owners for edit in (str.upper, "{} ".format, "{}/x".format)]
    others = [source_of(service).encode() for service in (*SERVICES, "portal", "")]
    texts = st.sampled_from([*near, *others, b"", b"/viceversa", b"profiles", b"\xff\xfe"])
    return st.none() | (texts | st.binary(max_size=20)).filter(lambda source: source not in owned)


@st.composite
def foreign_records(draw: st.DrawFn, registry: HandlerRegistry[Any]) -> KafkaRecord:
    topic = draw(st.sampled_from([*registry.topics(), *registry.former_topics()]))
    type = draw(st.sampled_from(EVENTS))
    event = examples()[type]
    named = draw(st.just(type.TYPE) | st.sampled_from(sorted(BY_TYPE)) | st.text(max_size=10))
    sequence = draw(st.sampled_from([0, 1, FAR, 2**63 - 1, 2**40 * 5 + 3]))
    envelope = Envelope("e-1", named, "/", event.subject(), datetime.now(UTC), sequence, event.correlation())
    source = draw(sources_beside(topic.writers))
    headers = [header for header in envelope.headers() if header[0] != "ce_source"]
    if source is not None:
        headers.append(("ce_source", source))
    if draw(st.booleans()):  # twice, once as the owner: which of the two counts would depend on the reader
        owner = source_of(draw(st.sampled_from(topic.writers))).encode()
        headers += [("ce_source", owner)] * (1 if source is not None else 2)
    more = st.tuples(st.sampled_from(["ce_id", "ce_time", "x", "dl-topic"]), st.binary(max_size=9))
    headers += draw(st.lists(more, max_size=2))
    value = draw(st.sampled_from([event.model_dump_json().encode(), b"{", b"\xff", b"", None, b"x" * 100_000]))
    key = draw(st.sampled_from([event.key().encode(), None, b"", b"\xff", b"p\x1b[2J"]))
    return KafkaRecord(topic.name, draw(st.integers(0, 11)), draw(st.integers(0, 2**40)), key, value, tuple(headers))


class TestForeignRecordFuzzing:
    @pytest.mark.parametrize("service", SERVICES)
    async def test_no_foreign_record_has_an_effect_or_stops_a_service(
        self, service: str, servers: Endpoints, prefix: str
    ) -> None:
        topics = [dead_letters_of(service), retries_of(service)]
        await provision_topics(Connection(servers.kafka), topics, prefix, replication=1, min_in_sync=1)
        async with open_reader_of(service, servers.kafka, prefix) as reader:
            batches: list[list[KafkaRecord]] = []

            @settings(max_examples=150)
            @given(st.lists(foreign_records(READERS[service]), min_size=1, max_size=60))
            def draw_batches(records: list[KafkaRecord]) -> None:
                batches.append(records)

            draw_batches()
            before = reader.count_foreign()
            for records in batches:
                await reader.consumer.process(records)
            assert reader.count_foreign() - before == sum(map(len, batches))
            assert reader.health.check_liveness().ok
            assert await list_dead_letters(reader.connection, prefix, service) == []

    @given(st.data())
    def test_no_foreign_record_reaches_the_partner_replica(self, data: st.DataObject) -> None:
        record = data.draw(foreign_records(replica_handlers))
        assert isinstance(read_record(record, replica_handlers), ForeignRecord)


class TestForgedRecords:
    @pytest.mark.parametrize("service", SERVICES)
    @pytest.mark.parametrize("type", [ErasureRequested, ErasureCompleted, ProfileChanged, ProgrammeChanged])
    def test_record_of_another_service_is_foreign(self, service: str, type: type[EventData]) -> None:
        registry = READERS[service]
        if registry.find_type(type.TYPE) is None:
            return
        for topic in type.topics():
            for other in (*SERVICES, "portal"):
                record = forge(type, source_of(other).encode(), topic=topic.name)
                assert isinstance(read_record(record, registry), ForeignRecord) == (
                    other not in topic.writers or examples()[type].writer() not in (None, other)
                )

    def test_service_cannot_report_for_another_one(self) -> None:
        for topic in (*ErasureCompleted.topics(), ErasureCompleted.FORMER_TOPIC):
            assert topic is not None
            record = forge(ErasureCompleted, source_of("matcher").encode(), topic=topic.name, service="feedback")
            assert isinstance(read_record(record, READERS["profiles"]), ForeignRecord)

    def test_only_profiles_requests_erasures_on_the_former_topic(self) -> None:
        for other in SERVICES[1:]:
            record = forge(ErasureRequested, source_of(other).encode(), topic="privacy.v1")
            assert isinstance(read_record(record, READERS["matcher"]), ForeignRecord)
        mine = forge(ErasureRequested, source_of("profiles").encode(), topic="privacy.v1")
        assert not isinstance(read_record(mine, READERS["matcher"]), ForeignRecord)
