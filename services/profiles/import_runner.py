"""Runs an import from its upload to its end, and continues it after a crash.

There are two passes over the file. The *survey* checks every row, claims an id for each person, and derives the
reporting lines from the whole file. So a manager may come after their reports in the file, and each person is saved and
published once, complete. The second pass applies the rows in batches and saves the cursor after each batch. At the end,
the lines of people outside the file are derived again when somebody above them has moved.

A crash at any point is harmless. Claims are found again. A row that was already applied is recognised by its operation
(``import id/line``) and counted with its former result. Entries of the report have derived ids. The lease of the
``HrImport`` makes another replica continue. Only one import runs at a time, because lines need one consistent view of
the organisation.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime, timedelta
from typing import TypeAlias

from chassis.core.commands import Op
from chassis.core.ids import derived_id, new_id
from chassis.storage.aggregates import Change, SaveResult, Stored, stored_instant
from chassis.storage.mongo import chunks
from contracts.envelope import OutgoingEvent
from contracts.errors import CommandRejected
from services.profiles.domain import imports
from services.profiles.domain.csv_splitter import CsvRecord, CsvSplitter
from services.profiles.domain.enrolment import Invitation, Programmes
from services.profiles.domain.file_survey import FileSurvey
from services.profiles.domain.imports import HrImport, RowCounts
from services.profiles.domain.line import MAX_LINE_LENGTH, find_circles, reporting_line
from services.profiles.domain.person import Decision, Person, apply_hr_record, change_person, replace_position
from services.profiles.domain.row_parser import (
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    ImportRow,
    Issue,
    RowReader,
    is_blank,
    read_header,
)
from services.profiles.store import LIVING, Hierarchy, Profiles

BATCH_ROWS = 1000  # rows that are applied between two saves of the cursor
POSTPONEMENT = timedelta(seconds=1)
RENEW_AFTER = timedelta(seconds=10)  # a third of the lease
ABANDONED_AFTER = timedelta(days=1)  # age at which an upload without an import is deleted


Step: TypeAlias = tuple[HrImport, list[OutgoingEvent]]


class ImportTakenOver(Exception):
    """Another replica has taken this import over, so this one stops working on it."""


async def drive_import(stored: Stored[HrImport], profiles: Profiles) -> None:
    """Continue an import whose lease has passed. ``Sweep`` calls this."""
    hr_import, recorded_at = stored.state, profiles.clock.machine_now()
    if hr_import.state == "waiting_for_release":
        await finish_import(stored.id, hr_import, "not_released", profiles)
        return
    if await _must_wait(hr_import, profiles):
        await _hand_back(hr_import, profiles)
        return

    def begin(current: HrImport | None) -> Step | None:
        is_mine = current is not None and current.state in ("received", "running") and current.lease == hr_import.lease
        return (imports.take_over(current, recorded_at), []) if current is not None and is_mine else None

    saved = await profiles.imports.update(stored.id, Op(f"lease/{stored_instant(hr_import.lease)}/begin"), begin)
    if not saved.changed or saved.repeated:
        return
    if await _is_another_running(hr_import, profiles):  # both started at the same moment: both postpone
        await _hand_back(saved.require_state(), profiles)
        return
    try:
        await _ImportRun(profiles, saved.require_state()).run()
    except ImportTakenOver:
        return


async def finish_import(id: str, hr_import: HrImport, failure: str | None, profiles: Profiles) -> None:
    """Close an import and delete its file. ``failure`` None: it is done."""
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
    others = await profiles.unfinished_imports()
    return any(other.state.state == "running" and other.id != hr_import.import_id for other in others)


async def _must_wait(hr_import: HrImport, profiles: Profiles) -> bool:
    """Whether another import is running, or an earlier one waits to run."""
    arrival = (hr_import.received_at, hr_import.import_id)
    others = [other.state for other in await profiles.unfinished_imports() if other.id != hr_import.import_id]
    return any(
        other.state == "running" or (other.state == "received" and (other.received_at, other.import_id) < arrival)
        for other in others
    )


async def _hand_back(hr_import: HrImport, profiles: Profiles) -> None:
    until = profiles.clock.machine_now() + POSTPONEMENT

    def postpone(current: HrImport | None) -> Step | None:
        return (
            (imports.postpone(current, until), []) if current is not None and current.lease == hr_import.lease else None
        )

    await profiles.imports.update(
        hr_import.import_id, Op(f"lease/{stored_instant(hr_import.lease)}/postpone"), postpone
    )


class _ImportRun:
    """The work of this replica on one import."""

    def __init__(self, profiles: Profiles, hr_import: HrImport) -> None:
        self._profiles = profiles
        self._import = hr_import
        self._programmes: Programmes = {}
        self._renewed_at = profiles.clock.machine_now()
        self._new_members: set[str] = set()  # member ids drawn by this run: no person is stored under them yet

    async def run(self) -> None:
        self._programmes = await self._profiles.all_programmes()
        pairings = await self._profiles.running_pairings()
        survey, watched_rows = await self._read_file({member for pair in pairings.values() for member in pair})
        if survey.failure is not None:
            await self._store_issues(list(survey.header.issues))
            await finish_import(self._import.import_id, self._import, survey.failure, self._profiles)
            return
        await self._resolve_outsiders(survey)
        touched = imports.count_touched_pairings(pairings, await self._find_touched(survey, watched_rows))
        await self._save_step(
            f"survey/{self._import.released_by or ''}",
            lambda current, recorded_at: imports.record_survey(
                current, survey.row_count, len(pairings), touched, recorded_at
            ),
        )
        if self._import.state == "waiting_for_release":
            return
        await self._apply_rows(survey)
        if survey.unresolved or await self._profiles.persons.count(LIVING) != len(survey.lines):
            await self._redraw_lines()
        await finish_import(self._import.import_id, self._import, None, self._profiles)

    async def _read_file(self, paired_members: set[str]) -> tuple[FileSurvey, dict[str, ImportRow]]:
        """Read the file once. Returns the survey, and the rows of the members in ``paired_members`` by member id."""
        survey = FileSurvey(await self._profiles.keys.hasher())
        watched_rows: dict[str, ImportRow] = {}
        reader: RowReader | None = None
        async for batch in self._batches():
            if reader is None:
                survey.header = read_header(batch.pop(0))
                reader = RowReader(survey.header, self._import.source)
                if survey.failure is not None:
                    break
            rows = [row for record in batch if isinstance(row := reader.read(record), ImportRow)]
            members, new_members = await self._profiles.keys.claim([row.hr.external_id.ref for row in rows])
            self._new_members |= new_members
            survey.add_rows(rows, members)
            survey.row_count += len(batch)
            watched_rows |= {
                member_id: row
                for row in rows
                if (member_id := members[row.hr.external_id.ref]) in paired_members and member_id is not None
            }
            await self._renew_lease()
        return survey, watched_rows

    async def _resolve_outsiders(self, survey: FileSurvey) -> None:
        """Look up people who are mentioned but not in the file, and the managers above them."""
        refs = survey.refs_outside_file()
        members_by_ref = await self._profiles.keys.find_members(refs) if refs else {}
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
            stored_persons = await self._profiles.persons.get_many(list(survey.unresolved))
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
            stored_persons = await self._profiles.persons.get_many(list(pending))
            people |= {
                member_id: stored.state for member_id, stored in stored_persons.items() if stored.state.hr is not None
            }
            above = {stored.state.place.manager for stored in stored_persons.values()}
            pending = {member_id for member_id in above if member_id is not None} - survey.lines.keys() - people.keys()
        return people

    async def _find_touched(self, survey: FileSurvey, watched_rows: dict[str, ImportRow]) -> set[str]:
        """The members of running pairings whose pairings this file would affect."""
        before = await self._profiles.persons.get_many(list(watched_rows))
        touched = set()
        for member_id, row in watched_rows.items():
            decision = (
                self._decide_row(survey, member_id, row)(before[member_id].state) if member_id in before else None
            )
            if decision is not None and imports.affects_pairings(before[member_id].state, decision[0]):
                touched.add(member_id)
        return touched

    async def _apply_rows(self, survey: FileSurvey) -> None:
        """Apply the rows after the cursor."""
        reader = RowReader(survey.header, self._import.source)
        if self._import.cursor == 0:
            await self._store_issues(list(survey.header.issues))
        header_line: int | None = None
        async for records in self._batches():
            header_line = records[0].line if header_line is None else header_line
            batch = [record for record in records if record.line > max(header_line, self._import.cursor)]
            if not batch:
                continue
            changes, issues, refused = self._build_changes(survey, [reader.read(record) for record in batch])
            results = await self._profiles.persons.update_many(changes)
            tally = _count_rows(results, rows=len(batch), refused=refused, remarks=len(issues))
            await self._store_issues(issues)
            cursor, previous_cursor = batch[-1].line, self._import.cursor
            await self._save_step(
                f"rows/{cursor}",
                lambda current, recorded_at, line=cursor, counts=tally: imports.advance_cursor(
                    current, line, counts, recorded_at
                ),  # type: ignore[misc]
                cursor=previous_cursor,
            )

    def _build_changes(
        self, survey: FileSurvey, rows: list[ImportRow | list[Issue]]
    ) -> tuple[list[Change[Person]], list[Issue], int]:
        """The changes of a batch of rows, the entries for the report, and the number of refused rows."""
        changes: list[Change[Person]] = []
        issues: list[Issue] = []
        refused = 0
        for row in rows:
            if isinstance(row, list):
                issues += row
                refused += 1
                continue
            member = survey.members[row.hr.external_id.ref]
            if member is None:
                continue
            if (duplicate := survey.duplicate_issue(member, row)) is not None:
                issues.append(duplicate)
                refused += 1
                continue
            issues += [*row.remarks, *survey.reference_remarks(member, row), *self._invitation_remarks(row)]
            op = Op(f"{self._import.import_id}/{row.line}")
            changes.append(Change(member, op, self._decide_row(survey, member, row), fresh=member in self._new_members))
        return changes, issues, refused

    def _decide_row(self, survey: FileSurvey, member: str, row: ImportRow) -> Callable[[Person | None], Decision]:
        position = survey.position_of(member, row)
        invitation, programmes, now = self._invitation(row), self._programmes, self._profiles.clock.now()
        return lambda person: apply_hr_record(person, member, row.hr, position, invitation, programmes, now)

    def _invitation(self, row: ImportRow) -> Invitation | None:
        allowed = self._import.invites_to
        invitation = row.invitation
        return invitation if invitation and (allowed is None or invitation.programme_id in allowed) else None

    def _invitation_remarks(self, row: ImportRow) -> list[Issue]:
        if row.invitation is None:
            return []
        if self._invitation(row) is None:
            text = "you do not coordinate this programme; the person is imported, but not invited"
            return [Issue(row.line, "programme", "not_your_programme", text, refused=False)]
        if row.invitation.programme_id not in self._programmes:
            text = "there is no such programme yet; the invitation counts as soon as it exists"
            return [Issue(row.line, "programme", "unknown_programme", text, refused=False)]
        return []

    async def _redraw_lines(self) -> None:
        """Derive the lines of all people again from their current managers, and save the lines that differ.

        It compares the stored state with the derived one, so it may be repeated at any time. It also finds managers
        whom HR named before they were known.
        """
        hierarchy = await self._profiles.load_hierarchy()
        members = (
            await self._profiles.keys.members_by_key(set(hierarchy.missing_manager_keys.values()))
            if hierarchy.missing_manager_keys
            else {}
        )
        resolved = {
            member_id: manager
            for member_id, key in hierarchy.missing_manager_keys.items()
            if (manager := members.get(key)) in hierarchy.lines
        }
        manager_of = hierarchy.manager_of | resolved
        manager_of |= {
            member_id: hierarchy.manager_of[member_id]
            for member_id in find_circles(manager_of).keys() & resolved.keys()
        }
        changed_lines = {
            member_id: line
            for member_id, stored_line in hierarchy.lines.items()
            if (line := reporting_line(member_id, manager_of)) != stored_line
        }
        for chunk in chunks(list(changed_lines)):
            changes = [
                Change(
                    member_id,
                    Op(derived_id(self._import.import_id, "line", *changed_lines[member_id])),
                    self._decide_line(member_id, hierarchy, changed_lines[member_id]),
                )
                for member_id in chunk
            ]
            for result in await self._profiles.persons.update_many(changes):
                if isinstance(result, Exception) and not isinstance(result, CommandRejected):  # erased in the meantime
                    raise result
            await self._renew_lease()

    def _decide_line(
        self, member_id: str, hierarchy: Hierarchy, line: tuple[str, ...]
    ) -> Callable[[Person | None], Decision]:
        former_manager, now = hierarchy.manager_of[member_id], self._profiles.clock.now()

        def move(person: Person) -> Person:
            if person.place.manager != former_manager:
                return person  # an erasure moved them in the meantime and set the line itself
            manager = line[0] if line else None
            missing_manager_key = None if manager != former_manager else person.place.wanted
            return replace_position(
                person,
                person.place.model_copy(update={"manager": manager, "line": line, "wanted": missing_manager_key}),
            )

        return lambda person: change_person(person, move, self._programmes, now)

    async def _batches(self) -> AsyncIterator[list[CsvRecord]]:
        """The records of the file in batches, beginning with the header. Blank lines are skipped."""
        splitter = CsvSplitter(in_one_line=REQUIRED_COLUMNS + OPTIONAL_COLUMNS)
        batch: list[CsvRecord] = []
        async for piece in self._profiles.uploads.read(self._import.upload_id, self._import.chunks):
            for record in splitter.feed(piece):
                if not is_blank(record):
                    batch.append(record)
                if len(batch) >= BATCH_ROWS:
                    yield batch
                    batch = []
                    await asyncio.sleep(0)
        batch += [record for record in splitter.close() if not is_blank(record)]
        if batch:
            yield batch

    async def _store_issues(self, issues: list[Issue]) -> None:
        issues_on_line: dict[int, int] = {}
        documents = []
        for issue in issues:
            number = issues_on_line[issue.line] = issues_on_line.get(issue.line, 0) + 1
            documents.append(
                {
                    "_id": f"{self._import.import_id}/{issue.line:09}/{number:03}",
                    "import_id": self._import.import_id,
                    "line": issue.line,
                    "column": issue.column,
                    "code": issue.code,
                    "message": issue.message,
                    "refused": issue.refused,
                }
            )
        if documents:
            await self._profiles.import_errors.put_many(documents)

    async def _renew_lease(self) -> None:
        """Renew the lease when enough of it has passed. Raises ``ImportTakenOver``."""
        recorded_at = self._profiles.clock.machine_now()
        if recorded_at - self._renewed_at >= RENEW_AFTER:
            await self._save_step(f"renew/{new_id()}", imports.take_over, cursor=self._import.cursor)

    async def _save_step(
        self,
        step: str,
        change: Callable[[HrImport, datetime], HrImport],
        cursor: int | None = None,
    ) -> None:
        """Save one step of this run. Raises ``ImportTakenOver`` when another replica has continued the import."""
        recorded_at = self._profiles.clock.machine_now()
        expected = self._import.cursor if cursor is None else cursor

        def decide(current: HrImport | None) -> Step:
            if current is None or current.state != "running" or current.cursor != expected:
                raise ImportTakenOver
            return change(current, recorded_at), []

        saved = await self._profiles.imports.update(self._import.import_id, Op(step), decide)
        self._import, self._renewed_at = saved.require_state(), recorded_at


def _count_rows(results: list[SaveResult[Person] | Exception], *, rows: int, refused: int, remarks: int) -> RowCounts:
    """Count the results of a batch.

    A row that was already applied counts with its former result: as created, if nothing changed the person since.
    """
    created = changed = 0
    for result in results:
        if isinstance(result, Exception):
            raise result
        if result.changed:
            created += result.version == 1
            changed += result.version != 1
    unchanged = rows - refused - created - changed
    return RowCounts(rows=rows, created=created, changed=changed, unchanged=unchanged, failed=refused, remarks=remarks)
