"""The two times of one decision, and the weeks of figures that show nothing of a single moment."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True)
class Moment:
    """One instant on both clocks, in UTC.

    ``now`` is business time: deadlines and cadences follow it, and events carry it as ``happened_at``.
    ``recorded_at`` is machine time: leases, retries and retention of technical records follow it.
    """

    now: datetime
    recorded_at: datetime


def next_week(now: datetime) -> datetime:
    """The first moment of the next week: Monday, 00:00 UTC. Figures about people change at this time alone."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=7 - today.weekday())
