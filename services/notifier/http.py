"""What members may ask notifier."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel

from chassis.http import Principal, allow, forbidden, not_found
from contracts.people import ContactChanged
from services.notifier.store import Notifier


class Contact(BaseModel):
    """How a member is called and reached, as it is known here."""

    member_id: str
    display_name: str
    email: str | None
    channels: tuple[str, ...]
    locale: str
    time_zone: str | None
    delegates: tuple[str, ...]

    @classmethod
    def of(cls, known: ContactChanged) -> "Contact":
        return cls(**known.model_dump())


def routes(notifier: Notifier) -> APIRouter:
    router = APIRouter()

    @router.get("/contacts/{member}")
    async def contact(member: str, principal: Annotated[Principal, allow("member", "admin")]) -> Contact:
        """What notifier holds of a member; ``me`` is the asker. For themselves and for admins."""
        id = principal.member_id if member == "me" else member
        if id is None or (id != principal.member_id and "admin" not in principal.roles):
            raise forbidden()
        known = await notifier.contacts.get(id)
        if known is None:
            raise not_found("member")
        return Contact.of(known)

    return router
