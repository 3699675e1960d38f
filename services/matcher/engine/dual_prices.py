"""What a place is worth: how much of the best total is lost when somebody has one place less.

That is the greatest price of the place in any solution of the dual problem, so it says whether one more pair would
change the assignment: a pair of somebody who has nobody is taken, in every best assignment, exactly if it gains more
than its place is worth. Losing a place sets one partner free, who takes the best of: an empty place, another
candidate's place (which loses one in turn), or nothing. That is a shortest path; without a better assignment there is
no negative cycle, so relaxing edges until nothing changes finds it.

What is said of those left over must not tell of private wishes, and one of the ways to take that empty place may fall
away by a wish. So ``steady_prices`` counts, of the people who have nobody, only the second best for each partner.
"""

import numpy as np

from services.matcher.engine.jit import jit_kernel
from services.matcher.engine.member_columns import Bools, Ints

UNBOUNDED_PRICE = np.iinfo(np.int64).max // 4  # the price of a place that does not exist


def extreme_dual_prices(
    mine: Ints, theirs: Ints, gain: Ints, taken: Bools, full: Bools, others: int
) -> tuple[Ints, Ints]:
    """Of all solutions of the dual problem the one with the highest prices on one side, so the lowest on the other.

    ``mine`` and ``theirs`` are both ends of each edge, ``full`` (mine) who has no place left.
    """
    price, asked = np.where(full, UNBOUNDED_PRICE, 0), np.zeros(others, dtype=np.int64)
    np.minimum.at(price, mine[taken], gain[taken])
    _settle(mine, theirs, gain, taken, price, asked)
    return price, asked


@jit_kernel
def _settle(mine: Ints, theirs: Ints, gain: Ints, taken: Bools, price: Ints, asked: Ints) -> None:
    """Shortest paths in the residual graph by Bellman and Ford, with a queue of those whose price fell (Moore 1959).

    What somebody's price falls to, a partner's (``asked``) must rise to make up for on an edge that was not chosen, and
    then that partner's own partners gain the less from their edge.
    """
    free_from, partners, free_gain = _grouped(mine, theirs, gain, ~taken, len(price))
    held_from, holders, held_gain = _grouped(theirs, mine, gain, taken, len(asked))
    queue = np.arange(len(price))
    waits = np.ones(len(price), dtype=np.bool_)
    head, count = 0, len(queue)
    while count:
        m = queue[head]
        head, count, waits[m] = (head + 1) % len(queue), count - 1, False
        for n in range(free_from[m], free_from[m + 1]):
            t = partners[n]
            wanted = free_gain[n] - price[m]
            if wanted <= asked[t]:
                continue
            asked[t] = wanted
            for k in range(held_from[t], held_from[t + 1]):
                other = holders[k]
                if held_gain[k] - wanted < price[other]:
                    price[other] = held_gain[k] - wanted
                    if not waits[other]:
                        queue[(head + count) % len(queue)] = other
                        count, waits[other] = count + 1, True


@jit_kernel
def _grouped(starts: Ints, ends: Ints, gain: Ints, which: Bools, people: int) -> tuple[Ints, Ints, Ints]:
    """Some edges by their start: where those of each person begin, the other end of each, and its gain."""
    first = np.zeros(people + 1, dtype=np.int64)
    for edge in range(len(starts)):
        if which[edge]:
            first[starts[edge] + 1] += 1
    for person in range(people):
        first[person + 1] += first[person]
    at = first[:-1].copy()
    found, gains = np.empty(first[-1], dtype=np.int64), np.empty(first[-1], dtype=np.int64)
    for edge in range(len(starts)):
        if which[edge]:
            place = at[starts[edge]]
            found[place], gains[place], at[starts[edge]] = ends[edge], gain[edge], place + 1
    return first, found, gains


def privacy_safe_prices(
    mine: Ints, theirs: Ints, gain: Ints, taken: Bools, private: Bools, full: Bools, others: int
) -> Ints:
    """The highest prices on one side, or more, and no other if one edge of somebody who has nobody is ``private``.

    ``private`` (edges): those that only a private wish forbids. Whoever has nobody could take the place of whom a
    partner loses; here only the second best of all such people does, as if none of these edges were forbidden, or the
    best of those that are not, if that is less.
    """
    alone = ~full
    alone[mine[taken]] = False
    some = alone[mine]
    instead = _instead(theirs, gain, some, private, others)
    ends = np.nonzero(instead)[0]
    kept = ~some & ~private
    price, _ = extreme_dual_prices(
        np.concatenate([mine[kept], np.arange(len(full), len(full) + len(ends))]),
        np.concatenate([theirs[kept], ends]),
        np.concatenate([gain[kept], instead[ends]]),
        np.concatenate([taken[kept], np.zeros(len(ends), dtype=np.bool_)]),
        np.concatenate([full, np.zeros(len(ends), dtype=np.bool_)]),
        others,
    )
    return price[: len(full)]


@jit_kernel
def _instead(theirs: Ints, gain: Ints, some: Bools, private: Bools, others: int) -> Ints:
    """For each partner, of ``some`` edges, the second best gain, or the best that is not private, if that is less."""
    best, second, allowed = np.zeros(others, np.int64), np.zeros(others, np.int64), np.zeros(others, np.int64)
    for edge in range(len(theirs)):
        if some[edge]:
            t, more = theirs[edge], gain[edge]
            second[t] = max(second[t], min(best[t], more))
            best[t] = max(best[t], more)
            if not private[edge]:
                allowed[t] = max(allowed[t], more)
    return np.minimum(second, allowed)
