"""The collections of notifier: contacts, copies of programmes and pairings, notifications and recipients."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from chassis.core.clocks import Clock
from chassis.erasure import Erasure
from chassis.storage.aggregates import Aggregates, Stored
from chassis.storage.mongo import Documents, Index
from chassis.storage.projections import Projection
from contracts.feedback import FeedbackEvent
from contracts.pairings import PairingEvent
from contracts.profiles import ContactChanged, Side
from contracts.programmes import ProgrammeChanged
from contracts.requests import RequestEvent
from services.notifier.domain.bounce import address_mark
from services.notifier.domain.early_events import PostponedEvent
from services.notifier.domain.notification import Notification
from services.notifier.domain.notification_schedule import SCHEDULE
from services.notifier.domain.recipient import BouncedAddress, Recipient
from services.notifier.mail import Mailer

CONTACT_INDEXES: list[Index] = [("delegates",), ("taking_part.programme_id",)]
PAIRING_INDEXES: list[Index] = [("participants.member_id",)]
RECIPIENT_INDEXES: list[Index] = [("bounced.mark",)]
REQUEST_INDEXES: list[Index] = [("asker",), ("asked",)]
NOTIFICATION_INDEXES: list[Index] = [("member_id", "order"), ("about.of_member",), ("state", "due")]


@dataclass(frozen=True)
class Notifier:
    """The context of the service: its collections, its clock and its mailer.

    ``done`` records that one side answered a proposal or completed a check-in, but never the answer.
    """

    contacts: Projection[ContactChanged]
    programmes: Projection[ProgrammeChanged]
    pairings: Projection[PairingEvent]
    requests: Projection[RequestEvent]
    feedback: Projection[FeedbackEvent]
    done: Documents
    notifications: Aggregates[Notification]
    recipients: Aggregates[Recipient]
    postponed_events: Aggregates[PostponedEvent]
    erasures: Aggregates[Erasure]
    clock: Clock
    mailer: Mailer
    link_base: str | None

    async def holds(self, member_id: str) -> bool:
        """Whether anything about this member is still stored, also as somebody's assistant."""
        if await self.contacts.get(member_id) is not None or await self.contacts.count({"delegates": member_id}):
            return True
        recipient = await self.recipients.get(member_id)
        if recipient is not None and recipient.state.member_id:
            return True
        if await self.pairings.count(_pairings_with(member_id)) or await self.requests.count(_requests_of(member_id)):
            return True
        return await self.notifications.count(_notifications_about(member_id)) > 0

    async def is_erased(self, member_id: str) -> bool:
        """Whether this member is erased or about to be erased."""
        erasure, grave = await asyncio.gather(self.erasures.get(member_id), self.contacts.is_grave(member_id))
        return erasure is not None or grave

    async def delete_pairings_of(self, member_id: str) -> None:
        """Delete the member's pairings from the projection. Their topic keeps everything and has no tombstones."""
        await self.pairings.bury(_pairings_with(member_id))

    async def delete_requests_of(self, member_id: str) -> None:
        await self.requests.bury(_requests_of(member_id))

    def notifications_about(self, member_id: str) -> AsyncIterator[Stored[Notification]]:
        """Every notification to a member, or to assistants about the member's meetings."""
        return self.notifications.find(_notifications_about(member_id))

    def inbox(
        self, member_id: str, *, unread: bool, limit: int, after: str | None
    ) -> AsyncIterator[Stored[Notification]]:
        return self.notifications.find(_inbox_filter(member_id, unread=unread), sort="order", limit=limit, after=after)

    async def counts(self) -> dict[str, int]:
        """The number of notifications in each state, without those that tell a private fact or act.

        ``later``: due in the future. ``under_way``: being sent, tried again, or waiting for a contact.
        """
        private = [row.purpose for row in SCHEDULE if not row.is_counted]

        async def count(query: Mapping[str, Any]) -> int:
            return await self.notifications.count({**query, "purpose": {"$nin": private}})

        later = await count({"state": "held", "due": {"$gt": self.clock.now()}})
        return {
            "later": later,
            "under_way": await count({"state": {"$in": ["held", "sending"]}}) - later,
            "sent": await count({"state": "sent"}),
            "failed": await count({"state": "failed"}),
            "suppressed": await count({"state": "suppressed"}),
        }

    async def unread_count(self, member_id: str) -> int:
        return await self.notifications.count(_inbox_filter(member_id, unread=True))

    async def unreachable_in(self, programme_id: str) -> list[tuple[ContactChanged, BouncedAddress]]:
        """The members of the programme to whose address no mail goes, the newest first."""
        unreachable = []
        bounced = {stored.id: stored.state async for stored in self.recipients.find({"bounced.mark": {"$gt": ""}})}
        for id, contact in (await self.contacts.get_many(list(bounced))).items():
            is_there = contact.employment != "left" and any(
                part.programme_id == programme_id and part.state != "left" for part in contact.taking_part
            )
            entry = bounced[id].bounced
            if is_there and contact.email and entry and entry.mark == address_mark(id, contact.email):
                unreachable.append((contact, entry))
        return sorted(unreachable, key=lambda pair: (pair[1].at, pair[0].member_id), reverse=True)

    async def mark_done(self, key: str) -> None:
        await self.done.put({"_id": key})

    async def is_done(self, key: str) -> bool:
        return await self.done.get(key) is not None


def answer_key(pairing_id: str, side: Side) -> str:
    return f"answer/{pairing_id}/{side}"


def completion_key(checkin_id: str) -> str:
    return f"checkin/{checkin_id}"


def _pairings_with(member_id: str) -> dict[str, object]:
    return {"participants.member_id": member_id}


def _requests_of(member_id: str) -> dict[str, object]:
    return {"$or": [{"asker": member_id}, {"asked": member_id}]}


def _notifications_about(member_id: str) -> dict[str, object]:
    return {"$or": [{"member_id": member_id}, {"about.of_member": member_id}]}


def _inbox_filter(member_id: str, *, unread: bool) -> dict[str, object]:
    shown: dict[str, object] = {"member_id": member_id, "order": {"$ne": None}}
    return {**shown, "read_at": None} if unread else shown
