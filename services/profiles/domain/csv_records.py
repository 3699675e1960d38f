"""A CSV file, in pieces as it was uploaded, cut into its records: never more than one record is held in memory.

Quoted fields may span lines (RFC 4180). A quote that is never closed, or is closed by another stray one far below, must
not swallow the good rows between: what spans lines is one record only when it reads as one, with as many fields as
there are columns, and lines are broken only in columns that nobody reads; otherwise its first line stands alone and the
search goes on at the next. A line over the limit is passed over and reported.
"""

import csv
from collections.abc import Collection, Iterator
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

    The first record is the header; fields of its columns among ``in_one_line`` never span lines.
    """

    def __init__(self, limit: int = LIMIT, in_one_line: Collection[str] = ()) -> None:
        self._limit = limit
        self._in_one_line = in_one_line
        self._rest = b""
        self._line = 1
        self._skipping = False
        self._columns: list[str] | None = None

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
                self._columns = names(record.data)
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
                whole = self._reads_as_one(b"\n".join(lines[start : place + 1]))
                return place + 1 if whole else start + 1
        return start + 1 if final or size + len(self._rest) > self._limit else None

    def _reads_as_one(self, data: bytes) -> bool:
        fields = _fields(data)
        if fields is None or self._columns is None:
            return fields is not None
        return len(fields) == len(self._columns) and not any(
            "\n" in text and name in self._in_one_line for name, text in zip(self._columns, fields, strict=True)
        )

    def _record(self, lines: list[bytes]) -> Record:
        data = lines[0] if len(lines) == 1 else b"\n".join(lines)
        if len(data) > self._limit:
            return Record(self._line, data[: self._limit], whole=False)
        return Record(self._line, data.removesuffix(b"\r"))


def names(header: bytes) -> list[str]:
    """The columns of a header row; none when it cannot be read."""
    text = header.removeprefix(b"\xef\xbb\xbf")
    return [name.strip().lower() for name in _fields(text) or ()]


def _fields(data: bytes) -> list[str] | None:
    """The fields of one record, or None when this is not one valid record."""
    try:
        rows = list(csv.reader([data.decode("latin-1")], strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
