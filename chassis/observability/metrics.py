"""Metrics for Prometheus.

A person's id is never a label: labels are names of services, topics, types and states. The names of the metrics are
part of the public interface (dashboards and alerts use them) and do not change.

No figure moves in the moment in which a person acts in private: such observations are held back (see ``HeldBack``).
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
RELEASE_INTERVAL_S = 300.0  # between two releases of what is held back
RELEASE_MINIMUM = 5  # observations that are released together, at least
MEMBER_COMMAND = "commands of members"  # the route of every request by which a member changes something
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


class HeldBack:
    """Observations that are shown later and together, so that no figure moves in the moment of a single one.

    They are shown at whole multiples of ``RELEASE_INTERVAL_S``, once ``RELEASE_MINIMUM`` of them wait. Neither
    depends on when somebody looks. Nothing is lost, except at the end of the process.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waiting: deque[tuple[float, Callable[[], object]]] = deque()

    def add(self, show: Callable[[], object]) -> None:
        self.release()
        self._waiting.append((self._monotonic(), show))

    def release(self) -> None:
        """Show what has waited until the last release time, if it is enough."""
        release_time = self._monotonic() // RELEASE_INTERVAL_S * RELEASE_INTERVAL_S
        if len(self._waiting) < RELEASE_MINIMUM or self._waiting[RELEASE_MINIMUM - 1][0] >= release_time:
            return
        while self._waiting and self._waiting[0][0] < release_time:
            self._waiting.popleft()[1]()


_member_commands, _private_events = HeldBack(), HeldBack()


def observe_request(service: str, method: str, route: str, status: int, seconds: float) -> None:
    _requests.labels(service, method, route, str(status)).observe(seconds)


def observe_member_command(service: str, status: int, seconds: float) -> None:
    """Like ``observe_request``, for a request by which a member changes something: which one shows nowhere."""
    _member_commands.add(lambda: observe_request(service, "*", MEMBER_COMMAND, status, seconds))


def count_refused_connection(reason: str) -> None:
    _refused.labels(reason).inc()


def count_handled(
    service: str, topic: str, type: str, created: Sequence[datetime], *, is_private: bool = False
) -> None:
    """Count events of one type. ``created`` holds the creation time of each of them.

    ``is_private``: each event is a fact of one person that only few services may read; it is held back.
    """
    handled_at = datetime.now(UTC)
    for created_at in created:
        age_s = max(0.0, (handled_at - created_at).total_seconds())
        if is_private:
            _private_events.add(partial(_count_handled_event, service, topic, type, age_s))
        else:
            _count_handled_event(service, topic, type, age_s)


def _count_handled_event(service: str, topic: str, type: str, age_s: float) -> None:
    _handled.labels(service, topic, type).inc()
    _age.labels(service, topic).observe(age_s)


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


def set_lag(service: str, topic: str, partition: int, records: int, *, is_private: bool = False) -> None:
    """``is_private``: as in ``count_handled``; the lag shows from ``RELEASE_MINIMUM`` records on."""
    _lag.labels(service, topic, str(partition)).set(0 if is_private and records < RELEASE_MINIMUM else records)


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
    for held_back in (_member_commands, _private_events):
        held_back.release()
    return generate_latest(REGISTRY)
