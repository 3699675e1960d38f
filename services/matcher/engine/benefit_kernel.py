"""What many given pairs leave open of one side's wishes."""

import numpy as np
import numpy.typing as npt

from services.matcher.engine.jit import jit_kernel
from services.matcher.engine.member_columns import Codes, Floats, Ints


@jit_kernel
def unmet_shares(wishes: Codes, worth: Floats, who: Ints, covers: Floats, whom: Ints) -> npt.NDArray[np.float64]:
    """(pairs): the product over the wishes of ``who`` of ``1 - worth x cover`` by ``whom``; tables are those of
    ``Columns``."""
    left = np.ones(len(who))
    for pair in range(len(who)):
        seeker, giver = who[pair], whom[pair]
        for slot in range(len(worth)):
            if worth[slot, seeker] > 0:
                left[pair] *= 1 - np.float64(worth[slot, seeker]) * covers[wishes[slot, seeker], giver]
    return left
