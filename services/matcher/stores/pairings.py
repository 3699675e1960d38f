"""Stored pairings, requests for a partner, and seat ledgers."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from chassis.core.commands import Op
from chassis.storage.aggregates import Aggregates, SaveResult, Stored
from chassis.storage.mongo import Index
from contracts.errors import NotFound
from contracts.profiles import ProfileChanged
from services.matcher.domain.pairings.pairing import LIVE_STATES, UNPUBLISHED_STATES, Decision, Pairing
from services.matcher.domain.pairings.request import PartnerRequest
from services.matcher.domain.pairings.seat_ledger import SeatLedger, count_free_seats

PAIRING_INDEXES: list[Index] = [
    ("plan.senior.member_id",),
    ("plan.junior.member_id",),
    ("plan.programme_id", "_id"),
    ("plan.round_id", "_id"),
]
REQUEST_INDEXES: list[Index] = [("asker",), ("asked",), ("programme_id", "state")]


class PairingStore(Aggregates[Pairing]):
    async def update_existing(
        self, id: str, op: Op, decide: Callable[[Pairing], Decision | None]
    ) -> SaveResult[Pairing]:
        """Like ``update``, for a pairing that must exist and names both members. Raises ``NotFound``."""

        def decide_existing(pairing: Pairing | None) -> Decision | None:
            if pairing is None or pairing.gone:
                raise NotFound("pairing")
            return decide(pairing)

        return await self.update(id, op, decide_existing)

    async def earlier_pairs(
        self, *, except_round: str | None = None, of: Iterable[str] | None = None
    ) -> set[tuple[str, str]]:
        """Pairs (senior, junior) that were ever proposed, in any programme; ``of``: pairs of these members only."""
        filter: dict[str, Any] = {"state": {"$nin": list(UNPUBLISHED_STATES)}, "gone": False}
        if of is not None:
            filter.update(_with_members(list(of)))
        pairs: set[tuple[str, str]] = set()
        fields = {"plan.senior.member_id": 1, "plan.junior.member_id": 1, "plan.round_id": 1}
        async for document in self.collection.find(filter, fields):
            plan = document["plan"]
            if except_round is None or plan.get("round_id") != except_round:
                pairs.add((plan["senior"]["member_id"], plan["junior"]["member_id"]))
        return pairs

    async def of_member(self, member_id: str) -> list[Stored[Pairing]]:
        """All pairings of a member, in every state."""
        return [stored async for stored in self.find(_with_members([member_id]))]

    def page(
        self,
        *,
        member_id: str | None,
        programme_id: str | None,
        state: str | None,
        round_id: str | None,
        limit: int,
        after: str | None,
    ) -> AsyncIterator[Stored[Pairing]]:
        """Visible pairings, in the order of their ids."""
        filter: dict[str, Any] = {"gone": False, "state": state or {"$nin": list(UNPUBLISHED_STATES)}}
        if programme_id is not None:
            filter["plan.programme_id"] = programme_id
        if round_id is not None:
            filter["plan.round_id"] = round_id
        if member_id is not None:
            filter.update(_with_members([member_id]))
        return self.find(filter, limit=limit, after=after)

    def page_of_conflicts(self, programme_id: str, *, limit: int, after: str | None) -> AsyncIterator[Stored[Pairing]]:
        """Pairings with a conflict on which nobody has decided, in the order of their ids."""
        return self.find(
            {"plan.programme_id": programme_id, "conflict.kept": False, "state": {"$in": sorted(LIVE_STATES)}},
            limit=limit,
            after=after,
        )


class RequestStore(Aggregates[PartnerRequest]):
    async def of_member(self, member_id: str) -> list[Stored[PartnerRequest]]:
        """Requests that a member sent or received."""
        return [stored async for stored in self.find({"$or": [{"asker": member_id}, {"asked": member_id}]})]

    async def open_in(self, programme_id: str, of: Sequence[str] | None = None) -> list[Stored[PartnerRequest]]:
        """Unanswered requests; ``of``: requests of these members only."""
        filter: dict[str, Any] = {"programme_id": programme_id, "state": "open"}
        if of is not None:
            filter["$or"] = [{"asker": {"$in": list(of)}}, {"asked": {"$in": list(of)}}]
        return [stored async for stored in self.find(filter)]


class LedgerStore(Aggregates[SeatLedger]):
    """One ledger of seats for each member, under the member's id."""

    async def free_seats(self, profiles: Sequence[ProfileChanged], programme_id: str) -> dict[str, int]:
        """Free seats in the programme by member id, without members that have none."""
        ledgers = await self.get_many([profile.member_id for profile in profiles])
        return count_free_seats({id: stored.state for id, stored in ledgers.items()}, profiles, programme_id)

    async def erasing_among(self, members: Sequence[str]) -> list[str]:
        """Members whose erasure has begun.

        Check it after every write about members: their erasure may have read before the write.
        """
        ledgers = await self.get_many(sorted(members))
        return [id for id, stored in ledgers.items() if stored.state.erasing]


def _with_members(members: list[str]) -> dict[str, Any]:
    return {"$or": [{"plan.senior.member_id": {"$in": members}}, {"plan.junior.member_id": {"$in": members}}]}
