"""A notification: the one record of what one cause means to one reader for one purpose.

    held -> sending -> sent | failed           held -> suppressed           held -> sent (inbox)

``due`` (business time) is when it is to be said, ``lease`` (machine time) when to try next: the hand-over has several
steps, and a crash may come between. Before each hand-over the attempt is written down (``claim``), so that

* two replicas never hand over the same attempt: the claim is one operation, and only who made it sends;
* a crash after the hand-over leaves an attempt *in doubt*: nobody knows whether it arrived. It is made again once, with
  the same Message-ID, and never a third time.

Nothing here names a person or quotes a text: words are made from templates when somebody reads or a mail leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.notifications import NotificationEvent, NotificationFailed, NotificationSent, NotificationSuppressed
from contracts.profiles import ContactChanged, Side
from contracts.programmes import Care
from services.notifier.domain.catalogue import ROW_BY_PURPOSE, CatalogueRow, SendingFacts
from services.notifier.domain.quiet_hours import QuietHours, next_open_time, time_zone_of
from services.notifier.domain.recipient import ChannelPreference, QuietHoursPreference

Channel = Literal["email", "inbox"]
Reason = Literal[
    "outdated", "not_needed", "left", "gone", "away", "wish", "cap", "no_contact", "no_address", "address_refused",
    "address_malformed", "message_refused", "sender_refused", "undelivered", "outcome_unknown",
]  # fmt: skip

CLAIM_LEASE = timedelta(minutes=3)  # longer than one hand-over may take
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=15), timedelta(hours=1)
MAX_ATTEMPTS = 12  # about six hours
CONTACT_FIRST, CONTACT_LONGEST = timedelta(seconds=1), timedelta(minutes=5)
CONTACT_PATIENCE = timedelta(hours=24)  # a contact may come so much later than the first word about its member


class NotificationDetails(FrozenModel):
    """What it is about: ids, codes and times."""

    pairing_id: str | None = None
    programme_id: str | None = None
    round_id: str | None = None
    side: Side | None = None
    starts_at: Instant | None = None
    answer_by: Instant | None = None
    planned_end: str | None = None
    end_kind: str | None = None
    checkin_id: str | None = None
    facts: tuple[str, ...] = ()
    of_member: str | None = None  # whose assistant is told


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
    def row(self) -> CatalogueRow:
        return ROW_BY_PURPOSE[self.purpose]

    @property
    def is_finished(self) -> bool:
        return self.state in ("sent", "failed", "suppressed")


Decision = tuple[Notification, Sequence[OutgoingEvent]]


@dataclass(frozen=True)
class DeliveryContext:
    """What is known of the reader and the matter at the moment of sending. ``gone``: erased; nobody is to be told."""

    contact: ContactChanged | None
    is_erased: bool
    care: Care
    channels: ChannelPreference
    hours: QuietHoursPreference | None
    facts: SendingFacts


@dataclass(frozen=True)
class Suppress:
    reason: Reason
    is_published: bool = True


@dataclass(frozen=True)
class Fail:
    reason: Reason


@dataclass(frozen=True)
class WaitUntil:
    """Business time. ``shown``: what is certain to be said stands in the inbox meanwhile."""

    due: datetime
    in_inbox: bool = True


@dataclass(frozen=True)
class WaitForContact:
    """Its topic is another one, and may be behind."""


@dataclass(frozen=True)
class Deliver:
    channel: Channel


Verdict = Suppress | Fail | WaitUntil | WaitForContact | Deliver


def open_notification(known: Notification | None, new: Notification, now: datetime) -> Decision | None:
    """Record it, once. What is too old to be worth saying is recorded as that, and no event claims anything of it:
    a rebuilt notifier does not know what was said before."""
    if known is not None:
        return None
    if now > new.useful_until:
        return _ended(new, "suppressed", "outdated"), []
    return new, []


def decide_delivery(note: Notification, found: DeliveryContext, now: datetime, machine: datetime) -> Verdict:
    """What is to become of it now."""
    row = note.row
    if found.is_erased:
        return Suppress("gone", is_published=False)
    if not row.only_if(found.facts):
        return Suppress("not_needed", is_published=False)
    if now > note.useful_until:
        return Suppress("outdated") if not note.attempts else Fail("undelivered")
    contact = found.contact
    if contact is None:
        return WaitForContact() if machine - note.created_at < CONTACT_PATIENCE else Suppress("no_contact")
    if contact.employment == "left":
        return Suppress("left")
    if row.kind != "essential" and _is_away(contact, now):
        return Suppress("away")
    channel = _channel(row, contact, found.channels)
    if not isinstance(channel, str):
        return channel
    opening = next_open_time(now, time_zone_of(contact.time_zone), _quiet(found))
    return Deliver(channel) if opening <= now else WaitUntil(opening)


def apply_private_fact(note: Notification, verdict: Verdict, facts: SendingFacts) -> Verdict:
    """What of it reaches the reader: nothing where a private fact says so. To be asked after everything else, so that
    nothing else depends on that fact."""
    if note.row.unless is None or not note.row.unless(facts):
        return verdict
    match verdict:
        case Deliver():
            return Suppress("not_needed", is_published=False)
        case WaitUntil(due):
            return WaitUntil(due, in_inbox=False)
    return verdict


def _channel(row: CatalogueRow, contact: ContactChanged, wants: ChannelPreference) -> Channel | Suppress | Fail:
    if row.kind != "note" and wants.email and "email" in contact.channels and contact.email:
        return "email"
    if not wants.inbox and row.kind != "essential":
        return Suppress("wish")
    if contact.channels == ("email",) and not contact.email:
        return Fail("no_address")
    return "inbox"


def _is_away(contact: ContactChanged, now: datetime) -> bool:
    today = now.astimezone(time_zone_of(contact.time_zone)).date()
    return contact.employment == "on_leave" or any(
        one.since <= today and (one.until is None or today <= one.until) for one in contact.away
    )


def _quiet(found: DeliveryContext) -> QuietHours:
    return effective_quiet_hours(found.care, found.hours)


def effective_quiet_hours(care: Care, hours: QuietHoursPreference | None) -> QuietHours:
    """The reader's own, otherwise the programme's."""
    if hours is not None:
        return QuietHours(hours.from_hour, hours.until_hour)
    return QuietHours(care.quiet_from_hour, care.quiet_until_hour)


def apply_verdict(
    known: Notification | None, seen: Notification, verdict: Verdict, now: datetime, machine: datetime
) -> Decision | None:
    """Do as was judged, if it is still as it was when it was judged."""
    if known is None or known.is_finished or (known.due, known.lease) != (seen.due, seen.lease):
        return None
    match verdict:
        case Suppress(_, told) if known.in_doubt:
            return _finished(known, "failed", "outcome_unknown", now, machine, told=told)
        case Suppress(reason, told):
            return _finished(known, "suppressed", reason, now, machine, told=told)
        case Fail(reason):
            return _finished(known, "failed", reason, now, machine)
        case WaitUntil(due, shown):
            # An inbox wakes nobody, so it shows at night what is certain to be said; a nudge may still meet the cap.
            seen_already = _shown(known, now) if shown and known.row.kind != "nudge" else known
            return seen_already.model_copy(update={"state": "held", "due": due, "lease": None}), []
        case WaitForContact():
            wait = min(CONTACT_FIRST * 2 ** min(known.contact_tries, 12), CONTACT_LONGEST)
            tries = known.contact_tries + 1
            return known.model_copy(update={"contact_tries": tries, "due": None, "lease": machine + wait}), []
        case Deliver("inbox"):
            return _finished(_shown(known, now), "sent", None, now, machine)
        case Deliver("email"):
            return _claim(known, now, machine)
    raise AssertionError("every verdict has its consequence")


def _claim(known: Notification, now: datetime, machine: datetime) -> Decision:
    """Write down that an attempt is being made. One in doubt is made again once; then its outcome stays unknown."""
    doubts = known.doubts + known.in_doubt
    shown = _shown(known, now)
    if doubts > 1:
        return _finished(shown.model_copy(update={"channel": "email"}), "failed", "outcome_unknown", now, machine)
    return shown.model_copy(
        update={
            "state": "sending",
            "channel": "email",
            "attempts": known.attempts + 1,
            "doubts": doubts,
            "in_doubt": True,
            "said_at": now,
            "due": None,
            "lease": machine + CLAIM_LEASE,
        }
    ), []


def record_acceptance(known: Notification | None, attempt: int, machine: datetime) -> Decision | None:
    """The server took it over; said when the attempt was made."""
    if known is None or not _is_attempt(known, attempt):
        return None
    return _finished(known, "sent", None, known.said_at or known.happened_at, machine)


def record_rejection(
    known: Notification | None, attempt: int, reason: Reason, now: datetime, machine: datetime
) -> Decision | None:
    """The server will not take it, now or later."""
    if known is None or not _is_attempt(known, attempt):
        return None
    return _finished(known, "failed", reason, now, machine)


def record_deferral(
    known: Notification | None, attempt: int, *, in_doubt: bool, now: datetime, machine: datetime
) -> Decision | None:
    """It may go better later. ``in_doubt``: the connection broke when the server may have taken it over."""
    if known is None or not _is_attempt(known, attempt):
        return None
    if known.attempts >= MAX_ATTEMPTS:
        return _finished(known, "failed", "undelivered", now, machine)
    wait = min(FIRST_RETRY * 2 ** (known.attempts - 1), LONGEST_RETRY)
    return known.model_copy(update={"in_doubt": in_doubt, "lease": machine + wait}), []


def _is_attempt(known: Notification, attempt: int) -> bool:
    return known.state == "sending" and known.attempts == attempt


def mark_read(known: Notification, now: datetime) -> Decision | None:
    """The reader has seen it."""
    return None if known.read_at is not None else (known.model_copy(update={"read_at": now}), [])


def forget(known: Notification | None) -> Decision | None:
    """Nothing says any longer whom it was for, or what about."""
    if known is None or (known.member_id is None and known.about == NotificationDetails()):
        return None
    state, reason = (known.state, known.reason) if known.is_finished else ("suppressed", "gone")
    return known.model_copy(
        update={
            "member_id": None,
            "about": NotificationDetails(),
            "cause_id": known.notification_id,
            "state": state,
            "reason": reason,
            "due": None,
            "lease": None,
            "order": None,
        }
    ), []


def _shown(note: Notification, now: datetime) -> Notification:
    if note.shown_at is not None:
        return note
    newest_first = 2**53 - int(now.timestamp() * 1000)
    return note.model_copy(update={"shown_at": now, "order": f"{newest_first:016d}-{note.notification_id}"})


def _ended(note: Notification, state: Literal["sent", "failed", "suppressed"], reason: Reason | None) -> Notification:
    changes = {"state": state, "reason": reason, "in_doubt": False, "due": None, "lease": None}
    return note.model_copy(update=changes)


def _finished(
    note: Notification,
    state: Literal["sent", "failed", "suppressed"],
    reason: Reason | None,
    now: datetime,
    machine: datetime,
    *,
    told: bool = True,
) -> Decision:
    after = _ended(note, state, reason).model_copy(update={"said_at": now})
    return after, [_event(after, now, machine)] if told and after.member_id and after.row.is_public else []


_EVENTS: dict[str, type[NotificationEvent]] = {
    "sent": NotificationSent,
    "failed": NotificationFailed,
    "suppressed": NotificationSuppressed,
}


def _event(note: Notification, now: datetime, machine: datetime) -> NotificationEvent:
    """What everybody may know."""
    assert note.member_id is not None
    return _EVENTS[note.state](
        notification_id=note.notification_id,
        member_id=note.member_id,
        purpose=note.purpose,
        channel=note.channel,
        cause_id=note.cause_id,
        pairing_id=note.about.pairing_id,
        programme_id=note.about.programme_id,
        happened_at=now,
        recorded_at=machine,
    )
