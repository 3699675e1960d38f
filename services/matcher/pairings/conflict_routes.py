"""Pairings between whose two the organisation has come to stand: listed for whoever coordinates, who decides."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from chassis.web.http import Command, Page, PageRequest, Principal, RequestBody, allow, build_page, command
from contracts.envelope import Instant
from contracts.pairings import PairingStateName
from contracts.profiles import Side
from services.matcher.domain.errors import Unknown
from services.matcher.domain.fit.rules import WORDS, Rule
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.pairings.views import PairingView
from services.matcher.permissions import not_in_conflict, pairing_for, programme_for
from services.matcher.store import Matcher

Manager = Annotated[Principal, allow("coordinator", "admin")]
Managing = Annotated[Command, command("coordinator", "admin")]


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
                "words": [WORDS[rule] for rule in conflict.rules],
                "since": conflict.since,
                "ends_at": conflict.ends_at,
            }
        )


def conflict_routes(matcher: Matcher) -> APIRouter:
    """Seen and decided by coordinators who are not concerned themselves; the two are told nothing."""
    router = APIRouter(tags=["conflicts"])

    @router.get("/programmes/{id}/conflicts")
    async def waiting(id: str, principal: Manager, paging: Annotated[PageRequest, Depends()]) -> Page[ConflictView]:
        """What nobody has decided on yet."""
        await programme_for(principal, id, "run_rounds", matcher)
        found = matcher.conflicts_page(id, limit=paging.fetch_limit, after=paging.after)
        items, after = await build_page(found, paging, lambda stored: stored.id)
        pairs = [{one.state.plan.senior.member_id, one.state.plan.junior.member_id} for one in items]
        shown = await not_in_conflict(principal, pairs, matcher)
        return Page(items=[ConflictView.of(one.state) for one, ok in zip(items, shown, strict=True) if ok], next=after)

    @router.post("/pairings/{id}/conflict")
    async def decide(id: str, body: DecisionBody, asked: Managing) -> PairingView:
        await pairing_for(asked.principal, id, "decide_conflict", matcher)
        now, machine = matcher.clock.now(), matcher.clock.machine_now()

        def deciding(state: Pairing | None) -> pairings.Decision | None:
            if state is None or state.gone:
                raise Unknown("pairing")
            return pairings.decide_conflict(state, body.decision, now, machine)

        return PairingView.seen_by((await matcher.pairings.update(id, asked.op, deciding)).require_state(), None)

    return router
