"""Days as people live them: local, without weekends, without pauses; and right in the nights when clocks change."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feedback.domain.calendar import add_months, day_ends, local_day, morning_of, working_day_ends

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo")
starts = st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(ZONES)


@st.composite
def pauses(draw: st.DrawFn, start: datetime) -> list[tuple[datetime, datetime | None]]:
    found: list[tuple[datetime, datetime | None]] = []
    at = start
    for _ in range(draw(st.integers(0, 3))):
        since = at + timedelta(hours=draw(st.integers(1, 900)))
        at = since + timedelta(hours=draw(st.integers(1, 900)))
        found.append((since, at))
    return found


def days_between(start: datetime, end: datetime, zone: str) -> list[datetime]:
    """Noon of each local day after that of ``start``, up to the one that ``end`` closes."""
    day, last = local_day(start, zone), local_day(end - timedelta(minutes=1), zone)
    found = []
    while day < last:
        day += timedelta(days=1)
        found.append(datetime.combine(day, time(12), ZoneInfo(zone)))
    return found


@given(st.data(), starts, zones, st.integers(0, 60))
def test_a_deadline_leaves_exactly_so_many_working_days_that_no_pause_touched(
    data: st.DataObject, start: datetime, zone: str, days: int
) -> None:
    held_up = data.draw(pauses(start))
    end = working_day_ends(start, days, [zone], held_up)
    lost = {
        local_day(since, zone) + timedelta(days=n)
        for since, until in held_up
        if until is not None
        for n in range((local_day(until, zone) - local_day(since, zone)).days + 1)
    }
    counted = [day for day in days_between(start, end, zone) if day.weekday() < 5 and day.date() not in lost]
    assert len(counted) == days
    local = end.astimezone(ZoneInfo(zone))
    assert local.time() == time(0) or local.utcoffset() != (local - timedelta(hours=3)).utcoffset()


@given(st.data(), starts, zones, st.integers(0, 120))
def test_people_are_asked_at_nine_on_a_working_day_whatever_the_clocks_do(
    data: st.DataObject, start: datetime, zone: str, days: int
) -> None:
    at = morning_of(start, days, zone, data.draw(pauses(start))).astimezone(ZoneInfo(zone))
    assert at.time() == time(9)
    assert at.weekday() < 5
    assert (at.date() - local_day(start, zone)).days >= days


@given(starts, zones, zones, st.integers(0, 40))
def test_nobody_is_late_while_their_own_day_still_runs(start: datetime, one: str, other: str, days: int) -> None:
    both = day_ends(start, days, [one, other])
    assert both == max(day_ends(start, days, [one]), day_ends(start, days, [other]))


def test_the_night_in_which_summer_time_begins_is_an_hour_shorter() -> None:
    friday = datetime(2026, 3, 27, 12, tzinfo=UTC)  # Berlin moves its clocks on the 29th
    assert day_ends(friday, 1, ["Europe/Berlin"]) == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert day_ends(friday, 2, ["Europe/Berlin"]) == datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert morning_of(friday, 0, "Europe/Berlin") == datetime(2026, 3, 27, 8, tzinfo=UTC)
    assert morning_of(friday, 3, "Europe/Berlin") == datetime(2026, 3, 30, 7, tzinfo=UTC)


def test_a_weekend_is_no_deadline_and_nobody_is_asked_on_one() -> None:
    friday = datetime(2026, 3, 6, 12, tzinfo=UTC)
    assert working_day_ends(friday, 1, ["UTC"]) == datetime(2026, 3, 10, tzinfo=UTC)
    assert morning_of(friday, 1, "UTC") == datetime(2026, 3, 9, 9, tzinfo=UTC)


def test_a_zone_that_nobody_knows_keeps_nobody_from_being_cared_for() -> None:
    assert day_ends(datetime(2026, 3, 6, 12, tzinfo=UTC), 1, ["No/Where"]) == datetime(2026, 3, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "months", "end"), [((2026, 11, 30), 3, (2027, 2, 28)), ((2026, 1, 15), 12, (2027, 1, 15))]
)
def test_months_end_on_a_day_that_exists(start: tuple[int, int, int], months: int, end: tuple[int, int, int]) -> None:
    assert add_months(datetime(*start, tzinfo=UTC), months) == datetime(*end, tzinfo=UTC)
