"""The best set of pairs: a minimum-cost flow from seniors to juniors over the candidate edges, and its dual prices.

The total weight is the greatest among all sets that respect everybody's capacity. The same inputs and seed give the
same set, in whatever order they come. Among near-equal sets (closer than a millionth for each pair) the seed decides.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from ortools.graph.python import linear_sum_assignment, min_cost_flow
from scipy import optimize

from services.matcher.domain.fit.hard_rules import Member
from services.matcher.engine.arrays import Bools, Float64s, Int64s
from services.matcher.engine.candidates import Edges
from services.matcher.engine.dual_prices import extreme_dual_prices

UNITS_PER_FIT = 1_000_000  # the solvers take integers: fit is counted in millionths
TIE_LEVELS = 16  # each millionth has so many parts, with which the seed breaks ties
MAX_SPARSITY = 20  # a cohort is dense when it has at least one edge in so many pairs
MAX_MATRIX_CELLS = 1_000_000  # pairs up to which a dense cohort is solved as a matrix
DEFAULT_LEVEL = 10  # seniority of a person of unknown level, when sides are chosen


class InfeasibleAssignment(Exception):
    """The solver found no solution. For valid capacities this cannot happen, unless all seats must be filled."""


@dataclass(frozen=True)
class PricedAssignment:
    """``chosen``: sorted positions of the chosen edges. ``senior_prices`` and ``junior_prices`` are in units of weight.

    The prices are a solution of the dual problem: an edge that was not chosen never weighs more than the sum of its two
    prices, and an empty seat costs nothing.
    """

    chosen: Int64s
    senior_prices: Float64s
    junior_prices: Float64s


def assign_with_prices(
    senior_capacities: Sequence[int], junior_capacities: Sequence[int], edges: Edges, seed: int
) -> PricedAssignment:
    """``assign``, with dual prices: the mean of the two extreme solutions of the dual problem."""
    chosen = assign(senior_capacities, junior_capacities, edges, seed)
    is_chosen = np.zeros(len(edges), dtype=np.bool_)
    is_chosen[chosen] = True
    gain = edge_gains(edges, seed)
    full_seniors = is_saturated(edges.seniors[chosen], senior_capacities)
    full_juniors = is_saturated(edges.juniors[chosen], junior_capacities)
    n, m = len(full_seniors), len(full_juniors)
    with ThreadPoolExecutor() as pool:
        seniors = pool.submit(extreme_dual_prices, edges.seniors, edges.juniors, gain, is_chosen, full_seniors, m)
        juniors = pool.submit(extreme_dual_prices, edges.juniors, edges.seniors, gain, is_chosen, full_juniors, n)
        (senior_max, junior_min), (junior_max, senior_min) = seniors.result(), juniors.result()
    unit = UNITS_PER_FIT * TIE_LEVELS
    return PricedAssignment(chosen, (senior_max + senior_min) / 2 / unit, (junior_max + junior_min) / 2 / unit)


def is_saturated(partners: Int64s, capacities: Sequence[int] | Int64s) -> Bools:
    """(people of a side): whether all seats are taken. ``partners``: the person of this side in each chosen pair."""
    return np.asarray(np.bincount(partners, minlength=len(capacities)) >= capacities)


def assign(
    senior_capacities: Sequence[int],
    junior_capacities: Sequence[int],
    edges: Edges,
    seed: int,
    *,
    fill_all: bool = False,
) -> Int64s:
    """Sorted positions in ``edges`` of the chosen pairs. ``fill_all``: all seats are to be taken, at whatever weight.

    Raises ``InfeasibleAssignment`` when that is not possible.
    """
    count = len(edges)
    if not fill_all and _is_dense(senior_capacities, junior_capacities, count):
        return _assign_by_matrix(len(senior_capacities), len(junior_capacities), edges, seed)
    total = min(sum(senior_capacities), sum(junior_capacities))
    if count == 0 or total == 0:
        return np.zeros(0, dtype=np.int64)
    one_each = {*senior_capacities, *junior_capacities} <= {0, 1}
    if fill_all and one_each and sum(senior_capacities) == sum(junior_capacities):
        return _assign_perfectly(senior_capacities, junior_capacities, edges, seed)
    return _assign_by_flow(senior_capacities, junior_capacities, edges, seed, fill_all=fill_all)


def _assign_by_flow(
    senior_capacities: Sequence[int], junior_capacities: Sequence[int], edges: Edges, seed: int, *, fill_all: bool
) -> Int64s:
    """A minimum-cost flow: source, seniors, juniors, sink, and a free arc from source to sink for empty seats."""
    total = min(sum(senior_capacities), sum(junior_capacities))
    seniors, juniors = len(senior_capacities), len(junior_capacities)
    source, sink = seniors + juniors, seniors + juniors + 1
    flow = min_cost_flow.SimpleMinCostFlow()
    pairs = flow.add_arcs_with_capacity_and_unit_cost(
        edges.seniors.astype(np.int32),
        (edges.juniors + seniors).astype(np.int32),
        np.ones(len(edges), np.int64),
        -edge_gains(edges, seed),
    )
    _add_free_arcs(flow, np.full(seniors, source), np.arange(seniors), senior_capacities)
    _add_free_arcs(flow, np.arange(seniors, seniors + juniors), np.full(juniors, sink), junior_capacities)
    if not fill_all:
        _add_free_arcs(flow, np.array([source]), np.array([sink]), [total])
    flow.set_node_supply(source, total)
    flow.set_node_supply(sink, -total)
    if (status := flow.solve()) != flow.OPTIMAL:
        raise InfeasibleAssignment(f"min-cost flow ended with {status}")
    return np.nonzero(flow.flows(pairs))[0].astype(np.int64)


def _is_dense(senior_capacities: Sequence[int], junior_capacities: Sequence[int], edges: int) -> bool:
    """Whether everybody has one seat and most pairs are possible. Then a flow is slow and a matrix is small."""
    cells = len(senior_capacities) * len(junior_capacities)
    return (
        edges * MAX_SPARSITY >= cells and cells <= MAX_MATRIX_CELLS and {*senior_capacities, *junior_capacities} == {1}
    )


def _assign_by_matrix(seniors: int, juniors: int, edges: Edges, seed: int) -> Int64s:
    """The same by shortest augmenting paths over all pairs (Crouse 2016). A pair without an edge gains nothing."""
    gain = np.zeros((seniors, juniors))
    gain[edges.seniors, edges.juniors] = np.maximum(0, edge_gains(edges, seed))
    position = np.full((seniors, juniors), -1)
    position[edges.seniors, edges.juniors] = np.arange(len(edges))
    rows, columns = optimize.linear_sum_assignment(gain, maximize=True)
    chosen = position[rows, columns]
    return np.sort(chosen[(chosen >= 0) & (gain[rows, columns] > 0)])


def _assign_perfectly(
    senior_capacities: Sequence[int], junior_capacities: Sequence[int], edges: Edges, seed: int
) -> Int64s:
    """A perfect matching of all people with a seat, where each has one at most. Takes a fifth of a flow's time."""
    has_seat = [np.array(capacities, dtype=np.bool_) for capacities in (senior_capacities, junior_capacities)]
    node_of = [np.cumsum(side) - 1 for side in has_seat]
    usable = has_seat[0][edges.seniors] & has_seat[1][edges.juniors]
    seniors, juniors = node_of[0][edges.seniors], node_of[1][edges.juniors]
    solver = linear_sum_assignment.SimpleLinearSumAssignment()
    gain = edge_gains(edges, seed)[usable]
    cost = gain.max(initial=0) - gain  # with costs of mixed signs the solver may call a feasible problem infeasible
    solver.add_arcs_with_cost(seniors[usable].astype(np.int32), juniors[usable].astype(np.int32), cost)
    # The solver knows only of people who have an edge.
    if solver.num_nodes() < has_seat[0].sum() or solver.solve() != solver.OPTIMAL:
        raise InfeasibleAssignment("not everybody can have a partner")
    mates = np.array([solver.right_mate(n) for n in range(solver.num_nodes())])
    return np.nonzero(usable & (mates[seniors] == juniors))[0].astype(np.int64)


def edge_gains(edges: Edges, seed: int) -> Int64s:
    """The weight of each edge in the total of ``assign``, ``UNITS_PER_FIT * TIE_LEVELS`` per unit of weight."""
    ties = edges.tie_breakers(seed) % np.uint64(TIE_LEVELS)
    return np.rint(edges.scores * UNITS_PER_FIT).astype(np.int64) * TIE_LEVELS + ties.astype(np.int64)


def split_sides(
    seniors: Sequence[Member], juniors: Sequence[Member], either: Sequence[Member], seats: Sequence[int]
) -> tuple[list[Member], list[Member]]:
    """Put each person of ``either`` on one side, the most senior of them as seniors, so that seats are balanced.

    ``seats``: free seats of seniors, juniors and either, in this order. Returns both sides in the order of their ids.
    """
    seats_of = dict(zip((m.id for m in (*seniors, *juniors, *either)), seats, strict=True))
    ranked = sorted(
        either, key=lambda m: (-(m.profile.level or DEFAULT_LEVEL), -(m.profile.experience_band or 0), m.id)
    )
    gap = sum(seats_of[m.id] for m in seniors) - sum(seats_of[m.id] for m in (*juniors, *ranked))
    least_gap, split = abs(gap), 0
    for n, member in enumerate(ranked, start=1):
        gap += 2 * seats_of[member.id]
        if abs(gap) < least_gap:
            least_gap, split = abs(gap), n
    return (
        sorted([*seniors, *ranked[:split]], key=lambda m: m.id),
        sorted([*juniors, *ranked[split:]], key=lambda m: m.id),
    )


def _add_free_arcs(
    flow: min_cost_flow.SimpleMinCostFlow, tails: Int64s, heads: Int64s, capacities: Sequence[int]
) -> None:
    flow.add_arcs_with_capacity_and_unit_cost(
        tails.astype(np.int32),
        heads.astype(np.int32),
        np.array(capacities, dtype=np.int64),
        np.zeros(len(capacities), dtype=np.int64),
    )
