"""How a file of people is written: its encoding, its line ends and its separator. Nobody has to edit a file for this.

Excel saves with semicolons where a comma is the decimal sign, and in Windows-1252 unless told otherwise. Other programs
write UTF-16, or end lines with CR alone. The whole file is looked at once before it is read, piece by piece.
"""

import codecs
from dataclasses import dataclass

UTF_8, UTF_16_LE, UTF_16_BE, WINDOWS_1252 = "utf-8", "utf-16-le", "utf-16-be", "cp1252"
SEPARATORS = (",", ";", "\t", "|")
UNREADABLE = "\ufffd"
_BOMS = ((codecs.BOM_UTF8, UTF_8), (codecs.BOM_UTF16_LE, UTF_16_LE), (codecs.BOM_UTF16_BE, UTF_16_BE))
_UNDEFINED_IN_1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")


@dataclass(frozen=True)
class Dialect:
    """``has_lf``: False when lines end with CR alone."""

    encoding: str = UTF_8
    has_lf: bool = True


class DialectSurvey:
    """Call ``feed`` for each piece of the file, then ``dialect``."""

    def __init__(self) -> None:
        self._start = b""
        self._decoder = codecs.getincrementaldecoder(UTF_8)("surrogateescape")
        self._letters = 0  # of several bytes, in UTF-8
        self._invalid = 0  # bytes that are not UTF-8
        self._has_undefined = False  # a byte that Windows-1252 does not know
        self._has_lf = False

    def feed(self, piece: bytes) -> None:
        if len(self._start) < 4096:
            self._start += piece[:4096]
        self._has_lf = self._has_lf or b"\n" in piece
        self._count(self._decoder.decode(piece))
        self._has_undefined = self._has_undefined or not _UNDEFINED_IN_1252.isdisjoint(piece)

    def dialect(self) -> Dialect:
        self._count(self._decoder.decode(b"", final=True))
        return Dialect(self._encoding(), self._has_lf)

    def _count(self, text: str) -> None:
        if text.isascii():
            return
        invalid = sum("\udc80" <= letter <= "\udcff" for letter in text)
        self._invalid += invalid
        self._letters += sum(letter > "\x7f" for letter in text) - invalid

    def _encoding(self) -> str:
        for bom, encoding in _BOMS:
            if self._start.startswith(bom):
                return encoding
        even, odd = self._start[::2].count(0), self._start[1::2].count(0)
        if max(even, odd) > len(self._start) / 8 and min(even, odd) == 0:
            return UTF_16_LE if odd else UTF_16_BE
        # One damaged letter among good ones is a damaged row. Without any good one, it is the other encoding.
        is_1252 = self._invalid > self._letters and not self._has_undefined
        return WINDOWS_1252 if is_1252 else UTF_8


class Translator:
    """Turns the pieces of a file into UTF-8 with lines that end with LF. Faults stay for the reader of the rows."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._decoder = codecs.getincrementaldecoder(dialect.encoding)("replace")

    def feed(self, piece: bytes, *, final: bool = False) -> bytes:
        if self._dialect.encoding != UTF_8:
            piece = self._decoder.decode(piece, final).removeprefix("\ufeff").encode()
        return piece if self._dialect.has_lf else piece.replace(b"\r", b"\n")


def find_separator(header: str) -> str:
    """The separator that occurs most often in the header row, outside of quotes; a comma if none occurs."""
    outside = "".join(part for number, part in enumerate(header.split('"')) if number % 2 == 0)
    return max(SEPARATORS, key=lambda separator: (outside.count(separator), -SEPARATORS.index(separator)))
