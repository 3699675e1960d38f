"""Learning from outcomes, behind the scenes: evidence is kept and forgotten, batches come in, previews are computed.

Examples are documents of their own, numbers without people, under the id of their pairing; they are kept while the
programme learns, no longer than its retention, and go with either of the two. The programme's ``Learning`` is driven by
its ``due``, once a day, and by its ``lease`` while a preview or a release is under way.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from chassis.aggregates import Op, Saved, Stored, instant
from chassis.ids import new_id
from chassis.mongo import Document
from contracts.care import OutcomeRecorded
from contracts.envelope import Envelope
from contracts.programmes import ProgrammeSettings, Weights
from services.matcher.domain import learning as lessons
from services.matcher.domain import weighting
from services.matcher.domain.calendar import add_months
from services.matcher.domain.learning import Example, Gain, Parts
from services.matcher.domain.pairing import Pairing
from services.matcher.domain.programme import Programme
from services.matcher.domain.refused import Refused
from services.matcher.domain.solving import Answer, Question
from services.matcher.domain.weighting import Batch, Learning, Preview, Releasing
from services.matcher.solver import Report, SolverDied, Unanswerable
from services.matcher.store import Matcher

log = logging.getLogger(__name__)

CHOSEN = ("round", "rolling")  # by the fit; what people or coordinators chose, they chose for reasons of their own

Pair = tuple[str, str]


async def remember_outcome(outcome: OutcomeRecorded, cause: Envelope, matcher: Matcher) -> None:
    """How a pairing went, if its programme learns."""
    stored = await matcher.pairings.get(outcome.pairing_id)
    if stored is None or (fit := stored.state.plan.fit) is None:
        return
    example = lessons.from_outcome(fit, outcome, stored.state.plan.round_id)
    await _remember(stored.state, example, outcome.happened_at, cause, matcher)


async def remember_refusal(pairing: Pairing, at: datetime, cause: Envelope, matcher: Matcher) -> None:
    """That a pairing was refused, if its programme learns and the reason concerns fit."""
    refusals = [answer.reason for answer in pairing.answers.values() if answer.answer == "declined"]
    if not refusals or (fit := pairing.plan.fit) is None:
        return
    example = lessons.from_refusal(fit, refusals[0], pairing.plan.round_id)
    await _remember(pairing, example, at, cause, matcher)


async def forget_pairing(pairing_id: str, matcher: Matcher) -> None:
    """Either of its two is to be forgotten."""
    await matcher.examples.delete({"_id": pairing_id})


async def forget_member(member_id: str, matcher: Matcher, cause: Envelope | None) -> None:
    """Their place in previews, and their name on what they decided."""
    await matcher.differences.delete({"$or": [{"senior": member_id}, {"junior": member_id}]})
    named = {"$or": [{"versions.decided_by": member_id}, {"releasing.by": member_id}]}
    async for stored in matcher.learning.find(named):
        await matcher.learning.update(
            stored.id,
            Op(new_id()),
            lambda state: weighting.forgotten(state, member_id) if state else None,
            cause=cause,
        )


async def look_again(stored: Stored[Learning], matcher: Matcher) -> None:
    """Once a day: forget what is to be kept no longer, and take in a batch where one is full."""
    programme = (await matcher.programme(stored.id)).state
    slot, now = instant(stored.state.due), matcher.clock.now()
    on = programme.settings.matching.learning
    await _clean_up(stored.state, programme, now, matcher)
    if on:
        await _take_in_if_full(programme, Op(f"due/{slot}/batch"), matcher)
    await matcher.learning.update(
        stored.id, Op(f"due/{slot}/looked"), lambda state: weighting.looked(known(state), now, more=on)
    )


async def take_in(programme: Programme, op: Op, matcher: Matcher) -> Saved[Learning]:
    """Take in the next batch, and propose what all evidence says, where that is clear.

    Raises ``Refused`` where the programme does not learn, or too few outcomes are new.
    """
    id, base, now = programme.programme_id, programme.settings.matching.weights, matcher.clock.now()
    stored = await matcher.learning.get(id)
    before = stored.state if stored is not None else Learning(programme_id=id)
    found = [document async for document in matcher.examples.find({"programme_id": id})]
    examples = [Example.model_validate(document["example"]) for document in found]
    heard = [document["heard_at"] for document, one in zip(found, examples, strict=True) if one.bands is not None]
    new = sum(before.through is None or at > before.through for at in heard)
    full = weighting.full(new, len(heard) - new, programme.settings.care.min_group)
    enough = full and len(heard) >= lessons.ENOUGH
    says = await asyncio.to_thread(lessons.estimate, examples, base) if enough else None

    def decide(state: Learning | None) -> weighting.Decision | None:
        require_on(programme)
        if not full:
            raise Refused("too_few_new_outcomes", "Too few outcomes are new since the last time; look again later.")
        batch = Batch(
            outcomes=len(heard),
            refusals=len(examples) - len(heard),
            bands=lessons.counted(examples),
            through=max(heard),
        )
        return weighting.learned(state, id, before.batches, batch, says, base, now)

    return await matcher.learning.update(id, op, decide)


def require_on(programme: Programme) -> None:
    """Raises ``Refused`` where the programme does not learn."""
    if not programme.settings.matching.learning:
        raise Refused("learning_off", "This programme does not learn: its setting matching.learning is off.")


def take_up(programme_id: str, matcher: Matcher) -> None:
    """Begin at once with what was asked for just now; the sweep would find it too, a little later."""
    matcher.tasks.start("looking ahead to other weights", _carry_on(programme_id, matcher))


async def drive(stored: Stored[Learning], matcher: Matcher) -> None:
    """A lease has passed: finish a release, or compute previews."""
    if stored.state.releasing is not None:
        refused = await finish_release(stored.id, stored.state.releasing, matcher)
        log.info("a release was taken up again: %s", refused.code if refused else "done")
    take_up(stored.id, matcher)


async def finish_release(programme_id: str, releasing: Releasing, matcher: Matcher) -> Refused | None:
    """Tell the programme, then note that it knows; or why it cannot have these weights any longer."""
    now, machine = matcher.clock.now(), matcher.clock.machine()

    def weighed(state: Programme | None) -> Any:
        return weighting.weigh(state, releasing, now, machine) if state else None

    refused: Refused | None = None
    try:
        await matcher.programmes.update(
            programme_id, Op(f"release/{releasing.version}/{instant(releasing.at)}"), weighed
        )
    except Refused as error:
        refused = error
    await matcher.learning.update(
        programme_id,
        Op(f"released/{releasing.version}/{instant(releasing.at)}"),
        lambda state: weighting.released(known(state), releasing, done=refused is None),
    )
    return refused


def known(state: Learning | None) -> Learning:
    """Where nothing was ever heard there are no versions, and every decision about one finds that by itself."""
    return state if state is not None else Learning(programme_id="")


async def _remember(pairing: Pairing, example: Example | None, at: datetime, cause: Envelope, matcher: Matcher) -> None:
    id = pairing.plan.programme_id
    if example is None or pairing.plan.origin not in CHOSEN or pairing.gone:
        return
    programme = (await matcher.programme(id)).state
    if not programme.settings.matching.learning:
        return
    await matcher.examples.put(
        {
            "_id": pairing.id,
            "programme_id": id,
            "heard_at": cause.time,
            "since": at,
            "example": example.model_dump(mode="json"),
        }
    )
    now = matcher.clock.now()
    await matcher.learning.update(
        id, Op(f"{cause.id}/remember"), lambda state: weighting.noticed(state, id, now), cause=cause
    )
    if await _gone([pairing.id], matcher):  # an erasure may have looked before this was written
        await forget_pairing(pairing.id, matcher)


async def _take_in_if_full(programme: Programme, op: Op, matcher: Matcher) -> None:
    try:
        await take_in(programme, op, matcher)
    except Refused as refused:
        log.debug("nothing new to learn yet: %s", refused.code)


async def _clean_up(learning: Learning, programme: Programme, now: datetime, matcher: Matcher) -> None:
    of = {"programme_id": programme.programme_id}
    if not programme.settings.matching.learning:
        await matcher.examples.delete(of)
        await matcher.differences.delete(of)
        return
    kept = programme.settings.retention.months
    found = [document async for document in matcher.examples.find(of)]
    gone = await _gone([document["_id"] for document in found], matcher)
    old = [document["_id"] for document in found if add_months(document["since"].date(), kept) <= now.date()]
    if leaving := sorted({*gone, *old}):
        await matcher.examples.delete({"_id": {"$in": leaving}})
    open_ = [one.version for one in learning.versions if one.state == "proposed"]
    await matcher.differences.delete({**of, "version": {"$nin": open_}})


async def _gone(pairing_ids: Sequence[str], matcher: Matcher) -> set[str]:
    """Those of which one of the two was forgotten."""
    stored = await matcher.pairings.get_many(pairing_ids)
    return {id for id in pairing_ids if id not in stored or stored[id].state.gone}


async def _carry_on(programme_id: str, matcher: Matcher) -> None:
    machine = matcher.clock.machine()
    claimed = await matcher.learning.update(
        programme_id, Op(new_id()), lambda state: weighting.claim(known(state), machine)
    )
    for number in weighting.previewing(claimed.now()) if claimed.changed else ():
        await _preview(programme_id, number, matcher)


async def _preview(programme_id: str, number: int, matcher: Matcher) -> None:
    """Match everybody who is free with both weights, each in a worker process, and keep what differs."""

    async def alive(_: Report = ("reading", 0, 0)) -> bool:
        machine = matcher.clock.machine()
        saved = await matcher.learning.update(
            programme_id, Op(new_id()), lambda state: weighting.alive(known(state), number, machine)
        )
        return saved.changed

    if not await alive():
        return
    programme, stored = await matcher.programme(programme_id), await matcher.learning.get(programme_id)
    version = known(stored.state if stored is not None else None).version(number)
    question = await _question(programme.state, matcher)
    try:
        now = await matcher.solver.solve(question, alive)
        other = replace(question, settings=_weighed(question.settings, version.weights))
        then = await matcher.solver.solve(other, alive) if now is not None else None
    except (SolverDied, Unanswerable):
        log.exception("a preview of other weights cannot be computed", extra={"programme": programme_id})
        await _previewed(programme_id, number, Preview(state="failed"), matcher)
        return
    if now is None or then is None:
        return
    await _keep_differences(programme_id, number, now, then, matcher)
    await _previewed(programme_id, number, _compared(version.estimate, now, then, matcher.clock.now()), matcher)


async def _previewed(programme_id: str, number: int, preview: Preview, matcher: Matcher) -> None:
    await matcher.learning.update(
        programme_id, Op(new_id()), lambda state: weighting.previewed(known(state), number, preview)
    )


async def _question(programme: Programme, matcher: Matcher) -> Question:
    id = programme.programme_id
    profiles = await matcher.enrolled(id)
    return Question(
        programme_id=id,
        settings=programme.settings,
        profiles=profiles,
        places=await matcher.free_places(profiles, id),
        earlier=sorted(await matcher.earlier()),
        on=matcher.clock.now().date(),
        seed=0,
    )


def _weighed(settings: ProgrammeSettings, weights: Weights) -> ProgrammeSettings:
    return settings.model_copy(update={"matching": settings.matching.model_copy(update={"weights": weights})})


def _compared(estimate: lessons.Estimate, now: Answer, then: Answer, at: datetime) -> Preview:
    before, after = _pairs(now), _pairs(then)
    partners_now, partners_then = _partners(before), _partners(after)
    both = partners_now.keys() & partners_then.keys()
    gain: Gain | None = None
    if before and after:
        gain = lessons.gain_between(estimate, _means(now), _means(then))
    return Preview(
        state="computed",
        pairs_now=len(before),
        pairs_then=len(after),
        pairs_in_both=len(before & after),
        people_with_another=sum(partners_now[one] != partners_then[one] for one in both),
        people_matched_then_only=len(partners_then.keys() - partners_now.keys()),
        people_matched_now_only=len(partners_now.keys() - partners_then.keys()),
        gain=gain,
        computed_at=at,
    )


def _pairs(answer: Answer) -> set[Pair]:
    return {(match.senior.id, match.junior.id) for match in answer.matches}


def _partners(pairs: set[Pair]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for senior, junior in pairs:
        found.setdefault(senior, set()).add(junior)
        found.setdefault(junior, set()).add(senior)
    return found


def _means(answer: Answer) -> Parts:
    one, two, three, four = np.mean([lessons.parts_of(match.fit) for match in answer.matches], axis=0).tolist()
    return one, two, three, four


async def _keep_differences(programme_id: str, number: int, now: Answer, then: Answer, matcher: Matcher) -> None:
    """Pairs that only one of the two has, each a document; what an earlier preview found goes."""
    of = {"programme_id": programme_id, "version": number}
    await matcher.differences.delete(of)
    before, after = _pairs(now), _pairs(then)
    changed = sorted([(*pair, "now") for pair in before - after] + [(*pair, "then") for pair in after - before])
    documents: list[Document] = [
        {**of, "_id": f"{programme_id}/{number}/{n:06d}", "place": f"{n:06d}", "senior": s, "junior": j, "only": only}
        for n, (s, j, only) in enumerate(changed)
    ]
    await matcher.differences.put_many(documents)
    members = {member for pair in before ^ after for member in pair}
    if gone := sorted(members - (await matcher.members.get_many(sorted(members))).keys()):
        theirs = [{"senior": {"$in": gone}}, {"junior": {"$in": gone}}]
        await matcher.differences.delete({**of, "$or": theirs})
