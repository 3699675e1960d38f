"""Runs an import from its upload to its end, and continues it after a crash.

There are two passes over the file. The *survey* checks every row, claims an id for each person, and derives the
reporting lines from the whole file. So a manager may come after their reports in the file, and each person is saved and
published once, complete. The second pass applies the rows in batches and saves the cursor after each batch. At the end,
the lines of people outside the file are derived again when somebody above them has moved.

A crash at any point is harmless. Claims are found again. A row that was already applied is recognised by its operation
(``import id/line``) and counted with its former result. Entries of the report have derived ids. The lease of the
``HrImport`` makes another replica continue. Only one file of people runs at a time, in the order of arrival, because
lines need one consistent view of the organisation. Lists of invitations wait for nothing.

No import is retried without end. An unknown error refuses the row in which it arises. A run that fails as a whole is
repeated a few times, and then the import has failed, so that the next one can run.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from chassis.core.commands import Op
from chassis.messaging.consumer import is_transient
from chassis.storage.aggregates import Change, SaveResult, Stored, stored_instant
from services.profiles.domain import imports
from services.profiles.domain.csv_splitter import CsvRecord
from services.profiles.domain.enrolment import Programmes
from services.profiles.domain.file_survey import FileSurvey
from services.profiles.domain.imports import HrImport, RowCounts
from services.profiles.domain.line import MAX_LINE_LENGTH
from services.profiles.domain.person import Decision, Person, apply_hr_record
from services.profiles.domain.row_parser import (
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    ImportRow,
    Issue,
    RowReader,
    read_header,
)
from services.profiles.import_steps import ImportRun, ImportTakenOver, Step
from services.profiles.invitation_runner import InvitationRun
from services.profiles.line_repair import redraw_lines
from services.profiles.store import LIVING, Profiles
from services.profiles.workbook import UnreadableWorkbook

log = logging.getLogger(__name__)

COLUMNS = REQUIRED_COLUMNS + OPTIONAL_COLUMNS
BATCH_ROWS = 1000  # rows that are applied between two saves of the cursor
POSTPONEMENT = timedelta(seconds=1)
ABANDONED_AFTER = timedelta(days=1)  # age at which an upload without an import is deleted


async def drive_import(stored: Stored[HrImport], profiles: Profiles) -> None:
    """Continue an import whose lease has passed. ``Sweep`` calls this."""
    hr_import, recorded_at = stored.state, profiles.clock.machine_now()
    if (ended := _ending_without_run(hr_import)) is not None:
        await finish_import(stored.id, hr_import, ended or None, profiles)
        return
    if await _must_wait(hr_import, profiles):
        await _hand_back(hr_import, profiles)
        return

    def begin(current: HrImport | None) -> Step | None:
        is_mine = current is not None and current.state in ("received", "running") and current.lease == hr_import.lease
        return (imports.begin_run(current, recorded_at), []) if current is not None and is_mine else None

    saved = await profiles.imports.update(stored.id, Op(f"lease/{stored_instant(hr_import.lease)}/begin"), begin)
    if not saved.changed or saved.repeated:
        return
    if await _is_another_running(hr_import, profiles):  # both started at the same moment: both postpone
        await _hand_back(saved.require_state(), profiles)
        return
    await _run(saved.require_state(), profiles)


def _ending_without_run(hr_import: HrImport) -> str | None:
    """The failure of an import that must not run, "" for a cancelled one; None: it runs."""
    if hr_import.state == "waiting_for_release":
        return "not_released"
    if hr_import.cancelled_by is not None:
        return ""
    if hr_import.kind == "people" and hr_import.invites_to is not None:  # a coordinator's, of a former version
        return "not_allowed"
    return "no_progress" if hr_import.attempts >= imports.MAX_ATTEMPTS else None


async def _run(hr_import: HrImport, profiles: Profiles) -> None:
    """Run until the import has ended or waits for a release. Raises errors after which the next run tries again."""
    run = (PeopleRun if hr_import.kind == "people" else InvitationRun)(profiles, hr_import, BATCH_ROWS)
    try:
        failure = await run.run()
    except ImportTakenOver:
        return
    except UnreadableWorkbook as error:
        await run.store_issues([Issue(1, "", error.code, str(error))])
        failure = error.code
    except Exception as error:
        if is_transient(error) or run.hr_import.attempts < imports.MAX_FAILED_ATTEMPTS:
            raise
        log.exception("an import failed several times and is given up")
        failure = "unknown_error"
    if failure is None and run.must_hold() and not run.was_cancelled():
        await run.save_step("hold", imports.wait_for_release)
        return
    await finish_import(hr_import.import_id, hr_import, failure, profiles)


async def finish_import(id: str, hr_import: HrImport, failure: str | None, profiles: Profiles) -> None:
    """Close an import and delete its file. ``failure`` None: it is done, or cancelled."""
    recorded_at = profiles.clock.machine_now()

    def close(current: HrImport | None) -> Step | None:
        if current is None or not current.is_unfinished:
            return None
        return (
            imports.mark_failed(current, failure, recorded_at) if failure else imports.mark_done(current, recorded_at)
        ), []

    await profiles.imports.update(id, Op(f"finish/{failure or 'done'}"), close)
    await profiles.uploads.delete(hr_import.upload_id)
    used_uploads = [stored.state.upload_id for stored in await profiles.unfinished_imports()]
    await profiles.uploads.delete_abandoned(stored_instant(recorded_at - ABANDONED_AFTER) or "", used_uploads)


async def _is_another_running(hr_import: HrImport, profiles: Profiles) -> bool:
    if hr_import.kind != "people":
        return False
    others = await profiles.unfinished_imports("people")
    return any(other.state.state == "running" and other.id != hr_import.import_id for other in others)


async def _must_wait(hr_import: HrImport, profiles: Profiles) -> bool:
    """Whether another file of people is running, or an earlier one waits to run."""
    return hr_import.kind == "people" and bool(imports.queue_before(hr_import, await load_queue(profiles)))


async def load_queue(profiles: Profiles) -> list[HrImport]:
    """The files of people that have not ended."""
    return [stored.state for stored in await profiles.unfinished_imports("people")]


async def _hand_back(hr_import: HrImport, profiles: Profiles) -> None:
    until = profiles.clock.machine_now() + POSTPONEMENT

    def postpone(current: HrImport | None) -> Step | None:
        return (
            (imports.postpone(current, until), []) if current is not None and current.lease == hr_import.lease else None
        )

    await profiles.imports.update(
        hr_import.import_id, Op(f"lease/{stored_instant(hr_import.lease)}/postpone"), postpone
    )


class PeopleRun(ImportRun):
    """One file of people. ``run`` returns the code of the failure of the whole file, or None."""

    def __init__(self, profiles: Profiles, hr_import: HrImport, batch_rows: int) -> None:
        super().__init__(profiles, hr_import, batch_rows)
        self._programmes: Programmes = {}
        self._new_members: set[str] = set()  # member ids drawn by this run: no person is stored under them yet

    async def run(self) -> str | None:
        self._programmes = await self.profiles.all_programmes()
        pairings = await self.profiles.running_pairings()
        survey, watched_rows = await self._read_file({member for pair in pairings.values() for member in pair})
        if self.was_cancelled():
            return None
        if survey.failure is not None:
            await self.store_issues(survey.header.issues)
            return survey.failure
        await self._resolve_outsiders(survey)
        if self.hr_import.held_lines is None:
            if self.hr_import.cursor == 0 and survey.lacks_managers():
                await self.store_issues(survey.manager_issues())
                return "unknown_managers"
            await self._record_survey(survey, pairings, watched_rows)
        if self.must_hold():
            await self._keep_managers_of_held_rows(survey)
        await self._apply_rows(survey)
        is_partial = self.was_cancelled() or self.hr_import.held_lines is not None
        if is_partial or survey.unresolved or await self.profiles.persons.count(LIVING) != len(survey.lines):
            await redraw_lines(self.hr_import.import_id, self.profiles, self._programmes, self.renew_lease)
        return None

    async def _read_file(self, paired_members: set[str]) -> tuple[FileSurvey, dict[str, ImportRow]]:
        """Read the file once. Returns the survey, and the rows of the members in ``paired_members`` by member id."""
        survey = FileSurvey(await self.profiles.keys.hasher())
        watched_rows: dict[str, ImportRow] = {}
        reader: RowReader | None = None
        async for batch in self.read_batches(COLUMNS):
            if reader is None:
                given = () if self.hr_import.organisation is None else ("organisation",)
                survey.header = read_header(batch.pop(0), given=given)
                reader = self._open_reader(survey)
                if survey.header_failure is not None:
                    break
            rows = [row for record in batch if isinstance(row := self.read_row(reader.read, record), ImportRow)]
            members, new_members = await self.profiles.keys.claim([row.hr.external_id.ref for row in rows])
            self._new_members |= new_members
            survey.add_rows(rows, members)
            survey.row_count += len(batch)
            watched_rows |= {
                member_id: row
                for row in rows
                if (member_id := members[row.hr.external_id.ref]) is not None
                and member_id in paired_members
                and survey.lines[member_id] == row.line
            }
            await self.renew_lease()
            if self.was_cancelled():
                break
        return survey, watched_rows

    def _open_reader(self, survey: FileSurvey) -> RowReader:
        settings = self.hr_import
        return RowReader(survey.header, settings.source, settings.sources, settings.organisation)

    async def _record_survey(
        self, survey: FileSurvey, pairings: Mapping[str, tuple[str, ...]], watched_rows: dict[str, ImportRow]
    ) -> None:
        touched = imports.find_touched_pairings(pairings, await self._find_touched(survey, watched_rows))
        await self.save_step(
            f"survey/{self.hr_import.released_by or ''}",
            lambda current, recorded_at: imports.record_survey(
                current,
                total=survey.row_count,
                running=len(pairings),
                touched=touched,
                lines=survey.lines,
                release_from=self.profiles.settings.release_from,
                recorded_at=recorded_at,
            ),
        )

    async def _keep_managers_of_held_rows(self, survey: FileSurvey) -> None:
        """Until the release, the people of held rows stay where they are, also in the lines of the others."""
        held_lines = set(self.hr_import.held_lines or ())
        held = [member for member, line in survey.lines.items() if line in held_lines]
        stored_persons = await self.profiles.persons.get_many(held)
        former = {member_id: stored.state.place.manager for member_id, stored in stored_persons.items()}
        managers = [member_id for member_id in former.values() if member_id is not None]
        survey.keep_managers(former, await self._load_with_managers(managers, survey))

    async def _resolve_outsiders(self, survey: FileSurvey) -> None:
        """Look up people who are mentioned but not in the file, and the managers above them."""
        refs = survey.refs_outside_file()
        members_by_ref = await self.profiles.find_members(refs) if refs else {}
        people = await self._load_with_managers(members_by_ref.values(), survey)
        survey.add_outsiders(
            {
                ref: member_id
                for ref, member_id in members_by_ref.items()
                if member_id in people or member_id in survey.lines
            },
            people,
        )
        if survey.unresolved:
            stored_persons = await self.profiles.persons.get_many(list(survey.unresolved))
            former = {member_id: stored.state.place.manager for member_id, stored in stored_persons.items()}
            managers = [member_id for member_id in former.values() if member_id is not None]
            survey.restore_former_managers(former, await self._load_with_managers(managers, survey))

    async def _load_with_managers(self, members: Iterable[str], survey: FileSurvey) -> dict[str, Person]:
        """These living people and the managers above them, by member id.

        The search ends at the top of a line, at its maximal length, or at a person who is in the file.
        """
        people: dict[str, Person] = {}
        pending = set(members) - survey.lines.keys()
        for _ in range(MAX_LINE_LENGTH + 1):
            if not pending:
                break
            stored_persons = await self.profiles.persons.get_many(list(pending))
            people |= {
                member_id: stored.state for member_id, stored in stored_persons.items() if stored.state.hr is not None
            }
            above = {stored.state.place.manager for stored in stored_persons.values()}
            pending = {member_id for member_id in above if member_id is not None} - survey.lines.keys() - people.keys()
        return people

    async def _find_touched(self, survey: FileSurvey, watched_rows: dict[str, ImportRow]) -> set[str]:
        """The members of running pairings whose pairings this file would affect."""
        before = await self.profiles.persons.get_many(list(watched_rows))
        touched = set()
        for member_id, row in watched_rows.items():
            if member_id not in before:
                continue
            try:
                decision = self._decide_row(survey, member_id, row)(before[member_id].state)
            except Exception as error:  # noqa: BLE001 - the row is refused when it is applied
                self.refuse_unknown(row.line, error)
                continue
            if decision is not None and imports.affects_pairings(before[member_id].state, decision[0]):
                touched.add(member_id)
        return touched

    async def _apply_rows(self, survey: FileSurvey) -> None:
        """Apply the rows after the cursor, until somebody cancels the import."""
        reader = self._open_reader(survey)
        if self.hr_import.cursor == 0:
            await self.store_issues(survey.header.issues)
        header_line, applies = None, self.hr_import.line_filter()
        async for records in self.read_batches(COLUMNS):
            header_line = records[0].line if header_line is None else header_line
            first_line = max(header_line, self.hr_import.cursor) + 1
            batch = [record for record in records if record.line >= first_line and applies(record.line)]
            if not batch:
                continue
            await self._apply_batch(survey, reader, batch)
            if self.was_cancelled():
                return

    async def _apply_batch(self, survey: FileSurvey, reader: RowReader, batch: list[CsvRecord]) -> None:
        changes, lines, issues = self._build_changes(survey, [self.read_row(reader.read, record) for record in batch])
        results = []
        for line, result in zip(lines, await self.profiles.persons.update_many(changes), strict=True):
            if isinstance(result, Exception):
                issues.append(self.refuse_unknown(line, result))
            else:
                results.append(result)
        tally = _count_rows(results, rows=len(batch), issues=issues)
        await self.store_issues(issues)
        cursor = batch[-1].line
        await self.save_step(
            f"{'held' if self.hr_import.released_by else 'rows'}/{cursor}",
            lambda current, recorded_at: imports.advance_cursor(current, cursor, tally, recorded_at),
        )

    def _build_changes(
        self, survey: FileSurvey, rows: list[ImportRow | list[Issue]]
    ) -> tuple[list[Change[Person]], list[int], list[Issue]]:
        """The changes of a batch of rows, the line of each change, and the entries for the report."""
        changes: list[Change[Person]] = []
        lines: list[int] = []
        issues: list[Issue] = []
        for row in rows:
            if isinstance(row, list):
                issues += row
                continue
            member = survey.members[row.hr.external_id.ref]
            if member is None:
                continue
            if (duplicate := survey.duplicate_issue(member, row)) is not None:
                issues.append(duplicate)
                continue
            issues += [*row.remarks, *survey.reference_remarks(member, row), *self._invitation_remarks(row)]
            op = Op(f"{self.hr_import.import_id}/{row.line}")
            changes.append(Change(member, op, self._decide_row(survey, member, row), fresh=member in self._new_members))
            lines.append(row.line)
        return changes, lines, issues

    def _decide_row(self, survey: FileSurvey, member: str, row: ImportRow) -> Callable[[Person | None], Decision]:
        position = survey.position_of(member, row)
        programmes, now = self._programmes, self.profiles.clock.now()
        return lambda person: apply_hr_record(person, member, row.hr, position, row.invitation, programmes, now)

    def _invitation_remarks(self, row: ImportRow) -> list[Issue]:
        if row.invitation is None or row.invitation.programme_id in self._programmes:
            return []
        text = "there is no such programme yet; the invitation counts as soon as it exists"
        return [Issue(row.line, "programme", "unknown_programme", text, refused=False)]


def _count_rows(results: Sequence[SaveResult[Person]], *, rows: int, issues: Sequence[Issue]) -> RowCounts:
    """Count the results of a batch.

    A row that was already applied counts with its former result: as created, if nothing changed the person since.
    """
    changes = [result.version for result in results if result.changed]
    created = changes.count(1)
    failed = len({issue.line for issue in issues if issue.refused})
    return RowCounts(
        rows=rows,
        created=created,
        changed=len(changes) - created,
        unchanged=rows - failed - len(changes),
        failed=failed,
        remarks=len(issues),
    )
