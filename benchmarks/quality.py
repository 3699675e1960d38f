"""How good a set of pairs is, judged over all pairs at once: the same figures for every matcher.

Arrays are (seniors, juniors) float32, 0 where two may not be paired.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Pairs = Sequence[tuple[int, int]]

WORST = 0.05  # share of the pairs that count as the worst ones
CELLS = 4_000_000  # pairs looked at together
NOISE = 1e-6  # a gain by less is rounding


@dataclass(frozen=True)
class Everything:
    """The value of every pair of a cohort, to the programme and to each of the two; everybody has one seat."""

    scores: Floats
    for_seniors: Floats
    for_juniors: Floats


def judged(everything: Everything, pairs: Pairs) -> dict[str, float | int]:
    """Total and lowest fit, mean of the worst 5 %, share of all people who are matched, and blocking pairs.

    Raises ``ValueError`` where somebody has two partners. A pair that may not be counts nothing, and its two as alone.
    """
    made = np.array([(s, j) for s, j in pairs if everything.scores[s, j] > 0], dtype=np.int64).reshape(-1, 2)
    if len(np.unique(made[:, 0])) < len(made) or len(np.unique(made[:, 1])) < len(made):
        raise ValueError("somebody has two partners")
    fits = everything.scores[made[:, 0], made[:, 1]].astype(np.float64)
    return {
        "pairs": len(made),
        **of_fits(fits),
        "share_matched": round(2 * len(made) / sum(everything.scores.shape), 4),
        "blocking_pairs": blocking(everything, *gains(everything, made)),
    }


def of_fits(fits: npt.NDArray[np.float64]) -> dict[str, float]:
    """Total, worst and mean of the worst 5 % (at least one) of some pairs' fits."""
    if not len(fits):
        return {"total_fit": 0.0, "worst_pair": 0.0, "mean_of_worst_5_percent": 0.0}
    worst = np.sort(fits)[: max(1, int(len(fits) * WORST))]
    return {
        "total_fit": round(float(fits.sum()), 4),
        "worst_pair": round(float(worst[0]), 4),
        "mean_of_worst_5_percent": round(float(worst.mean()), 4),
    }


def gains(everything: Everything, made: Ints) -> tuple[Floats, Floats]:
    """The gain of each senior and each junior from their partner; 0 without one."""
    of_seniors, of_juniors = (np.zeros(size, dtype=np.float32) for size in everything.scores.shape)
    of_seniors[made[:, 0]] = everything.for_seniors[made[:, 0], made[:, 1]]
    of_juniors[made[:, 1]] = everything.for_juniors[made[:, 0], made[:, 1]]
    return of_seniors, of_juniors


def blocking(everything: Everything, senior_gains: Floats, junior_gains: Floats) -> int:
    """Pairs that may be and in which both would gain more than they do now."""
    return sum(
        int(
            (
                (everything.scores[rows] > 0)
                & (everything.for_seniors[rows] > senior_gains[rows, None] + NOISE)
                & (everything.for_juniors[rows] > junior_gains[None, :] + NOISE)
            ).sum()
        )
        for rows in blocks(*everything.scores.shape)
    )


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Rows in stretches that bound the memory."""
    size = max(1, CELLS // max(1, columns))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def greedy(seniors: Ints, juniors: Ints, scores: npt.NDArray[np.floating]) -> list[tuple[int, int]]:
    """The best candidate first, then the best of those who are left; among equals the first in the order given."""
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs = []
    order = np.argsort(-scores, kind="stable")
    for s, j in zip(seniors[order].tolist(), juniors[order].tolist(), strict=True):
        if s not in taken[0] and j not in taken[1]:
            taken[0].add(s)
            taken[1].add(j)
            pairs.append((s, j))
    return pairs


def likings(everything: Everything) -> Mapping[str, list[list[int]]]:
    """For each person, the positions of all allowed partners, the greatest benefit first."""
    sides = {
        "seniors": (everything.for_seniors, everything.scores > 0),
        "juniors": (everything.for_juniors.T, everything.scores.T > 0),
    }
    return {
        side: [_dearest_first(gain, may) for gain, may in zip(gains_of_all, allowed, strict=True)]
        for side, (gains_of_all, allowed) in sides.items()
    }


def _dearest_first(gain: Floats, may: npt.NDArray[np.bool_]) -> list[int]:
    order = np.argsort(-gain, kind="stable")
    result: list[int] = order[may[order]].tolist()
    return result
