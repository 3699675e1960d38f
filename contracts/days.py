"""Days as people live them: where a day ends, which days are worked, and what "by Thursday" means.

A day has no moment of its own. It becomes one only with the time zones of the people concerned, and this module is the
only place where that happens. A deadline is the midnight that ends its day; of several zones the latest one counts, so
nobody is late while their own day still runs. An unknown zone is UTC: it must not exclude anybody.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays
from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Day

ONE_DAY = timedelta(days=1)
INSTANT = timedelta(milliseconds=1)  # the precision of every stored time


class WorkingDays(FrozenModel):
    """Which days are worked. Every deadline that counts working days follows it."""

    weekend: Annotated[tuple[Annotated[int, Field(ge=0, le=6)], ...], Field(max_length=6)] = Field(
        (5, 6), description="days of the week that are not worked; 0 is Monday"
    )
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = Field(
        None, description="ISO 3166 code of the country whose public holidays are not worked"
    )
    subdivision: Annotated[str, Field(pattern=r"^[A-Z0-9]{1,4}$")] | None = Field(
        None, description="ISO 3166-2 code of its part, without the country, such as BY"
    )
    holidays: Annotated[tuple[Day, ...], Field(max_length=400)] = Field(
        (), description="further days that are not worked, such as a week in which the company is closed"
    )

    def includes(self, day: date) -> bool:
        if day.weekday() in self.weekend or day in self.holidays:
            return False
        return self.country is None or day not in _public_holidays(self.country, self.subdivision, day.year)


MONDAY_TO_FRIDAY = WorkingDays()


def has_public_holidays(country: str, subdivision: str | None) -> bool:
    """Whether the public holidays of this country, and of this part of it, are known."""
    parts = holidays.list_supported_countries().get(country)
    return parts is not None and (subdivision is None or subdivision in parts)


@lru_cache(1024)
def zone_named(name: str | None) -> ZoneInfo:
    """The time zone of this IANA name; UTC if it is unknown."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def local_day(at: datetime, zone: str | None) -> date:
    return at.astimezone(zone_named(zone)).date()


def start_of_day(day: date, zone: str | None) -> datetime:
    """The first moment of the day in this zone, in UTC."""
    return at_local_time(day, time(0), zone)


def at_local_time(day: date, at: time, zone: str | None) -> datetime:
    """This time of this local day, in UTC. A time that the clocks skip becomes the moment after the change."""
    return datetime.combine(day, at, zone_named(zone)).astimezone(UTC)


def end_of_day(day: date, zones: Iterable[str | None]) -> datetime:
    """The midnight that ends the day, in the latest of the zones; UTC without any."""
    return max(start_of_day(day + ONE_DAY, zone) for zone in tuple(zones) or ("UTC",))


def last_day(deadline: datetime, zone: str | None) -> date:
    """The last day in this zone of which something is left before the deadline."""
    return local_day(deadline - INSTANT, zone)


def is_end_of_day(deadline: datetime, zone: str | None) -> bool:
    """Whether "by" the last day is true for its reader. Otherwise the hour must be named."""
    return end_of_day(last_day(deadline, zone), [zone]) == deadline


def count_working_days(day: date, days: int, working: WorkingDays = MONDAY_TO_FRIDAY) -> date:
    """The ``days``-th working day after ``day``."""
    while days > 0 and day < date.max:
        day += ONE_DAY
        days -= working.includes(day)
    return day


def end_of_working_day(
    start: datetime, days: int, zones: Iterable[str | None], working: WorkingDays = MONDAY_TO_FRIDAY
) -> datetime:
    """The end of the ``days``-th working day after ``start``, in the latest of the zones."""
    names = tuple(zones) or ("UTC",)
    return max(end_of_day(count_working_days(local_day(start, zone), days, working), [zone]) for zone in names)


def add_working_days(start: datetime, days: int, working: WorkingDays = MONDAY_TO_FRIDAY) -> datetime:
    """The same time of day (UTC), ``days`` working days later: when something is said, not until when."""
    return start + (count_working_days(start.date(), days, working) - start.date())


@lru_cache(4096)
def _public_holidays(country: str, subdivision: str | None, year: int) -> frozenset[date]:
    if not has_public_holidays(country, subdivision):
        return frozenset()
    return frozenset(holidays.country_holidays(country, subdiv=subdivision, years=year))
