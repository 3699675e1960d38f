"""Topics that a person offers or seeks, as they were entered and as the taxonomy resolves them.

A text that the taxonomy does not know is stored and reported to the maintainers of the taxonomy. It is never published.
It counts as soon as a later version of the taxonomy knows it.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from contracts import taxonomy
from contracts.base import FrozenModel
from contracts.profiles import Depth, Offer, Seek

MAX_TOPICS = 30  # topics that a person may offer, and also seek; a longer list says nothing about them

resolve_topic = lru_cache(4096)(taxonomy.resolve)
"""The topic id for a text, or None. Cached, because the rows of a file repeat the same texts."""

TopicText = Annotated[str, Field(min_length=1, max_length=80)]


class OfferEntry(FrozenModel):
    """A topic that a person can help with, in their own words or by its id."""

    topic: TopicText
    level: Depth = "use"


class SeekEntry(FrozenModel):
    """A topic that a person wants to learn about, in their own words or by its id."""

    topic: TopicText
    priority: Annotated[int, Field(ge=1, le=3)] = 2


def resolve_offers(entries: Iterable[OfferEntry]) -> tuple[Offer, ...]:
    """The entries that the taxonomy knows, in order, each topic once (the first mention counts)."""
    offers: dict[str, Offer] = {}
    for entry in entries:
        if (topic := resolve_topic(entry.topic)) is not None and topic not in offers:
            offers[topic] = Offer(topic=topic, level=entry.level)
    return tuple(offers.values())


def resolve_seeks(entries: Iterable[SeekEntry]) -> tuple[Seek, ...]:
    """As ``resolve_offers``, for topics that are sought."""
    seeks: dict[str, Seek] = {}
    for entry in entries:
        if (topic := resolve_topic(entry.topic)) is not None and topic not in seeks:
            seeks[topic] = Seek(topic=topic, priority=entry.priority)
    return tuple(seeks.values())


def unknown_texts(entries: Iterable[OfferEntry | SeekEntry]) -> tuple[str, ...]:
    """The texts that the taxonomy does not know."""
    return tuple(dict.fromkeys(entry.topic for entry in entries if resolve_topic(entry.topic) is None))
