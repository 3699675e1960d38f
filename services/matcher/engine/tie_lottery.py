"""A seeded draw among assignments that are as good as equal.

So that one can tell later what the weights do, chance decides where they hardly do: two pairs whose exchange changes
the total by less than the tolerance, and leaves neither of the new ones worse off than the worse of the old, are
exchanged or not by the flip of a fair coin. Everybody is in one such exchange at most; so each of its pairs, whichever
was drawn, had the probability 1/2, and all others 1, given the assignment before.
"""

from dataclasses import dataclass

import numpy as np

from contracts.programmes import Draw
from services.matcher.engine.candidates import Edges
from services.matcher.engine.hash_random import splitmix64
from services.matcher.engine.member_columns import Bools, Ints
from services.matcher.engine.vectorised_fit import Floats


@dataclass(frozen=True)
class LotteryResult:
    """``chosen``: positions of the pairs; ``probability``: of each of them, in this order."""

    chosen: Ints
    probability: Floats


def draw_ties(edges: Edges, chosen: Ints, juniors: int, best_total: float, rules: Draw, seed: int) -> LotteryResult:
    """Exchange some of the chosen pairs; ``edges`` in the order of (senior, junior)."""
    probability = np.ones(len(edges))
    if rules.tolerance == 0 or len(chosen) < 2:
        return LotteryResult(chosen, probability[chosen])
    taken = np.zeros(len(edges), dtype=np.bool_)
    taken[chosen] = True
    left = rules.max_cost * best_total
    busy: set[int] = set()
    for old, new, cost, lot in _exchanges(edges, chosen, taken, juniors, rules.tolerance, seed):
        if cost > left or not busy.isdisjoint(old):
            continue
        busy.update(old)
        left -= max(0.0, cost)
        now = new if lot % 2 else old
        taken[list(old)] = False
        taken[list(now)] = True
        probability[list(now)] = 0.5
    result = np.nonzero(taken)[0]
    return LotteryResult(result, probability[result])


def _exchanges(
    edges: Edges, chosen: Ints, taken: Bools, juniors: int, tolerance: float, seed: int
) -> list[tuple[tuple[int, int], tuple[int, int], float, int]]:
    """Two chosen edges, the two that would take their place, what that costs, and a lot; ordered by the lots.

    Only people with one partner are exchanged.
    """
    seniors, theirs, score = edges.seniors, edges.juniors, edges.scores
    of_senior, of_junior = (_only(side, chosen) for side in (seniors, theirs))
    other = np.nonzero(~taken & (of_senior[seniors] >= 0) & (of_junior[theirs] >= 0))[0]
    one, two = of_senior[seniors[other]], of_junior[theirs[other]]  # the edges of its ends
    once = (seniors[one] < seniors[two]) & (score[other] >= np.minimum(score[one], score[two]))
    once &= (of_senior[seniors[two]] >= 0) & (of_junior[theirs[one]] >= 0)
    other, one, two = other[once], one[once], two[once]
    keys = seniors * juniors + theirs
    wanted = seniors[two] * juniors + theirs[one]
    back = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    cost = score[one] + score[two] - score[other] - score[back]
    fair = score[back] >= np.minimum(score[one], score[two])
    good = np.nonzero((keys[back] == wanted) & (np.abs(cost) < tolerance) & fair)[0]
    lot = splitmix64(seed, keys[other])
    good = good[np.argsort(lot[good])]
    return [((int(one[n]), int(two[n])), (int(other[n]), int(back[n])), float(cost[n]), int(lot[n])) for n in good]


def _only(side: Ints, chosen: Ints) -> Ints:
    """The chosen edge of each person who has exactly one, -1 for the others."""
    people = int(side.max(initial=-1)) + 1
    found = np.full(people, -1, dtype=np.int64)
    found[side[chosen]] = chosen
    found[np.bincount(side[chosen], minlength=people) != 1] = -1
    return found
