"""The questions of a check-in: versioned data in ``questions.toml``, in several languages.

An answer is a number from 1 to 5, or None for "cannot say". A *reversed* item is turned round before it is compared, so
that more is always better. There is no sum and no mean over items, because each item has its own meaning.
"""

import tomllib
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import InvalidCommand

MIN_RATING, MAX_RATING = 1, 5
LOW_RATING = 2  # coded answers up to this bring advice
DEFAULT_LANGUAGE = "en"

Rating = Annotated[int, Field(ge=MIN_RATING, le=MAX_RATING)]
Translations = Mapping[str, str]


class _QuestionsModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuestionItem(_QuestionsModel):
    """One statement. ``baseline``: asked on day 0 too. ``care``: whether a low answer brings advice."""

    id: str
    en: str
    de: str
    baseline: bool = False
    reversed: bool = False
    care: bool = True
    advice: Translations = Field(default_factory=dict)

    def coded_answer(self, answer: int | None) -> int | None:
        """The answer on a scale on which more is better."""
        if answer is None:
            return None
        return MIN_RATING + MAX_RATING - answer if self.reversed else answer

    def text(self, language: str) -> str:
        return self.de if language == "de" else self.en


class Questions(_QuestionsModel):
    """One version of all questions and texts. ``around``: the sentences around the advice."""

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

    def items_at(self, milestone: str, *, have_met: bool = True) -> tuple[QuestionItem, ...]:
        """The items of one check-in. Before the two have met, only items about oneself are asked."""
        return tuple(item for item in self.items if item.baseline or (have_met and milestone != "day_0"))

    def validate_answers(self, milestone: str, answers: Mapping[str, int | None]) -> dict[str, int | None]:
        """The answer to each item of this milestone.

        Raises ``InvalidCommand`` when there is an answer to another item.
        """
        ids = {item.id for item in self.items_at(milestone)}
        if not set(answers) <= ids:
            raise InvalidCommand("unknown_question", "There is an answer to a question that was not asked.")
        return {id: answers.get(id) for id in sorted(ids)}


def nearest_language(tag: str | None) -> str:
    """The language of a BCP 47 tag if there are texts in it, otherwise English."""
    language = (tag or DEFAULT_LANGUAGE).split("-")[0].lower()
    return language if language in load_questions().scale else DEFAULT_LANGUAGE


def translate(texts: Translations, language: str) -> str:
    return texts.get(language) or texts[DEFAULT_LANGUAGE]


@cache
def load_questions() -> Questions:
    """The current version of the questions."""
    text = files("services.feedback").joinpath("questions.toml").read_text(encoding="utf-8")
    return Questions.model_validate(tomllib.loads(text))
