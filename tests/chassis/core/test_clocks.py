"""Business time is shared by all processes through one file; machine time is everybody's own."""

import json
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from chassis.core.clocks import Clock, Segment, Timeline

START = datetime(2026, 3, 1, 9, tzinfo=UTC)


class Fixed(Clock):
    """A clock whose machine time stands where it is put."""

    def __init__(self, path: Path | None, machine: datetime = START) -> None:
        super().__init__(path)
        self.at = machine

    def machine_now(self) -> datetime:
        return self.at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clock.jsonl"


class TestClockWithoutFile:
    def test_business_time_is_machine_time(self, path: Path) -> None:
        assert Fixed(None).now() == START
        assert Fixed(path).now() == START
        with pytest.raises(ValueError, match="no clock file"):
            Fixed(None).set_speed(2)


class TestSharedTimeline:
    def test_clocks_of_one_file_give_the_same_business_time(self, path: Path) -> None:
        one, other = Fixed(path), Fixed(path)
        assert other.now() == START
        one.set_speed(3600, business=START + timedelta(days=100))
        one.at = other.at = START + timedelta(seconds=2)
        assert one.now() == other.now() == START + timedelta(days=100, hours=2)
        assert Fixed(path, one.at).now() == one.now()  # also after a restart

    def test_pause_stops_business_time_and_resuming_does_not_jump(self, path: Path) -> None:
        one, other = Fixed(path), Fixed(path)
        one.set_speed(60)
        one.at = START + timedelta(seconds=10)
        one.set_speed(0)
        one.at = other.at = START + timedelta(hours=5)
        assert one.now() == other.now() == START + timedelta(minutes=10)
        other.set_speed(60)
        assert other.now() == START + timedelta(minutes=10)
        one.at = START + timedelta(hours=5, seconds=1)
        assert one.now() == START + timedelta(minutes=11)

    def test_business_time_stands_still_at_its_end(self, path: Path) -> None:
        """For every clock of the file, without any call at that time; a later segment continues from there."""
        one, other = Fixed(path), Fixed(path)
        one.set_speed(60, until=START + timedelta(minutes=5))
        one.at = other.at = START + timedelta(seconds=4)
        assert other.now() == START + timedelta(minutes=4)
        one.at = other.at = START + timedelta(hours=5)
        assert one.now() == other.now() == Fixed(path, other.at).now() == START + timedelta(minutes=5)
        other.set_speed(60, until=START + timedelta(minutes=1))  # which has passed: not a moment longer, and never back
        one.at = other.at = START + timedelta(hours=6)
        assert one.now() == START + timedelta(minutes=5)
        other.set_speed(60)
        one.at = START + timedelta(hours=6, seconds=2)
        assert one.now() == START + timedelta(minutes=7)

    def test_change_of_speed_neither_jumps_nor_changes_the_past(self, path: Path) -> None:
        one = Fixed(path)
        one.set_speed(10)
        one.at = START + timedelta(seconds=10)
        before = one.now()
        one.set_speed(1000)
        assert one.now() == before
        assert one.timeline().business_time(START + timedelta(seconds=5)) == START + timedelta(seconds=50)

    @pytest.mark.parametrize("speed", [-1, float("inf"), float("nan")])
    def test_impossible_speed_is_rejected(self, path: Path, speed: float) -> None:
        with pytest.raises(ValueError, match="speed"):
            Fixed(path).set_speed(speed)

    def test_business_time_never_runs_backwards(self, path: Path) -> None:
        one = Fixed(path)
        one.set_speed(1)
        with pytest.raises(ValueError, match="backwards"):
            one.set_speed(1, business=START - timedelta(days=1))
        one.at = START - timedelta(seconds=1)
        with pytest.raises(ValueError, match="before the last"):
            one.set_speed(1)

    def test_before_the_first_segment_both_times_are_equal(self) -> None:
        timeline = Timeline((Segment(START, START + timedelta(days=9), 2),))
        assert timeline.business_time(START - timedelta(seconds=1)) == START - timedelta(seconds=1)
        assert timeline.business_time(START) == START + timedelta(days=9)


class TestClockFile:
    def test_replaced_file_is_read_from_its_start(self, path: Path) -> None:
        one = Fixed(path)
        one.set_speed(60)
        assert one.now() == START
        path.unlink()
        Fixed(path).set_speed(0, business=START + timedelta(days=1))
        assert one.now() == START + timedelta(days=1)

    def test_partial_last_line_is_ignored_and_removed_by_next_change(self, path: Path) -> None:
        one, other = Fixed(path), Fixed(path)
        one.set_speed(60)
        whole = path.read_bytes()
        path.write_bytes(whole + b'{"anchor": "2026-03-0')
        one.at = other.at = START + timedelta(seconds=1)
        assert other.now() == START + timedelta(minutes=1)
        one.set_speed(0)
        one.at = other.at = START + timedelta(hours=1)
        assert other.now() == one.now() == START + timedelta(minutes=1)
        assert [json.loads(line)["speed"] for line in path.read_text().splitlines()] == [60.0, 0.0]

    def test_concurrent_changes_of_speed_stay_in_order(self, path: Path) -> None:
        Clock(path).set_speed(10)

        def change(n: int) -> None:
            for _ in range(20):
                Clock(path).set_speed(n)

        threads = [threading.Thread(target=change, args=(n,)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        segments = Clock(path).timeline().segments
        assert len(segments) == 1 + 8 * 20
        assert [s.anchor for s in segments] == sorted(s.anchor for s in segments)
        for before, after in pairwise(segments):
            assert abs(before.business_time(after.anchor) - after.business) <= timedelta(milliseconds=1)
