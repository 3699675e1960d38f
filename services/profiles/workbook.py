"""Excel workbooks: the rows of the first visible sheet as records, as if it had been saved as CSV.

python-calamine reads the file; it expands no entities and runs no formulas. A workbook is a zip archive. So it is
unpacked piece by piece before, and refused when it grows beyond a limit.
"""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime

from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum

from services.profiles.domain.csv_splitter import MAX_RECORD_BYTES, CsvRecord

MAX_UNPACKED_BYTES = 256 * 1024 * 1024  # of all parts of a workbook
MAX_TITLE_ROWS = 10  # before the header, as reports have them
MIN_HEADER_CELLS = 3
_MAGIC = b"PK\x03\x04"
_PIECE_BYTES = 1024 * 1024


class UnreadableWorkbook(Exception):
    """The file is no workbook that can be read. ``code`` and the text tell why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_workbook(start: bytes) -> bool:
    """Whether a file that begins like this is a workbook: CSV never begins with the signature of an archive."""
    return start.startswith(_MAGIC)


def read_workbook(content: bytes) -> Iterator[CsvRecord]:
    """The records of the first visible sheet, beginning with the header. ``line`` is the row in the sheet.

    Raises ``UnreadableWorkbook``.
    """
    _check_size(content)
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
        visible = [sheet.name for sheet in workbook.sheets_metadata if sheet.visible == SheetVisibleEnum.Visible]
        if not visible:
            raise UnreadableWorkbook("no_sheet", "the workbook has no visible sheet")
        sheet = workbook.get_sheet_by_name(visible[0])
        first_row = sheet.start[0] if sheet.start is not None else 0
        rows = [[_as_text(cell) for cell in row] for row in sheet.iter_rows()]
    except CalamineError:
        raise UnreadableWorkbook("not_readable", "the workbook cannot be read; save it anew, or as CSV") from None
    numbered = [(first_row + number, row) for number, row in enumerate(rows, 1)]
    yield from _write_records(numbered[_find_header(rows) :])


def _check_size(content: bytes) -> None:
    """Unpack everything once and count: the sizes that an archive states can be wrong."""
    unpacked = 0
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for part in archive.infolist():
                with archive.open(part) as file:
                    while piece := file.read(_PIECE_BYTES):
                        unpacked += len(piece)
                        if unpacked > MAX_UNPACKED_BYTES:
                            raise UnreadableWorkbook("too_large", "the unpacked workbook exceeds the size limit")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise UnreadableWorkbook("not_readable", "the workbook is damaged or encrypted; save it anew") from error


def _find_header(rows: Sequence[Sequence[str]]) -> int:
    """The index of the header: a report may have a title above it."""
    for index, row in enumerate(rows[:MAX_TITLE_ROWS]):
        if sum(bool(cell.strip()) for cell in row) >= MIN_HEADER_CELLS:
            return index
    return 0


def _write_records(rows: Iterable[tuple[int, list[str]]]) -> Iterator[CsvRecord]:
    width = 0
    for line, row in rows:
        filled = len(row)
        while filled and not row[filled - 1].strip():
            filled -= 1
        if not filled:
            continue
        width = width or filled
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow([*row[: max(width, filled)], *[""] * (width - len(row))])
        data = text.getvalue().encode("utf-8", "replace")
        yield CsvRecord(line, data[:MAX_RECORD_BYTES], is_complete=len(data) <= MAX_RECORD_BYTES)


def _as_text(cell: object) -> str:
    match cell:
        case None:
            return ""
        case datetime():
            return cell.date().isoformat()
        case date():
            return cell.isoformat()
        case float() if cell.is_integer():
            return str(int(cell))
    return str(cell)
