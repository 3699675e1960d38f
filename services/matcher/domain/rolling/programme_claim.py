"""The claim on a programme with rolling matching: one replica at a time works on it.

The claim survives a crash. It stores no list of members to check, so a new holder checks all of them again. ``stirred``
grows with every change that no topic announces, such as a dismissed suggestion. The holder reads it in every turn and
then checks the suggestions again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent

CLAIM_LEASE = timedelta(seconds=10)  # machine time for which a claim is valid
RENEWAL_THRESHOLD = timedelta(seconds=8)  # a claim is renewed when less than this is left


class ProgrammeClaim(FrozenModel):
    """``active``: there may be work. ``holder``: the id of the worker that holds the claim."""

    programme_id: str
    active: bool = True
    holder: str | None = None
    stirred: int = 0
    due: Instant | None = None
    lease: Instant | None = None


Decision = tuple[ProgrammeClaim, Sequence[OutgoingEvent]]


def mark_changed(watch: ProgrammeClaim | None, programme_id: str) -> Decision:
    """Record a change that no topic announces to the holder."""
    if watch is None:
        return ProgrammeClaim(programme_id=programme_id), []
    return watch.model_copy(update={"active": True, "stirred": watch.stirred + 1}), []


def take_claim(watch: ProgrammeClaim | None, holder: str, recorded_at: datetime) -> Decision | None:
    """Take the claim; None if it is not active, or if another holder's lease is still valid."""
    if watch is None or not watch.active or (watch.lease is not None and watch.lease > recorded_at):
        return None
    return watch.model_copy(update={"holder": holder, "lease": recorded_at + CLAIM_LEASE}), []


def renew_claim(watch: ProgrammeClaim | None, holder: str, recorded_at: datetime) -> Decision | None:
    """Extend the lease. None if another worker took the claim, or if enough time is left."""
    if (
        watch is None
        or watch.holder != holder
        or (watch.lease is not None and watch.lease > recorded_at + RENEWAL_THRESHOLD)
    ):
        return None
    return watch.model_copy(update={"lease": recorded_at + CLAIM_LEASE}), []


def release_claim(watch: ProgrammeClaim | None, holder: str, *, stirred: int | None = None) -> Decision | None:
    """Release the claim, so that another worker can take it at once.

    ``stirred``: its value when the holder saw that no work is left. If it is unchanged, the claim becomes inactive.
    """
    if watch is None or watch.holder != holder:
        return None
    active = watch.active and watch.stirred != stirred
    return watch.model_copy(update={"active": active, "holder": None, "lease": None}), []
