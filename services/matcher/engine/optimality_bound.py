"""The best assignment of a cohort, with a bound on how far it may be from the optimum over all pairs.

The bound comes from weak duality of the transport problem. The dual prices of all seats, plus the positive reduced cost
of pairs that are no candidates, bound every assignment from above. When all pairs are candidates, the bound is the
optimum itself. Otherwise the reduced costs are computed over all pairs of the seniors, or over all pairs of a seeded
sample of seniors plus two standard errors. While the gap is too large, column generation adds the pairs with the
largest reduced cost to the candidates.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from contracts.profiles import Side
from services.matcher.engine.all_pairs_scan import SCORE_ROUNDING, AllPairsScan
from services.matcher.engine.arrays import Bools, Float64s, Int64s
from services.matcher.engine.assignment import (
    TIE_LEVELS,
    UNITS_PER_FIT,
    PricedAssignment,
    assign,
    assign_with_prices,
    edge_gains,
    is_saturated,
)
from services.matcher.engine.candidates import CANDIDATES_PER_PERSON, Edges, evaluate_pairs
from services.matcher.engine.dual_prices import UNBOUNDED_PRICE, extreme_dual_prices
from services.matcher.engine.vectorised_fit import PairwiseFit

SUFFICIENT_RATIO = 0.999  # total / upper bound at which column generation stops
EXACT_RATIO = 0.999999  # the same when the scan covers all seniors, so that only rounding is left open
BOUND_SAMPLE_SENIORS = 960  # seniors on whose pairs the bound is estimated
MAX_PRICING_ROUNDS = 6  # rounds of column generation


@dataclass(frozen=True)
class AssignmentProblem:
    """The people who can be paired, their capacities, and the bonus that each adds to the weight of any of their pairs.

    ``senior_capacities`` and ``senior_bonus`` are (seniors,), those of juniors (juniors,). ``excluded_keys``: sorted
    keys ``senior x juniors + junior`` of pairs that may not be assigned.
    """

    fit: PairwiseFit
    senior_capacities: Int64s
    junior_capacities: Int64s
    senior_bonus: Float64s
    junior_bonus: Float64s
    excluded_keys: Int64s
    seed: int

    def with_bonus(self, edges: Edges) -> Edges:
        """The edges with the weight that the assignment maximises: fit plus both bonuses."""
        bonus = self.senior_bonus[edges.seniors] + self.junior_bonus[edges.juniors]
        return Edges(edges.seniors, edges.juniors, edges.scores + bonus)

    def allowed_edges(self, candidates: Edges) -> Edges:
        """The candidates that may be assigned."""
        keys = candidates.seniors * self.fit.shape[1] + candidates.juniors
        return candidates.take(~is_in_sorted(keys, self.excluded_keys))

    def capacities(self) -> tuple[list[int], list[int]]:
        return self.senior_capacities.tolist(), self.junior_capacities.tolist()


@dataclass(frozen=True)
class BoundedAssignment:
    """The best assignment of the edges, and how much more the best of all pairs could weigh (``gap``).

    ``chosen``: positions in the edges.
    """

    edges: Edges
    chosen: Int64s
    gap: float


def solve_with_bound(problem: AssignmentProblem, candidates: Edges, scan: AllPairsScan | None) -> BoundedAssignment:
    """The best assignment with its optimality gap. ``scan`` is None when the candidates are all possible pairs."""
    edges = problem.allowed_edges(candidates)
    if scan is None:
        chosen = assign(*problem.capacities(), problem.with_bonus(edges), problem.seed)
        return BoundedAssignment(edges, chosen, 0.0)
    seniors, juniors = problem.fit.shape
    sample = np.random.default_rng(problem.seed).permutation(seniors)[:BOUND_SAMPLE_SENIORS]
    covers_all = len(sample) == seniors
    ratio, bound_scan = (EXACT_RATIO, scan) if covers_all else (SUFFICIENT_RATIO, AllPairsScan(problem.fit, sample))
    for pricing_round in range(MAX_PRICING_ROUNDS + 1):
        assignment = assign_with_prices(*problem.capacities(), problem.with_bonus(edges), problem.seed)
        total = float(problem.with_bonus(edges).scores[assignment.chosen].sum())
        priced_out = _price_out(problem, bound_scan, edges, assignment)
        gap = priced_out.gap(problem, len(sample))
        if total >= ratio * (total + gap) or pricing_round == MAX_PRICING_ROUNDS:
            break
        if not covers_all:
            priced_out = _price_out(problem, scan, edges, assignment)
        if not len(priced_out.edges):
            break
        edges = _merge_edges(edges, priced_out.edges, juniors)
    return BoundedAssignment(edges, assignment.chosen, gap)


def seat_values(problem: AssignmentProblem, best: BoundedAssignment) -> Mapping[Side, Float64s]:
    """The greatest value, in fit, of a seat of each member in the best assignment; infinite for members without seats.

    An unmatched person who gets a new edge is paired for certain if the edge weighs more than the partner's seat.
    """
    edges = best.edges
    gain = edge_gains(problem.with_bonus(edges), problem.seed)
    chosen = np.zeros(len(edges), dtype=np.bool_)
    chosen[best.chosen] = True
    n, m = problem.fit.shape
    full_seniors = is_saturated(edges.seniors[chosen], problem.senior_capacities)
    full_juniors = is_saturated(edges.juniors[chosen], problem.junior_capacities)
    with ThreadPoolExecutor() as pool:
        of_seniors = pool.submit(extreme_dual_prices, edges.seniors, edges.juniors, gain, chosen, full_seniors, m)
        of_juniors = pool.submit(extreme_dual_prices, edges.juniors, edges.seniors, gain, chosen, full_juniors, n)
        prices: dict[Side, Int64s] = {"senior": of_seniors.result()[0], "junior": of_juniors.result()[0]}
    unit = UNITS_PER_FIT * TIE_LEVELS
    return {side: np.where(price < UNBOUNDED_PRICE, price / unit, np.inf) for side, price in prices.items()}


@dataclass(frozen=True)
class _PricedOut:
    """Allowed pairs that are no candidates and have a positive reduced cost; of each person those with the largest.

    ``excess`` (seniors): the largest reduced cost of any pair of the senior.
    """

    edges: Edges
    excess: Float64s

    def gap(self, problem: AssignmentProblem, sampled: int) -> float:
        """How much the prices of all seniors must rise to be dual feasible, from a sample plus two standard errors."""
        excess = self.excess * problem.senior_capacities
        n, mean = len(excess), excess.sum() / sampled
        spread = np.sqrt(max(0.0, (excess**2).sum() / sampled - mean**2) / sampled) if sampled < n else 0.0
        return float(n * (mean + 2 * spread))


def _price_out(
    problem: AssignmentProblem, scan: AllPairsScan, edges: Edges, assignment: PricedAssignment
) -> _PricedOut:
    """The pricing step of column generation, over all seniors of the scan.

    A person with several seats may have chosen pairs of positive reduced cost. The scan therefore returns as many more
    pairs for each person as the greatest capacity.
    """
    juniors = problem.fit.shape[1]
    senior_offsets = assignment.senior_prices - problem.senior_bonus
    junior_offsets = assignment.junior_prices - problem.junior_bonus
    capacity = max(problem.senior_capacities.max(initial=0), problem.junior_capacities.max(initial=0))
    keys = scan.best_pairs(
        CANDIDATES_PER_PERSON + int(capacity),
        senior_offsets=senior_offsets - SCORE_ROUNDING,
        junior_offsets=junior_offsets,
        excluded_keys=problem.excluded_keys,
    )
    keys = keys[~is_in_sorted(keys, edges.seniors * juniors + edges.juniors)]
    allowed = problem.allowed_edges(evaluate_pairs(problem.fit, *np.divmod(keys, juniors)))
    reduced_cost = allowed.scores - senior_offsets[allowed.seniors] - junior_offsets[allowed.juniors]
    excess = np.zeros(problem.fit.shape[0])
    np.maximum.at(excess, allowed.seniors, reduced_cost)
    return _PricedOut(allowed.take(reduced_cost > 0), excess)


def _merge_edges(first: Edges, second: Edges, juniors: int) -> Edges:
    """All edges sorted by key."""
    keys = np.concatenate([edges.seniors * juniors + edges.juniors for edges in (first, second)])
    order = np.argsort(keys, kind="stable")
    return Edges(*np.divmod(keys[order], juniors), np.concatenate([first.scores, second.scores])[order])


def is_in_sorted(keys: Int64s, sorted_keys: Int64s) -> Bools:
    """(keys): whether ``sorted_keys`` contains the key."""
    if not len(sorted_keys):
        return np.zeros(len(keys), dtype=np.bool_)
    position = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return np.asarray(sorted_keys[position] == keys)
