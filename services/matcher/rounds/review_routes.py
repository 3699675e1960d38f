"""A computed round under review: its summary, changes by hand, and the comparison with another round."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter
from pydantic import Field, model_validator

from chassis.core.ids import derived_id
from chassis.web.http import RequestBody
from contracts.errors import CommandRejected, InvalidCommand
from services.matcher.dependencies import (
    CoordinatorCommand,
    CoordinatorPrincipal,
    MatcherContext,
    MemberPrincipal,
    Paging,
)
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.adjustment import Adjustment, Pair
from services.matcher.permissions import not_in_conflict, require_member
from services.matcher.rounds.lifecycle import start_work
from services.matcher.rounds.queries import check_adjustment, explain_to_member
from services.matcher.rounds.routes import load_round, update_round, view_proposals
from services.matcher.rounds.views import (
    AdjustmentView,
    ComparisonView,
    DifferenceView,
    RoundView,
    SummaryView,
    WhyNotView,
)

router = APIRouter(tags=["rounds"])

MemberId = Annotated[str, Field(min_length=1, max_length=64)]


class AdjustedPair(RequestBody):
    senior: MemberId
    junior: MemberId

    @property
    def members(self) -> Pair:
        return self.senior, self.junior


class AdjustmentBody(RequestBody):
    """``pair``: hold it together (*lock*) or keep it apart (*forbid*). ``swap``: two pairs that exchange partners."""

    kind: Literal["lock", "forbid", "swap"]
    pair: AdjustedPair | None = None
    swap: tuple[AdjustedPair, AdjustedPair] | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if (self.kind == "swap") != (self.swap is not None) or (self.swap is None) != (self.pair is not None):
            raise ValueError("a swap names two pairs as `swap`, everything else one as `pair`")
        if self.swap is not None and len({id for pair in self.swap for id in pair.members}) != 4:
            raise ValueError("four different people take part in a swap")
        return self

    def to_adjustment(self, id: str) -> tuple[Adjustment, tuple[Pair, ...]]:
        """The adjustment, and the pairs that it takes apart."""
        if self.swap is not None:
            first, second = self.swap
            pairs = ((first.senior, second.junior), (second.senior, first.junior))
            return Adjustment(adjustment_id=id, kind="swap", pairs=pairs), (first.members, second.members)
        assert self.pair is not None, "the body was checked"
        return Adjustment(adjustment_id=id, kind=self.kind, pairs=(self.pair.members,)), ()


class ResolveBody(RequestBody):
    """``whole``: solve it with today's profiles, instead of repairing only what the changes concern."""

    whole: bool = False


@router.get("/rounds/{id}/summary")
async def get_summary(id: str, principal: CoordinatorPrincipal, matcher: MatcherContext) -> SummaryView:
    """Totals, coverage by department and side, the worst pairs, and why members have no partner."""
    round = await load_round(id, principal, matcher)
    summary = await matcher.summaries.of_round(round)
    worst = await matcher.proposals.worst(round, summary)
    return SummaryView.of_summary(round, summary, await view_proposals(worst, principal, matcher))


@router.get("/rounds/{id}/adjustments")
async def list_adjustments(id: str, principal: CoordinatorPrincipal, matcher: MatcherContext) -> list[AdjustmentView]:
    """Changes by hand, their effect, and their cost."""
    round = await load_round(id, principal, matcher)
    changes = round.adjustments
    allowed = await not_in_conflict(principal, [set(change.members) for change in changes], matcher.members)
    return [AdjustmentView.of(change) for change, is_allowed in zip(changes, allowed, strict=True) if is_allowed]


@router.post("/rounds/{id}/adjustments", status_code=201)
async def add_adjustment(
    id: str, body: AdjustmentBody, command: CoordinatorCommand, matcher: MatcherContext
) -> AdjustmentView:
    """Hold two together, keep two apart, or swap two pairs. The change takes effect when the round is solved again."""
    round = await load_round(id, command.principal, matcher)
    adjustment, replaced = body.to_adjustment(derived_id("adjustment", command.op.key))
    await check_adjustment(round, adjustment, replaced, command.principal, matcher)
    after = await update_round(id, command.op, matcher.rounds, lambda state: rounds.add_adjustment(state, adjustment))
    stored = [change for change in after.adjustments if change.adjustment_id == adjustment.adjustment_id]
    return AdjustmentView.of(stored[0] if stored else adjustment)


@router.post("/rounds/{id}/adjustments/{adjustment}/undo")
async def undo_adjustment(id: str, adjustment: str, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    round = await load_round(id, command.principal, matcher)
    members = [set(change.members) for change in round.adjustments if change.adjustment_id == adjustment]
    if not all(await not_in_conflict(command.principal, members, matcher.members)):
        members = []
    if not members:
        raise CommandRejected("adjustment_unknown", "There is no such change in this round.")
    return RoundView.of(
        await update_round(id, command.op, matcher.rounds, lambda state: rounds.undo_adjustment(state, adjustment))
    )


@router.post("/rounds/{id}/resolve", status_code=202)
async def resolve_round(id: str, body: ResolveBody, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    """Solve the round again with all changes by hand."""
    await load_round(id, command.principal, matcher)
    moment = matcher.clock.moment()
    after = await update_round(
        id, command.op, matcher.rounds, lambda state: rounds.request_resolve(state, moment, whole=body.whole)
    )
    start_work(id, matcher)
    return RoundView.of(after)


@router.get("/rounds/{id}/compare/{other}")
async def compare_rounds(
    id: str, other: str, principal: CoordinatorPrincipal, paging: Paging, matcher: MatcherContext
) -> ComparisonView:
    """Gains and losses of members in the other round by the settings of the first; the greatest loss comes first."""
    first, second = await load_round(id, principal, matcher), await load_round(other, principal, matcher)
    if first.programme_id != second.programme_id:
        raise CommandRejected("other_programme", "Only rounds of one programme can be compared.")
    if paging.after is not None and not paging.after.isdecimal():
        raise InvalidCommand("unknown_page", "`after` is the `next` of the page before.")
    comparison = await matcher.comparisons.get(first, second, matcher.proposals)
    start, end = int(paging.after or 0), int(paging.after or 0) + paging.limit
    page = comparison.differences[start:end]
    allowed = await not_in_conflict(
        principal, [{entry.member_id, *entry.partners_before, *entry.partners_after} for entry in page], matcher.members
    )
    views = [DifferenceView.of(entry) for entry, is_allowed in zip(page, allowed, strict=True) if is_allowed]
    return ComparisonView.of(first, second, comparison, views, str(end) if end < len(comparison.differences) else None)


@router.get("/programmes/{id}/why-not")
async def explain_unmatched(id: str, principal: MemberPrincipal, matcher: MatcherContext) -> WhyNotView:
    """Why the caller has no partner in the last published round."""
    round, explanation = await explain_to_member(id, require_member(principal), matcher)
    return WhyNotView.of(id, round, explanation)
