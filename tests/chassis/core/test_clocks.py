"""Business time is shared by all processes through one file. Machine time is read by each process itself."""

import json
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from chassis.core.clocks import Clock, Segment, Timeline

START = datetime(2026, 3, 1, 9, tzinfo=UTC)


class FixedClock(Clock):
    """A clock with a fixed machine time, which a test changes."""

    def __init__(self, path: Path | None, machine: datetime = START) -> None:
        super().__init__(path)
        self.machine = machine

    def machine_now(self) -> datetime:
        return self.machine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clock.jsonl"


class TestClockWithoutFile:
    def test_business_time_is_machine_time(self, path: Path) -> None:
        assert FixedClock(None).now() == START
        assert FixedClock(path).now() == START
        with pytest.raises(ValueError, match="no clock file"):
            FixedClock(None).set_speed(2)


class TestSharedTimeline:
    def test_clocks_of_one_file_give_the_same_business_time(self, path: Path) -> None:
        clock, other = FixedClock(path), FixedClock(path)
        assert other.now() == START
        clock.set_speed(3600, business=START + timedelta(days=100))
        clock.machine = other.machine = START + timedelta(seconds=2)
        assert clock.now() == other.now() == START + timedelta(days=100, hours=2)
        assert FixedClock(path, clock.machine).now() == clock.now()  # also after a restart

    def test_pause_stops_business_time_and_resuming_does_not_jump(self, path: Path) -> None:
        clock, other = FixedClock(path), FixedClock(path)
        clock.set_speed(60)
        clock.machine = START + timedelta(seconds=10)
        clock.set_speed(0)
        clock.machine = other.machine = START + timedelta(hours=5)
        assert clock.now() == other.now() == START + timedelta(minutes=10)
        other.set_speed(60)
        assert other.now() == START + timedelta(minutes=10)
        clock.machine = START + timedelta(hours=5, seconds=1)
        assert clock.now() == START + timedelta(minutes=11)

    def test_business_time_stands_still_at_its_end(self, path: Path) -> None:
        """For every clock of the file, without any call at that time; a later segment continues from there."""
        clock, other = FixedClock(path), FixedClock(path)
        clock.set_speed(60, until=START + timedelta(minutes=5))
        clock.machine = other.machine = START + timedelta(seconds=4)
        assert other.now() == START + timedelta(minutes=4)
        clock.machine = other.machine = START + timedelta(hours=5)
        assert clock.now() == other.now() == FixedClock(path, other.machine).now() == START + timedelta(minutes=5)
        other.set_speed(60, until=START + timedelta(minutes=1))  # in the past: it stops at once, and does not go back
        clock.machine = other.machine = START + timedelta(hours=6)
        assert clock.now() == START + timedelta(minutes=5)
        other.set_speed(60)
        clock.machine = START + timedelta(hours=6, seconds=2)
        assert clock.now() == START + timedelta(minutes=7)

    def test_change_of_speed_neither_jumps_nor_changes_the_past(self, path: Path) -> None:
        clock = FixedClock(path)
        clock.set_speed(10)
        clock.machine = START + timedelta(seconds=10)
        before = clock.now()
        clock.set_speed(1000)
        assert clock.now() == before
        assert clock.timeline().business_time(START + timedelta(seconds=5)) == START + timedelta(seconds=50)

    @pytest.mark.parametrize("speed", [-1, float("inf"), float("nan")])
    def test_impossible_speed_is_rejected(self, path: Path, speed: float) -> None:
        with pytest.raises(ValueError, match="speed"):
            FixedClock(path).set_speed(speed)

    def test_business_time_never_runs_backwards(self, path: Path) -> None:
        clock = FixedClock(path)
        clock.set_speed(1)
        with pytest.raises(ValueError, match="backwards"):
            clock.set_speed(1, business=START - timedelta(days=1))
        clock.machine = START - timedelta(seconds=1)
        with pytest.raises(ValueError, match="before the last"):
            clock.set_speed(1)

    def test_before_the_first_segment_both_times_are_equal(self) -> None:
        timeline = Timeline((Segment(START, START + timedelta(days=9), 2),))
        assert timeline.business_time(START - timedelta(seconds=1)) == START - timedelta(seconds=1)
        assert timeline.business_time(START) == START + timedelta(days=9)


class TestClockFile:
    def test_replaced_file_is_read_from_its_start(self, path: Path) -> None:
        clock = FixedClock(path)
        clock.set_speed(60)
        assert clock.now() == START
        path.unlink()
        FixedClock(path).set_speed(0, business=START + timedelta(days=1))
        assert clock.now() == START + timedelta(days=1)

    def test_partial_last_line_is_ignored_and_removed_by_next_change(self, path: Path) -> None:
        clock, other = FixedClock(path), FixedClock(path)
        clock.set_speed(60)
        whole = path.read_bytes()
        path.write_bytes(whole + b'{"anchor": "2026-03-0')
        clock.machine = other.machine = START + timedelta(seconds=1)
        assert other.now() == START + timedelta(minutes=1)
        clock.set_speed(0)
        clock.machine = other.machine = START + timedelta(hours=1)
        assert other.now() == clock.now() == START + timedelta(minutes=1)
        assert [json.loads(line)["speed"] for line in path.read_text().splitlines()] == [60.0, 0.0]

    def test_concurrent_changes_of_speed_stay_in_order(self, path: Path) -> None:
        Clock(path).set_speed(10)

        def change(speed: int) -> None:
            for _ in range(20):
                Clock(path).set_speed(speed)

        threads = [threading.Thread(target=change, args=(speed,)) for speed in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        segments = Clock(path).timeline().segments
        assert len(segments) == 1 + 8 * 20
        assert [s.anchor for s in segments] == sorted(s.anchor for s in segments)
        for before, after in pairwise(segments):
            assert abs(before.business_time(after.anchor) - after.business) <= timedelta(milliseconds=1)
