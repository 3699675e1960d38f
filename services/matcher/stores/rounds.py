"""Stored rounds and their results: proposals, unmatched members, summaries, and recent comparisons in memory."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence

from chassis.core.commands import Op
from chassis.storage.aggregates import Aggregates, SaveResult, Stored
from chassis.storage.mongo import Document, Documents, Index, chunks
from contracts.errors import InvalidCommand, NotFound
from services.matcher.domain.fit.score import Fit
from services.matcher.domain.rounds.adjustment import Pair
from services.matcher.domain.rounds.round import Decision, Round, number, result_id
from services.matcher.domain.rounds.summary import RoundComparison, RoundPair, RoundSummary, compare_rounds

PAIR_BATCH = 1000  # proposals read by one request
MAX_COMPARISONS = 2
ROUND_INDEXES: list[Index] = [("programme_id", "state"), ("programme_id", "_id"), ("named",)]
PROPOSAL_INDEXES: list[Index] = [
    ("result", "senior"),
    ("round_id",),
    ("senior",),
    ("junior",),
    ("runner_up_of_senior.member_id",),
    ("runner_up_of_junior.member_id",),
]
UNMATCHED_INDEXES: list[Index] = [("result", "member_id"), ("round_id",), ("member_id",)]


class RoundStore(Aggregates[Round]):
    async def load(self, id: str) -> Stored[Round]:
        """Raises ``NotFound``."""
        stored = await self.get(id)
        if stored is None:
            raise NotFound("round")
        return stored

    async def update_existing(self, id: str, op: Op, decide: Callable[[Round], Decision | None]) -> SaveResult[Round]:
        """Like ``update``, for a round that must exist. Raises ``NotFound`` and what ``decide`` raises."""

        def decide_existing(round: Round | None) -> Decision | None:
            if round is None:
                raise NotFound("round")
            return decide(round)

        return await self.update(id, op, decide_existing)

    async def lottery_of(self, programme_id: str) -> str | None:
        """The secret of the programme's rounds; None before the first round."""
        filter = {"programme_id": programme_id, "lottery": {"$gt": ""}}
        return next(iter([stored.state.lottery async for stored in self.find(filter, limit=1)]), None)

    async def last_published(self, programme_id: str) -> Round | None:
        """The round of the programme that was published last."""
        published = [stored.state async for stored in self.find({"programme_id": programme_id, "state": "published"})]
        return max(published, key=lambda round: (round.published_at or round.started_at, round.round_id), default=None)


class ProposalStore(Documents):
    """Proposals under ``<result id>/<number>``, the best first; a result is one run of a round."""

    async def page(self, round: Round, *, limit: int, after: str | None) -> AsyncIterator[Document]:
        """A round's proposals, the best first; those that were changed by hand come last.

        Proposals are read by number, so every page costs the same. Raises ``InvalidCommand`` where ``after`` is no
        number.
        """
        if after is not None and not after.isdecimal():
            raise InvalidCommand("unknown_page", "Proposals are numbered; `after` is the number of one.")
        position, count = int(after) + 1 if after else 0, 0
        result = result_id(round.round_id, round.result)
        while count < limit and position < round.places:
            end = min(position + limit - count, round.places)
            ids = [f"{result}/{number(rank)}" for rank in range(position, end)]
            documents = await self.get_many(ids)
            for id in ids:
                if id in documents and documents[id]["shown"]:
                    count += 1
                    yield documents[id]
            position = end

    async def pairs_of(self, round: Round) -> list[RoundPair]:
        """All pairs of a computed round."""
        pairs: list[RoundPair] = []
        result = result_id(round.round_id, round.result)
        fields = {"senior": 1, "junior": 1, "fit": 1, "shown": 1}
        for ids in chunks([f"{result}/{number(rank)}" for rank in range(round.places)], PAIR_BATCH):
            documents = self.collection.find({"_id": {"$in": list(ids)}}, fields)
            pairs += [
                RoundPair(document["senior"], document["junior"], Fit.model_construct(**document["fit"]))
                async for document in documents
                if document["shown"]
            ]
        return pairs

    async def worst(self, round: Round, summary: RoundSummary) -> list[Document]:
        """The proposals that the summary names as the worst, in its order."""
        result = result_id(round.round_id, round.result)
        ids = [f"{result}/{number}" for number in summary.worst]
        documents = await self.get_many(ids)
        return [documents[id] for id in ids if id in documents]

    async def contains(self, round: Round, pair: Pair) -> bool:
        """Whether the round proposes this pair, senior first."""
        result = result_id(round.round_id, round.result)
        return bool(await self.count({"result": result, "senior": pair[0], "junior": pair[1], "shown": True}))

    async def set_state(self, ids: Sequence[str], state: str, why: str | None) -> None:
        """Record what became of proposals. A proposal that an erasure has deleted does not come back."""
        await self.collection.update_many({"_id": {"$in": list(ids)}}, {"$set": {"state": state, "why": why}})

    async def forget_member(self, member_id: str) -> None:
        """Delete the member's own proposals, and the member from those that name them as the runner-up."""
        await self.delete({"$or": [{"senior": member_id}, {"junior": member_id}]})
        for field in ("runner_up_of_senior", "runner_up_of_junior"):
            await self.collection.update_many({f"{field}.member_id": member_id}, {"$set": {field: None}})


class UnmatchedStore(Documents):
    """Members without a partner, under ``<result id>/<member id>``."""

    def page(self, round: Round, *, limit: int, after: str | None) -> AsyncIterator[Document]:
        """Members without a partner in this round, in the order of their ids."""
        filter = {"result": result_id(round.round_id, round.result), "shown": True}
        return self.find(filter, sort="member_id", limit=limit, after=after)

    async def entry(self, round: Round, member_id: str) -> Document | None:
        """Why this member has no partner in the round; None where they were not left unmatched."""
        document = await self.get(f"{result_id(round.round_id, round.result)}/{member_id}")
        return document if document is not None and document["shown"] else None

    async def forget_member(self, member_id: str) -> None:
        await self.delete({"member_id": member_id})


class SummaryStore(Documents):
    async def of_round(self, round: Round) -> RoundSummary:
        """Counts and the worst pairs of the round's current result; empty before there is one."""
        return RoundSummary.model_validate(await self.get(result_id(round.round_id, round.result)) or {})


class ComparisonCache:
    """Recent comparisons of two rounds, so that the pages of a long one are computed once."""

    def __init__(self) -> None:
        self._comparisons: OrderedDict[tuple[object, ...], RoundComparison] = OrderedDict()

    async def get(self, first: Round, other: Round, proposals: ProposalStore) -> RoundComparison:
        key = (_version_of(first), _version_of(other))
        if key not in self._comparisons:
            pairs = await proposals.pairs_of(first), await proposals.pairs_of(other)
            self._comparisons[key] = await asyncio.to_thread(compare_rounds, *pairs, first.settings)
            while len(self._comparisons) > MAX_COMPARISONS:
                self._comparisons.popitem(last=False)
        return self._comparisons[key]


def _version_of(round: Round) -> tuple[object, ...]:
    return round.round_id, round.result, round.computed_at
