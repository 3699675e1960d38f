"""Sends notifications. Both sweeps call ``send_due_notification`` for each notification whose time has come.

The order of writes keeps every crash harmless. First a weekly slot is taken (by the notification's id, so that taking
it twice counts once); then the attempt is claimed; then the mail is sent; then the outcome is recorded. A crash before
the claim repeats everything. A crash after it leaves the attempt in doubt (see ``domain.notification``).
"""

import asyncio
from dataclasses import dataclass, replace
from typing import TypeVar, assert_never

from pydantic import BaseModel

from chassis.core.commands import Op
from chassis.observability.metrics import BusinessCounter
from chassis.storage.aggregates import Decide, SaveResult, Stored, stored_instant
from chassis.storage.projections import Projection
from contracts.moment import Moment
from contracts.pairings import PairingEvent
from contracts.profiles import ContactChanged
from contracts.programmes import Care, ProgrammeSettings
from contracts.requests import RequestEvent
from services.notifier.bounces import mark_address
from services.notifier.domain import notification as notifications
from services.notifier.domain.bounce import address_mark, severity_of
from services.notifier.domain.notification import Deliver, DeliveryContext, Notification, Verdict
from services.notifier.domain.notification_schedule import SendingFacts
from services.notifier.domain.recipient import Recipient, next_free_slot, release_weekly_slot, take_weekly_slot
from services.notifier.mail import DeliveryInDoubt, MailDeferred, MailRejected, OutgoingMail
from services.notifier.rendering import RenderingContext, render_message
from services.notifier.store import Notifier, answer_key, completion_key

M = TypeVar("M", bound=BaseModel)

_ENDED = BusinessCounter(
    "notifications_ended",
    "Finished notifications, and why some were not sent.",
    ("purpose", "channel", "state", "reason"),
)


@dataclass(frozen=True)
class DeliveryInput:
    """The data for one notification. ``cap``: the weekly slots of its recipient."""

    member_id: str
    context: DeliveryContext
    programme: ProgrammeSettings | None
    cap: int


async def send_due_notification(stored: Stored[Notification], notifier: Notifier) -> None:
    """Move one notification on or finish it. Called by a ``Sweep`` when ``due`` or ``lease`` has passed."""
    notification, slot = stored.state, _slot(stored.state)
    if notification.member_id is None:
        await notifier.notifications.update(stored.id, Op(slot), notifications.erase_notification)
        return
    loaded = await _load_input(notification, notification.member_id, notifier)
    moment = notifier.clock.moment()
    verdict = notifications.decide_delivery(notification, loaded.context, moment)
    if verdict == Deliver("email") and not await _take_slot(notification, loaded, slot, notifier):
        verdict = await _verdict_without_slot(notification, loaded, notifier)
    verdict = notifications.apply_private_fact(notification, verdict, loaded.context.facts)
    saved = await _save(
        stored.id,
        slot,
        lambda current: notifications.apply_verdict(current, notification, verdict, moment),
        notifier,
    )
    if loaded.context.is_erased:
        await notifier.notifications.update(stored.id, Op(f"{slot}/forget"), notifications.erase_notification)
    elif saved.changed and not saved.repeated and saved.require_state().state == "sending":
        assert loaded.context.contact is not None, "a mail needs a contact"
        await _send_mail(saved.require_state(), loaded.context.contact, loaded, notifier)


async def _save(id: str, op: str, decide: Decide[Notification], notifier: Notifier) -> SaveResult[Notification]:
    """Save, and count a notification that this finished.

    One that tells a private fact or act is not counted.
    """
    saved = await notifier.notifications.update(id, Op(op), decide)
    state, is_new = saved.state, saved.changed and not saved.repeated
    if state is not None and state.is_finished and is_new and state.row.is_counted:
        _ENDED.increment(purpose=state.purpose, channel=state.channel, state=state.state, reason=state.reason or "none")
    return saved


def _slot(notification: Notification) -> str:
    """The time slot that the operation is named after."""
    if notification.lease is not None:
        return f"lease/{stored_instant(notification.lease)}"
    return f"due/{stored_instant(notification.due)}"


async def _take_slot(notification: Notification, loaded: DeliveryInput, slot: str, notifier: Notifier) -> bool:
    now, id = notifier.clock.now(), notification.notification_id
    saved = await notifier.recipients.update(
        loaded.member_id,
        Op(f"{id}/{slot}/{stored_instant(now)}"),
        lambda current: take_weekly_slot(current, loaded.member_id, id, notification.row.kind, loaded.cap, now),
    )
    return saved.changed


async def _verdict_without_slot(notification: Notification, loaded: DeliveryInput, notifier: Notifier) -> Verdict:
    """An essential notification waits for a slot and appears in the inbox meanwhile; others are suppressed."""
    kind = notification.row.kind
    if kind != "essential":
        return notifications.Suppress("cap")
    stored, now = await notifier.recipients.get(loaded.member_id), notifier.clock.now()
    recipient = stored.state if stored else None
    free_at = next_free_slot(recipient, notification.notification_id, kind, loaded.cap, now)
    return notifications.WaitUntil(free_at) if free_at <= notification.useful_until else Deliver("inbox")


async def _send_mail(
    notification: Notification, contact: ContactChanged, loaded: DeliveryInput, notifier: Notifier
) -> None:
    pairing = loaded.context.facts.pairing
    context = await load_rendering_context(notification, contact, loaded.programme, pairing, notifier)
    message = render_message(notification, context)
    attempted_at = notification.said_at or notification.happened_at
    mail = OutgoingMail(
        id=notification.notification_id,
        to=contact.email or "",
        name=contact.display_name,
        subject=message.subject,
        text=message.text,
        language=message.language,
        at=attempted_at,
    )
    error = await _send_error(mail, notifier)
    moment = Moment(now=attempted_at, recorded_at=notifier.clock.machine_now())
    await _record_outcome(notification, contact, error, moment, notifier)


async def _record_outcome(
    notification: Notification,
    contact: ContactChanged,
    error: MailRejected | MailDeferred | DeliveryInDoubt | None,
    moment: Moment,
    notifier: Notifier,
) -> None:
    id, attempt = notification.notification_id, notification.attempts
    op = f"outcome/{attempt}"
    match error:
        case None:
            recorded_at = moment.recorded_at
            await _save(
                id, op, lambda current: notifications.record_acceptance(current, attempt, recorded_at), notifier
            )
        case MailRejected(reason=reason, status=status):
            await _save(
                id, op, lambda current: notifications.record_rejection(current, attempt, reason, moment), notifier
            )
            if notification.row.unless is None:  # a recipient who did not need the mail keeps the slot taken, too
                await notifier.recipients.update(
                    contact.member_id, Op(f"{id}/back/{attempt}"), lambda current: release_weekly_slot(current, id)
                )
            if status is not None and severity_of(status) == "hard" and contact.email:
                await mark_address(contact.member_id, contact.email, status, f"bounce/{id}", notifier)
        case MailDeferred() | DeliveryInDoubt():
            in_doubt = isinstance(error, DeliveryInDoubt)
            await _save(
                id,
                op,
                lambda current: notifications.record_deferral(current, attempt, in_doubt=in_doubt, moment=moment),
                notifier,
            )
        case _:
            assert_never(error)


async def _send_error(mail: OutgoingMail, notifier: Notifier) -> MailRejected | MailDeferred | DeliveryInDoubt | None:
    try:
        await notifier.mailer.send(mail)
    except (MailRejected, MailDeferred, DeliveryInDoubt) as error:
        return error
    return None


async def load_rendering_context(
    notification: Notification,
    contact: ContactChanged,
    programme: ProgrammeSettings | None,
    pairing: PairingEvent | None,
    notifier: Notifier,
) -> RenderingContext:
    """The data that a notification is rendered from. For an assistant it has neither partner nor topic."""
    about = notification.about
    member_ids = [participant.member_id for participant in pairing.participants] if pairing else []
    partner_ids = [id for id in member_ids if id != notification.member_id]
    partner = await notifier.contacts.get(partner_ids[0]) if partner_ids and about.side else None
    request = await _get(notifier.requests, about.request_id)
    if request is not None:
        partner = await notifier.contacts.get(_other_of(request, notification.member_id))
    assisted = await notifier.contacts.get(about.of_member) if about.of_member else None
    return RenderingContext(contact, partner, assisted, pairing if about.side else None, programme, notifier.link_base)


def _other_of(request: RequestEvent, member_id: str | None) -> str:
    return request.asker if request.asked == member_id else request.asked


async def _load_input(notification: Notification, member_id: str, notifier: Notifier) -> DeliveryInput:
    contact, is_erased, programme, stored, facts = await asyncio.gather(
        notifier.contacts.get(member_id),
        notifier.is_erased(member_id),
        _get(notifier.programmes, notification.about.programme_id),
        notifier.recipients.get(member_id),
        _load_facts(notification, notifier),
    )
    care = programme.settings.care if programme else Care()
    recipient = stored.state if stored else Recipient(member_id=member_id)
    facts = replace(facts, is_unwanted=_is_unwanted(facts, contact))
    context = DeliveryContext(
        contact=contact,
        is_erased=is_erased,
        care=care,
        channels=recipient.channels_for(notification.purpose),
        hours=recipient.hours,
        facts=facts,
        is_bounced=bool(contact and contact.email and recipient.is_bounced(address_mark(member_id, contact.email))),
    )
    return DeliveryInput(member_id, context, programme.settings if programme else None, care.messages_per_week)


def _is_unwanted(facts: SendingFacts, contact: ContactChanged | None) -> bool:
    """Whether the recipient would rather not be paired with the other of the two."""
    if contact is None:
        return False
    people = [participant.member_id for participant in facts.pairing.participants] if facts.pairing else []
    people += [facts.request.asker, facts.request.asked] if facts.request else []
    return not set(people).isdisjoint(contact.avoid)


async def _load_facts(notification: Notification, notifier: Notifier) -> SendingFacts:
    about = notification.about
    answer = answer_key(about.pairing_id, about.side) if about.pairing_id and about.side else None
    completion = completion_key(about.checkin_id) if about.checkin_id else None
    pairing, request, feedback, is_answered, is_completed = await asyncio.gather(
        _get(notifier.pairings, about.pairing_id),
        _get(notifier.requests, about.request_id),
        _get(notifier.feedback, about.pairing_id),
        _is_done(answer, notifier),
        _is_done(completion, notifier),
    )
    return SendingFacts(
        pairing=pairing,
        request=request,
        feedback=feedback,
        is_answered=is_answered,
        is_completed=is_completed,
        starts_at=about.starts_at,
        planned_end=about.planned_end,
    )


async def _get(projection: Projection[M], id: str | None) -> M | None:
    return await projection.get(id) if id else None


async def _is_done(key: str | None, notifier: Notifier) -> bool:
    return key is not None and await notifier.is_done(key)
