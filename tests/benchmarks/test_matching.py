"""What the benchmark of matching counts, on few people."""

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import competitors, matching, peers, quality
from benchmarks.cohort import cohort, question
from contracts.taxonomy import load
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.score import compute_fit
from services.matcher.engine.solve import eligible_sides, solve


def parts(**under_their_rules: Any) -> dict[str, Any]:
    return {
        "growth": [{"people": 100, "seconds": 1.0, "peak_memory_mb": 1.0}] * 2,
        "side_by_side": {"ours": {"total_fit": 3.0}, "mentor-match": {"total_fit": 2.0}},
        "under_mentor_match_rules": {"ours": {"points": 10}, **under_their_rules},
        "against_dense": {"times_faster": 20.0, "share_of_the_optimum": 1.0},
        "fairness": {"worst_5_percent_rises_by": 0.1},
    }


class TestMatchingBenchmark:
    @given(st.integers(0, 1000))
    @settings(max_examples=5)
    def test_all_matchers_are_judged_by_the_same_fit(self, seed: int) -> None:
        problem = question(cohort(24, seed))
        everything = competitors.judge(problem)
        seniors, juniors = eligible_sides(problem)
        assert everything.scores.shape == (len(seniors), len(juniors))
        for s, senior in enumerate(seniors):
            for j, junior in enumerate(juniors):
                fitting = compute_fit(senior, junior, problem.settings, load(), problem.on)
                may = not hard_rules.find_broken_rules(
                    senior, junior, problem.settings, problem.on
                ) and not fitting.find_shortfalls(problem.settings)
                assert (everything.scores[s, j] > 0) == may
                if may:
                    assert everything.scores[s, j] == pytest.approx(fitting.score, abs=1e-6)
                    assert everything.for_seniors[s, j] == pytest.approx(fitting.senior_benefit, abs=1e-6)
                    assert everything.for_juniors[s, j] == pytest.approx(fitting.junior_benefit, abs=1e-6)

    def test_dense_optimum_equals_ours_before_fairness(self) -> None:
        problem = question(cohort(120, seed=4))
        everything = competitors.judge(problem)
        dense = quality.judged(everything, competitors.dense(problem).pairs)
        best = quality.judged(everything, competitors.ours(competitors.plainly(problem)).pairs)
        greedy = quality.judged(everything, competitors.greedy(problem).pairs)
        assert best["total_fit"] == pytest.approx(dense["total_fit"], abs=1e-3)
        assert 0 < greedy["total_fit"] <= dense["total_fit"]

    def test_blocking_pairs_of_all_seniors_are_complete(self) -> None:
        problem = question(cohort(120, seed=5))
        answer = solve(problem, load())
        counted = quality.judged(competitors.judge(problem), competitors.ours(problem).pairs)["blocking_pairs"]
        assert competitors.blocking_of_some(problem, answer, 1000) == pytest.approx(counted / answer.seniors)

    def test_growth_is_the_exponent_of_the_last_decade(self) -> None:
        growth = [
            {"people": 100, "seconds": 9.0},
            {"people": 1000, "seconds": 1.0},
            {"people": 10_000, "seconds": 100.0},
        ]
        assert matching.exponent(growth) == 2.0

    def test_goal_is_a_minimum_or_a_maximum(self) -> None:
        assert matching.meets("times_faster_than_dense", 20.0)
        assert not matching.meets("times_faster_than_dense", 19.9)
        assert matching.meets("seconds_for_the_largest", 39.9)
        assert not matching.meets("seconds_for_the_largest", 40.1)
        assert set(matching.GOALS) >= matching.AT_MOST

    def test_omitted_peer_gives_no_ratio(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(matching, "exponent", lambda _: 1.0)
        with_it = matching.figures(parts(**{"mentor-match": {"points": 10}, "times_faster": 300.0}))
        without = matching.figures(parts(**{"mentor-match": {"left_out": "no registry"}}))
        assert set(with_it) == set(matching.GOALS)
        assert set(with_it) - set(without) == {name for name in matching.GOALS if "mentor_match" in name}

    def test_peer_that_cannot_be_installed_is_missing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(peers.Missing, match="matching cannot be installed"):
            competitors.stable_marriage(quality.Everything(*(np.ones((1, 1), np.float32),) * 3))
