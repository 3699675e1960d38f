"""Learning from outcomes in the background: examples are stored and erased, batches are added, releases finished.

An example is a document of its own under the id of its pairing: numbers, no member ids. It is stored while the
programme learns, no longer than the programme's retention, and deleted with either of the two members. The programme's
``ProgrammeLearning`` is reviewed once a day by its ``due``; while a release is under way, its ``lease`` drives it.
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
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.round import Round
from services.matcher.domain.rounds.summary import RoundPair
from services.matcher.engine import weight_estimator
from services.matcher.rounds.lifecycle import start_work
from services.matcher.stores.learning import LearningStore
from services.matcher.stores.pairings import PairingStore
from services.matcher.stores.rounds import ProposalStore, RoundStore

log = logging.getLogger(__name__)

CHOSEN_BY_FIT = ("round", "rolling")  # members and coordinators choose for reasons of their own

RoundStart: TypeAlias = Callable[[Round | None], rounds.Decision | None]


async def record_outcome(outcome: OutcomeRecorded, cause: Envelope, matcher: Matcher) -> None:
    """Store how a pairing went, if its programme learns."""
    stored = await matcher.pairings.get(outcome.pairing_id)
    if stored is None or (fit := stored.state.plan.fit) is None:
        return
    example = evidence.example_from_outcome(fit, outcome, stored.state.plan.round_id)
    await _store_example(stored.state, example, outcome.happened_at, cause, matcher)


async def record_refusal(pairing: Pairing, at: datetime, cause: Envelope, matcher: Matcher) -> None:
    """Store that a pairing was refused, if its programme learns and the reason concerns fit."""
    refusals = [answer.reason for answer in pairing.answers.values() if answer.answer == "declined"]
    if not refusals or (fit := pairing.plan.fit) is None:
        return
    example = evidence.example_from_refusal(fit, refusals[0], pairing.plan.round_id)
    await _store_example(pairing, example, at, cause, matcher)


async def _store_example(
    pairing: Pairing, example: OutcomeExample | None, at: datetime, cause: Envelope, matcher: Matcher
) -> None:
    id = pairing.plan.programme_id
    if example is None or pairing.plan.origin not in CHOSEN_BY_FIT or pairing.gone:
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
    if await _find_erased([pairing.id], matcher.pairings):  # an erasure may have read before this was written
        await matcher.examples.delete_pairing(pairing.id)


async def forget_member(member_id: str, store: LearningStore, cause: Envelope | None) -> None:
    """Remove the member from the decisions that they made."""
    async for stored in store.decided_by(member_id):
        await store.update(
            stored.id,
            Op.once(),
            lambda state: weight_versions.erase_member(state, member_id) if state else None,
            cause=cause,
        )


async def when_learning_is_due(stored: Stored[ProgrammeLearning], matcher: Matcher) -> None:
    """Once a day: delete examples past their retention, and add a batch if there are enough new outcomes."""
    programme = (await matcher.programmes.load(stored.id)).state
    slot, now = stored_instant(stored.state.due), matcher.clock.now()
    is_on = programme.settings.matching.learning
    await _delete_old_examples(programme, now, matcher)
    if is_on:
        try:
            await add_batch(programme, Op(f"due/{slot}/batch"), matcher)
        except CommandRejected as rejection:
            log.debug("nothing new to learn yet: %s", rejection.code)
    await matcher.learning.update(
        stored.id,
        Op(f"due/{slot}/looked"),
        lambda state: weight_versions.complete_review(or_empty(state), now, more=is_on),
    )


async def _delete_old_examples(programme: Programme, now: datetime, matcher: Matcher) -> None:
    if not programme.settings.matching.learning:
        await matcher.examples.delete({"programme_id": programme.programme_id})
        return
    months = programme.settings.retention.months
    examples = await matcher.examples.of_programme(programme.programme_id)
    erased = await _find_erased([document["_id"] for document in examples], matcher.pairings)
    old = [document["_id"] for document in examples if add_months(document["since"].date(), months) <= now.date()]
    if obsolete := sorted({*erased, *old}):
        await matcher.examples.delete({"_id": {"$in": obsolete}})


async def add_batch(programme: Programme, op: Op, matcher: Matcher) -> SaveResult[ProgrammeLearning]:
    """Add the new outcomes as a batch, and propose weights if all outcomes together point clearly somewhere.

    Raises ``CommandRejected`` where the programme does not learn, or too few outcomes are new.
    """
    id, base, now = programme.programme_id, programme.settings.matching.weights, matcher.clock.now()
    before = await matcher.learning.load(id)
    documents = await matcher.examples.of_programme(id)
    examples = [OutcomeExample.model_validate(document["example"]) for document in documents]
    outcome_times = [
        document["heard_at"] for document, example in zip(documents, examples, strict=True) if example.bands is not None
    ]
    new = sum(before.through is None or at > before.through for at in outcome_times)
    is_full = weight_versions.is_batch_full(new, len(outcome_times) - new, programme.settings.care.min_group)
    is_enough = is_full and len(outcome_times) >= evidence.MIN_OUTCOMES
    estimate = await asyncio.to_thread(weight_estimator.estimate_weights, examples, base) if is_enough else None

    def decide(state: ProgrammeLearning | None) -> weight_versions.Decision | None:
        require_learning(programme)
        if not is_full:
            raise CommandRejected(
                "too_few_new_outcomes", "Too few outcomes are new since the last time; look again later."
            )
        batch = EvidenceBatch(
            outcomes=len(outcome_times),
            refusals=len(examples) - len(outcome_times),
            bands=evidence.count_bands(examples),
            through=max(outcome_times),
        )
        return weight_versions.add_batch(state, id, before.batches, batch, estimate, base, now)

    return await matcher.learning.update(id, op, decide)


def require_learning(programme: Programme) -> None:
    """Raises ``CommandRejected`` where the programme does not learn."""
    if not programme.settings.matching.learning:
        raise CommandRejected("learning_off", "This programme does not learn: its setting matching.learning is off.")


async def start_preview(programme: Programme, version: WeightVersion, op: Op, matcher: Matcher) -> ReleasePreview:
    """Begin two trial rounds, with the weights in use and with the version's. The same ``op`` begins the same two."""
    matching = programme.settings.matching.model_copy(update={"weights": version.weights})
    new_settings = programme.settings.model_copy(update={"matching": matching})
    ids = [derived_id("preview", op.key, name) for name in ("now", "then")]
    moment = matcher.clock.moment()
    for id, settings in zip(ids, (programme.settings, new_settings), strict=True):
        basis = programme.programme_id, programme.settings_version, programme.state, settings
        await matcher.rounds.update(id, op, _start_trial(id, basis, moment))
        start_work(id, matcher)
    return ReleasePreview(now=ids[0], then=ids[1])


def _start_trial(id: str, basis: tuple[str, int, str, ProgrammeSettings], moment: Moment) -> RoundStart:
    return lambda state: rounds.start_round(state, id, basis, 0, moment, trial=True)


async def load_trials(preview: ReleasePreview, store: RoundStore) -> tuple[Round, Round]:
    """The trial with the weights in use, and that with the version's."""
    return (await store.load(preview.now)).state, (await store.load(preview.then)).state


def are_computed(trials: Sequence[Round]) -> bool:
    return all(trial.state == "computed" for trial in trials)


async def estimate_gain(
    version: WeightVersion, trials: tuple[Round, Round], store: ProposalStore
) -> ExpectedGain | None:
    """The expected difference of outcomes between the two trials; None where one of them has no pairs."""
    now, then = [await store.pairs_of(trial) for trial in trials]
    if not now or not then:
        return None
    return weight_estimator.compare_expected_outcomes(version.estimate, _mean_parts(now), _mean_parts(then))


def _mean_parts(pairs: Sequence[RoundPair]) -> PartValues:
    first, second, third, fourth = np.mean([evidence.extract_parts(pair.fit) for pair in pairs], axis=0).tolist()
    return first, second, third, fourth


async def when_a_release_lease_expires(stored: Stored[ProgrammeLearning], matcher: Matcher) -> None:
    """Finish a release that a crash has interrupted."""
    if stored.state.releasing is not None:
        rejection = await finish_release(stored.id, stored.state.releasing, matcher)
        log.info("a release was taken up again: %s", rejection.code if rejection else "done")


async def finish_release(programme_id: str, release: PendingRelease, matcher: Matcher) -> CommandRejected | None:
    """Set the programme's weights, then save that it has them. Returns the reason if it can no longer have them."""
    moment = matcher.clock.moment()
    key = f"{release.version}/{stored_instant(release.at)}"
    rejection: CommandRejected | None = None
    try:
        await matcher.programmes.update(
            programme_id,
            Op(f"release/{key}"),
            lambda programme: weight_versions.apply_weights(programme, release, moment) if programme else None,
        )
    except CommandRejected as error:
        rejection = error
    await matcher.learning.update(
        programme_id,
        Op(f"released/{key}"),
        lambda state: weight_versions.complete_release(or_empty(state), release, succeeded=rejection is None),
    )
    return rejection


def or_empty(state: ProgrammeLearning | None) -> ProgrammeLearning:
    """An empty state where nothing was learned yet. It has no versions, so decisions about a version are rejected."""
    return state if state is not None else ProgrammeLearning(programme_id="")


async def _find_erased(pairing_ids: Sequence[str], store: PairingStore) -> set[str]:
    """Pairings of which a member was erased."""
    stored = await store.get_many(pairing_ids)
    return {id for id in pairing_ids if id not in stored or stored[id].state.gone}
