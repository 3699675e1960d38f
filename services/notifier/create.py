"""From an event to notifications: the lines of the table, their readers, and exactly one record for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import Change, Decide, Stored, stored_instant
from chassis.storage.mongo import MAX_BULK_OPERATIONS
from contracts.envelope import Envelope
from contracts.feedback import CheckinDue, ContactNeeded, FeedbackEvent, SessionEvent
from contracts.pairings import PairingEvent
from contracts.profiles import ContactChanged
from contracts.programmes import ProgrammeChanged, ProgrammeSettings, RoundComputed
from services.notifier.domain.catalogue import CATALOGUE, ROW_BY_PURPOSE, CatalogueRow, rows_for
from services.notifier.domain.notification import Notification, NotificationDetails, open_notification
from services.notifier.domain.postponed import PostponedEvent, postpone, record_retry
from services.notifier.store import Notifier

NotifiableEvent = PairingEvent | FeedbackEvent | RoundComputed

_HAPPENINGS: Mapping[str, type[NotifiableEvent]] = {
    type.TYPE: type
    for row in CATALOGUE
    for type in row.events
    if issubclass(type, PairingEvent | FeedbackEvent | RoundComputed)
}


@dataclass(frozen=True)
class AudienceMember:
    """One reader of one line; ``about`` as it concerns them."""

    member_id: str
    about: NotificationDetails


async def create_or_postpone(envelope: Envelope, event: NotifiableEvent, notifier: Notifier) -> None:
    """Tell whom it concerns, as soon as what it is about is known here: each topic comes in its own time."""
    if await create_notifications(envelope, event, notifier):
        return
    machine = notifier.clock.machine_now()
    await notifier.postponed_events.update(
        envelope.id,
        Op.handling(envelope, "tell"),
        lambda known: postpone(known, envelope, event.model_dump_json(), machine),
    )


async def retry_postponed(stored: Stored[PostponedEvent], notifier: Notifier) -> None:
    """``Sweep`` calls it for events that wait for what they are about."""
    waiting = stored.state
    done = waiting.is_pending and await create_notifications(
        waiting.envelope, _HAPPENINGS[waiting.envelope.type].model_validate_json(waiting.event), notifier
    )
    machine = notifier.clock.machine_now()
    await notifier.postponed_events.update(
        stored.id,
        Op(f"lease/{stored_instant(waiting.lease)}"),
        lambda known: record_retry(known, told=done, machine=machine),
    )


async def create_notifications(envelope: Envelope, event: NotifiableEvent, notifier: Notifier) -> bool:
    """Record for each line of the table and each reader what is to be said; what was recorded stays as it is.

    False when the programme or the pairing is not known yet; then nothing was recorded. Nothing is told of a pairing in
    which somebody was forgotten, but its end, which has its own event.
    """
    rows = rows_for(type(event))
    programme = await _settings(event.programme_id, notifier)
    pairing = await _pairing(event, notifier)
    if programme is None or (pairing is None and not isinstance(event, RoundComputed)):
        return isinstance(event, FeedbackEvent) and await notifier.pairings.is_grave(event.pairing_id)
    notes: list[Notification] = []
    for row in rows:
        when = row.due_time(event, programme)
        cause = _cause(row, envelope, event)
        if cause is None or (row.once_per_end and when is not None and when < event.happened_at):
            continue  # the end has moved after its moment: by the end that was planned then, it has been said
        for reader in await _readers(row, event, pairing, programme, notifier):
            notes.append(_note(row, reader, cause, event.happened_at, when, notifier))
    await _record(notes, envelope, notifier)
    return True


async def create_for_contact(envelope: Envelope, contact: ContactChanged, notifier: Notifier) -> None:
    """Invite who is invited, and welcome who is ready, where the programme is open."""
    programmes = await notifier.programmes.get_many([one.programme_id for one in contact.taking_part])
    is_open = {id for id, programme in programmes.items() if programme.state == "open"}
    await _record(_of_taking_part(contact, is_open, notifier), envelope, notifier)


async def create_for_programme(envelope: Envelope, programme: ProgrammeChanged, notifier: Notifier) -> None:
    """The programme is open: the same for all who came before it was. Who was told before is not told again."""
    if programme.state != "open":
        return
    batch: list[Notification] = []
    async for contact in notifier.contacts.find({"taking_part.programme_id": programme.programme_id}):
        batch += _of_taking_part(contact, {programme.programme_id}, notifier)
        if len(batch) >= MAX_BULK_OPERATIONS:
            await _record(batch, envelope, notifier)
            batch = []
    await _record(batch, envelope, notifier)


def _of_taking_part(contact: ContactChanged, is_open: set[str], notifier: Notifier) -> list[Notification]:
    """Once for each programme and each time that it came to this."""
    notes = []
    for one in contact.taking_part:
        purpose = {"invited": "invitation", "ready": "welcome"}.get(one.state)
        if purpose is None or one.since is None or one.programme_id not in is_open:
            continue
        cause = derived_id("taking part", one.programme_id, contact.member_id, one.state, one.since.isoformat())
        reader = AudienceMember(contact.member_id, NotificationDetails(programme_id=one.programme_id))
        notes.append(_note(ROW_BY_PURPOSE[purpose], reader, cause, one.since, None, notifier))
    return notes


async def _record(notes: Sequence[Notification], envelope: Envelope, notifier: Notifier) -> None:
    now = notifier.clock.now()
    erased = await notifier.erasures.get_many([note.member_id for note in notes if note.member_id])
    changes = [
        Change(note.notification_id, Op.handling(envelope, note.purpose), _opened(note, now))
        for note in notes
        if note.member_id not in erased
    ]
    for done in await notifier.notifications.update_many(changes, cause=envelope):
        if isinstance(done, Exception):
            raise done


def _opened(note: Notification, now: datetime) -> Decide[Notification]:
    return lambda known: open_notification(known, note, now)


def _note(
    row: CatalogueRow,
    told: AudienceMember,
    cause: str,
    happened_at: datetime,
    when: datetime | None,
    notifier: Notifier,
) -> Notification:
    machine = notifier.clock.machine_now()
    return Notification(
        notification_id=derived_id("notification", cause, told.member_id, row.purpose),
        member_id=told.member_id,
        purpose=row.purpose,
        cause_id=cause,
        about=told.about,
        happened_at=happened_at,
        created_at=machine,
        useful_until=(when or happened_at) + row.relevant_for,
        due=when,
        lease=machine if when is None else None,
    )


def _cause(row: CatalogueRow, envelope: Envelope, event: NotifiableEvent) -> str | None:
    """What it is about: the event; or, for what is said once of each planned end, that end. None: there is none."""
    if not row.once_per_end:
        return envelope.id
    assert isinstance(event, PairingEvent)
    if event.planned_end is None:
        return None
    return derived_id("planned end", event.pairing_id, event.planned_end.isoformat())


async def _settings(programme_id: str, notifier: Notifier) -> ProgrammeSettings | None:
    known = await notifier.programmes.get(programme_id)
    return known.settings if known else None


async def _pairing(event: NotifiableEvent, notifier: Notifier) -> PairingEvent | None:
    """None also where feedback tells of a pairing before the matcher's own word has come."""
    if isinstance(event, PairingEvent):
        return event
    return None if isinstance(event, RoundComputed) else await notifier.pairings.get(event.pairing_id)


async def _readers(
    row: CatalogueRow,
    event: NotifiableEvent,
    pairing: PairingEvent | None,
    programme: ProgrammeSettings | None,
    notifier: Notifier,
) -> list[AudienceMember]:
    if row.audience == "coordinators":
        part = {one.member_id for one in pairing.participants} if pairing else set()
        coordinators = programme.coordinators if programme else ()
        return [AudienceMember(id, _about(event, None)) for id in dict.fromkeys(coordinators) if id not in part]
    assert pairing is not None
    if row.audience == "assistants":
        return await _assistants(event, pairing, notifier)
    return [
        AudienceMember(one.member_id, _about(event, one.side))
        for one in pairing.participants
        if _is_asked(row, event, one.side, programme)
    ]


def _is_asked(row: CatalogueRow, event: NotifiableEvent, side: str, programme: ProgrammeSettings | None) -> bool:
    if row.audience == "the side asked":
        return isinstance(event, CheckinDue) and event.side == side
    if row.audience == "who books":
        return (programme.meetings.booked_by if programme else "senior") in (side, "either")
    return True


async def _assistants(event: NotifiableEvent, pairing: PairingEvent, notifier: Notifier) -> list[AudienceMember]:
    """They see whose time it is and when: neither with whom, nor what it is about."""
    assert isinstance(event, SessionEvent)
    part = [one.member_id for one in pairing.participants]
    told = []
    for id, contact in (await notifier.contacts.get_many(part)).items():
        about = NotificationDetails(starts_at=event.session.starts_at, of_member=id)
        told += [AudienceMember(one, about) for one in contact.delegates if one not in part]
    return list({one.member_id: one for one in told}.values())


def _about(event: NotifiableEvent, side: str | None) -> NotificationDetails:
    about = NotificationDetails.model_validate({"programme_id": event.programme_id, "side": side})
    if isinstance(event, RoundComputed):
        return about.model_copy(update={"round_id": event.round_id})
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
    return about.model_copy(update=changes)
