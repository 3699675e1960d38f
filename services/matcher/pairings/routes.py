"""Endpoints of pairings: listed, answered, chartered, paused, renewed, ended, and proposed by a coordinator."""

from collections.abc import Callable
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query, Response
from pydantic import Field, model_validator

from chassis.core.ids import derived_id
from chassis.storage.aggregates import Stored
from chassis.web.http import (
    Command,
    Page,
    Principal,
    Problem,
    RequestBody,
    build_page,
    set_location,
)
from contracts.envelope import Day
from contracts.errors import CommandRejected
from contracts.pairings import DeclineReason, PairingStateName
from contracts.profiles import ProfileChanged, Side
from contracts.text import SEVERAL_LINES
from services.matcher.context import Matcher
from services.matcher.dependencies import (
    CoordinatorCommand,
    MatcherContext,
    MemberCommand,
    Paging,
    UserCommand,
    UserPrincipal,
)
from services.matcher.domain.access_policy import Action
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.pairing import Pairing, PairingCharter
from services.matcher.pairings import proposals
from services.matcher.pairings.views import PairingView
from services.matcher.permissions import not_in_conflict, pairing_for, programme_for, require_member

router = APIRouter(tags=["pairings"])

PairingDecision = Callable[[Pairing, Side | None], pairings.Decision | None]
Text = Annotated[str, Field(min_length=1, max_length=300), SEVERAL_LINES]


class AnswerBody(RequestBody):
    answer: Literal["accepted", "declined"]
    reason: DeclineReason | None = None

    @model_validator(mode="after")
    def _check_reason(self) -> Self:
        if self.reason is not None and self.answer == "accepted":
            raise ValueError("a reason belongs to a refusal")
        return self


class CharterBody(RequestBody):
    """A text to agree on, or ``agree`` to the current text."""

    goals: tuple[Text, ...] = Field((), max_length=10)
    meeting_rhythm: Annotated[str, Field(max_length=100)] = ""
    confidential: bool = True
    agree: bool = False

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        if bool(self.goals) == self.agree:
            raise ValueError("give goals, or agree to the text that stands")
        return self


class PauseBody(RequestBody):
    until: Day | None = None


class RenewBody(RequestBody):
    months: Annotated[int, Field(ge=1, le=24)] = 3


class PairBody(RequestBody):
    senior: Annotated[str, Field(min_length=1, max_length=64)]
    junior: Annotated[str, Field(min_length=1, max_length=64)]


@router.get("/pairings")
async def list_pairings(
    principal: UserPrincipal,
    paging: Paging,
    matcher: MatcherContext,
    programme_id: str | None = None,
    state: PairingStateName | None = None,
    round_id: str | None = None,
    mine: Annotated[bool, Query(description="Own pairings only, also for coordinators and admins.")] = False,
) -> Page[PairingView]:
    member_id = await _filter_member(principal, programme_id, mine, matcher)
    pages = matcher.pairings.page(
        member_id=member_id,
        programme_id=programme_id,
        state=state,
        round_id=round_id,
        limit=paging.fetch_limit,
        after=paging.after,
    )
    items, after = await build_page(pages, paging, lambda stored: stored.id)
    return Page(items=await _view_allowed(items, principal, matcher), next=after)


@router.get("/pairings/{id}")
async def get_pairing(id: str, principal: UserPrincipal, matcher: MatcherContext) -> PairingView:
    pairing = (await pairing_for(principal, id, "see_pairing", matcher))[0].state
    side = pairing.side_of(principal.member_id)
    return PairingView.seen_by(pairing, side, await _own_profile(principal, matcher))


@router.post("/pairings/{id}/answer")
async def answer_proposal(id: str, body: AnswerBody, command: MemberCommand, matcher: MatcherContext) -> PairingView:
    moment = matcher.clock.moment()
    return await _update_pairing(
        id,
        command,
        "answer",
        matcher,
        lambda pairing, side: pairings.record_answer(pairing, _require_side(side), body.answer, body.reason, moment),
    )


@router.post("/pairings/{id}/charter")
async def sign_charter(id: str, body: CharterBody, command: MemberCommand, matcher: MatcherContext) -> PairingView:
    text = None if body.agree else PairingCharter(**body.model_dump(exclude={"agree"}))
    moment = matcher.clock.moment()
    return await _update_pairing(
        id,
        command,
        "charter",
        matcher,
        lambda pairing, side: pairings.sign_charter(pairing, _require_side(side), text, moment),
    )


@router.post("/pairings/{id}/pause")
async def pause_pairing(id: str, body: PauseBody, command: UserCommand, matcher: MatcherContext) -> PairingView:
    moment = matcher.clock.moment()
    return await _update_pairing(
        id, command, "pause", matcher, lambda pairing, _: pairings.pause_pairing(pairing, body.until, moment)
    )


@router.post("/pairings/{id}/resume")
async def resume_pairing(id: str, command: UserCommand, matcher: MatcherContext) -> PairingView:
    moment = matcher.clock.moment()
    return await _update_pairing(
        id, command, "resume", matcher, lambda pairing, _: pairings.resume_pairing(pairing, moment)
    )


@router.post("/pairings/{id}/renew")
async def renew_pairing(id: str, body: RenewBody, command: MemberCommand, matcher: MatcherContext) -> PairingView:
    moment = matcher.clock.moment()
    return await _update_pairing(
        id,
        command,
        "renew",
        matcher,
        lambda pairing, side: pairings.request_renewal(pairing, _require_side(side), body.months, moment),
    )


@router.post("/pairings/{id}/end")
async def end_pairing(id: str, command: UserCommand, matcher: MatcherContext) -> PairingView:
    moment = matcher.clock.moment()
    return await _update_pairing(id, command, "end", matcher, lambda pairing, _: pairings.end_pairing(pairing, moment))


@router.post("/programmes/{id}/pairings", status_code=201)
async def propose_pairing(
    id: str, body: PairBody, command: CoordinatorCommand, response: Response, matcher: MatcherContext
) -> PairingView:
    programme = await programme_for(command.principal, id, "run_rounds", matcher.programmes)
    if programme.state != "open":
        raise CommandRejected("programme_not_open", "People are paired in open programmes only.")
    if not all(await not_in_conflict(command.principal, [{body.senior, body.junior}], matcher.members)):
        raise CommandRejected("own_line", "You or your own line would take part; another coordinator may do it.")
    pairing_id = derived_id("pairing", "coordinator", command.op.key)
    pairing = await proposals.propose(programme, (body.senior, body.junior), pairing_id, "coordinator", matcher)
    set_location(response, "pairings", pairing.id)
    return PairingView.seen_by(pairing, None)


async def _update_pairing(
    id: str, command: Command, action: Action, matcher: Matcher, decide: PairingDecision
) -> PairingView:
    stored, _ = await pairing_for(command.principal, id, action, matcher)
    if command.expect is not None:
        raise Problem(412, "A pairing has no ETag; repeat a request by its Idempotency-Key.", code="no_etag")
    side = stored.state.side_of(command.principal.member_id)

    saved = await matcher.pairings.update_existing(id, command.op, lambda pairing: decide(pairing, side))
    return PairingView.seen_by(saved.require_state(), side, await _own_profile(command.principal, matcher))


async def _filter_member(principal: Principal, programme_id: str | None, mine: bool, matcher: Matcher) -> str | None:
    """The member whose pairings to list; None for all members."""
    if not mine and "admin" in principal.roles:
        return None
    if not mine and "coordinator" in principal.roles:
        if programme_id is not None:
            await programme_for(principal, programme_id, "run_rounds", matcher.programmes)
            return None
        if principal.member_id is None:
            raise Problem(422, "Say of which programme: ?programme_id=", code="programme_needed")
    return require_member(principal)


async def _view_allowed(page: list[Stored[Pairing]], principal: Principal, matcher: Matcher) -> list[PairingView]:
    """The caller's own pairings, and others' where the caller is in no conflict with the two."""
    pairs = [{stored.state.plan.senior.member_id, stored.state.plan.junior.member_id} for stored in page]
    allowed = await not_in_conflict(principal, pairs, matcher.members)
    sides = [stored.state.side_of(principal.member_id) for stored in page]
    own = await _own_profile(principal, matcher)
    return [
        PairingView.seen_by(stored.state, side, own)
        for stored, side, is_allowed in zip(page, sides, allowed, strict=True)
        if is_allowed or side is not None
    ]


async def _own_profile(principal: Principal, matcher: Matcher) -> ProfileChanged | None:
    return await matcher.members.get(principal.member_id) if principal.member_id is not None else None


def _require_side(side: Side | None) -> Side:
    assert side is not None, "only participants get here"
    return side
