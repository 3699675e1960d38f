"""Topics that somebody offers or seeks, as they wrote them and as the taxonomy knows them.

What the taxonomy does not know is kept with its words and reported to those who care for the taxonomy. It is never
published, and it counts as soon as a later version of the taxonomy knows it.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from contracts import taxonomy
from contracts.profiles import Depth, Offer, Seek
from services.profiles.domain.base import Value

MOST = 30  # topics on each side; more than that says nothing about a person

resolve = lru_cache(4096)(taxonomy.resolve)
"""The topic that some words stand for, or None; a file of people asks for the same words again and again."""

Words = Annotated[str, Field(min_length=1, max_length=80)]


class OfferWords(Value):
    """A topic somebody can help with, in their own words or by its id."""

    topic: Words
    level: Depth = "use"


class SeekWords(Value):
    """A topic somebody wants to learn about, in their own words or by its id."""

    topic: Words
    priority: Annotated[int, Field(ge=1, le=3)] = 2


def offers_of(words: Iterable[OfferWords]) -> tuple[Offer, ...]:
    """Those that the taxonomy knows, each topic once (the first mention counts), in the order given."""
    found: dict[str, Offer] = {}
    for one in words:
        if (topic := resolve(one.topic)) is not None and topic not in found:
            found[topic] = Offer(topic=topic, level=one.level)
    return tuple(found.values())


def seeks_of(words: Iterable[SeekWords]) -> tuple[Seek, ...]:
    """As ``offers_of``, for what is sought."""
    found: dict[str, Seek] = {}
    for one in words:
        if (topic := resolve(one.topic)) is not None and topic not in found:
            found[topic] = Seek(topic=topic, priority=one.priority)
    return tuple(found.values())


def unknown(words: Iterable[OfferWords | SeekWords]) -> tuple[str, ...]:
    """The words that the taxonomy does not know."""
    return tuple(dict.fromkeys(one.topic for one in words if resolve(one.topic) is None))
