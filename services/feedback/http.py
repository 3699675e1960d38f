"""What members may ask feedback."""

from typing import Annotated

from fastapi import APIRouter, Depends

from chassis.http import Page, Paging, Principal, allow, forbidden, page
from contracts.pairings import PairingState
from services.feedback.store import Feedback


def routes(feedback: Feedback) -> APIRouter:
    router = APIRouter()

    @router.get("/members/{member}/pairings")
    async def pairings(
        member: str, principal: Annotated[Principal, allow("member", "admin")], paging: Annotated[Paging, Depends()]
    ) -> Page[PairingState]:
        """What feedback holds of a member; ``me`` is the asker. For themselves and for admins."""
        id = principal.member_id if member == "me" else member
        if id is None or (id != principal.member_id and "admin" not in principal.roles):
            raise forbidden()
        found = feedback.pairings_of(id, limit=paging.more, after=paging.after)
        items, after = await page(found, paging, lambda one: one.pairing_id)
        return Page(items=items, next=after)

    return router
