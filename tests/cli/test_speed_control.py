"""Business time runs only as fast as people and services keep up, and no intention is lost."""

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
PEOPLE = 400
FULL = full_speed(PEOPLE)
UNSEEN = timedelta(seconds=UNCHECKED_S * FULL)


class TestChooseSpeed:
    def test_time_runs_at_full_speed_while_everybody_keeps_up(self) -> None:
        assert choose_speed(PEOPLE, NOON, NOON, LOW_BACKLOG, NOON - FULL_SPEED_DELAY) == (
            FULL,
            NOON - FULL_SPEED_DELAY + MAX_DELAY,
        )
        assert choose_speed(PEOPLE, NOON, NOON, 0, None) == (FULL, NOON + UNSEEN)

    def test_time_stops_at_the_limits_of_delay_and_checking(self) -> None:
        assert choose_speed(PEOPLE, NOON, NOON - HOUR, 0, NOON + 90 * HOUR)[1] == NOON - HOUR + UNSEEN
        assert choose_speed(PEOPLE, NOON, NOON, 0, NOON + HOUR)[1] == NOON + HOUR + MAX_DELAY

    def test_time_stands_still_beyond_any_limit(self) -> None:
        """People are too late, the backlog is too large, or the services were not checked in time."""
        assert choose_speed(PEOPLE, NOON, NOON, 0, NOON - MAX_DELAY) == (0, NOON)
        assert choose_speed(PEOPLE, NOON, NOON, HIGH_BACKLOG, None) == (0, NOON)
        assert choose_speed(PEOPLE, NOON, NOON - UNSEEN, 0, None) == (0, NOON)

    def test_fewer_people_live_faster_within_limits(self) -> None:
        assert full_speed(60) > full_speed(120) > full_speed(400) == full_speed(4000)

    @given(HOURS, HOURS, st.integers(0, 10_000), st.integers(0, 10_000), HOURS)
    def test_more_work_never_makes_time_faster(self, late: int, later: int, backlog: int, extra: int, ago: int) -> None:
        next_action_at, checked_at = NOON - late * HOUR, NOON - ago * HOUR
        slower, sooner = choose_speed(PEOPLE, NOON, checked_at, backlog + extra, next_action_at - later * HOUR)
        speed, until = choose_speed(PEOPLE, NOON, checked_at, backlog, next_action_at)
        assert 0 <= slower <= speed <= FULL
        assert NOON <= sooner <= until


class TestAgenda:
    @given(st.lists(HOURS), st.integers(0, 1000))
    def test_every_intention_comes_once_in_order_and_not_early(self, hours: list[int], now: int) -> None:
        agenda: Agenda[int] = Agenda()
        for hour in hours:
            agenda.add(NOON + timedelta(hours=hour), hour)
        time = NOON + timedelta(hours=now)
        assert agenda.next_at() == (NOON + timedelta(hours=min(hours)) if hours else None)
        assert agenda.pop_due(time) == sorted(hour for hour in hours if hour <= now)
        assert len(agenda) == sum(hour > now for hour in hours)
        assert agenda.pop_due(time) == []

    def test_intentions_for_one_moment_keep_their_order(self) -> None:
        agenda: Agenda[str] = Agenda()
        for intention in ("b", "a", "c"):
            agenda.add(NOON, intention)
        assert agenda.pop_due(NOON) == ["b", "a", "c"]
