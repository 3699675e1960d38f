"""Creates the topics and indexes that a service needs; what exists already is checked and left as it is."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from chassis.kafka import Connection
from chassis.mongo import Mongo
from contracts.envelope import Topic

KEPT = timedelta(days=90)  # topics with clean-up "time"
TOMBSTONES = timedelta(days=30)  # how long a tombstone stays: longer than the longest outage of a subscriber


class ProvisioningError(Exception):
    """A topic is missing or differs from its contract, and what to do about it."""


def configuration(topic: Topic, min_in_sync: int) -> dict[str, str]:
    """A topic's settings at the broker."""
    milliseconds = {"compact": -1, "time": int(KEPT.total_seconds() * 1000), "keep": -1}[topic.cleanup]
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
        settings["delete.retention.ms"] = str(int(TOMBSTONES.total_seconds() * 1000))
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
    admin = AIOKafkaAdminClient(**connection.arguments())
    await admin.start()
    try:
        response = await admin.create_topics(
            [
                NewTopic(name, topic.partitions, replication, topic_configs=configuration(topic, min_in_sync))
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
    for found in await admin.describe_topics(list(names)):
        expected = wanted[found["topic"]].partitions
        if len(found["partitions"]) != expected:
            raise ProvisioningError(
                f"topic {found['topic']} has {len(found['partitions'])} partitions instead of {expected}; "
                "delete it if it is empty, or choose another VICEVERSA_TOPIC_PREFIX"
            )


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
