"""The candidate pairs of a round: some dozens of the best for each person, without an exact score of every pair.

Up to a hundred thousand pairs, all are evaluated exactly. Beyond that, a scan finds the best of each person by all
rules, and only those pairs are evaluated exactly. See docs/decisions/matching-at-scale.md.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.matcher.engine.all_pairs_scan import SCAN_THREADS, AllPairsScan
from services.matcher.engine.arrays import Bools, Float64s, Int64s
from services.matcher.engine.hash_random import splitmix64
from services.matcher.engine.jit import jit_kernel
from services.matcher.engine.vectorised_fit import PairwiseFit

MAX_EXHAUSTIVE_PAIRS = 100_000  # pairs up to which all that fit are candidates
# Candidates for each person in a larger round of 10,000 people. Ten times as many people lie closer together, and the
# same optimality bound then needs the extra candidates.
CANDIDATES_PER_PERSON = 14
EXTRA_CANDIDATES_PER_DECADE = 14
SCAN_OVERSAMPLING = 2  # scanned pairs that are evaluated exactly, for each candidate
# Share of each side, by the score of their best pair, that keeps all evaluated pairs: the worst off are among them.
HARD_TO_SUIT_SHARE = 0.2
EVALUATION_BATCH = 125_000  # pairs evaluated exactly at once
TIE_TOLERANCE = 1e-9  # scores that differ by less count as equal
_ROW_BITS = 32  # bits of a row in a packed pair


@dataclass(frozen=True)
class Edges:
    """Pairs of a senior row and a junior row with their score, sorted by (senior, junior)."""

    seniors: Int64s
    juniors: Int64s
    scores: Float64s

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, selected: Int64s | Bools) -> "Edges":
        return Edges(self.seniors[selected], self.juniors[selected], self.scores[selected])

    def tie_breakers(self, seed: int) -> npt.NDArray[np.uint64]:
        """(edges): a random number of each pair, which does not depend on the other pairs."""
        return splitmix64(seed, (self.seniors << _ROW_BITS) | self.juniors)


def find_candidates(
    fit: PairwiseFit, scan: AllPairsScan | None, report_progress: Callable[[int], None] = lambda _: None
) -> Edges:
    """The best pairs of each person by the scan, or all possible pairs without a scan.

    ``report_progress`` receives the number of seniors that are done.
    """
    n, m = fit.shape
    if scan is None:
        candidates = _evaluate_all(fit)
        report_progress(n)
        return candidates
    per_person = CANDIDATES_PER_PERSON + max(0, round(EXTRA_CANDIDATES_PER_DECADE * np.log10(min(n, m) / 10_000)))
    keys = scan.best_pairs(SCAN_OVERSAMPLING * per_person, report_progress)
    return _keep_best_of_each(evaluate_pairs(fit, *np.divmod(keys, m)), per_person)


def scan_if_large(fit: PairwiseFit) -> AllPairsScan | None:
    """A scan of all pairs; None when they are so few that all are candidates."""
    n, m = fit.shape
    return None if n * m <= MAX_EXHAUSTIVE_PAIRS else AllPairsScan(fit)


def _evaluate_all(fit: PairwiseFit) -> Edges:
    """All pairs that break no rule."""
    n, m = fit.shape
    seniors, juniors, size = np.arange(n), np.arange(m), max(1, EVALUATION_BATCH // max(1, m))
    return _evaluate_batches(fit, [(seniors[a : a + size, None], juniors[None, :]) for a in range(0, n, size)])


def evaluate_pairs(fit: PairwiseFit, rows: Int64s, columns: Int64s) -> Edges:
    """Those of these sorted pairs that break no rule, with exact scores."""
    starts = range(0, len(rows), EVALUATION_BATCH)
    batches = [(rows[a : a + EVALUATION_BATCH], columns[a : a + EVALUATION_BATCH]) for a in starts]
    return _evaluate_batches(fit, batches)


def _evaluate_batches(fit: PairwiseFit, batches: Sequence[tuple[Int64s, Int64s]]) -> Edges:
    """The feasible pairs of all batches, in their order. Rows and columns of a batch broadcast."""

    def evaluate(batch: tuple[Int64s, Int64s]) -> tuple[Int64s, Int64s, Float64s]:
        rows, columns = np.broadcast_arrays(*batch)
        block = fit.evaluate(*batch)
        feasible = np.nonzero(block.feasible())
        return rows[feasible], columns[feasible], block.score[feasible]

    empty = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        parts = [empty, *pool.map(evaluate, batches)]
    seniors, juniors, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Edges(seniors, juniors, scores)


def _keep_best_of_each(edges: Edges, per_person: int) -> Edges:
    """The best pairs of each senior and of each junior, and all pairs of people who are hard to suit."""
    scores = _scores_without_ties(edges)
    senior_ranks, junior_ranks = _ranks_of_edges(edges, scores)
    retained = (senior_ranks < per_person) | (junior_ranks < per_person)
    for people, ranks in ((edges.seniors, senior_ranks), (edges.juniors, junior_ranks)):
        retained |= _is_hard_to_suit(people, ranks, scores)
    return edges.take(retained)


def _is_hard_to_suit(people: Int64s, ranks: Int64s, scores: Float64s) -> Bools:
    """(edges): whether the person's best score is in the lowest ``HARD_TO_SUIT_SHARE`` of all best scores."""
    is_best = np.asarray(ranks == 0)
    if not is_best.any():
        return is_best
    hard = scores[is_best] <= np.quantile(scores[is_best], HARD_TO_SUIT_SHARE)
    return np.asarray(np.isin(people, people[is_best][hard]))


def is_among_best(edges: Edges, per_person: int) -> Bools:
    """(edges): whether the edge is among the best of its senior or of its junior."""
    senior_ranks, junior_ranks = _ranks_of_edges(edges, _scores_without_ties(edges))
    return np.asarray((senior_ranks < per_person) | (junior_ranks < per_person))


def _scores_without_ties(edges: Edges) -> Float64s:
    """The scores plus a tiny random part, so that of many equal partners each person keeps different ones."""
    return edges.scores + edges.tie_breakers(0) * (TIE_TOLERANCE / 2.0**64)


def _ranks_of_edges(edges: Edges, scores: Float64s) -> tuple[Int64s, Int64s]:
    """The rank of each edge among those of its senior, and among those of its junior; 0 is the best."""
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        senior_ranks, junior_ranks = pool.map(rank_in_group, (edges.seniors, edges.juniors), (scores, scores))
    return senior_ranks, junior_ranks


@jit_kernel
def rank_in_group(group: Int64s, scores: Float64s) -> Int64s:
    """The rank of each score in its group, 0 for the best. Equal scores keep their order. O(n log n)."""
    ends = np.cumsum(np.bincount(group))
    cursor = ends.copy()
    members = np.empty(len(group), dtype=np.int64)
    for edge in range(len(group) - 1, -1, -1):
        cursor[group[edge]] -= 1
        members[cursor[group[edge]]] = edge
    ranks = np.empty(len(group), dtype=np.int64)
    for begin, end in zip(cursor, ends):  # noqa: B905 - numba has no strict
        order = np.argsort(-scores[members[begin:end]], kind="mergesort")  # a stable sort
        for rank in range(len(order)):
            ranks[members[begin + order[rank]]] = rank
    return ranks


@jit_kernel
def best_two_edges(group: Int64s, scores: Float64s, groups: int) -> tuple[Int64s, Int64s]:
    """(groups): positions of the best and of the second-best score of each group, -1 where there is none."""
    best, second = np.full(groups, -1, dtype=np.int64), np.full(groups, -1, dtype=np.int64)
    for edge in range(len(group)):
        n, score = group[edge], scores[edge]
        if best[n] < 0 or score > scores[best[n]]:
            best[n], second[n] = edge, best[n]
        elif second[n] < 0 or score > scores[second[n]]:
            second[n] = edge
    return best, second
