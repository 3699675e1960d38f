"""How fast business time may run: as fast as people and services keep up with it, so that a slow machine takes longer
and tells the same story.
"""

from datetime import datetime, timedelta

_DAY_S = 86400.0
_SLOWEST, _FASTEST = 2.4, 6.0
"""Days of business time in a second, at full speed."""
_PEOPLE = 500
"""So many people live one day in a second."""
IN_TIME, TOO_LATE = timedelta(hours=10), timedelta(hours=30)
"""By how much business time may be ahead of what people do: at full speed, and at all."""
UNSEEN_S = 1.0
"""As much as passes in this time at full speed may pass until the services are looked at again."""
FEW, MANY = 40, 160
"""Pieces of work that wait in the services: events not yet read or published, deadlines that have passed."""


def full(people: int) -> float:
    """Times as fast as machine time while everybody keeps up; faster for fewer people."""
    return _DAY_S * min(max(_PEOPLE / people, _SLOWEST), _FASTEST)


def pace(
    people: int, now: datetime, looked: datetime, waiting: float, oldest: datetime | None
) -> tuple[float, datetime]:
    """The speed, and where time stands still. The clock keeps that end: on a busy machine nobody would in time.

    ``looked``: when ``waiting`` pieces of work were seen in the services; ``oldest``: when somebody is next to do
    something, or was to have done it. All by business time.
    """
    until = looked + timedelta(seconds=UNSEEN_S * full(people))
    if oldest is not None:
        until = min(until, oldest + TOO_LATE)
    if until <= now or waiting >= MANY:
        return 0.0, now
    keeps_up = waiting <= FEW and (oldest is None or now <= oldest + IN_TIME)
    return full(people) if keeps_up else full(people) / 3, until
