"""The two times of one decision."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Moment:
    """One instant on both clocks, in UTC.

    ``now`` is business time: deadlines and cadences follow it, and events carry it as ``happened_at``.
    ``recorded_at`` is machine time: leases, retries and retention of technical records follow it.
    """

    now: datetime
    recorded_at: datetime
