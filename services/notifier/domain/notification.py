"""A notification: the one record of what one cause means to one recipient for one purpose.

    held -> sending -> sent | failed           held -> suppressed           held -> sent (inbox)

``due`` (business time) is when to send it. ``lease`` (machine time) is when to try next: sending has several steps,
and a crash may come between them. Each attempt is recorded before it is made (``_claim``), so that

* two replicas never make the same attempt: the claim is one operation, and only the replica that made it sends;
* a crash after the mail left leaves an attempt *in doubt*: nobody knows whether it arrived. It is repeated once, with
  the same Message-ID, and never a third time.

A notification contains no name and no text. The text is rendered from templates when somebody reads it or a mail is
sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.moment import Moment
from contracts.notifications import NotificationEvent, NotificationFailed, NotificationSent, NotificationSuppressed
from contracts.profiles import ContactChanged, Side
from contracts.programmes import Care
from services.notifier.domain.notification_schedule import ROW_BY_PURPOSE, ScheduleRow, SendingFacts
from services.notifier.domain.quiet_hours import QuietHours, next_open_time, time_zone_of
from services.notifier.domain.recipient import ChannelPreference, QuietHoursPreference

Channel = Literal["email", "inbox"]
FinalState = Literal["sent", "failed", "suppressed"]
Reason = Literal[
    "outdated", "not_needed", "left", "gone", "away", "wish", "cap", "no_contact", "no_address", "address_refused",
    "address_malformed", "address_bounced", "server_lacks_smtputf8", "message_refused", "sender_refused",
    "undelivered", "outcome_unknown",
]  # fmt: skip

CLAIM_LEASE = timedelta(minutes=3)  # longer than one attempt may take (``mail.ATTEMPT_TIMEOUT_S``)
FIRST_RETRY_DELAY, MAX_RETRY_DELAY = timedelta(seconds=15), timedelta(hours=1)
MAX_ATTEMPTS = 12  # over about six hours
MAX_DOUBTS = 1  # attempts in doubt that are repeated
FIRST_CONTACT_DELAY, MAX_CONTACT_DELAY = timedelta(seconds=1), timedelta(minutes=5)
MAX_DOUBLINGS = 12  # keeps the power of two small; the delay is capped long before
CONTACT_PATIENCE = timedelta(hours=24)  # a contact may arrive this much later than the first event about its member


class NotificationDetails(FrozenModel):
    """The subject of the notification: ids, codes and times. ``of_member``: the member whose assistant gets it."""

    pairing_id: str | None = None
    programme_id: str | None = None
    round_id: str | None = None
    request_id: str | None = None
    side: Side | None = None
    starts_at: Instant | None = None
    answer_by: Instant | None = None
    planned_end: str | None = None
    end_kind: str | None = None
    checkin_id: str | None = None
    facts: tuple[str, ...] = ()
    of_member: str | None = None


class Notification(FrozenModel):
    """The aggregate. ``order`` sorts an inbox, newest first."""

    notification_id: str
    member_id: str | None
    purpose: str
    cause_id: str
    about: NotificationDetails = NotificationDetails()
    happened_at: Instant
    created_at: Instant
    said_at: Instant | None = None
    useful_until: Instant
    state: Literal["held", "sending", "sent", "failed", "suppressed"] = "held"
    channel: Channel = "inbox"
    reason: Reason | None = None
    attempts: int = 0
    doubts: int = 0
    in_doubt: bool = False
    contact_tries: int = 0
    shown_at: Instant | None = None
    read_at: Instant | None = None
    order: str | None = None
    due: Instant | None = None
    lease: Instant | None = None

    @property
    def row(self) -> ScheduleRow:
        return ROW_BY_PURPOSE[self.purpose]

    @property
    def is_finished(self) -> bool:
        return self.state in ("sent", "failed", "suppressed")


Decision = tuple[Notification, Sequence[OutgoingEvent]]


@dataclass(frozen=True)
class DeliveryContext:
    """The facts about recipient and subject at the moment of sending.

    ``is_erased``: the member is erased or about to be, so nobody may be notified. ``is_bounced``: mail to the address
    came back, so the inbox takes its place.
    """

    contact: ContactChanged | None
    is_erased: bool
    care: Care
    channels: ChannelPreference
    hours: QuietHoursPreference | None
    facts: SendingFacts
    is_bounced: bool = False


@dataclass(frozen=True)
class Suppress:
    """Do not send it. ``is_published``: whether an event says so."""

    reason: Reason
    is_published: bool = True


@dataclass(frozen=True)
class Fail:
    reason: Reason


@dataclass(frozen=True)
class WaitUntil:
    """Wait until this business time. ``in_inbox``: a notification that is certain to be sent is shown meanwhile."""

    due: datetime
    in_inbox: bool = True


@dataclass(frozen=True)
class WaitForContact:
    """The contact comes on another topic, which may be behind."""


@dataclass(frozen=True)
class Deliver:
    channel: Channel


Verdict = Suppress | Fail | WaitUntil | WaitForContact | Deliver


def open_notification(current: Notification | None, new: Notification, now: datetime) -> Decision | None:
    """Record it once.

    One that is too old to be worth sending is recorded as outdated, without an event: a rebuilt notifier does not know
    what was sent before.
    """
    if current is not None:
        return None
    if now > new.useful_until:
        return _with_final_state(new, "suppressed", "outdated"), []
    return new, []


def decide_delivery(notification: Notification, context: DeliveryContext, moment: Moment) -> Verdict:
    """The next step of the notification."""
    row = notification.row
    if context.is_erased:
        return Suppress("gone", is_published=False)
    if not row.only_if(context.facts):
        return Suppress("not_needed", is_published=False)
    if moment.now > notification.useful_until:
        return Suppress("outdated") if not notification.attempts else Fail("undelivered")
    contact = context.contact
    if contact is None:
        is_early = moment.recorded_at - notification.created_at < CONTACT_PATIENCE
        return WaitForContact() if is_early else Suppress("no_contact")
    if contact.employment == "left":
        return Suppress("left")
    if row.kind != "essential" and _is_away(contact, moment.now):
        return Suppress("away")
    channel = _channel(row, contact, context.channels, is_bounced=context.is_bounced)
    if not isinstance(channel, str):
        return channel
    quiet = effective_quiet_hours(context.care, context.hours)
    open_time = next_open_time(moment.now, time_zone_of(contact.time_zone), quiet)
    return Deliver(channel) if open_time <= moment.now else WaitUntil(open_time)


def apply_private_fact(notification: Notification, verdict: Verdict, facts: SendingFacts) -> Verdict:
    """Deliver nothing where a private fact makes it unnecessary.

    Call this after every other decision, so that no other decision depends on the private fact.
    """
    if notification.row.unless is None or not notification.row.unless(facts):
        return verdict
    match verdict:
        case Deliver():
            return Suppress("not_needed", is_published=False)
        case WaitUntil(due):
            return WaitUntil(due, in_inbox=False)
    return verdict


def _channel(
    row: ScheduleRow, contact: ContactChanged, channels: ChannelPreference, *, is_bounced: bool
) -> Channel | Suppress | Fail:
    if row.kind != "note" and channels.email and "email" in contact.channels and contact.email and not is_bounced:
        return "email"
    if not channels.inbox and row.kind != "essential":
        return Suppress("wish")
    if contact.channels == ("email",) and not contact.email:
        return Fail("no_address")
    if contact.channels == ("email",) and is_bounced:
        return Fail("address_bounced")
    return "inbox"


def _is_away(contact: ContactChanged, now: datetime) -> bool:
    today = now.astimezone(time_zone_of(contact.time_zone)).date()
    return contact.employment == "on_leave" or any(
        absence.since <= today and (absence.until is None or today <= absence.until) for absence in contact.away
    )


def effective_quiet_hours(care: Care, hours: QuietHoursPreference | None) -> QuietHours:
    """The recipient's own quiet hours, or else the programme's."""
    if hours is not None:
        return QuietHours(hours.from_hour, hours.until_hour)
    return QuietHours(care.quiet_from_hour, care.quiet_until_hour)


def apply_verdict(
    current: Notification | None, judged: Notification, verdict: Verdict, moment: Moment
) -> Decision | None:
    """Carry out the verdict. Does nothing if the notification has changed since it was ``judged``."""
    if current is None or current.is_finished or (current.due, current.lease) != (judged.due, judged.lease):
        return None
    match verdict:
        case Suppress(_, is_published) if current.in_doubt:
            return _finish(current, "failed", "outcome_unknown", moment, is_published=is_published)
        case Suppress(reason, is_published):
            return _finish(current, "suppressed", reason, moment, is_published=is_published)
        case Fail(reason):
            return _finish(current, "failed", reason, moment)
        case WaitUntil(due, in_inbox):
            # An inbox wakes nobody, so it may show at night what is certain to be sent. A nudge may still meet the cap.
            is_certain = in_inbox and current.row.kind != "nudge"
            waiting = _show_in_inbox(current, moment.now) if is_certain else current
            return waiting.model_copy(update={"state": "held", "due": due, "lease": None}), []
        case WaitForContact():
            delay = min(FIRST_CONTACT_DELAY * 2 ** min(current.contact_tries, MAX_DOUBLINGS), MAX_CONTACT_DELAY)
            lease = moment.recorded_at + delay
            tries = current.contact_tries + 1
            return current.model_copy(update={"contact_tries": tries, "due": None, "lease": lease}), []
        case Deliver("inbox"):
            return _finish(_show_in_inbox(current, moment.now), "sent", None, moment)
        case Deliver("email"):
            return _claim(current, moment)
    raise AssertionError("every verdict has its consequence")


def _claim(current: Notification, moment: Moment) -> Decision:
    """Record that an attempt is being made. One in doubt is repeated once; after that its outcome stays unknown."""
    doubts = current.doubts + current.in_doubt
    shown = _show_in_inbox(current, moment.now)
    if doubts > MAX_DOUBTS:
        return _finish(shown.model_copy(update={"channel": "email"}), "failed", "outcome_unknown", moment)
    return shown.model_copy(
        update={
            "state": "sending",
            "channel": "email",
            "attempts": current.attempts + 1,
            "doubts": doubts,
            "in_doubt": True,
            "said_at": moment.now,
            "due": None,
            "lease": moment.recorded_at + CLAIM_LEASE,
        }
    ), []


def record_acceptance(current: Notification | None, attempt: int, recorded_at: datetime) -> Decision | None:
    """The server accepted the mail. The event carries the time of the attempt."""
    if current is None or not _is_attempt(current, attempt):
        return None
    return _finish(current, "sent", None, Moment(current.said_at or current.happened_at, recorded_at))


def record_rejection(current: Notification | None, attempt: int, reason: Reason, moment: Moment) -> Decision | None:
    """The server will never accept the mail."""
    if current is None or not _is_attempt(current, attempt):
        return None
    return _finish(current, "failed", reason, moment)


def record_deferral(current: Notification | None, attempt: int, *, in_doubt: bool, moment: Moment) -> Decision | None:
    """A later attempt may succeed. ``in_doubt``: the connection broke when the server may have accepted the mail."""
    if current is None or not _is_attempt(current, attempt):
        return None
    if current.attempts >= MAX_ATTEMPTS:
        return _finish(current, "failed", "undelivered", moment)
    delay = min(FIRST_RETRY_DELAY * 2 ** (current.attempts - 1), MAX_RETRY_DELAY)
    return current.model_copy(update={"in_doubt": in_doubt, "lease": moment.recorded_at + delay}), []


def _is_attempt(current: Notification, attempt: int) -> bool:
    return current.state == "sending" and current.attempts == attempt


def mark_read(current: Notification, now: datetime) -> Decision | None:
    return None if current.read_at is not None else (current.model_copy(update={"read_at": now}), [])


def erase_notification(current: Notification | None) -> Decision | None:
    """Erase the recipient and the details. No event is published."""
    if current is None or (current.member_id is None and current.about == NotificationDetails()):
        return None
    state, reason = (current.state, current.reason) if current.is_finished else ("suppressed", "gone")
    return current.model_copy(
        update={
            "member_id": None,
            "about": NotificationDetails(),
            "cause_id": current.notification_id,
            "state": state,
            "reason": reason,
            "due": None,
            "lease": None,
            "order": None,
        }
    ), []


def _show_in_inbox(notification: Notification, now: datetime) -> Notification:
    if notification.shown_at is not None:
        return notification
    newest_first = 2**53 - int(now.timestamp() * 1000)
    order = f"{newest_first:016d}-{notification.notification_id}"
    return notification.model_copy(update={"shown_at": now, "order": order})


def _with_final_state(notification: Notification, state: FinalState, reason: Reason | None) -> Notification:
    changes = {"state": state, "reason": reason, "in_doubt": False, "due": None, "lease": None}
    return notification.model_copy(update=changes)


def _finish(
    notification: Notification,
    state: FinalState,
    reason: Reason | None,
    moment: Moment,
    *,
    is_published: bool = True,
) -> Decision:
    finished = _with_final_state(notification, state, reason).model_copy(update={"said_at": moment.now})
    is_public = is_published and finished.member_id and finished.row.is_public
    return finished, [_event(finished, moment)] if is_public else []


_EVENTS: dict[str, type[NotificationEvent]] = {
    "sent": NotificationSent,
    "failed": NotificationFailed,
    "suppressed": NotificationSuppressed,
}


def _event(notification: Notification, moment: Moment) -> NotificationEvent:
    """The public part of what happened: no reason and no address."""
    assert notification.member_id is not None
    return _EVENTS[notification.state](
        notification_id=notification.notification_id,
        member_id=notification.member_id,
        purpose=notification.purpose,
        channel=notification.channel,
        cause_id=notification.cause_id,
        pairing_id=notification.about.pairing_id,
        programme_id=notification.about.programme_id,
        happened_at=moment.now,
        recorded_at=moment.recorded_at,
    )
