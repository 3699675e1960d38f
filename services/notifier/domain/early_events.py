"""An event that arrived before the programme or the pairing it refers to, which come on other topics."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from contracts.base import FrozenModel
from contracts.envelope import Envelope, Instant, OutgoingEvent

FIRST_RETRY_DELAY, MAX_RETRY_DELAY = timedelta(seconds=1), timedelta(minutes=5)
MAX_DOUBLINGS = 12  # keeps the power of two small; the delay is capped long before
GIVE_UP_AFTER = timedelta(hours=24)  # what it refers to has come by then, or never will


class PostponedEvent(FrozenModel):
    """The event as it was received, as JSON. ``event`` is empty once it was handled or given up."""

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


def postpone(current: PostponedEvent | None, envelope: Envelope, event: str, recorded_at: datetime) -> Decision | None:
    """Keep the event and try again soon. Does nothing when it is kept already."""
    if current is not None:
        return None
    lease = recorded_at + FIRST_RETRY_DELAY
    return PostponedEvent(envelope=envelope, event=event, until=recorded_at + GIVE_UP_AFTER, lease=lease), []


def record_retry(current: PostponedEvent | None, *, is_handled: bool, recorded_at: datetime) -> Decision | None:
    """Delete the content once it was handled or its time is over. Otherwise try again, less and less often."""
    if current is None or not current.is_pending:
        return None
    if is_handled or recorded_at > current.until:
        return current.model_copy(update={"event": "", "lease": None}), []
    delay = min(FIRST_RETRY_DELAY * 2 ** min(current.tries, MAX_DOUBLINGS), MAX_RETRY_DELAY)
    return current.model_copy(update={"tries": current.tries + 1, "lease": recorded_at + delay}), []
