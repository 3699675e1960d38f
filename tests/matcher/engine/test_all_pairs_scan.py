"""The scan of a large market finds the same as a check of every pair."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from benchmarks import cohort as made_up
from contracts.profiles import ProfileChanged
from contracts.programmes import ProgrammeSettings
from services.matcher.engine import all_pairs_scan as scanning
from services.matcher.engine.all_pairs_scan import SCORE_ROUNDING, AllPairsScan
from services.matcher.engine.scan_kernels import _key, decode_partners, merge_heaps
from services.matcher.engine.solve import eligible_sides
from services.matcher.engine.vectorised_fit import CohortFit
from tests.matcher.builders import TAXONOMY, TODAY, any_settings, cohorts, member, person, settings

Scores = npt.NDArray[np.float64]


def scores_of(pairs: CohortFit) -> Scores:
    """The fit of every pair that no rule excludes; 0 for excluded pairs."""
    block = pairs.evaluate_block(np.arange(pairs.shape[0]), np.arange(pairs.shape[1]))
    excluded = np.zeros(pairs.shape, dtype=np.bool_)
    for mask in [*block.broken.values(), *block.short.values()]:
        excluded |= mask
    return np.where(excluded, 0, block.score)


@pytest.fixture(scope="module")
def company() -> CohortFit:
    problem = made_up.question(made_up.cohort(2600, seed=3))
    return CohortFit(*eligible_sides(problem), problem.settings, TAXONOMY, TODAY)


class TestAllPairsScan:
    @run_with(max_examples=150, deadline=None)
    @given(cohorts(most=6), any_settings())
    def test_small_cohorts_are_found_under_any_settings(
        self, cohort: tuple[list[ProfileChanged], list[ProfileChanged]], under: ProgrammeSettings
    ) -> None:
        seniors, juniors = [member(item) for item in cohort[0]], [member(item) for item in cohort[1]]
        assume(seniors and juniors)
        pairs = CohortFit(seniors, juniors, under, TAXONOMY, TODAY)
        scores = scores_of(pairs)
        result = np.zeros(scores.size, dtype=np.bool_)
        result[AllPairsScan(pairs).best_pairs(len(juniors) + len(seniors))] = True
        missed = (scores > SCORE_ROUNDING) & ~result.reshape(scores.shape)
        assert not missed.any()
        broken = pairs.evaluate_block(np.arange(pairs.shape[0]), np.arange(pairs.shape[1])).broken
        for mask in broken.values():
            assert not mask.ravel()[result].any()

    @pytest.mark.parametrize("many", [1, 7, 30])
    @pytest.mark.parametrize("floor", [0.0, 0.15])
    def test_best_pairs_equal_those_of_exact_scores(self, company: CohortFit, many: int, floor: float) -> None:
        floors = company.settings.matching.floors.model_copy(update={"benefit": floor})
        matching = company.settings.matching.model_copy(update={"floors": floors})
        under = company.settings.model_copy(update={"matching": matching})
        company = CohortFit(company.seniors, company.juniors, under, TAXONOMY, TODAY)
        scores = scores_of(company)
        result = np.zeros(scores.shape, dtype=np.bool_)
        keys = AllPairsScan(company).best_pairs(many)
        result[np.divmod(keys, scores.shape[1])] = True
        assert (np.diff(keys) > 0).all()
        for side, theirs in ((scores, result), (scores.T, result.T)):
            least = -np.partition(-side, many - 1, axis=1)[:, many - 1, None]
            required = (side > least + SCORE_ROUNDING) & (side > SCORE_ROUNDING)
            assert not (required & ~theirs).any()
            assert (theirs & (side > 0)).sum(axis=1).min() >= np.minimum(
                many, (side > SCORE_ROUNDING).sum(axis=1)
            ).min()

    def test_threads_and_tiles_change_nothing(self, company: CohortFit, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = AllPairsScan(company).best_pairs(20)
        monkeypatch.setattr(scanning, "SCAN_THREADS", 5)
        monkeypatch.setattr(scanning, "TILE_WIDTH", 97)
        assert np.array_equal(AllPairsScan(company).best_pairs(20), expected)

    @pytest.mark.parametrize("many", [4, 1300])
    def test_offsets_rank_by_reduced_cost(self, company: CohortFit, many: int) -> None:
        scores, rng = scores_of(company), np.random.default_rng(5)
        n, m = scores.shape
        mine, theirs = rng.uniform(0.2, 0.5, (n, 1)), rng.uniform(0.2, 0.5, (1, m))
        over = scores - mine - theirs
        selection = rng.permutation(n)[:100]
        for scan, rows in (
            (AllPairsScan(company), np.arange(n)),
            (AllPairsScan(company, selection), np.sort(selection)),
        ):
            best = scan.best_pairs(many, senior_offsets=mine.ravel(), junior_offsets=theirs.ravel())
            result = np.full((n, m), False)
            result[np.divmod(best, m)] = True
            assert not result[over < -SCORE_ROUNDING].any()
            assert result.sum() == result[rows].sum() > 0
            least = np.sort(over[rows])[:, -many, None] if many < m else 0
            assert result[rows][over[rows] > np.maximum(least, 0) + SCORE_ROUNDING].all()

    def test_equal_scores_are_spread_over_partners(self) -> None:
        offers, seeks = {"python": "teach"}, {"python": 2}
        seniors = [member(person(f"s{n}", "senior", offers=offers, seeks=seeks)) for n in range(200)]
        juniors = [member(person(f"j{n}", "junior", offers=offers, seeks=seeks)) for n in range(200)]
        pairs = CohortFit(seniors, juniors, settings(), TAXONOMY, TODAY)
        mine, theirs = np.divmod(AllPairsScan(pairs).best_pairs(5), 200)
        for people in (mine, theirs):
            assert 5 <= np.bincount(people).min() <= np.bincount(people).max() <= 40

    def test_progress_ends_with_all_seniors(self, company: CohortFit) -> None:
        reported: list[int] = []
        hear: Callable[[int], None] = reported.append
        AllPairsScan(company).best_pairs(3, hear)
        assert reported == sorted(reported)
        assert reported[-1] == company.shape[0]


class TestHeaps:
    @given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 2**29)), min_size=1))
    def test_key_holds_score_and_partner(self, keys: list[tuple[int, int, int]]) -> None:
        whose, who, steps = np.array(keys).T
        scores = (steps / 2**28).astype(np.float32)
        made = np.array([_key(score, int(w), int(o)) for score, w, o in zip(scores, who, whose, strict=True)])
        assert (decode_partners(made, whose) == who).all()
        assert (made >> 32 == scores.astype(np.float64) * 2**28).all()

    @given(st.lists(st.integers(1, 50), max_size=12), st.lists(st.integers(1, 50), max_size=12), st.integers(1, 6))
    def test_merged_heaps_hold_the_greatest_keys(self, item: list[int], other: list[int], size: int) -> None:
        heaps = [np.zeros((1, size), dtype=np.int64) for _ in range(2)]
        for heap, keys in zip(heaps, (item, other), strict=True):
            for key in keys:
                merge_heaps(heap, np.array([[key]]))
        merge_heaps(heaps[0], heaps[1])
        assert sorted(heaps[0][0]) == sorted([*item, *other, *[0] * size])[-size:]
