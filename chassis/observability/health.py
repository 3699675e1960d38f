"""Health is judged by progress: a process that runs but does nothing is not healthy.

*Live* is false when a restart may help: a part of the process has stopped itself, or a consumer stands still. A
consumer stands still when its position does not move while its lag grows and its servers can be reached. *Ready* is
false until every server has been reached, and whenever one cannot be reached.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

# A batch may be retried for a minute, and then once more, before it counts as standing still.
STALLED_AFTER = timedelta(seconds=150)
# An older report about a partition does not count: the partition belongs to another replica by now.
STALE_REPORT_AFTER = timedelta(seconds=20)
SERVERS = ("mongodb", "kafka", "consumer")


@dataclass(frozen=True)
class HealthCheck:
    """The result of one check. ``detail`` is for the operator and holds no data.

    One that is not ``is_decisive`` is shown, and leaves the service healthy: a restart would not help.
    """

    name: str
    ok: bool
    detail: str = ""
    is_decisive: bool = True


@dataclass(frozen=True)
class HealthReport:
    checks: tuple[HealthCheck, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok or not check.is_decisive for check in self.checks)


@dataclass
class _PartitionProgress:
    """The consumer's position in a partition, since when it has been there, and where the end was at that time."""

    position: int
    end: int
    since: datetime
    end_at_since: int
    reported_at: datetime


class Health:
    """``machine_now`` gives machine time. ``servers`` must have been reached before the service is ready."""

    def __init__(
        self,
        machine_now: Callable[[], datetime],
        servers: Sequence[str] = SERVERS,
        stalled_after: timedelta = STALLED_AFTER,
    ) -> None:
        self._machine_now = machine_now
        self._stalled_after = stalled_after
        self._dependencies = {name: HealthCheck(name, ok=False, detail="not reached yet") for name in servers}
        self._partitions: dict[str, _PartitionProgress] = {}
        self._failure: str | None = None
        self._work: dict[str, HealthCheck] = {}
        self._is_draining = False

    def begin_drain(self) -> None:
        """From now on the service is not ready, since it is about to stop."""
        self._is_draining = True

    def report_dependency(self, name: str, *, ok: bool, detail: str = "") -> None:
        """Report whether a server can be reached. While it cannot, no consumer counts as standing still."""
        self._dependencies[name] = HealthCheck(name, ok, detail)
        if not ok:
            since = self._machine_now()
            for partition in self._partitions.values():
                partition.since, partition.end_at_since = since, partition.end

    def report_work(self, name: str, trouble: str | None) -> None:
        """Report whether some work stands still. Readiness shows it; the service stays ready."""
        self._work[name] = HealthCheck(name, ok=trouble is None, detail=trouble or "", is_decisive=False)

    def report_progress(self, name: str, position: int, end: int) -> None:
        """Report one partition: ``position`` is the next offset to be handled, ``end`` the end of the partition."""
        machine = self._machine_now()
        partition = self._partitions.get(name)
        is_stale = partition is None or machine - partition.reported_at > STALE_REPORT_AFTER
        if partition is None or is_stale or position != partition.position or position >= end:
            self._partitions[name] = _PartitionProgress(position, end, machine, end, machine)
        else:
            partition.end, partition.reported_at = end, machine

    def report_failure(self, reason: str) -> None:
        """Report that a part of the process has stopped for good; an operator must look at it and restart."""
        self._failure = reason

    def check_liveness(self) -> HealthReport:
        machine = self._machine_now()
        checks = [HealthCheck("running", ok=self._failure is None, detail=self._failure or "")]
        checks += [
            HealthCheck(
                name, ok=False, detail=f"stands still at {partition.position} while the end moved to {partition.end}"
            )
            for name, partition in sorted(self._partitions.items())
            if machine - partition.reported_at <= STALE_REPORT_AFTER
            and machine - partition.since >= self._stalled_after
            and partition.end > partition.end_at_since
        ]
        return HealthReport(tuple(checks))

    def check_readiness(self) -> HealthReport:
        drain = [HealthCheck("running", ok=False, detail="about to stop")] if self._is_draining else []
        failures = (check for check in self.check_liveness().checks if not check.ok)
        return HealthReport((*self._dependencies.values(), *failures, *drain, *self._work.values()))
