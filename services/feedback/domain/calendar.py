"""Days as people live them: in their own time zone, without weekends and without the days of a pause.

A day on which a pairing was paused, if only for an hour, never counts against it. A deadline is the midnight that ends
a day, and where the two live in different zones, the later of theirs: nobody is late while their own day still runs.
"""

from calendar import monthrange
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SATURDAY = 5
MORNING = time(9)  # local; when somebody is asked something

Pause = tuple[datetime, datetime | None]  # since, until; None: still on hold


def working_day_ends(start: datetime, days: int, zones: Sequence[str], pauses: Sequence[Pause] = ()) -> datetime:
    """When ``days`` working days after the day of ``start`` are over for everybody."""
    return max(_midnight_after(_counted(start, days, zone, pauses, working=True), zone) for zone in zones or ("UTC",))


def day_ends(start: datetime, days: int, zones: Sequence[str], pauses: Sequence[Pause] = ()) -> datetime:
    """When ``days`` days after the day of ``start`` are over for everybody."""
    return max(_midnight_after(_counted(start, days, zone, pauses), zone) for zone in zones or ("UTC",))


def morning_of(start: datetime, days: int, zone: str, pauses: Sequence[Pause] = ()) -> datetime:
    """Nine o'clock, local time, ``days`` days after ``start``, or on the working day that follows."""
    day = _counted(start, days, zone, pauses)
    lost = _lost(pauses, zone)
    while day.weekday() >= SATURDAY or _is_lost(day, lost):
        day += timedelta(days=1)
    return _local(day, MORNING, zone)


def add_months(start: datetime, months: int) -> datetime:
    """The same time on the same day of the month, or on the last one of a shorter month."""
    year, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + year, month + 1
    return start.replace(year=year, month=month, day=min(start.day, monthrange(year, month)[1]))


def local_day(at: datetime, zone: str) -> date:
    return at.astimezone(_zone(zone)).date()


def _counted(start: datetime, days: int, zone: str, pauses: Sequence[Pause], *, working: bool = False) -> date:
    return _day_reached(local_day(start, zone), days, _lost(pauses, zone), working)


@lru_cache(4096)  # the same few days of a pairing are asked for after each of its changes
def _day_reached(day: date, days: int, lost: tuple[tuple[date, date], ...], working: bool) -> date:
    while days > 0:
        day += timedelta(days=1)
        if not _is_lost(day, lost) and not (working and day.weekday() >= SATURDAY):
            days -= 1
    return day


def _lost(pauses: Sequence[Pause], zone: str) -> tuple[tuple[date, date], ...]:
    """First and last day of each pause that is over. One that still runs has no end, and nothing is due meanwhile."""
    return tuple((local_day(since, zone), local_day(until, zone)) for since, until in pauses if until is not None)


def _is_lost(day: date, lost: Iterable[tuple[date, date]]) -> bool:
    return any(first <= day <= last for first, last in lost)


def _midnight_after(day: date, zone: str) -> datetime:
    return _local(day + timedelta(days=1), time(0), zone)


def _local(day: date, at: time, zone: str) -> datetime:
    return datetime.combine(day, at, _zone(zone)).astimezone(UTC)


@lru_cache(1024)
def _zone(name: str) -> ZoneInfo:
    """UTC where nobody knows the name: an unusual zone must not keep anybody from being cared for."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
