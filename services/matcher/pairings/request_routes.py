"""Endpoints by which members choose a partner themselves, where the programme allows it."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from chassis.web.http import (
    Page,
    RequestBody,
    not_found,
    set_location,
)
from contracts.errors import NotFound
from services.matcher.dependencies import MatcherContext, MemberCommand, MemberPrincipal
from services.matcher.domain.pairings import request as requests
from services.matcher.domain.pairings.request import PartnerRequest
from services.matcher.pairings import proposals
from services.matcher.pairings.views import AcceptedView, ChoiceView, PairingView, RequestView
from services.matcher.permissions import require_member

router = APIRouter(tags=["requests"])


class AskBody(RequestBody):
    partner: Annotated[str, Field(min_length=1, max_length=64)]


@router.get("/programmes/{id}/shortlist")
async def get_shortlist(
    id: str, principal: MemberPrincipal, matcher: MatcherContext, limit: Annotated[int, Query(ge=1, le=20)] = 10
) -> Page[ChoiceView]:
    programme = (await matcher.programmes.load(id)).state
    choices = await proposals.find_shortlist(programme, require_member(principal), limit, matcher)
    return Page(items=[ChoiceView.of(choice, matcher.taxonomy) for choice in choices])


@router.post("/programmes/{id}/requests", status_code=201)
async def create_request(
    id: str, body: AskBody, command: MemberCommand, response: Response, matcher: MatcherContext
) -> RequestView:
    programme = (await matcher.programmes.load(id)).state
    stored = await proposals.create_request(
        programme, require_member(command.principal), body.partner, command.op, matcher
    )
    set_location(response, "requests", stored.id)
    return RequestView.of(stored.state)


@router.get("/requests")
async def list_requests(principal: MemberPrincipal, matcher: MatcherContext) -> Page[RequestView]:
    me = require_member(principal)
    profile = await matcher.members.get(me)
    sent_or_received = [stored.state for stored in await matcher.requests.of_member(me)]
    visible = [request for request in sent_or_received if requests.is_visible_to(request, me, profile)]
    return Page(items=[RequestView.of(request) for request in visible])


@router.get("/requests/{id}")
async def get_request(id: str, principal: MemberPrincipal, matcher: MatcherContext) -> RequestView:
    me = require_member(principal)
    stored = await matcher.requests.get(id)
    if stored is None or not requests.is_visible_to(stored.state, me, await matcher.members.get(me)):
        raise not_found("request")
    return RequestView.of(stored.state)


@router.post("/requests/{id}/accept")
async def accept_request(id: str, command: MemberCommand, matcher: MatcherContext) -> AcceptedView:
    me = require_member(command.principal)
    request, pairing = await proposals.accept_request(id, me, matcher)
    view = PairingView.seen_by(pairing, pairing.side_of(me), await matcher.members.get(me))
    return AcceptedView(request=RequestView.of(request), pairing=view)


@router.post("/requests/{id}/decline")
async def decline_request(id: str, command: MemberCommand, matcher: MatcherContext) -> RequestView:
    me, moment = require_member(command.principal), matcher.clock.moment()
    profile = await matcher.members.get(me)

    def decide(state: PartnerRequest | None) -> requests.Decision | None:
        return requests.decline_request(requests.require_open_request(state, me, profile, moment.now), moment)

    saved = await matcher.requests.update(id, command.op, decide)
    return RequestView.of(saved.require_state())


@router.post("/requests/{id}/withdraw")
async def withdraw_request(id: str, command: MemberCommand, matcher: MatcherContext) -> RequestView:
    me, moment = require_member(command.principal), matcher.clock.moment()

    def decide(state: PartnerRequest | None) -> requests.Decision | None:
        if state is None or state.asker != me:
            raise NotFound("request")
        return requests.withdraw_request(state, moment)

    return RequestView.of((await matcher.requests.update(id, command.op, decide)).require_state())
