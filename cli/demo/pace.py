"""How fast business time may run: as fast as people and services keep up with it, so that a slow machine takes longer
and tells the same story.
"""

import asyncio
from datetime import timedelta

from chassis.clocks import Clock

_DAY_S = 86400.0
_SLOWEST, _FASTEST = 2.4, 6.0
"""Days of business time in a second, at full speed."""
_PEOPLE = 500
"""So many people live one day in a second."""
IN_TIME, TOO_LATE = timedelta(hours=10), timedelta(hours=30)
UNSEEN = timedelta(hours=60)
"""So much may pass until somebody looks again who keeps up, and less where fewer people live faster."""
FEW, MANY = 40, 160
"""Pieces of work that wait in the services: events not yet read or published, deadlines that have passed."""


def full(people: int) -> float:
    """Times as fast as machine time while everybody keeps up; faster for fewer people."""
    return _DAY_S * min(max(_PEOPLE / people, _SLOWEST), _FASTEST)


def speed(full: float, late: timedelta, waiting: float) -> float:
    """``full``, a third of it when work grows, and nothing when there is too much."""
    if late >= TOO_LATE or waiting >= MANY:
        return 0.0
    return full if late <= IN_TIME and waiting <= FEW else full / 3


class Pace:
    """Sets the speed of business time, each time for ``UNSEEN`` at most; then it stands still.

    Otherwise weeks would pass on a busy machine before somebody looks again.
    """

    def __init__(self, clock: Clock, full: float) -> None:
        self._clock = clock
        self._unseen = UNSEEN * (_SLOWEST * _DAY_S / full)
        self._stop: asyncio.TimerHandle | None = None

    def set(self, speed: float) -> None:
        if self._stop is not None:
            self._stop.cancel()
            self._stop = None
        if self._clock.timeline().segments[-1].speed != speed:
            self._clock.set(speed)
        if speed:
            seconds = self._unseen.total_seconds() / speed
            self._stop = asyncio.get_running_loop().call_later(seconds, self.set, 0.0)
