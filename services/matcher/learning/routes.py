"""Endpoints of what a programme has learned about its weights: read, propose, preview, release, dismiss, undo.

The estimate proposes; only a person releases.
"""

from collections.abc import Callable

from fastapi import APIRouter

from chassis.core.commands import Op
from chassis.web.http import Principal
from contracts.errors import CommandRejected
from services.matcher.context import Matcher
from services.matcher.dependencies import (
    CoordinatorCommand,
    CoordinatorPrincipal,
    MatcherContext,
)
from services.matcher.domain.learning import weight_versions
from services.matcher.domain.learning.weight_versions import (
    ProgrammeLearning,
    ReleasePreview,
    WeightVersion,
)
from services.matcher.domain.programmes.programme import Programme
from services.matcher.learning import commands
from services.matcher.learning.views import LearningView, PreviewView
from services.matcher.permissions import programme_for
from services.matcher.stores.learning import LearningStore

router = APIRouter(tags=["learning"])

LearningDecision = Callable[[ProgrammeLearning], weight_versions.Decision | None]


@router.get("/programmes/{id}/learning")
async def get_learning(id: str, principal: CoordinatorPrincipal, matcher: MatcherContext) -> LearningView:
    await _managed_programme(principal, id, matcher)
    return await _view(id, matcher)


@router.post("/programmes/{id}/learning/proposals")
async def propose_weights(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> LearningView:
    """Add the new outcomes now instead of at the next midnight; the result is the same."""
    await commands.add_batch(await _managed_programme(command.principal, id, matcher), command.op, matcher)
    return await _view(id, matcher)


@router.post("/programmes/{id}/learning/{version}/preview", status_code=202)
async def start_preview(id: str, version: int, command: CoordinatorCommand, matcher: MatcherContext) -> PreviewView:
    programme = await _managed_programme(command.principal, id, matcher)
    commands.require_learning(programme)
    weights, proposed = programme.settings.matching.weights, await _load_version(id, version, matcher.learning)
    weight_versions.require_proposed(proposed, weights)
    trials = await commands.start_preview(programme, proposed, command.op, matcher)
    await _update_learning(
        id, command.op, matcher.learning, lambda state: weight_versions.record_preview(state, version, weights, trials)
    )
    return PreviewView.of(version, await commands.load_trials(trials, matcher.rounds), None)


@router.get("/programmes/{id}/learning/{version}/preview")
async def get_preview(id: str, version: int, principal: CoordinatorPrincipal, matcher: MatcherContext) -> PreviewView:
    await _managed_programme(principal, id, matcher)
    previewed = await _load_version(id, version, matcher.learning)
    if previewed.preview is None:
        raise CommandRejected("no_preview", "There is no preview of this version yet; ask for it.")
    trials = await commands.load_trials(previewed.preview, matcher.rounds)
    gain = await commands.estimate_gain(previewed, trials, matcher.proposals) if commands.are_computed(trials) else None
    return PreviewView.of(version, trials, gain)


@router.post("/programmes/{id}/learning/{version}/release")
async def release_version(id: str, version: int, command: CoordinatorCommand, matcher: MatcherContext) -> LearningView:
    """Set the programme's weights. Version 0: those before any learning. An earlier version undoes later ones."""
    programme = await _managed_programme(command.principal, id, matcher)
    by, weights = command.principal.member_id, programme.settings.matching.weights
    moment = matcher.clock.moment()
    reviewed = await _load_computed_preview(id, version, matcher)

    def decide(state: ProgrammeLearning) -> weight_versions.Decision | None:
        if version and state.find_version(version).state == "proposed":
            commands.require_learning(programme)
        return weight_versions.start_release(state, version, weights, by, moment, reviewed=reviewed)

    state = await _update_learning(id, command.op, matcher.learning, decide)
    if state.releasing is not None and state.releasing.version == version:
        rejection = await commands.finish_release(id, state.releasing, matcher)
        if rejection is not None:
            raise rejection
    return await _view(id, matcher)


@router.post("/programmes/{id}/learning/{version}/dismiss")
async def dismiss_version(id: str, version: int, command: CoordinatorCommand, matcher: MatcherContext) -> LearningView:
    await _managed_programme(command.principal, id, matcher)
    by, now = command.principal.member_id, matcher.clock.now()
    await _update_learning(
        id, command.op, matcher.learning, lambda state: weight_versions.dismiss_version(state, version, by, now)
    )
    return await _view(id, matcher)


async def _managed_programme(principal: Principal, id: str, matcher: Matcher) -> Programme:
    return await programme_for(principal, id, "manage_programme", matcher.programmes)


async def _view(id: str, matcher: Matcher) -> LearningView:
    return LearningView.of((await matcher.programmes.load(id)).state, await matcher.learning.load(id))


async def _update_learning(id: str, op: Op, store: LearningStore, decide: LearningDecision) -> ProgrammeLearning:
    saved = await store.update(id, op, lambda state: decide(commands.or_empty(state)))
    return commands.or_empty(saved.state)


async def _load_version(id: str, version: int, store: LearningStore) -> WeightVersion:
    return (await store.load(id)).find_version(version)


async def _load_computed_preview(id: str, version: int, matcher: Matcher) -> ReleasePreview | None:
    """The preview of a version, if both of its trials are computed. Version 0 has none."""
    preview = (await _load_version(id, version, matcher.learning)).preview if version else None
    if preview is None or not commands.are_computed(await commands.load_trials(preview, matcher.rounds)):
        return None
    return preview
