"""A result changed by hand, and mended around each change instead of solved anew.

Around the people whom a change concerns stand those whom they could be paired with, and the partners of these: a few
hundred of however many. They are assigned again, as well as their own places allow, and everybody else keeps what they
have. A pair that stands counts a little more than one that would have to be made, so a change moves no more people than
it has to. Always from the result as it was solved, one adjustment after the other: the same adjustments give the same
pairs, and what is undone leaves no trace.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.profiles import Side
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.rounds.adjustment import Adjustment, AdjustmentEffect, Pair
from services.matcher.engine.assignment import assign
from services.matcher.engine.candidates import Edges
from services.matcher.engine.solve import MatchingProblem
from services.matcher.engine.vectorised_fit import CohortFit, Floats

NEIGHBOURS_PER_KIND = (
    30  # possible partners around everybody concerned, of those who have one, and as many of those who have none
)
MAX_SCORED_NEIGHBOURS = 250  # people with topics in common who are scored to find them
STABILITY_BONUS = 0.01  # what a pair that stands counts more

_OTHER: dict[Side, Side] = {"senior": "junior", "junior": "senior"}


@dataclass(frozen=True)
class StandingPairs:
    """Who is paired with whom, with the fit of each pair, and who takes part on which side."""

    seniors: Mapping[str, Member]
    juniors: Mapping[str, Member]
    pairs: Mapping[Pair, float]


class LocalRepair:
    """Applies adjustments, one after the other, to one result. ``pairs`` is how it stands then."""

    def __init__(self, question: MatchingProblem, result: StandingPairs, taxonomy: Taxonomy) -> None:
        self.pairs: dict[Pair, float] = dict(result.pairs)
        self._question, self._taxonomy = question, taxonomy
        self._people: dict[Side, Mapping[str, Member]] = {"senior": result.seniors, "junior": result.juniors}
        self._partners: dict[str, set[str]] = defaultdict(set)
        for senior, junior in self.pairs:
            self._partners[senior].add(junior)
            self._partners[junior].add(senior)
        self._held: set[Pair] = set()
        self._apart: set[Pair] = set()
        self._topics = {side: _Topics(people.values()) for side, people in self._people.items()}
        self._earlier: dict[str, set[str]] = defaultdict(set)
        for one, other in question.earlier_pairs:
            self._earlier[one].add(other)
            self._earlier[other].add(one)

    def apply(self, adjustment: Adjustment) -> AdjustmentEffect:
        """What cannot be changes nothing, whatever the reason."""
        if not adjustment.is_wanted:
            cost = self._apart_from_now_on(adjustment.pairs)
        elif self._can_be(adjustment.pairs):
            cost = self._together_from_now_on(adjustment.pairs)
        else:
            return AdjustmentEffect(adjustment_id=adjustment.adjustment_id, kept=False, cost=0.0)
        return AdjustmentEffect(adjustment_id=adjustment.adjustment_id, kept=True, cost=round(cost, 6))

    def _apart_from_now_on(self, pairs: Sequence[Pair]) -> float:
        self._apart.update(pairs)
        concerned = {member for pair in pairs if pair in self.pairs for member in pair}
        return self._mend(concerned) if concerned else 0.0

    def _together_from_now_on(self, pairs: Sequence[Pair]) -> float:
        concerned = {member for pair in pairs for member in pair}
        concerned |= {partner for member in concerned for partner in self._partners[member]}
        self._held.update(pairs)
        return 0.0 if all(pair in self.pairs for pair in pairs) else self._mend(concerned)

    def _can_be(self, pairs: Sequence[Pair]) -> bool:
        """Whether all take part, no rule is in the way, private or not, and places are left beside what is held."""
        held = Counter(member for pair in {*self._held, *pairs} for member in pair)
        if any(places > self._question.free_seats.get(member, 0) for member, places in held.items()):
            return False
        if any(s not in self._people["senior"] or j not in self._people["junior"] for s, j in pairs):
            return False
        return all(self._scored([senior], [junior])[0, 0] > 0 for senior, junior in pairs)

    def _mend(self, concerned: set[str]) -> float:
        """Assign again around them; returns what the total fit has lost."""
        seniors, juniors = self._around(concerned)
        inside = {pair: fit for pair, fit in self.pairs.items() if pair[0] in seniors and pair[1] in juniors}
        outside = Counter(
            member
            for member in (*seniors, *juniors)
            for partner in self._partners[member]
            if partner not in seniors and partner not in juniors
        )
        rows, columns = sorted(seniors), sorted(juniors)
        scores = self._scored(rows, columns)
        held = sorted(pair for pair in self._held if pair[0] in seniors and pair[1] in juniors)
        outside.update(member for pair in held for member in pair)
        row, column = ({id: n for n, id in enumerate(ids)} for ids in (rows, columns))
        after = {pair: float(scores[row[pair[0]], column[pair[1]]]) for pair in held}
        for senior, junior in (*held, *self._apart):
            if senior in row and junior in column:
                scores[row[senior], column[junior]] = 0
        for senior, junior in inside:
            if scores[row[senior], column[junior]] > 0:
                scores[row[senior], column[junior]] += STABILITY_BONUS
        s, j = np.nonzero(scores > 0)
        edges = Edges(s, j, scores[s, j])
        of_rows, of_columns = (
            [max(0, self._question.free_seats[id] - outside[id]) for id in ids] for ids in (rows, columns)
        )
        for n in assign(of_rows, of_columns, edges, self._question.seed):
            pair = rows[s[n]], columns[j[n]]
            after[pair] = float(edges.scores[n]) - (STABILITY_BONUS if pair in inside else 0)
        self._replace(inside, after)
        return sum(inside.values()) - sum(after.values())

    def _replace(self, before: Mapping[Pair, float], after: Mapping[Pair, float]) -> None:
        for senior, junior in before.keys() - after.keys():
            del self.pairs[senior, junior]
            self._partners[senior].discard(junior)
            self._partners[junior].discard(senior)
        for senior, junior in after.keys() - before.keys():
            self.pairs[senior, junior] = after[senior, junior]
            self._partners[senior].add(junior)
            self._partners[junior].add(senior)

    def _around(self, concerned: set[str]) -> tuple[set[str], set[str]]:
        found: dict[Side, set[str]] = {"senior": set(), "junior": set()}
        for side, people in self._people.items():
            for id in concerned & people.keys():
                found[side].add(id)
                found[_OTHER[side]].update(self._near(people[id], side))
        for side, other in _OTHER.items():
            partners = {partner for id in found[other] for partner in self._partners[id]}
            found[side] |= partners & self._people[side].keys()
        return found["senior"], found["junior"]

    def _near(self, member: Member, side: Side) -> list[str]:
        """The best possible partners, of those who have one and of those who have a place free."""
        other = _OTHER[side]
        common = self._topics[other].in_common_with(member)
        near: list[str] = []
        for wants_place in (True, False):
            some = [id for id in common if self._has_place(id) == wants_place and id != member.id]
            ids = sorted(some, key=lambda id: (-common[id], id))[:MAX_SCORED_NEIGHBOURS]
            if ids:
                scores = self._scored([member.id], ids)[0] if side == "senior" else self._scored(ids, [member.id])[:, 0]
                best = sorted(np.nonzero(scores > 0)[0], key=lambda n: (-scores[n], n))[:NEIGHBOURS_PER_KIND]
                near += [ids[n] for n in best]
        return near

    def _has_place(self, id: str) -> bool:
        return len(self._partners[id]) < self._question.free_seats[id]

    def _scored(self, seniors: Sequence[str], juniors: Sequence[str]) -> Floats:
        """Fit of each pair, ``(seniors, juniors)``; 0 where a rule or a floor is in the way."""
        rows = [self._people["senior"][id] for id in seniors]
        columns = [self._people["junior"][id] for id in juniors]
        earlier = [(one, other) for one in seniors for other in self._earlier.get(one, ())]
        pairs = CohortFit(rows, columns, self._question.settings, self._taxonomy, self._question.on, earlier)
        block = pairs.evaluate_block(np.arange(len(rows)), np.arange(len(columns)))
        return np.where(block.feasible(), block.score, 0.0)


class _Topics:
    """Who offers and who seeks what, to find people worth scoring among all."""

    def __init__(self, people: Iterable[Member]) -> None:
        self._offer: dict[str, list[str]] = defaultdict(list)
        self._seek: dict[str, list[str]] = defaultdict(list)
        for member in people:
            for offer in member.profile.offers:
                self._offer[offer.topic].append(member.id)
            for seek in member.profile.seeks:
                self._seek[seek.topic].append(member.id)

    def in_common_with(self, member: Member) -> Mapping[str, int]:
        """Topics that go from one to the other, for everybody with at least one; both directions count most."""
        gives = Counter(id for seek in member.profile.seeks for id in self._offer.get(seek.topic, ()))
        takes = Counter(id for offer in member.profile.offers for id in self._seek.get(offer.topic, ()))
        return {id: gives[id] + takes[id] + 10 * min(gives[id], takes[id]) for id in gives.keys() | takes.keys()}
