"""How a person likes to think and work: eight statements about four dimensions.

Two opposite statements measure each dimension, on a scale from -2 to +2. The dimension is half their difference, which
cancels the habit of agreeing with everything. Any statement may be skipped; its dimension is unknown then.
"""

from typing import Annotated, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant
from contracts.profiles import Style

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

STATEMENTS_VERSION = "1"
STATEMENT_TEXTS: dict[Statement, str] = {
    "candour_plain": "I prefer to hear criticism plainly.",
    "candour_gentle": "I prefer criticism to be put gently.",
    "pace_try": "I like to try an idea early.",
    "pace_plan": "I like to plan in detail before I begin.",
    "change_enjoy": "I enjoy changing how things are done.",
    "change_proven": "I prefer methods that have proved themselves.",
    "debate_lively": "I enjoy a lively disagreement.",
    "debate_common": "I look for common ground first.",
}


class StatementAnswers(FrozenModel):
    """The answers, with the version of the statements and the language in which the person read them."""

    version: Annotated[str, Field(max_length=16)] = STATEMENTS_VERSION
    language: Annotated[str, Field(max_length=35)] = "en"
    answers: dict[Statement, Annotated[int, Field(ge=-2, le=2)] | None] = Field(default_factory=dict)
    at: Instant | None = None


def derive_style(statements: StatementAnswers | None) -> Style:
    """The four dimensions. A dimension is None when one of its statements was skipped."""
    if statements is None:
        return Style()
    answers = statements.answers

    def half_difference(first: Statement, second: Statement) -> float | None:
        a, b = answers.get(first), answers.get(second)
        return None if a is None or b is None else (a - b) / 2

    return Style(
        candour=half_difference("candour_plain", "candour_gentle"),
        pace=half_difference("pace_try", "pace_plan"),
        change=half_difference("change_enjoy", "change_proven"),
        debate=half_difference("debate_lively", "debate_common"),
    )
