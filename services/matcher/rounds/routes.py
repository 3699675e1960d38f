"""Endpoints of rounds: they are computed in the background, listed, published or discarded."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field, JsonValue

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.mongo import Document
from chassis.web.http import Page, Principal, RequestBody, build_page
from contracts.errors import CommandRejected, NotFound
from services.matcher.context import Matcher
from services.matcher.dependencies import CoordinatorCommand, CoordinatorPrincipal, MatcherContext, Paging
from services.matcher.domain.programmes.settings_override import override_settings
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.round import Round
from services.matcher.pairings.views import FocusView
from services.matcher.permissions import not_in_conflict, programme_for
from services.matcher.rounds.lifecycle import take_up
from services.matcher.rounds.views import (
    LeftOverView,
    ProposalView,
    ProposedMember,
    RoundView,
)

router = APIRouter(tags=["rounds"])

RoundDecision = Callable[[Round], rounds.Decision | None]


class NewRound(RequestBody):
    """``trial``: settings that are to differ, such as ``{"matching": {"weights": {"perspective": 0}}}``.

    A trial is computed like any other round, compared, and never published.
    """

    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    trial: Annotated[dict[str, JsonValue], Field(min_length=1, max_length=2)] | None = None


@router.post("/programmes/{id}/rounds", status_code=202)
async def start_round(
    id: str, body: NewRound, command: CoordinatorCommand, response: Response, matcher: MatcherContext
) -> RoundView:
    programme = await programme_for(command.principal, id, "run_rounds", matcher)
    round_id = derived_id("round", command.op.key)
    under_way = {"programme_id": id, "state": {"$in": ["computing", "publishing"]}, "round_id": {"$ne": round_id}}
    if await matcher.rounds.count(under_way):
        raise CommandRejected(
            "round_already_running", "Another round of this programme is being computed or published."
        )
    settings = programme.settings if body.trial is None else override_settings(programme.settings, body.trial)
    moment = matcher.clock.moment()
    about = programme.programme_id, programme.settings_version, programme.state, settings
    saved = await matcher.rounds.update(
        round_id,
        command.op,
        lambda state: rounds.start_round(state, round_id, about, body.seed, moment, trial=body.trial is not None),
    )
    take_up(round_id, matcher)
    response.headers["Location"] = f"/rounds/{round_id}"
    return RoundView.of(saved.require_state())


@router.get("/programmes/{id}/rounds")
async def list_rounds(
    id: str, principal: CoordinatorPrincipal, paging: Paging, matcher: MatcherContext
) -> Page[RoundView]:
    await programme_for(principal, id, "run_rounds", matcher)
    found = matcher.rounds.find({"programme_id": id}, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(found, paging, lambda stored: stored.id)
    return Page(items=[RoundView.of(stored.state) for stored in items], next=after)


@router.get("/rounds/{id}")
async def get_round(id: str, principal: CoordinatorPrincipal, matcher: MatcherContext) -> RoundView:
    return RoundView.of(await load_round(id, principal, matcher))


@router.get("/rounds/{id}/proposals")
async def list_proposals(
    id: str, principal: CoordinatorPrincipal, paging: Paging, matcher: MatcherContext
) -> Page[ProposalView]:
    round = await load_round(id, principal, matcher)
    found = matcher.proposals.page(round, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(found, paging, lambda document: str(document["place"]))
    return Page(items=await view_proposals(items, principal, matcher), next=after)


@router.get("/rounds/{id}/unmatched")
async def list_unmatched(
    id: str, principal: CoordinatorPrincipal, paging: Paging, matcher: MatcherContext
) -> Page[LeftOverView]:
    """Who has no partner, why, and which rule relaxed by how much would give them one."""
    round = await load_round(id, principal, matcher)
    found = matcher.unmatched.page(round, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(found, paging, lambda document: str(document["member_id"]))
    return Page(items=[LeftOverView.of(document) for document in items], next=after)


@router.post("/rounds/{id}/publish", status_code=202)
async def publish_round(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    round = await load_round(id, command.principal, matcher)
    programme = (await matcher.programmes.load(round.programme_id)).state
    if programme.state != "open":
        raise CommandRejected("programme_not_open", "Rounds are published in open programmes only.")
    moment = matcher.clock.moment()
    released = await update_round(id, command.op, matcher, lambda state: rounds.start_publication(state, moment))
    take_up(id, matcher)
    return RoundView.of(released)


@router.post("/rounds/{id}/discard")
async def discard_round(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    await load_round(id, command.principal, matcher)
    moment = matcher.clock.moment()
    after = await update_round(id, command.op, matcher, lambda state: rounds.discard_round(state, moment))
    matcher.solver.cancel(id)
    return RoundView.of(after)


@router.post("/rounds/{id}/cancel")
async def cancel_round(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    """Stop computing within a moment; an earlier result of the round stands again."""
    await load_round(id, command.principal, matcher)
    moment = matcher.clock.moment()
    after = await update_round(id, command.op, matcher, lambda state: rounds.cancel_computation(state, moment))
    matcher.solver.cancel(id)
    return RoundView.of(after)


async def load_round(id: str, principal: Principal, matcher: Matcher) -> Round:
    """The round, if the caller may run rounds of its programme. Raises ``NotFound`` or a problem."""
    round = (await matcher.rounds.load(id)).state
    await programme_for(principal, round.programme_id, "run_rounds", matcher)
    return round


async def update_round(id: str, op: Op, matcher: Matcher, decide: RoundDecision) -> Round:
    """Apply a decision to a round that exists. Raises ``NotFound``."""

    def decide_existing(state: Round | None) -> rounds.Decision | None:
        if state is None:
            raise NotFound("round")
        return decide(state)

    return (await matcher.rounds.update(id, op, decide_existing)).require_state()


async def view_proposals(documents: list[Document], principal: Principal, matcher: Matcher) -> list[ProposalView]:
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
