"""The text border: which text may come in, and how text is written to a terminal, into a log or into a mail header.

Every place where text enters uses the same functions: HTTP paths, queries, headers and bodies, claims of tokens, cells
of CSV files, headers and keys of records. So no later step meets a character that it cannot store, print or send.

Refused are control characters (C0, DEL, C1), line separators, characters that change the direction of writing, lone
surrogates and noncharacters. Line breaks and tabs are legal in texts of several lines only. Joiners (ZWJ, ZWNJ) are
legal: words of many languages need them.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

Fault: TypeAlias = Literal["control", "line_break", "direction", "surrogate", "noncharacter", "too_long"]

MAX_TEXT_CHARACTERS: Final = 4000
"""No text of a request is longer, whatever its field allows."""
MAX_NAME_CHARACTERS: Final = 255
"""No id, key or name of a field is longer."""

_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
_CLASSES: Mapping[Fault, str] = {
    "control": "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f",
    "line_break": "\t\n\r\u2028\u2029",
    "direction": "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069",
    "surrogate": "\ud800-\udfff",
    "noncharacter": _NONCHARACTERS,
}
_PATTERNS = {fault: re.compile(f"[{characters}]") for fault, characters in _CLASSES.items()}
_UNSAFE_IN_LINE = re.compile("[" + "".join(_CLASSES.values()) + "]")
_UNSAFE_ON_TERMINAL = re.compile("[\r" + "".join(_CLASSES.values()).replace("\t\n\r", "") + "]")
_UNSAFE_IN_LINES = re.compile("[" + "".join(_CLASSES.values()).replace("\t\n\r", "") + "]")
_URL = re.compile(r"://|\bwww\.|\b(?:mailto|javascript|data):\S", re.IGNORECASE)
_LINK = re.compile(
    r"://|www\.(?=\S)|@|[<>]|\b(?:mailto|tel|javascript|data):(?=\S)|(?<=\w)[.\u3002](?=[^\W\d_]{2,}|\d)", re.IGNORECASE
)
FAULT_MESSAGES: Mapping[Fault, str] = {
    "control": "contains a control character",
    "line_break": "contains a line break or a tab, but must be on one line",
    "direction": "contains a character that changes the direction of writing",
    "surrogate": "contains half of a surrogate pair",
    "noncharacter": "contains a code point that is not a character",
    "too_long": "is too long",
}


class SeveralLines:
    """Marks the field of a free text in which line breaks are legal: ``Annotated[str, SEVERAL_LINES]``."""


SEVERAL_LINES: Final = SeveralLines()


class UnsafeText(ValueError):
    """A text must not come in. ``fault`` is stable; the message says what is wrong and never repeats the text."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(FAULT_MESSAGES[fault])
        self.fault = fault


def find_fault(text: str, *, several_lines: bool = False, max_characters: int = MAX_TEXT_CHARACTERS) -> Fault | None:
    """Why this text must not come in; None when it may."""
    if len(text) > max_characters:
        return "too_long"
    match = (_UNSAFE_IN_LINES if several_lines else _UNSAFE_IN_LINE).search(text)
    if match is None:
        return None
    return next(fault for fault, pattern in _PATTERNS.items() if pattern.match(match[0]))


def require_safe(text: str, *, several_lines: bool = False, max_characters: int = MAX_TEXT_CHARACTERS) -> str:
    """The text itself. Raises ``UnsafeText``."""
    fault = find_fault(text, several_lines=several_lines, max_characters=max_characters)
    if fault is not None:
        raise UnsafeText(fault)
    return text


def escape_unsafe(text: str) -> str:
    r"""The text for a terminal: what could steer it is shown, as ``\u009b``. Line feeds and tabs stay."""
    return _UNSAFE_ON_TERMINAL.sub(_escape_character, text)


def plain_line(text: str) -> str:
    """The text on one line, for a mail header: unsafe characters and runs of white space become one blank."""
    return " ".join(_UNSAFE_IN_LINE.sub(" ", text).split())


def has_url(name: str) -> bool:
    """Whether the name contains the address of a web page. Such a name is refused."""
    return _URL.search(unicodedata.normalize("NFKC", name)) is not None


def has_link(name: str) -> bool:
    """Whether a mail program could make a link of a part of this name. Names of people may look so: ``Dr.Meyer``."""
    return _LINK.search(unicodedata.normalize("NFKC", name)) is not None


def without_links(name: str) -> str:
    """The name on one line, for a mail to somebody else. Every program shows it as text: no part of it is a link."""
    return (
        plain_line(_LINK.sub(_break_link, unicodedata.normalize("NFKC", name))) if has_link(name) else plain_line(name)
    )


def _break_link(match: re.Match[str]) -> str:
    """A blank in place of the characters that make a link, or after them where they belong to a name."""
    return " " if match[0] in ("://", "@", "<", ">") else f"{match[0][:-1]}{match[0][-1]} "


def safe_json(value: Any, *, indent: int | None = None) -> str:
    """JSON that may be shown on a terminal: unsafe characters are escaped, as JSON itself allows."""
    return escape_unsafe(json.dumps(value, ensure_ascii=False, indent=indent))


def walk_leaves(value: object) -> Iterator[tuple[tuple[str | int, ...], object, bool]]:
    """All names and plain values of a JSON value, at any depth: path, leaf, and whether it is the name of a field."""
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), value)]
    while waiting:  # no recursion: the depth is the sender's choice
        path, inner = waiting.pop()
        if isinstance(inner, Mapping):
            for name, item in inner.items():
                yield path, name, True
                waiting.append(((*path, name), item))
        elif isinstance(inner, list | tuple):
            waiting.extend(((*path, index), item) for index, item in enumerate(inner))
        else:
            yield path, inner, False


def _escape_character(match: re.Match[str]) -> str:
    r"""As in JSON: ``\uXXXX``, and a pair of them beyond the first plane."""
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
