"""The list of texts that many people entered and the taxonomy does not know, for coordinators.

The list changes once a week, and names a text of at least ``MIN_PEOPLE`` people. Numbers are rounded down to multiples
of it. So neither the list nor the moment of a change tells what one person has just entered or removed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from contracts.base import FrozenModel
from contracts.envelope import OutgoingEvent
from contracts.moment import next_week
from services.profiles.domain.base import ProfilesState

MIN_PEOPLE = 5
MAX_TEXTS = 1000  # enough to see what the taxonomy lacks


class UnknownTopic(FrozenModel):
    words: str
    people: int


class UnknownTopics(ProfilesState):
    """``due``: when the list is made again."""

    items: tuple[UnknownTopic, ...] = ()


Decision = tuple[UnknownTopics, Sequence[OutgoingEvent]]


def plan_list(current: UnknownTopics | None, now: datetime) -> Decision | None:
    """An empty list, to be filled in the next week; None if there is a list already."""
    return None if current is not None else (UnknownTopics(due=next_week(now)), [])


def make_list(
    current: UnknownTopics | None, due: datetime, people: Mapping[str, int], now: datetime
) -> Decision | None:
    """The list of a new week. ``people``: by text. None when another replica was faster."""
    if current is None or current.due != due:
        return None
    return UnknownTopics(items=rank_topics(people, MIN_PEOPLE, step=MIN_PEOPLE), due=next_week(now)), []


def rank_topics(people: Mapping[str, int], at_least: int, step: int = 1) -> tuple[UnknownTopic, ...]:
    """The texts of at least this many people, most frequent first; numbers in multiples of ``step``."""
    ranked = sorted(people.items(), key=lambda item: (-(item[1] // step), item[0]))
    return tuple(
        UnknownTopic(words=words, people=count // step * step) for words, count in ranked if count >= at_least
    )[:MAX_TEXTS]
