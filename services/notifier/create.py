"""From an event to notifications: the lines of the table, their readers, and exactly one record for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis.core.ids import derived_id
from chassis.storage.aggregates import Change, Decide, Op, Stored, stored_instant
from chassis.storage.mongo import MAX_BULK_OPERATIONS
from contracts.envelope import Envelope
from contracts.feedback import CheckinDue, ContactNeeded, FeedbackEvent, SessionEvent
from contracts.pairings import PairingEvent
from contracts.profiles import ContactChanged
from contracts.programmes import ProgrammeChanged, ProgrammeSettings, RoundComputed
from services.notifier.domain.catalogue import BY_PURPOSE, TABLE, Row, rows_for
from services.notifier.domain.notification import About, Notification, open_
from services.notifier.domain.postponed import Waiting, begin, looked
from services.notifier.store import Notifier

Happening = PairingEvent | FeedbackEvent | RoundComputed

_HAPPENINGS: Mapping[str, type[Happening]] = {
    type.TYPE: type
    for row in TABLE
    for type in row.on
    if issubclass(type, PairingEvent | FeedbackEvent | RoundComputed)
}


@dataclass(frozen=True)
class Told:
    """One reader of one line; ``about`` as it concerns them."""

    member_id: str
    about: About


async def tell(envelope: Envelope, event: Happening, notifier: Notifier) -> None:
    """Tell whom it concerns, as soon as what it is about is known here: each topic comes in its own time."""
    if await told(envelope, event, notifier):
        return
    machine = notifier.clock.machine_now()
    await notifier.waiting.update(
        envelope.id,
        Op(f"{envelope.id}/tell"),
        lambda known: begin(known, envelope, event.model_dump_json(), machine),
    )


async def look_again(stored: Stored[Waiting], notifier: Notifier) -> None:
    """``Sweep`` calls it for events that wait for what they are about."""
    waiting = stored.state
    done = waiting.patient and await told(
        waiting.envelope, _HAPPENINGS[waiting.envelope.type].model_validate_json(waiting.event), notifier
    )
    machine = notifier.clock.machine_now()
    await notifier.waiting.update(
        stored.id,
        Op(f"lease/{stored_instant(waiting.lease)}"),
        lambda known: looked(known, told=done, machine=machine),
    )


async def told(envelope: Envelope, event: Happening, notifier: Notifier) -> bool:
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
        when = row.when(event, programme)
        cause = _cause(row, envelope, event)
        if cause is None or (row.once and when is not None and when < event.happened_at):
            continue  # the end has moved after its moment: by the end that was planned then, it has been said
        for reader in await _readers(row, event, pairing, programme, notifier):
            notes.append(_note(row, reader, cause, event.happened_at, when, notifier))
    await _record(notes, envelope, notifier)
    return True


async def tell_who_takes_part(envelope: Envelope, contact: ContactChanged, notifier: Notifier) -> None:
    """Invite who is invited, and welcome who is ready, where the programme is open."""
    programmes = await notifier.programmes.get_many([one.programme_id for one in contact.taking_part])
    is_open = {id for id, programme in programmes.items() if programme.state == "open"}
    await _record(_of_taking_part(contact, is_open, notifier), envelope, notifier)


async def tell_all_who_take_part(envelope: Envelope, programme: ProgrammeChanged, notifier: Notifier) -> None:
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
        reader = Told(contact.member_id, About(programme_id=one.programme_id))
        notes.append(_note(BY_PURPOSE[purpose], reader, cause, one.since, None, notifier))
    return notes


async def _record(notes: Sequence[Notification], envelope: Envelope, notifier: Notifier) -> None:
    now = notifier.clock.now()
    erased = await notifier.erasures.get_many([note.member_id for note in notes if note.member_id])
    changes = [
        Change(note.notification_id, Op(f"{envelope.id}/{note.purpose}"), _opened(note, now))
        for note in notes
        if note.member_id not in erased
    ]
    for done in await notifier.notifications.update_many(changes, cause=envelope):
        if isinstance(done, Exception):
            raise done


def _opened(note: Notification, now: datetime) -> Decide[Notification]:
    return lambda known: open_(known, note, now)


def _note(
    row: Row, told: Told, cause: str, happened_at: datetime, when: datetime | None, notifier: Notifier
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
        useful_until=(when or happened_at) + row.relevant,
        due=when,
        lease=machine if when is None else None,
    )


def _cause(row: Row, envelope: Envelope, event: Happening) -> str | None:
    """What it is about: the event; or, for what is said once of each planned end, that end. None: there is none."""
    if not row.once:
        return envelope.id
    assert isinstance(event, PairingEvent)
    if event.planned_end is None:
        return None
    return derived_id("planned end", event.pairing_id, event.planned_end.isoformat())


async def _settings(programme_id: str, notifier: Notifier) -> ProgrammeSettings | None:
    known = await notifier.programmes.get(programme_id)
    return known.settings if known else None


async def _pairing(event: Happening, notifier: Notifier) -> PairingEvent | None:
    """None also where feedback tells of a pairing before the matcher's own word has come."""
    if isinstance(event, PairingEvent):
        return event
    return None if isinstance(event, RoundComputed) else await notifier.pairings.get(event.pairing_id)


async def _readers(
    row: Row, event: Happening, pairing: PairingEvent | None, programme: ProgrammeSettings | None, notifier: Notifier
) -> list[Told]:
    if row.readers == "coordinators":
        part = {one.member_id for one in pairing.participants} if pairing else set()
        coordinators = programme.coordinators if programme else ()
        return [Told(id, _about(event, None)) for id in dict.fromkeys(coordinators) if id not in part]
    assert pairing is not None
    if row.readers == "assistants":
        return await _assistants(event, pairing, notifier)
    return [
        Told(one.member_id, _about(event, one.side))
        for one in pairing.participants
        if _is_asked(row, event, one.side, programme)
    ]


def _is_asked(row: Row, event: Happening, side: str, programme: ProgrammeSettings | None) -> bool:
    if row.readers == "the side asked":
        return isinstance(event, CheckinDue) and event.side == side
    if row.readers == "who books":
        return (programme.meetings.booked_by if programme else "senior") in (side, "either")
    return True


async def _assistants(event: Happening, pairing: PairingEvent, notifier: Notifier) -> list[Told]:
    """They see whose time it is and when: neither with whom, nor what it is about."""
    assert isinstance(event, SessionEvent)
    part = [one.member_id for one in pairing.participants]
    told = []
    for id, contact in (await notifier.contacts.get_many(part)).items():
        about = About(starts_at=event.session.starts_at, of_member=id)
        told += [Told(one, about) for one in contact.delegates if one not in part]
    return list({one.member_id: one for one in told}.values())


def _about(event: Happening, side: str | None) -> About:
    about = About.model_validate({"programme_id": event.programme_id, "side": side})
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
