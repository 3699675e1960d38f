"""Deadlines in local days, without weekends and without the days of a pause.

A day on which a pairing was paused, even for an hour, never counts. A deadline is the midnight that ends a day. When
the two live in different zones, the later midnight counts, so nobody is late while their own day still runs.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from dateutil.relativedelta import relativedelta

from contracts.days import MONDAY_TO_FRIDAY, WorkingDays, at_local_time, end_of_day, local_day

ASKING_TIME = time(9)  # local time at which people are asked something
CACHED_DAYS = 4096

Pause = tuple[datetime, datetime | None]  # since, until; until is None while the pairing is on hold
DaySpan = tuple[date, date]  # first and last local day


def working_day_ends(
    start: datetime,
    days: int,
    zones: Sequence[str],
    pauses: Sequence[Pause] = (),
    working: WorkingDays = MONDAY_TO_FRIDAY,
) -> datetime:
    """The end of the ``days``-th working day after ``start``, in the latest of the zones."""
    return max(end_of_day(_count_days(start, days, zone, pauses, working), [zone]) for zone in zones or ("UTC",))


def day_ends(start: datetime, days: int, zones: Sequence[str], pauses: Sequence[Pause] = ()) -> datetime:
    """The end of the ``days``-th day after ``start``, in the latest of the zones."""
    return max(end_of_day(_count_days(start, days, zone, pauses), [zone]) for zone in zones or ("UTC",))


def morning_of(
    start: datetime,
    days: int,
    zone: str,
    pauses: Sequence[Pause] = (),
    working: WorkingDays = MONDAY_TO_FRIDAY,
) -> datetime:
    """Nine o'clock, local time, ``days`` days after ``start``, or on the next working day."""
    day = _count_days(start, days, zone, pauses)
    paused = _paused_days(pauses, zone)
    while not working.includes(day) or _is_paused(day, paused):
        day += timedelta(days=1)
    return at_local_time(day, ASKING_TIME, zone)


def add_months(start: datetime, months: int) -> datetime:
    """The same time on the same day of the month, or on the last day of a shorter month."""
    return start + relativedelta(months=months)


def _count_days(
    start: datetime, days: int, zone: str, pauses: Sequence[Pause], working: WorkingDays | None = None
) -> date:
    return _day_after(local_day(start, zone), days, _paused_days(pauses, zone), working)


@lru_cache(CACHED_DAYS)  # each change of a pairing asks for the same few days again
def _day_after(day: date, days: int, paused: tuple[DaySpan, ...], working: WorkingDays | None) -> date:
    while days > 0:
        day += timedelta(days=1)
        if not _is_paused(day, paused) and (working is None or working.includes(day)):
            days -= 1
    return day


def _paused_days(pauses: Sequence[Pause], zone: str) -> tuple[DaySpan, ...]:
    """First and last day of each finished pause. A running pause has no end yet, and nothing is due during it."""
    return tuple((local_day(since, zone), local_day(until, zone)) for since, until in pauses if until is not None)


def _is_paused(day: date, paused: Iterable[DaySpan]) -> bool:
    return any(first <= day <= last for first, last in paused)
