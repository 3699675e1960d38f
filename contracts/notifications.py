"""Events about notifications: the fate of each message to one recipient. They contain no address and no text."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.envelope import EventData, Id, Instant, Topic
from contracts.profiles import MemberId

NOTIFICATIONS = Topic("notifications.v1", "time", writers=("notifier",))


class NotificationEvent(EventData):
    """The fate of one message to one recipient: its purpose and channel, no address and no text."""

    TOPIC: ClassVar[Topic] = NOTIFICATIONS
    KEY: ClassVar[str] = "member_id"
    SUBJECT: ClassVar[str | None] = "notification_id"

    notification_id: Id
    member_id: MemberId
    purpose: Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9_.-]*$", description="the kind of message")]
    channel: Literal["email", "inbox", "chat"]
    cause_id: Id = Field(description="id of the event that caused the message")
    pairing_id: Id | None = None
    programme_id: Id | None = None
    happened_at: Instant
    recorded_at: Instant


class NotificationSent(NotificationEvent):
    """The message was handed over to its channel."""

    TYPE: ClassVar[str] = "mentoring.notification.sent.v1"


class NotificationFailed(NotificationEvent):
    """The message was given up after its retries. The notifier's own records and metrics contain the reason."""

    TYPE: ClassVar[str] = "mentoring.notification.failed.v1"


class NotificationSuppressed(NotificationEvent):
    """The message was not sent, on purpose. The reason stays private: a wish, an absence, a departure, or a cap."""

    TYPE: ClassVar[str] = "mentoring.notification.suppressed.v1"
