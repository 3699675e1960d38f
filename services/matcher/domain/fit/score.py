"""The fit of a senior and a junior: the readable reference that every vectorised form must equal.

The score is the weighted mean of four parts, each from 0 to 1: the lower and the higher benefit of the two sides, their
compatibility, and the difference of their perspectives. The lower benefit counts most. Hard rules are in ``rules``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from math import floor
from typing import Literal

from contracts.base import FrozenModel
from contracts.pairings import Focus
from contracts.profiles import Depth, Offer, ProfileChanged, Seek, Side, Style
from contracts.programmes import Benefit, Depths, ProgrammeSettings, Weights
from contracts.programmes import Perspective as Worth
from contracts.programmes import Wishes as Marks
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.hard_rules import Member, count_common_minutes, get_spoken_languages

POSITION_FIELDS = ("department", "site", "discipline")
STYLE_DIMENSIONS = ("candour", "pace", "change", "debate")
UNANSWERED_SHARE = 0.75  # what an unanswered part counts: as much as two people usually have in common
MIN_STYLE_ANSWERS = 3  # dimensions that both have answered; with fewer, one single answer could be isolated
STYLE_BANDS = ((0.75, 1.0), (0.5, 0.75), (0.25, 0.4), (0.0, 0.0))
"""From which mean similarity a band begins, and what it counts: alike, partly alike, different, opposite. Answers about
style are private, so everything that rests on them rests on the band alone (docs/architecture/privacy.md)."""
MAX_FOCUS_TOPICS = 3  # topics of one direction that a pairing is about
MAX_EXPERIENCE_BAND = 5  # of years of experience

StyleComparison = Callable[[Style, Style], float]
Shortfall = Literal["nothing_for_senior", "nothing_for_junior", "too_different"]


class Fit(FrozenModel):
    """The fit of one pair and its parts, each from 0 to 1."""

    score: float
    senior_benefit: float
    junior_benefit: float
    compatibility: float
    perspective: float

    def find_shortfalls(self, settings: ProgrammeSettings) -> tuple[Shortfall, ...]:
        """The floors that this pair does not reach."""
        floors = settings.matching.floors
        shortfalls: list[Shortfall] = []
        if not clears_floor(self.senior_benefit, floors.benefit):
            shortfalls.append("nothing_for_senior")
        if not clears_floor(self.junior_benefit, floors.benefit):
            shortfalls.append("nothing_for_junior")
        if not clears_floor(self.compatibility, floors.compatibility):
            shortfalls.append("too_different")
        return tuple(shortfalls)


@dataclass(frozen=True)
class CoveredWish:
    """A wish and the best offer for it.

    ``share``: how much of the wish the offer covers, from 0 to 1. ``worth``: ``share`` times the worth of the priority.
    """

    seek: Seek
    offer: Offer
    share: float
    worth: float


def clears_floor(value: float, floor: float) -> bool:
    """Whether a part reaches its floor. A value of 0 never does; a tolerance of 1e-6 absorbs rounding."""
    return value > 0 and value >= floor - 1e-6


def compute_fit(
    senior: Member,
    junior: Member,
    settings: ProgrammeSettings,
    taxonomy: Taxonomy,
    on: date,
    compare: StyleComparison | None = None,
) -> Fit:
    """The fit of a pair. Hard rules are not checked here. ``compare`` replaces ``compare_styles``."""
    s, j = senior.profile, junior.profile
    marks = settings.matching.benefit
    for_senior = compute_benefit(cover_wishes(s.seeks, j.offers, marks, taxonomy), marks)
    for_junior = compute_benefit(cover_wishes(j.seeks, s.offers, marks, taxonomy), marks)
    ease = compute_compatibility(s, j, settings, on, compare)
    difference = compute_perspective(s, j, settings)
    return Fit(
        score=combine_parts(min(for_senior, for_junior), max(for_senior, for_junior), ease, difference, settings),
        senior_benefit=for_senior,
        junior_benefit=for_junior,
        compatibility=ease,
        perspective=difference,
    )


def combine_parts(lower: float, higher: float, ease: float, difference: float, settings: ProgrammeSettings) -> float:
    """The weighted mean of the parts."""
    w = settings.matching.weights
    return (
        w.lower_benefit * lower + w.higher_benefit * higher + w.compatibility * ease + w.perspective * difference
    ) / sum_weights(w)


def sum_weights(weights: Weights) -> float:
    """The sum of the weights; more than 0 in every valid programme."""
    return weights.lower_benefit + weights.higher_benefit + weights.compatibility + weights.perspective


def select_wishes(seeks: Sequence[Seek]) -> tuple[Seek, ...]:
    """The strongest wish for each topic, sorted by topic."""
    strongest: dict[str, Seek] = {}
    for seek in seeks:
        if seek.topic not in strongest or seek.priority > strongest[seek.topic].priority:
            strongest[seek.topic] = seek
    return tuple(strongest[topic] for topic in sorted(strongest))


def cover_wishes(
    seeks: Sequence[Seek], offers: Sequence[Offer], marks: Benefit, taxonomy: Taxonomy
) -> tuple[CoveredWish, ...]:
    """For each wish that is covered at all, the offer that covers it best. A related topic covers a part."""
    covered = []
    for seek in select_wishes(seeks):
        share, best_offer = max(
            (
                (get_depth_share(offer.level, marks.depths) * taxonomy.related(offer.topic, seek.topic), offer)
                for offer in offers
            ),
            key=lambda candidate: (candidate[0], candidate[1].topic),
            default=(0.0, None),
        )
        if best_offer is not None and share > 0:
            covered.append(
                CoveredWish(seek, best_offer, share, get_priority_worth(seek.priority, marks.wishes) * share)
            )
    return tuple(covered)


def get_depth_share(level: Depth, depths: Depths) -> float:
    """The share of a wish that an offer of this depth covers."""
    return {"explain": depths.explain, "use": depths.use, "teach": depths.teach}[level]


def get_priority_worth(priority: int, worths: Marks) -> float:
    """The worth of a covered wish of this priority (1 to 3)."""
    return (worths.weak, worths.medium, worths.strong)[priority - 1]


def compute_benefit(covered: Sequence[CoveredWish], marks: Benefit) -> float:
    """The benefit of one side, with diminishing returns: 1 - product of (1 - first_wish * worth)."""
    uncovered = 1.0
    for wish in covered:
        uncovered *= 1 - marks.first_wish * wish.worth
    return 1 - uncovered


def compute_compatibility(
    senior: ProfileChanged,
    junior: ProfileChanged,
    settings: ProgrammeSettings,
    on: date,
    compare: StyleComparison | None = None,
) -> float:
    """How easily the two get on: similarity of style up to a plateau, scaled by language and common time."""
    ease = settings.matching.ease
    languages = get_spoken_languages(senior), get_spoken_languages(junior)
    language_share = (
        UNANSWERED_SHARE if not languages[0] or not languages[1] else float(bool(languages[0] & languages[1]))
    )
    minutes = count_common_minutes(senior, junior, on)
    time_share = UNANSWERED_SHARE if minutes is None else min(1.0, minutes / get_ample_minutes(settings))
    scale = (ease.style + ease.language * language_share + ease.time * time_share) / (
        ease.style + ease.language + ease.time
    )
    return min(1.0, (compare or compare_styles)(senior.style, junior.style) / ease.plateau) * scale


def get_ample_minutes(settings: ProgrammeSettings) -> int:
    """The common minutes from which more earns nothing; at least the minimum that the rules require."""
    return max(settings.matching.ease.ample_minutes, settings.rules.min_overlap_minutes)


def compare_styles(first: Style, second: Style) -> float:
    """What the similarity of two styles counts: one of the values of ``STYLE_BANDS``.

    Of the dimensions that both have answered, equal answers count 1 and opposite ones 0; their mean gives the band.
    With fewer than ``MIN_STYLE_ANSWERS`` such dimensions it is ``UNANSWERED_SHARE``.
    """
    answers = [(getattr(first, name), getattr(second, name)) for name in STYLE_DIMENSIONS]
    similarities = [
        1 - abs(round_answer(a) - round_answer(b)) / 4 for a, b in answers if a is not None and b is not None
    ]
    if len(similarities) < MIN_STYLE_ANSWERS:
        return UNANSWERED_SHARE
    mean = sum(similarities) / len(similarities)
    return next(share for begin, share in STYLE_BANDS if mean >= begin)


def round_answer(answer: float) -> float:
    """To the nearest half. The statements give halves only; so sums of similarities are exact in any precision."""
    return floor(2 * answer + 0.5) / 2


def compare_styles_exactly(first: Style, second: Style) -> float:
    """The similarity in the first algorithm, without bands. It only checks the receipts of that time."""
    total = 0.0
    for dimension in STYLE_DIMENSIONS:
        a, b = getattr(first, dimension), getattr(second, dimension)
        total += UNANSWERED_SHARE if a is None or b is None else 1 - abs(a - b) / 4
    return total / len(STYLE_DIMENSIONS)


def compute_perspective(senior: ProfileChanged, junior: ProfileChanged, settings: ProgrammeSettings) -> float:
    """The worth of their different positions in the organisation; unknown positions earn 0, none costs."""
    settings_worth = settings.matching.perspective
    earned = 0.0
    for position, (senior_value, junior_value) in get_positions(senior, junior).items():
        if senior_value is not None and junior_value is not None:
            earned += getattr(
                settings_worth.same if senior_value == junior_value else settings_worth.different, position
            )
    if senior.experience_band is not None and junior.experience_band is not None:
        earned += (
            settings_worth.experience * max(0, senior.experience_band - junior.experience_band) / MAX_EXPERIENCE_BAND
        )
    if senior.level is not None and junior.level is not None:
        earned += get_gap_worth(senior.level - junior.level, settings_worth)
    return earned


def get_gap_worth(levels: int, worth: Worth) -> float:
    """The worth of a gap of this many levels."""
    return next((gap.worth for gap in worth.gaps if gap.levels == levels), 0.0)


def get_positions(
    senior: ProfileChanged, junior: ProfileChanged
) -> dict[Literal["department", "site", "discipline"], tuple[str | None, str | None]]:
    """The positions of the senior and of the junior; None where unknown."""
    return {
        "department": (senior.department_id, junior.department_id),
        "site": (senior.site_id, junior.site_id),
        "discipline": (senior.discipline_id, junior.discipline_id),
    }


def find_differences(senior: ProfileChanged, junior: ProfileChanged) -> tuple[str, ...]:
    """The positions (department, site, discipline) that are known for both and differ."""
    return tuple(
        position
        for position, (a, b) in get_positions(senior, junior).items()
        if a is not None and b is not None and a != b
    )


def select_focus(
    senior: ProfileChanged, junior: ProfileChanged, marks: Benefit, taxonomy: Taxonomy
) -> tuple[Focus, ...]:
    """The topics of the pairing: those of greatest worth, in both directions."""
    covered_by_side: dict[Side, tuple[CoveredWish, ...]] = {
        "junior": cover_wishes(senior.seeks, junior.offers, marks, taxonomy),
        "senior": cover_wishes(junior.seeks, senior.offers, marks, taxonomy),
    }
    return tuple(
        Focus(topic_id=wish.seek.topic, from_side=side)
        for side, covered in covered_by_side.items()
        for wish in select_strongest(covered)
    )


def select_strongest(covered: Sequence[CoveredWish]) -> list[CoveredWish]:
    """The ``MAX_FOCUS_TOPICS`` of greatest worth."""
    return sorted(covered, key=lambda wish: (-wish.worth, wish.seek.topic))[:MAX_FOCUS_TOPICS]
