"""Evidence about the weights of the fit: outcomes of pairings as numbers without people, and the estimate from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from contracts.base import FrozenModel
from contracts.feedback import Band, OutcomeRecorded
from contracts.pairings import DeclineReason
from contracts.programmes import Weights
from services.matcher.domain.fit.score import Fit

PartName = Literal["lower_benefit", "higher_benefit", "compatibility", "perspective"]
OutcomeField = Literal["meetings", "senior_learned", "junior_learned", "senior_enjoyed", "junior_enjoyed"]
PartValues: TypeAlias = tuple[float, float, float, float]

PART_NAMES: tuple[PartName, ...] = ("lower_benefit", "higher_benefit", "compatibility", "perspective")
OUTCOME_FIELDS: tuple[OutcomeField, ...] = (
    "meetings",
    "senior_learned",
    "junior_learned",
    "senior_enjoyed",
    "junior_enjoyed",
)
BAND_WORTH: Mapping[Band, float] = {"low": 0.0, "middle": 0.5, "high": 1.0}

MIN_OUTCOMES = 30  # known outcomes below which nothing is estimated
REASONS_ABOUT_FIT: frozenset[DeclineReason] = frozenset(
    {"topics_do_not_fit"}
)  # reasons of a refusal that concern the fit
SCHEFFE_BOUND = 2.5
"""Square root of the 90th percentile of chi-square with 3 degrees of freedom, one for each direction of the shares."""


class OutcomeExample(FrozenModel):
    """One pairing as numbers, without its people.

    ``bands`` is None for a pairing that was refused for a reason that concerns the fit. ``round_id`` is empty for a
    pairing from no round; pairings are compared within their round.
    """

    parts: PartValues
    bands: dict[OutcomeField, Band] | None
    round_id: str = ""

    @property
    def known_worths(self) -> list[float]:
        """The known values of its outcome, from 0 to 1; empty for a refusal."""
        return [BAND_WORTH[band] for band in (self.bands or {}).values() if band != "unknown"]


class ExpectedGain(FrozenModel):
    """The expected rise of the mean outcome (scale 0 to 1), and its standard deviation ``noise``."""

    by: float
    noise: float


class WeightEstimate(FrozenModel):
    """The estimate from all evidence. Shares and their 90 per cent intervals are in the order of ``PART_NAMES``.

    ``shares``: the direction of the outcomes, before the bounds. ``weights``: the weights to set, in hundredths of the
    whole.
    """

    outcomes: int
    refusals: int
    shares: PartValues
    low: PartValues
    high: PartValues
    slopes: PartValues
    covariance: tuple[PartValues, PartValues, PartValues, PartValues]
    weights: Weights
    gain: ExpectedGain

    @property
    def is_clear(self) -> bool:
        """Whether the gain exceeds what chance alone would often show."""
        return self.gain.by > SCHEFFE_BOUND * self.gain.noise


def extract_parts(fit: Fit) -> PartValues:
    """The parts that the weights apply to, in the order of ``PART_NAMES``."""
    benefits = fit.senior_benefit, fit.junior_benefit
    return min(benefits), max(benefits), fit.compatibility, fit.perspective


def example_from_outcome(fit: Fit, outcome: OutcomeRecorded, round_id: str | None) -> OutcomeExample | None:
    """The outcome as example; None if nothing is known of it."""
    bands: dict[OutcomeField, Band] = {field: getattr(outcome, field) for field in OUTCOME_FIELDS}
    example = OutcomeExample(parts=extract_parts(fit), bands=bands, round_id=round_id or "")
    return example if example.known_worths else None


def example_from_refusal(fit: Fit, reason: DeclineReason | None, round_id: str | None) -> OutcomeExample | None:
    """The refusal as example; None if its reason does not concern the fit."""
    if reason not in REASONS_ABOUT_FIT:
        return None
    return OutcomeExample(parts=extract_parts(fit), bands=None, round_id=round_id or "")


def count_bands(examples: Sequence[OutcomeExample]) -> dict[OutcomeField, dict[Band, int]]:
    """The count of each band, for each field of an outcome."""
    counts: dict[OutcomeField, Counter[Band]] = {field: Counter() for field in OUTCOME_FIELDS}
    for example in examples:
        for field, band in (example.bands or {}).items():
            counts[field][band] += 1
    return {field: dict(bands) for field, bands in counts.items()}
