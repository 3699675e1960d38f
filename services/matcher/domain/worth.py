"""What a place is worth: how much of the best total is lost when somebody has one place less.

The losses are the greatest prices that prove the assignment best (the dual solution that favours this side), so they
say whether one more pair would change it: a pair of somebody who has nobody is taken, in every best assignment, exactly
if it gains more than its place is worth. Losing a place sets one partner free, who takes the best of: an empty place,
another candidate's place (which loses one in turn), or nothing. That is a shortest path; without a better assignment
there is no negative cycle, so relaxing edges until nothing changes finds it.
"""

import numpy as np

from services.matcher.domain.columns import Bools, Ints

NEVER = np.iinfo(np.int64).max // 4  # the worth of a place that does not exist
ROUNDS = 1000  # of relaxing; stopped there, each loss is too high rather than too low, and so on the safe side


def losses(seekers: Ints, owners: Ints, gains: Ints, taken: Bools, places: Ints, people: int) -> Ints:
    """The loss for each owner of places, ``(owners,)``, in the unit of ``gains``.

    Each candidate pair is a position in ``seekers``, ``owners``, ``gains`` and ``taken``, the last of which tells the
    pairs of a best assignment; ``places`` has one number for each owner, ``people`` is the number of seekers.
    """
    used = np.bincount(owners[taken], minlength=len(places))
    loss: Ints = np.where(used < places, 0, NEVER).astype(np.int64)
    free_to_go: Ints = np.zeros(people, dtype=np.int64)  # what changes when the seeker loses a pair; never above 0
    of, at, worth = seekers[taken], owners[taken], gains[taken]
    full = used[at] >= places[at]
    of, at, worth = of[full], at[full], worth[full]
    np.minimum.at(loss, at, worth)
    other = (seekers[~taken], owners[~taken], gains[~taken])
    changed: Bools = loss < NEVER
    for _ in range(ROUNDS):
        near = np.nonzero(changed[other[1]])[0]
        offer = loss[other[1][near]] - other[2][near]
        before = free_to_go.copy()
        np.minimum.at(free_to_go, other[0][near], offer)
        moved = (free_to_go < before)[of]
        if not moved.any():
            break
        earlier = loss.copy()
        np.minimum.at(loss, at[moved], worth[moved] + free_to_go[of[moved]])
        changed = loss < earlier
    return loss
