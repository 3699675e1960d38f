"""Versions of the weights: whole batches in, proposed, previewed, released by a person, undone."""

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
    state: ProgrammeLearning | None, found: WeightEstimate | None, base: Weights = DEFAULT
) -> ProgrammeLearning:
    batch = EvidenceBatch(outcomes=40, refusals=0, bands={}, through=NOW)
    decision = weight_versions.add_batch(state, PROGRAMME, state.batches if state else 0, batch, found, base, NOW)
    assert decision is not None
    return decision[0]


def previewed(state: ProgrammeLearning, number: int, weights: Weights = DEFAULT) -> ProgrammeLearning:
    asked = weight_versions.record_preview(state, number, weights, TRIALS)
    assert asked is not None
    return asked[0]


def released(state: ProgrammeLearning, number: int, weights: Weights, at: datetime = NOW) -> ProgrammeLearning:
    """The release of a version, and the programme's part in it done."""
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


@pytest.mark.parametrize(
    ("new", "known", "k", "is_full"),
    [(4, 0, 5, False), (5, 0, 5, True), (7, 0, 8, False), (8, 0, 8, True), (9, 40, 5, False), (10, 40, 5, True)],
)
def test_a_batch_is_of_at_least_five_or_k_and_of_a_quarter_of_what_is_known(
    *, new: int, known: int, k: int, is_full: bool
) -> None:
    assert weight_versions.is_batch_full(new, known, k) == is_full
    assert MIN_BATCH_OUTCOMES == 5


def test_what_is_clear_is_proposed_and_what_is_not_is_only_known() -> None:
    unclear = learned(None, says(3.0, clear=False))
    assert (unclear.versions, unclear.batches, unclear.outcomes) == ((), 1, 40)
    clear = learned(unclear, says(3.0))
    assert [(one.version, one.state, one.base) for one in clear.versions] == [(1, "proposed", DEFAULT)]
    assert clear.start == DEFAULT


def test_a_batch_that_another_replica_took_in_first_is_not_taken_in_again() -> None:
    state = learned(None, says(3.0))
    batch = EvidenceBatch(outcomes=40, refusals=0, bands={}, through=NOW)
    assert weight_versions.add_batch(state, PROGRAMME, 0, batch, says(3.0), DEFAULT, NOW) is None


def test_a_newer_proposal_takes_the_place_of_the_one_before() -> None:
    state = learned(learned(None, says(3.0)), says(3.5))
    assert [(one.version, one.state) for one in state.versions] == [(1, "superseded"), (2, "proposed")]
    with pytest.raises(CommandRejected, match="no longer proposed"):
        weight_versions.record_preview(state, 1, DEFAULT, TRIALS)


def test_what_comes_to_the_weights_in_use_is_no_version() -> None:
    assert learned(None, says(DEFAULT.perspective)).versions == ()


def test_a_batch_during_a_release_leaves_what_is_being_released() -> None:
    decision = weight_versions.start_release(
        previewed(learned(None, says(3.0)), 1), 1, DEFAULT, None, MOMENT, reviewed=TRIALS
    )
    assert decision is not None
    state = learned(decision[0], says(3.5))
    assert [(one.version, one.state) for one in state.versions] == [(1, "proposed"), (2, "proposed")]
    assert state.releasing is not None
    done = weight_versions.complete_release(state, state.releasing, succeeded=True)
    assert done is not None
    assert done[0].find_version_in_use(Weights(perspective=3.0)) == 1


def test_a_version_is_released_only_after_a_look_at_who_would_be_matched_differently() -> None:
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


def test_a_release_is_an_ordinary_change_of_the_programmes_settings() -> None:
    decision = weight_versions.start_release(
        previewed(learned(None, says(3.0)), 1), 1, DEFAULT, None, MOMENT, reviewed=TRIALS
    )
    assert decision is not None
    releasing = decision[0].releasing
    assert releasing is not None
    changed = weight_versions.apply_weights(programme(), releasing, MOMENT)
    assert changed is not None
    after, [said] = changed
    assert after.settings_version == 2
    assert after.settings.matching.weights == Weights(perspective=3.0)
    assert said == programmes.to_public_event(after)
    assert weight_versions.apply_weights(after, releasing, MOMENT) is None, "told twice is told once"
    with pytest.raises(CommandRejected, match="closed"):
        weight_versions.apply_weights(programme(state="closed"), releasing, MOMENT)
    with pytest.raises(CommandRejected, match="have changed"):
        weight_versions.apply_weights(programme(Weights(perspective=9.0)), releasing, MOMENT)


def test_a_release_that_the_programme_refused_leaves_the_version_proposed() -> None:
    decision = weight_versions.start_release(
        previewed(learned(None, says(3.0)), 1), 1, DEFAULT, None, MOMENT, reviewed=TRIALS
    )
    assert decision is not None
    releasing = decision[0].releasing
    assert releasing is not None
    after = weight_versions.complete_release(decision[0], releasing, succeeded=False)
    assert after is not None
    assert (after[0].releasing, after[0].lease, after[0].versions[0].state) == (None, None, "proposed")


def test_a_version_made_from_other_weights_than_those_in_use_cannot_be_released() -> None:
    state = previewed(learned(None, says(3.0)), 1)
    with pytest.raises(CommandRejected, match="have changed"):
        weight_versions.start_release(state, 1, Weights(perspective=9.0), None, MOMENT)


def test_an_earlier_version_and_the_weights_before_any_learning_can_be_released_again() -> None:
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
    assert weight_versions.start_release(state, 2, second, "c2", MOMENT) is None, "it is in use"


def test_before_anything_was_learned_there_is_nothing_to_go_back_to() -> None:
    nothing = ProgrammeLearning(programme_id=PROGRAMME)
    with pytest.raises(CommandRejected, match="Nothing has been learned"):
        weight_versions.start_release(nothing, 0, DEFAULT, None, MOMENT)
    with pytest.raises(NotFound):
        weight_versions.start_release(nothing, 7, DEFAULT, None, MOMENT)
    with pytest.raises(CommandRejected, match="before any learning"):
        weight_versions.dismiss_version(nothing, 0, None, NOW)


def test_what_is_dismissed_is_not_released_and_what_is_released_is_not_dismissed() -> None:
    state = previewed(learned(None, says(3.0)), 1)
    dismissed = weight_versions.dismiss_version(state, 1, "c1", NOW)
    assert dismissed is not None
    assert weight_versions.dismiss_version(dismissed[0], 1, "c1", NOW) is None
    with pytest.raises(CommandRejected, match="no longer proposed"):
        weight_versions.start_release(dismissed[0], 1, DEFAULT, None, MOMENT)
    with pytest.raises(CommandRejected, match="release an earlier one"):
        weight_versions.dismiss_version(released(state, 1, DEFAULT), 1, None, NOW)


def test_a_preview_may_be_asked_for_again_since_people_change() -> None:
    state = previewed(learned(None, says(3.0)), 1)
    assert weight_versions.record_preview(state, 1, DEFAULT, TRIALS) is None
    again = weight_versions.record_preview(state, 1, DEFAULT, ReleasePreview(now="r3", then="r4"))
    assert again is not None
    assert again[0].find_version(1).preview == ReleasePreview(now="r3", then="r4")


def test_it_is_looked_at_at_midnight_so_that_the_hour_does_not_tell_when_something_was_heard() -> None:
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


def test_whoever_is_forgotten_is_forgotten_here_too() -> None:
    state = released(previewed(learned(None, says(3.0)), 1), 1, DEFAULT)
    assert weight_versions.erase_member(state, "somebody else") is None
    after = weight_versions.erase_member(state, "c1")
    assert after is not None
    assert "c1" not in after[0].model_dump_json()


def test_the_document_stays_small_and_what_was_in_use_is_kept() -> None:
    state = released(previewed(learned(None, says(3.0)), 1), 1, DEFAULT)
    for n in range(3 * MAX_VERSIONS):
        state = learned(state, says(4.0 + n / 100), Weights(perspective=3.0))
    assert len(state.versions) == MAX_VERSIONS
    assert state.versions[0].version == 1
    assert state.start == DEFAULT
