"""How long somebody has waited, as a priority from 0 to 1 that a round may give them.

Both sides of a pairing that came to nothing count alike: a priority tells nobody who refused.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

FULL_WAIT_DAYS = 90  # days after which a wait counts in full
MIN_PRIORITY_AFTER_FAILURE = 0.5  # the least priority of whoever's last pairing came to nothing

PairingResult = Literal["to_nothing", "to_its_end"]


@dataclass(frozen=True)
class LastPairing:
    """How a member's latest pairing of the programme came out, and when (business time)."""

    at: datetime
    came: PairingResult


def classify_result(state: str, end_kind: str | None) -> PairingResult:
    """What a pairing that is over came to: lapsed, not started and ended early are all nothing."""
    return "to_its_end" if state == "ended" and end_kind == "completed" else "to_nothing"


def compute_waiting_priority(waiting_since: datetime | None, last: LastPairing | None, now: datetime) -> float:
    """The share of ``FULL_WAIT_DAYS`` that has passed since they are ready or since their last pairing was over.

    At least ``MIN_PRIORITY_AFTER_FAILURE`` where that came to nothing. Who never said since when they wait has none.
    """
    times = [at for at in (waiting_since, last.at if last else None) if at is not None]
    if not times:
        return 0.0
    share = min(1.0, max(0.0, (now - max(times)).total_seconds() / 86_400 / FULL_WAIT_DAYS))
    return max(share, MIN_PRIORITY_AFTER_FAILURE) if last is not None and last.came == "to_nothing" else share
