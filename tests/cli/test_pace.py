"""Business time runs no faster than people and services keep up, and nobody forgets what they intended."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from chassis.clocks import Clock
from cli.demo.diary import Diary
from cli.demo.pace import FEW, IN_TIME, MANY, TOO_LATE, UNSEEN, Pace, full, speed

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOURS = st.integers(0, 1000)
FULL = full(400)


def test_it_runs_at_full_speed_while_everybody_keeps_up() -> None:
    assert speed(FULL, IN_TIME, FEW) == FULL


def test_it_stops_when_people_are_too_late_or_too_much_waits() -> None:
    assert speed(FULL, TOO_LATE, 0) == 0
    assert speed(FULL, timedelta(), MANY) == 0


def test_fewer_people_live_faster_within_limits() -> None:
    assert full(60) > full(120) > full(400) == full(4000)


@given(HOURS, HOURS, st.integers(0, 10_000), st.integers(0, 10_000))
def test_it_never_runs_faster_for_more_work(late: int, later: int, waiting: int, more: int) -> None:
    slower = speed(FULL, timedelta(hours=late + later), waiting + more)
    assert 0 <= slower <= speed(FULL, timedelta(hours=late), waiting) <= FULL


async def test_time_stands_still_when_nobody_looks_again(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock.jsonl")
    clock.set(0.0, NOON)
    pace = Pace(clock, FULL)
    for _ in range(2):
        pace.set(FULL / 10)  # the first of these does not stop what the second begins
        pace.set(FULL)
        async with asyncio.timeout(30):
            while clock.timeline().segments[-1].speed:  # noqa: ASYNC110
                await asyncio.sleep(0)
    assert clock.now() >= NOON + 2 * UNSEEN


@given(st.lists(HOURS), st.integers(0, 1000))
def test_a_diary_gives_everything_once_in_order_and_nothing_early(hours: list[int], now: int) -> None:
    diary: Diary[int] = Diary()
    for hour in hours:
        diary.write(NOON + timedelta(hours=hour), hour)
    moment = NOON + timedelta(hours=now)
    oldest = min(hours, default=None)
    assert diary.late(moment) == timedelta(hours=max(now - oldest, 0) if oldest is not None else 0)
    assert diary.due(moment) == sorted(hour for hour in hours if hour <= now)
    assert len(diary) == sum(hour > now for hour in hours)
    assert diary.due(moment) == []


def test_what_is_intended_for_one_moment_keeps_the_order_in_which_it_was_written() -> None:
    diary: Diary[str] = Diary()
    for intention in ("b", "a", "c"):
        diary.write(NOON, intention)
    assert diary.due(NOON) == ["b", "a", "c"]
