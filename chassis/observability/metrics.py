"""Metrics for Prometheus.

A person's id is never a label: labels are names of services, topics, types and states. The names of the metrics are
part of the public interface (dashboards and alerts use them) and do not change.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
PERSONAL_LABELS = frozenset({"subject", "member", "member_id", "person", "person_id", "name", "email"})

_AGE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_SERVICE_TOPIC = ("service", "topic")

_requests = Histogram(
    "viceversa_http_request_seconds", "Duration of requests.", ("service", "method", "route", "status")
)
_refused = Counter(
    "viceversa_http_refused",
    "Connections ended before the application saw a request, or its answer was read.",
    ("reason",),
)
_handled = Counter("viceversa_events_handled", "Events whose effects are done.", (*_SERVICE_TOPIC, "type"))
_age = Histogram(
    "viceversa_event_age_seconds",
    "From the creation of an event until it was handled.",
    _SERVICE_TOPIC,
    buckets=_AGE_BUCKETS_S,
)
_retried = Counter("viceversa_events_retried", "Retries after a transient failure.", ("service",))
_skipped = Counter("viceversa_events_skipped", "Records of a type unknown to the service.", _SERVICE_TOPIC)
_foreign = Counter(
    "viceversa_events_foreign", "Records whose writer does not own the topic; they have no effect.", _SERVICE_TOPIC
)
_dead = Counter(
    "viceversa_events_dead_lettered", "Records moved to the dead letters for an operator.", (*_SERVICE_TOPIC, "code")
)
_republished = Counter(
    "viceversa_events_republished", "Outdated newest records of a compacted topic that were corrected.", _SERVICE_TOPIC
)
_oldest = Gauge(
    "viceversa_outbox_oldest_seconds", "Age of the oldest event that is saved but not published.", ("collection",)
)
_entries = Gauge("viceversa_outbox_waiting", "Documents with events that are saved but not published.", ("collection",))
_lag = Gauge("viceversa_consumer_lag", "Records that this replica has not handled yet.", (*_SERVICE_TOPIC, "partition"))
_due = Gauge(
    "viceversa_due", "Follow-ups whose time has passed, as the last sweep counted them.",
    ("collection", "clock"),
)  # fmt: skip
_overdue = Gauge(
    "viceversa_overdue", "Follow-ups that still waited half a minute after their time, at the last sweep.",
    ("collection", "clock"),
)  # fmt: skip


def observe_request(service: str, method: str, route: str, status: int, seconds: float) -> None:
    _requests.labels(service, method, route, str(status)).observe(seconds)


def count_refused_connection(reason: str) -> None:
    _refused.labels(reason).inc()


def count_handled(service: str, topic: str, type: str, created: Sequence[datetime]) -> None:
    """Count events of one type. ``created`` holds the creation time of each of them."""
    _handled.labels(service, topic, type).inc(len(created))
    handled_at, age = datetime.now(UTC), _age.labels(service, topic)
    for time in created:
        age.observe(max(0.0, (handled_at - time).total_seconds()))


def count_retry(service: str) -> None:
    _retried.labels(service).inc()


def count_skipped(service: str, topic: str) -> None:
    _skipped.labels(service, topic).inc()


def count_foreign(service: str, topic: str) -> None:
    _foreign.labels(service, topic).inc()


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
    """Drop the lag of a partition that belongs to another replica now."""
    try:
        _lag.remove(service, topic, str(partition))
    except KeyError:
        return  # it was never reported


def set_due(collection: str, clock: str, count: int) -> None:
    """Set how many follow-ups are due. ``clock``: ``due`` for business time, ``lease`` for machine time."""
    _due.labels(collection, clock).set(count)


def set_overdue(collection: str, clock: str, count: int) -> None:
    """Set how many of the due follow-ups should have been done long ago. ``clock``: as in ``set_due``."""
    _overdue.labels(collection, clock).set(count)


def _reject_personal_labels(labels: tuple[str, ...]) -> None:
    if personal := PERSONAL_LABELS.intersection(labels):
        raise ValueError(f"a label must not name a person: {', '.join(sorted(personal))}")


class BusinessGauge:
    """A business figure that its service keeps up to date, for example the number of pairings in each state."""

    def __init__(
        self, name: str, description: str, labels: tuple[str, ...] = (), *, registry: CollectorRegistry = REGISTRY
    ) -> None:
        """Register ``viceversa_<name>``. Raises ``ValueError`` when a label would name a person."""
        _reject_personal_labels(labels)
        self._labels = labels
        self._gauge = Gauge(f"viceversa_{name}", description, labels, registry=registry)

    def set(self, value: float, **labels: str) -> None:
        (self._gauge.labels(**labels) if self._labels else self._gauge).set(value)

    def clear(self) -> None:
        """Drop all label values, before they are counted anew."""
        if self._labels:
            self._gauge.clear()


class BusinessCounter:
    """Counts business occurrences in this process, for example messages that were sent."""

    def __init__(
        self, name: str, description: str, labels: tuple[str, ...], *, registry: CollectorRegistry = REGISTRY
    ) -> None:
        """Register ``viceversa_<name>_total``. Raises ``ValueError`` when a label would name a person."""
        _reject_personal_labels(labels)
        self._counter = Counter(f"viceversa_{name}", description, labels, registry=registry)

    def increment(self, **labels: str) -> None:
        self._counter.labels(**labels).inc()


def render_metrics() -> bytes:
    """The body of ``/metrics``: all metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
