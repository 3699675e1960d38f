"""Reactions of feedback to events, and to follow-ups that become due."""

from functools import partial

from chassis import erasure
from chassis.core.commands import Op
from chassis.core.ids import new_id
from chassis.erasure import Erasure
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent
from chassis.storage.aggregates import Stored, stored_instant
from contracts.envelope import Envelope
from contracts.pairings import (
    PairingChartered,
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingPaused,
    PairingRenewed,
    PairingResumed,
    PairingState,
)
from contracts.privacy import ErasureRequested
from contracts.programmes import ProgrammeChanged
from services.feedback import report_batches
from services.feedback.domain import followup_rules
from services.feedback.domain.colleague import Colleague
from services.feedback.domain.followup import Decision, PairingFollowup, apply_pairing_event, unfreeze_followup
from services.feedback.store import Feedback

registry: HandlerRegistry[Feedback] = HandlerRegistry()
registry.project(PairingState, lambda feedback: feedback.pairings)
registry.project(ProgrammeChanged, lambda feedback: feedback.programmes)
registry.project(Colleague, lambda feedback: feedback.members)


@registry.on(PairingFormed)
async def when_a_pairing_forms_start_its_followup(event: ReceivedEvent[PairingFormed], feedback: Feedback) -> None:
    await _update_followup(event.envelope, event.data, feedback, "when_a_pairing_is_formed_begin_to_care")


@registry.on(PairingChartered, PairingPaused, PairingResumed, PairingRenewed)
async def when_a_pairing_changes_update_its_followup(event: ReceivedEvent[PairingEvent], feedback: Feedback) -> None:
    """Nothing is due while a pairing is on hold. The days of a pause move every deadline that is still to come."""
    await _update_followup(event.envelope, event.data, feedback, "when_a_pairing_moves_on_go_along")


@registry.on(PairingEnded)
async def when_a_pairing_ends_ask_the_last_questions(event: ReceivedEvent[PairingEnded], feedback: Feedback) -> None:
    await _update_followup(event.envelope, event.data, feedback, "when_a_pairing_ends_ask_how_it_was")


@registry.on_unfreezing(PairingState)
async def when_a_pairing_is_unfrozen_follow_it_again(event: ReceivedEvent[PairingState], feedback: Feedback) -> None:
    """The follow-up remembers the sequence of its last event, so a wrong one would freeze it too."""

    moment = feedback.clock.moment()

    def decide(followup: PairingFollowup | None) -> Decision | None:
        followed = unfreeze_followup(followup, event.data, event.envelope.sequence, moment)
        return followup_rules.follow_up(followed, moment)

    op = event.op(f"when_a_pairing_is_unfrozen_follow_it_again/{new_id()}")  # each request is one of its own
    await feedback.followups.update(event.data.pairing_id, op, decide, cause=event.envelope)


async def _update_followup(envelope: Envelope, event: PairingEvent, feedback: Feedback, op_name: str) -> None:
    """Apply the event. A late event starts no follow-up for a member whose erasure was requested."""
    members = {participant.side: participant.member_id for participant in event.participants}
    stored = await feedback.followups.get(event.pairing_id)
    if stored is None and await feedback.erasures.get_many(list(members.values())):
        return
    zones = await feedback.time_zones_of(members)
    programme = await feedback.programmes.get(event.programme_id)
    moment = feedback.clock.moment()

    def decide(followup: PairingFollowup | None) -> Decision | None:
        applied = apply_pairing_event(followup, event, envelope.sequence, zones, moment)
        return followup_rules.follow_up(followup_rules.with_terms(applied, programme), moment)

    await feedback.followups.update(event.pairing_id, Op.handling(envelope, op_name), decide, cause=envelope)


async def when_a_followup_is_due_update_it(stored: Stored[PairingFollowup], feedback: Feedback) -> None:
    """A question is due, a deadline has passed, half of the time is over, or data is to be deleted."""
    moment = feedback.clock.moment()
    zones = await feedback.time_zones_of(stored.state.members)
    saved = await feedback.followups.update(
        stored.id,
        Op(f"due/{stored_instant(stored.state.due)}"),
        lambda followup: followup_rules.follow_up(followup_rules.update_zones(followup, zones), moment),
    )
    if saved.state is not None and saved.state.gone:
        await feedback.contributions.delete({"pairing_id": stored.id})


@registry.on(ErasureRequested)
async def when_an_erasure_is_requested_begin_it(event: ReceivedEvent[ErasureRequested], feedback: Feedback) -> None:
    """The tombstones of the pairings and the profile come later, on other topics. A sweep checks for them."""
    op = event.op("when_an_erasure_is_requested_begin_to_forget")
    await erasure.begin(event, op, feedback.erasures, feedback.clock)


async def advance_erasure(stored: Stored[Erasure], feedback: Feedback) -> None:
    """Called by a ``Sweep`` until nothing about the member is stored, and this is reported."""
    await erasure.advance(
        stored,
        feedback.erasures,
        feedback.clock,
        forget=partial(report_batches.erase_member, feedback=feedback),
        holds_anything=feedback.holds,
    )
