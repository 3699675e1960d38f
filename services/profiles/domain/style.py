"""How somebody likes to think and work: eight statements, four dimensions.

Each dimension is asked by two opposite statements on a scale from -2 to +2; it is half their difference, which cancels
the habit of saying yes to everything. Any statement may be skipped, and then its dimension is not known.
"""

from typing import Annotated, Literal

from pydantic import Field

from contracts.envelope import Instant
from contracts.profiles import Style
from services.profiles.domain.base import Value

Statement = Literal[
    "candour_plain",
    "candour_gentle",
    "pace_try",
    "pace_plan",
    "change_enjoy",
    "change_proven",
    "debate_lively",
    "debate_common",
]

VERSION = "1"
WORDS: dict[Statement, str] = {
    "candour_plain": "I prefer to hear criticism plainly.",
    "candour_gentle": "I prefer criticism to be put gently.",
    "pace_try": "I like to try an idea early.",
    "pace_plan": "I like to plan in detail before I begin.",
    "change_enjoy": "I enjoy changing how things are done.",
    "change_proven": "I prefer methods that have proved themselves.",
    "debate_lively": "I enjoy a lively disagreement.",
    "debate_common": "I look for common ground first.",
}


class Statements(Value):
    """The answers, with the version of the wording and the language in which they were read."""

    version: Annotated[str, Field(max_length=16)] = VERSION
    language: Annotated[str, Field(max_length=35)] = "en"
    answers: dict[Statement, Annotated[int, Field(ge=-2, le=2)] | None] = Field(default_factory=dict)
    at: Instant | None = None


def style_of(statements: Statements | None) -> Style:
    """The four dimensions; one of them is None where either of its statements was skipped."""
    if statements is None:
        return Style()
    answers = statements.answers

    def half(first: Statement, second: Statement) -> float | None:
        a, b = answers.get(first), answers.get(second)
        return None if a is None or b is None else (a - b) / 2

    return Style(
        candour=half("candour_plain", "candour_gentle"),
        pace=half("pace_try", "pace_plan"),
        change=half("change_enjoy", "change_proven"),
        debate=half("debate_lively", "debate_common"),
    )
