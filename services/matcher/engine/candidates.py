"""Which pairs are worth an exact look: some dozens of the best for each person, without scoring every pair exactly.

Up to a hundred thousand pairs, all are looked at. Beyond, a scan finds the best of each person by all rules but private
wishes, and those pairs are looked at in full. See docs/decisions/matching-at-scale.md.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.matcher.engine.all_pairs_scan import SCAN_THREADS, AllPairsScan
from services.matcher.engine.hash_random import splitmix64
from services.matcher.engine.jit import jit_kernel
from services.matcher.engine.member_columns import Bools, Ints
from services.matcher.engine.vectorised_fit import Floats, PairwiseFit

MAX_EXHAUSTIVE_PAIRS = 100_000  # up to so many pairs, all that fit are candidates; beyond, the best of each person
CANDIDATES_PER_PERSON = (
    14  # candidates kept for each person then, among 10,000; in a larger market they lie closer together ...
)
EXTRA_CANDIDATES_PER_DECADE = 14  # ... and ten times as many people need so many more for the same proof
SCAN_OVERSAMPLING = 2  # pairs of each person that are looked at for each of these
HARD_TO_SUIT_SHARE = (
    0.2  # of each side, by their best pair: they keep all of these, for whoever is worst off is among them
)
EVALUATION_BATCH = 125_000  # pairs scored exactly together
TIE_TOLERANCE = 1e-9  # scores that differ by less
_PERSON = 32  # bits of a row


@dataclass(frozen=True)
class Edges:
    """Pairs by row of senior and junior, with their score; in the order of (senior, junior)."""

    seniors: Ints
    juniors: Ints
    scores: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, which: Ints | Bools) -> "Edges":
        return Edges(self.seniors[which], self.juniors[which], self.scores[which])

    def tie_breakers(self, seed: int) -> npt.NDArray[np.uint64]:
        """Of each pair, whatever others there are."""
        return splitmix64(seed, (self.seniors << _PERSON) | self.juniors)


@dataclass(frozen=True)
class Candidates:
    """Pairs that break no rule that everybody may know. Those that a private rule forbids are never assigned.

    They stay among the others, so that nothing which is told of a person's candidates depends on private rules.
    """

    edges: Edges
    private: Bools

    def allowed(self) -> Edges:
        return self.edges.take(~self.private)


def find_candidates(
    pairs: PairwiseFit, scan: AllPairsScan | None, progress: Callable[[int], None] = lambda _: None
) -> Candidates:
    """The best of each person by the scan, or all pairs that may be; ``progress`` hears how many seniors were seen."""
    n, m = pairs.shape
    if scan is None:
        found = _all(pairs)
        progress(n)
        return found
    kept = CANDIDATES_PER_PERSON + max(0, round(EXTRA_CANDIDATES_PER_DECADE * np.log10(min(n, m) / 10_000)))
    keys = scan.best_pairs(SCAN_OVERSAMPLING * kept, progress)
    return _best_of_each(evaluate_pairs(pairs, *np.divmod(keys, m)), kept)


def scan_if_large(pairs: PairwiseFit) -> AllPairsScan | None:
    """How the pairs are looked through; None where they are so few that all are candidates."""
    n, m = pairs.shape
    return None if n * m <= MAX_EXHAUSTIVE_PAIRS else AllPairsScan(pairs)


def _all(pairs: PairwiseFit) -> Candidates:
    """All that break no rule that everybody may know."""
    n, m = pairs.shape
    seniors, juniors, size = np.arange(n), np.arange(m), max(1, EVALUATION_BATCH // max(1, m))
    return _open(pairs, [(seniors[a : a + size, None], juniors[None, :]) for a in range(0, n, size)])


def evaluate_pairs(pairs: PairwiseFit, rows: Ints, columns: Ints) -> Candidates:
    """Those of these pairs, given in order, that break no rule that everybody may know."""
    starts = range(0, len(rows), EVALUATION_BATCH)
    return _open(pairs, [(rows[a : a + EVALUATION_BATCH], columns[a : a + EVALUATION_BATCH]) for a in starts])


def _open(pairs: PairwiseFit, parts: Sequence[tuple[Ints, Ints]]) -> Candidates:
    """What may be of all ``parts``, in their order: rows and columns, which numpy broadcasts."""

    def look(part: tuple[Ints, Ints]) -> tuple[Ints, Ints, Floats, Bools]:
        rows, columns = np.broadcast_arrays(*part)
        block = pairs.evaluate(*part)
        open_ = np.nonzero(block.publicly_feasible())
        return rows[open_], columns[open_], block.score[open_], block.broken["rather_not"][open_]

    nothing = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        found = [nothing, *pool.map(look, parts)]
    seniors, juniors, scores, private = (np.concatenate(each) for each in zip(*found, strict=True))
    return Candidates(Edges(seniors, juniors, scores), private)


def _best_of_each(found: Candidates, keep: int) -> Candidates:
    """The best of each senior and of each junior, and all of those who are hard to suit."""
    edges, scores = found.edges, _unequal(found.edges)
    seniors, juniors = _ranks(edges, scores)
    kept = (seniors < keep) | (juniors < keep)
    for group, places in ((edges.seniors, seniors), (edges.juniors, juniors)):
        kept |= _hard_to_suit(group, places, scores)
    return Candidates(edges.take(kept), found.private[kept])


def _hard_to_suit(group: Ints, places: Ints, scores: Floats) -> Bools:
    """Which edges are of somebody whose best one is among the least of all best ones."""
    first = np.asarray(places == 0)
    if not first.any():
        return first
    hard = scores[first] <= np.quantile(scores[first], HARD_TO_SUIT_SHARE)
    return np.asarray(np.isin(group, group[first][hard]))


def is_among_best(edges: Edges, keep: int) -> Bools:
    """Which edges are among so many best of their senior, or of their junior."""
    seniors, juniors = _ranks(edges, _unequal(edges))
    return np.asarray((seniors < keep) | (juniors < keep))


def _unequal(edges: Edges) -> Floats:
    """The scores; what is equal, or almost, in the order of lots, so that of many equal ones all keep others."""
    return edges.scores + edges.tie_breakers(0) * (TIE_TOLERANCE / 2.0**64)


def _ranks(edges: Edges, scores: Floats) -> tuple[Ints, Ints]:
    """The place of each edge among those of its senior, and among those of its junior."""
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        seniors, juniors = pool.map(rank_in_group, (edges.seniors, edges.juniors), (scores, scores))
    return seniors, juniors


@jit_kernel
def rank_in_group(group: Ints, scores: Floats) -> Ints:
    """The place of each score within its group, the best first; equal ones in the order in which they stand."""
    ends = np.cumsum(np.bincount(group))
    at = ends.copy()
    members = np.empty(len(group), dtype=np.int64)
    for edge in range(len(group) - 1, -1, -1):
        at[group[edge]] -= 1
        members[at[group[edge]]] = edge
    places = np.empty(len(group), dtype=np.int64)
    for begin, end in zip(at, ends):  # noqa: B905 - numba knows no strict
        order = np.argsort(-scores[members[begin:end]], kind="mergesort")  # which keeps equal ones in order
        for place in range(len(order)):
            places[members[begin + order[place]]] = place
    return places


@jit_kernel
def best_two_edges(group: Ints, scores: Floats, groups: int) -> tuple[Ints, Ints]:
    """Positions of the best and of the second best score of each of so many groups, -1 where there is none."""
    first, second = np.full(groups, -1, dtype=np.int64), np.full(groups, -1, dtype=np.int64)
    for edge in range(len(group)):
        one, score = group[edge], scores[edge]
        if first[one] < 0 or score > scores[first[one]]:
            first[one], second[one] = edge, first[one]
        elif second[one] < 0 or score > scores[second[one]]:
            second[one] = edge
    return first, second
