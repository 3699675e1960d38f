"""Topics and indexes are made once; what exists and differs from its contract is refused with words."""

from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.messaging.provisioning import ProvisioningError, provision_indexes, provision_topics, topic_configuration
from contracts.envelope import Topic
from tests.chassis.harness import COUNTERS, COUNTS, TOPICS, ChassisHarness

KEPT = Topic("kept.v1", "keep", partitions=1)


async def provision(toys: ChassisHarness, *topics: Topic) -> list[str]:
    return await provision_topics(toys.connection, topics, toys.prefix, replication=1, min_in_sync=1)


class TestProvisionTopics:
    async def test_missing_topics_are_created_and_others_left_unchanged(self, toys: ChassisHarness) -> None:
        assert await provision(toys, *TOPICS, KEPT) == [KEPT.full_name(toys.prefix)]
        assert await provision(toys, *TOPICS, KEPT) == []

    async def test_broker_has_the_settings_of_the_contract(self, toys: ChassisHarness) -> None:
        await provision(toys, *TOPICS)  # waits until the broker can describe what was just created
        admin = AIOKafkaAdminClient(**toys.connection.client_arguments())
        await admin.start()
        try:
            for topic in (COUNTERS, COUNTS):
                resource = ConfigResource(ConfigResourceType.TOPIC, topic.full_name(toys.prefix))
                [described] = await admin.describe_configs([resource])
                found = {entry[0]: entry[1] for entry in described.resources[0][4]}
                wanted = topic_configuration(topic, 1)
                assert {name: found[name] for name in wanted} == wanted
        finally:
            await admin.close()

    async def test_other_number_of_partitions_is_rejected(self, toys: ChassisHarness) -> None:
        with pytest.raises(ProvisioningError, match="3 partitions instead of 4"):
            await provision(toys, replace(COUNTS, partitions=4))

    async def test_other_clean_up_policy_is_rejected(self, toys: ChassisHarness) -> None:
        with pytest.raises(ProvisioningError, match=r"cleanup\.policy"):
            await provision(toys, replace(COUNTERS, cleanup="time"))

    async def test_error_names_the_topic_that_the_broker_rejects(self, toys: ChassisHarness) -> None:
        with pytest.raises(ProvisioningError, match="no good name"):
            await provision(toys, Topic("no good name", "time", partitions=1))


class TestProvisionIndexes:
    async def test_indexes_can_be_created_twice(self, toys: ChassisHarness) -> None:
        for _ in range(2):
            await provision_indexes(toys.mongo, ["counters"], ["copies"])
        indexes = await toys.collection.index_information()
        assert any(index["key"] == [("_id", 1), ("version", 1)] and index.get("unique") for index in indexes.values())
