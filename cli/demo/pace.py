"""How fast business time may run: as fast as people and services keep up with it, so that a slow machine takes longer
and tells the same story.
"""

from datetime import timedelta

FULL = 2.4 * 86400.0
"""Days of business time in a second, in seconds."""
IN_TIME, TOO_LATE = timedelta(hours=10), timedelta(hours=30)
FEW, MANY = 40, 160
"""Pieces of work that wait in the services: events not yet read or published, deadlines that have passed."""


def speed(late: timedelta, waiting: float) -> float:
    """Times as fast as machine time: full, a third of it when work grows, and nothing when there is too much."""
    if late >= TOO_LATE or waiting >= MANY:
        return 0.0
    return FULL if late <= IN_TIME and waiting <= FEW else FULL / 3
