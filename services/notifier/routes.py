"""What members may ask notifier: their inbox, their wishes, and how they are reached."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.storage.aggregates import Stored
from chassis.web.http import (
    Command,
    Page,
    PageRequest,
    Principal,
    allow,
    build_page,
    command,
    forbidden,
    not_found,
    set_etag,
)
from contracts.envelope import Instant
from contracts.profiles import ContactChanged
from contracts.programmes import Care
from services.notifier.domain import notification as notes
from services.notifier.domain import recipient as readers
from services.notifier.domain.catalogue import CATALOGUE, Kind
from services.notifier.domain.notification import Notification, effective_quiet_hours
from services.notifier.domain.recipient import ChannelPreference, QuietHoursPreference, Recipient
from services.notifier.rendering import render_message
from services.notifier.sending import load_rendering_context
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
        return cls(**known.model_dump(include=set(cls.model_fields)))


class Item(BaseModel):
    """One message in an inbox."""

    id: str
    purpose: str
    subject: str
    text: str
    language: str
    pairing_id: str | None
    programme_id: str | None
    shown_at: Instant
    read_at: Instant | None
    by_email: Literal["no", "sent", "under way", "failed"]


class Unread(BaseModel):
    unread: int


class Counts(BaseModel):
    """How many messages are how far: of nobody in particular. ``suppressed``: not said, on purpose."""

    later: int
    under_way: int
    sent: int
    failed: int
    suppressed: int


class Wish(BaseModel):
    """One purpose, what it may use, and what the reader wants. ``needed``: it always stands in the inbox."""

    purpose: str
    kind: Kind
    email: bool
    inbox: bool
    needed: bool


class Preferences(BaseModel):
    """``quiet_hours``: the reader's own, otherwise None and each programme's ``usual_hours`` count."""

    wishes: list[Wish]
    quiet_hours: QuietHoursPreference | None
    usual_hours: QuietHoursPreference
    time_zone: str | None


class Wishes(BaseModel):
    """All of them: a purpose that is not named is as the programme has it."""

    model_config = ConfigDict(extra="forbid")

    wishes: dict[str, ChannelPreference] = Field(default_factory=dict, max_length=len(CATALOGUE))
    quiet_hours: QuietHoursPreference | None = None


def routes(notifier: Notifier) -> APIRouter:
    router = APIRouter()
    _inbox(router, notifier)
    _preferences(router, notifier)

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

    @router.get("/notifications/counts", dependencies=[allow("admin", "service")])
    async def counts() -> Counts:
        """How many messages wait, were sent, failed, or were not said on purpose. For operators."""
        return Counts(**await notifier.counts())

    return router


def _inbox(router: APIRouter, notifier: Notifier) -> None:
    @router.get("/inbox")
    async def inbox(
        principal: Annotated[Principal, allow("member")],
        paging: Annotated[PageRequest, Depends()],
        unread: Annotated[bool, Query(description="Only what was not read yet.")] = False,
    ) -> Page[Item]:
        """The asker's own messages, newest first."""
        member_id = _own(principal)
        found = notifier.inbox(member_id, unread=unread, limit=paging.fetch_limit, after=paging.after)
        stored, next_ = await build_page(found, paging, lambda one: one.state.order or "")
        contact = await _contact(member_id, notifier)
        return Page(items=[await _item(one.state, contact, notifier) for one in stored], next=next_)

    @router.get("/inbox/unread")
    async def unread_count(principal: Annotated[Principal, allow("member")]) -> Unread:
        """How many of the asker's messages were not read yet."""
        return Unread(unread=await notifier.unread_count(_own(principal)))

    @router.post("/inbox/{notification}/read")
    async def read(notification: str, command: Annotated[Command, command("member")]) -> Item:
        """The asker has seen it."""
        member_id = _own(command.principal)
        stored = await notifier.notifications.get(notification)
        if stored is None or stored.state.member_id != member_id or stored.state.shown_at is None:
            raise not_found("message")
        now = notifier.clock.now()
        saved = await notifier.notifications.update(
            notification, command.op, lambda known: notes.mark_read(known, now) if known else None
        )
        return await _item(saved.require_state(), await _contact(member_id, notifier), notifier)


def _preferences(router: APIRouter, notifier: Notifier) -> None:
    @router.get("/preferences")
    async def preferences(principal: Annotated[Principal, allow("member")], response: Response) -> Preferences:
        """What the asker wants to be told of, where, and when not."""
        member_id = _own(principal)
        stored = await notifier.recipients.get(member_id)
        set_etag(response, stored.version if stored else 0)
        return await _shown(stored, member_id, notifier)

    @router.put("/preferences")
    async def set_preferences(
        wishes: Wishes, command: Annotated[Command, command("member")], response: Response
    ) -> Preferences:
        """All wishes at once; what waits for the asker's answer always stands in the inbox."""
        member_id = _own(command.principal)
        if await notifier.is_gone(member_id):
            raise not_found("member")
        saved = await notifier.recipients.update(
            member_id,
            command.op,
            lambda known: readers.set_preferences(known, member_id, wishes.wishes, wishes.quiet_hours),
            expect=command.expect,
        )
        set_etag(response, saved.version)
        return await _shown(Stored(member_id, saved.require_state(), saved.version), member_id, notifier)


def _own(principal: Principal) -> str:
    if principal.member_id is None:
        raise forbidden()
    return principal.member_id


async def _contact(member_id: str, notifier: Notifier) -> ContactChanged:
    known = await notifier.contacts.get(member_id)
    return known or ContactChanged(member_id=member_id, display_name="")


async def _item(note: Notification, contact: ContactChanged, notifier: Notifier) -> Item:
    about = note.about
    known = await notifier.programmes.get(about.programme_id) if about.programme_id else None
    pairing = await notifier.pairings.get(about.pairing_id) if about.pairing_id else None
    words = render_message(
        note, await load_rendering_context(note, contact, known.settings if known else None, pairing, notifier)
    )
    return Item(
        id=note.notification_id,
        purpose=note.purpose,
        subject=words.subject,
        text=words.text,
        language=words.language,
        pairing_id=note.about.pairing_id,
        programme_id=note.about.programme_id,
        shown_at=note.shown_at or note.happened_at,
        read_at=note.read_at,
        by_email=_by_email(note),
    )


def _by_email(note: Notification) -> Literal["no", "sent", "under way", "failed"]:
    if note.state == "held":
        return "under way"
    if note.channel != "email":
        return "no"
    return "sent" if note.state == "sent" else "under way" if note.state == "sending" else "failed"


async def _shown(stored: Stored[Recipient] | None, member_id: str, notifier: Notifier) -> Preferences:
    reader = stored.state if stored else Recipient(member_id=member_id)
    usual = effective_quiet_hours(Care(), None)
    known = await notifier.contacts.get(member_id)
    return Preferences(
        wishes=[
            Wish(
                purpose=row.purpose,
                kind=row.kind,
                email=row.kind != "note" and reader.channels_for(row.purpose).email,
                inbox=reader.channels_for(row.purpose).inbox,
                needed=row.kind == "essential",
            )
            for row in CATALOGUE
        ],
        quiet_hours=reader.hours,
        usual_hours=QuietHoursPreference(from_hour=usual.from_hour, until_hour=usual.until_hour),
        time_zone=known.time_zone if known else None,
    )
