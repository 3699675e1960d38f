"""What the runs of both kinds of import share: reading the file, the report, and saving one step after the other."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from chassis.core.commands import Op
from chassis.core.error_redaction import error_code
from chassis.core.ids import new_id
from chassis.messaging.consumer import is_transient
from chassis.storage.aggregates import KeyReused
from chassis.storage.outbox import EventTooLarge
from contracts.envelope import OutgoingEvent
from contracts.errors import CommandRejected
from services.profiles.domain import imports
from services.profiles.domain.csv_splitter import CsvRecord, CsvSplitter
from services.profiles.domain.file_dialect import Dialect, DialectSurvey, Translator
from services.profiles.domain.imports import HrImport
from services.profiles.domain.row_parser import Issue, is_blank
from services.profiles.store import Profiles
from services.profiles.workbook import is_workbook, read_workbook

log = logging.getLogger(__name__)

RENEW_AFTER = timedelta(seconds=10)  # a third of the lease

Step: TypeAlias = tuple[HrImport, list[OutgoingEvent]]


class ImportTakenOver(Exception):
    """Another replica has taken this import over, so this one stops working on it."""


class ImportRun:
    """The work of this replica on one import."""

    def __init__(self, profiles: Profiles, hr_import: HrImport, batch_rows: int) -> None:
        self.profiles = profiles
        self.hr_import = hr_import
        self._batch_rows = batch_rows
        self._renewed_at = profiles.clock.machine_now()
        self._dialect: Dialect | None = None

    def was_cancelled(self) -> bool:
        """Whether somebody has asked it to stop, as of the last saved step."""
        return self.hr_import.cancelled_by is not None

    def must_hold(self) -> bool:
        """Whether some rows wait for a release that was not given yet."""
        return bool(self.hr_import.held_lines) and self.hr_import.released_by is None

    async def read_batches(self, in_one_line: Iterable[str]) -> AsyncIterator[list[CsvRecord]]:
        """The records of the file in batches, beginning with the header. Blank lines are skipped.

        Fields of the columns in ``in_one_line`` never span lines.
        """
        batch: list[CsvRecord] = []
        async for record in self._read_records(tuple(in_one_line)):
            if not is_blank(record):
                batch.append(record)
            if len(batch) >= self._batch_rows:
                yield batch
                batch = []
                await asyncio.sleep(0)
        if batch:
            yield batch

    async def _read_records(self, in_one_line: Collection[str]) -> AsyncIterator[CsvRecord]:
        if is_workbook(await anext(self._read_upload(), b"")):
            content = b"".join([piece async for piece in self._read_upload()])
            for record in await asyncio.to_thread(lambda: list(read_workbook(content))):
                yield record
            return
        splitter = CsvSplitter(in_one_line=in_one_line)
        async for piece in self._read_translated():
            for record in splitter.feed(piece):
                yield record
        for record in splitter.close():
            yield record

    async def _read_translated(self) -> AsyncIterator[bytes]:
        """The pieces of the file, in UTF-8 with lines that end with LF."""
        translator = Translator(await self._find_dialect())
        async for piece in self._read_upload():
            yield translator.feed(piece)
        yield translator.feed(b"", final=True)

    async def _find_dialect(self) -> Dialect:
        if self._dialect is None:
            survey = DialectSurvey()
            async for piece in self._read_upload():
                survey.feed(piece)
            self._dialect = survey.dialect()
        return self._dialect

    def _read_upload(self) -> AsyncIterator[bytes]:
        return self.profiles.uploads.read(self.hr_import.upload_id, self.hr_import.chunks)

    def read_row(self, read: Callable[[CsvRecord], Any], record: CsvRecord) -> Any:
        """The row, or its problems. A row that the parser cannot handle is refused alone; the others go on."""
        try:
            return read(record)
        except Exception as error:  # noqa: BLE001 - whatever a row holds, it must not stop the others
            return [self.refuse_unknown(record.line, error)]

    def refuse_unknown(self, line: int, error: Exception) -> Issue:
        """The report of a row that failed. Raises the error again when it is not about the row."""
        if is_transient(error) or isinstance(error, KeyReused | ImportTakenOver):
            raise error
        if isinstance(error, EventTooLarge):
            return Issue(line, "", "too_large", "the data of this person exceeds a size limit; shorten the row")
        if isinstance(error, CommandRejected):
            return Issue(line, "", error_code(error) or "rejected", str(error))
        log.error("a row of an import failed and is refused: %s", type(error).__name__, exc_info=error)
        return Issue(line, "", "failed", "an unknown error refused this row; tell the operator this line")

    async def store_issues(self, issues: Sequence[Issue]) -> None:
        issues_on_line: dict[int, int] = {}
        documents = []
        for issue in issues:
            number = issues_on_line[issue.line] = issues_on_line.get(issue.line, 0) + 1
            documents.append(
                {
                    "_id": f"{self.hr_import.import_id}/{issue.line:09}/{number:03}",
                    "import_id": self.hr_import.import_id,
                    "line": issue.line,
                    "column": issue.column,
                    "code": issue.code,
                    "message": issue.message,
                    "refused": issue.refused,
                    "admins_only": issue.admins_only,
                }
            )
        if documents:
            await self.profiles.import_errors.put_many(documents)

    async def renew_lease(self) -> None:
        """Renew the lease when enough of it has passed. Raises ``ImportTakenOver``."""
        recorded_at = self.profiles.clock.machine_now()
        if recorded_at - self._renewed_at >= RENEW_AFTER:
            await self.save_step(f"renew/{new_id()}", imports.renew_lease)

    async def save_step(self, step: str, change: Callable[[HrImport, datetime], HrImport]) -> None:
        """Save one step of this run. Raises ``ImportTakenOver`` when another replica has continued the import."""
        recorded_at, expected = self.profiles.clock.machine_now(), self.hr_import.cursor

        def decide(current: HrImport | None) -> Step:
            if current is None or current.state != "running" or current.cursor != expected:
                raise ImportTakenOver
            return change(current, recorded_at), []

        saved = await self.profiles.imports.update(self.hr_import.import_id, Op(step), decide)
        self.hr_import, self._renewed_at = saved.require_state(), recorded_at
