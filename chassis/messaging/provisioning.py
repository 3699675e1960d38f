"""Creates the topics that a service needs. Existing ones are checked and not changed."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from chassis.core.connection import Connection
from chassis.messaging.topic_rights import NO_ERROR, TopicRights, read_topic_rights
from contracts.envelope import Topic

RETENTION = timedelta(days=90)  # topics with clean-up "time"
TOMBSTONE_RETENTION = timedelta(days=30)  # longer than the longest outage of a subscriber
DESCRIBE_ATTEMPTS, DESCRIBE_PAUSE_S = 20, 0.25  # for topics that were just created


class ProvisioningError(Exception):
    """A topic cannot be created or differs from its contract. The message says what to do."""


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
        # The broker unpacks what others compress: our client has not every codec, and would stop at such a record.
        "compression.type": "uncompressed",
    }
    if topic.cleanup == "compact":
        settings["delete.retention.ms"] = str(int(TOMBSTONE_RETENTION.total_seconds() * 1000))
        settings["max.compaction.lag.ms"] = str(24 * 3600 * 1000)  # erased data is gone within about a day
        settings["min.cleanable.dirty.ratio"] = "0.1"
    return settings


async def provision_topics(
    connection: Connection, topics: Iterable[Topic], prefix: str, *, replication: int, min_in_sync: int
) -> list[str]:
    """Create the missing topics; returns the names of the created ones.

    Raises ``ProvisioningError`` when a topic cannot be created, or exists with another number of partitions or another
    clean-up policy. The number of partitions decides which keys share a partition, so it can never be changed.
    """
    by_name = {topic.full_name(prefix): topic for topic in topics}
    admin = AIOKafkaAdminClient(**connection.client_arguments())
    await admin.start()
    try:
        response = await admin.create_topics(
            [
                NewTopic(name, topic.partitions, replication, topic_configs=topic_configuration(topic, min_in_sync))
                for name, topic in by_name.items()
            ]
        )
        created, existing = [], []
        for name, code, *message in response.topic_errors:
            if code == 0:
                created.append(name)
            elif code == TopicAlreadyExistsError.errno:
                existing.append(name)
            elif code in (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno):
                raise ProvisioningError(
                    f"topic {name} is missing, and CREATE is refused; let a user who may create it run "
                    "`viceversa provision`"
                )
            else:
                raise ProvisioningError(f"topic {name} cannot be created: {for_code(code).__name__} {message or ''}")
        if existing:
            await _check_topics(admin, existing, by_name)
        return created
    finally:
        await admin.close()


async def prepare_topics(
    connection: Connection,
    reads: Collection[Topic],
    writes: Collection[Topic],
    prefix: str,
    *,
    create: bool,
    replication: int,
    min_in_sync: int,
) -> None:
    """Check the topics of a service, and what its user may do with them. With ``create``, create the missing ones.

    Topics that exist need no right but to read and to write. Raises ``ProvisioningError``, which names each topic with
    the operation that is refused, or says that it is missing.
    """
    topics = {topic.full_name(prefix): topic for topic in (*reads, *writes)}
    admin = AIOKafkaAdminClient(**connection.client_arguments())
    await admin.start()
    try:
        rights = await read_topic_rights(admin, topics)
        missing = [topics[right.name] for right in rights if right.is_missing]
        if missing and create:
            await provision_topics(connection, missing, prefix, replication=replication, min_in_sync=min_in_sync)
            await _describe_topics(admin, [topic.full_name(prefix) for topic in missing])
            rights = await read_topic_rights(admin, topics)
        faults = [fault for right in rights if (fault := _find_fault(right, topics[right.name], reads, writes))]
        if faults:
            raise ProvisioningError("; ".join(faults))
        await _check_topics(admin, list(topics), topics, skip_refused=True)
    finally:
        await admin.close()


def _find_fault(right: TopicRights, topic: Topic, reads: Collection[Topic], writes: Collection[Topic]) -> str | None:
    if right.is_missing:
        return f"topic {right.name} is missing; `viceversa provision` creates it"
    refused = right.refused_operations(reads=topic in reads, writes=topic in writes)
    if refused:
        return f"topic {right.name}: {' and '.join(refused)} refused; `viceversa acls` prints the rules that are needed"
    if right.error_code != NO_ERROR:
        return f"topic {right.name}: {for_code(right.error_code).__name__}"
    return None


async def find_topics(connection: Connection, topics: Sequence[Topic], prefix: str) -> list[Topic]:
    """Those of the topics that the broker has and this user may see."""
    if not topics:
        return []
    admin = AIOKafkaAdminClient(**connection.client_arguments())
    await admin.start()
    try:
        names = set(await admin.list_topics())
    finally:
        await admin.close()
    return [topic for topic in topics if topic.full_name(prefix) in names]


async def _check_topics(
    admin: AIOKafkaAdminClient, names: Sequence[str], by_name: dict[str, Topic], *, skip_refused: bool = False
) -> None:
    """``skip_refused``: a user who may not see the settings of a topic does not check them."""
    for description in await _describe_topics(admin, names):
        expected = by_name[description["topic"]].partitions
        if len(description["partitions"]) != expected:
            raise ProvisioningError(
                f"topic {description['topic']} has {len(description['partitions'])} partitions instead of {expected}; "
                "delete it if it is empty, or choose another VICEVERSA_TOPIC_PREFIX"
            )
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries, *_ in response.resources:
            if skip_refused and code == TopicAuthorizationFailedError.errno:
                continue
            if code != 0:
                raise ProvisioningError(f"topic {name} cannot be described: {for_code(code).__name__} {message or ''}")
            policy = next((entry[1] for entry in entries if entry[0] == "cleanup.policy"), None)
            expected_policy = topic_configuration(by_name[name], 1)["cleanup.policy"]
            if policy != expected_policy:
                raise ProvisioningError(
                    f"topic {name} has cleanup.policy {policy} instead of {expected_policy}; it was not created by "
                    "`viceversa provision`: change its setting, or choose another VICEVERSA_TOPIC_PREFIX"
                )


async def _describe_topics(admin: AIOKafkaAdminClient, names: Sequence[str]) -> list[dict[str, Any]]:
    """The broker's descriptions. Retries for a while, since another process may just have created the topics.

    Raises ``ProvisioningError`` when the broker still cannot describe a topic.
    """
    for _ in range(DESCRIBE_ATTEMPTS):
        descriptions: list[dict[str, Any]] = await admin.describe_topics(list(names))
        if all(description["error_code"] == 0 for description in descriptions):
            return descriptions
        await asyncio.sleep(DESCRIBE_PAUSE_S)
    unknown = {
        description["topic"]: for_code(description["error_code"]).__name__
        for description in descriptions
        if description["error_code"]
    }
    raise ProvisioningError(f"the broker cannot describe these topics: {unknown}")
