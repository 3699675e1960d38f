"""A recipient: their preferences, and how many e-mails they received within the last week.

There is one aggregate for each recipient, so that two notifications decided at the same moment cannot both take the
last weekly slot.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import InvalidCommand
from services.notifier.domain.notification_schedule import ROW_BY_PURPOSE, Kind

WEEK = timedelta(days=7)


class ChannelPreference(FrozenModel):
    """Through which channels a recipient wants one purpose."""

    email: bool = True
    inbox: bool = True


class QuietHoursPreference(FrozenModel):
    """A recipient's own quiet hours, by their own clock. Equal hours mean none."""

    from_hour: Annotated[int, Field(ge=0, le=23)]
    until_hour: Annotated[int, Field(ge=0, le=23)]


class WeeklySlot(FrozenModel):
    """One of the e-mails that a recipient may get within a week; taken when a notification is sent."""

    notification_id: str
    at: Instant


class BouncedAddress(FrozenModel):
    """An address without a mailbox. ``mark`` stands for the address; ``status`` is the code of the mail server."""

    mark: str
    status: str
    at: Instant


class Recipient(FrozenModel):
    """``wishes``: the channels by purpose. A purpose without an entry uses every channel of the schedule.

    ``places``: the weekly slots taken lately. ``bounced``: the address to which no more mail goes.
    """

    member_id: str
    wishes: dict[str, ChannelPreference] = Field(default_factory=dict)
    hours: QuietHoursPreference | None = None
    places: tuple[WeeklySlot, ...] = ()
    bounced: BouncedAddress | None = None
    due: Instant | None = None
    lease: Instant | None = None

    def channels_for(self, purpose: str) -> ChannelPreference:
        return self.wishes.get(purpose, ChannelPreference())

    def is_bounced(self, mark: str) -> bool:
        """Whether mail to the address with this mark came back. Another address is as good as new."""
        return self.bounced is not None and self.bounced.mark == mark


Decision = tuple[Recipient, Sequence[OutgoingEvent]]


def set_preferences(
    current: Recipient | None,
    member_id: str,
    channels: dict[str, ChannelPreference],
    hours: QuietHoursPreference | None,
) -> Decision:
    """Replace all preferences.

    Raises ``InvalidCommand`` for an unknown purpose, or when an essential purpose would not reach the inbox.
    """
    for purpose, preference in channels.items():
        row = ROW_BY_PURPOSE.get(purpose)
        if row is None:
            raise InvalidCommand("unknown_purpose", "There is no message with this purpose.")
        if row.kind == "essential" and not preference.inbox:
            raise InvalidCommand("inbox_is_needed", "Messages that need your answer always appear in your inbox.")
    recipient = current or Recipient(member_id=member_id)
    return recipient.model_copy(update={"wishes": channels, "hours": hours}), []


def take_weekly_slot(
    current: Recipient | None, member_id: str, notification_id: str, kind: Kind, cap: int, now: datetime
) -> Decision | None:
    """Take one of the ``cap`` slots of the week, or move the slot of this notification to ``now``.

    Returns None when no slot is free. A nudge leaves one slot free for essential notifications.
    """
    recipient = current or Recipient(member_id=member_id)
    others = _slots_of_others(recipient, notification_id, now)
    if len(others) >= _max_slots(kind, cap):
        return None
    slot = WeeklySlot(notification_id=notification_id, at=now)
    return recipient.model_copy(update={"places": (*others, slot)}), []


def next_free_slot(recipient: Recipient | None, notification_id: str, kind: Kind, cap: int, now: datetime) -> datetime:
    """When the next slot becomes free: a week after the notification that blocks it, and never before ``now``."""
    others = sorted(slot.at for slot in _slots_of_others(recipient, notification_id, now)) if recipient else []
    surplus = len(others) - _max_slots(kind, cap)
    return others[surplus] + WEEK if surplus >= 0 else now


def release_weekly_slot(current: Recipient | None, notification_id: str) -> Decision | None:
    """Free the slot again: the server rejected the mail."""
    if current is None or all(slot.notification_id != notification_id for slot in current.places):
        return None
    remaining = tuple(slot for slot in current.places if slot.notification_id != notification_id)
    return current.model_copy(update={"places": remaining}), []


def mark_bounced(current: Recipient | None, member_id: str, mark: str, status: str, at: datetime) -> Decision | None:
    """Send no more mail to the address with this mark. None: it is known already, or the recipient was erased."""
    recipient = current or Recipient(member_id=member_id)
    if not recipient.member_id or recipient.is_bounced(mark):
        return None
    return recipient.model_copy(update={"bounced": BouncedAddress(mark=mark, status=status, at=at)}), []


def erase_recipient(current: Recipient | None) -> Decision | None:
    """Erase the recipient. Only the fact that there was one remains."""
    if current is None or not current.member_id:
        return None
    return Recipient(member_id=""), []


def _slots_of_others(recipient: Recipient, notification_id: str, now: datetime) -> list[WeeklySlot]:
    return [slot for slot in recipient.places if slot.notification_id != notification_id and now - slot.at < WEEK]


def _max_slots(kind: Kind, cap: int) -> int:
    return cap if kind == "essential" else max(1, cap - 1)
