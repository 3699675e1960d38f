"""A seeded lottery among near-equal assignments, so that the effect of the weights can be estimated later.

Chance decides where the weights hardly do. Two pairs may swap partners when that changes the total by less than the
tolerance, and leaves neither new pair worse than the worse old one. A fair coin then decides. Each person is in one
swap at most. So each pair of a swap, whichever was drawn, had probability 1/2, and every other pair had probability 1,
given the assignment before.

A private wish decides in place of the coin: of both sides of a swap, the one with fewer pairs that a wish is against
is taken, and swaps that leave fewer of them come first. Nothing else of a round depends on wishes. Nobody can tell a
wish from the coin while the seed is secret and the same for every round (see docs/decisions/private-wishes.md).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from contracts.programmes import Draw
from services.matcher.engine.arrays import Bools, Float64s, Int64s
from services.matcher.engine.candidates import Edges
from services.matcher.engine.hash_random import splitmix64

NO_KEYS: Int64s = np.zeros(0, np.int64)


@dataclass(frozen=True)
class LotteryResult:
    """``chosen``: positions of the pairs. ``probability``: of each of them, in this order."""

    chosen: Int64s
    probability: Float64s


class _Swap(NamedTuple):
    """Two chosen edges, the two that would replace them, the loss of total fit, and a random number.

    ``relief``: how many pairs fewer, if swapped, a private wish is against.
    """

    old: tuple[int, int]
    new: tuple[int, int]
    cost: float
    random: int
    relief: int

    @property
    def is_made(self) -> bool:
        return self.relief > 0 or (self.relief == 0 and self.random % 2 == 1)


def draw_ties(
    edges: Edges,
    chosen: Int64s,
    juniors: int,
    best_total: float,
    rules: Draw,
    seed: int,
    unwanted_keys: Int64s = NO_KEYS,
) -> LotteryResult:
    """Swap partners of some of the chosen pairs by lot; ``edges`` are sorted by (senior, junior).

    ``unwanted_keys``: sorted keys ``senior x juniors + junior`` of pairs that a private wish is against.
    """
    probability = np.ones(len(edges))
    if rules.tolerance == 0 or len(chosen) < 2:
        return LotteryResult(chosen, probability[chosen])
    is_chosen = np.zeros(len(edges), dtype=np.bool_)
    is_chosen[chosen] = True
    budget = rules.max_cost * best_total
    drawn: set[int] = set()
    swaps = _possible_swaps(edges, chosen, is_chosen, juniors, rules.tolerance, seed, unwanted_keys)
    for swap in sorted(swaps, key=lambda swap: swap.relief <= 0):  # stable: otherwise in random order
        if swap.cost > budget or not drawn.isdisjoint(swap.old):
            continue
        drawn.update(swap.old)
        budget -= max(0.0, swap.cost)
        result = swap.new if swap.is_made else swap.old
        is_chosen[list(swap.old)] = False
        is_chosen[list(result)] = True
        probability[list(result)] = 0.5
    positions = np.nonzero(is_chosen)[0]
    return LotteryResult(positions, probability[positions])


def _possible_swaps(
    edges: Edges,
    chosen: Int64s,
    is_chosen: Bools,
    juniors: int,
    tolerance: float,
    seed: int,
    unwanted_keys: Int64s,
) -> list[_Swap]:
    """The swaps of people with one partner that change the total by less than ``tolerance``, in random order."""
    seniors, partners, score = edges.seniors, edges.juniors, edges.scores
    of_senior, of_junior = (_only_chosen_edge(side, chosen) for side in (seniors, partners))
    new = np.nonzero(~is_chosen & (of_senior[seniors] >= 0) & (of_junior[partners] >= 0))[0]
    first, second = of_senior[seniors[new]], of_junior[partners[new]]  # the chosen edges of both ends
    usable = (seniors[first] < seniors[second]) & (score[new] >= np.minimum(score[first], score[second]))
    usable &= (of_senior[seniors[second]] >= 0) & (of_junior[partners[first]] >= 0)
    new, first, second = new[usable], first[usable], second[usable]
    keys = seniors * juniors + partners
    counterpart_keys = seniors[second] * juniors + partners[first]
    counterpart = np.minimum(np.searchsorted(keys, counterpart_keys), len(keys) - 1)
    cost = score[first] + score[second] - score[new] - score[counterpart]
    is_fair = score[counterpart] >= np.minimum(score[first], score[second])
    swaps = np.nonzero((keys[counterpart] == counterpart_keys) & (np.abs(cost) < tolerance) & is_fair)[0]
    random = splitmix64(seed, keys[new])
    unwanted = np.isin(keys, unwanted_keys).astype(np.int64)
    relief = unwanted[first] + unwanted[second] - unwanted[new] - unwanted[counterpart]
    return [
        _Swap(
            (int(first[n]), int(second[n])),
            (int(new[n]), int(counterpart[n])),
            float(cost[n]),
            int(random[n]),
            int(relief[n]),
        )
        for n in swaps[np.argsort(random[swaps])]
    ]


def _only_chosen_edge(side: Int64s, chosen: Int64s) -> Int64s:
    """(people): the chosen edge of each person who has exactly one, -1 for the others."""
    people = int(side.max(initial=-1)) + 1
    edge_of = np.full(people, -1, dtype=np.int64)
    edge_of[side[chosen]] = chosen
    edge_of[np.bincount(side[chosen], minlength=people) != 1] = -1
    return edge_of
