"""`provision`, `restored` and `dead-letters` on real servers."""

import asyncio

import pytest

from chassis.core.clocks import Clock
from chassis.core.connection import Connection
from chassis.messaging.dead_letters import DeadLetters
from chassis.messaging.kafka import Producer, read_topic
from chassis.messaging.records import KafkaRecord
from contracts.catalogue import SERVICE_TOPICS, TOPICS
from deploy.local.stack import Endpoints
from tests.cli.conftest import Run, parse_json


@pytest.fixture(autouse=True)
def here(servers: Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICEVERSA_KAFKA", servers.kafka)
    monkeypatch.setenv("VICEVERSA_MONGO", servers.mongo)
    monkeypatch.setenv("VICEVERSA_TOPIC_PREFIX", prefix)


def put_aside(servers: Endpoints, prefix: str) -> None:
    async def put() -> None:
        connection = Connection(servers.kafka)
        producer = Producer(connection)
        await producer.start()
        try:
            letters = DeadLetters(producer, connection, "matcher", prefix, TOPICS, Clock())
            record = KafkaRecord("rounds.v1", 1, 7, b"key", b"not JSON", (("ce_id", b"event-1"),), 0)
            await letters.send(record, "unreadable", "it is no JSON")
        finally:
            await producer.stop()

    asyncio.run(put())


def test_provision_creates_every_topic_once(run: Run, prefix: str) -> None:
    created = parse_json(run("provision", "--json"))
    assert sorted(created) == sorted(topic.full_name(prefix) for topic in (*TOPICS, *SERVICE_TOPICS))
    assert parse_json(run("provision", "--json")) == []


def test_a_dead_letter_is_listed_shown_and_replayed_to_its_service_alone(
    run: Run, servers: Endpoints, prefix: str
) -> None:
    assert run("provision").exit_code == 0
    put_aside(servers, prefix)

    [letter] = parse_json(run("dead-letters", "list", "--json"))
    assert (letter["service"], letter["code"], letter["topic"]) == ("matcher", "unreadable", "rounds.v1")
    shown = parse_json(run("dead-letters", "show", "matcher", letter["place"], "--json"))
    assert shown["value"] == "not JSON"
    assert shown["headers"]["ce_id"] == "event-1"
    assert "not JSON" in run("dead-letters", "show", "matcher", letter["place"]).stdout

    assert run("dead-letters", "replay", "matcher", letter["place"]).exit_code == 0

    async def retries() -> list[KafkaRecord]:
        return [record async for record in read_topic(Connection(servers.kafka), prefix, "retries.matcher")]

    assert [record.value for record in asyncio.run(retries())] == [b"not JSON"]


def test_a_letter_that_is_not_there_is_said_to_be_missing(run: Run) -> None:
    assert run("provision").exit_code == 0
    assert parse_json(run("dead-letters", "list", "--json")) == []
    result = run("dead-letters", "show", "matcher", "0-0")
    assert result.exit_code == 1
    assert "no dead letter" in result.stderr


def test_a_restored_database_begins_a_new_epoch_each_time(run: Run) -> None:
    assert "epoch 1" in run("restored", "matcher", "--yes").stdout
    assert "epoch 2" in run("restored", "matcher", "--yes").stdout
    assert "epoch 1" in run("restored", "profiles", "--yes").stdout
