"""The collections of feedback, and their queries."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chassis.core.clocks import Clock
from chassis.core.ids import derived_id
from chassis.erasure import Erasure
from chassis.storage.aggregates import Aggregates, Stored, stored_instant
from chassis.storage.mongo import Document, Documents, Index, insert_missing
from chassis.storage.projections import Projection
from contracts.pairings import PairingState
from contracts.profiles import Side
from contracts.programmes import ProgrammeChanged
from services.feedback.domain.anonymous_statistics import Cell
from services.feedback.domain.care_facts import ACTIVE_DAYS
from services.feedback.domain.colleague import Colleague
from services.feedback.domain.followup import SIDES, PairingFollowup
from services.feedback.domain.questions import Questions

FOLLOWUP_INDEXES: list[Index] = [
    *((f"members.{side}",) for side in SIDES),
    *((f"call_contacts.{side}",) for side in SIDES),
    ("programme_id", "_id"),
    ("programme_id", "asked_for"),
    ("programme_id", "met_by_day_30"),
]
CONTRIBUTION_INDEXES: list[Index] = [("cell", "taken"), ("members",), ("pairing_id",)]
PAIRING_INDEXES: list[Index] = [("participants.member_id", "_id"), ("programme_id", "state", "end_kind")]


@dataclass(frozen=True)
class Feedback:
    """The context of the service: its collections, its questions and its clock.

    ``contributions`` wait to be merged into a cell. Each names a pairing and its members but not the value, which is
    read from the follow-up when there are enough contributions.
    """

    followups: Aggregates[PairingFollowup]
    cells: Aggregates[Cell]
    erasures: Aggregates[Erasure]
    contributions: Documents
    pairings: Projection[PairingState]
    programmes: Projection[ProgrammeChanged]
    members: Projection[Colleague]
    questions: Questions
    clock: Clock

    async def time_zones_of(self, members: dict[Side, str]) -> dict[Side, str]:
        """The known time zones of the two members."""
        profiles = await self.members.get_many(list(members.values()))
        return {
            side: zone
            for side, member in members.items()
            if (profile := profiles.get(member)) is not None and (zone := profile.time_zone) is not None
        }

    def followups_of(
        self, member_id: str, *, limit: int = 0, after: str | None = None
    ) -> AsyncIterator[Stored[PairingFollowup]]:
        return self.followups.find(_taking_part(member_id), limit=limit, after=after)

    def followups_in(
        self, programme_id: str, *, limit: int, after: str | None
    ) -> AsyncIterator[Stored[PairingFollowup]]:
        """Follow-ups of pairings that are not over, in the order of their ids."""
        query = {"programme_id": programme_id, "gone": False, "state": {"$ne": "ended"}}
        return self.followups.find(query, limit=limit, after=after)

    def followups_with_calls(self, programme_id: str) -> AsyncIterator[Stored[PairingFollowup]]:
        has_call = [{f"calls.{side}": {"$gt": ""}} for side in SIDES]
        return self.followups.find({"programme_id": programme_id, "$or": has_call})

    def followups_with_contact(self, contact: str) -> AsyncIterator[Stored[PairingFollowup]]:
        return self.followups.find(_keeping_calls(contact))

    def pairings_of(self, member_id: str, *, limit: int, after: str | None) -> AsyncIterator[PairingState]:
        return self.pairings.find({"participants.member_id": member_id}, limit=limit, after=after)

    async def funnel(self, programme_id: str, now: datetime) -> dict[str, int]:
        """The number of pairings by step. A pairing counts in every step that it reached."""
        base = {"programme_id": programme_id}
        since = stored_instant(now - timedelta(days=ACTIVE_DAYS))
        has_met_lately = {"sessions": {"$elemMatch": {"state": "held", "starts_at": {"$gte": since}}}}
        count_pairings, count_followups = self.pairings.count, self.followups.count
        return {
            "proposed": await count_pairings(base),
            "lapsed": await count_pairings({**base, "state": "lapsed"}),
            "formed": await count_pairings({**base, "formed_at": {"$ne": None}}),
            "chartered": await count_pairings({**base, "charter_at": {"$ne": None}}),
            "met": await count_followups({**base, "first_meeting_counted": True}),
            "active": await count_followups({**base, "state": {"$in": ["formed", "chartered"]}, **has_met_lately}),
            "paused": await count_pairings({**base, "state": "paused"}),
            "completed": await count_pairings({**base, "state": "ended", "end_kind": "completed"}),
            "ended_early": await count_pairings({**base, "state": "ended", "end_kind": "ended_early"}),
            "not_started": await count_pairings({**base, "state": "ended", "end_kind": "not_started"}),
        }

    async def add_contribution(
        self, cell_id: str, pairing_id: str, key: str, members: tuple[str, ...], now: datetime
    ) -> None:
        """Record once that a pairing has a value for a cell. An existing contribution stays as it is, taken or not."""
        document: Document = {
            "_id": derived_id("contribution", cell_id, pairing_id),
            "cell": cell_id,
            "key": key,
            "pairing_id": pairing_id,
            "members": list(members),
            "at": stored_instant(now),
            "taken": False,
        }
        await insert_missing(self.contributions.collection, [document])

    async def mark_contributions_taken(self, ids: tuple[str, ...]) -> None:
        """Mark the contributions that still exist. One that was deleted meanwhile must not come back."""
        await self.contributions.collection.update_many({"_id": {"$in": list(ids)}}, {"$set": {"taken": True}})

    async def holds(self, member_id: str) -> bool:
        """Whether anything about this member is still stored."""
        return (
            await self.pairings.count({"participants.member_id": member_id}) > 0
            or await self.followups.count(_taking_part(member_id)) > 0
            or await self.followups.count(_keeping_calls(member_id)) > 0
            or await self.contributions.count({"members": member_id}) > 0
            or await self.members.get(member_id) is not None
        )


def _keeping_calls(contact: str) -> dict[str, Any]:
    return {"$or": [{f"call_contacts.{side}": contact} for side in SIDES]}


def _taking_part(member_id: str) -> dict[str, Any]:
    return {"$or": [{f"members.{side}": member_id} for side in SIDES]}
