"""Topics are created once. An existing topic that differs from its contract is rejected."""

from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.messaging.provisioning import ProvisioningError, prepare_topics, provision_topics, topic_configuration
from contracts.envelope import Topic
from tests.chassis.harness import COUNTERS, COUNTS, TOPICS, ChassisHarness

UNLIMITED = Topic("unlimited.v1", "keep", partitions=1)


async def provision(harness: ChassisHarness, *topics: Topic) -> list[str]:
    return await provision_topics(harness.connection, topics, harness.prefix, replication=1, min_in_sync=1)


class TestProvisionTopics:
    async def test_missing_topics_are_created_and_others_left_unchanged(self, harness: ChassisHarness) -> None:
        assert await provision(harness, *TOPICS, UNLIMITED) == [UNLIMITED.full_name(harness.prefix)]
        assert await provision(harness, *TOPICS, UNLIMITED) == []

    async def test_broker_has_the_settings_of_the_contract(self, harness: ChassisHarness) -> None:
        await provision(harness, *TOPICS)  # waits until the broker can describe the new topics
        admin = AIOKafkaAdminClient(**harness.connection.client_arguments())
        await admin.start()
        try:
            for topic in (COUNTERS, COUNTS):
                resource = ConfigResource(ConfigResourceType.TOPIC, topic.full_name(harness.prefix))
                [described] = await admin.describe_configs([resource])
                actual = {entry[0]: entry[1] for entry in described.resources[0][4]}
                expected = topic_configuration(topic, 1)
                assert {name: actual[name] for name in expected} == expected
        finally:
            await admin.close()

    async def test_other_number_of_partitions_is_rejected(self, harness: ChassisHarness) -> None:
        with pytest.raises(ProvisioningError, match="3 partitions instead of 4"):
            await provision(harness, replace(COUNTS, partitions=4))

    async def test_other_clean_up_policy_is_rejected(self, harness: ChassisHarness) -> None:
        with pytest.raises(ProvisioningError, match=r"cleanup\.policy"):
            await provision(harness, replace(COUNTERS, cleanup="time"))

    async def test_error_names_the_topic_that_the_broker_rejects(self, harness: ChassisHarness) -> None:
        with pytest.raises(ProvisioningError, match="no good name"):
            await provision(harness, Topic("no good name", "time", partitions=1))


async def prepare(harness: ChassisHarness, *topics: Topic, create: bool) -> None:
    await prepare_topics(
        harness.connection, topics, topics, harness.prefix, create=create, replication=1, min_in_sync=1
    )


class TestServiceTopics:
    async def test_missing_topic_is_named_and_not_created(self, harness: ChassisHarness) -> None:
        for _ in range(2):
            with pytest.raises(ProvisioningError, match=r"unlimited\.v1 is missing; `viceversa provision`"):
                await prepare(harness, *TOPICS, UNLIMITED, create=False)

    async def test_missing_topic_is_created_where_the_setting_says_so(self, harness: ChassisHarness) -> None:
        await prepare(harness, *TOPICS, UNLIMITED, create=True)
        await prepare(harness, *TOPICS, UNLIMITED, create=False)

    async def test_topic_that_differs_from_its_contract_is_rejected(self, harness: ChassisHarness) -> None:
        with pytest.raises(ProvisioningError, match="3 partitions instead of 4"):
            await prepare(harness, replace(COUNTS, partitions=4), create=True)
