"""HTTP representations of what a programme has learned."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel

from contracts.envelope import Instant
from contracts.feedback import Band
from contracts.programmes import Weights
from services.matcher.domain.learning.evidence import (
    MIN_OUTCOMES,
    OUTCOME_FIELDS,
    PART_NAMES,
    ExpectedGain,
    OutcomeField,
    PartName,
    WeightEstimate,
)
from services.matcher.domain.learning.weight_versions import (
    MIN_BATCH_OUTCOMES,
    ProgrammeLearning,
    ReleasePreview,
    WeightVersion,
)
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rounds.round import Round

UNFINISHED = {"computing", "computed"}


class ShareView(BaseModel):
    """A weight's share of the whole, and its interval of 90 per cent; in hundredths."""

    share: float
    low: float
    high: float


class GainView(BaseModel):
    """The expected rise of the mean outcome, which lies between 0 and 1, and its noise; in thousandths."""

    by: float
    noise: float

    @classmethod
    def of(cls, gain: ExpectedGain) -> Self:
        return cls(by=round(gain.by, 3), noise=round(gain.noise, 3))


class EstimateView(BaseModel):
    """The direction of the outcomes, and whether it is clear. ``outcomes``: their number in this estimate.

    The number of refusals is not shown. Between two batches it would reveal whether a pairing lapsed by refusal.
    """

    outcomes: int
    points_to: dict[PartName, ShareView]
    weights: Weights
    gain: GainView
    clear: bool

    @classmethod
    def of(cls, estimate: WeightEstimate) -> Self:
        parts = zip(PART_NAMES, estimate.shares, estimate.low, estimate.high, strict=True)
        return cls(
            outcomes=estimate.outcomes,
            points_to={
                part: ShareView(share=round(share, 2), low=round(low, 2), high=round(high, 2))
                for part, share, low, high in parts
            },
            weights=estimate.weights,
            gain=GainView.of(estimate.gain),
            clear=estimate.is_clear,
        )


class PreviewView(BaseModel):
    """Two trial rounds of all free members: with the weights in use, and with the weights of this version.

    ``gain``: the expected change of these members' mean outcome; None where nobody was matched.
    ``compare``: the path of the comparison, which lists members with other partners.
    """

    version: int
    now: str
    then: str
    state: Literal["computing", "computed", "failed"]
    pairs_now: int
    pairs_then: int
    gain: GainView | None
    compare: str

    @classmethod
    def of(cls, version: int, trials: tuple[Round, Round], gain: ExpectedGain | None) -> Self:
        now, then = trials
        states = {trial.state for trial in trials}
        return cls(
            version=version,
            now=now.round_id,
            then=then.round_id,
            state="computed" if states == {"computed"} else "computing" if states <= UNFINISHED else "failed",
            pairs_now=now.pairs,
            pairs_then=then.pairs,
            gain=GainView.of(gain) if gain else None,
            compare=f"/rounds/{now.round_id}/compare/{then.round_id}",
        )


class VersionView(BaseModel):
    version: int
    state: Literal["proposed", "released", "superseded", "dismissed"]
    base: Weights
    estimate: EstimateView
    made_at: Instant
    decided_at: Instant | None
    decided_by: str | None
    preview: ReleasePreview | None

    @classmethod
    def of(cls, version: WeightVersion) -> Self:
        return cls(
            **version.model_dump(exclude={"estimate"}),
            estimate=EstimateView.of(version.estimate),
        )


class LearningView(BaseModel):
    """The results of learning from whole batches of at least ``batch`` outcomes each.

    ``in_use``: the version that set the weights in use; 0 for those before any learning, None where a person set them.
    ``bands``: None for a question with a band of fewer than ``batch`` pairings, or with one band alone.
    """

    programme_id: str
    learning: bool
    weights: Weights
    in_use: int | None
    before_learning: Weights | None
    enough: int
    batch: int
    outcomes: int
    bands: dict[OutcomeField, dict[Band, int] | None]
    latest: EstimateView | None
    versions: list[VersionView]

    @classmethod
    def of(cls, programme: Programme, learned: ProgrammeLearning) -> Self:
        weights, min_count = (
            programme.settings.matching.weights,
            max(MIN_BATCH_OUTCOMES, programme.settings.care.min_group),
        )
        return cls(
            programme_id=programme.programme_id,
            learning=programme.settings.matching.learning,
            weights=weights,
            in_use=learned.find_version_in_use(weights),
            before_learning=learned.start,
            enough=MIN_OUTCOMES,
            batch=min_count,
            outcomes=learned.outcomes,
            bands={name: _hide_small_bands(learned.bands.get(name, {}), min_count) for name in OUTCOME_FIELDS},
            latest=EstimateView.of(learned.latest) if learned.latest else None,
            versions=[VersionView.of(version) for version in reversed(learned.versions)],
        )


def _hide_small_bands(bands: Mapping[Band, int], min_count: int) -> dict[Band, int] | None:
    """All bands; None where one is too small, since the other bands would reveal its count.

    None too where all pairings are in one band: then the figure would tell the answer of each of them.
    """
    return dict(bands) if len(bands) > 1 and all(count >= min_count for count in bands.values()) else None
