"""Applies a coordinator's adjustments to a round's result and repairs it around each change.

A repair reassigns a neighbourhood instead of the whole round: the people concerned, their possible partners, and the
partners of these. These are a few hundred people, however large the round is. They are assigned again as well as their
seats allow, and everybody else keeps their partner. A standing pair counts a little more than a new one, so that a
change moves no more people than necessary. A repair always starts from the result as it was solved and applies one
adjustment after the other: the same adjustments give the same pairs, and an undone adjustment leaves no trace.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.profiles import Side
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.rounds.adjustment import Adjustment, AdjustmentEffect, Pair
from services.matcher.engine.arrays import Float64s
from services.matcher.engine.assignment import assign
from services.matcher.engine.candidates import Edges
from services.matcher.engine.solve import MatchingProblem
from services.matcher.engine.vectorised_fit import CohortFit

NEIGHBOURS_PER_KIND = 30  # possible partners of each person concerned: so many with a partner and so many without
MAX_SCORED_NEIGHBOURS = 250  # people with common topics who are scored to find them
STABILITY_BONUS = 0.01  # fit that a standing pair counts more
MUTUAL_TOPIC_WEIGHT = 10  # what a topic in both directions counts, compared with one in one direction
_COST_DIGITS = 6

_OTHER_SIDE: dict[Side, Side] = {"senior": "junior", "junior": "senior"}


@dataclass(frozen=True)
class StandingPairs:
    """The pairs of a round with the fit of each, and the members of both sides."""

    seniors: Mapping[str, Member]
    juniors: Mapping[str, Member]
    pairs: Mapping[Pair, float]


class LocalRepair:
    """Applies adjustments to one result, one after the other. ``pairs``: the pairs after the last one."""

    def __init__(self, problem: MatchingProblem, standing: StandingPairs, taxonomy: Taxonomy) -> None:
        self.pairs: dict[Pair, float] = dict(standing.pairs)
        self._problem, self._taxonomy = problem, taxonomy
        self._members: dict[Side, Mapping[str, Member]] = {"senior": standing.seniors, "junior": standing.juniors}
        self._partners: dict[str, set[str]] = defaultdict(set)
        for senior, junior in self.pairs:
            self._partners[senior].add(junior)
            self._partners[junior].add(senior)
        self._locked: set[Pair] = set()
        self._forbidden: set[Pair] = set()
        self._topics = {side: _TopicIndex(members.values()) for side, members in self._members.items()}
        self._earlier: dict[str, set[str]] = defaultdict(set)
        for first, second in problem.earlier_pairs:
            self._earlier[first].add(second)
            self._earlier[second].add(first)

    def apply(self, adjustment: Adjustment) -> AdjustmentEffect:
        """Apply one adjustment. An impossible one changes nothing, whatever the reason."""
        if not adjustment.is_wanted:
            cost = self._forbid(adjustment.pairs)
        elif self._can_lock(adjustment.pairs):
            cost = self._lock(adjustment.pairs)
        else:
            return AdjustmentEffect(adjustment_id=adjustment.adjustment_id, kept=False, cost=0.0)
        return AdjustmentEffect(adjustment_id=adjustment.adjustment_id, kept=True, cost=round(cost, _COST_DIGITS))

    def _forbid(self, pairs: Sequence[Pair]) -> float:
        self._forbidden.update(pairs)
        concerned = {member for pair in pairs if pair in self.pairs for member in pair}
        return self._reassign_around(concerned) if concerned else 0.0

    def _lock(self, pairs: Sequence[Pair]) -> float:
        concerned = {member for pair in pairs for member in pair}
        concerned |= {partner for member in concerned for partner in self._partners[member]}
        self._locked.update(pairs)
        return 0.0 if all(pair in self.pairs for pair in pairs) else self._reassign_around(concerned)

    def _can_lock(self, pairs: Sequence[Pair]) -> bool:
        """Whether all take part, no rule forbids it, and seats remain besides locked pairs."""
        locked_seats = Counter(member for pair in {*self._locked, *pairs} for member in pair)
        if any(seats > self._problem.free_seats.get(member, 0) for member, seats in locked_seats.items()):
            return False
        if any(s not in self._members["senior"] or j not in self._members["junior"] for s, j in pairs):
            return False
        return all(self._scores([senior], [junior])[0, 0] > 0 for senior, junior in pairs)

    def _reassign_around(self, concerned: set[str]) -> float:
        """Assign the neighbourhood of these members again; returns the loss of total fit."""
        seniors, juniors = self._neighbourhood(concerned)
        before = {pair: fit for pair, fit in self.pairs.items() if pair[0] in seniors and pair[1] in juniors}
        rows, columns = sorted(seniors), sorted(juniors)
        scores = self._scores(rows, columns)
        row_of, column_of = ({id: n for n, id in enumerate(ids)} for ids in (rows, columns))
        locked = sorted(pair for pair in self._locked if pair[0] in seniors and pair[1] in juniors)
        after = {pair: float(scores[row_of[pair[0]], column_of[pair[1]]]) for pair in locked}
        for senior, junior in (*locked, *self._forbidden):
            if senior in row_of and junior in column_of:
                scores[row_of[senior], column_of[junior]] = 0
        for senior, junior in before:
            if scores[row_of[senior], column_of[junior]] > 0:
                scores[row_of[senior], column_of[junior]] += STABILITY_BONUS
        s, j = np.nonzero(scores > 0)
        edges = Edges(s, j, scores[s, j])
        taken = self._seats_taken_outside(seniors, juniors)
        taken.update(member for pair in locked for member in pair)
        row_seats, column_seats = (
            [max(0, self._problem.free_seats[id] - taken[id]) for id in ids] for ids in (rows, columns)
        )
        for n in assign(row_seats, column_seats, edges, self._problem.seed):
            pair = rows[s[n]], columns[j[n]]
            after[pair] = float(edges.scores[n]) - (STABILITY_BONUS if pair in before else 0)
        self._replace(before, after)
        return sum(before.values()) - sum(after.values())

    def _seats_taken_outside(self, seniors: set[str], juniors: set[str]) -> Counter[str]:
        """The seats of members of the neighbourhood that partners outside of it take."""
        return Counter(
            member
            for member in (*seniors, *juniors)
            for partner in self._partners[member]
            if partner not in seniors and partner not in juniors
        )

    def _replace(self, before: Mapping[Pair, float], after: Mapping[Pair, float]) -> None:
        for senior, junior in before.keys() - after.keys():
            del self.pairs[senior, junior]
            self._partners[senior].discard(junior)
            self._partners[junior].discard(senior)
        for senior, junior in after.keys() - before.keys():
            self.pairs[senior, junior] = after[senior, junior]
            self._partners[senior].add(junior)
            self._partners[junior].add(senior)

    def _neighbourhood(self, concerned: set[str]) -> tuple[set[str], set[str]]:
        """The concerned members, their possible partners, and the partners of all of these, by side."""
        inside: dict[Side, set[str]] = {"senior": set(), "junior": set()}
        for side, members in self._members.items():
            for id in concerned & members.keys():
                inside[side].add(id)
                inside[_OTHER_SIDE[side]].update(self._possible_partners(members[id], side))
        for side, other in _OTHER_SIDE.items():
            partners = {partner for id in inside[other] for partner in self._partners[id]}
            inside[side] |= partners & self._members[side].keys()
        return inside["senior"], inside["junior"]

    def _possible_partners(self, member: Member, side: Side) -> list[str]:
        """The best possible partners: of people with a free seat, and of people without one."""
        other = _OTHER_SIDE[side]
        common_topics = self._topics[other].common_topics(member)
        partners: list[str] = []
        for has_seat in (True, False):
            ids = [id for id in common_topics if self._has_free_seat(id) == has_seat and id != member.id]
            ids = sorted(ids, key=lambda id: (-common_topics[id], id))[:MAX_SCORED_NEIGHBOURS]
            if ids:
                scores = self._scores([member.id], ids)[0] if side == "senior" else self._scores(ids, [member.id])[:, 0]
                best = sorted(np.nonzero(scores > 0)[0], key=lambda n: (-scores[n], n))[:NEIGHBOURS_PER_KIND]
                partners += [ids[n] for n in best]
        return partners

    def _has_free_seat(self, id: str) -> bool:
        return len(self._partners[id]) < self._problem.free_seats[id]

    def _scores(self, seniors: Sequence[str], juniors: Sequence[str]) -> Float64s:
        """(seniors, juniors): the fit of each pair, 0 if a rule or a floor forbids it."""
        rows = [self._members["senior"][id] for id in seniors]
        columns = [self._members["junior"][id] for id in juniors]
        earlier = [(senior, partner) for senior in seniors for partner in self._earlier.get(senior, ())]
        fit = CohortFit(rows, columns, self._problem.settings, self._taxonomy, self._problem.on, earlier)
        block = fit.evaluate_block(np.arange(len(rows)), np.arange(len(columns)))
        return np.where(block.feasible(), block.score, 0.0)


class _TopicIndex:
    """Which members offer and seek each topic, to find the members that are worth scoring."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._offering: dict[str, list[str]] = defaultdict(list)
        self._seeking: dict[str, list[str]] = defaultdict(list)
        for member in members:
            for offer in member.profile.offers:
                self._offering[offer.topic].append(member.id)
            for seek in member.profile.seeks:
                self._seeking[seek.topic].append(member.id)

    def common_topics(self, member: Member) -> Mapping[str, int]:
        """A count of topics that one offers and the other seeks, by member; topics in both directions count most."""
        gives = Counter(id for seek in member.profile.seeks for id in self._offering.get(seek.topic, ()))
        takes = Counter(id for offer in member.profile.offers for id in self._seeking.get(offer.topic, ()))
        return {
            id: gives[id] + takes[id] + MUTUAL_TOPIC_WEIGHT * min(gives[id], takes[id])
            for id in gives.keys() | takes.keys()
        }
