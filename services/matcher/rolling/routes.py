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
from services.matcher.rolling import suggestions
from services.matcher.rolling.suggestions import describe_suggestions, find_free_members, suggest_pairs
from services.matcher.rolling.views import FreeView, SuggestionView, WaitingView

router = APIRouter(tags=["suggestions"])


@router.get("/programmes/{id}/free")
async def list_free_members(
    id: str,
    principal: CoordinatorPrincipal,
    matcher: MatcherContext,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[FreeView]:
    """Members with a free seat, for example after a change of partner; the longest wait comes first.

    The caller and the caller's line are left out: a free seat tells that a pairing has ended.
    """
    programme = await programme_for(principal, id, "run_rounds", matcher.programmes)
    free = await find_free_members(programme, limit, matcher)
    allowed = await not_in_conflict(principal, [{member.member.id} for member in free], matcher.members)
    now = matcher.clock.now()
    shown = [member for member, is_visible in zip(free, allowed, strict=True) if is_visible]
    return Page(items=[FreeView.of(member, now) for member in shown])


@router.post("/programmes/{id}/suggestions")
async def compute_suggestions(
    id: str,
    command: CoordinatorCommand,
    matcher: MatcherContext,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[SuggestionView]:
    """Pairs computed now and stored nowhere. Nobody is asked before a coordinator proposes the two to each other."""
    programme = await programme_for(command.principal, id, "run_rounds", matcher.programmes)
    pairs = await suggest_pairs(programme, limit, matcher)
    allowed = await not_in_conflict(
        command.principal, [{pair.senior.member_id, pair.junior.member_id} for pair in pairs], matcher.members
    )
    shown = [pair for pair, is_visible in zip(pairs, allowed, strict=True) if is_visible]
    return Page(items=[SuggestionView.of(pair, matcher.taxonomy) for pair in shown])


@router.get("/programmes/{id}/suggestions")
async def list_suggestions(
    id: str,
    principal: CoordinatorPrincipal,
    paging: Paging,
    matcher: MatcherContext,
    state: Literal["open", "released", "dismissed"] = "open",
) -> Page[WaitingView]:
    """Suggestions that wait for a coordinator, in programmes that are matched as members come and go."""
    programme = await programme_for(principal, id, "run_rounds", matcher.programmes)
    page = matcher.suggestions.find({"programme_id": id, "state": state}, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(page, paging, lambda stored: stored.id)
    views = await _view_allowed([stored.state for stored in items], programme, principal, matcher)
    return Page(items=views, next=after)


@router.post("/suggestions/{id}/release")
async def release_suggestion(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> WaitingView:
    """Propose the two to each other, if it is still possible."""
    await _require_coordinator(id, command.principal, matcher)
    suggestion = await suggestions.release_suggestion(id, command.op, matcher)
    return WaitingView.of(suggestion, None, matcher.taxonomy)


@router.post("/suggestions/{id}/dismiss")
async def dismiss_suggestion(id: str, command: CoordinatorCommand, matcher: MatcherContext) -> WaitingView:
    """The two are not suggested to each other again."""
    await _require_coordinator(id, command.principal, matcher)
    suggestion = await suggestions.dismiss_suggestion(id, command.op, matcher)
    return WaitingView.of(suggestion, None, matcher.taxonomy)


async def _view_allowed(
    stored: list[Suggestion], programme: Programme, principal: Principal, matcher: Matcher
) -> list[WaitingView]:
    """Suggestions without the caller and the caller's line; open ones only while they are possible."""
    allowed = await not_in_conflict(principal, [set(suggestion.members) for suggestion in stored], matcher.members)
    pairs = await describe_suggestions(stored, programme, matcher)
    return [
        WaitingView.of(suggestion, pair if suggestion.state == "open" else None, matcher.taxonomy)
        for suggestion, pair, is_visible in zip(stored, pairs, allowed, strict=True)
        if is_visible and (pair is not None or suggestion.state != "open")
    ]


async def _require_coordinator(id: str, principal: Principal, matcher: Matcher) -> None:
    """Raises ``NotFound`` for a caller who may not decide on the suggestion, so that they learn nothing about it."""
    suggestion = await matcher.suggestions.load(id)
    programme = await matcher.programmes.get(suggestion.programme_id)
    is_theirs = coordinates(principal, suggestion.programme_id, programme.state if programme else None)
    if not is_allowed(relation_to_programme(principal.roles, coordinates=is_theirs), "run_rounds"):
        raise NotFound("suggestion")
    if not all(await not_in_conflict(principal, [set(suggestion.members)], matcher.members)):
        raise NotFound("suggestion")
