"""The questions of a check-in: data in ``questions.toml``, versioned, in several languages.

An answer is a number from 1 to 5, or None for "cannot say". A *reversed* item is turned round when it is compared, so
that more is always better. There is no sum and no mean over items: each says something of its own.
"""

import tomllib
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import InvalidCommand

LOWEST, HIGHEST = 1, 5
LOW = 2  # coded answers up to here bring advice
DEFAULT_LANGUAGE = "en"

Rating = Annotated[int, Field(ge=LOWEST, le=HIGHEST)]
Translations = Mapping[str, str]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuestionItem(_Data):
    """One statement. ``baseline``: asked on day 0 too; ``care``: whether a low answer brings advice."""

    id: str
    en: str
    de: str
    baseline: bool = False
    reversed: bool = False
    care: bool = True
    advice: Translations = Field(default_factory=dict)

    def coded_answer(self, answer: int | None) -> int | None:
        """The answer so that more is better."""
        if answer is None:
            return None
        return LOWEST + HIGHEST - answer if self.reversed else answer

    def text(self, language: str) -> str:
        return self.de if language == "de" else self.en


class Questions(_Data):
    """One version of all that is asked and answered in words."""

    version: str
    answers: Mapping[str, int]
    scale: Mapping[str, Translations]
    call_me: Translations
    pulse: Mapping[str, Translations]
    items: tuple[QuestionItem, ...]
    around: Mapping[str, Translations]

    @cached_property
    def by_id(self) -> Mapping[str, QuestionItem]:
        return {item.id: item for item in self.items}

    def items_at(self, milestone: str) -> tuple[QuestionItem, ...]:
        """Before they have met only what is about oneself."""
        return tuple(item for item in self.items if item.baseline or milestone != "day_0")

    def validate_answers(self, milestone: str, answers: Mapping[str, int | None]) -> dict[str, int | None]:
        """The answers, where each belongs to a question of this milestone. Raises ``InvalidCommand``."""
        known = {item.id for item in self.items_at(milestone)}
        if not set(answers) <= known:
            raise InvalidCommand("unknown_question", "There is an answer to a question that was not asked.")
        return {id: answers.get(id) for id in sorted(known)}


def nearest_language(tag: str | None) -> str:
    """The nearest language that there are words in."""
    found = (tag or DEFAULT_LANGUAGE).split("-")[0].lower()
    return found if found in load_questions().scale else DEFAULT_LANGUAGE


def translate(of: Translations, language: str) -> str:
    return of.get(language) or of[DEFAULT_LANGUAGE]


@cache
def load_questions() -> Questions:
    """The questions that are asked now."""
    text = files("services.feedback").joinpath("questions.toml").read_text(encoding="utf-8")
    return Questions.model_validate(tomllib.loads(text))
