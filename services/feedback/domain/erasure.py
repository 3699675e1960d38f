"""Forgetting somebody, and saying when that is done."""

from datetime import datetime, timedelta

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.privacy import ErasureCompleted
from contracts.profiles import MemberId

LOOK_AGAIN = timedelta(seconds=1)


class Erasure(FrozenModel):
    """Somebody is to be forgotten here; ``lease`` is when to look again whether nothing is held of them."""

    member_id: MemberId
    requested_at: Instant
    completed_at: Instant | None = None
    due: Instant | None = None
    lease: Instant | None = None


def requested(
    known: Erasure | None, member_id: str, at: datetime, machine: datetime
) -> tuple[Erasure, list[OutgoingEvent]] | None:
    """Begin to forget; asked again it changes nothing."""
    if known is not None:
        return None
    return Erasure(member_id=member_id, requested_at=at, lease=machine), []


def looked(
    known: Erasure | None, *, gone: bool, now: datetime, machine: datetime
) -> tuple[Erasure, list[OutgoingEvent]] | None:
    """Nothing is held any longer: report it. Otherwise look again soon."""
    if known is None or known.completed_at is not None:
        return None
    if not gone:
        return known.model_copy(update={"lease": machine + LOOK_AGAIN}), []
    done = known.model_copy(update={"completed_at": now, "lease": None})
    return done, [ErasureCompleted(member_id=known.member_id, service="feedback", completed_at=now)]
