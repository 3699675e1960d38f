"""Quiet hours by the recipient's own clock, in every night of the year."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.days import add_working_days
from services.notifier.domain.quiet_hours import QuietHours, is_quiet, next_open_time, time_zone_of

ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "UTC",
    "America/Sao_Paulo",
]
NIGHT = QuietHours(19, 8)

moments = st.datetimes(datetime(2011, 12, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(ZONES).map(ZoneInfo)
hours = st.builds(QuietHours, st.integers(0, 23), st.integers(0, 23))


class TestNextOpenTime:
    @given(moments, zones, hours)
    def test_is_never_quiet(self, at: datetime, zone: ZoneInfo, quiet: QuietHours) -> None:
        opening = next_open_time(at, zone, quiet)
        assert opening >= at
        assert not is_quiet(opening, zone, quiet)

    @given(moments, zones, hours)
    def test_is_no_later_than_the_end_of_the_night(self, at: datetime, zone: ZoneInfo, quiet: QuietHours) -> None:
        opening = next_open_time(at, zone, quiet)
        assert opening - at <= timedelta(hours=26 if zone.key != "Pacific/Apia" else 50)
        probe = at
        while probe < opening - timedelta(minutes=61):
            assert is_quiet(probe, zone, quiet)
            probe += timedelta(minutes=20)

    @pytest.mark.parametrize(
        ("at", "expected"),
        [
            ("2026-03-28T22:00:00+00:00", "2026-03-29T06:00:00+00:00"),  # clocks forward: the night is an hour shorter
            ("2026-10-24T22:00:00+00:00", "2026-10-25T07:00:00+00:00"),  # clocks back: an hour longer
            ("2026-06-01T17:00:00+00:00", "2026-06-02T06:00:00+00:00"),  # 19:00 is quiet
            ("2026-06-01T16:59:59+00:00", "2026-06-01T16:59:59+00:00"),  # 18:59 is not
            ("2026-06-01T06:00:00+00:00", "2026-06-01T06:00:00+00:00"),  # 08:00 is not
        ],
    )
    def test_in_berlin_mornings_begin_at_eight(self, at: str, expected: str) -> None:
        """Also in the nights in which the clocks change."""
        zone = time_zone_of("Europe/Berlin")
        assert next_open_time(datetime.fromisoformat(at), zone, NIGHT) == datetime.fromisoformat(expected)

    def test_a_skipped_hour_becomes_the_moment_after_it(self) -> None:
        zone = time_zone_of("Europe/Berlin")
        at = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # 01:30; there is no 02:00 in this night
        assert next_open_time(at, zone, QuietHours(22, 2)) == datetime(2026, 3, 29, 1, tzinfo=UTC)

    def test_equal_hours_are_never_quiet_unknown_zone_is_utc(self) -> None:
        at = datetime(2026, 1, 1, 3, tzinfo=UTC)
        assert next_open_time(at, UTC, QuietHours(7, 7)) == at
        assert time_zone_of("Nowhere/At_all") is UTC
        assert time_zone_of(None) is UTC
        assert time_zone_of("../etc/passwd") is UTC


class TestWorkingDays:
    def test_skip_the_weekend(self) -> None:
        friday = datetime(2026, 3, 6, 9, tzinfo=UTC)
        assert add_working_days(friday, 1) == datetime(2026, 3, 9, 9, tzinfo=UTC)
        assert add_working_days(friday, 0) == friday
