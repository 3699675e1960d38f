"""Endpoints for coordinators: members with a free seat, and suggested pairs, which are released or dismissed."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from chassis.web.http import Page, Principal, build_page
from contracts.errors import NotFound
from services.matcher.context import Matcher
from services.matcher.dependencies import (
    CoordinatorCommand,
    CoordinatorPrincipal,
    MatcherContext,
    Paging,
)
from services.matcher.domain.access_policy import is_allowed, relation_to_programme
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.permissions import coordinates, not_in_conflict, programme_for
from services.matcher.rolling.suggestions import dismiss, found, free_again, release, shown, suggestions
from services.matcher.rolling.views import FreeView, SuggestionView, WaitingView

router = APIRouter(tags=["suggestions"])


@router.get("/programmes/{id}/free")
async def list_free_members(
    id: str, principal: CoordinatorPrincipal, matcher: MatcherContext, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Page[FreeView]:
    """Who has waited longest first."""
    programme = await programme_for(principal, id, "run_rounds", matcher)
    free = await free_again(programme, limit, matcher)
    now = matcher.clock.now()
    return Page(items=[FreeView.of(one, now) for one in free])


@router.post("/programmes/{id}/suggestions")
async def compute_suggestions(
    id: str, command: CoordinatorCommand, matcher: MatcherContext, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Page[SuggestionView]:
    """Computed now and kept nowhere: nobody is asked before a coordinator puts the two together."""
    programme = await programme_for(command.principal, id, "run_rounds", matcher)
    pairs = await suggestions(programme, limit, matcher)
    may = await not_in_conflict(
        command.principal, [{one.senior.member_id, one.junior.member_id} for one in pairs], matcher
    )
    return Page(items=[SuggestionView.of(one, matcher.taxonomy) for one, ok in zip(pairs, may, strict=True) if ok])


@router.get("/programmes/{id}/suggestions")
async def list_suggestions(
    id: str,
    principal: CoordinatorPrincipal,
    paging: Paging,
    matcher: MatcherContext,
    state: Literal["open", "released", "dismissed"] = "open",
) -> Page[WaitingView]:
    """What waits for a coordinator, in programmes that are matched as people come and go."""
    programme = await programme_for(principal, id, "run_rounds", matcher)
    stored = matcher.suggestions.find(
        {"programme_id": id, "state": state}, limit=paging.fetch_limit, after=paging.after
    )
    items, after = await build_page(stored, paging, lambda one: one.id)
    return Page(items=await _waiting([one.state for one in items], programme, principal, matcher), next=after)


@router.post("/suggestions/{id}/release")
async def release_suggestion(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> WaitingView:
    """The two are command, if it is still possible."""
    await _theirs(id, command.principal, matcher)
    one, _ = await release(id, command.op, matcher)
    return WaitingView.of(one, None, matcher.taxonomy)


@router.post("/suggestions/{id}/dismiss")
async def dismiss_suggestion(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> WaitingView:
    """The two are not suggested to each other again."""
    await _theirs(id, command.principal, matcher)
    return WaitingView.of(await dismiss(id, command.op, matcher), None, matcher.taxonomy)


async def _waiting(
    some: list[Suggestion], programme: Programme, principal: Principal, matcher: Matcher
) -> list[WaitingView]:
    """Those in which neither whoever asks nor their line takes part; an open one only while it is possible."""
    may = await not_in_conflict(principal, [set(one.members) for one in some], matcher)
    pairs = await shown(some, programme, matcher)
    return [
        WaitingView.of(one, pair if one.state == "open" else None, matcher.taxonomy)
        for one, pair, ok in zip(some, pairs, may, strict=True)
        if ok and (pair is not None or one.state != "open")
    ]


async def _theirs(id: str, principal: Principal, matcher: Matcher) -> None:
    """Whether they may decide on a suggestion. Raises a problem; who may not learns nothing of it."""
    one = await found(id, matcher)
    programme = await matcher.programmes.get(one.programme_id)
    theirs = coordinates(principal, one.programme_id, programme.state if programme else None)
    if not is_allowed(relation_to_programme(principal.roles, coordinates=theirs), "run_rounds"):
        raise NotFound("suggestion")
    if not all(await not_in_conflict(principal, [set(one.members)], matcher)):
        raise NotFound("suggestion")
