"""Quiet hours and working days, by the reader's own clock.

A night on which clocks are put forward or back is as long as it is: hours are compared on the wall clock, and the next
morning is computed there and only then turned into UTC.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SATURDAY = 5


@dataclass(frozen=True)
class QuietHours:
    """Whole hours of the wall clock, ``from_hour`` included and ``until_hour`` not; the same twice: never quiet."""

    from_hour: int
    until_hour: int

    def covers(self, hour: int) -> bool:
        if self.from_hour <= self.until_hour:
            return self.from_hour <= hour < self.until_hour
        return hour >= self.from_hour or hour < self.until_hour


def time_zone_of(name: str | None) -> tzinfo:
    """The reader's time zone; UTC where none is known, or no such zone exists."""
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def is_quiet(at: datetime, zone: tzinfo, quiet: QuietHours) -> bool:
    return quiet.covers(at.astimezone(zone).hour)


def next_open_time(at: datetime, zone: tzinfo, quiet: QuietHours) -> datetime:
    """The first moment from ``at`` on that is not quiet, in UTC."""
    if not is_quiet(at, zone, quiet):
        return at
    today = at.astimezone(zone).date()
    for days in (0, 1, 2):
        morning = _wall(today + timedelta(days=days), quiet.until_hour, zone)
        if morning > at and not is_quiet(morning, zone, quiet):
            return morning
    raise AssertionError("every night has a morning")


def add_working_days(start: datetime, days: int) -> datetime:
    """The same time of day, ``days`` working days (Monday to Friday) later."""
    result = start
    while days > 0:
        result += timedelta(days=1)
        days -= result.weekday() < SATURDAY
    return result


def start_of_day(day: date) -> datetime:
    """The day's beginning in UTC: from then on, quiet hours decide."""
    return datetime.combine(day, time(), UTC)


def _wall(day: date, hour: int, zone: tzinfo) -> datetime:
    """That hour on the wall clock, in UTC; one that the clocks jump over is the moment after the jump."""
    return datetime.combine(day, time(hour), zone).astimezone(UTC)
