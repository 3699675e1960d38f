"""Creates the topics and indexes that a service needs; what exists already is checked and left as it is."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from chassis.core.connection import Connection
from chassis.storage.mongo import Mongo
from contracts.envelope import Topic

RETENTION = timedelta(days=90)  # topics with clean-up "time"
TOMBSTONE_RETENTION = timedelta(days=30)  # how long a tombstone stays: longer than the longest outage of a subscriber
TRIES, PAUSE = 20, 0.25  # looks at a topic that was just created, and seconds between them


class ProvisioningError(Exception):
    """A topic is missing or differs from its contract, and what to do about it."""


def topic_configuration(topic: Topic, min_in_sync: int) -> dict[str, str]:
    """A topic's settings at the broker."""
    milliseconds = {"compact": -1, "time": int(RETENTION.total_seconds() * 1000), "keep": -1}[topic.cleanup]
    settings = {
        "cleanup.policy": "compact" if topic.cleanup == "compact" else "delete",
        "retention.ms": str(milliseconds),
        "retention.bytes": "-1",
        "max.message.bytes": str(topic.max_bytes),
        "min.insync.replicas": str(min_in_sync),
        "unclean.leader.election.enable": "false",
        "message.timestamp.type": "CreateTime",
    }
    if topic.cleanup == "compact":
        settings["delete.retention.ms"] = str(int(TOMBSTONE_RETENTION.total_seconds() * 1000))
        settings["max.compaction.lag.ms"] = str(24 * 3600 * 1000)  # what was erased is gone within about a day
        settings["min.cleanable.dirty.ratio"] = "0.1"
    return settings


async def provision_topics(
    connection: Connection, topics: Iterable[Topic], prefix: str, *, replication: int, min_in_sync: int
) -> list[str]:
    """Create what is missing; returns the names that were created.

    Raises ``ProvisioningError`` when a topic cannot be created, or exists with another number of partitions: that
    number decides which keys share a partition and can never be changed.
    """
    wanted = {topic.full_name(prefix): topic for topic in topics}
    admin = AIOKafkaAdminClient(**connection.client_arguments())
    await admin.start()
    try:
        response = await admin.create_topics(
            [
                NewTopic(name, topic.partitions, replication, topic_configs=topic_configuration(topic, min_in_sync))
                for name, topic in wanted.items()
            ]
        )
        created, existing = [], []
        for name, code, *message in response.topic_errors:
            if code == 0:
                created.append(name)
            elif code == TopicAlreadyExistsError.errno:
                existing.append(name)
            else:
                raise ProvisioningError(f"topic {name} cannot be created: {for_code(code).__name__} {message or ''}")
        if existing:
            await _check(admin, existing, wanted)
        return created
    finally:
        await admin.close()


async def _check(admin: AIOKafkaAdminClient, names: Sequence[str], wanted: dict[str, Topic]) -> None:
    for found in await _described(admin, names):
        expected = wanted[found["topic"]].partitions
        if len(found["partitions"]) != expected:
            raise ProvisioningError(
                f"topic {found['topic']} has {len(found['partitions'])} partitions instead of {expected}; "
                "delete it if it is empty, or choose another VICEVERSA_TOPIC_PREFIX"
            )
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries, *_ in response.resources:
            if code != 0:
                raise ProvisioningError(f"topic {name} cannot be described: {for_code(code).__name__} {message or ''}")
            policy = next((entry[1] for entry in entries if entry[0] == "cleanup.policy"), None)
            expected_policy = topic_configuration(wanted[name], 1)["cleanup.policy"]
            if policy != expected_policy:
                raise ProvisioningError(
                    f"topic {name} has cleanup.policy {policy} instead of {expected_policy}; it was not made by "
                    "`viceversa provision`: change its setting, or choose another VICEVERSA_TOPIC_PREFIX"
                )


async def _described(admin: AIOKafkaAdminClient, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the broker knows of these topics; what another process has just created takes it a moment."""
    for _ in range(TRIES):
        found: list[dict[str, Any]] = await admin.describe_topics(list(names))
        if all(topic["error_code"] == 0 for topic in found):
            return found
        await asyncio.sleep(PAUSE)
    unknown = {topic["topic"]: for_code(topic["error_code"]).__name__ for topic in found if topic["error_code"]}
    raise ProvisioningError(f"the broker cannot describe these topics: {unknown}")


async def provision_indexes(mongo: Mongo, aggregates: Iterable[str], projections: Iterable[str]) -> None:
    """The indexes that the protocol relies on for speed.

    The unique pairs let a compare-and-swap by equality use an index also on the embedded store, which knows no other;
    the scalars serve the sweeps.
    """
    for name in aggregates:
        await mongo.ensure_index(name, ["_id", "version"], unique=True)
        for scalar in ("outbox_since", "due", "lease"):
            await mongo.ensure_index(name, [scalar])
    for name in projections:
        await mongo.ensure_index(name, ["_id", "sequence"], unique=True)
