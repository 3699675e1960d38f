"""Dual prices: how much of the best total is lost when a person has one seat less.

This is the greatest price of the seat in any solution of the dual problem. It tells whether one more pair would change
the assignment: every best assignment takes a new pair of an unmatched person exactly if its gain exceeds the price of
the partner's seat.

Removing a seat frees one partner. The partner takes the best of an empty seat, another person's seat (who loses it in
turn), or nothing. This is a shortest path in the residual graph. The assignment is optimal, so the graph has no
negative cycle, and relaxing edges until nothing changes finds the path.
"""

import numpy as np

from services.matcher.engine.arrays import Bools, Int64s
from services.matcher.engine.jit import jit_kernel

UNBOUNDED_PRICE = np.iinfo(np.int64).max // 4  # the price of a seat that does not exist


def extreme_dual_prices(
    mine: Int64s, theirs: Int64s, gain: Int64s, chosen: Bools, full: Bools, partners: int
) -> tuple[Int64s, Int64s]:
    """Of all solutions of the dual problem, the one with the highest prices of my side and the lowest of the other.

    ``mine`` and ``theirs`` (edges) are both ends of each edge, ``chosen`` (edges) is the assignment. ``full`` (people
    of my side): they have no seat left. ``partners``: number of people on the other side.
    """
    price, partner_price = np.where(full, UNBOUNDED_PRICE, 0), np.zeros(partners, dtype=np.int64)
    np.minimum.at(price, mine[chosen], gain[chosen])
    _relax_prices(mine, theirs, gain, chosen, price, partner_price)
    return price, partner_price


@jit_kernel
def _relax_prices(
    mine: Int64s, theirs: Int64s, gain: Int64s, chosen: Bools, price: Int64s, partner_price: Int64s
) -> None:
    """Shortest paths in the residual graph by Bellman and Ford, with a queue of people whose price fell (Moore 1959).

    When a price falls, the partner's price must rise to make up for it on each edge that was not chosen. Then the
    partner's own partners gain less from their edges.
    """
    free_from, partners, free_gain = _adjacency(mine, theirs, gain, ~chosen, len(price))
    held_from, holders, held_gain = _adjacency(theirs, mine, gain, chosen, len(partner_price))
    queue = np.arange(len(price))
    is_queued = np.ones(len(price), dtype=np.bool_)
    head, count = 0, len(queue)
    while count:
        person = queue[head]
        head, count, is_queued[person] = (head + 1) % len(queue), count - 1, False
        for n in range(free_from[person], free_from[person + 1]):
            partner = partners[n]
            bid = free_gain[n] - price[person]
            if bid <= partner_price[partner]:
                continue
            partner_price[partner] = bid
            for k in range(held_from[partner], held_from[partner + 1]):
                holder = holders[k]
                if held_gain[k] - bid < price[holder]:
                    price[holder] = held_gain[k] - bid
                    if not is_queued[holder]:
                        queue[(head + count) % len(queue)] = holder
                        count, is_queued[holder] = count + 1, True


@jit_kernel
def _adjacency(
    starts: Int64s, ends: Int64s, gain: Int64s, selected: Bools, people: int
) -> tuple[Int64s, Int64s, Int64s]:
    """The selected edges grouped by start: the offset of each person's edges, the other ends, and the gains."""
    first = np.zeros(people + 1, dtype=np.int64)
    for edge in range(len(starts)):
        if selected[edge]:
            first[starts[edge] + 1] += 1
    for person in range(people):
        first[person + 1] += first[person]
    cursor = first[:-1].copy()
    other_ends, gains = np.empty(first[-1], dtype=np.int64), np.empty(first[-1], dtype=np.int64)
    for edge in range(len(starts)):
        if selected[edge]:
            position = cursor[starts[edge]]
            other_ends[position], gains[position], cursor[starts[edge]] = ends[edge], gain[edge], position + 1
    return first, other_ends, gains
