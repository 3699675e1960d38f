"""What the matcher keeps, and the questions it asks of it."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from chassis.core.clocks import Clock
from chassis.storage.aggregates import Aggregates, Stored
from chassis.storage.mongo import Document, Documents
from chassis.storage.projections import Projection
from chassis.storage.together import Together
from contracts.errors import InvalidCommand, NotFound
from contracts.profiles import ProfileChanged
from contracts.taxonomy import Taxonomy
from services.matcher.background_tasks import Tasks
from services.matcher.domain.learning.weight_versions import Learning
from services.matcher.domain.pairings.pairing import LIVE, UNSEEN, Pairing
from services.matcher.domain.pairings.request import Request
from services.matcher.domain.pairings.seat_ledger import Ledger, free_places
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.receipts.receipt import Receipt
from services.matcher.domain.rolling.programme_claim import Watch
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.domain.rounds.round import Round, number, result_id
from services.matcher.domain.rounds.summary import Summary
from services.matcher.partner_replica import Pool
from services.matcher.rounds.comparison_cache import ComparisonCache
from services.matcher.solver.client import Solver


@dataclass
class Matcher:
    """The service's context."""

    programmes: Aggregates[Programme]
    rounds: Aggregates[Round]
    pairings: Aggregates[Pairing]
    ledgers: Aggregates[Ledger]
    requests: Aggregates[Request]
    suggestions: Aggregates[Suggestion]
    watches: Aggregates[Watch]
    learning: Aggregates[Learning]
    members: Projection[ProfileChanged]
    proposals: Documents
    left_over: Documents
    examples: Documents
    summaries: Documents
    receipts: Documents
    taxonomy: Taxonomy
    pool: Pool
    clock: Clock
    solver: Solver
    tasks: Tasks

    def __post_init__(self) -> None:
        self.comparisons = ComparisonCache()
        self.seats_of = Together(self.ledgers.get_many)

    async def programme(self, id: str) -> Stored[Programme]:
        """Raises ``NotFound``."""
        found = await self.programmes.get(id)
        if found is None:
            raise NotFound("programme")
        return found

    async def round(self, id: str) -> Stored[Round]:
        """Raises ``NotFound``."""
        found = await self.rounds.get(id)
        if found is None:
            raise NotFound("round")
        return found

    async def receipt(self, id: str | None) -> Receipt:
        """Raises ``NotFound``."""
        found = await self.receipts.get(id) if id is not None else None
        if found is None:
            raise NotFound("receipt")
        return Receipt.model_validate(found)

    async def behind(self, members: Sequence[str]) -> set[str]:
        """Those of whom the pool has heard something that this service's database does not know yet."""
        known = await self.members.sequences(members)
        return {id for id in members if known.get(id, -1) < self.pool.sequence(id)}

    async def free_places(self, profiles: Sequence[ProfileChanged], programme_id: str) -> dict[str, int]:
        """Places that are free in the programme, of those who have any."""
        ledgers = await self.ledgers.get_many([profile.member_id for profile in profiles])
        return free_places({id: stored.state for id, stored in ledgers.items()}, profiles, programme_id)

    async def earlier(
        self, *, but_of_round: str | None = None, of: Iterable[str] | None = None
    ) -> set[tuple[str, str]]:
        """Pairs (senior, junior) that were ever proposed, in any programme; ``of``: where one of these takes part."""
        wanted: dict[str, Any] = {"state": {"$nin": list(UNSEEN)}, "gone": False}
        if of is not None:
            wanted.update(_taking_part(list(of)))
        found: set[tuple[str, str]] = set()
        shown = {"plan.senior.member_id": 1, "plan.junior.member_id": 1, "plan.round_id": 1}
        async for document in self.pairings.collection.find(wanted, shown):
            plan = document["plan"]
            if but_of_round is None or plan.get("round_id") != but_of_round:
                found.add((plan["senior"]["member_id"], plan["junior"]["member_id"]))
        return found

    async def pairings_of(self, member_id: str) -> list[Stored[Pairing]]:
        """All of a member's pairings, in whatever state."""
        return [stored async for stored in self.pairings.find(_taking_part([member_id]))]

    async def requests_of(self, member_id: str) -> list[Stored[Request]]:
        """What a member asked, and what they were asked."""
        return [stored async for stored in self.requests.find({"$or": [{"asker": member_id}, {"asked": member_id}]})]

    async def open_requests(self, programme_id: str, of: Sequence[str] | None = None) -> list[Stored[Request]]:
        """What is asked and not answered yet; ``of``: where one of these takes part."""
        wanted: dict[str, Any] = {"programme_id": programme_id, "state": "open"}
        if of is not None:
            wanted["$or"] = [{"asker": {"$in": list(of)}}, {"asked": {"$in": list(of)}}]
        return [stored async for stored in self.requests.find(wanted)]

    async def standing_suggestions(self, programme_id: str) -> list[Suggestion]:
        """Those that wait for a coordinator, and those on which one has decided."""
        wanted = {"programme_id": programme_id, "state": {"$in": ["open", "released", "dismissed"]}}
        return [stored.state async for stored in self.suggestions.find(wanted)]

    async def suggestions_of(self, member_id: str) -> list[Stored[Suggestion]]:
        """All suggestions in which a member takes part, in whatever state."""
        either = {"$or": [{"senior": member_id}, {"junior": member_id}]}
        return [stored async for stored in self.suggestions.find(either)]

    def pairings_page(
        self,
        *,
        member_id: str | None,
        programme_id: str | None,
        state: str | None,
        round_id: str | None,
        limit: int,
        after: str | None,
    ) -> AsyncIterator[Stored[Pairing]]:
        """Pairings that are to be seen, in the order of their ids."""
        wanted: dict[str, Any] = {"gone": False, "state": state or {"$nin": list(UNSEEN)}}
        if programme_id is not None:
            wanted["plan.programme_id"] = programme_id
        if round_id is not None:
            wanted["plan.round_id"] = round_id
        if member_id is not None:
            wanted.update(_taking_part([member_id]))
        return self.pairings.find(wanted, limit=limit, after=after)

    def conflicts_page(self, programme_id: str, *, limit: int, after: str | None) -> AsyncIterator[Stored[Pairing]]:
        """Pairings that wait for somebody to decide on a conflict, in the order of their ids."""
        return self.pairings.find(
            {"plan.programme_id": programme_id, "conflict.kept": False, "state": {"$in": sorted(LIVE)}},
            limit=limit,
            after=after,
        )

    async def proposals_page(self, round: Round, *, limit: int, after: str | None) -> AsyncIterator[Document]:
        """A round's proposals, the best first, and those that were changed by hand last.

        Looked up by number, so a page costs the same wherever it is. Raises ``InvalidCommand`` for no number.
        """
        if after is not None and not after.isdecimal():
            raise InvalidCommand("unknown_page", "Proposals are numbered; `after` is the number of one.")
        at, found = int(after) + 1 if after else 0, 0
        result = result_id(round.round_id, round.result)
        while found < limit and at < round.places:
            ids = [f"{result}/{number(place)}" for place in range(at, min(at + limit - found, round.places))]
            documents = await self.proposals.get_many(ids)
            for id in ids:
                if id in documents and documents[id]["shown"]:
                    found += 1
                    yield documents[id]
            at += len(ids)

    def left_over_page(self, round: Round, *, limit: int, after: str | None) -> AsyncIterator[Document]:
        """Who has no partner in this round, in the order of their ids."""
        of = {"result": result_id(round.round_id, round.result), "shown": True}
        return self.left_over.find(of, sort="member_id", limit=limit, after=after)

    async def summary(self, round: Round) -> Summary:
        """Counts and the worst pairs of the result that stands; empty before there is one."""
        found = await self.summaries.get(result_id(round.round_id, round.result))
        return Summary.model_validate(found or {})


def _taking_part(members: list[str]) -> dict[str, Any]:
    return {"$or": [{"plan.senior.member_id": {"$in": members}}, {"plan.junior.member_id": {"$in": members}}]}
