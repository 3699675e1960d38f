"""Endpoints of notifier: a member's inbox, preferences and contact, and counts for operators."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from chassis.web.http import Page, Principal, allow, build_page, forbidden, not_found, set_etag
from contracts.profiles import ContactChanged
from services.notifier.bounces import take_report
from services.notifier.dependencies import (
    CoordinatorPrincipal,
    MemberCommand,
    MemberOrAdmin,
    MemberPrincipal,
    NotifierContext,
    Paging,
)
from services.notifier.domain.bounce import BounceReport
from services.notifier.domain.notification import Notification, mark_read
from services.notifier.domain.recipient import Recipient, set_preferences
from services.notifier.rendering import render_message
from services.notifier.sending import load_rendering_context
from services.notifier.store import Notifier
from services.notifier.views import (
    ContactView,
    InboxItemView,
    MailReportBody,
    MailReportTaken,
    NotificationCountsView,
    PreferencesBody,
    PreferencesView,
    UnreachableView,
    UnreadCountView,
)

router = APIRouter()


@router.get("/inbox")
async def get_inbox(
    principal: MemberPrincipal,
    notifier: NotifierContext,
    paging: Paging,
    unread: Annotated[bool, Query(description="Only messages that were not read yet.")] = False,
) -> Page[InboxItemView]:
    """The caller's own messages, newest first."""
    member_id = _member_id(principal)
    matching = notifier.inbox(member_id, unread=unread, limit=paging.fetch_limit, after=paging.after)
    page, next_key = await build_page(matching, paging, lambda stored: stored.state.order or "")
    contact = await _contact_or_empty(member_id, notifier)
    return Page(items=[await _inbox_item(stored.state, contact, notifier) for stored in page], next=next_key)


@router.get("/inbox/unread")
async def get_unread_count(principal: MemberPrincipal, notifier: NotifierContext) -> UnreadCountView:
    """The number of the caller's messages that were not read yet."""
    return UnreadCountView(unread=await notifier.unread_count(_member_id(principal)))


@router.post("/inbox/{notification}/read")
async def mark_message_read(notification: str, command: MemberCommand, notifier: NotifierContext) -> InboxItemView:
    """Mark one of the caller's messages as read."""
    member_id = _member_id(command.principal)
    stored = await notifier.notifications.get(notification)
    if stored is None or stored.state.member_id != member_id or stored.state.shown_at is None:
        raise not_found("message")
    now = notifier.clock.now()
    saved = await notifier.notifications.update(
        notification, command.op, lambda current: mark_read(current, now) if current else None
    )
    return await _inbox_item(saved.require_state(), await _contact_or_empty(member_id, notifier), notifier)


@router.get("/preferences")
async def get_preferences(principal: MemberPrincipal, notifier: NotifierContext, response: Response) -> PreferencesView:
    """The caller's channels for each purpose, and their quiet hours."""
    member_id = _member_id(principal)
    stored = await notifier.recipients.get(member_id)
    set_etag(response, stored.version if stored else 0)
    return await _preferences(stored.state if stored else Recipient(member_id=member_id), member_id, notifier)


@router.put("/preferences")
async def replace_preferences(
    preferences: PreferencesBody, command: MemberCommand, notifier: NotifierContext, response: Response
) -> PreferencesView:
    """Replace all preferences. Messages that need an answer always appear in the inbox."""
    member_id = _member_id(command.principal)
    if await notifier.is_erased(member_id):
        raise not_found("member")
    saved = await notifier.recipients.update(
        member_id,
        command.op,
        lambda current: set_preferences(current, member_id, preferences.wishes, preferences.quiet_hours),
        expect=command.expect,
    )
    set_etag(response, saved.version)
    return await _preferences(saved.require_state(), member_id, notifier)


@router.get("/contacts/{member}")
async def get_contact(member: str, principal: MemberOrAdmin, notifier: NotifierContext) -> ContactView:
    """The contact that notifier stores for a member; ``me`` is the caller. For the member and for admins."""
    member_id = principal.member_id if member == "me" else member
    if member_id is None or (member_id != principal.member_id and "admin" not in principal.roles):
        raise forbidden()
    contact = await notifier.contacts.get(member_id)
    if contact is None:
        raise not_found("member")
    return ContactView.of(contact)


@router.get("/notifications/counts", dependencies=[allow("admin", "service")])
async def get_notification_counts(notifier: NotifierContext) -> NotificationCountsView:
    """How many notifications wait, were sent, failed, or were suppressed on purpose. For operators."""
    return NotificationCountsView(**await notifier.counts())


@router.get("/programmes/{id}/unreachable", tags=["programmes"])
async def get_unreachable(id: str, principal: CoordinatorPrincipal, notifier: NotifierContext) -> Page[UnreachableView]:
    """The members of a programme whose mail came back, and who get no more mail until their address changes."""
    programme = await notifier.programmes.get(id)
    named = programme is not None and principal.member_id in programme.settings.coordinators
    coordinates = "coordinator" in principal.roles and (id in principal.programmes or named)
    if "admin" not in principal.roles and not coordinates:
        raise forbidden("Only the coordinators of the programme can see this.")
    if programme is None:
        raise not_found("programme")
    return Page(items=[UnreachableView.of(contact, entry) for contact, entry in await notifier.unreachable_in(id)])


@router.post("/mail-reports", status_code=202, dependencies=[allow("service")])
async def take_mail_report(body: MailReportBody, notifier: NotifierContext) -> MailReportTaken:
    """Take the report of a mail provider that a mail did not arrive. The answer is the same for every report."""
    await take_report(BounceReport((body.message_id,), body.status), notifier)
    return MailReportTaken()


def _member_id(principal: Principal) -> str:
    if principal.member_id is None:
        raise forbidden()
    return principal.member_id


async def _contact_or_empty(member_id: str, notifier: Notifier) -> ContactChanged:
    contact = await notifier.contacts.get(member_id)
    return contact or ContactChanged(member_id=member_id, display_name="")


async def _inbox_item(notification: Notification, contact: ContactChanged, notifier: Notifier) -> InboxItemView:
    about = notification.about
    programme = await notifier.programmes.get(about.programme_id) if about.programme_id else None
    pairing = await notifier.pairings.get(about.pairing_id) if about.pairing_id else None
    settings = programme.settings if programme else None
    context = await load_rendering_context(notification, contact, settings, pairing, notifier)
    return InboxItemView.of(notification, render_message(notification, context))


async def _preferences(recipient: Recipient, member_id: str, notifier: Notifier) -> PreferencesView:
    contact = await notifier.contacts.get(member_id)
    return PreferencesView.of(recipient, contact.time_zone if contact else None)
