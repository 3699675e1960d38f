"""Members who leave a programme or the company, and members who are erased. Nobody is blamed for either."""

from collections.abc import Callable

from chassis.core.commands import Op
from chassis.storage.aggregates import Stored
from contracts.envelope import Envelope
from contracts.profiles import ProfileChanged
from services.matcher.context import Matcher
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings import seat_ledger as ledgers
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.domain.pairings.seat_ledger import SeatLedger
from services.matcher.domain.rounds import round as rounds
from services.matcher.learning import commands
from services.matcher.pairings import reservation
from services.matcher.pairings.proposals import forget_in_request
from services.matcher.rolling.suggestions import forget_in_suggestion


def has_left_anything(profile: ProfileChanged) -> bool:
    """Whether the member has left the company or any programme."""
    return profile.employment == "left" or any(enrolment.state == "left" for enrolment in profile.enrolments)


def find_left(profile: ProfileChanged) -> Callable[[str], bool]:
    """A predicate: whether the member no longer takes part in a programme, by its id."""
    staying = {enrolment.programme_id for enrolment in profile.enrolments if enrolment.state != "left"}
    return lambda programme_id: profile.employment == "left" or programme_id not in staying


async def end_left_pairings(profile: ProfileChanged, matcher: Matcher, cause: Envelope) -> None:
    """End the pairings of every programme that the member has left."""
    left = find_left(profile)
    stored = await matcher.ledgers.get(profile.member_id)
    held = stored.state.held if stored else {}
    moment = matcher.clock.moment()
    for pairing_id, seat in held.items():
        if left(seat.programme_id):
            await matcher.pairings.update(
                pairing_id,
                Op.handling(cause, "end_what_was_left"),
                lambda state: pairings.end_pairing(state, moment) if state else None,
                cause=cause,
            )


async def forget(member_id: str, matcher: Matcher, cause: Envelope | None = None) -> None:
    """Close the ledger, end pairings, delete what is pending, leave stubs; complete the erasure when nothing is held.

    Every step may be repeated. An unfinished erasure continues with the ledger's lease, and with the tombstone of the
    profile.
    """
    recorded_at = matcher.clock.machine_now()
    await matcher.ledgers.update(
        member_id, Op.once(), lambda state: ledgers.close_ledger(state, member_id, recorded_at), cause=cause
    )
    for stored in await matcher.pairings.of_member(member_id):
        await _forget_in_pairing(stored, member_id, matcher, cause)
    for request in await matcher.requests.of_member(member_id):
        await forget_in_request(matcher.requests, request.id, member_id, cause)
    for suggestion in await matcher.suggestions.of_member(member_id):
        await forget_in_suggestion(matcher.suggestions, suggestion.id, member_id, cause)
    await matcher.proposals.forget_member(member_id)
    await matcher.unmatched.forget_member(member_id)
    await commands.forget_member(member_id, matcher.learning, cause)
    for round in [stored async for stored in matcher.rounds.find({"named": member_id})]:
        await matcher.rounds.update(
            round.id, Op.once(), lambda state: rounds.erase_member(state, member_id) if state else None
        )
    await matcher.receipts.forget_member(member_id)
    await _free_all_seats(member_id, matcher)
    is_clean = await matcher.members.is_grave(member_id) and not await matcher.pairings.of_member(member_id)
    moment = matcher.clock.moment()
    await matcher.ledgers.update(
        member_id, Op.once(), lambda state: ledgers.complete_erasure(state, is_clean, moment), cause=cause
    )


async def when_a_ledger_lease_expires(stored: Stored[SeatLedger], matcher: Matcher) -> None:
    """Finish an erasure, or audit the seats."""
    if stored.state.erasing and stored.state.erased_at is None:
        await forget(stored.id, matcher)
    else:
        await reservation.audit_ledger(stored, matcher)


async def _forget_in_pairing(stored: Stored[Pairing], member_id: str, matcher: Matcher, cause: Envelope | None) -> None:
    moment = matcher.clock.moment()
    plan, attempt = stored.state.plan, stored.state.attempt
    await matcher.examples.delete_pairing(stored.id)
    pairing = await reservation.forget_in_pairing(matcher.pairings, stored.id, member_id, moment, cause)
    await matcher.examples.delete_pairing(stored.id)  # again: an outcome may have come in between
    members = [plan.senior.member_id, plan.junior.member_id]
    await reservation.free_seats(matcher.ledgers, stored.id, pairing.attempt if pairing else attempt, members)


async def _free_all_seats(member_id: str, matcher: Matcher) -> None:
    """Free every seat that the closed ledger holds. Its pairings have ended, or the audit recognises them as dead."""
    stored = await matcher.ledgers.get(member_id)
    if stored is not None and stored.state.held:
        await reservation.audit_ledger(stored, matcher)
