"""Formats of numbers and lists."""

import pytest

from cli.formatting import format_ordinal, join_words


class TestFormatting:
    @pytest.mark.parametrize(
        ("number", "word"), [(1, "first"), (10, "tenth"), (11, "11th"), (21, "21st"), (112, "112th")]
    )
    def test_ordinals(self, number: int, word: str) -> None:
        assert format_ordinal(number) == word

    @pytest.mark.parametrize(
        ("parts", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
    )
    def test_lists_are_joined_as_in_a_sentence(self, parts: list[str], text: str) -> None:
        assert join_words(parts) == text
