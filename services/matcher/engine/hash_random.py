"""Chance that depends on the seed and on who it is about, and on nobody else.

One pair more or less among the candidates leaves the lot of all others as it was.
"""

import numpy as np
import numpy.typing as npt

_STEP = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(seed: int, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A number for each key, evenly spread over 64 bits: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    start = np.random.default_rng(seed).integers(0, 2**63, dtype=np.uint64)
    mixed = (keys.astype(np.uint64) + np.uint64(1)) * _STEP + start
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
