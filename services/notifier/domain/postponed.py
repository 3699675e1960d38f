"""An event that cannot be understood yet: the programme or the pairing that it is about comes on another topic."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from contracts.base import FrozenModel
from contracts.envelope import Envelope, Instant, OutgoingEvent

FIRST, LONGEST = timedelta(seconds=1), timedelta(minutes=5)
WITHIN = timedelta(hours=24)  # by then what it is about has come, or never will


class PostponedEvent(FrozenModel):
    """The event as it was heard. ``event`` empty: it was told, or given up."""

    envelope: Envelope
    event: str
    until: Instant
    tries: int = 0
    due: Instant | None = None
    lease: Instant | None = None

    @property
    def is_pending(self) -> bool:
        return bool(self.event)


Decision = tuple[PostponedEvent, Sequence[OutgoingEvent]]


def postpone(known: PostponedEvent | None, envelope: Envelope, event: str, machine: datetime) -> Decision | None:
    if known is not None:
        return None
    return PostponedEvent(envelope=envelope, event=event, until=machine + WITHIN, lease=machine + FIRST), []


def record_retry(known: PostponedEvent | None, *, told: bool, machine: datetime) -> Decision | None:
    """Told, or it will never be: nothing of it is kept. Otherwise look again, less and less often."""
    if known is None or not known.is_pending:
        return None
    if told or machine > known.until:
        return known.model_copy(update={"event": "", "lease": None}), []
    wait = min(FIRST * 2 ** min(known.tries, 12), LONGEST)
    return known.model_copy(update={"tries": known.tries + 1, "lease": machine + wait}), []
