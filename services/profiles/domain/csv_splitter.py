"""Cuts an uploaded CSV file, which arrives in pieces, into records. Never more than one record is held in memory.

Quoted fields may span lines (RFC 4180). A stray quote must not swallow the good rows that follow it. So several lines
form one record only when they parse as one: with as many fields as there are columns, and with line breaks only in
columns that are not read. Otherwise the first line is a record of its own, and the search continues with the next line.
A line over the size limit is skipped and reported.
"""

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from services.profiles.domain.file_dialect import find_separator

MAX_RECORD_BYTES = 64 * 1024  # bytes of one record


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """One record. It begins on line ``line`` of the file (from 1). ``is_complete`` is False when it was cut off."""

    line: int
    data: bytes
    is_complete: bool = True
    separator: str = ","


class CsvSplitter:
    """Call ``feed`` for each piece in order, then ``close``. Each returns the records that are complete by then.

    The first record is the header. Fields of the columns in ``in_one_line`` never span lines.
    """

    def __init__(self, limit: int = MAX_RECORD_BYTES, in_one_line: Collection[str] = ()) -> None:
        self._limit = limit
        self._in_one_line = in_one_line
        self._rest = b""
        self._line = 1
        self._skipping = False
        self._columns: list[str] | None = None
        self._separator = ","

    def feed(self, piece: bytes) -> Iterator[CsvRecord]:
        self._rest += piece
        lines = self._rest.split(b"\n")
        self._rest = lines.pop()
        yield from self._cut_records(lines, final=False)
        if self._skipping:
            self._rest = b""
        elif len(self._rest) > self._limit and not self._rest[: self._limit].count(b"\n"):
            yield CsvRecord(self._line, self._rest[: self._limit], is_complete=False, separator=self._separator)
            self._skipping, self._rest = True, b""

    def close(self) -> Iterator[CsvRecord]:
        lines = self._rest.split(b"\n")
        if not lines[-1]:
            lines.pop()
        self._rest = b""
        yield from self._cut_records(lines, final=True)

    def _cut_records(self, lines: list[bytes], *, final: bool) -> Iterator[CsvRecord]:
        index = 0
        if self._skipping and lines:  # the rest of a line that was too long
            self._skipping = False
            self._line += 1
            index = 1
        while index < len(lines):
            end = self._find_end(lines, index, final=final)
            if end is None:  # a later piece may close the last quote
                self._rest = b"\n".join([*lines[index:], self._rest])
                return
            if self._columns is None:
                self._separator = find_separator(lines[index].decode("latin-1"))
            record = self._build_record(lines[index:end])
            if self._columns is None and record.is_complete:
                self._columns = parse_column_names(record.data, self._separator)
            yield record
            self._line += end - index
            index = end

    def _find_end(self, lines: list[bytes], start: int, *, final: bool) -> int | None:
        """The index after the record that begins at ``start``; None when this needs more of the file."""
        if not lines[start].count(b'"') & 1 or len(lines[start]) > self._limit:
            return start + 1
        size = len(lines[start])
        for index in range(start + 1, len(lines)):
            size += len(lines[index]) + 1
            if size > self._limit:
                return start + 1
            if lines[index].count(b'"') & 1:
                is_record = self._is_one_record(b"\n".join(lines[start : index + 1]))
                return index + 1 if is_record else start + 1
        return start + 1 if final or size + len(self._rest) > self._limit else None

    def _is_one_record(self, data: bytes) -> bool:
        fields = _parse_fields(data, self._separator)
        if fields is None or self._columns is None:
            return fields is not None
        return len(fields) == len(self._columns) and not any(
            "\n" in text and name in self._in_one_line for name, text in zip(self._columns, fields, strict=True)
        )

    def _build_record(self, lines: list[bytes]) -> CsvRecord:
        data = lines[0] if len(lines) == 1 else b"\n".join(lines)
        if len(data) > self._limit:
            return CsvRecord(self._line, data[: self._limit], is_complete=False, separator=self._separator)
        return CsvRecord(self._line, data.removesuffix(b"\r"), separator=self._separator)


def parse_column_names(header: bytes, separator: str) -> list[str]:
    """The column names of a header row; an empty list when it cannot be parsed."""
    text = header.removeprefix(b"\xef\xbb\xbf")
    return [name.strip().lower() for name in _parse_fields(text, separator) or ()]


def _parse_fields(data: bytes, separator: str) -> list[str] | None:
    """The fields of one record; None when the data is not exactly one valid record."""
    try:
        rows = list(csv.reader([data.decode("latin-1")], strict=True, delimiter=separator))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
