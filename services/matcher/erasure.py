"""People who leave a programme or the company, and people who are to be forgotten. Nobody is blamed for either."""

from collections.abc import Callable

from chassis.core.commands import Op
from chassis.storage.aggregates import Stored
from contracts.envelope import Envelope
from contracts.profiles import ProfileChanged
from services.matcher.context import Matcher
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings import request as requests
from services.matcher.domain.pairings import seat_ledger as ledgers
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.domain.pairings.seat_ledger import SeatLedger
from services.matcher.domain.rolling import suggestion as suggestions
from services.matcher.domain.rounds import round as rounds
from services.matcher.learning import commands
from services.matcher.pairings import reservation


def has_left_something(profile: ProfileChanged) -> bool:
    """Whether the member has left the company or any programme."""
    return profile.employment == "left" or any(enrolment.state == "left" for enrolment in profile.enrolments)


def programmes_left(profile: ProfileChanged) -> Callable[[str], bool]:
    """Whether the member no longer takes part in a programme."""
    staying = {enrolment.programme_id for enrolment in profile.enrolments if enrolment.state != "left"}
    return lambda programme_id: profile.employment == "left" or programme_id not in staying


async def end_what_was_left(profile: ProfileChanged, matcher: Matcher, cause: Envelope) -> None:
    """End the pairings of every programme that the member has left."""
    left = programmes_left(profile)
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
    """Close the ledger, end what is held, drop what is pending, leave stubs; say so when nothing is left.

    Every step may be repeated. What is not finished is taken up again by the ledger's lease, and when the tombstone of
    the profile arrives.
    """
    recorded_at = matcher.clock.machine_now()
    await matcher.ledgers.update(
        member_id, Op.once(), lambda state: ledgers.close_ledger(state, member_id, recorded_at), cause=cause
    )
    for stored in await matcher.pairings.of_member(member_id):
        await _forget_in(stored, member_id, matcher, cause)
    for asked in await matcher.requests.of_member(member_id):
        await matcher.requests.update(
            asked.id, Op.once(), lambda state: requests.erase_member(state, member_id) if state else None, cause=cause
        )
    for suggested in await matcher.suggestions.of_member(member_id):
        await matcher.suggestions.update(
            suggested.id,
            Op.once(),
            lambda state: suggestions.erase_member(state, member_id) if state else None,
            cause=cause,
        )
    await matcher.proposals.forget_member(member_id)
    await matcher.unmatched.forget_member(member_id)
    await commands.forget_member(member_id, matcher, cause)
    for round in [stored async for stored in matcher.rounds.find({"named": member_id})]:
        await matcher.rounds.update(
            round.id, Op.once(), lambda state: rounds.erase_member(state, member_id) if state else None
        )
    await matcher.receipts.forget_member(member_id)
    await _free_all(member_id, matcher)
    clean = await matcher.members.is_grave(member_id) and not await matcher.pairings.of_member(member_id)
    moment = matcher.clock.moment()
    await matcher.ledgers.update(
        member_id, Op.once(), lambda state: ledgers.complete_erasure(state, clean, moment), cause=cause
    )


async def when_a_ledger_lease_expires(stored: Stored[SeatLedger], matcher: Matcher) -> None:
    """A ledger whose lease has passed: an erasure to be finished, or seats to be audited."""
    if stored.state.erasing and stored.state.erased_at is None:
        await forget(stored.id, matcher)
    else:
        await reservation.audit_ledger(stored, matcher)


async def _forget_in(stored: Stored[Pairing], member_id: str, matcher: Matcher, cause: Envelope | None) -> None:
    moment = matcher.clock.moment()
    plan, attempt = stored.state.plan, stored.state.attempt
    await commands.forget_pairing(stored.id, matcher)
    saved = await matcher.pairings.update(
        stored.id,
        Op.once(),
        lambda state: pairings.erase_member(state, member_id, moment) if state else None,
        cause=cause,
    )
    await commands.forget_pairing(stored.id, matcher)  # again: an outcome may have come in between
    await reservation.free_seats(
        matcher.ledgers,
        stored.id,
        saved.state.attempt if saved.state else attempt,
        [plan.senior.member_id, plan.junior.member_id],
    )


async def _free_all(member_id: str, matcher: Matcher) -> None:
    """Free every seat that the closed ledger still holds; their pairings have been ended or will be found dead."""
    stored = await matcher.ledgers.get(member_id)
    if stored is not None and stored.state.held:
        await reservation.audit_ledger(stored, matcher)
