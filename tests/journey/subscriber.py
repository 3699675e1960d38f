"""Another system: it reads with confluent-kafka and the CloudEvents SDK, and uses only the published schemas."""

import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self, cast

from cloudevents.abstract import CloudEvent
from cloudevents.kafka import KafkaMessage, from_binary
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # it is public
from jsonschema import Draft202012Validator

from tests.journey.conditions import wait_until

MAY_READ = (
    "programmes.v1",
    "rounds.v1",
    "pairings.v1",
    "pairing-states.v1",
    "feedback.v1",
    "notifications.v1",
    "erasure-requests.v1",
    *(f"erasure-completions.{service}.v1" for service in ("profiles", "matcher", "notifier", "feedback")),
)
TOGETHER = frozenset({"formed", "chartered", "paused"})

_SCHEMAS = Path("contracts/schemas")
_POLL_S = 0.1


@dataclass(frozen=True)
class SubscriberRecord:
    """A record as stored on its topic; ``topic`` is without the prefix."""

    topic: str
    key: str
    headers: Mapping[str, bytes]
    value: bytes | None

    def text(self, header: str) -> str:
        return self.headers[header].decode()

    @property
    def sequence(self) -> int:
        return int(self.headers["ce_sequence"])


@dataclass(frozen=True)
class SubscriberEvent:
    """A valid event; ``data`` is None for a tombstone."""

    record: SubscriberRecord
    type: str
    id: str
    subject: str
    data: Mapping[str, Any] | None


class NotUnderstood(Exception):
    """A record was not the CloudEvent that the documents promise."""


class OtherSystem:
    """Reads the given topics from their beginning, in its own thread, until it is stopped."""

    def __init__(self, servers: str, prefix: str, topics: tuple[str, ...] = MAY_READ) -> None:
        self.events: list[SubscriberEvent] = []
        self._prefix = prefix
        self._topics = [prefix + topic for topic in topics]
        self._next: dict[tuple[str, int], int] = {}
        self._trouble: Exception | None = None
        self._stopping = threading.Event()
        self._admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"{prefix}other-system-{uuid.uuid4().hex[:8]}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "topic.metadata.refresh.interval.ms": 1000,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, name="other-system", daemon=True)

    def __enter__(self) -> Self:
        self._consumer.subscribe(self._topics)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join(10)

    def caught_up(self, seconds: float = 10.0) -> None:
        """Wait until all current records of its topics are read. Raises ``NotUnderstood``."""
        wait_until(lambda: self._behind() == 0, "all records read by the other system", seconds)

    # -- received data -----------------------------------------------------------------------------------------

    def distinct(self, topic: str) -> list[SubscriberEvent]:
        """The topic's events in order of arrival, each once: the same id may come again."""
        return list({event.id: event for event in self.events if event.record.topic == topic}.values())

    def history(self, pairing_id: str) -> list[SubscriberEvent]:
        """The events of a pairing, in order."""
        return [event for event in self.distinct("pairings.v1") if event.subject == pairing_id]

    def states(self) -> dict[str, Mapping[str, Any]]:
        """The state of each pairing, from the last record of each key of ``pairing-states.v1``."""
        states: dict[str, Mapping[str, Any]] = {}
        for event in list(self.events):
            if event.record.topic != "pairing-states.v1":
                continue
            if event.data is None:
                states.pop(event.record.key, None)
            else:
                states[event.record.key] = event.data
        return states

    def who_with_whom(self, programme: str) -> set[frozenset[str]]:
        """The current pairs of a programme, from ``pairing-states.v1`` alone."""
        return {
            frozenset(participant["member_id"] for participant in state["participants"])
            for state in self.states().values()
            if state["programme_id"] == programme and state["state"] in TOGETHER
        }

    def sequences(self, topic: str) -> dict[tuple[str, str], list[int]]:
        """By source and subject, the sequences in order of arrival."""
        sequences: dict[tuple[str, str], list[int]] = defaultdict(list)
        for event in self.events:
            if event.record.topic == topic:
                sequences[event.record.text("ce_source"), event.subject].append(event.record.sequence)
        return sequences

    # -- reading ---------------------------------------------------------------------------------------------------

    def _behind(self) -> int:
        if self._trouble is not None:
            raise NotUnderstood(str(self._trouble)) from self._trouble
        described = self._admin.list_topics(timeout=10).topics
        partitions = [
            TopicPartition(name, number)
            for name in self._topics
            if name in described
            for number in described[name].partitions
        ]
        ends = self._admin.list_offsets({partition: OffsetSpec.latest() for partition in partitions})  # type: ignore[no-untyped-call]
        return sum(
            int(end.result(10).offset) - self._next.get((partition.topic, partition.partition), 0)
            for partition, end in ends.items()
        )

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for message in self._consumer.consume(num_messages=500, timeout=_POLL_S):
                    self._read(message)
        except Exception as error:  # noqa: BLE001 - caught_up raises it in the test's own thread
            self._trouble = error
        finally:
            self._consumer.close()

    def _read(self, message: Message) -> None:
        if (error := message.error()) is not None:
            if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART or error.retriable():
                return
            raise KafkaException(error)
        self.events.append(understood(message, self._prefix))
        self._next[str(message.topic()), int(message.partition() or 0)] = int(message.offset() or 0) + 1


def understood(message: Message, prefix: str) -> SubscriberEvent:
    """Read by the CloudEvents SDK, and validate by the schema of its ``dataschema``. Raises ``NotUnderstood``."""
    headers = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
    key, value = message.key() or b"", message.value()
    event: CloudEvent = from_binary(
        KafkaMessage(headers=headers, key=key, value=value or b"null"), data_unmarshaller=json.loads
    )
    data = event.get_data()
    if value is not None:
        _schema(event["dataschema"].rpartition(":")[2]).validate(data)
    record = SubscriberRecord(str(message.topic()).removeprefix(prefix), key.decode(), headers, value)
    return SubscriberEvent(record, event["type"], event["id"], event["subject"], cast("Mapping[str, Any] | None", data))


@cache
def _schema(type: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((_SCHEMAS / f"{type}.json").read_text(encoding="utf-8")))
