"""The reservation of seats: pairing -> both ledgers -> receipt -> pairing. A crash may come between any two steps.

Every step is one save. It recognises by state and attempt whether it still applies, so a step may be repeated, and two
processes may even work on the same attempt. Seats are given back only when the pairing was abandoned under their
attempt, or has a later one. The lease of the pairing and the audit of the ledger find what a crash leaves behind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from chassis.core.commands import Op
from chassis.storage.aggregates import Change, SaveResult, Stored
from contracts.envelope import Envelope
from contracts.errors import CommandRejected
from contracts.moment import Moment
from services.matcher.context import Matcher
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings import seat_ledger as ledgers
from services.matcher.domain.pairings.pairing import LIVE_STATES, Pairing, PairingPlan
from services.matcher.domain.pairings.seat_ledger import Seat, SeatLedger
from services.matcher.receipts.repository import receipt_id_of, write_receipts
from services.matcher.stores.pairings import LedgerStore, PairingStore

Outcome = Pairing | CommandRejected
NO_LONGER_POSSIBLE = CommandRejected("no_longer_possible", "This pair is no longer possible.")


async def reserve_pair(matcher: Matcher, plan: PairingPlan, *, agreed: bool = False) -> Pairing:
    """Reserve and propose one pair. Raises ``CommandRejected`` where that is not possible."""
    outcome = (await reserve(matcher, [plan], agreed=agreed))[plan.pairing_id]
    if isinstance(outcome, CommandRejected):
        raise outcome
    return outcome


async def reserve(
    matcher: Matcher, plans: Sequence[PairingPlan], *, agreed: bool = False, cause: Envelope | None = None
) -> dict[str, Outcome]:
    """Take both seats of each pair and propose it. Returns the pairing or the reason against it, by pairing id.

    ``agreed``: both have agreed already, so the pairing forms at once.
    """
    outcomes: dict[str, Outcome] = {}
    for batch in split_into_batches(plans):
        outcomes |= await _reserve_batch(matcher, batch, agreed, cause)
    return outcomes


def split_into_batches(plans: Sequence[PairingPlan]) -> list[list[PairingPlan]]:
    """Batches in which every member occurs once, since a bulk save takes each document once."""
    batches: list[tuple[list[PairingPlan], set[str]]] = []
    for plan in plans:
        both = {plan.senior.member_id, plan.junior.member_id}
        for batch, members in batches:
            if not members & both:
                batch.append(plan)
                members.update(both)
                break
        else:
            batches.append(([plan], both))
    return [batch for batch, _ in batches]


async def _reserve_batch(
    matcher: Matcher, plans: Sequence[PairingPlan], agreed: bool, cause: Envelope | None
) -> dict[str, Outcome]:
    moment, store = matcher.clock.moment(), matcher.pairings
    begun = await _update_each(
        store, plans, lambda plan: lambda state: pairings.begin_reservation(state, plan, moment), cause
    )
    outcomes: dict[str, Outcome] = {id: pairing for id, pairing in begun.items() if pairing.state != "reserving"}
    attempts = {id: pairing.attempt for id, pairing in begun.items() if pairing.state == "reserving"}
    under_way = [plan for plan in plans if plan.pairing_id in attempts]
    refused = await _take_seats(matcher, under_way, attempts)
    seated = [plan for plan in under_way if plan.pairing_id not in refused]
    receipts = await write_receipts(matcher, seated, attempts)
    proposed = await _update_each(
        store,
        [plan for plan in seated if plan.pairing_id in receipts],
        lambda plan: lambda state: pairings.propose_pairing(state, receipts[plan.pairing_id], moment, agreed=agreed),
        cause,
    )
    failed = [plan for plan in under_way if _has_failed(proposed.get(plan.pairing_id))]
    given_up = await _give_up(matcher, failed, attempts)
    await _forget_erased(matcher, [plan for plan in failed if _is_closed(refused.get(plan.pairing_id))])
    for plan in under_way:
        id = plan.pairing_id
        if id in given_up:
            abandoned = given_up[id].state == "abandoned"
            outcomes[id] = refused.get(id, NO_LONGER_POSSIBLE) if abandoned else given_up[id]
        else:
            outcomes[id] = proposed[id]
    return outcomes


async def _take_seats(
    matcher: Matcher, plans: Sequence[PairingPlan], attempts: Mapping[str, int]
) -> dict[str, CommandRejected]:
    """Take both seats of each plan; returns the reason by pairing id where one is refused."""
    recorded_at = matcher.clock.machine_now()
    profiles = await matcher.members.get_many([me for plan in plans for me, _ in _both(plan)])

    def take_seat(plan: PairingPlan, me: str, other: str) -> Change[SeatLedger]:
        seat = Seat(attempt=attempts[plan.pairing_id], partner=other, programme_id=plan.programme_id)
        capacity = ledgers.compute_seat_limits(profiles.get(me), plan.programme_id)
        return Change(
            me, Op.once(), lambda state: ledgers.take_seat(state, me, plan.pairing_id, seat, capacity, recorded_at)
        )

    changes = [(plan, take_seat(plan, me, other)) for plan in plans for me, other in _both(plan)]
    results = await matcher.ledgers.update_many([change for _, change in changes])
    refused: dict[str, CommandRejected] = {}
    for (plan, _), result in zip(changes, results, strict=True):
        if isinstance(result, CommandRejected):
            refused.setdefault(plan.pairing_id, result)
        elif isinstance(result, Exception):
            raise result
    return refused


async def _give_up(matcher: Matcher, plans: Sequence[PairingPlan], attempts: Mapping[str, int]) -> dict[str, Pairing]:
    """Abandon the attempts and give back their seats; returns the pairings after that."""
    recorded_at = matcher.clock.machine_now()
    after = await _update_each(
        matcher.pairings,
        plans,
        lambda plan: lambda state: pairings.abandon_reservation(state, attempts[plan.pairing_id], recorded_at),
        None,
    )
    obsolete = []
    for plan in plans:
        attempt = attempts[plan.pairing_id]
        pairing = after[plan.pairing_id]
        if pairing.attempt > attempt or not holds_seats(pairing):
            await free_seats(matcher.ledgers, plan.pairing_id, attempt, [me for me, _ in _both(plan)])
        if pairing.attempt > attempt or pairing.state == "abandoned":
            obsolete.append(receipt_id_of(plan.pairing_id, attempt))
    await matcher.receipts.delete_ids(obsolete)
    return after


async def _forget_erased(matcher: Matcher, plans: Sequence[PairingPlan]) -> None:
    """Forget members in plans that were saved after the members' erasure had searched for their pairings."""
    erasing = set(await matcher.ledgers.erasing_among([me for plan in plans for me, _ in _both(plan)]))
    moment = matcher.clock.moment()
    for plan in plans:
        for me in erasing.intersection(me for me, _ in _both(plan)):
            await forget_in_pairing(matcher.pairings, plan.pairing_id, me, moment)


async def forget_in_pairing(
    store: PairingStore, pairing_id: str, member_id: str, moment: Moment, cause: Envelope | None = None
) -> Pairing | None:
    """Erase a member from a pairing; returns the pairing after that."""
    saved = await store.update(
        pairing_id,
        Op.once(),
        lambda state: pairings.erase_member(state, member_id, moment) if state else None,
        cause=cause,
    )
    return saved.state


def _has_failed(pairing: Pairing | None) -> bool:
    """Whether the reservation ended before the pair was proposed."""
    return pairing is None or pairing.state in ("reserving", "abandoned")


def _is_closed(refused: CommandRejected | None) -> bool:
    """Whether a seat was refused because an erasure has closed the ledger."""
    return refused is not None and refused.code == "closed"


async def free_seats(store: LedgerStore, pairing_id: str, attempt: int, members: Iterable[str]) -> None:
    """Give back the seats that this attempt holds in the members' ledgers."""
    for member in members:
        await store.update(member, Op.once(), lambda state: ledgers.release_seat(state, pairing_id, attempt))


async def when_a_reservation_expires(stored: Stored[Pairing], matcher: Matcher) -> None:
    """Abandon a reservation whose lease has passed, then free its seats."""
    attempt, plan = stored.state.attempt, stored.state.plan
    await _give_up(matcher, [plan], {plan.pairing_id: attempt})


async def audit_ledger(stored: Stored[SeatLedger], matcher: Matcher) -> None:
    """Free the seats of this ledger that belong to no live attempt."""
    held = stored.state.held
    stored_pairings = await matcher.pairings.get_many(list(held))
    dead: dict[str, int] = {}
    unsettled = False
    for id, seat in held.items():
        pairing = stored_pairings[id].state if id in stored_pairings else None
        if pairing is None or pairing.attempt != seat.attempt or not holds_seats(pairing):
            dead[id] = seat.attempt
        elif pairing.state == "reserving":
            unsettled = True
    seen = {id: seat.attempt for id, seat in held.items()}
    recorded_at = matcher.clock.machine_now()
    await matcher.ledgers.update(
        stored.id, Op.once(), lambda state: ledgers.apply_audit(state, seen, dead, unsettled, recorded_at)
    )


async def members_in_doubt(store: PairingStore, ledgers: Sequence[SeatLedger]) -> set[str]:
    """Members of whom a seat may be given back at any moment: its attempt is still under way, or is dead already."""
    stored = await store.get_many([id for ledger in ledgers for id in ledger.held])

    def is_settled(id: str, seat: Seat) -> bool:
        pairing = stored[id].state if id in stored else None
        return pairing is not None and pairing.attempt == seat.attempt and pairing.state in LIVE_STATES

    return {ledger.member_id for ledger in ledgers if not all(is_settled(id, seat) for id, seat in ledger.held.items())}


def holds_seats(pairing: Pairing) -> bool:
    """Whether the pairing's attempt may hold seats in this state."""
    return pairing.state in LIVE_STATES or pairing.state == "reserving"


def _both(plan: PairingPlan) -> tuple[tuple[str, str], tuple[str, str]]:
    """Each member of the plan, with the other."""
    senior, junior = plan.senior.member_id, plan.junior.member_id
    return (senior, junior), (junior, senior)


async def _update_each(
    store: PairingStore,
    plans: Sequence[PairingPlan],
    decide: Callable[[PairingPlan], Callable[[Pairing | None], pairings.Decision | None]],
    cause: Envelope | None,
) -> dict[str, Pairing]:
    """Apply one step to all plans; returns the pairings after it, by id. Raises what a step raised."""
    changes = [Change(plan.pairing_id, Op.once(), decide(plan)) for plan in plans]
    results = await store.update_many(changes, cause=cause)
    return {plan.pairing_id: _require_state(result) for plan, result in zip(plans, results, strict=True)}


def _require_state(result: SaveResult[Pairing] | Exception) -> Pairing:
    if isinstance(result, Exception):
        raise result
    return result.require_state()
