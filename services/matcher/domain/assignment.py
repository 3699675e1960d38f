"""The best set of pairs: a minimum-cost flow from seniors to juniors over the candidates.

The total fit is greatest among all sets that exceed nobody's places. The same inputs and seed give the same set, in
whatever order they come; among near-equal sets (closer than a millionth for each pair) the seed decides.
"""

from collections.abc import Sequence

import numpy as np
from ortools.graph.python import min_cost_flow

from services.matcher.domain.candidates import Edges
from services.matcher.domain.columns import Ints
from services.matcher.domain.rules import Member

UNIT = 1_000_000  # fit is counted in millionths
TIE = 1024  # ... and each of these in parts that the seed deals out
MIDDLE = 10  # seniority of somebody whose level is unknown, when sides are chosen


class Unsolvable(Exception):
    """The solver gave up; by construction this cannot happen for valid capacities."""


def assign(places_of_seniors: Sequence[int], places_of_juniors: Sequence[int], edges: Edges, seed: int) -> Ints:
    """Positions in ``edges`` of the chosen pairs."""
    count = len(edges.scores)
    total = min(sum(places_of_seniors), sum(places_of_juniors))
    if count == 0 or total == 0:
        return np.zeros(0, dtype=np.int64)
    seniors, juniors = len(places_of_seniors), len(places_of_juniors)
    source, sink = seniors + juniors, seniors + juniors + 1
    flow = min_cost_flow.SimpleMinCostFlow()
    pairs = flow.add_arcs_with_capacity_and_unit_cost(
        edges.seniors.astype(np.int32),
        (edges.juniors + seniors).astype(np.int32),
        np.ones(count, np.int64),
        -gains(edges, seed),
    )
    _arcs(flow, np.full(seniors, source), np.arange(seniors), places_of_seniors)
    _arcs(flow, np.arange(seniors, seniors + juniors), np.full(juniors, sink), places_of_juniors)
    _arcs(flow, np.array([source]), np.array([sink]), [total])  # places that stay empty
    flow.set_node_supply(source, total)
    flow.set_node_supply(sink, -total)
    if (status := flow.solve()) != flow.OPTIMAL:
        raise Unsolvable(f"min-cost flow ended with {status}")
    return np.nonzero(flow.flows(pairs))[0].astype(np.int64)


def gains(edges: Edges, seed: int) -> Ints:
    """What each candidate adds to the total that ``assign`` maximises, ``UNIT * TIE`` for each unit of fit."""
    ties = np.random.default_rng(seed).integers(0, TIE, len(edges.scores))
    return np.asarray(np.rint(edges.scores * UNIT), dtype=np.int64) * TIE + ties


def split(
    seniors: Sequence[Member], juniors: Sequence[Member], either: Sequence[Member], places: Sequence[int]
) -> tuple[list[Member], list[Member]]:
    """Put each of ``either`` on one side: the most senior of them as seniors, so many that both sides have like places.

    ``places``: free places of seniors, juniors and either, in this order. Returns both sides in the order of their ids.
    """
    of = dict(zip((m.id for m in (*seniors, *juniors, *either)), places, strict=True))
    ranked = sorted(either, key=lambda m: (-(m.profile.level or MIDDLE), -(m.profile.experience_band or 0), m.id))
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
