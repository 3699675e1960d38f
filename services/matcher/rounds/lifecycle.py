"""The work on a round after the request: a worker process computes it, and it is published batch by batch.

The round's lease drives both: the process that claims it continues from the stored state. A run that was overtaken by
another one sees that its saves no longer apply, and stops.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from chassis.core.commands import Op
from chassis.storage.aggregates import Stored
from chassis.storage.mongo import Document
from contracts.errors import CommandRejected
from contracts.pairings import Focus
from contracts.profiles import ProfileChanged
from services.matcher.context import Matcher
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.eligibility import MatchingTerms, assess
from services.matcher.domain.fit.score import Fit
from services.matcher.domain.pairings.pairing import PairingPlan, build_participant, zones_of
from services.matcher.domain.receipts.receipt import SIDES, RunnerUp, Selection
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.round import Round, RoundProgress, RoundTotals, result_id
from services.matcher.pairings import reservation
from services.matcher.solver_process.client import UnsolvableRound
from services.matcher.stores.rounds import ProposalStore, RoundStore

log = logging.getLogger(__name__)

PUBLISH_BATCH = 100  # proposals between two saves of the cursor; other requests are served in between
MAX_RUNS = 5  # attempts at a computation during which the process dies


def start_work(round_id: str, matcher: Matcher) -> None:
    """Work on a round at once. The sweep would find it too, a little later."""
    matcher.tasks.start("taking up a round", _claim_and_work(round_id, matcher))


async def when_a_round_lease_expires(stored: Stored[Round], matcher: Matcher) -> None:
    """Continue the work in a background task, beside the sweep."""
    await _claim_and_work(stored.id, matcher)


async def _claim_and_work(round_id: str, matcher: Matcher) -> None:
    recorded_at = matcher.clock.machine_now()
    claimed = await matcher.rounds.update_existing(
        round_id, Op.once(), lambda round: rounds.claim_run(round, recorded_at)
    )
    if not claimed.changed:
        return
    round = claimed.require_state()
    if round.state == "computing" and round.tries > MAX_RUNS:
        await _fail(round, "It was begun several times and never finished; look at the service's memory.", matcher)
    elif round.state == "computing":
        matcher.tasks.start("compute of a round", compute(round, matcher))
    else:
        matcher.tasks.start("publish of a round", publish(round, matcher))


async def compute(round: Round, matcher: Matcher) -> None:
    """Compute and store the result; the round then waits for its review."""

    async def record_progress(progress: RoundProgress) -> bool:
        recorded_at = matcher.clock.machine_now()
        return await _update(
            matcher.rounds, round, lambda state: rounds.record_progress(state, round.run, progress, recorded_at)
        )

    if not await record_progress(RoundProgress(stage="reading")):
        return
    try:
        totals = await matcher.solver.run(round, matcher.clock.now(), record_progress)
    except UnsolvableRound:
        log.exception("a round cannot be computed", extra={"round": round.round_id})
        await _fail(round, "It cannot be computed; the service's log says more.", matcher)
        return
    is_current = totals is not None and await _complete(round, totals, matcher)
    if round.whole:
        await _delete_other_results(round, matcher, is_current=is_current)


async def _update(store: RoundStore, round: Round, decide: Callable[[Round], rounds.Decision | None]) -> bool:
    """Save a step of a run. Returns False when the step no longer applies, since another run overtook this one."""
    return (await store.update_existing(round.round_id, Op.once(), decide)).changed


async def _complete(round: Round, totals: RoundTotals, matcher: Matcher) -> bool:
    moment = matcher.clock.moment()
    return await _update(
        matcher.rounds, round, lambda state: rounds.complete_computation(state, round.run, totals, moment)
    )


async def _fail(round: Round, reason: str, matcher: Matcher) -> None:
    moment = matcher.clock.moment()
    await _update(matcher.rounds, round, lambda state: rounds.fail_computation(state, round.run, reason, moment))


async def _delete_other_results(round: Round, matcher: Matcher, *, is_current: bool) -> None:
    """Keep one result of the round: that of this run if it is the current one, otherwise the earlier one."""
    own = result_id(round.round_id, round.run)
    if is_current and round.run == 1:
        return
    others = {"round_id": round.round_id, "result": {"$ne": own} if is_current else own}
    for documents in (matcher.proposals, matcher.unmatched):
        await documents.delete(others)


async def publish(round: Round, matcher: Matcher) -> None:
    """Propose all pairs that were not proposed yet. A batch may outlast the lease, so it is renewed meanwhile."""
    renewal = asyncio.create_task(_keep_lease(round, matcher))
    try:
        await _publish_batches(round, matcher)
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)


async def _keep_lease(round: Round, matcher: Matcher) -> None:
    """Renew the lease and nothing else, until this run is overtaken."""
    renewed = True
    while renewed:
        await asyncio.sleep(rounds.ROUND_LEASE.total_seconds() / 3)
        recorded_at = matcher.clock.machine_now()
        renewed = await _renew_lease(round, recorded_at, matcher.rounds)


async def _renew_lease(round: Round, recorded_at: datetime, store: RoundStore) -> bool:
    return await store.renew_lease(round.round_id, lambda state: rounds.extend_lease(state, round.run, recorded_at))


async def _publish_batches(round: Round, matcher: Matcher) -> None:
    cursor = round.cursor
    earlier = await matcher.pairings.earlier_pairs(except_round=round.round_id)
    while True:
        page = matcher.proposals.page(round, limit=PUBLISH_BATCH, after=cursor)
        proposals = [document async for document in page]
        if not proposals:
            break
        proposed = await _publish_batch(round, proposals, earlier, matcher)
        cursor = proposals[-1]["place"]
        if not await _save_cursor(round, cursor, proposed, len(proposals) - proposed, matcher):
            return
    if not await _tell_unmatched(round, matcher):
        return
    moment = matcher.clock.moment()
    await _update(matcher.rounds, round, lambda state: rounds.complete_publication(state, round.run, moment))


async def _tell_unmatched(round: Round, matcher: Matcher) -> bool:
    """Tell everybody who still waits for a partner. Returns False when another run overtook this one."""
    cursor = round.told_cursor
    while True:
        page = matcher.unmatched.page(round, limit=PUBLISH_BATCH, after=cursor)
        entries = [document async for document in page]
        if not entries:
            return True
        waiting = await _waiting_among([entry["member_id"] for entry in entries], round, matcher)
        codes = {entry["member_id"]: entry["code"] for entry in entries if entry["member_id"] in waiting}
        cursor = entries[-1]["member_id"]
        if not await _save_told(round, cursor, codes, matcher):
            return False


async def _save_told(round: Round, cursor: str, codes: Mapping[str, str], matcher: Matcher) -> bool:
    moment = matcher.clock.moment()
    return await _update(
        matcher.rounds, round, lambda state: rounds.tell_unmatched(state, round.run, cursor, codes, moment)
    )


async def _waiting_among(members: Sequence[str], round: Round, matcher: Matcher) -> set[str]:
    """Those who still take part, are there, and have a free place. Others have found a partner since, or are away."""
    programme_id, today = round.programme_id, matcher.clock.now().date()
    profiles = await matcher.members.get_many(members)
    present = [
        profile
        for profile in profiles.values()
        if hard_rules.find_enrolled_member(profile, programme_id) is not None
        and hard_rules.find_absence_reason(profile, programme_id, round.settings, today) is None
    ]
    return set(await matcher.ledgers.free_seats(present, programme_id))


async def _save_cursor(round: Round, cursor: str, proposed: int, withdrawn: int, matcher: Matcher) -> bool:
    recorded_at = matcher.clock.machine_now()
    return await _update(
        matcher.rounds,
        round,
        lambda state: rounds.record_published_batch(state, round.run, cursor, proposed, withdrawn, recorded_at),
    )


async def _publish_batch(
    round: Round, proposals: Sequence[Document], earlier: set[tuple[str, str]], matcher: Matcher
) -> int:
    """Check each pair again, reserve the seats and propose it. Returns the number of proposed pairs."""
    profiles = await matcher.members.get_many([id for pair in proposals for id in (pair["senior"], pair["junior"])])
    terms = matcher.current_terms(round)
    outcomes: dict[str, reservation.Outcome] = {}
    plans = []
    for proposal in proposals:
        senior, junior = profiles.get(proposal["senior"]), profiles.get(proposal["junior"])
        rejection = _find_rejection(senior, junior, earlier, terms)
        if rejection is not None:
            outcomes[proposal["pairing_id"]] = rejection
        elif senior is not None and junior is not None:
            plans.append(_plan(round, proposal, senior, junior))
    outcomes |= await _reserve_all(plans, matcher)
    return await _save_outcomes(proposals, outcomes, matcher.proposals)


async def _save_outcomes(
    proposals: Sequence[Document], outcomes: Mapping[str, reservation.Outcome], store: ProposalStore
) -> int:
    """Returns the number of proposed pairs."""
    ids: dict[str | None, list[str]] = {None: []}  # by the reason against the pair; None: it was proposed
    for proposal in proposals:
        outcome = outcomes[proposal["pairing_id"]]
        ids.setdefault(outcome.detail if isinstance(outcome, CommandRejected) else None, []).append(proposal["_id"])
    for reason, batch in ids.items():
        await store.set_state(batch, "proposed" if reason is None else "withdrawn", reason)
    return len(ids[None])


async def _reserve_all(plans: Sequence[PairingPlan], matcher: Matcher) -> dict[str, reservation.Outcome]:
    """Reserve each pair, and once more where the sweep has abandoned an attempt that a crash had left half-way."""
    outcomes = await reservation.reserve(matcher, plans)
    overtaken = [plan for plan in plans if outcomes[plan.pairing_id] is reservation.NO_LONGER_POSSIBLE]
    return {**outcomes, **await reservation.reserve(matcher, overtaken)}


def _find_rejection(
    senior: ProfileChanged | None,
    junior: ProfileChanged | None,
    earlier: set[tuple[str, str]],
    terms: MatchingTerms,
) -> CommandRejected | None:
    """Why a pair of this round may no longer be proposed; None where it may.

    All rules about the pair have the same text: it does not reveal which rule it was.
    """
    pair = (senior.member_id, junior.member_id) if senior and junior else None
    again = [pair[1]] if pair is not None and {pair, pair[::-1]} & earlier else []
    eligibility = assess(senior, junior, terms, again)
    for profile, candidate in ((senior, eligibility.senior), (junior, eligibility.junior)):
        if profile is None:
            return CommandRejected("gone", "One of them takes part no longer.")
        if candidate.absence is not None:
            return CommandRejected(candidate.absence, hard_rules.REASON_TEXTS[candidate.absence])
    return reservation.NO_LONGER_POSSIBLE if eligibility.broken_rules or eligibility.shortfalls else None


def _plan(round: Round, proposal: Document, senior: ProfileChanged, junior: ProfileChanged) -> PairingPlan:
    return PairingPlan(
        pairing_id=proposal["pairing_id"],
        programme_id=round.programme_id,
        programme_version=round.programme_version,
        origin="round",
        round_id=round.round_id,
        senior=build_participant(senior, "senior"),
        junior=build_participant(junior, "junior"),
        focus=tuple(Focus.model_validate(topic) for topic in proposal["focus"]),
        reasons=proposal["reasons"],
        fit=Fit.model_validate(proposal["fit"]),
        chosen=_selection(round, proposal),
        answer_within_working_days=round.settings.matching.answer_within_working_days,
        duration_months=round.settings.meetings.duration_months,
        zones=zones_of(senior, junior),
        working_days=round.settings.working_days,
        ends=round.settings.ends,
    )


def _selection(round: Round, proposal: Document) -> Selection:
    """How the pair was selected: figures of the solver, or the cost of the change by hand."""
    pair = (proposal["senior"], proposal["junior"])
    by_hand = next(
        (change for change in round.adjustments if change.is_wanted and change.kept and pair in change.pairs), None
    )
    runners_up = {side: value for side in SIDES if (value := proposal.get(f"runner_up_of_{side}")) is not None}
    return Selection(
        seed=round.seed,
        probability=proposal.get("probability"),
        runner_up={side: RunnerUp.model_validate(value) for side, value in runners_up.items()},
        override_cost=by_hand.cost if by_hand else None,
    )
