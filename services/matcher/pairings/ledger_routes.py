"""The endpoint of a member's seats: for the member and for admins."""

from typing import Annotated

from fastapi import APIRouter, Response

from chassis.web.http import (
    Principal,
    allow,
    not_found,
    set_etag,
)
from services.matcher.dependencies import MatcherContext
from services.matcher.domain.pairings.seat_ledger import SeatLedger
from services.matcher.pairings.views import LedgerView
from services.matcher.permissions import not_in_conflict

router = APIRouter(tags=["ledgers"])


@router.get("/ledgers/{member_id}")
async def get_ledger(
    member_id: str,
    principal: Annotated[Principal, allow("member", "admin")],
    response: Response,
    matcher: MatcherContext,
) -> LedgerView:
    if "admin" not in principal.roles and principal.member_id != member_id:
        raise not_found("ledger")
    stored = await matcher.ledgers.get(member_id)
    ledger = stored.state if stored else SeatLedger(member_id=member_id)
    if principal.member_id != member_id:
        people = {member_id, *(seat.partner for seat in ledger.held.values())}
        if not all(await not_in_conflict(principal, [people], matcher.members)):
            raise not_found("ledger")
    version = stored.version if stored else 0
    set_etag(response, version)
    return LedgerView.of(ledger, version)
