"""The waiting priority of a member in a round, from 0 to 1.

Both sides of a failed pairing get the same priority, so that it does not reveal who refused.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

FULL_WAIT_DAYS = 90  # days of waiting that give the full priority
MIN_PRIORITY_AFTER_FAILURE = 0.5  # lowest priority of a member whose last pairing failed

PairingResult = Literal["to_nothing", "to_its_end"]


@dataclass(frozen=True)
class LastPairing:
    """The result of a member's latest pairing in the programme, and its end (business time)."""

    at: datetime
    came: PairingResult


def classify_result(state: str, end_kind: str | None) -> PairingResult:
    """The result of a pairing that is over. Lapsed, not started and ended early all count as failed."""
    return "to_its_end" if state == "ended" and end_kind == "completed" else "to_nothing"


def compute_waiting_priority(waiting_since: datetime | None, last: LastPairing | None, now: datetime) -> float:
    """The time since the member is ready, or since the last pairing ended, as a share of ``FULL_WAIT_DAYS``.

    It is at least ``MIN_PRIORITY_AFTER_FAILURE`` after a failed pairing, and 0 if neither time is known.
    """
    times = [at for at in (waiting_since, last.at if last else None) if at is not None]
    if not times:
        return 0.0
    share = min(1.0, max(0.0, (now - max(times)).total_seconds() / 86_400 / FULL_WAIT_DAYS))
    return max(share, MIN_PRIORITY_AFTER_FAILURE) if last is not None and last.came == "to_nothing" else share
