"""The benefit of many single pairs, as a compiled loop."""

import numpy as np

from services.matcher.engine.arrays import Codes, Float32s, Float64s, Int64s
from services.matcher.engine.jit import jit_kernel


@jit_kernel
def unmet_shares(topics: Codes, worths: Float32s, seekers: Int64s, coverage: Float32s, givers: Int64s) -> Float64s:
    """(pairs): the share of the seeker's wishes that the giver does not meet.

    It is the product over the wishes of ``1 - worth x coverage``. The tables ``topics``, ``worths`` (slots, members)
    and ``coverage`` (topics, members) are those of ``MemberColumns``.
    """
    unmet = np.ones(len(seekers))
    for pair in range(len(seekers)):
        seeker, giver = seekers[pair], givers[pair]
        for slot in range(len(worths)):
            if worths[slot, seeker] > 0:
                unmet[pair] *= 1 - np.float64(worths[slot, seeker]) * coverage[topics[slot, seeker], giver]
    return unmet
