"""The raw records of all topics of a stack, and records that a test writes itself."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from prometheus_client.parser import text_string_to_metric_families

from chassis.core.ids import new_id
from contracts.catalogue import SERVICE_TOPICS, TOPICS
from contracts.envelope import Envelope, EventData, Topic, source_of
from contracts.examples import examples
from tests.journey.conditions import wait_until
from tests.journey.stack import Stack

LARGE = 3_000_000
ALL = {topic.name: topic for topic in (*TOPICS, *SERVICE_TOPICS)}
Headers = list[tuple[str, bytes]]
_sequence = count(1_000_000)


@dataclass(frozen=True)
class Raw:
    """One stored record; ``topic`` is without the prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    def header(self, name: str) -> bytes | None:
        return dict(self.headers).get(name)

    def everything(self) -> bytes:
        parts = [self.key, self.value, *(part for name, value in self.headers for part in (name.encode(), value))]
        return b"\x00".join(part for part in parts if part is not None)


def read(stack: Stack, *topics: str) -> list[Raw]:
    """All retained records of these topics, or of all topics."""
    reader = Consumer(
        {
            "bootstrap.servers": stack.endpoints.kafka,
            "group.id": f"{stack.prefix}reader-{new_id()}",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
            "log_level": 3,
        }
    )
    described = reader.list_topics(timeout=10).topics
    names = [stack.prefix + topic for topic in topics] or [n for n in described if n.startswith(stack.prefix)]
    partitions = [TopicPartition(name, number) for name in names for number in described[name].partitions]
    left: dict[tuple[str, int], int] = {}
    starts: list[TopicPartition] = []
    for partition in partitions:
        first, end = reader.get_watermark_offsets(partition, timeout=10)
        if first < end:
            left[partition.topic, partition.partition] = end
            starts.append(TopicPartition(partition.topic, partition.partition, first))
    records: list[Raw] = []
    reader.assign(starts)
    try:
        wait_until(lambda: _drain(reader, stack.prefix, left, records) or not left, "every topic read to its end")
    finally:
        reader.close()
    return records


def _drain(reader: Consumer, prefix: str, left: dict[tuple[str, int], int], records: list[Raw]) -> bool:
    for message in reader.consume(2000, 0.3):
        assert message.error() is None, message.error()
        partition = (str(message.topic()), int(message.partition() or 0))
        records.append(
            Raw(
                partition[0].removeprefix(prefix),
                partition[1],
                int(message.offset() or 0),
                _bytes(message.key()),
                _bytes(message.value()),
                [(str(name), _bytes(value)) for name, value in list(message.headers() or [])],
            )
        )
    for position in reader.position(reader.assignment()):  # gaps are normal: compaction leaves them at the end too
        end = left.get((position.topic, position.partition))
        if end is not None and position.offset >= end:
            del left[position.topic, position.partition]
    return not left


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


class Hand:
    """Writes records to topics without the checks of a service."""

    def __init__(self, stack: Stack) -> None:
        self._prefix = stack.prefix
        self._producer = Producer(
            {
                "bootstrap.servers": stack.endpoints.kafka,
                "message.max.bytes": 2 * LARGE,
                "partitioner": "murmur2_random",  # the services' partitioner: records of one key share a partition
                "log_level": 3,
            }
        )

    def put(
        self, topic: str, key: str | bytes | None, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> tuple[int, int]:
        """Return partition and offset, after the acknowledgement."""
        done: list[Any] = []
        where: dict[str, Any] = {} if partition is None else {"partition": partition}
        self._producer.produce(
            self._prefix + topic,
            value,
            key,
            headers=list(headers),
            on_delivery=lambda error, message: done.append(error or message),
            **where,
        )
        self._producer.flush(30)
        [delivered] = done
        return int(delivered.partition()), int(delivered.offset())


def headers(type: type[EventData], subject: str, named: str = "") -> Headers:
    """Headers of the owning service, newer than all its records; ``named``: as another type."""
    envelope = Envelope(
        id=new_id(),
        type=named or type.TYPE,
        source=source_of(examples()[type].writer() or type.TOPIC.writers[0]),
        subject=subject,
        time=datetime.now(UTC),
        sequence=next(_sequence),
        correlationid=subject,
    )
    return envelope.headers()


def figures(stack: Stack, service: str, name: str) -> Mapping[tuple[str, str], float]:
    """A counter of a service by topic and type (or code)."""
    text = httpx.get(f"{stack.management_urls[service]}/metrics", trust_env=False).text
    values: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{name}_total":
                key = sample.labels["topic"], sample.labels.get("type") or sample.labels.get("code", "")
                values[key] = values.get(key, 0) + sample.value
    return values


@contextmanager
def configured(stack: Stack, topic: Topic, **settings: str) -> Iterator[None]:
    """Other settings of a topic for the duration of the block; underscores stand for dots."""
    name = topic.full_name(stack.prefix)
    wanted = {key.replace("_", "."): value for key, value in settings.items()}
    before = _settings(stack, name)
    _configure(stack, name, wanted)
    try:
        yield
    finally:
        _configure(stack, name, {key: before[key] for key in wanted})


def _settings(stack: Stack, name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    [described] = stack.admin().describe_configs([resource]).values()
    return {key: str(entry.value) for key, entry in described.result(10).items()}


def _configure(stack: Stack, name: str, settings: Mapping[str, str]) -> None:
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in settings.items()]
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    [altered] = stack.admin().incremental_alter_configs([resource]).values()
    altered.result(10)

    def is_applied() -> bool:
        return settings.items() <= _settings(stack, name).items()

    wait_until(is_applied, f"{name} with {dict(settings)}", 10)


@contextmanager
def cleaning_often(stack: Stack) -> Iterator[None]:
    """The broker's cleaner runs every half second instead of every fifteen seconds."""
    name = "log.cleaner.backoff.ms"
    entry = ConfigEntry(name, "500", incremental_operation=AlterConfigOpType.SET)
    usual = ConfigEntry(name, None, incremental_operation=AlterConfigOpType.DELETE)

    def set_to(entry: ConfigEntry) -> None:
        brokers = stack.admin().list_topics(timeout=10).brokers
        every = [ConfigResource(ResourceType.BROKER, str(id), incremental_configs=[entry]) for id in brokers]
        for altered in stack.admin().incremental_alter_configs(every).values():
            altered.result(10)

    set_to(entry)
    try:
        yield
    finally:
        set_to(usual)
