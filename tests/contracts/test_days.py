"""A day ends where the people are: in any zone, also in nights with a clock change, weekends and holidays."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import available_timezones

from hypothesis import given
from hypothesis import strategies as st

from contracts.days import (
    WorkingDays,
    count_working_days,
    end_of_day,
    end_of_working_day,
    has_public_holidays,
    is_end_of_day,
    last_day,
    local_day,
    start_of_day,
)

SECOND = timedelta(seconds=1)
zones = st.sampled_from(sorted(available_timezones()))
days = st.dates(date(2020, 1, 1), date(2037, 12, 31))
moments = st.datetimes(datetime(2020, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


class TestEndOfDay:
    @given(days, zones)
    def test_is_the_first_moment_of_the_next(self, day: date, zone: str) -> None:
        end = end_of_day(day, [zone])
        assert local_day(end, zone) == day + timedelta(days=1)
        assert local_day(end - SECOND, zone) == day
        assert end == start_of_day(day + timedelta(days=1), zone)

    @given(days, st.lists(zones, min_size=1, max_size=3))
    def test_of_several_zones_comes_when_it_is_over_in_each(self, day: date, names: list[str]) -> None:
        end = end_of_day(day, names)
        assert min(local_day(end, zone) for zone in names) == day + timedelta(days=1)

    def test_of_an_unknown_zone_is_that_of_utc(self) -> None:
        assert end_of_day(date(2026, 3, 2), ["Nowhere/Atlantis"]) == datetime(2026, 3, 3, tzinfo=UTC)


class TestDeadline:
    @given(moments, zones, zones, st.integers(0, 30))
    def test_by_a_day_lasts_until_its_end_or_names_the_hour(
        self, start: datetime, first: str, second: str, count: int
    ) -> None:
        deadline = end_of_working_day(start, count, [first, second])
        assert is_end_of_day(deadline, first) or is_end_of_day(deadline, second)
        for zone in (first, second):
            assert deadline >= end_of_working_day(start, count, [zone]), "nobody is late on their own day"
            if is_end_of_day(deadline, zone):
                assert local_day(deadline - SECOND, zone) == last_day(deadline, zone)

    def test_names_thursday_where_it_ends(self) -> None:
        deadline = end_of_day(date(2026, 3, 5), ["Europe/Berlin", "America/New_York"])
        assert is_end_of_day(deadline, "America/New_York")
        assert last_day(deadline, "America/New_York") == date(2026, 3, 5)
        assert not is_end_of_day(deadline, "Europe/Berlin"), "its reader is told the hour"


class TestWorkingDays:
    def test_a_weekend_may_be_friday_and_saturday(self) -> None:
        thursday = date(2026, 3, 5)
        assert count_working_days(thursday, 1, WorkingDays(weekend=(4, 5))) == date(2026, 3, 8)
        assert count_working_days(thursday, 1) == date(2026, 3, 6)

    def test_public_holidays_and_the_companys_own_do_not_count(self) -> None:
        christmas = WorkingDays(country="DE", subdivision="BY", holidays=(date(2026, 12, 28),))
        assert count_working_days(date(2026, 12, 24), 1, christmas) == date(2026, 12, 29)

    def test_unknown_countries_are_told_apart(self) -> None:
        assert has_public_holidays("AE", None)
        assert not has_public_holidays("XX", None)
        assert not has_public_holidays("DE", "XX")

    @given(days, st.integers(0, 40), st.sets(st.integers(0, 6), max_size=6))
    def test_exactly_so_many_lie_in_between(self, day: date, count: int, weekend: set[int]) -> None:
        working = WorkingDays(weekend=tuple(sorted(weekend)))
        end = count_working_days(day, count, working)
        between = [day + timedelta(days=n) for n in range(1, (end - day).days + 1)]
        assert sum(other.weekday() not in weekend for other in between) == count
        assert not between or working.includes(between[-1])
