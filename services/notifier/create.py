"""Creates notifications from events: one record for each schedule row and each member of its audience."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.erasure import write_about
from chassis.storage.aggregates import Change, Decide, Stored, stored_instant
from chassis.storage.mongo import LOOKUP_BATCH
from contracts.envelope import Envelope
from contracts.feedback import CheckinDue, ContactNeeded, FeedbackEvent, SessionEvent
from contracts.pairings import PairingEvent
from contracts.profiles import ContactChanged
from contracts.programmes import ProgrammeChanged, ProgrammeSettings, RoundComputed
from contracts.requests import RequestEvent
from contracts.unmatched import MemberUnmatched
from services.notifier.domain.early_events import PostponedEvent, postpone, record_retry
from services.notifier.domain.notification import Notification, NotificationDetails, open_notification
from services.notifier.domain.notification_schedule import (
    ROW_BY_PURPOSE,
    ScheduleRow,
    event_types,
    rows_for,
    rows_for_member_state,
)
from services.notifier.erasure import erase_notifications
from services.notifier.store import Notifier

EventWithoutPairing = RoundComputed | RequestEvent | MemberUnmatched
NotifiableEvent = PairingEvent | FeedbackEvent | EventWithoutPairing

_NOTIFIABLE_EVENTS: Mapping[str, type[NotifiableEvent]] = {
    event_type.TYPE: event_type for event_type in event_types() if issubclass(event_type, NotifiableEvent)
}


@dataclass(frozen=True)
class AudienceMember:
    """One recipient of one row, with the details as they concern this recipient."""

    member_id: str
    about: NotificationDetails


async def create_or_postpone(envelope: Envelope, event: NotifiableEvent, notifier: Notifier) -> None:
    """Create the notifications, or keep the event until its programme and pairing have arrived on their topics."""
    if await create_notifications(envelope, event, notifier):
        return
    recorded_at = notifier.clock.machine_now()
    await notifier.postponed_events.update(
        envelope.id,
        Op.handling(envelope, "tell"),
        lambda current: postpone(current, envelope, event.model_dump_json(), recorded_at),
    )


async def retry_postponed(stored: Stored[PostponedEvent], notifier: Notifier) -> None:
    """Called by a ``Sweep`` for each postponed event whose lease has passed."""
    postponed = stored.state
    is_handled = postponed.is_pending and await create_notifications(
        postponed.envelope,
        _NOTIFIABLE_EVENTS[postponed.envelope.type].model_validate_json(postponed.event),
        notifier,
    )
    recorded_at = notifier.clock.machine_now()
    await notifier.postponed_events.update(
        stored.id,
        Op(f"lease/{stored_instant(postponed.lease)}"),
        lambda current: record_retry(current, is_handled=is_handled, recorded_at=recorded_at),
    )


async def create_notifications(envelope: Envelope, event: NotifiableEvent, notifier: Notifier) -> bool:
    """Record a notification for each row and each member of its audience. Existing records stay as they are.

    Returns False when the programme or the pairing has not arrived yet; then nothing was recorded. For a pairing with
    an erased member only the end creates notifications, from its own event.
    """
    programme = await _programme_settings(event.programme_id, notifier)
    pairing = await _pairing_of(event, notifier)
    if programme is None or (pairing is None and not isinstance(event, EventWithoutPairing)):
        return isinstance(event, FeedbackEvent) and await notifier.pairings.is_grave(event.pairing_id)
    notifications: list[Notification] = []
    for row in rows_for(type(event)):
        due = row.due_time(event, programme)
        cause = _cause_id(row, envelope, event)
        if not row.created_if(event):
            continue
        if cause is None or (row.once_per_end and due is not None and due < event.happened_at):
            continue  # the end moved after this time had passed: the notification went out for the earlier end
        for recipient in await _audience(row, event, pairing, programme, notifier):
            notifications.append(_new_notification(row, recipient, cause, event.happened_at, due, notifier))
    await _record(notifications, envelope, notifier)
    return True


async def create_for_contact(envelope: Envelope, contact: ContactChanged, notifier: Notifier) -> None:
    """Notify a member of the states that they have reached in open programmes, and of another confidential contact."""
    programmes = await notifier.programmes.get_many([part.programme_id for part in contact.taking_part])
    open_ids = {id for id, programme in programmes.items() if programme.state == "open"}
    batch = _member_state_notifications(contact, open_ids, notifier)
    for id in sorted(open_ids):
        batch += _contact_notifications(contact, programmes[id], notifier)
    await _record(batch, envelope, notifier)


async def create_for_programme(envelope: Envelope, programme: ProgrammeChanged, notifier: Notifier) -> None:
    """Notify everybody who joined before the programme opened or got another confidential contact, once for each."""
    if programme.state != "open":
        return
    batch: list[Notification] = []
    async for contact in notifier.contacts.find({"taking_part.programme_id": programme.programme_id}):
        batch += _member_state_notifications(contact, {programme.programme_id}, notifier)
        batch += _contact_notifications(contact, programme, notifier)
        if len(batch) >= LOOKUP_BATCH:
            await _record(batch, envelope, notifier)
            batch = []
    await _record(batch, envelope, notifier)


def _member_state_notifications(contact: ContactChanged, open_ids: set[str], notifier: Notifier) -> list[Notification]:
    """One for each programme and each time that the member reached the state."""
    notifications = []
    for part in contact.taking_part:
        if part.since is None or part.programme_id not in open_ids:
            continue
        recipient = AudienceMember(contact.member_id, NotificationDetails(programme_id=part.programme_id))
        cause = derived_id("taking part", part.programme_id, contact.member_id, part.state, part.since.isoformat())
        for row in rows_for_member_state(part.state):
            notifications.append(_new_notification(row, recipient, cause, part.since, None, notifier))
    return notifications


def _contact_notifications(
    member: ContactChanged, programme: ProgrammeChanged, notifier: Notifier
) -> list[Notification]:
    """One for each change of the confidential contact, for all who had joined: also a leaver may wait for a call."""
    since = programme.contact_since
    parts = [part for part in member.taking_part if part.programme_id == programme.programme_id]
    if since is None or not any(part.state != "invited" and (part.since or since) <= since for part in parts):
        return []
    recipient = AudienceMember(member.member_id, NotificationDetails(programme_id=programme.programme_id))
    cause = derived_id("confidential contact", programme.programme_id, since.isoformat())
    return [_new_notification(ROW_BY_PURPOSE["contact_changed"], recipient, cause, since, None, notifier)]


async def _record(notifications: Sequence[Notification], envelope: Envelope, notifier: Notifier) -> None:
    """Store new notifications, but none of an erased member, also when the erasure begins during the write."""
    await write_about(
        _members_of,
        _write(notifications, envelope, notifier),
        find_erased=notifier.erasures.get_many,
        forget=partial(erase_notifications, slot=f"late/{envelope.id}", notifier=notifier),
    )


def _members_of(notifications: Sequence[Notification]) -> Iterator[str]:
    for notification in notifications:
        yield from filter(None, (notification.member_id, notification.about.of_member))


async def _write(
    notifications: Sequence[Notification], envelope: Envelope, notifier: Notifier
) -> Sequence[Notification]:
    now = notifier.clock.now()
    member_ids = [notification.member_id for notification in notifications if notification.member_id]
    erased = await notifier.erasures.get_many(member_ids)
    changes = [
        Change(
            notification.notification_id,
            Op.handling(envelope, notification.purpose),
            _open(notification, now),
        )
        for notification in notifications
        if notification.member_id not in erased
    ]
    for result in await notifier.notifications.update_many(changes, cause=envelope):
        if isinstance(result, Exception):
            raise result
    return notifications


def _open(notification: Notification, now: datetime) -> Decide[Notification]:
    return lambda current: open_notification(current, notification, now)


def _new_notification(
    row: ScheduleRow,
    recipient: AudienceMember,
    cause: str,
    happened_at: datetime,
    due: datetime | None,
    notifier: Notifier,
) -> Notification:
    recorded_at = notifier.clock.machine_now()
    return Notification(
        notification_id=derived_id("notification", cause, recipient.member_id, row.purpose),
        member_id=recipient.member_id,
        purpose=row.purpose,
        cause_id=cause,
        about=recipient.about,
        happened_at=happened_at,
        created_at=recorded_at,
        useful_until=(due or happened_at) + row.relevant_for,
        due=due,
        lease=recorded_at if due is None else None,
    )


def _cause_id(row: ScheduleRow, envelope: Envelope, event: NotifiableEvent) -> str | None:
    """The event; or the planned end, for a row that is created once per end. None when there is no planned end."""
    if not row.once_per_end:
        return envelope.id
    assert isinstance(event, PairingEvent)
    if event.planned_end is None:
        return None
    return derived_id("planned end", event.pairing_id, event.planned_end.isoformat())


async def _programme_settings(programme_id: str, notifier: Notifier) -> ProgrammeSettings | None:
    programme = await notifier.programmes.get(programme_id)
    return programme.settings if programme else None


async def _pairing_of(event: NotifiableEvent, notifier: Notifier) -> PairingEvent | None:
    """The pairing; None as well when an event of feedback arrives before the matcher's event about the pairing."""
    if isinstance(event, PairingEvent):
        return event
    return None if isinstance(event, EventWithoutPairing) else await notifier.pairings.get(event.pairing_id)


async def _audience(
    row: ScheduleRow,
    event: NotifiableEvent,
    pairing: PairingEvent | None,
    programme: ProgrammeSettings | None,
    notifier: Notifier,
) -> list[AudienceMember]:
    if row.audience == "coordinators":
        participants = {participant.member_id for participant in pairing.participants} if pairing else set()
        coordinators = programme.coordinators if programme else ()
        details = _details(event, None)
        return [AudienceMember(id, details) for id in dict.fromkeys(coordinators) if id not in participants]
    if isinstance(event, MemberUnmatched):
        return [AudienceMember(event.member_id, _details(event, None))]
    if isinstance(event, RequestEvent):
        recipient = event.asked if row.audience == "who was asked" else event.asker
        return [AudienceMember(recipient, _details(event, None))]
    assert pairing is not None
    if row.audience == "assistants":
        return await _assistants(event, pairing, notifier)
    return [
        AudienceMember(participant.member_id, _details(event, participant.side))
        for participant in pairing.participants
        if _concerns_side(row, event, participant.side, programme)
    ]


def _concerns_side(row: ScheduleRow, event: NotifiableEvent, side: str, programme: ProgrammeSettings | None) -> bool:
    if row.audience == "the side asked":
        return isinstance(event, CheckinDue) and event.side == side
    if row.audience == "who books":
        return (programme.meetings.booked_by if programme else "senior") in (side, "either")
    return True


async def _assistants(event: NotifiableEvent, pairing: PairingEvent, notifier: Notifier) -> list[AudienceMember]:
    """Assistants see whose time it is and when, but neither with whom nor what it is about."""
    assert isinstance(event, SessionEvent)
    participants = [participant.member_id for participant in pairing.participants]
    by_assistant: dict[str, AudienceMember] = {}
    for id, contact in (await notifier.contacts.get_many(participants)).items():
        details = NotificationDetails(starts_at=event.session.starts_at, of_member=id)
        for assistant in contact.delegates:
            if assistant not in participants:
                by_assistant[assistant] = AudienceMember(assistant, details)
    return list(by_assistant.values())


def _details(event: NotifiableEvent, side: str | None) -> NotificationDetails:
    details = NotificationDetails.model_validate({"programme_id": event.programme_id, "side": side})
    if isinstance(event, RoundComputed):
        return details.model_copy(update={"round_id": event.round_id})
    if isinstance(event, MemberUnmatched):
        return details.model_copy(update={"facts": (event.code,)})
    if isinstance(event, RequestEvent):
        return details.model_copy(update={"request_id": event.request_id, "answer_by": event.answer_by})
    changes: dict[str, object] = {"pairing_id": event.pairing_id}
    if isinstance(event, PairingEvent):
        changes |= {
            "answer_by": event.answer_by,
            "planned_end": str(event.planned_end) if event.planned_end else None,
            "end_kind": event.end_kind,
        }
    elif isinstance(event, SessionEvent):
        changes |= {"starts_at": event.session.starts_at}
    elif isinstance(event, CheckinDue):
        changes |= {"checkin_id": event.checkin_id}
    elif isinstance(event, ContactNeeded):
        changes |= {"facts": event.facts}
    return details.model_copy(update=changes)
