"""How well a senior and a junior fit: the readable truth that every faster form must equal.

First what each side gains from the other, then how easily they will get on, then how different their views are. The
score is a weighted mean of these, each from 0 to 1; the side that gains less counts most. Hard rules are in ``rules``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from contracts.base import FrozenModel
from contracts.pairings import Focus
from contracts.profiles import Depth, Offer, ProfileChanged, Seek, Side, Style
from contracts.programmes import Benefit, Depths, ProgrammeSettings, Weights
from contracts.programmes import Perspective as Worth
from contracts.programmes import Wishes as Marks
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.rules import Member, count_common_minutes, get_spoken_languages

POSITION_FIELDS = ("department", "site", "discipline")
STYLE_DIMENSIONS = ("candour", "pace", "change", "debate")
UNANSWERED_SHARE = 0.75  # what an unanswered part counts: as much as two people usually have in common
MAX_FOCUS_TOPICS = 3  # topics of one direction that a pairing is about
MAX_EXPERIENCE_BAND = 5  # of years of experience

Shortfall = Literal["nothing_for_senior", "nothing_for_junior", "too_different"]


class Fit(FrozenModel):
    """One pair's fit in its parts, each from 0 to 1."""

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

    ``share`` is how much of the wish the offer covers, ``worth`` the same times the worth of its priority; from 0 to 1.
    """

    seek: Seek
    offer: Offer
    share: float
    worth: float


def clears_floor(value: float, floor: float) -> bool:
    """Whether a part clears its floor. A benefit of nothing never does; rounding noise decides nothing."""
    return value > 0 and value >= floor - 1e-6


def compute_fit(senior: Member, junior: Member, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date) -> Fit:
    """The fit of a pair that breaks no hard rule."""
    s, j = senior.profile, junior.profile
    marks = settings.matching.benefit
    for_senior = compute_benefit(cover_wishes(s.seeks, j.offers, marks, taxonomy), marks)
    for_junior = compute_benefit(cover_wishes(j.seeks, s.offers, marks, taxonomy), marks)
    ease = compute_compatibility(s, j, settings, on)
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
    """What all parts of the score weigh together; more than 0 in every programme."""
    return weights.lower_benefit + weights.higher_benefit + weights.compatibility + weights.perspective


def select_wishes(seeks: Sequence[Seek]) -> tuple[Seek, ...]:
    """One for each topic, the strongest, in the order of the topics."""
    strongest: dict[str, Seek] = {}
    for seek in seeks:
        if seek.topic not in strongest or seek.priority > strongest[seek.topic].priority:
            strongest[seek.topic] = seek
    return tuple(strongest[topic] for topic in sorted(strongest))


def cover_wishes(
    seeks: Sequence[Seek], offers: Sequence[Offer], marks: Benefit, taxonomy: Taxonomy
) -> tuple[CoveredWish, ...]:
    """For each wish that is covered at all, the offer that covers it best; related topics earn part marks."""
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
    """How much of a wish an offer of this kind covers."""
    return {"explain": depths.explain, "use": depths.use, "teach": depths.teach}[level]


def get_priority_worth(priority: int, worths: Marks) -> float:
    """How much a wish of this priority is worth once it is covered."""
    return (worths.weak, worths.medium, worths.strong)[priority - 1]


def compute_benefit(covered: Sequence[CoveredWish], marks: Benefit) -> float:
    """What a side gains, with diminishing returns: 1 - product of (1 - first wish x worth)."""
    uncovered = 1.0
    for wish in covered:
        uncovered *= 1 - marks.first_wish * wish.worth
    return 1 - uncovered


def compute_compatibility(
    senior: ProfileChanged, junior: ProfileChanged, settings: ProgrammeSettings, on: date
) -> float:
    """How easily they will get on: likeness of style up to a plateau, scaled by language and common time."""
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
    return min(1.0, compare_styles(senior.style, junior.style) / ease.plateau) * scale


def get_ample_minutes(settings: ProgrammeSettings) -> int:
    """Common time from which more earns nothing: never less than what the rules ask for."""
    return max(settings.matching.ease.ample_minutes, settings.rules.min_overlap_minutes)


def compare_styles(first: Style, second: Style) -> float:
    """Mean over the dimensions, 1 for the same answer and 0 for opposite ones; a skipped one counts
    ``UNANSWERED_SHARE``.
    """
    total = 0.0
    for dimension in STYLE_DIMENSIONS:
        a, b = getattr(first, dimension), getattr(second, dimension)
        total += UNANSWERED_SHARE if a is None or b is None else 1 - abs(a - b) / 4
    return total / len(STYLE_DIMENSIONS)


def compute_perspective(senior: ProfileChanged, junior: ProfileChanged, settings: ProgrammeSettings) -> float:
    """What their places in the organisation earn; it never costs, and what is unknown earns nothing."""
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
    """What so many levels between two people earn."""
    return next((gap.worth for gap in worth.gaps if gap.levels == levels), 0.0)


def get_positions(
    senior: ProfileChanged, junior: ProfileChanged
) -> dict[Literal["department", "site", "discipline"], tuple[str | None, str | None]]:
    """Where each of the two stands."""
    return {
        "department": (senior.department_id, junior.department_id),
        "site": (senior.site_id, junior.site_id),
        "discipline": (senior.discipline_id, junior.discipline_id),
    }


def find_differences(senior: ProfileChanged, junior: ProfileChanged) -> tuple[str, ...]:
    """Which of department, site and discipline are known of both and differ."""
    return tuple(
        position
        for position, (a, b) in get_positions(senior, junior).items()
        if a is not None and b is not None and a != b
    )


def select_focus(
    senior: ProfileChanged, junior: ProfileChanged, marks: Benefit, taxonomy: Taxonomy
) -> tuple[Focus, ...]:
    """What the pairing is about: the topics that count most, of both directions."""
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
    """The few that are worth most."""
    return sorted(covered, key=lambda wish: (-wish.worth, wish.seek.topic))[:MAX_FOCUS_TOPICS]
