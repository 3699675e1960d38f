"""Deadlines in local days, without weekends and without the days of a pause.

A day on which a pairing was paused, even for an hour, never counts. A deadline is the midnight that ends a day. When
the two live in different zones, the later midnight counts, so nobody is late while their own day still runs.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dateutil.relativedelta import relativedelta

SATURDAY = 5
ASKING_TIME = time(9)  # local time at which people are asked something
CACHED_DAYS, CACHED_ZONES = 4096, 1024

Pause = tuple[datetime, datetime | None]  # since, until; until is None while the pairing is on hold
DaySpan = tuple[date, date]  # first and last local day


def working_day_ends(start: datetime, days: int, zones: Sequence[str], pauses: Sequence[Pause] = ()) -> datetime:
    """The end of the ``days``-th working day after ``start``, in the latest of the zones."""
    return max(
        _midnight_after(_count_days(start, days, zone, pauses, only_working=True), zone) for zone in zones or ("UTC",)
    )


def day_ends(start: datetime, days: int, zones: Sequence[str], pauses: Sequence[Pause] = ()) -> datetime:
    """The end of the ``days``-th day after ``start``, in the latest of the zones."""
    return max(_midnight_after(_count_days(start, days, zone, pauses), zone) for zone in zones or ("UTC",))


def morning_of(start: datetime, days: int, zone: str, pauses: Sequence[Pause] = ()) -> datetime:
    """Nine o'clock, local time, ``days`` days after ``start``, or on the next working day."""
    day = _count_days(start, days, zone, pauses)
    paused = _paused_days(pauses, zone)
    while day.weekday() >= SATURDAY or _is_paused(day, paused):
        day += timedelta(days=1)
    return _local_time(day, ASKING_TIME, zone)


def add_months(start: datetime, months: int) -> datetime:
    """The same time on the same day of the month, or on the last day of a shorter month."""
    return start + relativedelta(months=months)


def local_day(at: datetime, zone: str) -> date:
    return at.astimezone(_zone(zone)).date()


def _count_days(start: datetime, days: int, zone: str, pauses: Sequence[Pause], *, only_working: bool = False) -> date:
    return _day_after(local_day(start, zone), days, _paused_days(pauses, zone), only_working)


@lru_cache(CACHED_DAYS)  # each change of a pairing asks for the same few days again
def _day_after(day: date, days: int, paused: tuple[DaySpan, ...], only_working: bool) -> date:
    while days > 0:
        day += timedelta(days=1)
        if not _is_paused(day, paused) and not (only_working and day.weekday() >= SATURDAY):
            days -= 1
    return day


def _paused_days(pauses: Sequence[Pause], zone: str) -> tuple[DaySpan, ...]:
    """First and last day of each finished pause. A running pause has no end yet, and nothing is due during it."""
    return tuple((local_day(since, zone), local_day(until, zone)) for since, until in pauses if until is not None)


def _is_paused(day: date, paused: Iterable[DaySpan]) -> bool:
    return any(first <= day <= last for first, last in paused)


def _midnight_after(day: date, zone: str) -> datetime:
    return _local_time(day + timedelta(days=1), time(0), zone)


def _local_time(day: date, at: time, zone: str) -> datetime:
    """This time of this local day, in UTC."""
    return datetime.combine(day, at, _zone(zone)).astimezone(UTC)


@lru_cache(CACHED_ZONES)
def _zone(name: str) -> ZoneInfo:
    """UTC for an unknown name: an unusual zone must not exclude anybody from follow-up."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
