"""Business time runs no faster than people and services keep up, and nobody forgets what they intended."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cli.demo.agenda import Agenda
from cli.demo.speed_control import (
    FULL_SPEED_DELAY,
    HIGH_BACKLOG,
    LOW_BACKLOG,
    MAX_DELAY,
    UNCHECKED_S,
    choose_speed,
    full_speed,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURS = st.integers(0, 1000)
CROWD = 400
FULL = full_speed(CROWD)
UNSEEN = timedelta(seconds=UNCHECKED_S * FULL)


def test_it_runs_at_full_speed_while_everybody_keeps_up() -> None:
    assert choose_speed(CROWD, NOON, NOON, LOW_BACKLOG, NOON - FULL_SPEED_DELAY) == (
        FULL,
        NOON - FULL_SPEED_DELAY + MAX_DELAY,
    )
    assert choose_speed(CROWD, NOON, NOON, 0, None) == (FULL, NOON + UNSEEN)


def test_it_goes_no_further_than_people_keep_up_and_than_the_services_were_looked_at() -> None:
    assert choose_speed(CROWD, NOON, NOON - HOUR, 0, NOON + 90 * HOUR)[1] == NOON - HOUR + UNSEEN
    assert choose_speed(CROWD, NOON, NOON, 0, NOON + HOUR)[1] == NOON + HOUR + MAX_DELAY


def test_it_stands_still_when_people_are_too_late_or_too_much_waits_or_nobody_has_looked() -> None:
    assert choose_speed(CROWD, NOON, NOON, 0, NOON - MAX_DELAY) == (0, NOON)
    assert choose_speed(CROWD, NOON, NOON, HIGH_BACKLOG, None) == (0, NOON)
    assert choose_speed(CROWD, NOON, NOON - UNSEEN, 0, None) == (0, NOON)


def test_fewer_people_live_faster_within_limits() -> None:
    assert full_speed(60) > full_speed(120) > full_speed(400) == full_speed(4000)


@given(HOURS, HOURS, st.integers(0, 10_000), st.integers(0, 10_000), HOURS)
def test_it_never_runs_faster_or_further_for_more_work(
    late: int, later: int, waiting: int, more: int, ago: int
) -> None:
    oldest, looked = NOON - late * HOUR, NOON - ago * HOUR
    slower, sooner = choose_speed(CROWD, NOON, looked, waiting + more, oldest - later * HOUR)
    speed, until = choose_speed(CROWD, NOON, looked, waiting, oldest)
    assert 0 <= slower <= speed <= FULL
    assert NOON <= sooner <= until


@given(st.lists(HOURS), st.integers(0, 1000))
def test_a_diary_gives_everything_once_in_order_and_nothing_early(hours: list[int], now: int) -> None:
    diary: Agenda[int] = Agenda()
    for hour in hours:
        diary.add(NOON + timedelta(hours=hour), hour)
    moment = NOON + timedelta(hours=now)
    assert diary.next_at() == (NOON + timedelta(hours=min(hours)) if hours else None)
    assert diary.pop_due(moment) == sorted(hour for hour in hours if hour <= now)
    assert len(diary) == sum(hour > now for hour in hours)
    assert diary.pop_due(moment) == []


def test_what_is_intended_for_one_moment_keeps_the_order_in_which_it_was_written() -> None:
    diary: Agenda[str] = Agenda()
    for intention in ("b", "a", "c"):
        diary.add(NOON, intention)
    assert diary.pop_due(NOON) == ["b", "a", "c"]
