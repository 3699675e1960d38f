"""Months, and the weekly time that two people share."""

from collections.abc import Sequence
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dateutil.relativedelta import relativedelta

from contracts.profiles import ProfileChanged, Window

DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES

MinuteRange = tuple[int, int]  # minutes of the week in UTC; start < end; Monday 00:00 is 0


def add_months(start: date, months: int) -> date:
    """The same day of the month, or the last one of a shorter month."""
    return start + relativedelta(months=months)


def get_free_time(member: ProfileChanged, on: date) -> tuple[MinuteRange, ...] | None:
    """The weekly free time in UTC, with the offset of the day ``on``; None if the member did not enter it."""
    availability = member.availability
    if availability.kind != "weekly" or not availability.windows or member.time_zone is None:
        return None
    offset = get_utc_offset(member.time_zone, on)
    return None if offset is None else convert_to_utc(availability.windows, offset)


def get_window_length(window: Window) -> int:
    """Minutes. A window that ends before its start ends on the next day; one without length is no time."""
    return window.end - window.start + (DAY_MINUTES if window.end < window.start else 0)


@lru_cache(4096)
def convert_to_utc(windows: tuple[Window, ...], offset: int) -> tuple[MinuteRange, ...]:
    """Local windows as disjoint, sorted ranges of the UTC week. ``offset``: minutes east of UTC."""
    ranges: list[MinuteRange] = []
    for window in windows:
        length = get_window_length(window)
        if not length:
            continue
        start = (window.weekday * DAY_MINUTES + window.start - offset) % WEEK_MINUTES
        end = start + length
        ranges += [(start, min(end, WEEK_MINUTES))] + ([(0, end - WEEK_MINUTES)] if end > WEEK_MINUTES else [])
    merged: list[MinuteRange] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def count_shared_minutes(first: Sequence[MinuteRange], second: Sequence[MinuteRange]) -> int:
    """The minutes of the week in which both are free."""
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in first for b in second)


@lru_cache(4096)
def get_utc_offset(time_zone: str, on: date) -> int | None:
    """Minutes east of UTC at noon; None for an unknown time zone."""
    try:
        offset = datetime(on.year, on.month, on.day, 12, tzinfo=ZoneInfo(time_zone)).utcoffset()
    except (ZoneInfoNotFoundError, ValueError):
        return None
    return None if offset is None else int(offset.total_seconds() // 60)
