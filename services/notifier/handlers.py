"""What notifier hears, and what follows from it: for each line of the table, a notification for each of its readers."""

from functools import partial

from chassis import erasure
from chassis.erasure import Erasure
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent
from chassis.storage.aggregates import Stored, stored_instant
from contracts.feedback import (
    CheckinCompleted,
    CheckinDue,
    ContactNeeded,
    FeedbackEvent,
    PartnerChangeRequested,
    SessionCancelled,
    SessionHeld,
    SessionMissed,
    SessionScheduled,
)
from contracts.pairings import (
    AnswerGiven,
    PairingChartered,
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingLapsed,
    PairingPaused,
    PairingProposed,
    PairingRenewed,
    PairingResumed,
)
from contracts.privacy import ErasureRequested
from contracts.profiles import ContactChanged
from contracts.programmes import ProgrammeChanged, RoundComputed
from services.notifier.create import create_for_contact, create_for_programme, create_or_postpone
from services.notifier.erasure import forget
from services.notifier.store import Notifier, answer_key, completion_key

PAIRING_EVENTS: tuple[type[PairingEvent], ...] = (
    PairingProposed,
    PairingLapsed,
    PairingFormed,
    PairingChartered,
    PairingPaused,
    PairingResumed,
    PairingRenewed,
    PairingEnded,
)
FEEDBACK_EVENTS: tuple[type[FeedbackEvent], ...] = (
    SessionScheduled,
    SessionHeld,
    SessionCancelled,
    SessionMissed,
    CheckinDue,
    CheckinCompleted,
    ContactNeeded,
    PartnerChangeRequested,
)

registry: HandlerRegistry[Notifier] = HandlerRegistry()
registry.project(ContactChanged, lambda notifier: notifier.contacts)
registry.project(ProgrammeChanged, lambda notifier: notifier.programmes)
for _pairing in PAIRING_EVENTS:
    registry.project(_pairing, lambda notifier: notifier.pairings)
for _feedback in FEEDBACK_EVENTS:
    registry.project(_feedback, lambda notifier: notifier.feedback)


@registry.on(*PAIRING_EVENTS)
async def when_a_pairing_moves_on_tell_both(event: ReceivedEvent[PairingEvent], notifier: Notifier) -> None:
    await create_or_postpone(event.envelope, event.data, notifier)
    members = [one.member_id for one in event.data.participants]
    for erased in await notifier.erasures.get_many(members):  # such as the end, which follows from the erasure
        await notifier.forget_pairings_of(erased)


@registry.on(SessionScheduled, SessionHeld, SessionCancelled, SessionMissed, CheckinDue, ContactNeeded)
async def when_meetings_or_questions_come_up_tell_whom_they_concern(
    event: ReceivedEvent[FeedbackEvent], notifier: Notifier
) -> None:
    await create_or_postpone(event.envelope, event.data, notifier)


@registry.on(RoundComputed)
async def when_a_round_is_computed_tell_the_coordinators(
    event: ReceivedEvent[RoundComputed], notifier: Notifier
) -> None:
    await create_or_postpone(event.envelope, event.data, notifier)


@registry.on(ContactChanged)
async def when_a_contact_changes_invite_or_welcome(event: ReceivedEvent[ContactChanged], notifier: Notifier) -> None:
    await create_for_contact(event.envelope, event.data, notifier)


@registry.on(ProgrammeChanged)
async def when_a_programme_opens_tell_all_who_take_part(
    event: ReceivedEvent[ProgrammeChanged], notifier: Notifier
) -> None:
    await create_for_programme(event.envelope, event.data, notifier)


@registry.on(AnswerGiven)
async def when_an_answer_is_given_remind_no_more(event: ReceivedEvent[AnswerGiven], notifier: Notifier) -> None:
    """That this side answered; what, is not kept."""
    await notifier.mark_done(answer_key(event.data.pairing_id, event.data.side))


@registry.on(CheckinCompleted)
async def when_a_checkin_is_completed_ask_no_more(event: ReceivedEvent[CheckinCompleted], notifier: Notifier) -> None:
    await notifier.mark_done(completion_key(event.data.checkin_id))


@registry.on(ErasureRequested)
async def when_an_erasure_is_requested_begin_to_forget(
    event: ReceivedEvent[ErasureRequested], notifier: Notifier
) -> None:
    """The tombstone that erases the contact comes on another topic, in its own time; a sweep looks for it."""
    op = event.op("when_an_erasure_is_requested_begin_to_forget")
    await erasure.begin(event, op, notifier.erasures, notifier.clock)


async def see_whether_all_is_forgotten(stored: Stored[Erasure], notifier: Notifier) -> None:
    """``Sweep`` calls it until nothing is held of the member, and that is reported."""
    await erasure.advance(
        stored,
        notifier.erasures,
        notifier.clock,
        forget=partial(forget, slot=str(stored_instant(stored.state.lease)), notifier=notifier),
        holds_anything=notifier.holds,
    )
