"""Versions of the weights: complete batches, proposal, preview, release by a coordinator, and undo."""

from datetime import UTC, datetime, timedelta

import pytest

from contracts.errors import CommandRejected, NotFound
from contracts.moment import Moment
from contracts.programmes import Weights
from services.matcher.domain.learning import weight_versions
from services.matcher.domain.learning.evidence import ExpectedGain, WeightEstimate
from services.matcher.domain.learning.weight_versions import (
    MAX_VERSIONS,
    MIN_BATCH_OUTCOMES,
    EvidenceBatch,
    ProgrammeLearning,
    ReleasePreview,
)
from services.matcher.domain.programmes import programme as programmes
from services.matcher.domain.programmes.programme import Programme
from tests.matcher.builders import MOMENT, NOW, PROGRAMME, settings

DEFAULT = Weights()
FLAT = (0.0, 0.0, 0.0, 0.0)
TRIALS = ReleasePreview(now="r1", then="r2")


def says(perspective: float, *, clear: bool = True) -> WeightEstimate:
    return WeightEstimate(
        outcomes=40,
        refusals=0,
        shares=(0.3, 0.2, 0.2, 0.3),
        low=FLAT,
        high=FLAT,
        slopes=FLAT,
        covariance=(FLAT, FLAT, FLAT, FLAT),
        weights=Weights(perspective=perspective),
        gain=ExpectedGain(by=0.1, noise=0.01 if clear else 0.1),
    )


def learned(
    state: ProgrammeLearning | None, estimate: WeightEstimate | None, base: Weights = DEFAULT
) -> ProgrammeLearning:
    batch = EvidenceBatch(outcomes=40, refusals=0, bands={}, through=NOW)
    decision = weight_versions.add_batch(state, PROGRAMME, state.batches if state else 0, batch, estimate, base, NOW)
    assert decision is not None
    return decision[0]


def previewed(state: ProgrammeLearning, number: int, weights: Weights = DEFAULT) -> ProgrammeLearning:
    preview = weight_versions.record_preview(state, number, weights, TRIALS)
    assert preview is not None
    return preview[0]


def released(state: ProgrammeLearning, number: int, weights: Weights, at: datetime = NOW) -> ProgrammeLearning:
    """Return the released version, after the programme has applied it."""
    decision = weight_versions.start_release(
        state, number, weights, "c1", Moment(now=at, recorded_at=at), reviewed=TRIALS
    )
    assert decision is not None
    releasing = decision[0].releasing
    assert releasing is not None
    done = weight_versions.complete_release(decision[0], releasing, succeeded=True)
    assert done is not None
    return done[0]


def programme(weights: Weights = DEFAULT, state: str = "open") -> Programme:
    changed = settings(matching__weights=weights.model_dump())
    made, _ = programmes.create_programme(None, PROGRAMME, changed, MOMENT)
    return made.model_copy(update={"state": state})


class TestWeightVersionBatches:
    @pytest.mark.parametrize(
        ("new", "earlier", "k", "is_full"),
        [(4, 0, 5, False), (5, 0, 5, True), (7, 0, 8, False), (8, 0, 8, True), (9, 40, 5, False), (10, 40, 5, True)],
    )
    def test_needs_five_or_the_group_and_a_quarter_growth(
        self, *, new: int, earlier: int, k: int, is_full: bool
    ) -> None:
        assert weight_versions.is_batch_full(new, earlier, k) == is_full
        assert MIN_BATCH_OUTCOMES == 5

    def test_only_a_clear_estimate_is_proposed(self) -> None:
        unclear = learned(None, says(3.0, clear=False))
        assert (unclear.versions, unclear.batches, unclear.outcomes) == ((), 1, 40)
        clear = learned(unclear, says(3.0))
        assert [(version.version, version.state, version.base) for version in clear.versions] == [
            (1, "proposed", DEFAULT)
        ]
        assert clear.start == DEFAULT

    def test_batch_added_by_another_replica_is_not_repeated(self) -> None:
        state = learned(None, says(3.0))
        batch = EvidenceBatch(outcomes=40, refusals=0, bands={}, through=NOW)
        assert weight_versions.add_batch(state, PROGRAMME, 0, batch, says(3.0), DEFAULT, NOW) is None

    def test_newer_proposal_supersedes_the_earlier_one(self) -> None:
        state = learned(learned(None, says(3.0)), says(3.5))
        assert [(version.version, version.state) for version in state.versions] == [(1, "superseded"), (2, "proposed")]
        with pytest.raises(CommandRejected, match="no longer proposed"):
            weight_versions.record_preview(state, 1, DEFAULT, TRIALS)

    def test_estimate_equal_to_the_weights_is_no_version(self) -> None:
        assert learned(None, says(DEFAULT.perspective)).versions == ()

    def test_batch_during_a_release_keeps_its_version(self) -> None:
        decision = weight_versions.start_release(
            previewed(learned(None, says(3.0)), 1), 1, DEFAULT, None, MOMENT, reviewed=TRIALS
        )
        assert decision is not None
        state = learned(decision[0], says(3.5))
        assert [(version.version, version.state) for version in state.versions] == [(1, "proposed"), (2, "proposed")]
        assert state.releasing is not None
        done = weight_versions.complete_release(state, state.releasing, succeeded=True)
        assert done is not None
        assert done[0].find_version_in_use(Weights(perspective=3.0)) == 1


class TestWeightVersionRelease:
    def test_needs_a_reviewed_preview(self) -> None:
        state = learned(None, says(3.0))
        with pytest.raises(CommandRejected, match="First look") as refused:
            weight_versions.start_release(state, 1, DEFAULT, "c1", MOMENT)
        assert refused.value.code == "no_preview"
        with pytest.raises(CommandRejected, match="First look"):
            weight_versions.start_release(previewed(state, 1), 1, DEFAULT, "c1", MOMENT, reviewed=None)
        with pytest.raises(CommandRejected, match="First look"):
            weight_versions.start_release(
                previewed(state, 1), 1, DEFAULT, "c1", MOMENT, reviewed=ReleasePreview(now="r0", then="r2")
            )
        state = released(previewed(state, 1), 1, DEFAULT)
        [version] = state.versions
        assert (version.state, version.decided_by, version.decided_at) == ("released", "c1", NOW)
        assert state.find_version_in_use(Weights(perspective=3.0)) == 1

    def test_is_an_ordinary_change_of_settings(self) -> None:
        decision = weight_versions.start_release(
            previewed(learned(None, says(3.0)), 1), 1, DEFAULT, None, MOMENT, reviewed=TRIALS
        )
        assert decision is not None
        releasing = decision[0].releasing
        assert releasing is not None
        changed = weight_versions.apply_weights(programme(), releasing, MOMENT)
        assert changed is not None
        after, [event] = changed
        assert after.settings_version == 2
        assert after.settings.matching.weights == Weights(perspective=3.0)
        assert event == programmes.to_public_event(after)
        assert weight_versions.apply_weights(after, releasing, MOMENT) is None, "a repeated event changes nothing"
        with pytest.raises(CommandRejected, match="closed"):
            weight_versions.apply_weights(programme(state="closed"), releasing, MOMENT)
        with pytest.raises(CommandRejected, match="have changed"):
            weight_versions.apply_weights(programme(Weights(perspective=9.0)), releasing, MOMENT)

    def test_rejected_release_leaves_the_version_proposed(self) -> None:
        decision = weight_versions.start_release(
            previewed(learned(None, says(3.0)), 1), 1, DEFAULT, None, MOMENT, reviewed=TRIALS
        )
        assert decision is not None
        releasing = decision[0].releasing
        assert releasing is not None
        after = weight_versions.complete_release(decision[0], releasing, succeeded=False)
        assert after is not None
        assert (after[0].releasing, after[0].lease, after[0].versions[0].state) == (None, None, "proposed")

    def test_version_of_other_weights_cannot_be_released(self) -> None:
        state = previewed(learned(None, says(3.0)), 1)
        with pytest.raises(CommandRejected, match="have changed"):
            weight_versions.start_release(state, 1, Weights(perspective=9.0), None, MOMENT)

    def test_earlier_and_initial_weights_can_be_restored(self) -> None:
        first, second = Weights(perspective=3.0), Weights(perspective=4.0)
        state = released(previewed(learned(None, says(3.0)), 1), 1, DEFAULT)
        state = released(previewed(learned(state, says(4.0), first), 2, first), 2, first, NOW + timedelta(1))
        assert (
            state.find_version_in_use(second),
            state.find_version_in_use(first),
            state.find_version_in_use(DEFAULT),
        ) == (2, 1, 0)
        assert state.find_version_in_use(Weights(perspective=9.0)) is None
        for number, weights in ((1, first), (0, DEFAULT)):
            decision = weight_versions.start_release(state, number, second, "c2", MOMENT)
            assert decision is not None
            assert decision[0].releasing is not None
            assert decision[0].releasing.weights == weights
        assert weight_versions.start_release(state, 2, second, "c2", MOMENT) is None, "the version is in use"

    def test_nothing_to_restore_before_any_learning(self) -> None:
        nothing = ProgrammeLearning(programme_id=PROGRAMME)
        with pytest.raises(CommandRejected, match="Nothing has been learned"):
            weight_versions.start_release(nothing, 0, DEFAULT, None, MOMENT)
        with pytest.raises(NotFound):
            weight_versions.start_release(nothing, 7, DEFAULT, None, MOMENT)
        with pytest.raises(CommandRejected, match="before any learning"):
            weight_versions.dismiss_version(nothing, 0, None, NOW)


class TestWeightVersionDecisions:
    def test_dismissal_and_release_exclude_each_other(self) -> None:
        state = previewed(learned(None, says(3.0)), 1)
        dismissed = weight_versions.dismiss_version(state, 1, "c1", NOW)
        assert dismissed is not None
        assert weight_versions.dismiss_version(dismissed[0], 1, "c1", NOW) is None
        with pytest.raises(CommandRejected, match="no longer proposed"):
            weight_versions.start_release(dismissed[0], 1, DEFAULT, None, MOMENT)
        with pytest.raises(CommandRejected, match="release an earlier one"):
            weight_versions.dismiss_version(released(state, 1, DEFAULT), 1, None, NOW)

    def test_preview_may_be_repeated(self) -> None:
        state = previewed(learned(None, says(3.0)), 1)
        assert weight_versions.record_preview(state, 1, DEFAULT, TRIALS) is None
        again = weight_versions.record_preview(state, 1, DEFAULT, ReleasePreview(now="r3", then="r4"))
        assert again is not None
        assert again[0].find_version(1).preview == ReleasePreview(now="r3", then="r4")

    def test_review_at_midnight_hides_the_hour_of_an_outcome(self) -> None:
        morning, evening = datetime(2026, 3, 2, 8, tzinfo=UTC), datetime(2026, 3, 2, 23, 59, tzinfo=UTC)
        dues = [
            decision[0].due
            for at in (morning, evening)
            if (decision := weight_versions.schedule_review(None, PROGRAMME, at))
        ]
        assert dues == [datetime(2026, 3, 3, tzinfo=UTC)] * 2
        waiting = ProgrammeLearning(programme_id=PROGRAMME, due=dues[0])
        assert weight_versions.schedule_review(waiting, PROGRAMME, evening) is None
        assert weight_versions.complete_review(waiting, dues[0] or NOW, more=True)[0].due == datetime(
            2026, 3, 4, tzinfo=UTC
        )
        assert weight_versions.complete_review(waiting, NOW, more=False)[0].due is None


class TestWeightVersionStoredDocument:
    def test_erasure_removes_the_deciding_member(self) -> None:
        state = released(previewed(learned(None, says(3.0)), 1), 1, DEFAULT)
        assert weight_versions.erase_member(state, "somebody else") is None
        after = weight_versions.erase_member(state, "c1")
        assert after is not None
        assert "c1" not in after[0].model_dump_json()

    def test_stays_small_and_keeps_versions_in_use(self) -> None:
        state = released(previewed(learned(None, says(3.0)), 1), 1, DEFAULT)
        for n in range(3 * MAX_VERSIONS):
            state = learned(state, says(4.0 + n / 100), Weights(perspective=3.0))
        assert len(state.versions) == MAX_VERSIONS
        assert state.versions[0].version == 1
        assert state.start == DEFAULT
