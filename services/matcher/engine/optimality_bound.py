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
from services.matcher.engine.all_pairs_scan import ROUNDING, Scan
from services.matcher.engine.assignment import TIE, UNIT, Assignment, assign, full, gains, solved
from services.matcher.engine.candidates import BEST, Candidates, Edges, exactly
from services.matcher.engine.dual_prices import NEVER, steady_prices
from services.matcher.engine.member_columns import Bools, Ints
from services.matcher.engine.vectorised_fit import Comparison, Floats

NEAR_ENOUGH = 0.999
EXACTLY = 0.999999  # where all seniors are looked at, so that only rounding is left open
SAMPLED = 960  # seniors on whom the bound is estimated
TURNS = 6  # of adding candidates at most


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

    @cached_property
    def barred(self) -> Ints:
        """Pairs that cannot be assigned, whatever they weigh."""
        return np.concatenate([self.without, self.pairs.unwanted()])

    def places(self) -> tuple[list[int], list[int]]:
        return self.places_of_seniors.tolist(), self.places_of_juniors.tolist()


@dataclass(frozen=True)
class Optimum:
    """The best of the edges (``chosen``, by position); ``open``: by how much that of all pairs might weigh more.

    ``added`` (edges): those that are no candidates, but weighed more than their prices.
    """

    edges: Edges
    chosen: Ints
    open: float
    added: Bools

    def to_tell_of(self) -> "Optimum":
        """Without what was added in vain: whether it was depends on prices, and these on private wishes."""
        kept = ~self.added
        kept[self.chosen] = True
        place = np.cumsum(kept) - 1
        return Optimum(self.edges.take(kept), place[self.chosen], self.open, self.added[kept])


def optimum(market: Market, found: Candidates, scan: Scan | None) -> Optimum:
    """Without a ``scan`` the candidates are all pairs that may be."""
    edges = market.allowed(found)
    if scan is None:
        chosen = assign(*market.places(), market.weighted(edges), market.seed)
        return Optimum(edges, chosen, 0.0, np.zeros(len(edges), dtype=np.bool_))
    sample = np.random.default_rng(market.seed).permutation(market.pairs.shape[0])[:SAMPLED]
    everybody = len(sample) == market.pairs.shape[0]
    enough, scan_of_some = (EXACTLY, scan) if everybody else (NEAR_ENOUGH, Scan(market.pairs, sample))
    added = np.zeros(len(edges), dtype=np.bool_)
    for turn in range(TURNS + 1):
        assignment = solved(*market.places(), market.weighted(edges), market.seed)
        total = float(market.weighted(edges).scores[assignment.chosen].sum())
        more = _beyond(market, scan_of_some, edges, assignment)
        open_ = more.open(market, len(sample))
        if total >= enough * (total + open_) or turn == TURNS:
            break
        if not everybody:
            more = _beyond(market, scan, edges, assignment)
        if not len(more.edges):
            break
        edges, order = _joined(edges, more.edges, market.pairs.shape[1])
        added = np.concatenate([added, np.ones(len(more.edges), dtype=np.bool_)])[order]
    return Optimum(edges, assignment.chosen, open_, added)


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


@dataclass(frozen=True)
class _Beyond:
    """Pairs that may be, are no candidates, and weigh more than both of their prices: of each person those by most.

    ``excess`` (seniors): by how much any pair of theirs does at most.
    """

    edges: Edges
    excess: Floats

    def open(self, market: Market, sampled: int) -> float:
        """By how much the prices of all seniors would have to rise, from those looked at, two standard errors above."""
        excess = self.excess * market.places_of_seniors
        n, mean = len(excess), excess.sum() / sampled
        spread = np.sqrt(max(0.0, (excess**2).sum() / sampled - mean**2) / sampled) if sampled < n else 0.0
        return float(n * (mean + 2 * spread))


def _beyond(market: Market, scan: Scan, edges: Edges, prices: Assignment) -> _Beyond:
    """Of all whom the scan looks at."""
    m = market.pairs.shape[1]
    least_s, least_j = prices.seniors - market.senior_bonus, prices.juniors - market.junior_bonus
    most_places = max(market.places_of_seniors.max(initial=0), market.places_of_juniors.max(initial=0))
    many = BEST + int(most_places)  # of who has several places, chosen pairs may weigh more than their prices too
    keys = scan.best(many, of_seniors=least_s - ROUNDING, of_juniors=least_j, without=market.barred)
    keys = keys[~among(keys, edges.seniors * m + edges.juniors)]
    some = market.allowed(exactly(market.pairs, *np.divmod(keys, m)))
    over = some.scores - least_s[some.seniors] - least_j[some.juniors]
    excess = np.zeros(market.pairs.shape[0])
    np.maximum.at(excess, some.seniors, over)
    return _Beyond(some.take(over > 0), excess)


def _joined(one: Edges, other: Edges, juniors: int) -> tuple[Edges, Ints]:
    """All edges in order, and the place that each had among those of one and then the other."""
    keys = np.concatenate([edges.seniors * juniors + edges.juniors for edges in (one, other)])
    order = np.argsort(keys, kind="stable")
    return Edges(*np.divmod(keys[order], juniors), np.concatenate([one.scores, other.scores])[order]), order


def among(keys: Ints, known: Ints) -> Bools:
    """Which keys are known ones, which are in order."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.bool_)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[place] == keys)
