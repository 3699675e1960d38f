"""Programmes and rounds: commands and queries."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Command, Page, Paging, Principal, allow, command, etag, forbidden, page
from chassis.ids import derived_id
from contracts.programmes import ProgrammeSettings
from services.matcher.domain import programme as programmes
from services.matcher.domain import round as rounds
from services.matcher.domain.access import Action, may, to_programme
from services.matcher.domain.programme import Programme
from services.matcher.domain.refused import Unknown
from services.matcher.domain.round import Round
from services.matcher.domain.suggestion import Suggestion
from services.matcher.permissions import coordinates, not_in_conflict, programme_for
from services.matcher.store import Matcher
from services.matcher.suggesting import dismiss, found, free_again, release, shown, suggestions
from services.matcher.views import (
    FreeView,
    ProgrammeView,
    SuggestionView,
    WaitingView,
)

ANYBODY = allow("member", "coordinator", "admin", "service")
Manager = Annotated[Principal, allow("coordinator", "admin")]
Managing = Annotated[Command, command("coordinator", "admin")]
Deciding = Callable[[Programme], programmes.Decision | None]
RoundDeciding = Callable[[Round], rounds.Decision | None]
ProgrammeId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewProgramme(_Body):
    settings: ProgrammeSettings
    programme_id: ProgrammeId | None = None


def programme_routes(matcher: Matcher) -> APIRouter:
    """Programmes: created, changed, opened, closed."""
    router = APIRouter(tags=["programmes"])

    async def decided(id: str, asked: Command, act: Action, decide: Deciding, response: Response) -> ProgrammeView:
        await programme_for(asked.principal, id, act, matcher)
        saved = await matcher.programmes.update(id, asked.op, lambda state: decide(_there(state)), expect=asked.expect)
        etag(response, saved.version)
        return ProgrammeView.of(saved.now())

    @router.post("/programmes", status_code=201)
    async def create(body: NewProgramme, asked: Managing, response: Response) -> ProgrammeView:
        id = body.programme_id or derived_id("programme", asked.op.key)
        if "admin" not in asked.principal.roles and id not in asked.principal.programmes:
            raise forbidden("Coordinators create the programmes that they were named for; admins create any.")
        now, machine = matcher.clock.now(), matcher.clock.machine()
        saved = await matcher.programmes.update(
            id, asked.op, lambda state: programmes.create(state, id, body.settings, now, machine)
        )
        etag(response, saved.version)
        response.headers["Location"] = f"/programmes/{id}"
        return ProgrammeView.of(saved.now())

    @router.get("/programmes", dependencies=[ANYBODY])
    async def all_programmes(paging: Annotated[Paging, Depends()]) -> Page[ProgrammeView]:
        found = matcher.programmes.find({}, limit=paging.more, after=paging.after)
        items, after = await page(found, paging, lambda stored: stored.id)
        return Page(items=[ProgrammeView.of(stored.state) for stored in items], next=after)

    @router.get("/programmes/{id}", dependencies=[ANYBODY])
    async def one(id: str, response: Response) -> ProgrammeView:
        stored = await matcher.programme(id)
        etag(response, stored.version)
        return ProgrammeView.of(stored.state)

    @router.put("/programmes/{id}/settings")
    async def change(id: str, body: ProgrammeSettings, asked: Managing, response: Response) -> ProgrammeView:
        now, machine = matcher.clock.now(), matcher.clock.machine()
        return await decided(
            id, asked, "manage_programme", lambda state: programmes.change(state, body, now, machine), response
        )

    @router.post("/programmes/{id}/open")
    async def open_(id: str, asked: Managing, response: Response) -> ProgrammeView:
        now, machine = matcher.clock.now(), matcher.clock.machine()
        return await decided(
            id, asked, "manage_programme", lambda state: programmes.open_(state, now, machine), response
        )

    @router.post("/programmes/{id}/close")
    async def close(id: str, asked: Managing, response: Response) -> ProgrammeView:
        now, machine = matcher.clock.now(), matcher.clock.machine()
        return await decided(
            id, asked, "manage_programme", lambda state: programmes.close(state, now, machine), response
        )

    return router


def suggestion_routes(matcher: Matcher) -> APIRouter:
    """Who is free again, for example after a wish for another partner, and with whom they might go on."""
    router = APIRouter(tags=["suggestions"])

    @router.get("/programmes/{id}/free")
    async def free(id: str, principal: Manager, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Page[FreeView]:
        """Who has waited longest first."""
        programme = await programme_for(principal, id, "run_rounds", matcher)
        free = await free_again(programme, limit, matcher)
        now = matcher.clock.now()
        return Page(items=[FreeView.of(one, now) for one in free])

    @router.post("/programmes/{id}/suggestions")
    async def suggest(
        id: str, asked: Managing, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> Page[SuggestionView]:
        """Computed now and kept nowhere: nobody is asked before a coordinator puts the two together."""
        programme = await programme_for(asked.principal, id, "run_rounds", matcher)
        pairs = await suggestions(programme, limit, matcher)
        may = await not_in_conflict(
            asked.principal, [{one.senior.member_id, one.junior.member_id} for one in pairs], matcher
        )
        return Page(items=[SuggestionView.of(one, matcher.taxonomy) for one, ok in zip(pairs, may, strict=True) if ok])

    @router.get("/programmes/{id}/suggestions")
    async def waiting(
        id: str,
        principal: Manager,
        paging: Annotated[Paging, Depends()],
        state: Literal["open", "released", "dismissed"] = "open",
    ) -> Page[WaitingView]:
        """What waits for a coordinator, in programmes that are matched as people come and go."""
        programme = await programme_for(principal, id, "run_rounds", matcher)
        stored = matcher.suggestions.find({"programme_id": id, "state": state}, limit=paging.more, after=paging.after)
        items, after = await page(stored, paging, lambda one: one.id)
        return Page(items=await _waiting([one.state for one in items], programme, principal, matcher), next=after)

    @router.post("/suggestions/{id}/release")
    async def release_it(id: str, asked: Managing) -> WaitingView:
        """The two are asked, if it is still possible."""
        await _theirs(id, asked.principal, matcher)
        one, _ = await release(id, asked.op, matcher)
        return WaitingView.of(one, None, matcher.taxonomy)

    @router.post("/suggestions/{id}/dismiss")
    async def dismiss_it(id: str, asked: Managing) -> WaitingView:
        """The two are not suggested to each other again."""
        await _theirs(id, asked.principal, matcher)
        return WaitingView.of(await dismiss(id, asked.op, matcher), None, matcher.taxonomy)

    return router


async def _waiting(
    some: list[Suggestion], programme: Programme, principal: Principal, matcher: Matcher
) -> list[WaitingView]:
    """Those in which neither whoever asks nor their line takes part; an open one only while it is possible."""
    may = await not_in_conflict(principal, [set(one.both) for one in some], matcher)
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
    if not may(to_programme(principal.roles, coordinates=theirs), "run_rounds"):
        raise Unknown("suggestion")
    if not all(await not_in_conflict(principal, [set(one.both)], matcher)):
        raise Unknown("suggestion")


def _there(programme: Programme | None) -> Programme:
    if programme is None:
        raise Unknown("programme")
    return programme
