"""Endpoints of what a programme has learned about its weights: read, propose, preview, release, dismiss, undo.

The estimate proposes; only a person releases.
"""

from collections.abc import Callable, Mapping
from typing import Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel

from chassis.core.commands import Op
from chassis.web.http import Principal
from contracts.envelope import Instant
from contracts.errors import CommandRejected
from contracts.feedback import Band
from contracts.programmes import Weights
from services.matcher.context import Matcher
from services.matcher.dependencies import (
    CoordinatorCommand,
    CoordinatorPrincipal,
    MatcherContext,
)
from services.matcher.domain.learning import weight_versions
from services.matcher.domain.learning.evidence import (
    MIN_OUTCOMES,
    OUTCOME_FIELDS,
    PART_NAMES,
    ExpectedGain,
    OutcomeField,
    PartName,
    WeightEstimate,
)
from services.matcher.domain.learning.weight_versions import (
    MIN_BATCH_OUTCOMES,
    ProgrammeLearning,
    ReleasePreview,
    WeightVersion,
)
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rounds.round import Round
from services.matcher.learning import commands as learning
from services.matcher.permissions import programme_for

router = APIRouter(tags=["learning"])

LearningDecision = Callable[[ProgrammeLearning], weight_versions.Decision | None]
BEFORE_IT_IS_SEEN = {"computing", "computed"}


class ShareView(BaseModel):
    """A weight's share of the whole, and its interval of 90 per cent; in hundredths."""

    share: float
    low: float
    high: float


class GainView(BaseModel):
    """By how much the mean outcome is expected to rise, of 1, give or take the noise; in thousandths."""

    by: float
    noise: float

    @classmethod
    def of(cls, gain: ExpectedGain) -> Self:
        return cls(by=round(gain.by, 3), noise=round(gain.noise, 3))


class EstimateView(BaseModel):
    """Where the outcomes point, and whether that is clear; ``outcomes`` are those it was computed from.

    How many refusals counted is told nowhere: between two batches it would tell a lapse by refusal from one by expiry.
    """

    outcomes: int
    points_to: dict[PartName, ShareView]
    weights: Weights
    gain: GainView
    clear: bool

    @classmethod
    def of(cls, estimate: WeightEstimate) -> Self:
        parts = zip(PART_NAMES, estimate.shares, estimate.low, estimate.high, strict=True)
        return cls(
            outcomes=estimate.outcomes,
            points_to={
                part: ShareView(share=round(share, 2), low=round(low, 2), high=round(high, 2))
                for part, share, low, high in parts
            },
            weights=estimate.weights,
            gain=GainView.of(estimate.gain),
            clear=estimate.is_clear,
        )


class PreviewView(BaseModel):
    """Two trials: everybody who is free, matched with the weights in use and with these.

    ``gain``: what is expected to change in the mean outcome of these very people; none where nobody was matched.
    ``compare``: where to see who would have another partner.
    """

    version: int
    now: str
    then: str
    state: Literal["computing", "computed", "failed"]
    pairs_now: int
    pairs_then: int
    gain: GainView | None
    compare: str

    @classmethod
    def of(cls, version: int, trials: tuple[Round, Round], gain: ExpectedGain | None) -> Self:
        now, then = trials
        states = {one.state for one in trials}
        return cls(
            version=version,
            now=now.round_id,
            then=then.round_id,
            state="computed" if states == {"computed"} else "computing" if states <= BEFORE_IT_IS_SEEN else "failed",
            pairs_now=now.pairs,
            pairs_then=then.pairs,
            gain=GainView.of(gain) if gain else None,
            compare=f"/rounds/{now.round_id}/compare/{then.round_id}",
        )


class VersionView(BaseModel):
    version: int
    state: Literal["proposed", "released", "superseded", "dismissed"]
    base: Weights
    estimate: EstimateView
    made_at: Instant
    decided_at: Instant | None
    decided_by: str | None
    preview: ReleasePreview | None

    @classmethod
    def of(cls, version: WeightVersion) -> Self:
        return cls(
            **version.model_dump(exclude={"estimate"}),
            estimate=EstimateView.of(version.estimate),
        )


class LearningView(BaseModel):
    """What is known after whole batches, of at least ``batch`` outcomes each; what was not released tells nothing.

    ``in_use``: the version that set the weights in use; 0 for those before any learning, none where a person set them.
    ``bands`` leaves out a question of which one band is of fewer than ``batch`` pairings.
    """

    programme_id: str
    learning: bool
    weights: Weights
    in_use: int | None
    before_learning: Weights | None
    enough: int
    batch: int
    outcomes: int
    bands: dict[OutcomeField, dict[Band, int] | None]
    latest: EstimateView | None
    versions: list[VersionView]

    @classmethod
    def of(cls, programme: Programme, state: ProgrammeLearning | None) -> Self:
        found = state or ProgrammeLearning(programme_id=programme.programme_id)
        weights, least = programme.settings.matching.weights, max(MIN_BATCH_OUTCOMES, programme.settings.care.min_group)
        return cls(
            programme_id=programme.programme_id,
            learning=programme.settings.matching.learning,
            weights=weights,
            in_use=found.find_version_in_use(weights),
            before_learning=found.start,
            enough=MIN_OUTCOMES,
            batch=least,
            outcomes=found.outcomes,
            bands={asked: _whole(found.bands.get(asked, {}), least) for asked in OUTCOME_FIELDS},
            latest=EstimateView.of(found.latest) if found.latest else None,
            versions=[VersionView.of(one) for one in reversed(found.versions)],
        )


@router.get("/programmes/{id}/learning")
async def get_learning(id: str, principal: CoordinatorPrincipal, matcher: MatcherContext) -> LearningView:
    await _managed_programme(principal, id, matcher)
    return await _view(id, matcher)


@router.post("/programmes/{id}/learning/proposals")
async def propose_weights(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> LearningView:
    """Now, instead of at the next midnight: the same comes of it."""
    await learning.take_in(await _managed_programme(command.principal, id, matcher), command.op, matcher)
    return await _view(id, matcher)


@router.post("/programmes/{id}/learning/{version}/preview", status_code=202)
async def start_preview(id: str, version: int, command: CoordinatorCommand, matcher: MatcherContext) -> PreviewView:
    programme = await _managed_programme(command.principal, id, matcher)
    learning.require_on(programme)
    weights, wanted = programme.settings.matching.weights, await _load_version(id, version, matcher)
    weight_versions.require_proposed(wanted, weights)
    trials = await learning.preview(programme, wanted, command.op, matcher)
    await _update_learning(
        id, command.op, matcher, lambda state: weight_versions.record_preview(state, version, weights, trials)
    )
    return PreviewView.of(version, await learning.trials_of(trials, matcher), None)


@router.get("/programmes/{id}/learning/{version}/preview")
async def get_preview(id: str, version: int, principal: CoordinatorPrincipal, matcher: MatcherContext) -> PreviewView:
    await _managed_programme(principal, id, matcher)
    found = await _load_version(id, version, matcher)
    if found.preview is None:
        raise CommandRejected("no_preview", "There is no preview of this version yet; ask for it.")
    trials = await learning.trials_of(found.preview, matcher)
    gain = await learning.gain_of(found, trials, matcher) if learning.computed(trials) else None
    return PreviewView.of(version, trials, gain)


@router.post("/programmes/{id}/learning/{version}/release")
async def release_version(id: str, version: int, command: CoordinatorCommand, matcher: MatcherContext) -> LearningView:
    """Sets the programme's weights; 0 are those before any learning, an earlier version undoes a later one."""
    programme = await _managed_programme(command.principal, id, matcher)
    by, weights = command.principal.member_id, programme.settings.matching.weights
    moment = matcher.clock.moment()
    looked_at = await _load_computed_preview(id, version, matcher)

    def decide(state: ProgrammeLearning) -> weight_versions.Decision | None:
        if version and state.find_version(version).state == "proposed":
            learning.require_on(programme)
        return weight_versions.start_release(state, version, weights, by, moment, reviewed=looked_at)

    state = await _update_learning(id, command.op, matcher, decide)
    if state.releasing is not None and state.releasing.version == version:
        refused = await learning.finish_release(id, state.releasing, matcher)
        if refused is not None:
            raise refused
    return await _view(id, matcher)


@router.post("/programmes/{id}/learning/{version}/dismiss")
async def dismiss_version(id: str, version: int, command: CoordinatorCommand, matcher: MatcherContext) -> LearningView:
    await _managed_programme(command.principal, id, matcher)
    by, now = command.principal.member_id, matcher.clock.now()
    await _update_learning(
        id, command.op, matcher, lambda state: weight_versions.dismiss_version(state, version, by, now)
    )
    return await _view(id, matcher)


async def _managed_programme(principal: Principal, id: str, matcher: Matcher) -> Programme:
    return await programme_for(principal, id, "manage_programme", matcher)


async def _view(id: str, matcher: Matcher) -> LearningView:
    stored = await matcher.learning.get(id)
    return LearningView.of((await matcher.programmes.load(id)).state, stored.state if stored is not None else None)


async def _update_learning(id: str, op: Op, matcher: Matcher, decide: LearningDecision) -> ProgrammeLearning:
    saved = await matcher.learning.update(id, op, lambda state: decide(learning.known(state)))
    return learning.known(saved.state)


async def _load_version(id: str, version: int, matcher: Matcher) -> WeightVersion:
    stored = await matcher.learning.get(id)
    return learning.known(stored.state if stored is not None else None).find_version(version)


async def _load_computed_preview(id: str, version: int, matcher: Matcher) -> ReleasePreview | None:
    """The preview of a version, if both of its trials are computed. Version 0 has none."""
    preview = (await _load_version(id, version, matcher)).preview if version else None
    if preview is None or not learning.computed(await learning.trials_of(preview, matcher)):
        return None
    return preview


def _whole(bands: Mapping[Band, int], least: int) -> dict[Band, int] | None:
    """All of them, or none where one is of a few: the others would tell of it."""
    return dict(bands) if bands and all(count >= least for count in bands.values()) else None
