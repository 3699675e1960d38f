"""The best assignment of a cohort, with a bound that shows how near to the optimum of all pairs it is.

Prices make the proof: the prices of all places, and what any pair that is no candidate would be worth beyond both of
its prices, bound every assignment from above (weak duality of the transport problem). Where all pairs are candidates,
the bound is the optimum itself. Otherwise it is estimated on a seeded sample of seniors against all juniors, two
standard errors above; where it leaves more than a thousandth open, the pairs beyond their prices become candidates.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from contracts.people import Side
from services.matcher.domain.assignment import TIE, UNIT, Assignment, assign, full, gains, solved
from services.matcher.domain.candidates import Candidates, Edges, exactly
from services.matcher.domain.columns import Bools, Ints
from services.matcher.domain.pairs import Comparison, Floats
from services.matcher.domain.scan import ROUNDING, Scan
from services.matcher.domain.worth import NEVER, steady_prices

NEAR_ENOUGH = 0.999
SAMPLED = 960  # seniors on whom the bound is estimated
ROUNDS = 3  # of adding candidates at most


@dataclass(frozen=True)
class Market:
    """Who could be paired: the candidates, and what each senior and junior adds to the weight of any pair of theirs.

    ``without`` (sorted keys senior x juniors + junior): pairs that may not be, beside those that private rules forbid.
    """

    pairs: Comparison
    places_of_seniors: Ints
    places_of_juniors: Ints
    senior_bonus: Floats
    junior_bonus: Floats
    without: Ints
    seed: int

    def weighted(self, edges: Edges) -> Edges:
        """What counts in the assignment instead of the fit alone."""
        bonus = self.senior_bonus[edges.seniors] + self.junior_bonus[edges.juniors]
        return Edges(edges.seniors, edges.juniors, edges.scores + bonus)

    def allowed(self, found: Candidates) -> Edges:
        """The candidates that may be assigned."""
        keys = found.edges.seniors * self.pairs.shape[1] + found.edges.juniors
        return found.edges.take(~(found.private | among(keys, self.without)))

    def places(self) -> tuple[list[int], list[int]]:
        return self.places_of_seniors.tolist(), self.places_of_juniors.tolist()


@dataclass(frozen=True)
class Optimum:
    """The best of the edges (``chosen``, by position); ``open``: by how much that of all pairs might weigh more."""

    edges: Edges
    chosen: Ints
    open: float


def optimum(market: Market, found: Candidates, scan: Scan | None) -> Optimum:
    """Without a ``scan`` the candidates are all pairs that may be."""
    edges = market.allowed(found)
    if scan is None:
        return Optimum(edges, assign(*market.places(), market.weighted(edges), market.seed), 0.0)
    assignment = solved(*market.places(), market.weighted(edges), market.seed)
    total = _weight(market, edges, assignment)
    sample = np.random.default_rng(market.seed).permutation(market.pairs.shape[0])[:SAMPLED]
    scan_of_some = Scan(market.pairs, sample)
    for _ in range(ROUNDS):
        beyond = _beyond(market, scan_of_some, edges, assignment)
        bound = total + _estimate(market, assignment, beyond, len(sample))
        if total >= NEAR_ENOUGH * bound:
            break
        more = _beyond(market, scan, edges, assignment)
        edges = _joined(edges, more, market.pairs.shape[1])
        assignment = solved(*market.places(), market.weighted(edges), market.seed)
        total = _weight(market, edges, assignment)
    return Optimum(edges, assignment.chosen, max(0.0, bound - total))


def worth_of(market: Market, found: Candidates, best: Optimum) -> Mapping[Side, Floats]:
    """What a place of each member is worth at most in the best assignment, infinite where they have none.

    So somebody left over who gets a new edge to one of them is paired for certain when it weighs more. One private wish
    of or about somebody left over changes none of it.
    """
    keys = found.edges.seniors * market.pairs.shape[1] + found.edges.juniors
    hidden = found.edges.take(found.private & ~among(keys, market.without))
    seniors = np.concatenate([best.edges.seniors, hidden.seniors])
    juniors = np.concatenate([best.edges.juniors, hidden.juniors])
    scores = np.concatenate([best.edges.scores, hidden.scores])
    gain = gains(market.weighted(Edges(seniors, juniors, scores)), market.seed)
    private = np.arange(len(gain)) >= len(best.edges)
    taken = np.zeros(len(gain), dtype=np.bool_)
    taken[best.chosen] = True
    n, m = market.pairs.shape
    s_full, j_full = full(seniors[taken], market.places_of_seniors), full(juniors[taken], market.places_of_juniors)
    with ThreadPoolExecutor() as pool:
        of_seniors = pool.submit(steady_prices, seniors, juniors, gain, taken, private, s_full, m)
        of_juniors = pool.submit(steady_prices, juniors, seniors, gain, taken, private, j_full, n)
        most: dict[Side, Ints] = {"senior": of_seniors.result(), "junior": of_juniors.result()}
    return {side: np.where(price < NEVER, price / (UNIT * TIE), np.inf) for side, price in most.items()}


def _weight(market: Market, edges: Edges, assignment: Assignment) -> float:
    return float(market.weighted(edges).scores[assignment.chosen].sum())


def _beyond(market: Market, scan: Scan, edges: Edges, prices: Assignment) -> Edges:
    """Pairs that may be, are no candidates, and weigh more than both of their prices; of all whom the scan looks at."""
    m = market.pairs.shape[1]
    least_s, least_j = prices.seniors - market.senior_bonus, prices.juniors - market.junior_bonus
    keys = scan.above(least_s - ROUNDING, least_j)
    keys = keys[~among(keys, edges.seniors * m + edges.juniors)]
    found = market.allowed(exactly(market.pairs, *np.divmod(keys, m)))
    return found.take(found.scores > least_s[found.seniors] + least_j[found.juniors])


def _estimate(market: Market, prices: Assignment, beyond: Edges, sampled: int) -> float:
    """By how much the prices of all seniors would have to rise, from those of the sample, two standard errors above."""
    excess = np.zeros(market.pairs.shape[0])
    least = prices.seniors - market.senior_bonus
    over = beyond.scores - least[beyond.seniors] - (prices.juniors - market.junior_bonus)[beyond.juniors]
    np.maximum.at(excess, beyond.seniors, over)
    excess *= market.places_of_seniors
    n = len(excess)
    mean = excess.sum() / sampled
    spread = np.sqrt(max(0.0, (excess**2).sum() / sampled - mean**2) / sampled) if sampled < n else 0.0
    return float(n * (mean + 2 * spread))


def _joined(one: Edges, other: Edges, juniors: int) -> Edges:
    keys = np.concatenate([edges.seniors * juniors + edges.juniors for edges in (one, other)])
    scores = np.concatenate([one.scores, other.scores])
    order = np.argsort(keys, kind="stable")
    return Edges(*np.divmod(keys[order], juniors), scores[order])


def among(keys: Ints, known: Ints) -> Bools:
    """Which keys are known ones, which are in order."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.bool_)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[place] == keys)
