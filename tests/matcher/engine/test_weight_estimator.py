"""Estimation of weights from outcomes: direction, certainty, and the cases without a result."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import learning as benchmark
from benchmarks.learning import SAME, WORLDS, Hidden
from contracts.errors import CommandRejected
from contracts.feedback import Band, OutcomeRecorded
from contracts.pairings import DeclineReason
from contracts.programmes import Weights
from services.matcher.domain.fit.score import Fit
from services.matcher.domain.learning.evidence import (
    MIN_OUTCOMES,
    PART_NAMES,
    OutcomeExample,
    PartValues,
    count_bands,
    example_from_outcome,
    example_from_refusal,
)
from services.matcher.engine.weight_estimator import (
    MAX_SHARE,
    MAX_SHARE_STEP,
    MIN_SHARE,
    compare_expected_outcomes,
    compute_shares,
    estimate_weights,
)

DEFAULT = Weights()
FIT = Fit(score=0.5, senior_benefit=0.7, junior_benefit=0.4, compatibility=0.8, perspective=0.6)
NOW = datetime(2026, 9, 1, tzinfo=UTC)


def outcome(**bands: Band) -> OutcomeRecorded:
    every: dict[str, Band] = dict.fromkeys(
        ("meetings", "senior_learned", "junior_learned", "senior_enjoyed", "junior_enjoyed"), "unknown"
    )
    return OutcomeRecorded.model_validate(
        {"pairing_id": "p", "programme_id": "x", "happened_at": NOW, "recorded_at": NOW, **every, **bands}
    )


def observed_outcomes(number: int, hidden: Hidden, seed: int = 1, round_id: str = "r") -> list[OutcomeExample]:
    """Return outcomes of the given number of pairs, whose score parts vary independently."""
    rng = np.random.default_rng(seed)
    return list(benchmark.events(rng.uniform(0.2, 1.0, (number, 4)), hidden, rng, round_id))


class TestEstimatorEstimate:
    def test_many_outcomes_reveal_the_true_preferences(self) -> None:
        hidden = Hidden((0.1, 0.1, 0.2, 0.6))
        estimate = estimate_weights(observed_outcomes(3000, hidden), DEFAULT)
        assert np.allclose(estimate.shares, hidden.shares, atol=0.06)
        assert all(
            low - 0.01 <= true <= high + 0.01
            for low, true, high in zip(estimate.low, hidden.shares, estimate.high, strict=True)
        )
        assert estimate.is_clear
        assert estimate.weights.perspective > DEFAULT.perspective
        assert estimate.weights.lower_benefit < DEFAULT.lower_benefit

    def test_intervals_cover_the_truth_nine_times_in_ten(self) -> None:
        hits = []
        for seed in range(60):
            estimate = estimate_weights(observed_outcomes(400, Hidden((0.25, 0.25, 0.2, 0.3)), seed), DEFAULT)
            hits += [
                low <= true <= high
                for low, true, high in zip(estimate.low, (0.25, 0.25, 0.2, 0.3), estimate.high, strict=True)
            ]
        assert 0.85 <= np.mean(hits) <= 0.99

    def test_more_evidence_moves_it_further(self) -> None:
        hidden = Hidden((0.1, 0.1, 0.2, 0.6))
        few, many = (
            estimate_weights(observed_outcomes(40, hidden), DEFAULT),
            estimate_weights(observed_outcomes(2000, hidden), DEFAULT),
        )
        now = compute_shares(DEFAULT)
        assert np.abs(np.array(few.shares) - now).sum() < np.abs(np.array(many.shares) - now).sum()

    def test_selection_by_score_does_not_bias_it(self) -> None:
        """Only pairs above a score are observed, which correlates the parts. The slopes must not change."""
        rng = np.random.default_rng(5)
        everybody = rng.uniform(0.2, 1.0, (40_000, 4))
        score = everybody @ compute_shares(DEFAULT)
        chosen = everybody[score > np.quantile(score, 0.9)]
        hidden = Hidden((0.1, 0.1, 0.2, 0.6))
        estimate = estimate_weights(list(benchmark.events(chosen, hidden, rng, "r")), DEFAULT)
        assert np.allclose(estimate.shares, hidden.shares, atol=0.08)

    def test_better_year_for_all_changes_no_weight(self) -> None:
        """The second round had more of one part and better outcomes, for other reasons.

        Only pairs of the same round are compared.
        """
        rng = np.random.default_rng(7)
        before = rng.uniform(0.2, 0.7, (200, 4))
        after = before + np.array([0, 0, 0, 0.3])
        bad, good = {"meetings": "low", "senior_learned": "middle"}, {"meetings": "high", "senior_learned": "high"}
        examples = [
            OutcomeExample.model_validate({"parts": tuple(parts), "bands": bands, "round_id": name})
            for name, rows, bands in (("one", before, bad), ("two", after, good))
            for parts in rows.tolist()
        ]
        assert not estimate_weights(examples, DEFAULT).is_clear

    def test_chance_alone_is_rarely_proposed(self) -> None:
        clear = [
            estimate_weights(observed_outcomes(300, Hidden(SAME, told=0.0), seed), DEFAULT).is_clear
            for seed in range(100)
        ]
        assert sum(clear) <= 10

    def test_refusals_count_at_most_a_quarter_of_outcomes(self) -> None:
        outcomes = observed_outcomes(60, Hidden(SAME))
        refusal = OutcomeExample(parts=(0.2, 0.9, 0.9, 0.9), bands=None, round_id="r")
        few, many = (
            estimate_weights([*outcomes, *[refusal] * 300], DEFAULT),
            estimate_weights([*outcomes, *[refusal] * 3000], DEFAULT),
        )
        assert np.allclose(few.shares, many.shares, atol=0.06)

    @given(
        st.sampled_from(list(WORLDS.values())),
        st.integers(0, 1000),
        st.integers(MIN_OUTCOMES, 120),
        st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, 5.0, 20.0])] * 3),
    )
    def test_weights_stay_in_bounds_and_zero_stays_zero(
        self, hidden: Hidden, seed: int, number: int, others: tuple[float, float, float]
    ) -> None:
        weights = Weights(**dict(zip(PART_NAMES, (4.0, *others), strict=True)))
        estimate = estimate_weights(observed_outcomes(number, Hidden(hidden.shares, told=hidden.told), seed), weights)
        before, after = compute_shares(weights), compute_shares(estimate.weights)
        assert np.all(np.abs(after - before) <= MAX_SHARE_STEP + 0.01)
        assert np.all(after[before == 0] == 0)
        assert np.all(after >= np.minimum(before, MIN_SHARE) - 0.01)
        assert np.all(after <= np.maximum(before, MAX_SHARE) + 0.01)
        assert np.isfinite(
            [*estimate.shares, *estimate.low, *estimate.high, estimate.gain.by, estimate.gain.noise]
        ).all()

    def test_identical_pairs_give_no_direction(self) -> None:
        alike = [
            OutcomeExample(parts=(0.5, 0.5, 0.5, 0.5), bands={"meetings": band})
            for band in ("low", "high")
            for _ in range(20)
        ]
        estimate = estimate_weights(alike, DEFAULT)
        assert not estimate.is_clear
        assert estimate.weights == DEFAULT

    def test_order_of_examples_does_not_matter(self) -> None:
        examples = observed_outcomes(100, WORLDS["perspective matters most"])
        assert estimate_weights(examples, DEFAULT).weights == estimate_weights(examples[::-1], DEFAULT).weights


class TestEstimatorExamples:
    def test_outcome_counts_by_its_known_bands(self) -> None:
        example = example_from_outcome(
            FIT, outcome(meetings="high", senior_learned="middle", junior_enjoyed="low"), "r1"
        )
        assert example is not None
        assert example.parts == (0.4, 0.7, 0.8, 0.6)
        assert example.known_worths == [1.0, 0.5, 0.0]
        assert example_from_outcome(FIT, outcome(), "r1") is None, "there is no evidence about this part"

    @pytest.mark.parametrize(
        ("reason", "counts"),
        [
            ("topics_do_not_fit", True),
            ("no_time", False),
            ("know_each_other", False),
            ("conflict_of_interest", False),
            ("prefer_somebody_else", False),
            ("other", False),
            (None, False),
        ],
    )
    def test_refusal_counts_only_if_its_reason_concerns_fit(self, reason: DeclineReason | None, counts: bool) -> None:
        assert (example_from_refusal(FIT, reason, None) is not None) == counts

    def test_needs_thirty_outcomes_besides_refusals(self) -> None:
        few = observed_outcomes(MIN_OUTCOMES - 1, WORLDS["perspective matters most"])
        refusal = example_from_refusal(FIT, "topics_do_not_fit", "r")
        assert refusal is not None
        with pytest.raises(CommandRejected, match="Fewer than 30 outcomes"):
            estimate_weights([*few, *[refusal] * 50], DEFAULT)
        assert estimate_weights([*few, few[0]], DEFAULT).outcomes == MIN_OUTCOMES

    def test_bands_are_counted_by_question(self) -> None:
        examples = [
            example
            for band in ("low", "low", "high")
            if (example := example_from_outcome(FIT, outcome(meetings=band), "r"))
        ]
        refusal = example_from_refusal(FIT, "topics_do_not_fit", "r")
        assert refusal is not None
        assert count_bands([*examples, refusal])["meetings"] == {"low": 2, "high": 1}


class TestEstimatorGain:
    def test_expected_difference_comes_with_its_noise(self) -> None:
        estimate = estimate_weights(observed_outcomes(1000, Hidden((0.1, 0.1, 0.2, 0.6))), DEFAULT)
        now: PartValues = (0.5, 0.6, 0.7, 0.5)
        more: PartValues = (0.5, 0.6, 0.7, 0.6)
        gain = compare_expected_outcomes(estimate, now, more)
        assert 0.03 < gain.by < 0.09
        assert 0 < gain.noise < gain.by
        assert compare_expected_outcomes(estimate, now, now).noise == 0

    def test_rounds_improve_in_companies_with_hidden_preferences(self) -> None:
        """A smaller run of ``benchmarks.learning``: paired over companies, each with and without learning."""
        estimate = benchmark.measure(scale=0.3)
        for name, world in estimate["worlds"].items():
            if name in benchmark.TO_GAIN:
                assert world["gain"] > 2 * world["standard_error"] > 0, name
                assert world["gain_by_cohort"][-1] > world["gain_by_cohort"][1], name
                assert world["share_of_best"] > 0.5, name
            else:
                assert world["gain"] >= -max(2 * world["standard_error"], benchmark.SMALL), name
        assert estimate["met"]
