"""Chooses the speed of business time so that people and services keep up.

A slow machine takes longer and has the same story.
"""

from datetime import datetime, timedelta

_SECONDS_PER_DAY = 86400.0
_MIN_DAYS_PER_S, _MAX_DAYS_PER_S = 2.4, 6.0
"""Limits of full speed, in days of business time per second."""
_PEOPLE_DAYS_PER_S = 500
"""At full speed, people x days per second."""
FULL_SPEED_DELAY, MAX_DELAY = timedelta(hours=10), timedelta(hours=30)
"""How far business time may be ahead of the people's actions: at full speed, and at any speed."""
UNCHECKED_S = 1.0
"""Seconds at full speed that may pass until the services are checked again."""
LOW_BACKLOG, HIGH_BACKLOG = 40, 160
"""Limits of the backlog in the services: events not yet read or published, and passed deadlines."""


def full_speed(people: int) -> float:
    """The speed while everybody keeps up, as a multiple of machine time. It is higher for fewer people."""
    return _SECONDS_PER_DAY * min(max(_PEOPLE_DAYS_PER_S / people, _MIN_DAYS_PER_S), _MAX_DAYS_PER_S)


def choose_speed(
    people: int, now: datetime, checked_at: datetime, backlog: float, next_action_at: datetime | None
) -> tuple[float, datetime]:
    """The speed, and the time at which the clock must stop. The clock itself stops there, even on a busy machine.

    ``checked_at``: when the services had this ``backlog``. ``next_action_at``: the time of the next planned action,
    which may be in the past. All times are business time.
    """
    until = checked_at + timedelta(seconds=UNCHECKED_S * full_speed(people))
    if next_action_at is not None:
        until = min(until, next_action_at + MAX_DELAY)
    if until <= now or backlog >= HIGH_BACKLOG:
        return 0.0, now
    keeps_up = backlog <= LOW_BACKLOG and (next_action_at is None or now <= next_action_at + FULL_SPEED_DELAY)
    return full_speed(people) if keeps_up else full_speed(people) / 3, until
