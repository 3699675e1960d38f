"""A whole lifecycle on a broker with an authorizer, under exactly the rules that `viceversa acls` prints.

Each service is a process with a user of its own, and creates no topic. The commands and another system have theirs.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import cli.local_stack
from chassis.messaging.kafka import Producer, read_topic
from chassis.messaging.provisioning import provision_topics
from cli.installation import Addresses
from contracts.access_rules import COMMANDS, PROVISION, SUBSCRIBER, access_rules
from contracts.catalogue import SERVICE_TOPICS, SERVICES, TOPICS
from contracts.examples import envelope_of, examples
from contracts.pairings import PAIRINGS
from contracts.profiles import ProfileChanged
from deploy.local.stack import Endpoints
from tests.journey.conditions import wait_until
from tests.journey.people import Json, Members, a_programme, admin, cohort, ok, partners
from tests.journey.stack import Stack, running_stack
from tests.production.secured_kafka import PASSWORD, SecuredKafka, run_secured_kafka

LONG_S = 60.0
CHARTER = {"goals": ["to listen"], "meeting_rhythm": "weekly"}


@dataclass(frozen=True)
class Installation:
    stack: Stack
    kafka: SecuredKafka

    def run(self, *command: str) -> str:
        """What a command of `viceversa` prints, as the user of the commands."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VICEVERSA_")}
        environment |= {name: str(value) for name, value in sasl(self.kafka, COMMANDS).items()}
        arguments = [sys.executable, "-m", "cli.main", *command, "--data", str(self.stack.data)]
        return subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def sasl(kafka: SecuredKafka, user: str) -> dict[str, str | None]:
    """The settings with which a process signs in as this user."""
    return {
        "VICEVERSA_KAFKA": kafka.servers,
        "VICEVERSA_KAFKA_PROTOCOL": "SASL_PLAINTEXT",
        "VICEVERSA_KAFKA_MECHANISM": "PLAIN",
        "VICEVERSA_KAFKA_USERNAME": user,
        "VICEVERSA_KAFKA_PASSWORD": PASSWORD,
    }


@pytest.fixture(scope="module")
def installation(
    servers: Endpoints, module_prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """The test itself reads offsets on the listener of the administrator; every process signs in."""
    folder = tmp_path_factory.mktemp("rules")
    plain = cli.local_stack.process_environment

    def signed_in(data: Path, addresses: Addresses, name: str) -> dict[str, str | None]:
        own = plain(data, addresses, name)
        return {**own, **sasl(kafka, name), "VICEVERSA_CREATE_TOPICS": "no"} if name in SERVICES else own

    with run_secured_kafka(folder) as kafka, pytest.MonkeyPatch.context() as patch:
        kafka.allow(access_rules(module_prefix))
        topics = [*TOPICS, *SERVICE_TOPICS]
        connection = kafka.connection(PROVISION)
        asyncio.run(provision_topics(connection, topics, module_prefix, replication=1, min_in_sync=1))
        patch.setattr(cli.local_stack, "process_environment", signed_in)
        with running_stack(folder / "stack", Endpoints(kafka.admin, servers.mongo), module_prefix) as stack:
            yield Installation(stack, kafka)


@pytest.fixture(scope="module")
def members(installation: Installation) -> Members:
    return a_programme(installation.stack, "ruled", cohort("ruled", 3, 3))


@pytest.fixture(scope="module")
def pairing(installation: Installation, members: Members) -> Json:
    """A pairing from its proposal to the request for another partner, which ends it."""
    stack = installation.stack
    members.publish(members.round()["round_id"])
    formed = members.accept_both(members.pairings(state="proposed")[0])
    id, (senior, junior) = formed["pairing_id"], partners(formed)
    stack.settle(LONG_S)
    ok(
        members.matcher(senior).post(
            f"/pairings/{id}/charter", json={"goals": ["to listen"], "meeting_rhythm": "weekly"}
        )
    )
    ok(members.matcher(junior).post(f"/pairings/{id}/charter", json={"agree": True}))
    now = stack.clock.now().isoformat()
    ok(members.feedback(senior).post(f"/pairings/{id}/sessions", json={"starts_at": now, "held": True}))
    ok(members.feedback(junior).put(f"/pairings/{id}/checkins/day_0", json={"answers": {"1": 3}}))
    ok(members.feedback(junior).post(f"/pairings/{id}/partner-change", json={}))
    wait_until(lambda: members.pairing(id)["state"] == "ended", "the end of the pairing", LONG_S)
    stack.settle(LONG_S)
    return members.pairing(id)


class TestLifecycle:
    def test_every_service_takes_part(self, installation: Installation, members: Members, pairing: Json) -> None:
        assert pairing["end_kind"] == "ended_early"
        for service in ("profiles", "feedback"):
            document = installation.stack.database(service)["pairings"].find_one({"_id": pairing["pairing_id"]})
            assert document["state"] == "ended", service
        for member in partners(pairing):
            inbox = ok(members.notifier(member).get("/inbox"))["items"]
            assert {"proposal", "partners", "ended"} & {item["purpose"] for item in inbox}

    def test_the_commands_and_another_system_read_what_they_need(
        self, installation: Installation, pairing: Json
    ) -> None:
        story = installation.run("pairing", pairing["pairing_id"], "--json")
        assert pairing["pairing_id"] in story
        assert json.loads(installation.run("dead-letters", "list", "--json")) == []

        async def types() -> set[str]:
            connection = installation.kafka.connection(SUBSCRIBER)
            records: Any = read_topic(connection, installation.stack.prefix, PAIRINGS.name)
            return {dict(record.headers)["ce_type"].decode() async for record in records}

        assert {"mentoring.pairing.formed.v1", "mentoring.pairing.ended.v1"} <= asyncio.run(types())

    def test_an_erasure_is_completed_by_all_four(
        self, installation: Installation, members: Members, pairing: Json
    ) -> None:
        junior = partners(pairing)[1]
        ok(members.profiles(junior).post("/members/me/erasure"))
        api = installation.stack.api("profiles", admin(installation.stack))

        def is_done() -> bool:
            answer: httpx.Response = api.get(f"/erasures/{junior}")
            return bool(answer.is_success and answer.json()["done"])

        wait_until(is_done, "the erasure reported by every service", LONG_S)

    def test_a_dead_letter_is_listed_and_replayed(self, installation: Installation, pairing: Json) -> None:
        example = examples()[ProfileChanged]
        envelope = envelope_of(example)
        topic = ProfileChanged.TOPIC.full_name(installation.stack.prefix)

        async def write() -> None:
            producer = Producer(installation.kafka.connection("profiles"))
            await producer.start()
            try:
                await producer.deliver(topic, key=envelope.subject.encode(), value=b"{", headers=envelope.headers())
            finally:
                await producer.stop()

        def dead_letters() -> list[Json]:
            return list(json.loads(installation.run("dead-letters", "list", "matcher", "--json")))

        asyncio.run(write())
        wait_until(dead_letters, "the dead letter", LONG_S)
        [letter] = dead_letters()
        installation.run("dead-letters", "replay", "matcher", letter["place"])
        wait_until(lambda: len(dead_letters()) == 2, "it is as unreadable as before", LONG_S)

    def test_nothing_was_refused(self, installation: Installation, pairing: Json) -> None:
        for service in SERVICES:
            log = installation.stack.log(service)
            assert "Authorization" not in log
            assert "refused" not in log
