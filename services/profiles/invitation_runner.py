"""Runs a coordinator's list of invitations. It changes nothing of a person but one invitation.

The report of a coordinator names problems of the text. Rows that reach nobody are remarked for admins only: otherwise a
list of guessed addresses would tell who works here. Only a person who enrols becomes visible to the coordinator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chassis.core.commands import Op
from chassis.storage.aggregates import Change
from contracts.errors import CommandRejected
from services.profiles.domain import imports
from services.profiles.domain.csv_splitter import CsvRecord
from services.profiles.domain.enrolment import Programmes
from services.profiles.domain.imports import HrImport, RowCounts
from services.profiles.domain.invitation_list import (
    INVITATION_COLUMNS,
    InvitationReader,
    InvitedRow,
    read_invitation_header,
)
from services.profiles.domain.person import Decision, Person, change_person, invite_person
from services.profiles.domain.row_parser import Issue
from services.profiles.import_steps import ImportRun
from services.profiles.store import LIVING, Profiles


@dataclass
class _Batch:
    """What a batch of rows results in. ``refused`` and ``issues`` depend on the text of the rows alone."""

    issues: list[Issue] = field(default_factory=list)
    refused: int = 0
    rows: dict[str, InvitedRow] = field(default_factory=dict)


class InvitationRun(ImportRun):
    """One list. ``run`` returns the code of the failure of the whole file, or None."""

    def __init__(self, profiles: Profiles, hr_import: HrImport, batch_rows: int) -> None:
        super().__init__(profiles, hr_import, batch_rows)
        self._lines_by_key: dict[str, int] = {}
        self._row_count = 0

    async def run(self) -> str | None:
        programmes = await self.profiles.all_programmes()
        reader: InvitationReader | None = None
        async for batch in self.read_batches((*INVITATION_COLUMNS[0], *INVITATION_COLUMNS[1])):
            if reader is None:
                header = read_invitation_header(batch.pop(0))
                reader = InvitationReader(header, self.hr_import.source, self.hr_import.programme_id or "")
                refusing = [issue.code for issue in header.issues if issue.refused]
                if self.hr_import.cursor == 0:
                    await self.store_issues(header.issues)
                if refusing:
                    return refusing[0]
            await self._apply_batch(reader, batch, programmes)
            if self.was_cancelled():
                return None
        return None if self._row_count else "no_rows"

    async def _apply_batch(self, reader: InvitationReader, batch: Sequence[CsvRecord], programmes: Programmes) -> None:
        read = self._read_rows(reader, batch)
        cursor = batch[-1].line if batch else 0
        if cursor <= self.hr_import.cursor:
            return
        invited, remarks = await self._invite(list(read.rows.values()), programmes)
        await self.store_issues([*read.issues, *remarks])
        tally = RowCounts(
            rows=len(batch), changed=invited, unchanged=len(batch) - read.refused - invited,
            failed=read.refused, remarks=len(read.issues) + len(remarks),
        )  # fmt: skip
        await self.save_step(
            f"rows/{cursor}",
            lambda current, recorded_at: imports.advance_cursor(current, cursor, tally, recorded_at),
        )

    def _read_rows(self, reader: InvitationReader, batch: Sequence[CsvRecord]) -> _Batch:
        """Read the rows; of two with the same id or address, the first one counts."""
        result = _Batch()
        self._row_count += len(batch)
        for record in batch:
            row = self.read_row(reader.read, record)
            if isinstance(row, InvitedRow):
                first = self._lines_by_key.setdefault(row.key, row.line)
                if first == row.line:
                    result.rows[row.key] = row
                    continue
                row = [Issue(row.line, "", "duplicate", f"the same id or address is already on line {first}")]
            result.issues += row
            result.refused += 1
        return result

    async def _invite(self, rows: Sequence[InvitedRow], programmes: Programmes) -> tuple[int, list[Issue]]:
        """Invite the people of these rows. Returns the number of new invitations, and remarks for admins."""
        members, remarks = await self._find_members(rows)
        row_of: dict[str, InvitedRow] = {}
        for row in rows:
            if (member := members.get(row.key)) is not None:
                row_of.setdefault(member, row)
        changes = [
            Change(member, Op(f"{self.hr_import.import_id}/{row.line}"), self._decide_invitation(row, programmes))
            for member, row in row_of.items()
        ]
        invited = 0
        for row, result in zip(row_of.values(), await self.profiles.persons.update_many(changes), strict=True):
            if isinstance(result, CommandRejected):  # erased in the meantime
                remarks.append(_nobody(row.line))
            elif isinstance(result, Exception):
                remarks.append(self.refuse_unknown(row.line, result).for_admins())
            else:
                invited += result.changed
        return invited, remarks

    async def _find_members(self, rows: Sequence[InvitedRow]) -> tuple[dict[str, str], list[Issue]]:
        """Key of a row -> member id, and a remark for each row that does not name exactly one person."""
        members = await self.profiles.keys.find_members([row.key for row in rows if not row.is_email])
        addresses = sorted({row.key for row in rows if row.is_email})
        owners: dict[str, list[str]] = {}
        async for stored in self.profiles.persons.find({**LIVING, "hr.email": {"$in": addresses}}):
            if stored.state.hr is not None and stored.state.hr.email is not None:
                owners.setdefault(stored.state.hr.email, []).append(stored.id)
        members |= {address: ids[0] for address, ids in owners.items() if len(ids) == 1}
        remarks = [
            _several(row.line) if len(owners.get(row.key, ())) > 1 else _nobody(row.line)
            for row in rows
            if row.key not in members
        ]
        return members, remarks

    def _decide_invitation(self, row: InvitedRow, programmes: Programmes) -> Callable[[Person | None], Decision]:
        now = self.profiles.clock.now()

        def invite(person: Person) -> Person:
            return invite_person(person, row.invitation, programmes, now)

        return lambda person: change_person(person, invite, programmes, now)


def _nobody(line: int) -> Issue:
    return Issue(line, "", "unknown_person", "nobody has this id or address", refused=False, admins_only=True)


def _several(line: int) -> Issue:
    text = "several people have this address; name the external id"
    return Issue(line, "", "several_people", text, refused=False, admins_only=True)
