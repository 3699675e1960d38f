"""Health means progress, not only a running process."""

from datetime import UTC, datetime, timedelta

import pytest

from chassis.observability.health import STALE_REPORT_AFTER, STALLED_AFTER, Health


class SteppedClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def wait(self, interval: timedelta) -> None:
        self.time += interval


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


def report_each(
    health: Health, clock: SteppedClock, steps: list[tuple[int, int]], interval: timedelta = STALE_REPORT_AFTER / 2
) -> None:
    """Report each (position, end) of one partition, at intervals."""
    for position, end in steps:
        clock.wait(interval)
        health.report_progress("events/0", position, end)


STEPS = int(STALLED_AFTER / (STALE_REPORT_AFTER / 2)) + 2


class TestLiveness:
    def test_standing_still_with_growing_lag_is_not_live(self, clock: SteppedClock) -> None:
        health = Health(clock)
        report_each(health, clock, [(7, 8 + n) for n in range(STEPS)])
        report = health.check_liveness()
        assert not report.ok
        assert [check.name for check in report.checks if not check.ok] == ["events/0"]

    def test_live_again_after_the_first_progress(self, clock: SteppedClock) -> None:
        health = Health(clock)
        report_each(health, clock, [(7, 8 + n) for n in range(STEPS)])
        health.report_progress("events/0", 8, 100)
        assert health.check_liveness().ok

    def test_slow_progress_is_progress(self, clock: SteppedClock) -> None:
        health = Health(clock)
        report_each(health, clock, [(n, 1000 * n) for n in range(1, STEPS)])
        assert health.check_liveness().ok

    def test_nothing_to_do_does_not_count_as_standing_still(self, clock: SteppedClock) -> None:
        health = Health(clock)
        report_each(health, clock, [(7, 7)] * STEPS)
        assert health.check_liveness().ok
        health.report_progress("events/0", 7, 9)
        assert health.check_liveness().ok, "the period starts with the first record to handle"

    def test_constant_lag_does_not_count(self, clock: SteppedClock) -> None:
        health = Health(clock)
        report_each(health, clock, [(7, 9)] * STEPS)
        assert health.check_liveness().ok

    def test_partition_of_another_replica_is_ignored(self, clock: SteppedClock) -> None:
        health = Health(clock)
        report_each(health, clock, [(7, 8 + n) for n in range(3)])
        clock.wait(STALLED_AFTER)
        assert health.check_liveness().ok
        health.report_progress("events/0", 7, 5000)
        assert health.check_liveness().ok, "it came back: its period starts again"

    def test_standing_still_does_not_count_without_a_server(self, clock: SteppedClock) -> None:
        health = Health(clock)
        for n in range(STEPS):
            clock.wait(STALE_REPORT_AFTER / 2)
            health.report_dependency("mongodb", ok=False, detail="out of reach")
            health.report_progress("events/0", 7, 8 + n)
        assert health.check_liveness().ok
        assert not health.check_readiness().ok


class TestServiceReadiness:
    def test_ready_only_when_every_server_has_been_reached(self, clock: SteppedClock) -> None:
        health = Health(clock)
        assert not health.check_readiness().ok
        for name in ("mongodb", "kafka", "consumer"):
            assert not health.check_readiness().ok
            health.report_dependency(name, ok=True)
        assert health.check_readiness().ok
        health.report_dependency("kafka", ok=False)
        assert not health.check_readiness().ok

    def test_halted_process_is_neither_live_nor_ready(self, clock: SteppedClock) -> None:
        health = Health(clock, servers=())
        assert health.check_readiness().ok
        health.report_failure("most records fail")
        assert not health.check_liveness().ok
        assert not health.check_readiness().ok
        assert health.check_liveness().checks[0].detail == "most records fail"

    def test_work_that_stands_still_is_shown_and_no_more(self, clock: SteppedClock) -> None:
        health = Health(clock, servers=())
        health.report_work("imports", "one makes no progress")
        report = health.check_readiness()
        assert (report.ok, [(check.name, check.ok) for check in report.checks]) == (True, [("imports", False)])
        health.report_work("imports", None)
        assert all(check.ok for check in health.check_readiness().checks)
