"""Erases what notifier stores about a member. A sweep repeats the steps until nothing is left."""

from chassis.core.commands import Op
from chassis.storage.aggregates import Change
from chassis.storage.mongo import chunks
from services.notifier.domain import notification, recipient
from services.notifier.store import Notifier


async def erase_member(member_id: str, slot: str, notifier: Notifier) -> None:
    """Erase preferences and weekly slots, pairings, requests, and notifications to the member or about their meetings.

    Raises the first error of a single notification; the sweep then tries again.
    """
    op = Op(f"forget/{slot}")
    await notifier.recipients.update(member_id, op, recipient.erase_recipient)
    await notifier.delete_pairings_of(member_id)
    await notifier.delete_requests_of(member_id)
    await erase_notifications(member_id, slot, notifier)


async def erase_notifications(member_id: str, slot: str, notifier: Notifier) -> None:
    """Erase every notification to the member or about their meetings. Raises the first error of a single one."""
    op = Op(f"forget/{slot}")
    ids = [stored.id async for stored in notifier.notifications_about(member_id)]
    for chunk in chunks(ids):
        for result in await notifier.notifications.update_many(
            [Change(id, op, notification.erase_notification) for id in chunk]
        ):
            if isinstance(result, Exception):
                raise result
