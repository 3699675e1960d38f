"""How fast business time may run: as fast as people and services keep up with it, so that a slow machine takes longer
and tells the same story.
"""

from datetime import datetime, timedelta

_SECONDS_PER_DAY = 86400.0
_MIN_DAYS_PER_S, _MAX_DAYS_PER_S = 2.4, 6.0
"""Days of business time in a second, at full speed."""
_PEOPLE_DAYS_PER_S = 500
"""So many people live one day in a second."""
FULL_SPEED_DELAY, MAX_DELAY = timedelta(hours=10), timedelta(hours=30)
"""By how much business time may be ahead of what people do: at full speed, and at all."""
UNCHECKED_S = 1.0
"""As much as passes in this time at full speed may pass until the services are looked at again."""
LOW_BACKLOG, HIGH_BACKLOG = 40, 160
"""Pieces of work that wait in the services: events not yet read or published, deadlines that have passed."""


def full_speed(people: int) -> float:
    """Times as fast as machine time while everybody keeps up; faster for fewer people."""
    return _SECONDS_PER_DAY * min(max(_PEOPLE_DAYS_PER_S / people, _MIN_DAYS_PER_S), _MAX_DAYS_PER_S)


def choose_speed(
    people: int, now: datetime, checked_at: datetime, backlog: float, next_action_at: datetime | None
) -> tuple[float, datetime]:
    """The speed, and where time stands still. The clock keeps that end: on a busy machine nobody would in time.

    ``looked``: when ``waiting`` pieces of work were seen in the services; ``oldest``: when somebody is next to do
    something, or was to have done it. All by business time.
    """
    until = checked_at + timedelta(seconds=UNCHECKED_S * full_speed(people))
    if next_action_at is not None:
        until = min(until, next_action_at + MAX_DELAY)
    if until <= now or backlog >= HIGH_BACKLOG:
        return 0.0, now
    keeps_up = backlog <= LOW_BACKLOG and (next_action_at is None or now <= next_action_at + FULL_SPEED_DELAY)
    return full_speed(people) if keeps_up else full_speed(people) / 3, until
