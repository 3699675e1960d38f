"""Reactions of notifier to events. The rows of the schedule register the notifications."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from chassis import erasure
from chassis.erasure import Erasure
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent
from chassis.storage.aggregates import Stored, stored_instant
from contracts.catalogue import EVENTS
from contracts.envelope import EventData
from contracts.feedback import FEEDBACK, CheckinCompleted, FeedbackEvent
from contracts.pairings import PAIRINGS, AnswerGiven, PairingEvent
from contracts.privacy import ErasureRequested
from contracts.profiles import ContactChanged
from contracts.programmes import ProgrammeChanged
from contracts.requests import REQUESTS, RequestEvent
from services.notifier.create import (
    NotifiableEvent,
    create_for_contact,
    create_for_programme,
    create_or_postpone,
)
from services.notifier.domain.notification_schedule import SCHEDULE, ScheduleRow, event_types
from services.notifier.erasure import erase_member
from services.notifier.store import Notifier, answer_key, completion_key

Handler = Callable[[ReceivedEvent[Any], Notifier], Awaitable[None]]

PAIRING_EVENTS = tuple(event for event in EVENTS if event.TOPIC == PAIRINGS and issubclass(event, PairingEvent))
FEEDBACK_EVENTS = tuple(event for event in EVENTS if event.TOPIC == FEEDBACK and issubclass(event, FeedbackEvent))
REQUEST_EVENTS = tuple(event for event in EVENTS if event.TOPIC == REQUESTS and issubclass(event, RequestEvent))

registry: HandlerRegistry[Notifier] = HandlerRegistry()
registry.project(ContactChanged, lambda notifier: notifier.contacts)
registry.project(ProgrammeChanged, lambda notifier: notifier.programmes)
for _pairing_event in PAIRING_EVENTS:
    registry.project(_pairing_event, lambda notifier: notifier.pairings)
for _request_event in REQUEST_EVENTS:
    registry.project(_request_event, lambda notifier: notifier.requests)
for _feedback_event in FEEDBACK_EVENTS:
    registry.project(_feedback_event, lambda notifier: notifier.feedback)


async def when_something_happens_notify_the_audience(event: ReceivedEvent[NotifiableEvent], notifier: Notifier) -> None:
    await create_or_postpone(event.envelope, event.data, notifier)


async def when_a_contact_changes_invite_or_welcome(event: ReceivedEvent[ContactChanged], notifier: Notifier) -> None:
    await create_for_contact(event.envelope, event.data, notifier)


async def when_a_programme_opens_notify_its_members(event: ReceivedEvent[ProgrammeChanged], notifier: Notifier) -> None:
    await create_for_programme(event.envelope, event.data, notifier)


def handler_of(event_type: type[EventData]) -> Handler:
    """The handler that creates the notifications of an event type. Raises ``TypeError`` when there is none."""
    if issubclass(event_type, ContactChanged):
        return when_a_contact_changes_invite_or_welcome
    if issubclass(event_type, ProgrammeChanged):
        return when_a_programme_opens_notify_its_members
    if issubclass(event_type, NotifiableEvent):
        return when_something_happens_notify_the_audience
    raise TypeError(f"no handler creates notifications from {event_type.TYPE}")


def register_schedule(handlers: HandlerRegistry[Notifier], schedule: Sequence[ScheduleRow]) -> None:
    """Register a handler for each event type that a row names, so that a row is all that a notification needs."""
    for event_type in event_types(schedule):
        handlers.on(event_type)(handler_of(event_type))


register_schedule(registry, SCHEDULE)


@registry.on(*PAIRING_EVENTS)
async def when_a_pairing_changes_remove_erased_members(event: ReceivedEvent[PairingEvent], notifier: Notifier) -> None:
    """An event that follows from an erasure, such as the end, must not bring back who was whose partner."""
    members = [participant.member_id for participant in event.data.participants]
    for erased in await notifier.erasures.get_many(members):
        await notifier.delete_pairings_of(erased)


@registry.on(*REQUEST_EVENTS)
async def when_a_request_changes_remove_erased_members(event: ReceivedEvent[RequestEvent], notifier: Notifier) -> None:
    """An event that was under way when the erasure began must not bring back who asked whom."""
    for erased in await notifier.erasures.get_many([event.data.asker, event.data.asked]):
        await notifier.delete_requests_of(erased)


@registry.on(AnswerGiven)
async def when_an_answer_is_given_stop_reminding(event: ReceivedEvent[AnswerGiven], notifier: Notifier) -> None:
    """Record that this side answered. The answer itself is not stored."""
    await notifier.mark_done(answer_key(event.data.pairing_id, event.data.side))


@registry.on(CheckinCompleted)
async def when_a_checkin_is_completed_stop_asking(event: ReceivedEvent[CheckinCompleted], notifier: Notifier) -> None:
    await notifier.mark_done(completion_key(event.data.checkin_id))


@registry.on(ErasureRequested)
async def when_an_erasure_is_requested_begin_it(event: ReceivedEvent[ErasureRequested], notifier: Notifier) -> None:
    """The tombstone that deletes the contact comes later, on another topic. A sweep checks for it."""
    op = event.op("when_an_erasure_is_requested_begin_to_forget")
    await erasure.begin(event, op, notifier.erasures, notifier.clock)


async def advance_erasure(stored: Stored[Erasure], notifier: Notifier) -> None:
    """Called by a ``Sweep`` until nothing about the member is stored, and this is reported."""
    await erasure.advance(
        stored,
        notifier.erasures,
        notifier.clock,
        forget=partial(erase_member, slot=str(stored_instant(stored.state.lease)), notifier=notifier),
        holds_anything=notifier.holds,
    )
