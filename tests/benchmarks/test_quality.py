"""The figures of a set of pairs, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import quality
from benchmarks.quality import Everything

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[Everything, list[tuple[int, int]]]:
    """A few people with coarse gains, so that equals are frequent, and any pairs of them that may be."""
    n, m = draw(SIZES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    may = rng.random((n, m)) < 0.7
    for_seniors, for_juniors, scores = (
        np.where(may, rng.integers(1, 5, (n, m)) / 4, 0).astype(np.float32) for _ in range(3)
    )
    order = [(s, j) for s, j in np.argwhere(may).tolist() if draw(st.booleans())]
    pairs: list[tuple[int, int]] = []
    for s, j in order:
        if all(s != item and j != other for item, other in pairs):
            pairs.append((s, j))
    return Everything(scores, for_seniors, for_juniors), pairs


def brute_blocking(everything: Everything, pairs: list[tuple[int, int]]) -> int:
    partner_of_senior, partner_of_junior = dict(pairs), {j: s for s, j in pairs}
    result = 0
    for s, j in np.argwhere(everything.scores > 0).tolist():
        has = everything.for_seniors[s, partner_of_senior[s]] if s in partner_of_senior else 0
        theirs = everything.for_juniors[partner_of_junior[j], j] if j in partner_of_junior else 0
        result += bool(everything.for_seniors[s, j] > has and everything.for_juniors[s, j] > theirs)
    return result


class TestQuality:
    @given(cohorts())
    def test_blocking_pairs_would_gain_on_both_sides(self, cohort: tuple[Everything, list[tuple[int, int]]]) -> None:
        everything, pairs = cohort
        assert quality.judged(everything, pairs)["blocking_pairs"] == brute_blocking(everything, pairs)

    @given(cohorts())
    def test_counts_of_blocks_equal_the_whole(self, cohort: tuple[Everything, list[tuple[int, int]]]) -> None:
        everything, pairs = cohort
        whole = quality.judged(everything, pairs)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(quality, "CELLS", 2)
            assert quality.judged(everything, pairs) == whole

    @given(cohorts())
    def test_greedy_leaves_no_better_pair(
        self,
        cohort: tuple[Everything, list[tuple[int, int]]],
    ) -> None:
        scores = cohort[0].scores
        seniors, juniors = np.nonzero(scores > 0)
        made = quality.greedy(seniors, juniors, scores[seniors, juniors])
        fit_of_senior = {s: scores[s, j] for s, j in made}
        fit_of_junior = {j: scores[s, j] for s, j in made}
        assert len(fit_of_senior) == len(fit_of_junior) == len(made)
        for s, j in zip(seniors.tolist(), juniors.tolist(), strict=True):
            assert max(fit_of_senior.get(s, 0), fit_of_junior.get(j, 0)) >= scores[s, j]

    @given(cohorts())
    def test_preference_lists_are_sorted_and_complete(self, cohort: tuple[Everything, list[tuple[int, int]]]) -> None:
        everything = cohort[0]
        lists = quality.likings(everything)
        for s, liked in enumerate(lists["seniors"]):
            assert set(liked) == set(np.nonzero(everything.scores[s] > 0)[0].tolist())
            assert sorted(liked, key=lambda j: -everything.for_seniors[s, j]) == liked
        for j, liked in enumerate(lists["juniors"]):
            assert set(liked) == set(np.nonzero(everything.scores[:, j] > 0)[0].tolist())
            assert sorted(liked, key=lambda s: -everything.for_juniors[s, j]) == liked

    def test_worst_are_a_twentieth_and_at_least_one(self) -> None:
        fits = np.arange(1, 41) / 40
        assert quality.of_fits(fits) == {"total_fit": 20.5, "worst_pair": 0.025, "mean_of_worst_5_percent": 0.0375}
        assert quality.of_fits(np.array([0.5, 0.25]))["mean_of_worst_5_percent"] == 0.25
        assert quality.of_fits(np.zeros(0))["total_fit"] == 0

    def test_impossible_pair_counts_nothing(self) -> None:
        scores = np.array([[0.5, 0.0], [0.25, 0.5]], dtype=np.float32)
        everything = Everything(scores, scores, scores)
        figures = quality.judged(everything, [(0, 1), (1, 0)])
        assert (figures["pairs"], figures["total_fit"], figures["share_matched"]) == (1, 0.25, 0.5)
        assert (
            figures["blocking_pairs"] == 2
        )  # the first two, who are alone; and the second two, who gain more together

    def test_nobody_has_two_partners(self) -> None:
        ones = np.ones((2, 2), dtype=np.float32)
        with pytest.raises(ValueError, match="two partners"):
            quality.judged(Everything(ones, ones, ones), [(0, 0), (0, 1)])
