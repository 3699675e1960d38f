"""Quiet hours, by the recipient's own clock.

Hours are compared on the wall clock. The next morning is computed on the wall clock too, and only then converted to
UTC. So a night in which the clocks change is as long as it really is.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


@dataclass(frozen=True)
class QuietHours:
    """Whole hours of the wall clock: ``from_hour`` is quiet, ``until_hour`` is not. Equal hours mean never quiet."""

    from_hour: int
    until_hour: int

    def covers(self, hour: int) -> bool:
        if self.from_hour <= self.until_hour:
            return self.from_hour <= hour < self.until_hour
        return hour >= self.from_hour or hour < self.until_hour


def time_zone_of(name: str | None) -> tzinfo:
    """The recipient's time zone; UTC when it is unknown or does not exist."""
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
        morning = _wall_clock_hour(today + timedelta(days=days), quiet.until_hour, zone)
        if morning > at and not is_quiet(morning, zone, quiet):
            return morning
    raise AssertionError("every night ends within two days")


def start_of_day(day: date) -> datetime:
    """Midnight in UTC. Quiet hours then decide when the recipient's morning begins."""
    return datetime.combine(day, time(), UTC)


def _wall_clock_hour(day: date, hour: int, zone: tzinfo) -> datetime:
    """This hour on the wall clock, in UTC. An hour that the clocks skip becomes the moment after the change."""
    return datetime.combine(day, time(hour), zone).astimezone(UTC)
