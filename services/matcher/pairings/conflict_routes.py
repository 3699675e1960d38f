"""Endpoints of pairings whose two members stand in a conflict since the organisation changed.

Coordinators who are not concerned themselves list them and decide. The two members are not told.
"""

from typing import Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel

from chassis.web.http import Page, RequestBody, build_page
from contracts.envelope import Instant
from contracts.pairings import PairingStateName
from contracts.profiles import Side
from services.matcher.dependencies import CoordinatorCommand, CoordinatorPrincipal, MatcherContext, Paging
from services.matcher.domain.fit.hard_rules import REASON_TEXTS, Rule
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.pairings.views import PairingView
from services.matcher.permissions import not_in_conflict, pairing_for, programme_for

router = APIRouter(tags=["conflicts"])


class DecisionBody(RequestBody):
    """The pairing goes on all the same, or it ends like any other, without blame."""

    decision: Literal["keep", "end"]


class ConflictView(BaseModel):
    """``ends_at``: when the conflict ends the pairing, where the programme says so and nobody decides otherwise."""

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
    """Conflicts on which nobody has decided yet."""
    await programme_for(principal, id, "run_rounds", matcher.programmes)
    page = matcher.pairings.page_of_conflicts(id, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(page, paging, lambda stored: stored.id)
    pairs = [{stored.state.plan.senior.member_id, stored.state.plan.junior.member_id} for stored in items]
    allowed = await not_in_conflict(principal, pairs, matcher.members)
    views = [ConflictView.of(stored.state) for stored, is_allowed in zip(items, allowed, strict=True) if is_allowed]
    return Page(items=views, next=after)


@router.post("/pairings/{id}/conflict")
async def decide_conflict(
    id: str, body: DecisionBody, command: CoordinatorCommand, matcher: MatcherContext
) -> PairingView:
    await pairing_for(command.principal, id, "decide_conflict", matcher)
    moment = matcher.clock.moment()
    saved = await matcher.pairings.update_existing(
        id, command.op, lambda pairing: pairings.decide_conflict(pairing, body.decision, moment)
    )
    return PairingView.seen_by(saved.require_state(), None)
