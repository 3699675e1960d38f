"""Deadlines in local days, without weekends and pauses, also in nights with a clock change."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.days import local_day
from services.feedback.domain.calendar import add_months, day_ends, morning_of, working_day_ends

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo")
starts = st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(ZONES)


@st.composite
def pauses(draw: st.DrawFn, start: datetime) -> list[tuple[datetime, datetime | None]]:
    spans: list[tuple[datetime, datetime | None]] = []
    at = start
    for _ in range(draw(st.integers(0, 3))):
        since = at + timedelta(hours=draw(st.integers(1, 900)))
        at = since + timedelta(hours=draw(st.integers(1, 900)))
        spans.append((since, at))
    return spans


def days_between(start: datetime, end: datetime, zone: str) -> list[datetime]:
    """Noon of each local day after that of ``start``, up to the one that ``end`` closes."""
    day, last = local_day(start, zone), local_day(end - timedelta(minutes=1), zone)
    spans = []
    while day < last:
        day += timedelta(days=1)
        spans.append(datetime.combine(day, time(12), ZoneInfo(zone)))
    return spans


class TestMorning:
    @given(st.data(), starts, zones, st.integers(0, 120))
    def test_is_nine_local_time_on_a_working_day(
        self, data: st.DataObject, start: datetime, zone: str, days: int
    ) -> None:
        """Also when the clocks change."""
        at = morning_of(start, days, zone, data.draw(pauses(start))).astimezone(ZoneInfo(zone))
        assert at.time() == time(9)
        assert at.weekday() < 5
        assert (at.date() - local_day(start, zone)).days >= days

    def test_weekends_are_neither_deadlines_nor_mornings(self) -> None:
        friday = datetime(2026, 3, 6, 12, tzinfo=UTC)
        assert working_day_ends(friday, 1, ["UTC"]) == datetime(2026, 3, 10, tzinfo=UTC)
        assert morning_of(friday, 1, "UTC") == datetime(2026, 3, 9, 9, tzinfo=UTC)


class TestDeadline:
    @given(st.data(), starts, zones, st.integers(0, 60))
    def test_leaves_the_given_number_of_working_days(
        self, data: st.DataObject, start: datetime, zone: str, days: int
    ) -> None:
        """Days with a pause do not count."""
        held_up = data.draw(pauses(start))
        end = working_day_ends(start, days, [zone], held_up)
        paused_days = {
            local_day(since, zone) + timedelta(days=n)
            for since, until in held_up
            if until is not None
            for n in range((local_day(until, zone) - local_day(since, zone)).days + 1)
        }
        counted = [day for day in days_between(start, end, zone) if day.weekday() < 5 and day.date() not in paused_days]
        assert len(counted) == days
        local = end.astimezone(ZoneInfo(zone))
        assert local.time() == time(0) or local.utcoffset() != (local - timedelta(hours=3)).utcoffset()

    @given(starts, zones, zones, st.integers(0, 40))
    def test_is_the_later_one_of_two_zones(self, start: datetime, zone: str, other_zone: str, days: int) -> None:
        both = day_ends(start, days, [zone, other_zone])
        assert both == max(day_ends(start, days, [zone]), day_ends(start, days, [other_zone]))

    def test_is_an_hour_earlier_when_summer_time_begins(self) -> None:
        friday = datetime(2026, 3, 27, 12, tzinfo=UTC)  # Berlin moves its clocks on the 29th
        assert day_ends(friday, 1, ["Europe/Berlin"]) == datetime(2026, 3, 28, 23, tzinfo=UTC)
        assert day_ends(friday, 2, ["Europe/Berlin"]) == datetime(2026, 3, 29, 22, tzinfo=UTC)
        assert morning_of(friday, 0, "Europe/Berlin") == datetime(2026, 3, 27, 8, tzinfo=UTC)
        assert morning_of(friday, 3, "Europe/Berlin") == datetime(2026, 3, 30, 7, tzinfo=UTC)

    def test_an_unknown_zone_counts_as_utc(self) -> None:
        assert day_ends(datetime(2026, 3, 6, 12, tzinfo=UTC), 1, ["No/Where"]) == datetime(2026, 3, 8, tzinfo=UTC)


class TestAddMonths:
    @pytest.mark.parametrize(
        ("start", "months", "end"), [((2026, 11, 30), 3, (2027, 2, 28)), ((2026, 1, 15), 12, (2027, 1, 15))]
    )
    def test_end_on_a_day_that_exists(
        self, start: tuple[int, int, int], months: int, end: tuple[int, int, int]
    ) -> None:
        assert add_months(datetime(*start, tzinfo=UTC), months) == datetime(*end, tzinfo=UTC)
