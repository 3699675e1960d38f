"""What a place is worth: how much of the best total is lost when somebody has one place less.

That is the greatest price of the place in any solution of the dual problem, so it says whether one more pair would
change the assignment: a pair of somebody who has nobody is taken, in every best assignment, exactly if it gains more
than its place is worth. Losing a place sets one partner free, who takes the best of: an empty place, another
candidate's place (which loses one in turn), or nothing. That is a shortest path; without a better assignment there is
no negative cycle, so relaxing edges until nothing changes finds it.

What is said of those left over must not tell of private wishes, and one of the ways to take that empty place may fall
away by a wish. So ``steady_prices`` counts, of the people who have nobody, only the second best for each partner.
"""

import numpy as np

from services.matcher.domain.columns import Bools, Ints

NEVER = np.iinfo(np.int64).max // 4  # the price of a place that does not exist


def prices(mine: Ints, theirs: Ints, gain: Ints, taken: Bools, full: Bools, others: int) -> tuple[Ints, Ints]:
    """Of all solutions of the dual problem the one with the highest prices on one side, so the lowest on the other.

    ``mine`` and ``theirs`` are both ends of each edge, ``full`` (mine) who has no place left. Shortest paths in the
    residual graph by Bellman and Ford, from those alone whose price fell in the step before: what somebody's price
    falls to, a partner's must rise to make up for on an edge that was not chosen, and then that partner's own partners
    gain the less from their edge.
    """
    price = np.where(full, NEVER, 0)
    asked = np.zeros(others, dtype=np.int64)  # the other side's prices
    free = _Grouped(mine[~taken], theirs[~taken], gain[~taken], len(full))
    held = _Grouped(theirs[taken], mine[taken], gain[taken], others)
    np.minimum.at(price, mine[taken], gain[taken])
    fallen = np.arange(len(full))
    while len(fallen):
        ends, starts, weights = free.of(fallen)
        before = asked.copy()
        np.maximum.at(asked, ends, weights - price[starts])
        risen = np.nonzero(asked > before)[0]
        ends, starts, weights = held.of(risen)
        lower = price.copy()
        np.minimum.at(lower, ends, weights - asked[starts])
        fallen = np.nonzero(lower < price)[0]
        price = lower
    return price, asked


def steady_prices(mine: Ints, theirs: Ints, gain: Ints, taken: Bools, private: Bools, full: Bools, others: int) -> Ints:
    """The highest prices on one side, or more, and no other if one edge of somebody who has nobody is ``private``.

    ``private`` (edges): those that only a private wish forbids. Whoever has nobody could take the place of whom a
    partner loses; here only the second best of all such people does, as if none of these edges were forbidden, or the
    best of those that are not, if that is less.
    """
    alone = ~full
    alone[mine[taken]] = False
    some = alone[mine]
    second = _best(theirs[some], gain[some], others, 1)
    allowed = some & ~private
    instead = np.minimum(second, _best(theirs[allowed], gain[allowed], others, 0))
    ends = np.nonzero(instead)[0]
    kept = ~some & ~private
    price, _ = prices(
        np.concatenate([mine[kept], np.arange(len(full), len(full) + len(ends))]),
        np.concatenate([theirs[kept], ends]),
        np.concatenate([gain[kept], instead[ends]]),
        np.concatenate([taken[kept], np.zeros(len(ends), dtype=np.bool_)]),
        np.concatenate([full, np.zeros(len(ends), dtype=np.bool_)]),
        others,
    )
    return price[: len(full)]


def _best(group: Ints, gain: Ints, groups: int, place: int) -> Ints:
    """The best gain of each group, or the one that comes so many places behind it; 0 where there is none."""
    order = np.lexsort((-gain, group))
    first = np.searchsorted(group[order], np.arange(groups + 1))
    there = np.diff(first) > place
    found = np.zeros(groups, dtype=np.int64)
    found[there] = gain[order[first[:-1][there] + place]]
    return found


class _Grouped:
    """Edges by their start."""

    def __init__(self, starts: Ints, ends: Ints, weights: Ints, people: int) -> None:
        order = np.argsort(starts, kind="stable")
        self._starts, self._ends, self._weights = starts[order], ends[order], weights[order]
        self._first = np.searchsorted(self._starts, np.arange(people + 1))

    def of(self, people: Ints) -> tuple[Ints, Ints, Ints]:
        """End, start and weight of all edges that start with one of them."""
        counts = self._first[people + 1] - self._first[people]
        begins = np.repeat(self._first[people] - np.cumsum(counts) + counts, counts)
        which = begins + np.arange(len(begins))
        return self._ends[which], self._starts[which], self._weights[which]
