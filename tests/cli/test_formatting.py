"""Numbers and lists, as they are spoken."""

import pytest

from cli.formatting import format_ordinal, join_words


@pytest.mark.parametrize(("number", "word"), [(1, "first"), (10, "tenth"), (11, "11th"), (21, "21st"), (112, "112th")])
def test_ordinals(number: int, word: str) -> None:
    assert format_ordinal(number) == word


@pytest.mark.parametrize(
    ("parts", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists_read_as_they_are_spoken(parts: list[str], text: str) -> None:
    assert join_words(parts) == text
