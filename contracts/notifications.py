"""Events about messages: what became of each message to one recipient. No address and no text is in them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.envelope import EventData, Id, Instant, Topic
from contracts.profiles import MemberId

NOTIFICATIONS = Topic("notifications.v1", "time")


class NotificationEvent(EventData):
    """What became of one message to one reader: its kind and channel; no address, no body."""

    TOPIC: ClassVar[Topic] = NOTIFICATIONS
    KEY: ClassVar[str] = "member_id"
    SUBJECT: ClassVar[str | None] = "notification_id"

    notification_id: Id
    member_id: MemberId
    purpose: Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9_.-]*$", description="what kind of message")]
    channel: Literal["email", "inbox", "chat"]
    cause_id: Id = Field(description="id of the event that it is about")
    pairing_id: Id | None = None
    programme_id: Id | None = None
    happened_at: Instant
    recorded_at: Instant


class NotificationSent(NotificationEvent):
    """Handed over to its channel."""

    TYPE: ClassVar[str] = "mentoring.notification.sent.v1"


class NotificationFailed(NotificationEvent):
    """Given up after its retries. Why is in the notifier's own records and figures."""

    TYPE: ClassVar[str] = "mentoring.notification.failed.v1"


class NotificationSuppressed(NotificationEvent):
    """Not sent, on purpose. Why is nobody's business: the reader's wish, an absence, a departure, or a cap."""

    TYPE: ClassVar[str] = "mentoring.notification.suppressed.v1"
