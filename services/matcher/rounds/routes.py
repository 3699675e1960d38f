"""Rounds over HTTP: computed in the background, reviewed, changed by hand, compared, published or discarded."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Depends, Response
from pydantic import Field, JsonValue, model_validator

from chassis.core.ids import derived_id
from chassis.storage.aggregates import Op
from chassis.storage.mongo import Document
from chassis.web.http import Command, Page, PageRequest, Principal, RequestBody, allow, build_page, command
from services.matcher.domain.errors import Contradiction, Refused, Unknown
from services.matcher.domain.programmes.settings_override import settings_with
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.adjustment import Adjustment, Pair
from services.matcher.domain.rounds.round import Round, result_id
from services.matcher.pairings.views import FocusView
from services.matcher.permissions import myself, not_in_conflict, programme_for
from services.matcher.rounds.lifecycle import take_up
from services.matcher.rounds.queries import Comparisons, check, why_not
from services.matcher.rounds.views import (
    AdjustmentView,
    ComparisonView,
    DifferenceView,
    LeftOverView,
    ProposalView,
    ProposedMember,
    RoundView,
    SummaryView,
    WhyNotView,
)
from services.matcher.store import Matcher

Manager = Annotated[Principal, allow("coordinator", "admin")]
Managing = Annotated[Command, command("coordinator", "admin")]
Member = Annotated[Principal, allow("member")]
RoundDeciding = Callable[[Round], rounds.Decision | None]
MemberId = Annotated[str, Field(min_length=1, max_length=64)]


class NewRound(RequestBody):
    """``trial``: settings that are to differ, such as ``{"matching": {"weights": {"perspective": 0}}}``.

    A trial is computed like any other round, compared, and never published.
    """

    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    trial: Annotated[dict[str, JsonValue], Field(min_length=1, max_length=2)] | None = None


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


def round_routes(matcher: Matcher) -> APIRouter:  # noqa: C901 - one small function for each route
    """Computed in the background, reviewed, published or discarded."""
    router = APIRouter(tags=["rounds"])
    seen, changed = _seeing(matcher), _changing(matcher)

    @router.post("/programmes/{id}/rounds", status_code=202)
    async def start(id: str, body: NewRound, asked: Managing, response: Response) -> RoundView:
        programme = await programme_for(asked.principal, id, "run_rounds", matcher)
        round_id = derived_id("round", asked.op.key)
        under_way = {"programme_id": id, "state": {"$in": ["computing", "publishing"]}, "round_id": {"$ne": round_id}}
        if await matcher.rounds.count(under_way):
            raise Refused("round_already_running", "Another round of this programme is being computed or published.")
        settings = programme.settings if body.trial is None else settings_with(programme.settings, body.trial)
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        about = programme.programme_id, programme.settings_version, programme.state, settings
        saved = await matcher.rounds.update(
            round_id,
            asked.op,
            lambda state: rounds.start(state, round_id, about, body.seed, now, machine, trial=body.trial is not None),
        )
        take_up(round_id, matcher)
        response.headers["Location"] = f"/rounds/{round_id}"
        return RoundView.of(saved.require_state())

    @router.get("/programmes/{id}/rounds")
    async def all_rounds(id: str, principal: Manager, paging: Annotated[PageRequest, Depends()]) -> Page[RoundView]:
        await programme_for(principal, id, "run_rounds", matcher)
        found = matcher.rounds.find({"programme_id": id}, limit=paging.fetch_limit, after=paging.after)
        items, after = await build_page(found, paging, lambda stored: stored.id)
        return Page(items=[RoundView.of(stored.state) for stored in items], next=after)

    @router.get("/rounds/{id}")
    async def one(id: str, principal: Manager) -> RoundView:
        return RoundView.of(await seen(id, principal))

    @router.get("/rounds/{id}/proposals")
    async def proposals(id: str, principal: Manager, paging: Annotated[PageRequest, Depends()]) -> Page[ProposalView]:
        round = await seen(id, principal)
        found = matcher.proposals_page(round, limit=paging.fetch_limit, after=paging.after)
        items, after = await build_page(found, paging, lambda document: str(document["place"]))
        return Page(items=await _proposals(items, principal, matcher), next=after)

    @router.get("/rounds/{id}/unmatched")
    async def unmatched(id: str, principal: Manager, paging: Annotated[PageRequest, Depends()]) -> Page[LeftOverView]:
        """Who has no partner, why, and which rule relaxed by how much would give them one."""
        round = await seen(id, principal)
        found = matcher.left_over_page(round, limit=paging.fetch_limit, after=paging.after)
        items, after = await build_page(found, paging, lambda document: str(document["member_id"]))
        return Page(items=[LeftOverView.of(document) for document in items], next=after)

    @router.post("/rounds/{id}/publish", status_code=202)
    async def publish(id: str, asked: Managing) -> RoundView:
        round = await seen(id, asked.principal)
        programme = (await matcher.programme(round.programme_id)).state
        if programme.state != "open":
            raise Refused("programme_not_open", "Rounds are published in open programmes only.")
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        released = await changed(id, asked.op, lambda state: rounds.publish(state, now, machine))
        take_up(id, matcher)
        return RoundView.of(released)

    @router.post("/rounds/{id}/discard")
    async def discard(id: str, asked: Managing) -> RoundView:
        await seen(id, asked.principal)
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        after = await changed(id, asked.op, lambda state: rounds.discard(state, now, machine))
        matcher.solver.cancel(id)
        return RoundView.of(after)

    @router.post("/rounds/{id}/cancel")
    async def cancel(id: str, asked: Managing) -> RoundView:
        """Stop computing within a moment; an earlier result of the round stands again."""
        await seen(id, asked.principal)
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        after = await changed(id, asked.op, lambda state: rounds.cancel(state, now, machine))
        matcher.solver.cancel(id)
        return RoundView.of(after)

    return router


def review_routes(matcher: Matcher) -> APIRouter:  # noqa: C901 - one small function for each route
    """A computed round in figures, changed by hand, and beside another one."""
    router = APIRouter(tags=["rounds"])
    seen, changed, comparisons = _seeing(matcher), _changing(matcher), Comparisons()

    @router.get("/rounds/{id}/summary")
    async def summary(id: str, principal: Manager) -> SummaryView:
        """Totals, coverage by department and side, the worst pairs, and why people are left over."""
        round = await seen(id, principal)
        found = await matcher.summary(round)
        result = result_id(round.round_id, round.result)
        documents = await matcher.proposals.get_many([f"{result}/{number}" for number in found.worst])
        worst = [documents[f"{result}/{n}"] for n in found.worst if f"{result}/{n}" in documents]
        return SummaryView.of_summary(round, found, await _proposals(worst, principal, matcher))

    @router.get("/rounds/{id}/adjustments")
    async def adjustments(id: str, principal: Manager) -> list[AdjustmentView]:
        """What was changed by hand, what became of it, and what it costs."""
        round = await seen(id, principal)
        shown = await not_in_conflict(principal, [set(one.members) for one in round.adjustments], matcher)
        return [AdjustmentView.of(one) for one, ok in zip(round.adjustments, shown, strict=True) if ok]

    @router.post("/rounds/{id}/adjustments", status_code=201)
    async def adjust(id: str, body: AdjustmentBody, asked: Managing) -> AdjustmentView:
        """Hold two together, keep two apart, or swap two pairs. It takes effect when the round is solved again."""
        round = await seen(id, asked.principal)
        wanted, instead_of = body.made(derived_id("adjustment", asked.op.key))
        await check(round, wanted, instead_of, asked.principal, matcher)
        after = await changed(id, asked.op, lambda state: rounds.adjust(state, wanted))
        stands = next((one for one in after.adjustments if one.adjustment_id == wanted.adjustment_id), wanted)
        return AdjustmentView.of(stands)

    @router.post("/rounds/{id}/adjustments/{adjustment}/undo")
    async def undo(id: str, adjustment: str, asked: Managing) -> RoundView:
        round = await seen(id, asked.principal)
        members = [set(one.members) for one in round.adjustments if one.adjustment_id == adjustment]
        if not all(await not_in_conflict(asked.principal, members, matcher)):
            members = []
        if not members:
            raise Refused("adjustment_unknown", "There is no such change in this round.")
        return RoundView.of(await changed(id, asked.op, lambda state: rounds.undo(state, adjustment)))

    @router.post("/rounds/{id}/resolve", status_code=202)
    async def resolve(id: str, body: ResolveBody, asked: Managing) -> RoundView:
        """Solve it again with all changes by hand."""
        await seen(id, asked.principal)
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        after = await changed(id, asked.op, lambda state: rounds.resolve(state, now, machine, whole=body.whole))
        take_up(id, matcher)
        return RoundView.of(after)

    @router.get("/rounds/{id}/compare/{other}")
    async def compare(
        id: str, other: str, principal: Manager, paging: Annotated[PageRequest, Depends()]
    ) -> ComparisonView:
        """Who gains and who loses in the other round, judged by the settings of the first; who loses most first."""
        first, second = await seen(id, principal), await seen(other, principal)
        if first.programme_id != second.programme_id:
            raise Refused("other_programme", "Only rounds of one programme can be compared.")
        if paging.after is not None and not paging.after.isdecimal():
            raise Contradiction("unknown_page", "`after` is the `next` of the page before.")
        found = await comparisons.of(first, second, matcher)
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
    async def why(id: str, principal: Member) -> WhyNotView:
        """Why the last published round found nobody for whoever asks."""
        round, found = await why_not(id, myself(principal), matcher)
        return WhyNotView.of(id, round, found)

    return router


def _seeing(matcher: Matcher) -> Callable[[str, Principal], Awaitable[Round]]:
    async def seen(id: str, principal: Principal) -> Round:
        round = (await matcher.round(id)).state
        await programme_for(principal, round.programme_id, "run_rounds", matcher)
        return round

    return seen


def _changing(matcher: Matcher) -> Callable[[str, Op, RoundDeciding], Awaitable[Round]]:
    async def changed(id: str, op: Op, decide: RoundDeciding) -> Round:
        def deciding(state: Round | None) -> rounds.Decision | None:
            if state is None:
                raise Unknown("round")
            return decide(state)

        return (await matcher.rounds.update(id, op, deciding)).require_state()

    return changed


async def _proposals(documents: list[Document], principal: Principal, matcher: Matcher) -> list[ProposalView]:
    """Those in which neither whoever asks nor their line takes part."""
    pairs = [{found["senior"], found["junior"]} for found in documents]
    free = await not_in_conflict(principal, pairs, matcher)
    profiles = await matcher.members.get_many(sorted(set().union(*pairs)))

    def member(id: str) -> ProposedMember:
        profile = profiles.get(id)
        return ProposedMember(
            member_id=id,
            department_id=profile.department_id if profile else None,
            site_id=profile.site_id if profile else None,
        )

    return [
        ProposalView(
            pairing_id=found["pairing_id"],
            place=found["place"],
            senior=member(found["senior"]),
            junior=member(found["junior"]),
            fit=found["fit"],
            reasons=found["reasons"],
            focus=[FocusView(**one, name=matcher.taxonomy.name(one["topic_id"])) for one in found["focus"]],
            state=found["state"],
            why=found["why"],
        )
        for found, shown in zip(documents, free, strict=True)
        if shown
    ]
