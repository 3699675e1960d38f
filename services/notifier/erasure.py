"""Erasing what notifier keeps of a member. Each step can be repeated; a sweep does until nothing is left."""

from chassis.core.commands import Op
from chassis.storage.aggregates import Change
from chassis.storage.mongo import chunks
from services.notifier.domain import notification, recipient
from services.notifier.store import Notifier


async def forget(member_id: str, slot: str, notifier: Notifier) -> None:
    """Wishes, places, whose partner they were, and every notification to them or about their times.

    Raises what a single one of them raised: the sweep comes back.
    """
    op = Op(f"forget/{slot}")
    await notifier.recipients.update(member_id, op, recipient.forget)
    await notifier.forget_pairings_of(member_id)
    ids = [stored.id async for stored in notifier.all_about(member_id)]
    for chunk in chunks(ids):
        for done in await notifier.notifications.update_many([Change(id, op, notification.forget) for id in chunk]):
            if isinstance(done, Exception):
                raise done
