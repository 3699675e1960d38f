"""A broker with an authorizer, under exactly the rules that `viceversa acls` prints."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError
from pydantic import SecretStr

from chassis.core.settings import Settings
from chassis.messaging.kafka import Producer, read_topic
from chassis.messaging.provisioning import ProvisioningError, prepare_topics, provision_topics
from chassis.service import Chassis, _run
from contracts.access_rules import COMMANDS, PROVISION, SUBSCRIBER, SUBSCRIPTIONS, access_rules
from contracts.catalogue import SERVICE_TOPICS, SERVICES, TOPICS
from contracts.envelope import dead_letters_of, retries_of
from contracts.pairings import PAIRINGS
from contracts.profiles import CONTACTS, PROFILES
from deploy.local.stack import Endpoints
from tests.patience import patience
from tests.processes import until
from tests.production.secured_kafka import PASSWORD, SecuredKafka, run_secured_kafka

PREFIX = "secured."


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    folder: Path = tmp_path_factory.mktemp("secured")
    with run_secured_kafka(folder) as kafka:
        kafka.allow(access_rules(PREFIX))
        yield kafka


@pytest_asyncio.fixture
async def provisioned(kafka: SecuredKafka) -> AsyncIterator[SecuredKafka]:
    """With every topic, created by the user of `viceversa provision`."""
    topics = [*TOPICS, *SERVICE_TOPICS]
    await provision_topics(kafka.connection(PROVISION), topics, PREFIX, replication=1, min_in_sync=1)
    yield kafka


async def check_topics(kafka: SecuredKafka, service: str, prefix: str = PREFIX, *, create: bool = False) -> None:
    published = [topic for topic in TOPICS if service in topic.writers]
    reads = [*SUBSCRIPTIONS[service], retries_of(service)]
    await prepare_topics(
        kafka.connection(service), reads, [*published, dead_letters_of(service)], prefix,
        create=create, replication=1, min_in_sync=1,
    )  # fmt: skip


async def write(kafka: SecuredKafka, user: str, topic: str) -> None:
    producer = Producer(kafka.connection(user))
    await producer.start()
    try:
        await producer.deliver(PREFIX + topic, key=b"k", value=b"{}", headers=[])
    finally:
        await producer.stop()


class TestPrintedRules:
    @pytest.mark.parametrize("service", SERVICES)
    async def test_each_service_may_do_what_it_needs(self, provisioned: SecuredKafka, service: str) -> None:
        for create in (False, True):
            await check_topics(provisioned, service, create=create)
        await write(provisioned, service, dead_letters_of(service).name)

    @pytest.mark.parametrize(
        ("user", "topic"),
        [
            *((service, PROFILES.name) for service in SERVICES[1:]),
            ("profiles", PAIRINGS.name),
            ("matcher", "erasure-requests.v1"),
            ("matcher", "erasure-completions.feedback.v1"),
            ("feedback", "retries.feedback"),
            (SUBSCRIBER, PAIRINGS.name),
            (COMMANDS, PAIRINGS.name),
            (PROVISION, PAIRINGS.name),
        ],
    )
    async def test_nobody_else_writes_a_topic(self, provisioned: SecuredKafka, user: str, topic: str) -> None:
        # A user who may write to no topic at all is refused when the producer starts.
        with pytest.raises((TopicAuthorizationFailedError, ClusterAuthorizationFailedError)):
            await write(provisioned, user, topic)

    @pytest.mark.parametrize("user", ["matcher", "feedback", SUBSCRIBER, COMMANDS, PROVISION])
    async def test_nobody_else_reads_contacts(self, provisioned: SecuredKafka, user: str) -> None:
        await write(provisioned, "profiles", CONTACTS.name)
        with pytest.raises((TopicAuthorizationFailedError, LookupError)):
            async with asyncio.timeout(patience(10)):
                _ = [record async for record in read_topic(provisioned.connection(user), PREFIX, CONTACTS.name)]

    async def test_refused_topic_is_named_with_the_operation(self, provisioned: SecuredKafka) -> None:
        with pytest.raises(ProvisioningError, match=r"secured\.profiles\.v1: WRITE refused"):
            await prepare_topics(
                provisioned.connection("matcher"), [], [PROFILES], PREFIX, create=True, replication=1, min_in_sync=1
            )
        with pytest.raises(ProvisioningError, match=r"secured\.contacts\.v1: DESCRIBE and READ refused"):
            await prepare_topics(
                provisioned.connection("matcher"), [CONTACTS], [], PREFIX, create=True, replication=1, min_in_sync=1
            )

    async def test_missing_topic_is_not_created_by_a_service(self, kafka: SecuredKafka) -> None:
        kafka.allow(access_rules("missing."))
        with pytest.raises(ProvisioningError, match=r"topic missing\..*is missing"):
            await check_topics(kafka, "matcher", "missing.", create=False)


class TestServices:
    async def test_all_four_become_ready(
        self, provisioned: SecuredKafka, servers: Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Databases are those of the session's store; Kafka is the secured one."""
        provisioned.allow(access_rules(prefix))
        topics = [*TOPICS, *SERVICE_TOPICS]
        await provision_topics(provisioned.connection(PROVISION), topics, prefix, replication=1, min_in_sync=1)
        monkeypatch.setenv("VICEVERSA_NOTIFIER_SMTP_HOST", "127.0.0.1")
        running: list[asyncio.Task[None]] = []
        try:
            for service in SERVICES:
                settings = Settings(
                    kafka=provisioned.servers, kafka_protocol="SASL_PLAINTEXT", kafka_mechanism="PLAIN",
                    kafka_username=service, kafka_password=SecretStr(PASSWORD), mongo=SecretStr(servers.mongo),
                    topic_prefix=prefix, create_topics="no", hmac_key=SecretStr("k" * 32),
                )  # fmt: skip
                chassis = Chassis(service, settings)
                build: Any = import_module(f"services.{service}.__main__").build
                running.append(asyncio.create_task(_run(chassis, build(chassis))))
                await until(_readiness_of(chassis), patience(60))
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _readiness_of(chassis: Chassis) -> Any:
    async def is_ready() -> bool:
        return chassis.health.check_readiness().ok

    return is_ready
