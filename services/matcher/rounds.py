"""What happens to a round behind the scenes: it is computed in a worker process, and published stretch by stretch.

Both are driven by the round's lease: whoever claims it goes on where it stands. A run that was overtaken finds that its
saves no longer apply, and stops.
"""

import logging
from collections.abc import Sequence
from typing import Any

from chassis.aggregates import Op, Stored
from chassis.ids import derived_id, new_id
from chassis.mongo import Document
from contracts.pairings import Focus, Participant
from contracts.people import ProfileChanged
from services.matcher import seats
from services.matcher.domain import round as rounds
from services.matcher.domain import rules
from services.matcher.domain.fit import Fit, fit
from services.matcher.domain.pairing import Plan
from services.matcher.domain.refused import Refused
from services.matcher.domain.round import Progress, Round, Totals
from services.matcher.domain.solving import Answer, LeftOver, Match, Question
from services.matcher.solver import Report, Unanswerable
from services.matcher.store import Matcher

log = logging.getLogger(__name__)

STRETCH = 500  # proposals that go out between two saves of the cursor
RUNS = 5  # attempts at a computation that keeps dying


def take_up(round_id: str, matcher: Matcher) -> None:
    """Begin at once with what was asked for just now; the sweep would find it too, a little later."""
    matcher.tasks.start("taking up a round", _claim(round_id, matcher))


async def drive(stored: Stored[Round], matcher: Matcher) -> None:
    """Take up a round whose lease has passed; the work goes on beside the sweep."""
    await _claim(stored.id, matcher)


async def _claim(round_id: str, matcher: Matcher) -> None:
    machine = matcher.clock.machine()
    claimed = await matcher.rounds.update(round_id, Op(new_id()), lambda state: rounds.claim(_known(state), machine))
    if not claimed.changed:
        return
    round = claimed.now()
    if round.state == "computing" and round.run > RUNS:
        await _fail(round, "It was begun several times and never finished; look at the service's memory.", matcher)
        return
    work = compute if round.state == "computing" else publish
    matcher.tasks.start(f"{work.__name__} of a round", work(round, matcher))


async def compute(round: Round, matcher: Matcher) -> None:
    """Read, solve, store; then the round waits for its review."""
    if not await _advance(round, matcher, "reading"):
        return
    question = await _question(round, matcher)

    async def alive(report: Report) -> bool:
        stage, done, total = report
        return await _advance(round, matcher, stage, done, total)

    try:
        answer = await matcher.solver.solve(question, alive)
    except Unanswerable:
        log.exception("a round cannot be computed", extra={"round": round.round_id})
        await _fail(round, "It cannot be computed; the service's log says more.", matcher)
        return
    if answer is None or not await _advance(round, matcher, "writing"):
        return
    await _store(round, answer, matcher)
    now, machine = matcher.clock.now(), matcher.clock.machine()
    await matcher.rounds.update(
        round.round_id,
        Op(new_id()),
        lambda state: rounds.computed(_known(state), round.run, _totals(answer), now, machine),
    )


async def _fail(round: Round, why: str, matcher: Matcher) -> None:
    now, machine = matcher.clock.now(), matcher.clock.machine()
    await matcher.rounds.update(
        round.round_id, Op(new_id()), lambda state: rounds.failed(_known(state), round.run, why, now, machine)
    )


async def publish(round: Round, matcher: Matcher) -> None:
    """Send out what has not gone out yet."""
    cursor = round.cursor
    while True:
        page = [found async for found in matcher.proposals_page(round, limit=STRETCH, after=cursor)]
        if not page:
            break
        proposed = await _publish_stretch(round, page, matcher)
        cursor = page[-1]["place"]
        if not await _published_up_to(round, cursor, proposed, len(page) - proposed, matcher):
            return
    now, machine = matcher.clock.now(), matcher.clock.machine()
    await matcher.rounds.update(
        round.round_id, Op(new_id()), lambda state: rounds.published(_known(state), round.run, now, machine)
    )


async def _question(round: Round, matcher: Matcher) -> Question:
    profiles = await matcher.enrolled(round.programme_id)
    return Question(
        programme_id=round.programme_id,
        settings=round.settings,
        profiles=profiles,
        places=await matcher.free_places(profiles, round.programme_id),
        earlier=sorted(await matcher.earlier()),
        on=matcher.clock.now().date(),
        seed=round.seed,
    )


async def _advance(round: Round, matcher: Matcher, stage: str, done: int = 0, total: int = 0) -> bool:
    """Give a sign of life; False when this run is not wanted any longer."""
    progress = Progress.model_validate({"stage": stage, "done": done, "total": total})
    machine = matcher.clock.machine()
    saved = await matcher.rounds.update(
        round.round_id, Op(new_id()), lambda state: rounds.advance(_known(state), round.run, progress, machine)
    )
    return saved.changed


async def _published_up_to(round: Round, cursor: str, proposed: int, withdrawn: int, matcher: Matcher) -> bool:
    machine = matcher.clock.machine()
    saved = await matcher.rounds.update(
        round.round_id,
        Op(new_id()),
        lambda state: rounds.published_up_to(_known(state), round.run, cursor, proposed, withdrawn, machine),
    )
    return saved.changed


async def _store(round: Round, answer: Answer, matcher: Matcher) -> None:
    """Proposals and people left over, each a document under this run; those of earlier runs go."""
    earlier = {"round_id": round.round_id, "run": {"$ne": round.run}}
    await matcher.proposals.delete(earlier)
    await matcher.left_over.delete(earlier)
    await matcher.proposals.put_many([_proposal(round, n, match) for n, match in enumerate(answer.matches)])
    await matcher.left_over.put_many([_left_over(round, left) for left in answer.left_over])
    members = {id for match in answer.matches for id in (match.senior.id, match.junior.id)}
    await _drop_the_erased(round, members | {left.member.id for left in answer.left_over}, matcher)


async def _drop_the_erased(round: Round, members: set[str], matcher: Matcher) -> None:
    """Whoever writes about people looks afterwards who is gone: their erasure may have looked before."""
    gone = sorted(members - (await matcher.members.get_many(sorted(members))).keys())
    if gone:
        theirs = [{"senior": {"$in": gone}}, {"junior": {"$in": gone}}, {"member_id": {"$in": gone}}]
        for documents in (matcher.proposals, matcher.left_over):
            await documents.delete({"round_id": round.round_id, "$or": theirs})


def _proposal(round: Round, n: int, match: Match) -> Document:
    return {
        "_id": f"{round.round_id}/{round.run}/{n:06d}",
        "round_id": round.round_id,
        "run": round.run,
        "place": f"{n:06d}",
        "pairing_id": derived_id("pairing", round.round_id, match.senior.id, match.junior.id),
        "senior": match.senior.id,
        "junior": match.junior.id,
        "fit": match.fit.model_dump(),
        "reasons": {side: list(texts) for side, texts in match.reasons.items()},
        "focus": [one.model_dump() for one in match.focus],
        "state": "waiting",
        "why": None,
    }


def _left_over(round: Round, left: LeftOver) -> Document:
    return {
        "_id": f"{round.round_id}/{round.run}/{left.member.id}",
        "round_id": round.round_id,
        "run": round.run,
        "member_id": left.member.id,
        "side": left.side,
        "department_id": left.member.profile.department_id,
        "code": left.code,
        "text": left.text,
        "numbers": dict(left.numbers),
    }


def _totals(answer: Answer) -> Totals:
    return Totals(
        seniors=answer.seniors,
        juniors=answer.juniors,
        pairs=len(answer.matches),
        unmatched_seniors=sum(left.side == "senior" for left in answer.left_over),
        unmatched_juniors=sum(left.side == "junior" for left in answer.left_over),
        total_fit=answer.total,
        lowest_fit=answer.matches[-1].fit.score if answer.matches else None,
        why=answer.why_empty,
    )


async def _publish_stretch(round: Round, page: Sequence[Document], matcher: Matcher) -> int:
    """Check each again, reserve and propose; returns how many have been proposed."""
    members = [id for found in page for id in (found["senior"], found["junior"])]
    profiles = await matcher.members.get_many(members)
    earlier = await matcher.earlier(but_of_round=round.round_id, of=members)
    outcomes: dict[str, seats.Outcome] = {}
    plans = []
    for found in page:
        senior, junior = profiles.get(found["senior"]), profiles.get(found["junior"])
        why = _impossible(round, senior, junior, earlier, matcher)
        if why is not None:
            outcomes[found["pairing_id"]] = why
        elif senior is not None and junior is not None:
            plans.append(_plan(round, found, senior, junior))
    outcomes |= await _reserved(plans, matcher)
    after = [_with_outcome(found, outcomes[found["pairing_id"]]) for found in page]
    await matcher.proposals.put_many(after)
    await _drop_the_erased(round, set(members), matcher)
    return sum(found["state"] == "proposed" for found in after)


async def _reserved(plans: Sequence[Plan], matcher: Matcher) -> dict[str, seats.Outcome]:
    """What a crash left half-way the sweep may give up while it is tried again here: then it is begun afresh."""
    outcomes = await seats.reserve(matcher, plans)
    overtaken = [plan for plan in plans if outcomes[plan.pairing_id] is seats.OVER]
    return {**outcomes, **await seats.reserve(matcher, overtaken)}


def _impossible(
    round: Round,
    senior: ProfileChanged | None,
    junior: ProfileChanged | None,
    earlier: set[tuple[str, str]],
    matcher: Matcher,
) -> Refused | None:
    """Why a pair of this round may not be proposed any longer.

    What concerns both is told in one sentence for every rule, private ones too: nothing shows which it was.
    """
    today = matcher.clock.now().date()
    for profile in (senior, junior):
        if profile is None:
            return Refused("gone", "One of them takes part no longer.")
        if (absent := rules.absent(profile, round.programme_id, round.settings, today)) is not None:
            return Refused(absent, rules.WORDS[absent])
    s = rules.enrolled(senior, round.programme_id) if senior else None
    j = rules.enrolled(junior, round.programme_id) if junior else None
    assert s is not None, "who is not absent is enrolled"
    assert j is not None, "who is not absent is enrolled"
    again = [other for pair in earlier if s.id in pair for other in pair]
    broken = rules.broken(s, j, round.settings, today, [id for id in again if id != s.id])
    short = fit(s, j, round.settings, matcher.taxonomy, today).falls_short(round.settings)
    return seats.OVER if broken or short else None


def _plan(round: Round, found: Document, senior: ProfileChanged, junior: ProfileChanged) -> Plan:
    return Plan(
        pairing_id=found["pairing_id"],
        programme_id=round.programme_id,
        programme_version=round.programme_version,
        origin="round",
        round_id=round.round_id,
        senior=participant(senior, "senior"),
        junior=participant(junior, "junior"),
        focus=tuple(Focus.model_validate(one) for one in found["focus"]),
        reasons=found["reasons"],
        fit=Fit.model_validate(found["fit"]),
        answer_within_working_days=round.settings.matching.answer_within_working_days,
        duration_months=round.settings.meetings.duration_months,
    )


def participant(profile: ProfileChanged, side: Any) -> Participant:
    """Somebody as a pairing's events name them."""
    return Participant(
        member_id=profile.member_id,
        side=side,
        organisation_id=profile.organisation_id,
        department_id=profile.department_id,
    )


def _with_outcome(found: Document, outcome: seats.Outcome) -> Document:
    if isinstance(outcome, Refused):
        return {**found, "state": "withdrawn", "why": outcome.words}
    return {**found, "state": "proposed", "why": None}


def _known(state: Round | None) -> Round:
    assert state is not None, "a round that is worked on exists"
    return state
