"""A reader: what they wish to be told and when, and how many messages reached them within a week.

One aggregate for each reader, so that two messages decided at the same moment cannot both take the last place.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import InvalidCommand
from services.notifier.domain.catalogue import ROW_BY_PURPOSE, Kind

WEEK = timedelta(days=7)


class ChannelPreference(FrozenModel):
    """Where a reader wants to be told of one purpose."""

    email: bool = True
    inbox: bool = True


class QuietHoursPreference(FrozenModel):
    """A reader's own quiet hours, by their own clock; the same hour twice: none."""

    from_hour: Annotated[int, Field(ge=0, le=23)]
    until_hour: Annotated[int, Field(ge=0, le=23)]


class WeeklySlot(FrozenModel):
    """One of the week's places, taken by a message when it is handed over."""

    notification_id: str
    at: Instant


class Recipient(FrozenModel):
    """``wishes``: what they said by purpose; of others, the table decides."""

    member_id: str
    wishes: dict[str, ChannelPreference] = Field(default_factory=dict)
    hours: QuietHoursPreference | None = None
    places: tuple[WeeklySlot, ...] = ()
    due: Instant | None = None
    lease: Instant | None = None

    def channels_for(self, purpose: str) -> ChannelPreference:
        return self.wishes.get(purpose, ChannelPreference())


Decision = tuple[Recipient, Sequence[OutgoingEvent]]


def set_preferences(
    known: Recipient | None, member_id: str, wishes: dict[str, ChannelPreference], hours: QuietHoursPreference | None
) -> Decision:
    """Their own wishes, whole. Raises ``Refused`` for an unknown purpose, or to be left out of what asks them."""
    for purpose, channels in wishes.items():
        row = ROW_BY_PURPOSE.get(purpose)
        if row is None:
            raise InvalidCommand("unknown_purpose", "There is no message of this purpose.")
        if row.kind == "essential" and not channels.inbox:
            raise InvalidCommand("inbox_is_needed", "What waits for your answer always stands in your inbox.")
    reader = known or Recipient(member_id=member_id)
    return reader.model_copy(update={"wishes": wishes, "hours": hours}), []


def take_weekly_slot(
    known: Recipient | None, member_id: str, notification_id: str, kind: Kind, cap: int, now: datetime
) -> Decision | None:
    """Take one of the week's ``cap`` places, or move the one that this message has to ``now``; None: none is free.

    What asks nothing leaves one place free for what does.
    """
    reader = known or Recipient(member_id=member_id)
    others = _others(reader, notification_id, now)
    if len(others) >= _most(kind, cap):
        return None
    return reader.model_copy(update={"places": (*others, WeeklySlot(notification_id=notification_id, at=now))}), []


def next_free_slot(reader: Recipient | None, notification_id: str, kind: Kind, cap: int, now: datetime) -> datetime:
    """When the next place is free: a week after the message that stands in the way, and not before."""
    others = sorted(place.at for place in _others(reader, notification_id, now)) if reader else []
    too_many = len(others) - _most(kind, cap)
    return others[too_many] + WEEK if too_many >= 0 else now


def release_weekly_slot(known: Recipient | None, notification_id: str) -> Decision | None:
    """The message was not handed over after all."""
    if known is None or all(place.notification_id != notification_id for place in known.places):
        return None
    kept = tuple(place for place in known.places if place.notification_id != notification_id)
    return known.model_copy(update={"places": kept}), []


def forget(known: Recipient | None) -> Decision | None:
    """Nothing of an erased reader stays but that there was one."""
    if known is None or not known.member_id:
        return None
    return Recipient(member_id=""), []


def _others(reader: Recipient, notification_id: str, now: datetime) -> list[WeeklySlot]:
    return [place for place in reader.places if place.notification_id != notification_id and now - place.at < WEEK]


def _most(kind: Kind, cap: int) -> int:
    return cap if kind == "essential" else max(1, cap - 1)
