"""Who looks after a programme that is matched as people come and go: one replica at a time.

The watch is what survives a crash. It holds no list of who is to be looked at: whoever takes it over looks at everybody
again. ``stirred`` grows with every change that comes by no topic (a suggestion was dismissed), so that the holder, who
reads it in every turn, looks at the suggestions again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent

CLAIM_LEASE = timedelta(seconds=10)  # machine time for which a claim holds ...
RENEWAL_THRESHOLD = timedelta(seconds=8)  # ... renewed as soon as less than this is left


class ProgrammeClaim(FrozenModel):
    """``active``: there may be something to look after. ``holder``: the claim under which somebody does."""

    programme_id: str
    active: bool = True
    holder: str | None = None
    stirred: int = 0
    due: Instant | None = None
    lease: Instant | None = None


Decision = tuple[ProgrammeClaim, Sequence[OutgoingEvent]]


def mark_changed(watch: ProgrammeClaim | None, programme_id: str) -> Decision:
    """Something has changed that the holder would not hear of otherwise."""
    if watch is None:
        return ProgrammeClaim(programme_id=programme_id), []
    return watch.model_copy(update={"active": True, "stirred": watch.stirred + 1}), []


def take_claim(watch: ProgrammeClaim | None, holder: str, recorded_at: datetime) -> Decision | None:
    """Take it over, where nobody holds it or whoever did has not been heard of for too long."""
    if watch is None or not watch.active or (watch.lease is not None and watch.lease > recorded_at):
        return None
    return watch.model_copy(update={"holder": holder, "lease": recorded_at + CLAIM_LEASE}), []


def renew_claim(watch: ProgrammeClaim | None, holder: str, recorded_at: datetime) -> Decision | None:
    """Go on holding it. None where somebody else has taken it over, and where it was renewed just now."""
    if (
        watch is None
        or watch.holder != holder
        or (watch.lease is not None and watch.lease > recorded_at + RENEWAL_THRESHOLD)
    ):
        return None
    return watch.model_copy(update={"lease": recorded_at + CLAIM_LEASE}), []


def release_claim(watch: ProgrammeClaim | None, holder: str, *, stirred: int | None = None) -> Decision | None:
    """Hold it no longer, so that another may at once.

    ``stirred``: as it was when it was seen that there is nothing to look after; if that is still so, nobody needs to.
    """
    if watch is None or watch.holder != holder:
        return None
    active = watch.active and watch.stirred != stirred
    return watch.model_copy(update={"active": active, "holder": None, "lease": None}), []
