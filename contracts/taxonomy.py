"""The topics that people offer and seek: a small tree with names and synonyms.

Profiles maps typed words to topics. The matcher counts a related topic in part, and names topics in its reasons.
"""

import tomllib
import unicodedata
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

PARENT = 0.5  # one of the two topics contains the other
SIBLING = 0.3  # both have the same parent topic

TopicId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]


class SubjectTopic(BaseModel):
    """One topic. Without a parent it is an area."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: TopicId
    name: Annotated[str, Field(min_length=1, max_length=80)]
    parent: TopicId | None = None
    aliases: tuple[str, ...] = ()


class Taxonomy(BaseModel):
    """All topics. Raises ``ValueError`` if an id or a word occurs twice, or a parent is unknown or in a cycle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topics: tuple[SubjectTopic, ...]

    @model_validator(mode="after")
    def _is_a_tree(self) -> "Taxonomy":
        parents = {topic.id: topic.parent for topic in self.topics}
        if len(parents) != len(self.topics):
            raise ValueError("a topic id occurs twice")
        for topic in self.topics:
            seen = {topic.id}
            above = topic.parent
            while above is not None:
                if above not in parents or above in seen:
                    raise ValueError(f"the parents of {topic.id} lead nowhere or in a circle")
                seen.add(above)
                above = parents[above]
        _words(self.topics)
        return self

    @cached_property
    def by_id(self) -> Mapping[str, SubjectTopic]:
        return {topic.id: topic for topic in self.topics}

    @cached_property
    def by_word(self) -> Mapping[str, str]:
        """Topic ids by each of their words, in the form that ``resolve`` compares."""
        return _words(self.topics)

    def name(self, id: str) -> str:
        """The name of the topic; for an unknown topic, its id as words."""
        topic = self.by_id.get(id)
        return topic.name if topic else id.replace("-", " ")

    def resolve(self, text: str) -> str | None:
        """The topic of ``text``: an id, a name or an alias, in any case. None if it is unknown."""
        return self.by_word.get(_word(text))

    @cached_property
    def near(self) -> Mapping[str, Mapping[str, float]]:
        """For each topic the topics that are ``related`` to it, with the degree."""
        return {
            topic: {other: share for other in self.by_id if (share := self.related(topic, other)) > 0}
            for topic in self.by_id
        }

    def related(self, a: str, b: str) -> float:
        """How much knowledge of ``a`` helps a member who seeks ``b``, from 0 to 1; symmetric."""
        if a == b:
            return 1.0
        topics = self.by_id
        first, second = topics.get(a), topics.get(b)
        if first is None or second is None:
            return 0.0
        if b == first.parent or a == second.parent:
            return PARENT
        if first.parent is not None and first.parent == second.parent:
            return SIBLING
        return 0.0


def _word(text: str) -> str:
    """``text`` in the form that is compared: one case, hyphens as spaces, single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("-", " ").replace("_", " ")
    return " ".join(folded.split())


def _words(topics: tuple[SubjectTopic, ...]) -> dict[str, str]:
    words: dict[str, str] = {}
    for topic in topics:
        for word in {_word(text) for text in (topic.id, topic.name, *topic.aliases)}:
            if words.setdefault(word, topic.id) != topic.id:
                raise ValueError(f"{word!r} stands for both {words[word]} and {topic.id}")
    return words


@cache
def load() -> Taxonomy:
    """The taxonomy that is part of the product."""
    with files("contracts").joinpath("topics.toml").open("rb") as file:
        return Taxonomy.model_validate(tomllib.load(file))


def resolve(text: str) -> str | None:
    """``load().resolve``."""
    return load().resolve(text)


def related(a: str, b: str) -> float:
    """``load().related``."""
    return load().related(a, b)
