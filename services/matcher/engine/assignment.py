"""The best set of pairs: a minimum-cost flow from seniors to juniors over the candidates, and what each place is worth.

The total weight is greatest among all sets that exceed nobody's places. The same inputs and seed give the same set, in
whatever order they come; among near-equal sets (closer than a millionth for each pair) the seed decides.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from ortools.graph.python import linear_sum_assignment, min_cost_flow
from scipy import optimize

from services.matcher.domain.fit.rules import Member
from services.matcher.engine.candidates import Edges
from services.matcher.engine.dual_prices import extreme_dual_prices
from services.matcher.engine.member_columns import Bools, Ints
from services.matcher.engine.vectorised_fit import Floats

UNITS_PER_FIT = 1_000_000  # fit is counted in millionths
MAX_SPARSITY = 20  # one edge in so many pairs is dense enough for a matrix
MAX_MATRIX_CELLS = 1_000_000  # ... of so many pairs at most
TIE_LEVELS = 16  # ... and each of these in parts that the seed deals out
DEFAULT_LEVEL = 10  # seniority of somebody whose level is unknown, when sides are chosen


class InfeasibleAssignment(Exception):
    """The solver gave up; by construction this cannot happen for valid capacities."""


@dataclass(frozen=True)
class PricedAssignment:
    """``chosen``: positions in the edges of the chosen pairs, in order. Prices are in units of weight.

    ``seniors`` and ``juniors`` together are a solution of the dual problem: an edge that was not chosen never weighs
    more than both of its prices, and a place that stays empty costs nothing.
    """

    chosen: Ints
    senior_prices: Floats
    junior_prices: Floats


def assign_with_prices(
    places_of_seniors: Sequence[int], places_of_juniors: Sequence[int], edges: Edges, seed: int
) -> PricedAssignment:
    """``assign``, with prices."""
    chosen = assign(places_of_seniors, places_of_juniors, edges, seed)
    return _priced(places_of_seniors, places_of_juniors, edges, chosen, seed)


def _priced(
    places_of_seniors: Sequence[int], places_of_juniors: Sequence[int], edges: Edges, chosen: Ints, seed: int
) -> PricedAssignment:
    taken = np.zeros(len(edges), dtype=np.bool_)
    taken[chosen] = True
    gain = edge_gains(edges, seed)
    s_full, j_full = (
        is_saturated(edges.seniors[chosen], places_of_seniors),
        is_saturated(edges.juniors[chosen], places_of_juniors),
    )
    with ThreadPoolExecutor() as pool:
        seniors = pool.submit(extreme_dual_prices, edges.seniors, edges.juniors, gain, taken, s_full, len(j_full))
        juniors = pool.submit(extreme_dual_prices, edges.juniors, edges.seniors, gain, taken, j_full, len(s_full))
        (s_most, j_least), (j_most, s_least) = seniors.result(), juniors.result()
    unit = UNITS_PER_FIT * TIE_LEVELS
    return PricedAssignment(chosen, (s_most + s_least) / 2 / unit, (j_most + j_least) / 2 / unit)


def is_saturated(partners: Ints, places: Sequence[int] | Ints) -> Bools:
    """Who has no place left; ``partners``: the person of this side in each chosen pair."""
    return np.asarray(np.bincount(partners, minlength=len(places)) >= places)


def assign(
    senior_capacities: Sequence[int],
    junior_capacities: Sequence[int],
    edges: Edges,
    seed: int,
    *,
    fill_all: bool = False,
) -> Ints:
    """Positions in ``edges`` of the chosen pairs; ``every_place``: all places are to be taken, whatever it weighs.

    Raises ``Unsolvable`` where that is not possible.
    """
    count = len(edges)
    if not fill_all and _is_dense(senior_capacities, junior_capacities, count):
        return _assigned(len(senior_capacities), len(junior_capacities), edges, seed)
    total = min(sum(senior_capacities), sum(junior_capacities))
    if count == 0 or total == 0:
        return np.zeros(0, dtype=np.int64)
    one_each = {*senior_capacities, *junior_capacities} <= {0, 1}
    if fill_all and one_each and sum(senior_capacities) == sum(junior_capacities):
        return _matched(senior_capacities, junior_capacities, edges, seed)
    seniors, juniors = len(senior_capacities), len(junior_capacities)
    source, sink = seniors + juniors, seniors + juniors + 1
    flow = min_cost_flow.SimpleMinCostFlow()
    pairs = flow.add_arcs_with_capacity_and_unit_cost(
        edges.seniors.astype(np.int32),
        (edges.juniors + seniors).astype(np.int32),
        np.ones(count, np.int64),
        -edge_gains(edges, seed),
    )
    _arcs(flow, np.full(seniors, source), np.arange(seniors), senior_capacities)
    _arcs(flow, np.arange(seniors, seniors + juniors), np.full(juniors, sink), junior_capacities)
    if not fill_all:
        _arcs(flow, np.array([source]), np.array([sink]), [total])  # places that stay empty
    flow.set_node_supply(source, total)
    flow.set_node_supply(sink, -total)
    if (status := flow.solve()) != flow.OPTIMAL:
        raise InfeasibleAssignment(f"min-cost flow ended with {status}")
    return np.nonzero(flow.flows(pairs))[0].astype(np.int64)


def _is_dense(places_of_seniors: Sequence[int], places_of_juniors: Sequence[int], edges: int) -> bool:
    """Whether everybody has one place and most pairs are possible, where a flow is slow and a matrix small."""
    cells = len(places_of_seniors) * len(places_of_juniors)
    return (
        edges * MAX_SPARSITY >= cells and cells <= MAX_MATRIX_CELLS and {*places_of_seniors, *places_of_juniors} == {1}
    )


def _assigned(seniors: int, juniors: int, edges: Edges, seed: int) -> Ints:
    """The same by shortest augmenting paths over all pairs (Crouse 2016); one that cannot be gains nothing."""
    gain = np.zeros((seniors, juniors))
    gain[edges.seniors, edges.juniors] = np.maximum(0, edge_gains(edges, seed))
    place = np.full((seniors, juniors), -1)
    place[edges.seniors, edges.juniors] = np.arange(len(edges))
    rows, columns = optimize.linear_sum_assignment(gain, maximize=True)
    found = place[rows, columns]
    return np.sort(found[(found >= 0) & (gain[rows, columns] > 0)])


def _matched(places_of_seniors: Sequence[int], places_of_juniors: Sequence[int], edges: Edges, seed: int) -> Ints:
    """The same where everybody who has a place, one at most, is to have a partner; a fifth of a flow's time."""
    there = [np.array(places, dtype=np.bool_) for places in (places_of_seniors, places_of_juniors)]
    numbers = [np.cumsum(side) - 1 for side in there]
    some = there[0][edges.seniors] & there[1][edges.juniors]
    seniors, juniors = numbers[0][edges.seniors], numbers[1][edges.juniors]
    solver = linear_sum_assignment.SimpleLinearSumAssignment()
    gain = edge_gains(edges, seed)[some]
    cost = gain.max(initial=0) - gain  # of mixed signs, it would take some that can be for impossible
    solver.add_arcs_with_cost(seniors[some].astype(np.int32), juniors[some].astype(np.int32), cost)
    if solver.num_nodes() < there[0].sum() or solver.solve() != solver.OPTIMAL:  # it knows of those with an edge alone
        raise InfeasibleAssignment("not everybody can have a partner")
    mates = np.array([solver.right_mate(n) for n in range(solver.num_nodes())])
    return np.nonzero(some & (mates[seniors] == juniors))[0].astype(np.int64)


def edge_gains(edges: Edges, seed: int) -> Ints:
    """What each edge adds to the total that ``assign`` maximises, ``UNIT * TIE`` for each unit of weight."""
    ties = edges.tie_breakers(seed) % np.uint64(TIE_LEVELS)
    return np.rint(edges.scores * UNITS_PER_FIT).astype(np.int64) * TIE_LEVELS + ties.astype(np.int64)


def split_sides(
    seniors: Sequence[Member], juniors: Sequence[Member], either: Sequence[Member], places: Sequence[int]
) -> tuple[list[Member], list[Member]]:
    """Put each of ``either`` on one side: the most senior of them as seniors, so many that both sides have like places.

    ``places``: free places of seniors, juniors and either, in this order. Returns both sides in the order of their ids.
    """
    of = dict(zip((m.id for m in (*seniors, *juniors, *either)), places, strict=True))
    ranked = sorted(
        either, key=lambda m: (-(m.profile.level or DEFAULT_LEVEL), -(m.profile.experience_band or 0), m.id)
    )
    gap = sum(of[m.id] for m in seniors) - sum(of[m.id] for m in juniors) - sum(of[m.id] for m in ranked)
    best, chosen = abs(gap), 0
    for n, member in enumerate(ranked, start=1):
        gap += 2 * of[member.id]
        if abs(gap) < best:
            best, chosen = abs(gap), n
    return (
        sorted([*seniors, *ranked[:chosen]], key=lambda m: m.id),
        sorted([*juniors, *ranked[chosen:]], key=lambda m: m.id),
    )


def _arcs(flow: min_cost_flow.SimpleMinCostFlow, tails: Ints, heads: Ints, capacities: Sequence[int]) -> None:
    flow.add_arcs_with_capacity_and_unit_cost(
        tails.astype(np.int32),
        heads.astype(np.int32),
        np.array(capacities, dtype=np.int64),
        np.zeros(len(capacities), dtype=np.int64),
    )
