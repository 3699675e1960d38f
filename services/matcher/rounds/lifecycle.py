"""What happens to a round behind the scenes: it is computed in a worker process, and published stretch by stretch.

Both are driven by the round's lease: whoever claims it goes on where it stands. A run that was overtaken finds that its
saves no longer apply, and stops.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from chassis.core.commands import Op
from chassis.storage.aggregates import Stored
from chassis.storage.mongo import Document
from contracts.errors import CommandRejected
from contracts.pairings import Focus
from contracts.profiles import ProfileChanged
from services.matcher.context import Matcher
from services.matcher.domain.fit import rules
from services.matcher.domain.fit.eligibility import assess
from services.matcher.domain.fit.score import Fit
from services.matcher.domain.pairings.pairing import PairingPlan, build_participant
from services.matcher.domain.receipts.receipt import SIDES, RunnerUp, Selection
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.round import Round, RoundProgress, RoundTotals, result_id
from services.matcher.pairings import reservation
from services.matcher.solver.client import UnsolvableRound

log = logging.getLogger(__name__)

STRETCH = 100  # proposals that go out between two saves of the cursor; others are answered in between
RUNS = 5  # attempts at a computation that keeps dying


def take_up(round_id: str, matcher: Matcher) -> None:
    """Begin at once with what was asked for just now; the sweep would find it too, a little later."""
    matcher.tasks.start("taking up a round", _claim(round_id, matcher))


async def when_a_round_lease_expires(stored: Stored[Round], matcher: Matcher) -> None:
    """The work goes on beside the sweep."""
    await _claim(stored.id, matcher)


async def _claim(round_id: str, matcher: Matcher) -> None:
    machine = matcher.clock.machine_now()
    claimed = await matcher.rounds.update(round_id, Op.once(), lambda state: rounds.claim_run(_known(state), machine))
    if not claimed.changed:
        return
    round = claimed.require_state()
    if round.state == "computing" and round.tries > RUNS:
        await _fail(round, "It was begun several times and never finished; look at the service's memory.", matcher)
        return
    work = compute if round.state == "computing" else publish
    matcher.tasks.start(f"{work.__name__} of a round", work(round, matcher))


async def compute(round: Round, matcher: Matcher) -> None:
    """Have it computed and stored; then the round waits for its review."""

    async def alive(progress: RoundProgress) -> bool:
        return await _advance(round, matcher, progress)

    if not await alive(RoundProgress(stage="reading")):
        return
    try:
        totals = await matcher.solver.run(round, matcher.clock.now(), alive)
    except UnsolvableRound:
        log.exception("a round cannot be computed", extra={"round": round.round_id})
        await _fail(round, "It cannot be computed; the service's log says more.", matcher)
        return
    counts = totals is not None and await _computed(round, totals, matcher)
    if round.whole:
        await _tidy(round, matcher, counts=counts)


async def _tidy(round: Round, matcher: Matcher, *, counts: bool) -> None:
    """Of a round's results only the one that counts is kept: this run's, or those before it."""
    mine = result_id(round.round_id, round.run)
    if counts and round.run == 1:
        return
    others = {"round_id": round.round_id, "result": {"$ne": mine} if counts else mine}
    for documents in (matcher.proposals, matcher.unmatched):
        await documents.delete(others)


async def _computed(round: Round, totals: RoundTotals, matcher: Matcher) -> bool:
    moment = matcher.clock.moment()
    saved = await matcher.rounds.update(
        round.round_id, Op.once(), lambda state: rounds.complete_computation(_known(state), round.run, totals, moment)
    )
    return saved.changed


async def _fail(round: Round, why: str, matcher: Matcher) -> None:
    moment = matcher.clock.moment()
    await matcher.rounds.update(
        round.round_id, Op.once(), lambda state: rounds.fail_computation(_known(state), round.run, why, moment)
    )


async def publish(round: Round, matcher: Matcher) -> None:
    """Send out what has not gone out yet; a stretch may take longer than a lease, so signs of life go on beside it."""
    living = asyncio.create_task(_signs_of_life(round, matcher))
    try:
        await _publish(round, matcher)
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)


async def _signs_of_life(round: Round, matcher: Matcher) -> None:
    """Until this run is overtaken."""
    wanted = True
    while wanted:
        await asyncio.sleep(rounds.ROUND_LEASE.total_seconds() / 3)
        wanted = await _still_at_it(round, matcher)


async def _still_at_it(round: Round, matcher: Matcher) -> bool:
    """Renew the lease and nothing else; False when this run was overtaken."""
    recorded_at = matcher.clock.machine_now()
    return await matcher.rounds.renew_lease(
        round.round_id, lambda state: rounds.extend_lease(state, round.run, recorded_at)
    )


async def _publish(round: Round, matcher: Matcher) -> None:
    cursor = round.cursor
    earlier = await matcher.pairings.earlier_pairs(except_round=round.round_id)
    while True:
        page = [found async for found in matcher.proposals.page(round, limit=STRETCH, after=cursor)]
        if not page:
            break
        proposed = await _publish_stretch(round, page, earlier, matcher)
        cursor = page[-1]["place"]
        if not await _published_up_to(round, cursor, proposed, len(page) - proposed, matcher):
            return
    moment = matcher.clock.moment()
    await matcher.rounds.update(
        round.round_id, Op.once(), lambda state: rounds.complete_publication(_known(state), round.run, moment)
    )


async def _advance(round: Round, matcher: Matcher, progress: RoundProgress) -> bool:
    """Give a sign of life; False when this run is not wanted any longer."""
    machine = matcher.clock.machine_now()
    saved = await matcher.rounds.update(
        round.round_id, Op.once(), lambda state: rounds.record_progress(_known(state), round.run, progress, machine)
    )
    return saved.changed


async def _published_up_to(round: Round, cursor: str, proposed: int, withdrawn: int, matcher: Matcher) -> bool:
    machine = matcher.clock.machine_now()
    saved = await matcher.rounds.update(
        round.round_id,
        Op.once(),
        lambda state: rounds.record_published_batch(_known(state), round.run, cursor, proposed, withdrawn, machine),
    )
    return saved.changed


async def _publish_stretch(
    round: Round, page: Sequence[Document], earlier: set[tuple[str, str]], matcher: Matcher
) -> int:
    """Check each again, reserve and propose; returns how many have been proposed."""
    members = [id for found in page for id in (found["senior"], found["junior"])]
    profiles = await matcher.members.get_many(members)
    outcomes: dict[str, reservation.Outcome] = {}
    plans = []
    for found in page:
        senior, junior = profiles.get(found["senior"]), profiles.get(found["junior"])
        why = _impossible(round, senior, junior, earlier, matcher)
        if why is not None:
            outcomes[found["pairing_id"]] = why
        elif senior is not None and junior is not None:
            plans.append(_plan(round, found, senior, junior))
    outcomes |= await _reserved(plans, matcher)
    return await _noted(page, outcomes, matcher)


async def _noted(page: Sequence[Document], outcomes: Mapping[str, reservation.Outcome], matcher: Matcher) -> int:
    """Write down what has become of each; a proposal that an erasure has removed meanwhile does not come back."""
    ids: dict[str | None, list[str]] = {None: []}
    for found in page:
        outcome = outcomes[found["pairing_id"]]
        ids.setdefault(outcome.detail if isinstance(outcome, CommandRejected) else None, []).append(found["_id"])
    for why, these in ids.items():
        state = "proposed" if why is None else "withdrawn"
        await matcher.proposals.collection.update_many({"_id": {"$in": these}}, {"$set": {"state": state, "why": why}})
    return len(ids[None])


async def _reserved(plans: Sequence[PairingPlan], matcher: Matcher) -> dict[str, reservation.Outcome]:
    """What a crash left half-way the sweep may give up while it is tried again here: then it is begun afresh."""
    outcomes = await reservation.reserve(matcher, plans)
    overtaken = [plan for plan in plans if outcomes[plan.pairing_id] is reservation.NO_LONGER_POSSIBLE]
    return {**outcomes, **await reservation.reserve(matcher, overtaken)}


def _impossible(
    round: Round,
    senior: ProfileChanged | None,
    junior: ProfileChanged | None,
    earlier: set[tuple[str, str]],
    matcher: Matcher,
) -> CommandRejected | None:
    """Why a pair of this round may not be proposed any longer.

    What concerns both is told in one sentence for every rule, private ones too: nothing shows which it was.
    """
    both = {(senior.member_id, junior.member_id), (junior.member_id, senior.member_id)} if senior and junior else set()
    again = [junior.member_id] if junior is not None and both & earlier else []
    eligibility = assess(senior, junior, matcher.current_terms(round), again)
    for profile, candidate in ((senior, eligibility.senior), (junior, eligibility.junior)):
        if profile is None:
            return CommandRejected("gone", "One of them takes part no longer.")
        if candidate.absence is not None:
            return CommandRejected(candidate.absence, rules.REASON_TEXTS[candidate.absence])
    return reservation.NO_LONGER_POSSIBLE if eligibility.breaks_rule or eligibility.shortfalls else None


def _plan(round: Round, found: Document, senior: ProfileChanged, junior: ProfileChanged) -> PairingPlan:
    return PairingPlan(
        pairing_id=found["pairing_id"],
        programme_id=round.programme_id,
        programme_version=round.programme_version,
        origin="round",
        round_id=round.round_id,
        senior=build_participant(senior, "senior"),
        junior=build_participant(junior, "junior"),
        focus=tuple(Focus.model_validate(one) for one in found["focus"]),
        reasons=found["reasons"],
        fit=Fit.model_validate(found["fit"]),
        chosen=_chosen(round, found),
        answer_within_working_days=round.settings.matching.answer_within_working_days,
        duration_months=round.settings.meetings.duration_months,
    )


def _chosen(round: Round, found: Document) -> Selection:
    """How the pair came about: what the solver says of it, or what the change by hand has cost."""
    pair = (found["senior"], found["junior"])
    by_hand = next((one for one in round.adjustments if one.is_wanted and one.kept and pair in one.pairs), None)
    ups = {side: up for side in SIDES if (up := found.get(f"runner_up_of_{side}")) is not None}
    return Selection(
        seed=round.seed,
        probability=found.get("probability"),
        runner_up={side: RunnerUp.model_validate(up) for side, up in ups.items()},
        override_cost=by_hand.cost if by_hand else None,
    )


def _known(state: Round | None) -> Round:
    assert state is not None, "a round that is worked on exists"
    return state
