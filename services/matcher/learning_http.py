"""What a programme has learned about its weights: seen, computed now, previewed, released, dismissed, undone."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from chassis.aggregates import Op
from chassis.http import Command, Page, Paging, Principal, allow, command, page
from contracts.care import Band
from contracts.envelope import Instant
from contracts.programmes import Weights
from services.matcher import learning
from services.matcher.domain import weighting
from services.matcher.domain.learning import ASKED, ENOUGH, PARTS, Asked, Estimate, Gain, Part
from services.matcher.domain.programme import Programme
from services.matcher.domain.refused import Refused
from services.matcher.domain.weighting import BATCH, Learning, Preview, Version
from services.matcher.permissions import not_in_conflict, programme_for
from services.matcher.store import Matcher

Manager = Annotated[Principal, allow("coordinator", "admin")]
Managing = Annotated[Command, command("coordinator", "admin")]
Deciding = Callable[[Learning], weighting.Decision | None]


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
    def of(cls, gain: Gain) -> Self:
        return cls(by=round(gain.by, 3), noise=round(gain.noise, 3))


class EstimateView(BaseModel):
    """Where the outcomes point, and whether that is clear; ``outcomes`` are those it was computed from."""

    outcomes: int
    refusals: int | None
    points_to: dict[Part, ShareView]
    weights: Weights
    gain: GainView
    clear: bool

    @classmethod
    def of(cls, estimate: Estimate, least: int) -> Self:
        parts = zip(PARTS, estimate.shares, estimate.low, estimate.high, strict=True)
        return cls(
            outcomes=estimate.outcomes,
            refusals=_at_least(estimate.refusals, least),
            points_to={
                part: ShareView(share=round(share, 2), low=round(low, 2), high=round(high, 2))
                for part, share, low, high in parts
            },
            weights=estimate.weights,
            gain=GainView.of(estimate.gain),
            clear=estimate.clear,
        )


class PreviewView(BaseModel):
    """Everybody who is free now, matched with the weights in use and with these."""

    state: Literal["computing", "computed", "failed"]
    pairs_now: int
    pairs_then: int
    pairs_in_both: int
    people_with_another: int
    people_matched_then_only: int
    people_matched_now_only: int
    gain: GainView | None
    computed_at: Instant | None

    @classmethod
    def of(cls, preview: Preview) -> Self:
        gain = GainView.of(preview.gain) if preview.gain else None
        return cls(**preview.model_dump(exclude={"gain"}), gain=gain)


class VersionView(BaseModel):
    version: int
    state: Literal["proposed", "released", "superseded", "dismissed"]
    base: Weights
    estimate: EstimateView
    made_at: Instant
    decided_at: Instant | None
    decided_by: str | None
    preview: PreviewView | None

    @classmethod
    def of(cls, version: Version, least: int) -> Self:
        return cls(
            **version.model_dump(include={"version", "state", "base", "made_at", "decided_at", "decided_by"}),
            estimate=EstimateView.of(version.estimate, least),
            preview=PreviewView.of(version.preview) if version.preview else None,
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
    refusals: int | None
    bands: dict[Asked, dict[Band, int] | None]
    latest: EstimateView | None
    versions: list[VersionView]

    @classmethod
    def of(cls, programme: Programme, state: Learning | None) -> Self:
        found = state or Learning(programme_id=programme.programme_id)
        weights, least = programme.settings.matching.weights, max(BATCH, programme.settings.care.min_group)
        return cls(
            programme_id=programme.programme_id,
            learning=programme.settings.matching.learning,
            weights=weights,
            in_use=found.in_use(weights),
            before_learning=found.start,
            enough=ENOUGH,
            batch=least,
            outcomes=found.outcomes,
            refusals=_at_least(found.refusals, least),
            bands={asked: _whole(found.bands.get(asked, {}), least) for asked in ASKED},
            latest=EstimateView.of(found.latest, least) if found.latest else None,
            versions=[VersionView.of(one, least) for one in reversed(found.versions)],
        )


class DifferenceView(BaseModel):
    """A pair that is matched with one of the two sets of weights only."""

    senior: str
    junior: str
    only: Literal["now", "then"]


class PreviewPage(Page[DifferenceView]):
    preview: PreviewView


def learning_routes(matcher: Matcher) -> APIRouter:  # noqa: C901 - one small function for each route
    """Learning from outcomes: it proposes, a person releases."""
    router = APIRouter(tags=["learning"])

    async def managed(principal: Principal, id: str) -> Programme:
        return await programme_for(principal, id, "manage_programme", matcher)

    async def view(id: str) -> LearningView:
        stored = await matcher.learning.get(id)
        return LearningView.of((await matcher.programme(id)).state, stored.state if stored is not None else None)

    async def decided(id: str, op: Op, decide: Deciding) -> Learning:
        saved = await matcher.learning.update(id, op, lambda state: decide(learning.known(state)))
        return learning.known(saved.state)

    @router.get("/programmes/{id}/learning")
    async def seen(id: str, principal: Manager) -> LearningView:
        await managed(principal, id)
        return await view(id)

    @router.post("/programmes/{id}/learning/proposals")
    async def propose(id: str, asked: Managing) -> LearningView:
        """Now, instead of at the next midnight: the same comes of it."""
        await learning.take_in(await managed(asked.principal, id), asked.op, matcher)
        return await view(id)

    @router.post("/programmes/{id}/learning/{version}/preview", status_code=202)
    async def preview(id: str, version: int, asked: Managing) -> LearningView:
        programme = await managed(asked.principal, id)
        learning.require_on(programme)
        weights, machine = programme.settings.matching.weights, matcher.clock.machine()
        await decided(id, asked.op, lambda state: weighting.preview(state, version, weights, machine))
        learning.take_up(id, matcher)
        return await view(id)

    @router.get("/programmes/{id}/learning/{version}/preview")
    async def previewed(id: str, version: int, principal: Manager, paging: Annotated[Paging, Depends()]) -> PreviewPage:
        await managed(principal, id)
        stored = await matcher.learning.get(id)
        found = learning.known(stored.state if stored is not None else None).version(version).preview
        if found is None:
            raise Refused("no_preview", "There is no preview of this version yet; ask for it.")
        of = {"programme_id": id, "version": version}
        pages = matcher.differences.find(of, sort="place", limit=paging.more, after=paging.after)
        items, after = await page(pages, paging, lambda document: str(document["place"]))
        free = await not_in_conflict(principal, [{one["senior"], one["junior"]} for one in items], matcher)
        shown = [DifferenceView.model_validate(one) for one, ok in zip(items, free, strict=True) if ok]
        return PreviewPage(items=shown, next=after, preview=PreviewView.of(found))

    @router.post("/programmes/{id}/learning/{version}/release")
    async def release(id: str, version: int, asked: Managing) -> LearningView:
        """Sets the programme's weights; 0 are those before any learning, an earlier version undoes a later one."""
        programme = await managed(asked.principal, id)
        by, weights = asked.principal.member_id, programme.settings.matching.weights
        now, machine = matcher.clock.now(), matcher.clock.machine()

        def decide(state: Learning) -> weighting.Decision | None:
            if version and state.version(version).state == "proposed":
                learning.require_on(programme)
            return weighting.release(state, version, weights, by, now, machine)

        state = await decided(id, asked.op, decide)
        if state.releasing is not None and state.releasing.version == version:
            refused = await learning.finish_release(id, state.releasing, matcher)
            if refused is not None:
                raise refused
        return await view(id)

    @router.post("/programmes/{id}/learning/{version}/dismiss")
    async def dismiss(id: str, version: int, asked: Managing) -> LearningView:
        await managed(asked.principal, id)
        by, now = asked.principal.member_id, matcher.clock.now()
        await decided(id, asked.op, lambda state: weighting.dismiss(state, version, by, now))
        return await view(id)

    return router


def _at_least(count: int, least: int) -> int | None:
    """What is of too few is not told, none at all included."""
    return count if count >= least else None


def _whole(bands: Mapping[Band, int], least: int) -> dict[Band, int] | None:
    """All of them, or none where one is of a few: the others would tell of it."""
    return dict(bands) if bands and all(count >= least for count in bands.values()) else None
