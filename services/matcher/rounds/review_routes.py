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
from services.matcher.domain.rounds.round import result_id
from services.matcher.permissions import myself, not_in_conflict
from services.matcher.rounds.lifecycle import take_up
from services.matcher.rounds.queries import check, why_not
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


class Two(RequestBody):
    senior: MemberId
    junior: MemberId

    @property
    def pair(self) -> Pair:
        return self.senior, self.junior


class AdjustmentBody(RequestBody):
    """``pair``: to be held together (*lock*) or kept apart (*forbid*). ``swap``: two pairs that change partners."""

    kind: Literal["lock", "forbid", "swap"]
    pair: Two | None = None
    swap: tuple[Two, Two] | None = None

    @model_validator(mode="after")
    def _names_what_it_changes(self) -> Self:
        if (self.kind == "swap") != (self.swap is not None) or (self.swap is None) != (self.pair is not None):
            raise ValueError("a swap names two pairs as `swap`, everything else one as `pair`")
        if self.swap is not None and len({id for two in self.swap for id in two.pair}) != 4:
            raise ValueError("four different people take part in a swap")
        return self

    def made(self, id: str) -> tuple[Adjustment, tuple[Pair, ...]]:
        """The adjustment, and the pairs that it takes apart."""
        if self.swap is not None:
            one, other = self.swap
            pairs = ((one.senior, other.junior), (other.senior, one.junior))
            return Adjustment(adjustment_id=id, kind="swap", pairs=pairs), (one.pair, other.pair)
        assert self.pair is not None, "the body was checked"
        return Adjustment(adjustment_id=id, kind=self.kind, pairs=(self.pair.pair,)), ()


class ResolveBody(RequestBody):
    """``whole``: from what everybody has entered by now, instead of mending what the changes concern."""

    whole: bool = False


@router.get("/rounds/{id}/summary")
async def get_summary(id: str, principal: CoordinatorPrincipal, matcher: MatcherContext) -> SummaryView:
    """Totals, coverage by department and side, the worst pairs, and why people are left over."""
    round = await load_round(id, principal, matcher)
    found = await matcher.summaries.of_round(round)
    result = result_id(round.round_id, round.result)
    documents = await matcher.proposals.get_many([f"{result}/{number}" for number in found.worst])
    worst = [documents[f"{result}/{n}"] for n in found.worst if f"{result}/{n}" in documents]
    return SummaryView.of_summary(round, found, await view_proposals(worst, principal, matcher))


@router.get("/rounds/{id}/adjustments")
async def list_adjustments(id: str, principal: CoordinatorPrincipal, matcher: MatcherContext) -> list[AdjustmentView]:
    """What was changed by hand, what became of it, and what it costs."""
    round = await load_round(id, principal, matcher)
    shown = await not_in_conflict(principal, [set(one.members) for one in round.adjustments], matcher)
    return [AdjustmentView.of(one) for one, ok in zip(round.adjustments, shown, strict=True) if ok]


@router.post("/rounds/{id}/adjustments", status_code=201)
async def add_adjustment(
    id: str, body: AdjustmentBody, command: CoordinatorCommand, matcher: MatcherContext
) -> AdjustmentView:
    """Hold two together, keep two apart, or swap two pairs. It takes effect when the round is solved again."""
    round = await load_round(id, command.principal, matcher)
    wanted, instead_of = body.made(derived_id("adjustment", command.op.key))
    await check(round, wanted, instead_of, command.principal, matcher)
    after = await update_round(id, command.op, matcher, lambda state: rounds.add_adjustment(state, wanted))
    stands = next((one for one in after.adjustments if one.adjustment_id == wanted.adjustment_id), wanted)
    return AdjustmentView.of(stands)


@router.post("/rounds/{id}/adjustments/{adjustment}/undo")
async def undo_adjustment(id: str, adjustment: str, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    round = await load_round(id, command.principal, matcher)
    members = [set(one.members) for one in round.adjustments if one.adjustment_id == adjustment]
    if not all(await not_in_conflict(command.principal, members, matcher)):
        members = []
    if not members:
        raise CommandRejected("adjustment_unknown", "There is no such change in this round.")
    return RoundView.of(
        await update_round(id, command.op, matcher, lambda state: rounds.undo_adjustment(state, adjustment))
    )


@router.post("/rounds/{id}/resolve", status_code=202)
async def resolve_round(id: str, body: ResolveBody, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    """Solve it again with all changes by hand."""
    await load_round(id, command.principal, matcher)
    moment = matcher.clock.moment()
    after = await update_round(
        id, command.op, matcher, lambda state: rounds.request_resolve(state, moment, whole=body.whole)
    )
    take_up(id, matcher)
    return RoundView.of(after)


@router.get("/rounds/{id}/compare/{other}")
async def compare_rounds(
    id: str, other: str, principal: CoordinatorPrincipal, paging: Paging, matcher: MatcherContext
) -> ComparisonView:
    """Who gains and who loses in the other round, judged by the settings of the first; who loses most first."""
    first, second = await load_round(id, principal, matcher), await load_round(other, principal, matcher)
    if first.programme_id != second.programme_id:
        raise CommandRejected("other_programme", "Only rounds of one programme can be compared.")
    if paging.after is not None and not paging.after.isdecimal():
        raise InvalidCommand("unknown_page", "`after` is the `next` of the page before.")
    found = await matcher.comparisons.get(first, second, matcher.proposals)
    since = int(paging.after or 0)
    some = found.differences[since : since + paging.limit]
    shown = await not_in_conflict(
        principal, [{one.member_id, *one.partners_before, *one.partners_after} for one in some], matcher
    )
    more = since + paging.limit < len(found.differences)
    return ComparisonView.of(
        first,
        second,
        found,
        [DifferenceView.of(one) for one, ok in zip(some, shown, strict=True) if ok],
        str(since + paging.limit) if more else None,
    )


@router.get("/programmes/{id}/why-not")
async def explain_unmatched(id: str, principal: MemberPrincipal, matcher: MatcherContext) -> WhyNotView:
    """Why the last published round found nobody for whoever asks."""
    round, found = await why_not(id, myself(principal), matcher)
    return WhyNotView.of(id, round, found)
