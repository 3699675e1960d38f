"""Evidence about the weights of the fit: how pairings went, as numbers without people, and what it says."""

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

MIN_OUTCOMES = 30  # outcomes, below which nothing is said
REASONS_ABOUT_FIT: frozenset[DeclineReason] = frozenset({"topics_do_not_fit"})  # refusals that say something about fit
SCHEFFE_BOUND = (
    2.5  # square root of the 90th percentile of chi-square with 3 degrees of freedom: directions of the shares
)


class OutcomeExample(FrozenModel):
    """One pairing as numbers, without its people. ``bands`` None: it was refused, for a reason that concerns fit.

    ``round_id`` is empty where it came from no round. Pairings of one round are compared with each other alone.
    """

    parts: PartValues
    bands: dict[OutcomeField, Band] | None
    round_id: str = ""

    @property
    def known_worths(self) -> list[float]:
        """What is known of its outcome; nothing of a refusal, which had none."""
        return [BAND_WORTH[band] for band in (self.bands or {}).values() if band != "unknown"]


class ExpectedGain(FrozenModel):
    """By how much the mean outcome rises, on its scale from 0 to 1, and the standard deviation of that figure."""

    by: float
    noise: float


class WeightEstimate(FrozenModel):
    """What the outcomes say. Shares, and their intervals of 90 per cent, in the order of ``PART_NAMES``.

    ``shares`` is where the outcomes point, before the bounds; ``weights`` what they would be set to, in hundredths of
    the whole.
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
        """Whether the gain is more than chance would often show where there is none."""
        return self.gain.by > SCHEFFE_BOUND * self.gain.noise


def extract_parts(fit: Fit) -> PartValues:
    """What the weights weigh, in the order of ``PART_NAMES``."""
    benefits = fit.senior_benefit, fit.junior_benefit
    return min(benefits), max(benefits), fit.compatibility, fit.perspective


def example_from_outcome(fit: Fit, outcome: OutcomeRecorded, round_id: str | None) -> OutcomeExample | None:
    """None where nothing is known of how it went."""
    bands: dict[OutcomeField, Band] = {field: getattr(outcome, field) for field in OUTCOME_FIELDS}
    example = OutcomeExample(parts=extract_parts(fit), bands=bands, round_id=round_id or "")
    return example if example.known_worths else None


def example_from_refusal(fit: Fit, reason: DeclineReason | None, round_id: str | None) -> OutcomeExample | None:
    """None where the reason says nothing about fit."""
    if reason not in REASONS_ABOUT_FIT:
        return None
    return OutcomeExample(parts=extract_parts(fit), bands=None, round_id=round_id or "")


def count_bands(examples: Sequence[OutcomeExample]) -> dict[OutcomeField, dict[Band, int]]:
    """How often each band came, of each thing that outcomes tell."""
    counts: dict[OutcomeField, Counter[Band]] = {field: Counter() for field in OUTCOME_FIELDS}
    for example in examples:
        for field, band in (example.bands or {}).items():
            counts[field][band] += 1
    return {field: dict(bands) for field, bands in counts.items()}
