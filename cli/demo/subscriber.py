"""Another system: it reads the topics with another Kafka client and the CloudEvents SDK, and uses none of our code.

It is also the demo's independent witness: its counts are compared with those of the services.
"""

import json
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from cloudevents.abstract import CloudEvent
from cloudevents.exceptions import GenericException
from cloudevents.kafka import KafkaMessage, from_binary
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # it is public

from contracts.privacy import ERASURE_COMPLETIONS, ERASURE_REQUESTS

OPEN_TOPICS = (
    "programmes.v1",
    "rounds.v1",
    "pairings.v1",
    "pairing-states.v1",
    "feedback.v1",
    "notifications.v1",
    *(topic.name for topic in (ERASURE_REQUESTS, *ERASURE_COMPLETIONS)),
)
RESTRICTED_TOPICS = (
    "profiles.v1",
    "contacts.v1",
    "answers.v1",
    "checkins.v1",
    "partner-changes.v1",
    "outcomes.v1",
    "requests.v1",
    "unmatched.v1",
)
"""A real installation refuses these topics to other systems. Here only the headers of their events are read."""

_TRANSIENT_ERRORS = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
    }
)
"""Errors that disappear by themselves, such as a leader election or a broker restart. The client itself retries."""

_POLL_S = 0.2
_ANSWER_WITHIN_S = 10.0


class SubscriberFailed(Exception):
    """The broker refused access, or a record was not a CloudEvent as documented."""


@dataclass(frozen=True)
class SeenEvent:
    """One event. ``data`` is None for a tombstone and on a restricted topic."""

    topic: str
    type: str
    id: str
    subject: str
    data: Mapping[str, Any] | None


@dataclass
class Witness:
    """The events seen so far. Each event id counts once, because an event may arrive more than once."""

    ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    event_counts: Counter[str] = field(default_factory=Counter)
    states: dict[str, str] = field(default_factory=dict)
    """State of each pairing, from `pairing-states.v1` alone."""
    erased_pairings: set[str] = field(default_factory=set)
    """Pairings removed by a tombstone, because one of the two was erased."""
    subjects_by_type: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Event type -> ids of the aggregates with such an event."""
    sessions: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Meeting -> its pairing and latest state."""
    answered_checkins: dict[str, str] = field(default_factory=dict)
    """Event that a check-in was answered -> its pairing. Each check-in is answered once."""

    def record(self, event: SeenEvent) -> bool:
        """Record an event. False when it was recorded before."""
        if event.id in self.ids[event.topic]:
            return False
        self.ids[event.topic].add(event.id)
        self.event_counts[event.type] += 1
        self.subjects_by_type[event.type].add(event.subject)
        if event.data is not None and "session" in event.data:
            session = event.data["session"]
            self.sessions[session["session_id"]] = (event.subject, session["state"])
        if event.type == "mentoring.checkin.completed.v1":
            self.answered_checkins[event.id] = event.subject
        if event.topic == "pairing-states.v1":
            if event.data is None:
                self.states.pop(event.subject, None)
                self.erased_pairings.add(event.subject)
            else:
                self.states[event.subject] = str(event.data["state"])
        return True

    def count_meetings(self, state: str) -> int:
        """The number of meetings in this state, without pairings of erased people."""
        return sum(at == state and pairing not in self.erased_pairings for pairing, at in self.sessions.values())

    def count_answered_checkins(self) -> int:
        """The number of answered check-ins, without pairings of erased people."""
        return sum(pairing not in self.erased_pairings for pairing in self.answered_checkins.values())

    def find_richest_pairing(self) -> str:
        """The pairing with the most kinds of events, without pairings of erased people."""
        kinds: Counter[str] = Counter()
        for pairings in self.subjects_by_type.values():
            kinds.update(self.states.keys() & pairings)
        return max(kinds, key=lambda pairing: (kinds[pairing], pairing))

    def count_by_topic(self) -> dict[str, int]:
        return {topic: len(ids) for topic, ids in sorted(self.ids.items())}


class Subscriber:
    """Reads every topic from the beginning, in its own thread, until it is stopped."""

    def __init__(self, servers: str, prefix: str, show: Callable[[SeenEvent], None]) -> None:
        self.witness = Witness()
        self._prefix = prefix
        self._listeners = [show]
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"{prefix}demo-subscriber-{uuid.uuid4().hex[:8]}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "topic.metadata.refresh.interval.ms": 2000,
                "log_level": 0,
            }
        )
        self._admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        self._next_offsets: dict[tuple[str, int], int] = {}
        """Topic and partition -> next offset."""
        self._thread = threading.Thread(target=self._run, name="subscriber", daemon=True)

    def start(self) -> None:
        self._consumer.subscribe([self._prefix + topic for topic in (*OPEN_TOPICS, *RESTRICTED_TOPICS)])
        self._thread.start()

    def add_listener(self, listener: Callable[[SeenEvent], None]) -> None:
        """Call this listener once for each event from now on, in the subscriber's thread."""
        self._listeners.append(listener)

    def stop(self) -> None:
        """Stop reading. Raises ``SubscriberFailed`` when it has failed before."""
        self.close()
        self.raise_if_failed()

    def close(self) -> None:
        """Disconnect from the broker. May be repeated, also after a failure."""
        self._stopping.set()
        self._thread.join(_ANSWER_WITHIN_S)

    def raise_if_failed(self) -> None:
        if self._error is not None:
            raise SubscriberFailed(str(self._error)) from self._error

    def count_unread(self, topics: Iterable[str] = OPEN_TOPICS) -> int:
        """The number of unread records of these topics, by the broker's offsets."""
        self.raise_if_failed()
        names = [self._prefix + topic for topic in topics]
        try:
            described = self._admin.list_topics(timeout=_ANSWER_WITHIN_S).topics
            partitions = [TopicPartition(name, number) for name in names for number in described[name].partitions]
            ends = self._admin.list_offsets({partition: OffsetSpec.latest() for partition in partitions})  # type: ignore[no-untyped-call]
            return sum(
                int(end.result(_ANSWER_WITHIN_S).offset)
                - self._next_offsets.get((partition.topic, partition.partition), 0)
                for partition, end in ends.items()
            )
        except KafkaException as error:
            if error.args[0].code() not in _TRANSIENT_ERRORS:
                raise
            return 1  # unknown at the moment; ask again

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for message in self._consumer.consume(num_messages=200, timeout=_POLL_S):
                    self._read(message)
        except (KafkaException, GenericException, ValueError, KeyError) as error:
            self._error = error
        finally:
            self._consumer.close()

    def _read(self, message: Message) -> None:
        if (error := message.error()) is not None:
            if error.code() in _TRANSIENT_ERRORS:
                return
            raise KafkaException(error)
        event = parse_event(message, self._prefix)
        if self.witness.record(event):
            for listener in self._listeners:
                listener(event)
        self._next_offsets[str(message.topic()), int(message.partition() or 0)] = int(message.offset() or 0) + 1


def parse_event(message: Message, prefix: str) -> SeenEvent:
    """Parse a record as a CloudEvent. Raises ``ValueError`` or ``KeyError`` when it is not one."""
    topic = str(message.topic()).removeprefix(prefix)
    pairs = cast("list[tuple[str, bytes]]", message.headers() or [])
    value = b"" if topic in RESTRICTED_TOPICS else message.value() or b""
    event: CloudEvent = from_binary(
        KafkaMessage(headers=dict(pairs), key=message.key(), value=value),
        data_unmarshaller=lambda body: json.loads(body) if body else None,
    )
    data = event.get_data()
    return SeenEvent(topic, event["type"], event["id"], event["subject"], data if isinstance(data, Mapping) else None)
