"""The reasons for a pair, as sentences for each of the two.

They reveal nothing private: no wish against a person, no single answer about working style, no score and no name.
"""

from datetime import date

from contracts.profiles import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.hard_rules import count_common_minutes, get_spoken_languages
from services.matcher.domain.fit.score import (
    CoveredWish,
    StyleComparison,
    compare_styles,
    cover_wishes,
    find_differences,
    select_strongest,
)

OFFER_VERBS = {"explain": "can explain", "use": "use", "teach": "can teach"}


def build_reasons(
    senior: ProfileChanged,
    junior: ProfileChanged,
    settings: ProgrammeSettings,
    taxonomy: Taxonomy,
    on: date,
    compare: StyleComparison = compare_styles,
) -> dict[Side, list[str]]:
    """For each side: their gains, their gifts and their common ground."""
    marks = settings.matching.benefit
    for_senior = select_strongest(cover_wishes(senior.seeks, junior.offers, marks, taxonomy))
    for_junior = select_strongest(cover_wishes(junior.seeks, senior.offers, marks, taxonomy))
    common = _describe_common_ground(senior, junior, settings, on, compare)
    return {
        "senior": [_describe_gain(wish, taxonomy) for wish in for_senior]
        + [_describe_gift(wish, taxonomy) for wish in for_junior]
        + common,
        "junior": [_describe_gain(wish, taxonomy) for wish in for_junior]
        + [_describe_gift(wish, taxonomy) for wish in for_senior]
        + common,
    }


def _describe_gain(covered: CoveredWish, taxonomy: Taxonomy) -> str:
    wish_name, offer_name = taxonomy.name(covered.seek.topic), taxonomy.name(covered.offer.topic)
    strength = "You very much want" if covered.seek.priority == 3 else "You want"
    subject = "it" if covered.offer.topic == covered.seek.topic else f"{offer_name}, which is close to it"
    ending = " every day" if covered.offer.level == "use" else ""
    return (
        f"{strength} to learn about {wish_name}; your partner {_partner_verb(covered.offer.level)} {subject}{ending}."
    )


def _describe_gift(covered: CoveredWish, taxonomy: Taxonomy) -> str:
    wish_name, offer_name = taxonomy.name(covered.seek.topic), taxonomy.name(covered.offer.topic)
    strength = "very much wants" if covered.seek.priority == 3 else "wants"
    subject = "it" if covered.offer.topic == covered.seek.topic else f"{offer_name}, which is close to it"
    ending = " every day" if covered.offer.level == "use" else ""
    return (
        f"Your partner {strength} to learn about {wish_name}; you {OFFER_VERBS[covered.offer.level]} {subject}{ending}."
    )


def _partner_verb(level: str) -> str:
    return "uses" if level == "use" else OFFER_VERBS[level]


def _describe_common_ground(
    senior: ProfileChanged,
    junior: ProfileChanged,
    settings: ProgrammeSettings,
    on: date,
    compare: StyleComparison,
) -> list[str]:
    sentences = []
    if languages := get_spoken_languages(senior) & get_spoken_languages(junior):
        sentences.append(f"You have {len(languages)} language{'s' if len(languages) > 1 else ''} in common.")
    minutes = count_common_minutes(senior, junior, on)
    if minutes is not None:
        sentences.append(f"You share {minutes / 60:.1f} free hours a week.".replace(".0 ", " "))
    if compare(senior.style, junior.style) >= settings.matching.ease.plateau:
        sentences.append("What you both said about how you like to think and work goes well together.")
    if differing := find_differences(senior, junior):
        sentences.append(f"You bring different views: not the same {_join_names(differing)}.")
    if senior.level is not None and junior.level is not None:
        sentences.append(f"There are {senior.level - junior.level} levels between you.")
    return sentences


def _join_names(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
