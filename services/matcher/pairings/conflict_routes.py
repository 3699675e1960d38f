"""Endpoints of pairings whose two members stand in a conflict since the organisation changed.

Coordinators who are not concerned themselves list them and decide. The two members are not told.
"""

from typing import Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel

from chassis.web.http import Page, RequestBody, build_page
from contracts.envelope import Instant
from contracts.errors import NotFound
from contracts.pairings import PairingStateName
from contracts.profiles import Side
from services.matcher.dependencies import CoordinatorCommand, CoordinatorPrincipal, MatcherContext, Paging
from services.matcher.domain.fit.rules import REASON_TEXTS, Rule
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.pairings.views import PairingView
from services.matcher.permissions import not_in_conflict, pairing_for, programme_for

router = APIRouter(tags=["conflicts"])


class DecisionBody(RequestBody):
    """They go on all the same, or it ends, like any other and without blame."""

    decision: Literal["keep", "end"]


class ConflictView(BaseModel):
    """``ends_at``: when it ends by itself, where the programme says so and nobody decides otherwise."""

    pairing_id: str
    state: PairingStateName
    members: dict[Side, str]
    rules: list[Rule]
    words: list[str]
    since: Instant
    ends_at: Instant | None

    @classmethod
    def of(cls, pairing: Pairing) -> Self:
        conflict = pairing.conflict
        assert conflict is not None, "only pairings with a conflict are listed"
        return cls.model_validate(
            {
                "pairing_id": pairing.id,
                "state": pairing.state,
                "members": {"senior": pairing.plan.senior.member_id, "junior": pairing.plan.junior.member_id},
                "rules": conflict.rules,
                "words": [REASON_TEXTS[rule] for rule in conflict.rules],
                "since": conflict.since,
                "ends_at": conflict.ends_at,
            }
        )


@router.get("/programmes/{id}/conflicts")
async def list_conflicts(
    id: str, principal: CoordinatorPrincipal, paging: Paging, matcher: MatcherContext
) -> Page[ConflictView]:
    """What nobody has decided on yet."""
    await programme_for(principal, id, "run_rounds", matcher)
    found = matcher.pairings.page_of_conflicts(id, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(found, paging, lambda stored: stored.id)
    pairs = [{one.state.plan.senior.member_id, one.state.plan.junior.member_id} for one in items]
    shown = await not_in_conflict(principal, pairs, matcher)
    return Page(items=[ConflictView.of(one.state) for one, ok in zip(items, shown, strict=True) if ok], next=after)


@router.post("/pairings/{id}/conflict")
async def decide_conflict(
    id: str, body: DecisionBody, command: CoordinatorCommand, matcher: MatcherContext
) -> PairingView:
    await pairing_for(command.principal, id, "decide_conflict", matcher)
    moment = matcher.clock.moment()

    def decide(state: Pairing | None) -> pairings.Decision | None:
        if state is None or state.gone:
            raise NotFound("pairing")
        return pairings.decide_conflict(state, body.decision, moment)

    return PairingView.seen_by((await matcher.pairings.update(id, command.op, decide)).require_state(), None)
