"""What feedback hears, and what follows from it."""

from functools import partial

from chassis import erasure
from chassis.core.commands import Op
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
from services.feedback.domain.followup import Decision, PairingFollowup, apply_pairing_event
from services.feedback.store import Feedback

registry: HandlerRegistry[Feedback] = HandlerRegistry()
registry.project(PairingState, lambda feedback: feedback.pairings)
registry.project(ProgrammeChanged, lambda feedback: feedback.programmes)
registry.project(Colleague, lambda feedback: feedback.members)


@registry.on(PairingFormed)
async def when_a_pairing_is_formed_begin_to_care(event: ReceivedEvent[PairingFormed], feedback: Feedback) -> None:
    await _follow(event.envelope, event.data, feedback, "when_a_pairing_is_formed_begin_to_care")


@registry.on(PairingChartered, PairingPaused, PairingResumed, PairingRenewed)
async def when_a_pairing_moves_on_go_along(event: ReceivedEvent[PairingEvent], feedback: Feedback) -> None:
    """On hold nothing is due; the days of a pause move every deadline that was still to come."""
    await _follow(event.envelope, event.data, feedback, "when_a_pairing_moves_on_go_along")


@registry.on(PairingEnded)
async def when_a_pairing_ends_ask_how_it_was(event: ReceivedEvent[PairingEnded], feedback: Feedback) -> None:
    await _follow(event.envelope, event.data, feedback, "when_a_pairing_ends_ask_how_it_was")


async def _follow(envelope: Envelope, pairing: PairingEvent, feedback: Feedback, name: str) -> None:
    """Whoever was asked to be forgotten is not taken up again by news that comes late."""
    members = {one.side: one.member_id for one in pairing.participants}
    known = await feedback.followups.get(pairing.pairing_id)
    if known is None and await feedback.erasures.get_many(list(members.values())):
        return
    zones = await feedback.time_zones_of(members)
    programme = await feedback.programmes.get(pairing.programme_id)
    now, machine = feedback.clock.now(), feedback.clock.machine_now()

    def decide(course: PairingFollowup | None) -> Decision | None:
        followed = apply_pairing_event(course, pairing, envelope.sequence, zones, now, machine)
        return followup_rules.follow_up(followup_rules.with_terms(followed, programme), now, machine)

    await feedback.followups.update(pairing.pairing_id, Op.handling(envelope, name), decide, cause=envelope)


async def when_a_followup_is_due_update_it(stored: Stored[PairingFollowup], feedback: Feedback) -> None:
    """Somebody is asked, a deadline has passed, half of the time is over, something is to be deleted."""
    now, machine = feedback.clock.now(), feedback.clock.machine_now()
    zones = await feedback.time_zones_of(stored.state.members)
    retired = await feedback.followups.update(
        stored.id,
        Op(f"due/{stored_instant(stored.state.due)}"),
        lambda course: followup_rules.follow_up(followup_rules.update_zones(course, zones), now, machine),
    )
    if retired.state is not None and retired.state.gone:
        await feedback.contributions.delete({"pairing_id": stored.id})


@registry.on(ErasureRequested)
async def when_an_erasure_is_requested_begin_to_forget(
    event: ReceivedEvent[ErasureRequested], feedback: Feedback
) -> None:
    """The tombstones of their pairings and profile come on other topics, in their own time; a sweep looks for them."""
    op = event.op("when_an_erasure_is_requested_begin_to_forget")
    await erasure.begin(event, op, feedback.erasures, feedback.clock)


async def see_whether_all_is_forgotten(stored: Stored[Erasure], feedback: Feedback) -> None:
    """``Sweep`` calls it until nothing is held of the member, and that is reported."""
    await erasure.advance(
        stored,
        feedback.erasures,
        feedback.clock,
        forget=partial(report_batches.forget, feedback=feedback),
        holds_anything=feedback.holds,
    )
