"""Endpoints of programmes: created, changed, opened, closed, listed."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from chassis.core.ids import derived_id
from chassis.web.http import (
    Command,
    Page,
    RequestBody,
    allow,
    build_page,
    forbidden,
    set_etag,
    set_location,
)
from contracts.errors import CommandRejected
from contracts.programmes import ProgrammeSettings
from services.matcher.context import Matcher
from services.matcher.dependencies import (
    CoordinatorCommand,
    MatcherContext,
    Paging,
)
from services.matcher.domain.programmes import programme as programmes
from services.matcher.domain.programmes.programme import Programme
from services.matcher.permissions import programme_for
from services.matcher.programmes.views import ProgrammeView

router = APIRouter(tags=["programmes"])

ANY_ROLE = allow("member", "coordinator", "admin", "service")
ProgrammeDecision = Callable[[Programme], programmes.Decision | None]
ProgrammeId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]


class NewProgramme(RequestBody):
    settings: ProgrammeSettings
    programme_id: ProgrammeId | None = None


@router.post("/programmes", status_code=201)
async def create_programme(
    body: NewProgramme, command: CoordinatorCommand, response: Response, matcher: MatcherContext
) -> ProgrammeView:
    id = body.programme_id or derived_id("programme", command.op.key)
    if "admin" not in command.principal.roles and id not in command.principal.programmes:
        raise forbidden("Coordinators create the programmes that they were named for; admins create any.")
    _require_other_person(body.settings, command)
    moment = matcher.clock.moment()
    saved = await matcher.programmes.update(
        id, command.op, lambda state: programmes.create_programme(state, id, body.settings, moment)
    )
    set_etag(response, saved.version)
    set_location(response, "programmes", id)
    return ProgrammeView.of(saved.require_state())


@router.get("/programmes", dependencies=[ANY_ROLE])
async def list_programmes(paging: Paging, matcher: MatcherContext) -> Page[ProgrammeView]:
    page = matcher.programmes.find({}, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(page, paging, lambda stored: stored.id)
    return Page(items=[ProgrammeView.of(stored.state) for stored in items], next=after)


@router.get("/programmes/{id}", dependencies=[ANY_ROLE])
async def get_programme(id: str, response: Response, matcher: MatcherContext) -> ProgrammeView:
    stored = await matcher.programmes.load(id)
    set_etag(response, stored.version)
    return ProgrammeView.of(stored.state)


@router.put("/programmes/{id}/settings")
async def change_settings(
    id: str, body: ProgrammeSettings, command: CoordinatorCommand, response: Response, matcher: MatcherContext
) -> ProgrammeView:
    """A member trusts the confidential contact whom the programme names. So only an admin names another one."""
    moment = matcher.clock.moment()

    def decide(state: Programme) -> programmes.Decision | None:
        if body.confidential_contact != state.settings.confidential_contact:
            if "admin" not in command.principal.roles:
                raise forbidden("Only an admin names another confidential contact.")
            _require_other_person(body, command)
        return programmes.change_settings(state, body, moment)

    return await _update_programme(id, command, response, matcher, decide)


@router.post("/programmes/{id}/open")
async def open_programme(
    id: str, command: CoordinatorCommand, response: Response, matcher: MatcherContext
) -> ProgrammeView:
    moment = matcher.clock.moment()
    return await _update_programme(
        id, command, response, matcher, lambda state: programmes.open_programme(state, moment)
    )


@router.post("/programmes/{id}/close")
async def close_programme(
    id: str, command: CoordinatorCommand, response: Response, matcher: MatcherContext
) -> ProgrammeView:
    moment = matcher.clock.moment()
    return await _update_programme(
        id, command, response, matcher, lambda state: programmes.close_programme(state, moment)
    )


def _require_other_person(settings: ProgrammeSettings, command: Command) -> None:
    """Whoever runs programmes cannot name themselves. Raises ``CommandRejected``."""
    if settings.confidential_contact in (command.principal.subject, command.principal.member_id):
        raise CommandRejected("contact_is_caller", "You run programmes, so you cannot be the confidential contact.")


async def _update_programme(
    id: str, command: Command, response: Response, matcher: Matcher, decide: ProgrammeDecision
) -> ProgrammeView:
    await programme_for(command.principal, id, "manage_programme", matcher.programmes)
    saved = await matcher.programmes.update_existing(id, command.op, decide, expect=command.expect)
    set_etag(response, saved.version)
    return ProgrammeView.of(saved.require_state())
