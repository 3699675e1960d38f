"""Why a pair was proposed, in words for each of the two.

Nothing private enters: not whom somebody would rather not be paired with, not a single answer about working style, no
score, no name.
"""

from datetime import date

from contracts.profiles import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.rules import count_common_minutes, get_spoken_languages
from services.matcher.domain.fit.score import (
    CoveredWish,
    compare_styles,
    cover_wishes,
    find_differences,
    select_strongest,
)

OFFER_VERBS = {"explain": "can explain", "use": "use", "teach": "can teach"}


def build_reasons(
    senior: ProfileChanged, junior: ProfileChanged, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date
) -> dict[Side, list[str]]:
    """For each side, what they gain, what they give, and what they share."""
    marks = settings.matching.benefit
    for_senior = select_strongest(cover_wishes(senior.seeks, junior.offers, marks, taxonomy))
    for_junior = select_strongest(cover_wishes(junior.seeks, senior.offers, marks, taxonomy))
    shared = _describe_common_ground(senior, junior, settings, on)
    return {
        "senior": [_describe_gain(one, taxonomy) for one in for_senior]
        + [_describe_gift(one, taxonomy) for one in for_junior]
        + shared,
        "junior": [_describe_gain(one, taxonomy) for one in for_junior]
        + [_describe_gift(one, taxonomy) for one in for_senior]
        + shared,
    }


def _describe_gain(one: CoveredWish, taxonomy: Taxonomy) -> str:
    wish, offer = taxonomy.name(one.seek.topic), taxonomy.name(one.offer.topic)
    strength = "You very much want" if one.seek.priority == 3 else "You want"
    what = "it" if one.offer.topic == one.seek.topic else f"{offer}, which is close to it"
    end = " every day" if one.offer.level == "use" else ""
    return f"{strength} to learn about {wish}; your partner {_partner_verb(one.offer.level)} {what}{end}."


def _describe_gift(one: CoveredWish, taxonomy: Taxonomy) -> str:
    wish, offer = taxonomy.name(one.seek.topic), taxonomy.name(one.offer.topic)
    strength = "very much wants" if one.seek.priority == 3 else "wants"
    what = "it" if one.offer.topic == one.seek.topic else f"{offer}, which is close to it"
    end = " every day" if one.offer.level == "use" else ""
    return f"Your partner {strength} to learn about {wish}; you {OFFER_VERBS[one.offer.level]} {what}{end}."


def _partner_verb(level: str) -> str:
    return "uses" if level == "use" else OFFER_VERBS[level]


def _describe_common_ground(
    senior: ProfileChanged, junior: ProfileChanged, settings: ProgrammeSettings, on: date
) -> list[str]:
    said = []
    if both := get_spoken_languages(senior) & get_spoken_languages(junior):
        said.append(f"You have {len(both)} language{'s' if len(both) > 1 else ''} in common.")
    minutes = count_common_minutes(senior, junior, on)
    if minutes is not None:
        said.append(f"You share {minutes / 60:.1f} free hours a week.".replace(".0 ", " "))
    if compare_styles(senior.style, junior.style) >= settings.matching.ease.plateau:
        said.append("What you both said about how you like to think and work goes well together.")
    if places := find_differences(senior, junior):
        said.append(f"You bring different views: not the same {_join_names(places)}.")
    if senior.level is not None and junior.level is not None:
        said.append(f"There are {senior.level - junior.level} levels between you.")
    return said


def _join_names(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
