"""The bytes of a mail. Headers and body are ASCII in short lines, so that every server takes them as they are.

The headers are written here, not by ``email.message``. In Python 3.11 to 3.13 its folding has faults that a name from
HR's file can reach:

* A long quoted name loses its quotation marks when it is folded: a comma or an address inside of it becomes another
  recipient (python/cpython issues 80222 and 121284).
* The blank between two words is lost where the line is folded between two encoded words (issues 92081 and 144156).
* An ASCII name that looks like an encoded word is sent as it is, and is decoded to something else by the reader.

Here a name or a subject in ASCII is written as it is, a name in quotation marks where it needs them. It is folded at
its own blanks. Any other text is encoded as a whole. Blanks between encoded words are no part of the text (RFC 2047,
6.2). Python's own parser shows one all the same in a name, so the text is cut before a blank where there is one.
"""

import quopri
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.utils import format_datetime
from typing import Final

from contracts.email_address import EmailAddress
from contracts.text import plain_line

MAX_LINE: Final = 78  # RFC 5322, 2.1.1
MAX_WORD: Final = 70  # a longer one cannot be folded, so it is encoded
MAX_BODY_LINE: Final = 76
ENCODED_WORD_BYTES: Final = 39  # of UTF-8 in one encoded word; 52 in base64, 64 with its frame (75 are allowed)

_ASCII_TEXT = re.compile(r"[\x20-\x7e]*")
_ATOMS = re.compile(r"[A-Za-z0-9'-]+(?: [A-Za-z0-9'-]+)*")


def mailbox(name: str, address: EmailAddress) -> str:
    """One mailbox (RFC 5322, 3.4): a display name and an address. Exactly one, whatever the name contains."""
    line = plain_line(name)
    if not line:
        return f"<{address}>"
    if _is_plain(line):
        phrase = line if _ATOMS.fullmatch(line) else '"' + re.sub(r'(["\\])', r"\\\1", line) + '"'
        return f"{_fold(phrase)}\r\n <{address}>"
    return f"{_encode(line)}\r\n <{address}>"


def unstructured(text: str) -> str:
    """The value of a header such as ``Subject``."""
    line = plain_line(text)
    return _fold(line) if _is_plain(line) else _encode(line)


def message_bytes(headers: Sequence[tuple[str, str]], text: str) -> bytes:
    """A whole mail with this plain text. The values of the headers are encoded already."""
    encoding, body = _encode_body(text)
    fields = [
        *headers,
        ("MIME-Version", "1.0"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Transfer-Encoding", encoding),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return head.encode() + b"\r\n" + body


def date_value(at: datetime) -> str:
    return format_datetime(at)


def _is_plain(line: str) -> bool:
    """Whether the text can be written as it is, on lines that are short enough."""
    is_short = all(len(word) <= MAX_WORD for word in line.split(" "))
    return is_short and "=?" not in line and _ASCII_TEXT.fullmatch(line) is not None


def _fold(text: str) -> str:
    """Break lines before blanks. The blank stays: it begins the next line."""
    lines, room = [""], MAX_LINE - len("Subject: ")
    for position, word in enumerate(text.split(" ")):
        if position and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
            room = MAX_LINE
        lines[-1] += f" {word}" if position else word
    return "\r\n".join(lines)


def _encode(line: str) -> str:
    return "\r\n ".join(_encoded_words(line))


def _encoded_words(text: str) -> Iterator[str]:
    """Encoded words (RFC 2047). None of them cuts a character in two."""
    part = ""
    for piece in _pieces(text):
        if part and len((part + piece).encode()) > ENCODED_WORD_BYTES:
            yield _encoded_word(part.encode())
            part = ""
        part += piece
    yield _encoded_word(part.encode())


def _pieces(text: str) -> Iterator[str]:
    """The words of the text, each with the blank before it; a word that is too long, by its characters."""
    for word in re.findall(r" ?[^ ]+", text):
        if len(word.encode()) <= ENCODED_WORD_BYTES:
            yield word
        else:
            yield from word


def _encoded_word(part: bytes) -> str:
    return f"=?utf-8?B?{b64encode(part).decode('ascii')}?="


def _encode_body(text: str) -> tuple[str, bytes]:
    """The transfer encoding and the body. It is never 8-bit: a later server on the way may not take that either."""
    lines = text.splitlines()
    if text.isascii() and all(len(line) <= MAX_BODY_LINE and line == line.rstrip() for line in lines):
        body, encoding = text.encode("ascii"), "7bit"
    else:
        body, encoding = quopri.encodestring(text.encode()), "quoted-printable"
    return encoding, b"".join(line + b"\r\n" for line in body.split(b"\n")[: -1 if body.endswith(b"\n") else None])
