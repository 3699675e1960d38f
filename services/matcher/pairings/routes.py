"""Pairings, requests for a partner, and ledgers: commands and queries."""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field, model_validator

from chassis.storage.aggregates import Stored
from chassis.web.http import (
    Command,
    Page,
    PageRequest,
    Principal,
    Problem,
    RequestBody,
    allow,
    build_page,
    command,
    etag,
    not_found,
)
from contracts.pairings import DeclineReason, PairingStateName
from contracts.profiles import Side
from services.matcher.domain.access_policy import Action
from services.matcher.domain.errors import Refused, Unknown
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings import request as requests
from services.matcher.domain.pairings.pairing import Charter, Pairing
from services.matcher.domain.pairings.request import Request
from services.matcher.domain.pairings.seat_ledger import Ledger
from services.matcher.pairings import proposals
from services.matcher.pairings.views import AcceptedView, ChoiceView, LedgerView, PairingView, RequestView
from services.matcher.permissions import myself, not_in_conflict, pairing_for, programme_for
from services.matcher.store import Matcher

Viewer = Annotated[Principal, allow("member", "coordinator", "admin")]
Member = Annotated[Principal, allow("member")]
Taking = Annotated[Command, command("member")]
Acting = Annotated[Command, command("member", "coordinator", "admin")]
Managing = Annotated[Command, command("coordinator", "admin")]
Deciding = Callable[[Pairing, Side | None], pairings.Decision | None]
Text = Annotated[str, Field(min_length=1, max_length=300)]


class AnswerBody(RequestBody):
    answer: Literal["accepted", "declined"]
    reason: DeclineReason | None = None

    @model_validator(mode="after")
    def _reason_of_a_refusal(self) -> Self:
        if self.reason is not None and self.answer == "accepted":
            raise ValueError("a reason belongs to a refusal")
        return self


class CharterBody(RequestBody):
    """A text to agree on, or ``agree`` to the one that stands."""

    goals: tuple[Text, ...] = Field((), max_length=10)
    meeting_rhythm: Annotated[str, Field(max_length=100)] = ""
    confidential: bool = True
    agree: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if bool(self.goals) == self.agree:
            raise ValueError("give goals, or agree to the text that stands")
        return self


class PauseBody(RequestBody):
    until: date | None = None


class RenewBody(RequestBody):
    months: Annotated[int, Field(ge=1, le=24)] = 3


class PairBody(RequestBody):
    senior: Annotated[str, Field(min_length=1, max_length=64)]
    junior: Annotated[str, Field(min_length=1, max_length=64)]


class AskBody(RequestBody):
    partner: Annotated[str, Field(min_length=1, max_length=64)]


def pairing_routes(matcher: Matcher) -> APIRouter:  # noqa: C901 - one small function for each route
    """Pairings: seen, answered, chartered, paused, renewed, ended."""
    router = APIRouter(tags=["pairings"])

    async def done(id: str, asked: Command, action: Action, decide: Deciding) -> PairingView:
        stored, _ = await pairing_for(asked.principal, id, action, matcher)
        if asked.expect is not None:
            raise Problem(412, "A pairing has no ETag; repeat a request by its Idempotency-Key.", code="no_etag")
        side = stored.state.side_of(asked.principal.member_id)

        def deciding(state: Pairing | None) -> pairings.Decision | None:
            if state is None or state.gone:
                raise Unknown("pairing")
            return decide(state, side)

        return PairingView.seen_by((await matcher.pairings.update(id, asked.op, deciding)).require_state(), side)

    @router.get("/pairings")
    async def list_pairings(
        principal: Viewer,
        paging: Annotated[PageRequest, Depends()],
        programme_id: str | None = None,
        state: PairingStateName | None = None,
        round_id: str | None = None,
        mine: Annotated[bool, Query(description="Own pairings only, also for coordinators and admins.")] = False,
    ) -> Page[PairingView]:
        member_id = await _whose(principal, programme_id, mine, matcher)
        found = matcher.pairings_page(
            member_id=member_id,
            programme_id=programme_id,
            state=state,
            round_id=round_id,
            limit=paging.fetch_limit,
            after=paging.after,
        )
        items, after = await build_page(found, paging, lambda stored: stored.id)
        return Page(items=await _visible(items, principal, matcher), next=after)

    @router.get("/pairings/{id}")
    async def one(id: str, principal: Viewer) -> PairingView:
        pairing = (await pairing_for(principal, id, "see_pairing", matcher))[0].state
        return PairingView.seen_by(pairing, pairing.side_of(principal.member_id))

    @router.post("/pairings/{id}/answer")
    async def answer(id: str, body: AnswerBody, asked: Taking) -> PairingView:
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        return await done(
            id,
            asked,
            "answer",
            lambda pairing, side: pairings.answer(pairing, _own(side), body.answer, body.reason, now, machine),
        )

    @router.post("/pairings/{id}/charter")
    async def charter(id: str, body: CharterBody, asked: Taking) -> PairingView:
        text = None if body.agree else Charter(**body.model_dump(exclude={"agree"}))
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        return await done(
            id,
            asked,
            "charter",
            lambda pairing, side: pairings.sign(pairing, _own(side), text, now, machine),
        )

    @router.post("/pairings/{id}/pause")
    async def pause(id: str, body: PauseBody, asked: Acting) -> PairingView:
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        return await done(id, asked, "pause", lambda pairing, _: pairings.pause(pairing, body.until, now, machine))

    @router.post("/pairings/{id}/resume")
    async def resume(id: str, asked: Acting) -> PairingView:
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        return await done(id, asked, "resume", lambda pairing, _: pairings.resume(pairing, now, machine))

    @router.post("/pairings/{id}/renew")
    async def renew(id: str, body: RenewBody, asked: Taking) -> PairingView:
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        return await done(
            id,
            asked,
            "renew",
            lambda pairing, side: pairings.renew(pairing, _own(side), body.months, now, machine),
        )

    @router.post("/pairings/{id}/end")
    async def end(id: str, asked: Acting) -> PairingView:
        now, machine = matcher.clock.now(), matcher.clock.machine_now()
        return await done(id, asked, "end", lambda pairing, _: pairings.end(pairing, now, machine))

    @router.post("/programmes/{id}/pairings", status_code=201)
    async def put_together(id: str, body: PairBody, asked: Managing, response: Response) -> PairingView:
        programme = await programme_for(asked.principal, id, "run_rounds", matcher)
        if programme.state != "open":
            raise Refused("programme_not_open", "People are paired in open programmes only.")
        if not all(await not_in_conflict(asked.principal, [{body.senior, body.junior}], matcher)):
            raise Refused("own_line", "You or your own line would take part; another coordinator may do it.")
        made = await proposals.put_together(programme, body.senior, body.junior, asked.op, matcher)
        stored = await matcher.pairings.get(made.id)
        assert stored is not None, "it was saved just now"
        response.headers["Location"] = f"/pairings/{made.id}"
        return PairingView.seen_by(stored.state, None)

    return router


def request_routes(matcher: Matcher) -> APIRouter:  # noqa: C901 - one small function for each route
    """Choosing a partner oneself, where the programme lets members do so."""
    router = APIRouter(tags=["requests"])

    @router.get("/programmes/{id}/shortlist")
    async def shortlist(id: str, principal: Member, limit: Annotated[int, Query(ge=1, le=20)] = 10) -> Page[ChoiceView]:
        programme = (await matcher.programme(id)).state
        found = await proposals.shortlist(programme, myself(principal), limit, matcher)
        return Page(items=[ChoiceView.of(choice, matcher.taxonomy) for choice in found])

    @router.post("/programmes/{id}/requests", status_code=201)
    async def ask(id: str, body: AskBody, asked: Taking, response: Response) -> RequestView:
        programme = (await matcher.programme(id)).state
        stored = await proposals.ask(programme, myself(asked.principal), body.partner, asked.op, matcher)
        response.headers["Location"] = f"/requests/{stored.id}"
        return RequestView.of(stored.state)

    @router.get("/requests")
    async def list_requests(principal: Member) -> Page[RequestView]:
        me = myself(principal)
        found = [stored.state for stored in await matcher.requests_of(me)]
        return Page(items=[RequestView.of(request) for request in found if _seen_by(request, me)])

    @router.get("/requests/{id}")
    async def one(id: str, principal: Member) -> RequestView:
        stored = await matcher.requests.get(id)
        if stored is None or not _seen_by(stored.state, myself(principal)):
            raise not_found("request")
        return RequestView.of(stored.state)

    @router.post("/requests/{id}/accept")
    async def accept(id: str, asked: Taking) -> AcceptedView:
        me = myself(asked.principal)
        request, pairing = await proposals.accept(id, me, matcher)
        stored = await matcher.pairings.get(pairing.id)
        assert stored is not None, "it was saved just now"
        view = PairingView.seen_by(stored.state, stored.state.side_of(me))
        return AcceptedView(request=RequestView.of(request), pairing=view)

    @router.post("/requests/{id}/decline")
    async def decline(id: str, asked: Taking) -> RequestView:
        me, now = myself(asked.principal), matcher.clock.now()
        saved = await matcher.requests.update(
            id, asked.op, lambda state: requests.declined(requests.open_for(state, me, now))
        )
        return RequestView.of(saved.require_state())

    @router.post("/requests/{id}/withdraw")
    async def withdraw(id: str, asked: Taking) -> RequestView:
        me = myself(asked.principal)

        def decide(state: Request | None) -> requests.Decision | None:
            if state is None or state.asker != me:
                raise Unknown("request")
            return requests.withdrawn(state)

        return RequestView.of((await matcher.requests.update(id, asked.op, decide)).require_state())

    return router


def ledger_routes(matcher: Matcher) -> APIRouter:
    """Seats, for admins and for whose they are."""
    router = APIRouter(tags=["ledgers"])

    @router.get("/ledgers/{member_id}")
    async def one(
        member_id: str, principal: Annotated[Principal, allow("member", "admin")], response: Response
    ) -> LedgerView:
        if "admin" not in principal.roles and principal.member_id != member_id:
            raise not_found("ledger")
        stored = await matcher.ledgers.get(member_id)
        ledger = stored.state if stored else Ledger(member_id=member_id)
        if principal.member_id != member_id:
            people = {member_id, *(seat.partner for seat in ledger.held.values())}
            if not all(await not_in_conflict(principal, [people], matcher)):
                raise not_found("ledger")
        version = stored.version if stored else 0
        etag(response, version)
        return LedgerView.of(ledger, version)

    return router


async def _whose(principal: Principal, programme_id: str | None, mine: bool, matcher: Matcher) -> str | None:
    """Whose pairings to list: one member's own, or (None) all that there are."""
    if not mine and "admin" in principal.roles:
        return None
    if not mine and "coordinator" in principal.roles:
        if programme_id is not None:
            await programme_for(principal, programme_id, "run_rounds", matcher)
            return None
        if principal.member_id is None:
            raise Problem(422, "Say of which programme: ?programme_id=", code="programme_needed")
    return myself(principal)


async def _visible(found: list[Stored[Pairing]], principal: Principal, matcher: Matcher) -> list[PairingView]:
    """Own pairings, and others' where there is no conflict."""
    pairs = [{stored.state.plan.senior.member_id, stored.state.plan.junior.member_id} for stored in found]
    free = await not_in_conflict(principal, pairs, matcher)
    sides = [stored.state.side_of(principal.member_id) for stored in found]
    return [
        PairingView.seen_by(stored.state, side)
        for stored, side, ok in zip(found, sides, free, strict=True)
        if ok or side is not None
    ]


def _own(side: Side | None) -> Side:
    assert side is not None, "only participants get here"
    return side


def _seen_by(request: Request, me: str) -> bool:
    if request.state == "erased":
        return False
    return request.asker == me or (request.asked == me and not request.hidden)
