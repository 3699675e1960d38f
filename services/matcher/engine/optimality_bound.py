"""The best assignment of a cohort, with a bound that shows how near to the optimum of all pairs it is.

Prices make the proof: the prices of all places, and what any pair that is no candidate would be worth beyond both of
its prices, bound every assignment from above (weak duality of the transport problem). Where all pairs are candidates,
the bound is the optimum itself. Otherwise it is found by looking at all pairs of the seniors, or of a seeded sample of
them, two standard errors above; where it leaves more open than may be, the pairs that exceed their prices by most
become candidates too.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from contracts.profiles import Side
from services.matcher.engine.all_pairs_scan import SCORE_ROUNDING, AllPairsScan
from services.matcher.engine.assignment import (
    TIE_LEVELS,
    UNITS_PER_FIT,
    PricedAssignment,
    assign,
    assign_with_prices,
    edge_gains,
    is_saturated,
)
from services.matcher.engine.candidates import CANDIDATES_PER_PERSON, Candidates, Edges, evaluate_pairs
from services.matcher.engine.dual_prices import UNBOUNDED_PRICE, privacy_safe_prices
from services.matcher.engine.member_columns import Bools, Ints
from services.matcher.engine.vectorised_fit import Floats, PairwiseFit

SUFFICIENT_RATIO = 0.999
EXACT_RATIO = 0.999999  # where all seniors are looked at, so that only rounding is left open
BOUND_SAMPLE_SENIORS = 960  # seniors on whom the bound is estimated
MAX_PRICING_ROUNDS = 6  # of adding candidates at most


@dataclass(frozen=True)
class AssignmentProblem:
    """Who could be paired: the candidates, and what each senior and junior adds to the weight of any pair of theirs.

    ``without`` (sorted keys senior x juniors + junior): pairs that may not be, beside those that private rules forbid.
    """

    fit: PairwiseFit
    senior_capacities: Ints
    junior_capacities: Ints
    senior_bonus: Floats
    junior_bonus: Floats
    excluded_keys: Ints
    seed: int

    def with_bonus(self, edges: Edges) -> Edges:
        """What counts in the assignment instead of the fit alone."""
        bonus = self.senior_bonus[edges.seniors] + self.junior_bonus[edges.juniors]
        return Edges(edges.seniors, edges.juniors, edges.scores + bonus)

    def allowed_edges(self, found: Candidates) -> Edges:
        """The candidates that may be assigned."""
        keys = found.edges.seniors * self.fit.shape[1] + found.edges.juniors
        return found.edges.take(~(found.private | is_in_sorted(keys, self.excluded_keys)))

    @cached_property
    def unassignable_keys(self) -> Ints:
        """Pairs that cannot be assigned, whatever they weigh."""
        return np.concatenate([self.excluded_keys, self.fit.avoided_pair_keys()])

    def capacities(self) -> tuple[list[int], list[int]]:
        return self.senior_capacities.tolist(), self.junior_capacities.tolist()


@dataclass(frozen=True)
class BoundedAssignment:
    """The best of the edges (``chosen``, by position); ``open``: by how much that of all pairs might weigh more.

    ``added`` (edges): those that are no candidates, but weighed more than their prices.
    """

    edges: Edges
    chosen: Ints
    gap: float
    is_generated: Bools

    def without_unused_columns(self) -> "BoundedAssignment":
        """Without what was added in vain: whether it was depends on prices, and these on private wishes."""
        kept = ~self.is_generated
        kept[self.chosen] = True
        place = np.cumsum(kept) - 1
        return BoundedAssignment(self.edges.take(kept), place[self.chosen], self.gap, self.is_generated[kept])


def solve_with_bound(market: AssignmentProblem, found: Candidates, scan: AllPairsScan | None) -> BoundedAssignment:
    """Without a ``scan`` the candidates are all pairs that may be."""
    edges = market.allowed_edges(found)
    if scan is None:
        chosen = assign(*market.capacities(), market.with_bonus(edges), market.seed)
        return BoundedAssignment(edges, chosen, 0.0, np.zeros(len(edges), dtype=np.bool_))
    sample = np.random.default_rng(market.seed).permutation(market.fit.shape[0])[:BOUND_SAMPLE_SENIORS]
    everybody = len(sample) == market.fit.shape[0]
    enough, scan_of_some = (EXACT_RATIO, scan) if everybody else (SUFFICIENT_RATIO, AllPairsScan(market.fit, sample))
    added = np.zeros(len(edges), dtype=np.bool_)
    for turn in range(MAX_PRICING_ROUNDS + 1):
        assignment = assign_with_prices(*market.capacities(), market.with_bonus(edges), market.seed)
        total = float(market.with_bonus(edges).scores[assignment.chosen].sum())
        more = _price_out(market, scan_of_some, edges, assignment)
        open_ = more.open(market, len(sample))
        if total >= enough * (total + open_) or turn == MAX_PRICING_ROUNDS:
            break
        if not everybody:
            more = _price_out(market, scan, edges, assignment)
        if not len(more.edges):
            break
        edges, order = _joined(edges, more.edges, market.fit.shape[1])
        added = np.concatenate([added, np.ones(len(more.edges), dtype=np.bool_)])[order]
    return BoundedAssignment(edges, assignment.chosen, open_, added)


def seat_values(market: AssignmentProblem, found: Candidates, best: BoundedAssignment) -> Mapping[Side, Floats]:
    """What a place of each member is worth at most in the best assignment, infinite where they have none.

    So somebody left over who gets a new edge to one of them is paired for certain when it weighs more. One private wish
    of or about somebody left over changes none of it.
    """
    keys = found.edges.seniors * market.fit.shape[1] + found.edges.juniors
    hidden = found.edges.take(found.private & ~is_in_sorted(keys, market.excluded_keys))
    seniors = np.concatenate([best.edges.seniors, hidden.seniors])
    juniors = np.concatenate([best.edges.juniors, hidden.juniors])
    scores = np.concatenate([best.edges.scores, hidden.scores])
    gain = edge_gains(market.with_bonus(Edges(seniors, juniors, scores)), market.seed)
    private = np.arange(len(gain)) >= len(best.edges)
    taken = np.zeros(len(gain), dtype=np.bool_)
    taken[best.chosen] = True
    n, m = market.fit.shape
    s_full, j_full = (
        is_saturated(seniors[taken], market.senior_capacities),
        is_saturated(juniors[taken], market.junior_capacities),
    )
    with ThreadPoolExecutor() as pool:
        of_seniors = pool.submit(privacy_safe_prices, seniors, juniors, gain, taken, private, s_full, m)
        of_juniors = pool.submit(privacy_safe_prices, juniors, seniors, gain, taken, private, j_full, n)
        most: dict[Side, Ints] = {"senior": of_seniors.result(), "junior": of_juniors.result()}
    return {
        side: np.where(price < UNBOUNDED_PRICE, price / (UNITS_PER_FIT * TIE_LEVELS), np.inf)
        for side, price in most.items()
    }


@dataclass(frozen=True)
class _PricedOut:
    """Pairs that may be, are no candidates, and weigh more than both of their prices: of each person those by most.

    ``excess`` (seniors): by how much any pair of theirs does at most.
    """

    edges: Edges
    excess: Floats

    def open(self, market: AssignmentProblem, sampled: int) -> float:
        """By how much the prices of all seniors would have to rise, from those looked at, two standard errors above."""
        excess = self.excess * market.senior_capacities
        n, mean = len(excess), excess.sum() / sampled
        spread = np.sqrt(max(0.0, (excess**2).sum() / sampled - mean**2) / sampled) if sampled < n else 0.0
        return float(n * (mean + 2 * spread))


def _price_out(market: AssignmentProblem, scan: AllPairsScan, edges: Edges, prices: PricedAssignment) -> _PricedOut:
    """Of all whom the scan looks at."""
    m = market.fit.shape[1]
    least_s, least_j = prices.senior_prices - market.senior_bonus, prices.junior_prices - market.junior_bonus
    most_places = max(market.senior_capacities.max(initial=0), market.junior_capacities.max(initial=0))
    many = CANDIDATES_PER_PERSON + int(
        most_places
    )  # of who has several places, chosen pairs may weigh more than their prices too
    keys = scan.best_pairs(
        many, of_seniors=least_s - SCORE_ROUNDING, of_juniors=least_j, without=market.unassignable_keys
    )
    keys = keys[~is_in_sorted(keys, edges.seniors * m + edges.juniors)]
    some = market.allowed_edges(evaluate_pairs(market.fit, *np.divmod(keys, m)))
    over = some.scores - least_s[some.seniors] - least_j[some.juniors]
    excess = np.zeros(market.fit.shape[0])
    np.maximum.at(excess, some.seniors, over)
    return _PricedOut(some.take(over > 0), excess)


def _joined(one: Edges, other: Edges, juniors: int) -> tuple[Edges, Ints]:
    """All edges in order, and the place that each had among those of one and then the other."""
    keys = np.concatenate([edges.seniors * juniors + edges.juniors for edges in (one, other)])
    order = np.argsort(keys, kind="stable")
    return Edges(*np.divmod(keys[order], juniors), np.concatenate([one.scores, other.scores])[order]), order


def is_in_sorted(keys: Ints, known: Ints) -> Bools:
    """Which keys are known ones, which are in order."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.bool_)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[place] == keys)
