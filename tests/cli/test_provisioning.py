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
def use_test_servers(servers: Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICEVERSA_KAFKA", servers.kafka)
    monkeypatch.setenv("VICEVERSA_MONGO", servers.mongo)
    monkeypatch.setenv("VICEVERSA_TOPIC_PREFIX", prefix)


def send_dead_letter(servers: Endpoints, prefix: str) -> None:
    async def send() -> None:
        connection = Connection(servers.kafka)
        producer = Producer(connection)
        await producer.start()
        try:
            dead_letters = DeadLetters(producer, connection, "matcher", prefix, TOPICS, Clock())
            record = KafkaRecord("rounds.v1", 1, 7, b"key", b"not JSON", (("ce_id", b"event-1"),), 0)
            await dead_letters.send(record, "unreadable", "it is not JSON")
        finally:
            await producer.stop()

    asyncio.run(send())


class TestProvision:
    def test_every_topic_is_created_once(self, run: Run, prefix: str) -> None:
        created = parse_json(run("provision", "--json"))
        assert sorted(created) == sorted(topic.full_name(prefix) for topic in (*TOPICS, *SERVICE_TOPICS))
        assert parse_json(run("provision", "--json")) == []


class TestDeadLetterCommands:
    def test_a_dead_letter_is_listed_shown_and_replayed(self, run: Run, servers: Endpoints, prefix: str) -> None:
        """A replay goes only to the service of the dead letter."""
        assert run("provision").exit_code == 0
        send_dead_letter(servers, prefix)

        [dead_letter] = parse_json(run("dead-letters", "list", "--json"))
        assert (dead_letter["service"], dead_letter["code"], dead_letter["topic"]) == (
            "matcher",
            "unreadable",
            "rounds.v1",
        )
        output = parse_json(run("dead-letters", "show", "matcher", dead_letter["place"], "--json"))
        assert output["value"] == "not JSON"
        assert output["headers"]["ce_id"] == "event-1"
        assert "not JSON" in run("dead-letters", "show", "matcher", dead_letter["place"]).stdout

        assert run("dead-letters", "replay", "matcher", dead_letter["place"]).exit_code == 0

        async def retries() -> list[KafkaRecord]:
            return [record async for record in read_topic(Connection(servers.kafka), prefix, "retries.matcher")]

        assert [record.value for record in asyncio.run(retries())] == [b"not JSON"]

    def test_a_missing_dead_letter_is_reported(self, run: Run) -> None:
        assert run("provision").exit_code == 0
        assert parse_json(run("dead-letters", "list", "--json")) == []
        result = run("dead-letters", "show", "matcher", "0-0")
        assert result.exit_code == 1
        assert "no dead letter" in result.stderr


class TestUnfreezeCommand:
    def test_a_request_goes_to_that_service_alone(self, run: Run, servers: Endpoints, prefix: str) -> None:
        assert run("provision").exit_code == 0
        sent = parse_json(run("unfreeze", "matcher", "profiles.v1", "p-1", "--json"))
        assert sent == {"service": "matcher", "topic": "profiles.v1", "key": "p-1"}

        async def requests(service: str) -> list[KafkaRecord]:
            return [record async for record in read_topic(Connection(servers.kafka), prefix, f"retries.{service}")]

        [request] = asyncio.run(requests("matcher"))
        assert (request.key, request.header("unfreeze-topic")) == (b"p-1", "profiles.v1")
        assert asyncio.run(requests("feedback")) == []

    def test_an_unread_topic_is_refused_with_the_right_ones(self, run: Run) -> None:
        result = run("unfreeze", "notifier", "profiles.v1", "p-1")
        assert result.exit_code == 2
        assert "contacts.v1" in result.stderr
        assert run("unfreeze", "payroll", "profiles.v1", "p-1").exit_code == 2


class TestRestored:
    def test_each_restore_begins_a_new_epoch(self, run: Run) -> None:
        assert "epoch 1" in run("restored", "matcher", "--yes").stdout
        assert "epoch 2" in run("restored", "matcher", "--yes").stdout
        assert "epoch 1" in run("restored", "profiles", "--yes").stdout
