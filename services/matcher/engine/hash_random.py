"""Random numbers that depend only on a seed and on a key.

Adding or removing one pair among the candidates leaves the numbers of all other pairs unchanged.
"""

import numpy as np
import numpy.typing as npt

from services.matcher.engine.arrays import Int64s

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, made odd


def splitmix64(seed: int, keys: Int64s) -> npt.NDArray[np.uint64]:
    """One number for each key, uniform over 64 bits: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    start = np.random.default_rng(seed).integers(0, 2**63, dtype=np.uint64)
    mixed = (keys.astype(np.uint64) + np.uint64(1)) * _GOLDEN_GAMMA + start
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
