"""Saying what is to be said: called by both sweeps for each notification whose time has come.

The order of writes is what keeps every crash harmless: a place of the week is taken (by the notification's id: taken
twice is once), then the attempt is claimed, then the mail is handed over, then its outcome is written down. A crash
before the claim repeats everything; one after it leaves the attempt in doubt (see the domain).
"""

import asyncio
from dataclasses import dataclass
from typing import TypeVar, assert_never

from pydantic import BaseModel

from chassis.core.commands import Op
from chassis.observability.metrics import BusinessCounter
from chassis.storage.aggregates import Decide, SaveResult, Stored, stored_instant
from chassis.storage.projections import Projection
from contracts.pairings import PairingEvent
from contracts.profiles import ContactChanged
from contracts.programmes import Care, ProgrammeSettings
from services.notifier.domain import notification as notes
from services.notifier.domain import recipient as readers
from services.notifier.domain.catalogue import SendingFacts
from services.notifier.domain.notification import Deliver, DeliveryContext, Notification, Verdict
from services.notifier.mail import DeliveryInDoubt, MailDeferred, MailRejected, OutgoingMail
from services.notifier.rendering import RenderingContext, render_message
from services.notifier.store import Notifier, answer_key, completion_key

M = TypeVar("M", bound=BaseModel)

_ENDED = BusinessCounter(
    "notifications_ended",
    "Notifications that came to their end, and why some were not sent.",
    ("purpose", "channel", "state", "reason"),
)


@dataclass(frozen=True)
class DeliveryInput:
    """What was read for one notification."""

    circumstances: DeliveryContext
    programme: ProgrammeSettings | None
    cap: int


async def send_due_notification(stored: Stored[Notification], notifier: Notifier) -> None:
    """``Sweep`` calls it for each whose ``due`` or ``lease`` has passed; it moves them on or ends them."""
    note, slot = stored.state, _slot(stored.state)
    if note.member_id is None:
        await notifier.notifications.update(stored.id, Op(slot), notes.forget)
        return
    found = await _look(note, note.member_id, notifier)
    now, machine = notifier.clock.now(), notifier.clock.machine_now()
    verdict = notes.decide_delivery(note, found.circumstances, now, machine)
    if verdict == Deliver("email") and not await _has_a_place(note, note.member_id, found, slot, notifier):
        verdict = await _without_a_place(note, note.member_id, found, notifier)
    verdict = notes.apply_private_fact(note, verdict, found.circumstances.facts)
    saved = await _saved(
        stored.id, slot, lambda known: notes.apply_verdict(known, note, verdict, now, machine), notifier
    )
    if found.circumstances.is_erased:
        await notifier.notifications.update(stored.id, Op(f"{slot}/forget"), notes.forget)
    elif saved.changed and not saved.repeated and saved.require_state().state == "sending":
        assert found.circumstances.contact is not None, "nobody is written to without a contact"
        await _hand_over(saved.require_state(), found.circumstances.contact, found, notifier)


async def _saved(id: str, op: str, decide: Decide[Notification], notifier: Notifier) -> SaveResult[Notification]:
    """Save, and count what came to its end by that."""
    saved = await notifier.notifications.update(id, Op(op), decide)
    note = saved.state
    if note is not None and note.is_finished and saved.changed and not saved.repeated and note.reason != "not_needed":
        _ENDED.increment(purpose=note.purpose, channel=note.channel, state=note.state, reason=note.reason or "none")
    return saved


def _slot(note: Notification) -> str:
    return f"lease/{stored_instant(note.lease)}" if note.lease is not None else f"due/{stored_instant(note.due)}"


async def _has_a_place(note: Notification, member_id: str, found: DeliveryInput, slot: str, notifier: Notifier) -> bool:
    now, kind = notifier.clock.now(), note.row.kind
    saved = await notifier.recipients.update(
        member_id,
        Op(f"{note.notification_id}/{slot}/{stored_instant(now)}"),
        lambda known: readers.take_weekly_slot(known, member_id, note.notification_id, kind, found.cap, now),
    )
    return saved.changed


async def _without_a_place(note: Notification, member_id: str, found: DeliveryInput, notifier: Notifier) -> Verdict:
    """What asks something of the reader waits for a place, in the inbox meanwhile; other things are not said."""
    if note.row.kind != "essential":
        return notes.Suppress("cap")
    reader, now = await notifier.recipients.get(member_id), notifier.clock.now()
    free = readers.next_free_slot(reader.state if reader else None, note.notification_id, note.row.kind, found.cap, now)
    return notes.WaitUntil(free) if free <= note.useful_until else Deliver("inbox")


async def _hand_over(note: Notification, contact: ContactChanged, found: DeliveryInput, notifier: Notifier) -> None:
    words = render_message(
        note, await load_rendering_context(note, contact, found.programme, found.circumstances.facts.pairing, notifier)
    )
    letter = OutgoingMail(
        id=note.notification_id,
        to=contact.email or "",
        name=contact.display_name,
        subject=words.subject,
        text=words.text,
        language=words.language,
        at=note.said_at or note.happened_at,
    )
    outcome = await _outcome(letter, notifier)
    machine = notifier.clock.machine_now()
    now = note.said_at or note.happened_at
    attempt = note.attempts
    id, op = note.notification_id, f"outcome/{attempt}"
    match outcome:
        case None:
            await _saved(id, op, lambda known: notes.record_acceptance(known, attempt, machine), notifier)
        case MailRejected() as error:
            reason = error.reason
            await _saved(id, op, lambda known: notes.record_rejection(known, attempt, reason, now, machine), notifier)
            if note.row.unless is None:  # whoever did not need it keeps the place, too
                await notifier.recipients.update(
                    contact.member_id,
                    Op(f"{note.notification_id}/back/{attempt}"),
                    lambda known: readers.release_weekly_slot(known, note.notification_id),
                )
        case MailDeferred() | DeliveryInDoubt():
            doubt = isinstance(outcome, DeliveryInDoubt)
            await _saved(
                id,
                op,
                lambda known: notes.record_deferral(known, attempt, in_doubt=doubt, now=now, machine=machine),
                notifier,
            )
        case _:
            assert_never(outcome)


async def _outcome(letter: OutgoingMail, notifier: Notifier) -> MailRejected | MailDeferred | DeliveryInDoubt | None:
    try:
        await notifier.mailer.send(letter)
    except (MailRejected, MailDeferred, DeliveryInDoubt) as outcome:
        return outcome
    return None


async def load_rendering_context(
    note: Notification,
    contact: ContactChanged,
    programme: ProgrammeSettings | None,
    pairing: PairingEvent | None,
    notifier: Notifier,
) -> RenderingContext:
    """What the words of a notification are made from. An assistant's hold no partner and no topic."""
    about = note.about
    others = [one.member_id for one in pairing.participants if one.member_id != note.member_id] if pairing else []
    partner = await notifier.contacts.get(others[0]) if others and about.side else None
    assisted = await notifier.contacts.get(about.of_member) if about.of_member else None
    return RenderingContext(contact, partner, assisted, pairing if about.side else None, programme, notifier.link_base)


async def _look(note: Notification, member_id: str, notifier: Notifier) -> DeliveryInput:
    about = note.about
    contact, gone, known, reader, facts = await asyncio.gather(
        notifier.contacts.get(member_id),
        notifier.is_gone(member_id),
        _found(notifier.programmes, about.programme_id),
        notifier.recipients.get(member_id),
        _facts(note, notifier),
    )
    care = known.settings.care if known else Care()
    wishes = reader.state if reader else readers.Recipient(member_id=member_id)
    circumstances = DeliveryContext(
        contact=contact,
        is_erased=gone,
        care=care,
        channels=wishes.channels_for(note.purpose),
        hours=wishes.hours,
        facts=facts,
    )
    return DeliveryInput(circumstances, known.settings if known else None, care.messages_per_week)


async def _facts(note: Notification, notifier: Notifier) -> SendingFacts:
    about = note.about
    pairing, feedback, is_answered, is_completed = await asyncio.gather(
        _found(notifier.pairings, about.pairing_id),
        _found(notifier.feedback, about.pairing_id),
        _is_done(answer_key(about.pairing_id, about.side) if about.pairing_id and about.side else None, notifier),
        _is_done(completion_key(about.checkin_id) if about.checkin_id else None, notifier),
    )
    return SendingFacts(
        pairing=pairing,
        feedback=feedback,
        is_answered=is_answered,
        is_completed=is_completed,
        starts_at=about.starts_at,
        planned_end=about.planned_end,
    )


async def _found(projection: Projection[M], id: str | None) -> M | None:
    return await projection.get(id) if id else None


async def _is_done(key: str | None, notifier: Notifier) -> bool:
    return key is not None and await notifier.is_done(key)
