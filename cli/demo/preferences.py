"""The decisions of a simulated person: by their personal taste, by attractive topics, and by how busy they are.

Nothing here uses the matcher's score or reasons. Each decision depends only on the person and on a random source that
the caller seeds, so the same people make the same decisions on every machine.
"""

from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from typing import Literal

ProposalAnswer = Literal["accept", "decline", "forget"]
DeclineReason = Literal["no_time", "topics_do_not_fit", "prefer_somebody_else"]
MeetingOutcome = Literal["held", "moved", "cancelled", "missed"]

_SYMPATHY, _INTEREST, _BUSYNESS, _ACCEPT_THRESHOLD = 1.0, 0.25, 0.6, -0.45
"""A person accepts when sympathy + interest - busyness reaches the threshold. About three of four do."""
_MAX_RATING = 5
_REVERSED_ITEMS = frozenset({"2", "4", "6", "8"})
"""Items of a check-in for which agreement is a complaint."""


@dataclass(frozen=True)
class HiddenTraits:
    """The hidden traits of one person, see `cli.sample.wishes`. ``taste`` and ``comes_across`` have the same length."""

    taste: tuple[float, ...]
    comes_across: tuple[float, ...]
    drawn_to: frozenset[str]
    busy: float
    forgetful: float


def compute_liking(me: HiddenTraits, partner: HiddenTraits, topics: Collection[str]) -> float:
    """How much ``me`` likes a partner and the topics of the pairing. Values are around 0."""
    sympathy = sum(mine * theirs for mine, theirs in zip(me.taste, partner.comes_across, strict=True))
    return _SYMPATHY * sympathy + _INTEREST * len(me.drawn_to.intersection(topics))


def decide_answer(
    me: HiddenTraits, partner: HiddenTraits, topics: Collection[str], random: Random
) -> tuple[ProposalAnswer, DeclineReason | None]:
    """The answer of ``me`` to a proposal. ``random`` decides only whether ``me`` forgets to answer."""
    if random.random() < me.forgetful:
        return "forget", None
    return decide_without_forgetting(me, partner, topics)


def decide_without_forgetting(
    me: HiddenTraits, partner: HiddenTraits, topics: Collection[str]
) -> tuple[Literal["accept", "decline"], DeclineReason | None]:
    """The answer of a person who does not forget to answer."""
    liking = compute_liking(me, partner, topics)
    if liking - _BUSYNESS * me.busy >= _ACCEPT_THRESHOLD:
        return "accept", None
    if liking >= _ACCEPT_THRESHOLD:
        return "decline", "no_time"
    return "decline", "prefer_somebody_else" if me.drawn_to.intersection(topics) else "topics_do_not_fit"


def decide_meeting(senior: HiddenTraits, junior: HiddenTraits, random: Random) -> MeetingOutcome:
    """The outcome of a planned meeting."""
    drawn = random.random()
    missed = 0.02 + 0.1 * (senior.forgetful + junior.forgetful) / 2
    cancelled = missed + 0.05 + 0.1 * (senior.busy + junior.busy) / 2
    if drawn < missed:
        return "missed"
    if drawn < cancelled:
        return "cancelled"
    return "moved" if drawn < cancelled + 0.08 else "held"


def rate_meeting(me: HiddenTraits, partner: HiddenTraits, topics: Collection[str], random: Random) -> int:
    """The rating of a meeting, from 1 (not worth the time) to 5."""
    return _to_rating(3.4 + compute_liking(me, partner, topics) + random.uniform(-0.8, 0.8))


def answer_checkin(items: Collection[str], liking: float, months: float, random: Random) -> dict[str, int | None]:
    """Answers to a check-in; some are left out. With a liked partner, the ratings rise with time."""
    given: dict[str, int | None] = {}
    for item in sorted(items):
        good = 2.9 + 0.5 * liking + (0.25 * months if liking > 0 else 0.05 * months) + random.uniform(-0.9, 0.9)
        rated = _to_rating(good)
        given[item] = None if random.random() < 0.05 else _MAX_RATING + 1 - rated if item in _REVERSED_ITEMS else rated
    return given


def _to_rating(value: float) -> int:
    return max(1, min(_MAX_RATING, round(value)))
