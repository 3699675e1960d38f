"""Learning from outcomes, behind the scenes: evidence is kept and forgotten, batches come in, releases are finished.

Examples are documents of their own, numbers without people, under the id of their pairing; they are kept while the
programme learns, no longer than its retention, and go with either of the two. The programme's ``ProgrammeLearning`` is
driven by its ``due``, once a day, and by its ``lease`` while a release is under way.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

import numpy as np

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import SaveResult, Stored, stored_instant
from contracts.envelope import Envelope
from contracts.errors import CommandRejected
from contracts.feedback import OutcomeRecorded
from contracts.moment import Moment
from contracts.programmes import ProgrammeSettings
from services.matcher.context import Matcher
from services.matcher.domain.fit.calendar import add_months
from services.matcher.domain.learning import evidence, weight_versions
from services.matcher.domain.learning.evidence import ExpectedGain, OutcomeExample, PartValues
from services.matcher.domain.learning.weight_versions import (
    EvidenceBatch,
    PendingRelease,
    ProgrammeLearning,
    ReleasePreview,
    WeightVersion,
)
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.domain.programmes import programme as programmes
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.round import Round
from services.matcher.domain.rounds.summary import RoundPair
from services.matcher.engine import weight_estimator
from services.matcher.rounds.lifecycle import start_work

log = logging.getLogger(__name__)

CHOSEN = ("round", "rolling")  # by the fit; what people or coordinators chose, they chose for reasons of their own

Beginning: TypeAlias = Callable[[Round | None], rounds.Decision | None]


async def remember_outcome(outcome: OutcomeRecorded, cause: Envelope, matcher: Matcher) -> None:
    """How a pairing went, if its programme learns."""
    stored = await matcher.pairings.get(outcome.pairing_id)
    if stored is None or (fit := stored.state.plan.fit) is None:
        return
    example = evidence.example_from_outcome(fit, outcome, stored.state.plan.round_id)
    await _remember(stored.state, example, outcome.happened_at, cause, matcher)


async def remember_refusal(pairing: Pairing, at: datetime, cause: Envelope, matcher: Matcher) -> None:
    """That a pairing was refused, if its programme learns and the reason concerns fit."""
    refusals = [answer.reason for answer in pairing.answers.values() if answer.answer == "declined"]
    if not refusals or (fit := pairing.plan.fit) is None:
        return
    example = evidence.example_from_refusal(fit, refusals[0], pairing.plan.round_id)
    await _remember(pairing, example, at, cause, matcher)


async def forget_pairing(pairing_id: str, matcher: Matcher) -> None:
    """Either of its two is to be forgotten."""
    await matcher.examples.delete({"_id": pairing_id})


async def forget_member(member_id: str, matcher: Matcher, cause: Envelope | None) -> None:
    """Their name on what they decided."""
    named = {"$or": [{"versions.decided_by": member_id}, {"releasing.by": member_id}]}
    async for stored in matcher.learning.find(named):
        await matcher.learning.update(
            stored.id,
            Op.once(),
            lambda state: weight_versions.erase_member(state, member_id) if state else None,
            cause=cause,
        )


async def when_learning_is_due(stored: Stored[ProgrammeLearning], matcher: Matcher) -> None:
    """Once a day: forget what is to be kept no longer, and take in a batch where one is full."""
    programme = (await matcher.programmes.load(stored.id)).state
    slot, now = stored_instant(stored.state.due), matcher.clock.now()
    on = programme.settings.matching.learning
    await _clean_up(programme, now, matcher)
    if on:
        await _take_in_if_full(programme, Op(f"due/{slot}/batch"), matcher)
    await matcher.learning.update(
        stored.id, Op(f"due/{slot}/looked"), lambda state: weight_versions.complete_review(known(state), now, more=on)
    )


async def take_in(programme: Programme, op: Op, matcher: Matcher) -> SaveResult[ProgrammeLearning]:
    """Take in the next batch, and propose what all evidence says, where that is clear.

    Raises ``CommandRejected`` where the programme does not learn, or too few outcomes are new.
    """
    id, base, now = programme.programme_id, programme.settings.matching.weights, matcher.clock.now()
    stored = await matcher.learning.get(id)
    before = stored.state if stored is not None else ProgrammeLearning(programme_id=id)
    found = [document async for document in matcher.examples.find({"programme_id": id})]
    examples = [OutcomeExample.model_validate(document["example"]) for document in found]
    heard = [document["heard_at"] for document, one in zip(found, examples, strict=True) if one.bands is not None]
    new = sum(before.through is None or at > before.through for at in heard)
    full = weight_versions.is_batch_full(new, len(heard) - new, programme.settings.care.min_group)
    enough = full and len(heard) >= evidence.MIN_OUTCOMES
    says = await asyncio.to_thread(weight_estimator.estimate_weights, examples, base) if enough else None

    def decide(state: ProgrammeLearning | None) -> weight_versions.Decision | None:
        require_on(programme)
        if not full:
            raise CommandRejected(
                "too_few_new_outcomes", "Too few outcomes are new since the last time; look again later."
            )
        batch = EvidenceBatch(
            outcomes=len(heard),
            refusals=len(examples) - len(heard),
            bands=evidence.count_bands(examples),
            through=max(heard),
        )
        return weight_versions.add_batch(state, id, before.batches, batch, says, base, now)

    return await matcher.learning.update(id, op, decide)


def require_on(programme: Programme) -> None:
    """Raises ``CommandRejected`` where the programme does not learn."""
    if not programme.settings.matching.learning:
        raise CommandRejected("learning_off", "This programme does not learn: its setting matching.learning is off.")


async def when_a_release_lease_expires(stored: Stored[ProgrammeLearning], matcher: Matcher) -> None:
    """A lease has passed: finish the release."""
    if stored.state.releasing is not None:
        refused = await finish_release(stored.id, stored.state.releasing, matcher)
        log.info("a release was taken up again: %s", refused.code if refused else "done")


async def preview(programme: Programme, version: WeightVersion, op: Op, matcher: Matcher) -> ReleasePreview:
    """Begin two trials, with the weights in use and with the version's; the same operation begins the same two."""
    matching = programme.settings.matching.model_copy(update={"weights": version.weights})
    then = programme.settings.model_copy(update={"matching": matching})
    ids = [derived_id("preview", op.key, name) for name in ("now", "then")]
    moment = matcher.clock.moment()
    for id, settings in zip(ids, (programme.settings, then), strict=True):
        about = programme.programme_id, programme.settings_version, programme.state, settings
        await matcher.rounds.update(id, op, _begun(id, about, moment))
        start_work(id, matcher)
    return ReleasePreview(now=ids[0], then=ids[1])


async def trials_of(preview: ReleasePreview, matcher: Matcher) -> tuple[Round, Round]:
    return (await matcher.rounds.load(preview.now)).state, (await matcher.rounds.load(preview.then)).state


def computed(trials: Sequence[Round]) -> bool:
    """Whether both can be looked at."""
    return all(one.state == "computed" for one in trials)


async def gain_of(version: WeightVersion, trials: tuple[Round, Round], matcher: Matcher) -> ExpectedGain | None:
    """What the outcomes say of the difference between the two; None where one of them has no pairs."""
    now, then = [await matcher.proposals.pairs_of(one) for one in trials]
    return (
        weight_estimator.compare_expected_outcomes(version.estimate, _means(now), _means(then))
        if now and then
        else None
    )


async def finish_release(programme_id: str, releasing: PendingRelease, matcher: Matcher) -> CommandRejected | None:
    """Tell the programme, then note that it knows; or why it cannot have these weights any longer."""
    moment = matcher.clock.moment()

    def weighed(state: Programme | None) -> programmes.Decision | None:
        return weight_versions.apply_weights(state, releasing, moment) if state else None

    refused: CommandRejected | None = None
    try:
        await matcher.programmes.update(
            programme_id, Op(f"release/{releasing.version}/{stored_instant(releasing.at)}"), weighed
        )
    except CommandRejected as error:
        refused = error
    await matcher.learning.update(
        programme_id,
        Op(f"released/{releasing.version}/{stored_instant(releasing.at)}"),
        lambda state: weight_versions.complete_release(known(state), releasing, succeeded=refused is None),
    )
    return refused


def known(state: ProgrammeLearning | None) -> ProgrammeLearning:
    """Where nothing was ever heard there are no versions, and every decision about one finds that by itself."""
    return state if state is not None else ProgrammeLearning(programme_id="")


async def _remember(
    pairing: Pairing, example: OutcomeExample | None, at: datetime, cause: Envelope, matcher: Matcher
) -> None:
    id = pairing.plan.programme_id
    if example is None or pairing.plan.origin not in CHOSEN or pairing.gone:
        return
    programme = (await matcher.programmes.load(id)).state
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
        id, Op.handling(cause, "remember"), lambda state: weight_versions.schedule_review(state, id, now), cause=cause
    )
    if await _gone([pairing.id], matcher):  # an erasure may have looked before this was written
        await forget_pairing(pairing.id, matcher)


async def _take_in_if_full(programme: Programme, op: Op, matcher: Matcher) -> None:
    try:
        await take_in(programme, op, matcher)
    except CommandRejected as refused:
        log.debug("nothing new to learn yet: %s", refused.code)


async def _clean_up(programme: Programme, now: datetime, matcher: Matcher) -> None:
    of = {"programme_id": programme.programme_id}
    if not programme.settings.matching.learning:
        await matcher.examples.delete(of)
        return
    kept = programme.settings.retention.months
    found = [document async for document in matcher.examples.find(of)]
    gone = await _gone([document["_id"] for document in found], matcher)
    old = [document["_id"] for document in found if add_months(document["since"].date(), kept) <= now.date()]
    if leaving := sorted({*gone, *old}):
        await matcher.examples.delete({"_id": {"$in": leaving}})


async def _gone(pairing_ids: Sequence[str], matcher: Matcher) -> set[str]:
    """Those of which one of the two was forgotten."""
    stored = await matcher.pairings.get_many(pairing_ids)
    return {id for id in pairing_ids if id not in stored or stored[id].state.gone}


def _begun(id: str, about: tuple[str, int, str, ProgrammeSettings], moment: Moment) -> Beginning:
    return lambda state: rounds.start_round(state, id, about, 0, moment, trial=True)


def _means(pairs: Sequence[RoundPair]) -> PartValues:
    one, two, three, four = np.mean([evidence.extract_parts(pair.fit) for pair in pairs], axis=0).tolist()
    return one, two, three, four
