"""How well a senior and a junior fit: the readable truth that every faster form must equal.

First what each side gains from the other, then how easily they will get on, then how different their views are. The
score is a weighted mean of these, each from 0 to 1; the side that gains less counts most. Hard rules are in ``rules``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict

from contracts.pairings import Focus
from contracts.people import Offer, ProfileChanged, Seek, Side, Style
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.rules import Member, common_minutes, spoken

DEPTH = {"explain": 0.6, "use": 0.8, "teach": 1.0}  # how much of a wish each kind of offer covers
WISH = {1: 0.4, 2: 0.7, 3: 1.0}  # how much a covered wish is worth, by its priority
FIRST_WISH = 0.8  # one strongest wish, fully covered, is worth this much; every further one a share of what is left
DIMENSIONS = ("candour", "pace", "change", "debate")
UNKNOWN = 0.75  # what an unanswered part counts: as much as two people usually have in common
PLATEAU = 0.8  # from here on, being even more alike earns nothing
AMPLE_MINUTES = 240  # common free time a week from which more earns nothing
MAX_FOCUS = 3  # topics of one direction that a pairing is about
DIFFERENT = {"department": 0.35, "site": 0.25, "discipline": 0.25}  # earned by a difference that is known
EXPERIENCE = 0.15  # earned by the greatest gap in years of experience
MAX_BAND = 5

Short = Literal["nothing_for_senior", "nothing_for_junior", "too_different"]


class Fit(BaseModel):
    """One pair's fit in its parts, each from 0 to 1."""

    model_config = ConfigDict(frozen=True)

    score: float
    senior_benefit: float
    junior_benefit: float
    compatibility: float
    perspective: float

    def falls_short(self, settings: ProgrammeSettings) -> tuple[Short, ...]:
        """The floors that this pair does not reach."""
        floors = settings.matching.floors
        found: list[Short] = []
        if not reaches(self.senior_benefit, floors.benefit):
            found.append("nothing_for_senior")
        if not reaches(self.junior_benefit, floors.benefit):
            found.append("nothing_for_junior")
        if not reaches(self.compatibility, floors.compatibility):
            found.append("too_different")
        return tuple(found)


@dataclass(frozen=True)
class Covered:
    """A wish and the best offer for it; ``share`` is how much of the wish the offer covers, from 0 to 1."""

    seek: Seek
    offer: Offer
    share: float


def reaches(value: float, floor: float) -> bool:
    """Whether a part clears its floor. A benefit of nothing never does; rounding noise decides nothing."""
    return value > 0 and value >= floor - 1e-6


def fit(senior: Member, junior: Member, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date) -> Fit:
    """The fit of a pair that breaks no hard rule."""
    s, j = senior.profile, junior.profile
    for_senior = benefit(covered(s.seeks, j.offers, taxonomy))
    for_junior = benefit(covered(j.seeks, s.offers, taxonomy))
    together = compatibility(s, j, settings, on)
    views = perspective(s, j)
    return Fit(
        score=score(min(for_senior, for_junior), max(for_senior, for_junior), together, views, settings),
        senior_benefit=for_senior,
        junior_benefit=for_junior,
        compatibility=together,
        perspective=views,
    )


def score(lower: float, higher: float, together: float, views: float, settings: ProgrammeSettings) -> float:
    """The weighted mean of the parts."""
    w = settings.matching.weights
    total = w.lower_benefit + w.higher_benefit + w.compatibility + w.perspective
    return (
        w.lower_benefit * lower + w.higher_benefit * higher + w.compatibility * together + w.perspective * views
    ) / total


def wishes(seeks: Sequence[Seek]) -> tuple[Seek, ...]:
    """One for each topic, the strongest, in the order of the topics."""
    strongest: dict[str, Seek] = {}
    for seek in seeks:
        if seek.topic not in strongest or seek.priority > strongest[seek.topic].priority:
            strongest[seek.topic] = seek
    return tuple(strongest[topic] for topic in sorted(strongest))


def covered(seeks: Sequence[Seek], offers: Sequence[Offer], taxonomy: Taxonomy) -> tuple[Covered, ...]:
    """For each wish that is covered at all, the offer that covers it best; related topics earn part marks."""
    found = []
    for seek in wishes(seeks):
        best = max(
            (Covered(seek, offer, DEPTH[offer.level] * taxonomy.related(offer.topic, seek.topic)) for offer in offers),
            key=lambda candidate: (candidate.share, candidate.offer.topic),
            default=None,
        )
        if best is not None and best.share > 0:
            found.append(best)
    return tuple(found)


def benefit(wishes_covered: Sequence[Covered]) -> float:
    """What a side gains, with diminishing returns: 1 - product of (1 - 0.8 x wish x share)."""
    left = 1.0
    for one in wishes_covered:
        left *= 1 - FIRST_WISH * WISH[one.seek.priority] * one.share
    return 1 - left


def compatibility(senior: ProfileChanged, junior: ProfileChanged, settings: ProgrammeSettings, on: date) -> float:
    """How easily they will get on: likeness of style up to a plateau, scaled by language and common time."""
    both = spoken(senior), spoken(junior)
    language = UNKNOWN if not both[0] or not both[1] else float(bool(both[0] & both[1]))
    minutes = common_minutes(senior, junior, on)
    ample = max(AMPLE_MINUTES, settings.rules.min_overlap_minutes)
    time = UNKNOWN if minutes is None else min(1.0, minutes / ample)
    return min(1.0, likeness(senior.style, junior.style) / PLATEAU) * (0.7 + 0.15 * language + 0.15 * time)


def likeness(one: Style, other: Style) -> float:
    """Mean over the dimensions, 1 for the same answer and 0 for opposite ones; a skipped one counts ``UNKNOWN``."""
    total = 0.0
    for dimension in DIMENSIONS:
        a, b = getattr(one, dimension), getattr(other, dimension)
        total += UNKNOWN if a is None or b is None else 1 - abs(a - b) / 4
    return total / len(DIMENSIONS)


def perspective(senior: ProfileChanged, junior: ProfileChanged) -> float:
    """What a different place in the organisation earns; it never costs, and what is unknown earns nothing."""
    earned = sum(DIFFERENT[what] for what in differences(senior, junior))
    if senior.experience_band is not None and junior.experience_band is not None:
        earned += EXPERIENCE * max(0, senior.experience_band - junior.experience_band) / MAX_BAND
    return earned


def differences(senior: ProfileChanged, junior: ProfileChanged) -> tuple[str, ...]:
    """Which of department, site and discipline are known of both and differ."""
    pairs = {
        "department": (senior.department_id, junior.department_id),
        "site": (senior.site_id, junior.site_id),
        "discipline": (senior.discipline_id, junior.discipline_id),
    }
    return tuple(what for what, (a, b) in pairs.items() if a is not None and b is not None and a != b)


def focus(senior: ProfileChanged, junior: ProfileChanged, taxonomy: Taxonomy) -> tuple[Focus, ...]:
    """What the pairing is about: the topics that count most, of both directions."""
    of: dict[Side, tuple[Covered, ...]] = {
        "junior": covered(senior.seeks, junior.offers, taxonomy),
        "senior": covered(junior.seeks, senior.offers, taxonomy),
    }
    return tuple(
        Focus(topic_id=one.seek.topic, from_side=side) for side, found in of.items() for one in strongest(found)
    )


def strongest(found: Sequence[Covered]) -> list[Covered]:
    """The few that are worth most."""
    return sorted(found, key=lambda one: (-WISH[one.seek.priority] * one.share, one.seek.topic))[:MAX_FOCUS]
