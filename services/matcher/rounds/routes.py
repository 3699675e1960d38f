"""Endpoints of rounds: they are computed in the background, listed, published or discarded."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field, JsonValue

from chassis.core.commands import Op
from chassis.core.ids import derived_id, new_id
from chassis.storage.mongo import Document
from chassis.web.http import Page, Principal, RequestBody, build_page, set_location
from contracts.errors import CommandRejected
from services.matcher.context import Matcher
from services.matcher.dependencies import CoordinatorCommand, CoordinatorPrincipal, MatcherContext, Paging
from services.matcher.domain.programmes.settings_override import override_settings
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.round import Round
from services.matcher.pairings.views import FocusView
from services.matcher.permissions import not_in_conflict, programme_for
from services.matcher.rounds.lifecycle import start_work
from services.matcher.rounds.views import (
    LeftOverView,
    ProposalView,
    ProposedMember,
    RoundView,
)
from services.matcher.stores.rounds import RoundStore

router = APIRouter(tags=["rounds"])

RoundDecision = Callable[[Round], rounds.Decision | None]


class NewRound(RequestBody):
    """``trial``: settings that differ from the programme's, such as ``{"matching": {"weights": {"perspective": 0}}}``.

    A trial is computed like any other round, compared, and never published.
    """

    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    trial: Annotated[dict[str, JsonValue], Field(min_length=1, max_length=2)] | None = None


@router.post("/programmes/{id}/rounds", status_code=202)
async def start_round(
    id: str, body: NewRound, command: CoordinatorCommand, response: Response, matcher: MatcherContext
) -> RoundView:
    programme = await programme_for(command.principal, id, "run_rounds", matcher.programmes)
    round_id = derived_id("round", command.op.key)
    under_way = {"programme_id": id, "state": {"$in": ["computing", "publishing"]}, "round_id": {"$ne": round_id}}
    if await matcher.rounds.count(under_way):
        raise CommandRejected(
            "round_already_running", "Another round of this programme is being computed or published."
        )
    settings = programme.settings if body.trial is None else override_settings(programme.settings, body.trial)
    moment = matcher.clock.moment()
    about = programme.programme_id, programme.settings_version, programme.state, settings
    lottery, trial = await matcher.rounds.lottery_of(id) or new_id(), body.trial is not None
    saved = await matcher.rounds.update(
        round_id,
        command.op,
        lambda state: rounds.start_round(state, round_id, about, body.seed, moment, lottery=lottery, trial=trial),
    )
    start_work(round_id, matcher)
    set_location(response, "rounds", round_id)
    return RoundView.of(saved.require_state())


@router.get("/programmes/{id}/rounds")
async def list_rounds(
    id: str, principal: CoordinatorPrincipal, paging: Paging, matcher: MatcherContext
) -> Page[RoundView]:
    await programme_for(principal, id, "run_rounds", matcher.programmes)
    page = matcher.rounds.find({"programme_id": id}, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(page, paging, lambda stored: stored.id)
    return Page(items=[RoundView.of(stored.state) for stored in items], next=after)


@router.get("/rounds/{id}")
async def get_round(id: str, principal: CoordinatorPrincipal, matcher: MatcherContext) -> RoundView:
    return RoundView.of(await load_round(id, principal, matcher))


@router.get("/rounds/{id}/proposals")
async def list_proposals(
    id: str, principal: CoordinatorPrincipal, paging: Paging, matcher: MatcherContext
) -> Page[ProposalView]:
    round = await load_round(id, principal, matcher)
    page = matcher.proposals.page(round, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(page, paging, lambda document: str(document["place"]))
    return Page(items=await view_proposals(items, principal, matcher), next=after)


@router.get("/rounds/{id}/unmatched")
async def list_unmatched(
    id: str, principal: CoordinatorPrincipal, paging: Paging, matcher: MatcherContext
) -> Page[LeftOverView]:
    """Members without a partner, the reason, and by how much which rule would have to be relaxed.

    The caller and the caller's line are left out.
    """
    round = await load_round(id, principal, matcher)
    page = matcher.unmatched.page(round, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(page, paging, lambda document: str(document["member_id"]))
    allowed = await not_in_conflict(principal, [{document["member_id"]} for document in items], matcher.members)
    shown = [document for document, is_visible in zip(items, allowed, strict=True) if is_visible]
    return Page(items=[LeftOverView.of(document) for document in shown], next=after)


@router.post("/rounds/{id}/publish", status_code=202)
async def publish_round(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    round = await load_round(id, command.principal, matcher)
    programme = (await matcher.programmes.load(round.programme_id)).state
    if programme.state != "open":
        raise CommandRejected("programme_not_open", "Rounds are published in open programmes only.")
    moment = matcher.clock.moment()
    released = await update_round(id, command.op, matcher.rounds, lambda state: rounds.start_publication(state, moment))
    start_work(id, matcher)
    return RoundView.of(released)


@router.post("/rounds/{id}/discard")
async def discard_round(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    await load_round(id, command.principal, matcher)
    moment = matcher.clock.moment()
    after = await update_round(id, command.op, matcher.rounds, lambda state: rounds.discard_round(state, moment))
    matcher.solver.cancel(id)
    return RoundView.of(after)


@router.post("/rounds/{id}/cancel")
async def cancel_round(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> RoundView:
    """Stop the computation at once. An earlier result of the round becomes the current one again."""
    await load_round(id, command.principal, matcher)
    moment = matcher.clock.moment()
    after = await update_round(id, command.op, matcher.rounds, lambda state: rounds.cancel_computation(state, moment))
    matcher.solver.cancel(id)
    return RoundView.of(after)


async def load_round(id: str, principal: Principal, matcher: Matcher) -> Round:
    """The round, if the caller may run rounds of its programme. Raises ``NotFound`` or a problem."""
    round = (await matcher.rounds.load(id)).state
    await programme_for(principal, round.programme_id, "run_rounds", matcher.programmes)
    return round


async def update_round(id: str, op: Op, store: RoundStore, decide: RoundDecision) -> Round:
    return (await store.update_existing(id, op, decide)).require_state()


async def view_proposals(documents: list[Document], principal: Principal, matcher: Matcher) -> list[ProposalView]:
    """Views of the proposals in which neither the caller nor the caller's line takes part."""
    pairs = [{proposal["senior"], proposal["junior"]} for proposal in documents]
    allowed = await not_in_conflict(principal, pairs, matcher.members)
    profiles = await matcher.members.get_many(sorted(set().union(*pairs)))
    return [
        ProposalView(
            pairing_id=proposal["pairing_id"],
            place=proposal["place"],
            senior=ProposedMember.of(proposal["senior"], profiles.get(proposal["senior"])),
            junior=ProposedMember.of(proposal["junior"], profiles.get(proposal["junior"])),
            fit=proposal["fit"],
            reasons=proposal["reasons"],
            focus=[FocusView(**topic, name=matcher.taxonomy.name(topic["topic_id"])) for topic in proposal["focus"]],
            state=proposal["state"],
            why=proposal["why"],
        )
        for proposal, is_allowed in zip(documents, allowed, strict=True)
        if is_allowed
    ]
