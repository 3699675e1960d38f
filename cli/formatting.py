"""Texts and formats that several commands share."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from contracts.days import last_day

FACT_TEXTS: Mapping[str, str] = {
    "no_first_meeting_booked": "no first meeting was planned in time",
    "no_first_meeting_held": "the first meeting has not taken place in time",
    "nothing_scheduled_for_two_weeks": "no further meeting was planned for two weeks",
    "two_cancellations_in_a_row": "two meetings in a row were called off",
    "two_missed_in_a_row": "two meetings in a row did not take place",
}
"""The facts for which a pair is offered help, in words."""

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def format_day(date_: date) -> str:
    """A date such as ``Tue 17 March 2026``. For a time, its date in UTC."""
    return f"{date_:%a} {date_.day} {date_:%B %Y}"


def format_last_day(deadline: datetime) -> str:
    """The day of a deadline in UTC. A midnight ends the day before it."""
    return format_day(last_day(deadline, "UTC"))


def join_words(parts: Sequence[str]) -> str:
    """Join as in "one, two and three"."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def format_ordinal(number: int) -> str:
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1] if number > 0 else "first"
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
