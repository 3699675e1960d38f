"""Metrics for Prometheus. No person's id is ever a label: labels are names of services, topics, types and states."""

from collections.abc import Sequence
from datetime import UTC, datetime

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
PERSONAL = frozenset({"subject", "member", "member_id", "person", "person_id", "name", "email"})

_AGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_PLACE = ("service", "topic")

_requests = Histogram(
    "viceversa_http_request_seconds", "Duration of requests.", ("service", "method", "route", "status")
)
_handled = Counter("viceversa_events_handled", "Events whose effects are done.", (*_PLACE, "type"))
_age = Histogram(
    "viceversa_event_age_seconds", "From the moment an event was made until it was handled.", _PLACE, buckets=_AGES
)
_retried = Counter("viceversa_events_retried", "Tries again after a transient failure.", ("service",))
_skipped = Counter("viceversa_events_skipped", "Records of a type unknown to the service.", _PLACE)
_dead = Counter("viceversa_events_dead_lettered", "Records put aside for an operator.", (*_PLACE, "code"))
_republished = Counter(
    "viceversa_events_republished", "Newest records of a compacted topic that were put right.", _PLACE
)
_oldest = Gauge(
    "viceversa_outbox_oldest_seconds", "Age of the oldest event that is saved, not published.", ("collection",)
)
_entries = Gauge("viceversa_outbox_waiting", "Documents with events that are saved, not published.", ("collection",))
_lag = Gauge("viceversa_consumer_lag", "Records that this replica has not handled yet.", (*_PLACE, "partition"))
_due = Gauge(
    "viceversa_due", "Follow-ups that the last sweep found, their time having passed since the one before.",
    ("collection", "clock"),
)  # fmt: skip
_overdue = Gauge(
    "viceversa_overdue", "Follow-ups that were still waiting half a minute after their time, at the last sweep.",
    ("collection", "clock"),
)  # fmt: skip


def observe_request(service: str, method: str, route: str, status: int, seconds: float) -> None:
    _requests.labels(service, method, route, str(status)).observe(seconds)


def count_handled(service: str, topic: str, type: str, made: Sequence[datetime]) -> None:
    """Events of one type, each by the time when it was made."""
    _handled.labels(service, topic, type).inc(len(made))
    now, age = datetime.now(UTC), _age.labels(service, topic)
    for one in made:
        age.observe(max(0.0, (now - one).total_seconds()))


def count_retry(service: str) -> None:
    _retried.labels(service).inc()


def count_skipped(service: str, topic: str) -> None:
    _skipped.labels(service, topic).inc()


def count_dead_letter(service: str, topic: str, code: str) -> None:
    _dead.labels(service, topic, code).inc()


def count_republished(service: str, topic: str) -> None:
    _republished.labels(service, topic).inc()


def set_outbox_age(collection: str, seconds: float) -> None:
    _oldest.labels(collection).set(seconds)


def set_outbox_size(collection: str, documents: int) -> None:
    _entries.labels(collection).set(documents)


def set_lag(service: str, topic: str, partition: int, records: int) -> None:
    _lag.labels(service, topic, str(partition)).set(records)


def clear_lag(service: str, topic: str, partition: int) -> None:
    """The partition is another replica's now."""
    try:
        _lag.remove(service, topic, str(partition))
    except KeyError:
        return  # it was never told


def set_due(collection: str, clock: str, count: int) -> None:
    """``clock``: ``due`` for business time, ``lease`` for machine time."""
    _due.labels(collection, clock).set(count)


def set_overdue(collection: str, clock: str, count: int) -> None:
    """Of those that are due, how many should have been acted on long ago; ``clock`` as before."""
    _overdue.labels(collection, clock).set(count)


class BusinessGauge:
    """A figure of the business that its service keeps up to date, for example how many pairings are in each state."""

    def __init__(
        self, name: str, description: str, labels: tuple[str, ...] = (), *, registry: CollectorRegistry = REGISTRY
    ) -> None:
        """Registers ``viceversa_<name>``. Raises ``ValueError`` when a label would name a person."""
        if personal := PERSONAL.intersection(labels):
            raise ValueError(f"no person is a label: {', '.join(sorted(personal))}")
        self._labels = labels
        self._gauge = Gauge(f"viceversa_{name}", description, labels, registry=registry)

    def set(self, value: float, **labels: str) -> None:
        (self._gauge.labels(**labels) if self._labels else self._gauge).set(value)

    def clear(self) -> None:
        """Forget all label values, before they are counted afresh."""
        if self._labels:
            self._gauge.clear()


class BusinessCounter:
    """How often something of the business has happened in this process, for example how many messages were sent."""

    def __init__(
        self, name: str, description: str, labels: tuple[str, ...], *, registry: CollectorRegistry = REGISTRY
    ) -> None:
        """Registers ``viceversa_<name>_total``. Raises ``ValueError`` when a label would name a person."""
        if personal := PERSONAL.intersection(labels):
            raise ValueError(f"no person is a label: {', '.join(sorted(personal))}")
        self._counter = Counter(f"viceversa_{name}", description, labels, registry=registry)

    def increment(self, **labels: str) -> None:
        self._counter.labels(**labels).inc()


def render_metrics() -> bytes:
    """What ``/metrics`` answers."""
    return generate_latest(REGISTRY)
