"""The events to which the matcher reacts."""

from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from chassis.observability.telemetry import write_lifecycle_span
from contracts.envelope import Envelope
from contracts.feedback import OutcomeRecorded, PartnerChangeRequested, SessionHeld
from contracts.pairings import (
    TRACED_AS,
    PairingChartered,
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingLapsed,
    PairingResumed,
)
from contracts.privacy import ErasureRequested
from contracts.profiles import ProfileChanged
from contracts.programmes import ProgrammeChanged
from services.matcher import erasure
from services.matcher.context import Matcher
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings import phases
from services.matcher.domain.pairings.phases import PairingPhase
from services.matcher.domain.rolling import programme_claim
from services.matcher.learning import commands
from services.matcher.pairings import conflicts, reservation

registry: HandlerRegistry[Matcher] = HandlerRegistry()
registry.project(ProfileChanged, lambda matcher: matcher.members)


@registry.on(ProfileChanged)
async def when_a_member_leaves_end_their_pairings(event: ReceivedEvent[ProfileChanged], matcher: Matcher) -> None:
    """Nobody is blamed. A changed capacity needs no reaction: it is read when a seat is taken, and ends no pairing.

    The member's current profile decides: an old event that comes again must not end pairings made after a return.
    """
    if not erasure.has_left_anything(event.data):
        return
    profile = await matcher.members.get(event.data.member_id)
    if profile is not None and erasure.has_left_anything(profile):
        await erasure.end_left_pairings(profile, matcher, event.envelope)


@registry.on(ProfileChanged)
async def when_the_organisation_changes_check_running_pairings(
    event: ReceivedEvent[ProfileChanged], matcher: Matcher
) -> None:
    """The current profiles decide, so an old event that comes again changes nothing."""
    await conflicts.check_pairings_of(event.data.member_id, matcher, event.envelope)


@registry.on(PairingLapsed, PairingEnded)
async def when_a_pairing_is_over_free_its_seats(event: ReceivedEvent[PairingEvent], matcher: Matcher) -> None:
    stored = await matcher.pairings.get(event.data.pairing_id)
    if stored is not None and not reservation.holds_seats(stored.state):
        people = [participant.member_id for participant in event.data.participants]
        await reservation.free_seats(matcher.ledgers, stored.id, stored.state.attempt, people)


@registry.on(ProgrammeChanged)
async def when_a_programme_changes_wake_its_worker(event: ReceivedEvent[ProgrammeChanged], matcher: Matcher) -> None:
    """The worker releases the programme again where nothing is to be done."""
    programme_id = event.data.programme_id
    await matcher.claims.update(
        programme_id,
        event.op("when_a_programme_changes_look_after_it"),
        lambda claim: programme_claim.mark_changed(claim, programme_id),
        cause=event.envelope,
    )


@registry.on(PairingLapsed)
async def when_a_pairing_lapses_learn_from_a_reason_that_concerns_fit(
    event: ReceivedEvent[PairingLapsed], matcher: Matcher
) -> None:
    """The reason stands in the pairing alone; the event does not even reveal whether there is one."""
    stored = await matcher.pairings.get(event.data.pairing_id)
    if stored is not None:
        await commands.record_refusal(stored.state, event.data.happened_at, event.envelope, matcher)


@registry.on(OutcomeRecorded)
async def when_an_outcome_is_recorded_learn_from_it(event: ReceivedEvent[OutcomeRecorded], matcher: Matcher) -> None:
    await commands.record_outcome(event.data, event.envelope, matcher)


@registry.on(PairingFormed, PairingLapsed, PairingChartered, PairingResumed, PairingEnded)
async def when_a_phase_of_a_pairing_is_over_trace_it(event: ReceivedEvent[PairingEvent], matcher: Matcher) -> None:
    """A repeated event gives the same span: its ids are derived from the pairing and the phase."""
    stored = await matcher.pairings.get(event.data.pairing_id) if event.data.previous_state == "paused" else None
    _trace(event.envelope, phases.find_closed_phases(event.data, stored.state.paused_at if stored else None))


@registry.on(ErasureRequested)
async def when_erasure_is_requested_forget_the_member(event: ReceivedEvent[ErasureRequested], matcher: Matcher) -> None:
    await erasure.forget(event.data.member_id, matcher, event.envelope)


@registry.on_tombstone(ProfileChanged)
async def when_a_profile_is_gone_finish_its_erasure(event: ReceivedTombstone, matcher: Matcher) -> None:
    """The tombstone may come before or after the request; the erasure is complete only after both."""
    stored = await matcher.ledgers.get(event.key)
    if stored is not None and stored.state.erasing and stored.state.erased_at is None:
        await erasure.forget(event.key, matcher, event.envelope)


@registry.on(SessionHeld)
async def when_a_session_is_held_note_that_they_have_met(event: ReceivedEvent[SessionHeld], matcher: Matcher) -> None:
    saved = await matcher.pairings.update(
        event.data.pairing_id,
        event.op("when_a_session_is_held_note_that_they_have_met"),
        lambda pairing: pairings.record_first_meeting(pairing) if pairing else None,
        cause=event.envelope,
    )
    _trace(event.envelope, phases.find_first_meeting_phase(event.data, saved.state.formed_at if saved.state else None))


@registry.on(PartnerChangeRequested)
async def when_a_partner_change_is_requested_end_the_pairing(
    event: ReceivedEvent[PartnerChangeRequested], matcher: Matcher
) -> None:
    moment = matcher.clock.moment()
    await matcher.pairings.update(
        event.data.pairing_id,
        event.op("when_a_partner_change_is_requested_end_the_pairing"),
        lambda pairing: pairings.end_pairing(pairing, moment) if pairing else None,
        cause=event.envelope,
    )


def _trace(closed_by: Envelope, closed: list[PairingPhase]) -> None:
    """Add phases to the trace of the pairing's lifecycle, linked to the event that closed them."""
    id = closed_by.correlationid
    for phase in closed:
        write_lifecycle_span(
            id,
            phase.name,
            phase.since,
            phase.until,
            {TRACED_AS: id},
            links=[closed_by.traceparent],
            is_root=phase.whole,
        )
