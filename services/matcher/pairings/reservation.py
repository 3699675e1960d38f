"""The reservation: pairing -> both ledgers -> receipt -> pairing, in steps of which a crash may cut off any.

Every step is one save that recognises by state and attempt whether it still applies, so steps may be repeated, and two
processes may even work on the same attempt. Seats are given back only when the pairing is seen to be abandoned under
that attempt, or past it. What a crash leaves is found by the lease of the pairing and by the audit of the ledger.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from chassis.core.commands import Op
from chassis.storage.aggregates import Change, SaveResult, Stored
from contracts.envelope import Envelope
from contracts.errors import CommandRejected
from services.matcher.context import Matcher
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings import seat_ledger as ledgers
from services.matcher.domain.pairings.pairing import LIVE_STATES, Pairing, PairingPlan
from services.matcher.domain.pairings.seat_ledger import Seat, SeatLedger
from services.matcher.receipts import repository

Outcome = Pairing | CommandRejected
OVER = CommandRejected("no_longer_possible", "This pair is no longer possible.")


async def reserve(
    matcher: Matcher, plans: Sequence[PairingPlan], *, agreed: bool = False, cause: Envelope | None = None
) -> dict[str, Outcome]:
    """Take both seats of each pair and propose it; by pairing id what it has become, or why it could not be."""
    outcomes: dict[str, Outcome] = {}
    for batch in batches(plans):
        outcomes |= await _reserve_batch(matcher, batch, agreed, cause)
    return outcomes


def batches(plans: Sequence[PairingPlan]) -> list[list[PairingPlan]]:
    """The plans in groups in which everybody occurs once, since a bulk save takes each document once."""
    groups: list[tuple[list[PairingPlan], set[str]]] = []
    for plan in plans:
        both = {plan.senior.member_id, plan.junior.member_id}
        for group, people in groups:
            if not people & both:
                group.append(plan)
                people.update(both)
                break
        else:
            groups.append(([plan], both))
    return [group for group, _ in groups]


async def _reserve_batch(
    matcher: Matcher, plans: Sequence[PairingPlan], agreed: bool, cause: Envelope | None
) -> dict[str, Outcome]:
    moment = matcher.clock.moment()
    begun = await _each(
        matcher, plans, lambda plan: lambda state: pairings.begin_reservation(state, plan, moment), cause
    )
    outcomes: dict[str, Outcome] = {id: pairing for id, pairing in begun.items() if pairing.state != "reserving"}
    attempts = {id: pairing.attempt for id, pairing in begun.items() if pairing.state == "reserving"}
    under_way = [plan for plan in plans if plan.pairing_id in attempts]
    refused = await _take(matcher, under_way, attempts)
    seated = [plan for plan in under_way if plan.pairing_id not in refused]
    receipt = await repository.keep(matcher, seated, attempts)
    proposed = await _each(
        matcher,
        [plan for plan in seated if plan.pairing_id in receipt],
        lambda plan: lambda state: pairings.propose_pairing(state, receipt[plan.pairing_id], moment, agreed=agreed),
        cause,
    )
    failed = [plan for plan in under_way if _failed(proposed.get(plan.pairing_id))]
    given_up = await _give_up(matcher, failed, attempts)
    await _forget_the_erased(matcher, [plan for plan in failed if _closed(refused.get(plan.pairing_id))])
    for plan in under_way:
        id = plan.pairing_id
        if id in given_up:
            outcomes[id] = refused.get(id, OVER) if given_up[id].state == "abandoned" else given_up[id]
        else:
            outcomes[id] = proposed[id]
    return outcomes


async def _take(
    matcher: Matcher, plans: Sequence[PairingPlan], attempts: Mapping[str, int]
) -> dict[str, CommandRejected]:
    """Take both seats of each; why not, where one is refused."""
    machine = matcher.clock.machine_now()
    profiles = await matcher.members.get_many([me for plan in plans for me, _ in _both(plan)])

    def taking(plan: PairingPlan, me: str, other: str) -> Change[SeatLedger]:
        seat = Seat(attempt=attempts[plan.pairing_id], partner=other, programme_id=plan.programme_id)
        places = ledgers.compute_seat_limits(profiles.get(me), plan.programme_id)
        return Change(me, Op.once(), lambda state: ledgers.take_seat(state, me, plan.pairing_id, seat, places, machine))

    changes = [(plan, taking(plan, me, other)) for plan in plans for me, other in _both(plan)]
    results = await matcher.ledgers.update_many([change for _, change in changes])
    refused: dict[str, CommandRejected] = {}
    for (plan, _), result in zip(changes, results, strict=True):
        if isinstance(result, CommandRejected):
            refused.setdefault(plan.pairing_id, result)
        elif isinstance(result, Exception):
            raise result
    return refused


async def _give_up(matcher: Matcher, plans: Sequence[PairingPlan], attempts: Mapping[str, int]) -> dict[str, Pairing]:
    """Abandon, and give back the seats of those that are abandoned now; what each has become."""
    machine = matcher.clock.machine_now()
    now = await _each(
        matcher,
        plans,
        lambda plan: lambda state: pairings.abandon_reservation(state, attempts[plan.pairing_id], machine),
        None,
    )
    over = []
    for plan in plans:
        attempt = attempts[plan.pairing_id]
        after = now[plan.pairing_id]
        if after.attempt > attempt or not holds_seats(after):
            await free(matcher, plan.pairing_id, attempt, [me for me, _ in _both(plan)])
        if after.attempt > attempt or after.state == "abandoned":
            over.append(repository.receipt_of(plan.pairing_id, attempt))
    await repository.drop(matcher, over)
    return now


async def _forget_the_erased(matcher: Matcher, plans: Sequence[PairingPlan]) -> None:
    """A plan that came after somebody's erasure had looked for what there is about them leaves no trace of them."""
    members = [me for plan in plans for me, _ in _both(plan)]
    erasing = {id for id, stored in (await matcher.ledgers.get_many(members)).items() if stored.state.erasing}
    moment = matcher.clock.moment()
    for plan in plans:
        for me in erasing.intersection(me for me, _ in _both(plan)):
            await matcher.pairings.update(
                plan.pairing_id,
                Op.once(),
                lambda state: pairings.erase_member(state, me, moment) if state else None,  # noqa: B023 - used at once
            )


def _failed(pairing: Pairing | None) -> bool:
    """Whether a reservation did not get as far as to be proposed."""
    return pairing is None or pairing.state in ("reserving", "abandoned")


def _closed(refused: CommandRejected | None) -> bool:
    return refused is not None and refused.code == "closed"


async def free(matcher: Matcher, pairing_id: str, attempt: int, members: Iterable[str]) -> None:
    """Give back what this attempt holds in these ledgers."""
    for member in members:
        await matcher.ledgers.update(member, Op.once(), lambda state: ledgers.release_seat(state, pairing_id, attempt))


async def when_a_reservation_expires(stored: Stored[Pairing], matcher: Matcher) -> None:
    """A reservation whose lease has passed: abandon it first, then free its seats."""
    attempt, plan = stored.state.attempt, stored.state.plan
    await _give_up(matcher, [plan], {plan.pairing_id: attempt})


async def audit(stored: Stored[SeatLedger], matcher: Matcher) -> None:
    """Free what belongs to no live attempt."""
    held = stored.state.held
    found = await matcher.pairings.get_many(list(held))
    dead: dict[str, int] = {}
    unsettled = False
    for id, seat in held.items():
        pairing = found[id].state if id in found else None
        if pairing is None or pairing.attempt != seat.attempt or not holds_seats(pairing):
            dead[id] = seat.attempt
        elif pairing.state == "reserving":
            unsettled = True
    seen = {id: seat.attempt for id, seat in held.items()}
    machine = matcher.clock.machine_now()
    await matcher.ledgers.update(
        stored.id, Op.once(), lambda state: ledgers.apply_audit(state, seen, dead, unsettled, machine)
    )


async def in_doubt(matcher: Matcher, ledgers: Sequence[SeatLedger]) -> set[str]:
    """Whose ledger holds a seat that may be given back any moment: its attempt is under way, or dead already."""
    found = await matcher.pairings.get_many([id for ledger in ledgers for id in ledger.held])

    def settled(id: str, seat: Seat) -> bool:
        pairing = found[id].state if id in found else None
        return pairing is not None and pairing.attempt == seat.attempt and pairing.state in LIVE_STATES

    return {ledger.member_id for ledger in ledgers if not all(settled(id, seat) for id, seat in ledger.held.items())}


def holds_seats(pairing: Pairing) -> bool:
    """Whether the seats of its attempt are rightly held."""
    return pairing.state in LIVE_STATES or pairing.state == "reserving"


def _both(plan: PairingPlan) -> tuple[tuple[str, str], tuple[str, str]]:
    """Each of the two, with the other."""
    senior, junior = plan.senior.member_id, plan.junior.member_id
    return (senior, junior), (junior, senior)


async def _each(
    matcher: Matcher,
    plans: Sequence[PairingPlan],
    decide: Callable[[PairingPlan], Callable[[Pairing | None], pairings.Decision | None]],
    cause: Envelope | None,
) -> dict[str, Pairing]:
    """One step for all; what each pairing is after it. Raises what a step raised."""
    changes = [Change(plan.pairing_id, Op.once(), decide(plan)) for plan in plans]
    results = await matcher.pairings.update_many(changes, cause=cause)
    return {plan.pairing_id: _state(result) for plan, result in zip(plans, results, strict=True)}


def _state(result: SaveResult[Pairing] | Exception) -> Pairing:
    if isinstance(result, Exception):
        raise result
    return result.require_state()
