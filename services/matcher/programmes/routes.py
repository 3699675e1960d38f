"""Programmes over HTTP: commands and queries."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from chassis.core.ids import derived_id
from chassis.web.http import (
    Command,
    Page,
    PageRequest,
    Principal,
    RequestBody,
    allow,
    build_page,
    command,
    etag,
    forbidden,
)
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.access_policy import Action
from services.matcher.domain.errors import Unknown
from services.matcher.domain.programmes import programme as programmes
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.round import Round
from services.matcher.permissions import programme_for
from services.matcher.programmes.views import ProgrammeView
from services.matcher.store import Matcher

ANYBODY = allow("member", "coordinator", "admin", "service")
Manager = Annotated[Principal, allow("coordinator", "admin")]
Managing = Annotated[Command, command("coordinator", "admin")]
Deciding = Callable[[Programme], programmes.Decision | None]
RoundDeciding = Callable[[Round], rounds.Decision | None]
ProgrammeId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]


class NewProgramme(RequestBody):
    settings: ProgrammeSettings
    programme_id: ProgrammeId | None = None


def programme_routes(matcher: Matcher) -> APIRouter:
    """Programmes: created, changed, opened, closed."""
    router = APIRouter(tags=["programmes"])

    async def decided(id: str, asked: Command, act: Action, decide: Deciding, response: Response) -> ProgrammeView:
        await programme_for(asked.principal, id, act, matcher)
        saved = await matcher.programmes.update(id, asked.op, lambda state: decide(_there(state)), expect=asked.expect)
        etag(response, saved.version)
        return ProgrammeView.of(saved.require_state())

    @router.post("/programmes", status_code=201)
    async def create(body: NewProgramme, asked: Managing, response: Response) -> ProgrammeView:
        id = body.programme_id or derived_id("programme", asked.op.key)
        if "admin" not in asked.principal.roles and id not in asked.principal.programmes:
            raise forbidden("Coordinators create the programmes that they were named for; admins create any.")
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        saved = await matcher.programmes.update(
            id, asked.op, lambda state: programmes.create(state, id, body.settings, now, machine)
        )
        etag(response, saved.version)
        response.headers["Location"] = f"/programmes/{id}"
        return ProgrammeView.of(saved.require_state())

    @router.get("/programmes", dependencies=[ANYBODY])
    async def all_programmes(paging: Annotated[PageRequest, Depends()]) -> Page[ProgrammeView]:
        found = matcher.programmes.find({}, limit=paging.fetch_limit, after=paging.after)
        items, after = await build_page(found, paging, lambda stored: stored.id)
        return Page(items=[ProgrammeView.of(stored.state) for stored in items], next=after)

    @router.get("/programmes/{id}", dependencies=[ANYBODY])
    async def one(id: str, response: Response) -> ProgrammeView:
        stored = await matcher.programme(id)
        etag(response, stored.version)
        return ProgrammeView.of(stored.state)

    @router.put("/programmes/{id}/settings")
    async def change(id: str, body: ProgrammeSettings, asked: Managing, response: Response) -> ProgrammeView:
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        return await decided(
            id, asked, "manage_programme", lambda state: programmes.change(state, body, now, machine), response
        )

    @router.post("/programmes/{id}/open")
    async def open_(id: str, asked: Managing, response: Response) -> ProgrammeView:
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        return await decided(
            id, asked, "manage_programme", lambda state: programmes.open_(state, now, machine), response
        )

    @router.post("/programmes/{id}/close")
    async def close(id: str, asked: Managing, response: Response) -> ProgrammeView:
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        return await decided(
            id, asked, "manage_programme", lambda state: programmes.close(state, now, machine), response
        )

    return router


def _there(programme: Programme | None) -> Programme:
    if programme is None:
        raise Unknown("programme")
    return programme
