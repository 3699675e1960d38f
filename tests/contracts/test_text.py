"""The text border: what is refused, what stays, and what a terminal or a mail header gets to see."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.text import escape_unsafe, find_fault, plain_line, safe_json, walk_leaves

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
DIRECTION = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_unsafe(character: str) -> bool:
    """By Unicode's own categories, as a second opinion."""
    is_noncharacter = ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or is_noncharacter or character in DIRECTION


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("a\x1fb", "control"),
            ("a\x00", "control"),
            ("\x7f", "control"),
            ("\x9b2J", "control"),
            ("a\nb", "line_break"),
            ("a\tb", "line_break"),
            ("a\u2028b", "line_break"),
            ("\u202eevil", "direction"),
            ("\u2066x", "direction"),
            ("\ud800", "surrogate"),
            ("\ufffe", "noncharacter"),
            ("\U0010ffff", "noncharacter"),
            ("a" * 5000, "too_long"),
        ],
    )
    def test_each_kind_is_named(self, text: str, fault: str) -> None:
        assert find_fault(text) == fault

    @pytest.mark.parametrize("text", ["", "Zoë O'Neil", "می‌خواهم", "क्‍ष", "👩‍💻", "\u00a0", "naïve — “ok”", "\ufffd"])
    def test_words_of_every_language_pass(self, text: str) -> None:
        assert find_fault(text) is None

    def test_line_breaks_pass_in_texts_of_several_lines(self) -> None:
        assert find_fault("first\r\n\tsecond", several_lines=True) is None
        assert find_fault("first\u2028second", several_lines=True) == "line_break"
        assert find_fault("first\x0bsecond", several_lines=True) == "control"

    @given(ANY_TEXT)
    def test_a_line_is_refused_for_exactly_the_unsafe_characters(self, text: str) -> None:
        assert (find_fault(text) is not None) == any(map(is_unsafe, text))


class TestOutput:
    @given(ANY_TEXT)
    def test_nothing_that_steers_reaches_a_terminal(self, text: str) -> None:
        shown = escape_unsafe(text)
        assert not any(is_unsafe(character) for character in shown if character not in "\n\t")
        assert escape_unsafe(shown) == shown
        shown.encode()

    @given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=8))
    def test_json_says_the_same_and_is_safe(self, value: object) -> None:
        text = safe_json(value)
        assert json.loads(text) == json.loads(json.dumps(value))
        assert not any(map(is_unsafe, text))

    @given(ANY_TEXT)
    def test_a_mail_header_gets_one_safe_line(self, text: str) -> None:
        line = plain_line(text)
        assert len(line.splitlines()) <= 1
        assert not any(map(is_unsafe, line))

    def test_a_terminal_sees_the_escape_and_not_its_effect(self) -> None:
        assert escape_unsafe("\x1b[2J\x9b1A\rname") == "\\u001b[2J\\u009b1A\\u000dname"


class TestWalk:
    @given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=8))
    def test_finds_every_text_at_any_depth(self, value: object) -> None:
        def texts(inner: object) -> list[str]:
            if isinstance(inner, dict):
                return [text for name, item in inner.items() for text in (name, *texts(item))]
            return [text for item in inner for text in texts(item)] if isinstance(inner, list) else [str(inner)]

        assert sorted(str(leaf) for _, leaf, _ in walk_leaves(value)) == sorted(texts(value))

    def test_depth_is_the_senders_choice(self) -> None:
        deep: object = "x"
        for _ in range(50_000):
            deep = [deep]
        assert [leaf for _, leaf, _ in walk_leaves(deep)] == ["x"]
