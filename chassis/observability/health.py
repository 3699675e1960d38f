"""Health by progress: a process that is up and does nothing is not healthy.

*Live* is false when a restart may help: a consumer stands still while its lag grows, though its servers can be reached,
or it has stopped itself. *Ready* is false while a server cannot be reached, or before it has been.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

STALLED_AFTER = timedelta(
    seconds=150
)  # a batch may be retried for a minute and then again, before it counts as standing still
STALE_REPORT_AFTER = timedelta(seconds=20)  # older news of a partition do not count: it is another replica's by now
SERVERS = ("mongodb", "kafka", "consumer")


@dataclass(frozen=True)
class HealthCheck:
    """One thing that was looked at. ``detail`` is for whoever runs the service; it holds no data."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class HealthReport:
    checks: tuple[HealthCheck, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


@dataclass
class _PartitionProgress:
    """A partition: where the consumer stands, since when, and where the end was then."""

    position: int
    end: int
    since: datetime
    end_then: int
    seen: datetime


class Health:
    """``machine`` tells machine time; ``servers`` are what must have been reached before the service is ready."""

    def __init__(
        self,
        machine_now: Callable[[], datetime],
        servers: Sequence[str] = SERVERS,
        stalled_after: timedelta = STALLED_AFTER,
    ) -> None:
        self._machine = machine_now
        self._still = stalled_after
        self._dependencies = {name: HealthCheck(name, ok=False, detail="not reached yet") for name in servers}
        self._places: dict[str, _PartitionProgress] = {}
        self._failed: str | None = None

    def report_dependency(self, name: str, *, ok: bool, detail: str = "") -> None:
        """A server can be reached, or cannot. While one cannot, nobody is blamed for standing still."""
        self._dependencies[name] = HealthCheck(name, ok, detail)
        if not ok:
            now = self._machine()
            for place in self._places.values():
                place.since, place.end_then = now, place.end

    def report_progress(self, name: str, position: int, end: int) -> None:
        """Of one partition: the next record to be handled, and the end of the partition."""
        now = self._machine()
        place = self._places.get(name)
        forgotten = place is None or now - place.seen > STALE_REPORT_AFTER
        if place is None or forgotten or position != place.position or position >= end:
            self._places[name] = _PartitionProgress(position, end, now, end, now)
        else:
            place.end, place.seen = end, now

    def report_failure(self, reason: str) -> None:
        """Something has stopped itself for good; only a restart, after a look at it, helps."""
        self._failed = reason

    def check_liveness(self) -> HealthReport:
        now = self._machine()
        checks = [HealthCheck("running", ok=self._failed is None, detail=self._failed or "")]
        checks += [
            HealthCheck(name, ok=False, detail=f"stands still at {place.position} while the end moved to {place.end}")
            for name, place in sorted(self._places.items())
            if now - place.seen <= STALE_REPORT_AFTER
            and now - place.since >= self._still
            and place.end > place.end_then
        ]
        return HealthReport(tuple(checks))

    def check_readiness(self) -> HealthReport:
        return HealthReport(
            (*self._dependencies.values(), *(check for check in self.check_liveness().checks if not check.ok))
        )
