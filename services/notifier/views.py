"""Bodies and responses of notifier's HTTP API."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field

from chassis.web.http import RequestBody
from contracts.envelope import Instant
from contracts.profiles import ContactChanged
from contracts.programmes import Care
from services.notifier.domain.notification import Notification, effective_quiet_hours
from services.notifier.domain.notification_schedule import SCHEDULE, Kind
from services.notifier.domain.recipient import BouncedAddress, ChannelPreference, QuietHoursPreference, Recipient
from services.notifier.rendering import RenderedMessage

EmailState = Literal["no", "sent", "under way", "failed"]


class ContactView(BaseModel):
    """A member's name and how to reach them, as notifier stores it."""

    member_id: str
    display_name: str
    email: str | None
    channels: tuple[str, ...]
    locale: str
    time_zone: str | None
    delegates: tuple[str, ...]

    @classmethod
    def of(cls, contact: ContactChanged) -> Self:
        return cls(**contact.model_dump(include=set(cls.model_fields)))


class InboxItemView(BaseModel):
    """One message in an inbox."""

    id: str
    purpose: str
    subject: str
    text: str
    language: str
    pairing_id: str | None
    programme_id: str | None
    shown_at: Instant
    read_at: Instant | None
    by_email: EmailState

    @classmethod
    def of(cls, notification: Notification, message: RenderedMessage) -> Self:
        return cls(
            id=notification.notification_id,
            purpose=notification.purpose,
            subject=message.subject,
            text=message.text,
            language=message.language,
            pairing_id=notification.about.pairing_id,
            programme_id=notification.about.programme_id,
            shown_at=notification.shown_at or notification.happened_at,
            read_at=notification.read_at,
            by_email=_email_state(notification),
        )


class UnreachableView(BaseModel):
    """A member to whose address no mail goes, and since when. ``status`` is the code of the mail server."""

    member_id: str
    since: Instant
    status: str

    @classmethod
    def of(cls, contact: ContactChanged, bounced: BouncedAddress) -> Self:
        return cls(member_id=contact.member_id, since=bounced.at, status=bounced.status)


class MailReportBody(RequestBody):
    """One mail that did not arrive: its Message-ID, and the enhanced status code of the failure (RFC 3463)."""

    message_id: Annotated[str, Field(min_length=3, max_length=300, description="with or without angle brackets")]
    status: Annotated[str, Field(pattern=r"^[45]\.[0-9]{1,3}\.[0-9]{1,3}$", description="such as 5.1.1")]


class MailReportTaken(BaseModel):
    """The report was taken. Whether it has an effect is not said."""

    taken: Literal[True] = True


class UnreadCountView(BaseModel):
    unread: int


class NotificationCountsView(BaseModel):
    """How many notifications are in each state, without any member. ``suppressed``: not sent, on purpose."""

    later: int
    under_way: int
    sent: int
    failed: int
    suppressed: int


class PurposePreferenceView(BaseModel):
    """One purpose and its channels. ``needed``: it always appears in the inbox."""

    purpose: str
    kind: Kind
    email: bool
    inbox: bool
    needed: bool


class PreferencesView(BaseModel):
    """All preferences of a recipient.

    ``quiet_hours``: the recipient's own. When it is None, the ``usual_hours`` of each programme apply.
    """

    wishes: list[PurposePreferenceView]
    quiet_hours: QuietHoursPreference | None
    usual_hours: QuietHoursPreference
    time_zone: str | None

    @classmethod
    def of(cls, recipient: Recipient, time_zone: str | None) -> Self:
        usual = effective_quiet_hours(Care(), None)
        return cls(
            wishes=[
                PurposePreferenceView(
                    purpose=row.purpose,
                    kind=row.kind,
                    email=row.kind != "note" and recipient.channels_for(row.purpose).email,
                    inbox=recipient.channels_for(row.purpose).inbox,
                    needed=row.kind == "essential",
                )
                for row in SCHEDULE
            ],
            quiet_hours=recipient.hours,
            usual_hours=QuietHoursPreference(from_hour=usual.from_hour, until_hour=usual.until_hour),
            time_zone=time_zone,
        )


class PreferencesBody(RequestBody):
    """All preferences at once. A purpose that is not named uses every channel of the schedule."""

    wishes: dict[str, ChannelPreference] = Field(default_factory=dict, max_length=len(SCHEDULE))
    quiet_hours: QuietHoursPreference | None = None


def _email_state(notification: Notification) -> EmailState:
    if notification.state == "held":
        return "under way"
    if notification.channel != "email":
        return "no"
    match notification.state:
        case "sent":
            return "sent"
        case "sending":
            return "under way"
        case _:
            return "failed"
