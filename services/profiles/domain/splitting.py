"""A CSV file, in pieces as it was uploaded, cut into its records: never more than one record is held in memory.

Quoted fields may span lines (RFC 4180). A quote that is never closed, or is closed by another stray one far below, must
not swallow the good rows between: what spans lines is one record only when it reads as one, with as many fields as
there are columns; otherwise its first line stands alone and the search goes on at the next. A line over the limit is
passed over and reported.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

LIMIT = 64 * 1024  # bytes of one record


@dataclass(frozen=True, slots=True)
class Record:
    """One record. ``line`` is the file's line (from 1) on which it begins; ``whole`` is False when it was cut off."""

    line: int
    data: bytes
    whole: bool = True


class Splitter:
    """Feed it pieces in order, then ``close`` it; records come out as soon as they are complete.

    The first record is the header and says how many columns there are.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._rest = b""
        self._line = 1
        self._skipping = False
        self._columns: int | None = None

    def feed(self, piece: bytes) -> Iterator[Record]:
        self._rest += piece
        lines = self._rest.split(b"\n")
        self._rest = lines.pop()
        yield from self._cut(lines, final=False)
        if self._skipping:
            self._rest = b""
        elif len(self._rest) > self._limit and not self._rest[: self._limit].count(b"\n"):
            yield Record(self._line, self._rest[: self._limit], whole=False)
            self._skipping, self._rest = True, b""

    def close(self) -> Iterator[Record]:
        lines = self._rest.split(b"\n")
        if not lines[-1]:
            lines.pop()
        self._rest = b""
        yield from self._cut(lines, final=True)

    def _cut(self, lines: list[bytes], *, final: bool) -> Iterator[Record]:
        index = 0
        if self._skipping and lines:  # the end of a line whose beginning was too long
            self._skipping = False
            self._line += 1
            index = 1
        while index < len(lines):
            end = self._end(lines, index, final=final)
            if end is None:  # its last quote may be closed in a later piece
                self._rest = b"\n".join([*lines[index:], self._rest])
                return
            record = self._record(lines[index:end])
            if self._columns is None and record.whole:
                self._columns = len(_fields(record.data) or ())
            yield record
            self._line += end - index
            index = end

    def _end(self, lines: list[bytes], start: int, *, final: bool) -> int | None:
        """The line after the record that begins at ``start``; None when more of the file is needed to know."""
        if not lines[start].count(b'"') & 1 or len(lines[start]) > self._limit:
            return start + 1
        size = len(lines[start])
        for place in range(start + 1, len(lines)):
            size += len(lines[place]) + 1
            if size > self._limit:
                return start + 1
            if lines[place].count(b'"') & 1:
                fields = _fields(b"\n".join(lines[start : place + 1]))
                plausible = fields is not None and self._columns in (None, len(fields))
                return place + 1 if plausible else start + 1
        return start + 1 if final or size + len(self._rest) > self._limit else None

    def _record(self, lines: list[bytes]) -> Record:
        data = lines[0] if len(lines) == 1 else b"\n".join(lines)
        if len(data) > self._limit:
            return Record(self._line, data[: self._limit], whole=False)
        return Record(self._line, data.removesuffix(b"\r"))


def _fields(data: bytes) -> list[str] | None:
    """The fields of one record, or None when this is not one valid record."""
    try:
        rows = list(csv.reader([data.decode("latin-1")], strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
