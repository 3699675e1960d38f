"""A coordinator's list of people to invite: by external id or e-mail address, with side and capacity.

The list names people who exist already. It can neither create nor change anybody. Problems are those of the text alone:
whether a person exists is told to an admin only (see ``services.profiles.invitation_runner``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.profiles.domain.csv_splitter import CsvRecord
from services.profiles.domain.enrolment import Invitation
from services.profiles.domain.hr_record import external_ref
from services.profiles.domain.row_parser import (
    FieldParser,
    FileHeader,
    Issue,
    MalformedField,
    parse_capacity,
    parse_email,
    parse_id,
    parse_side,
    read_header,
    split_record,
)

KEY_COLUMNS: Final = ("external_id", "email")
INVITATION_COLUMNS: Final[tuple[Sequence[str], Sequence[str]]] = ((), (*KEY_COLUMNS, "source", "side", "capacity"))


@dataclass(frozen=True, slots=True)
class InvitedRow:
    """A good row. ``key``: an ``ExternalId.ref``, or an e-mail address if ``is_email``."""

    line: int
    key: str
    is_email: bool
    invitation: Invitation


def read_invitation_header(record: CsvRecord) -> FileHeader:
    """Read the first record. One of the columns ``KEY_COLUMNS`` is needed."""
    header = read_header(record, INVITATION_COLUMNS)
    if header.names and not set(KEY_COLUMNS) & set(header.names):
        text = f"one of the columns {' or '.join(KEY_COLUMNS)} is needed"
        header = replace(header, issues=(*header.issues, Issue(record.line, "", "missing_column", text)))
    return header


@dataclass(frozen=True)
class InvitationReader:
    """Reads the records of one list after its header. ``source``: the HR system of external ids without one."""

    header: FileHeader
    source: str
    programme_id: str

    def read(self, record: CsvRecord) -> InvitedRow | list[Issue]:
        """The row, or all of its problems."""
        columns = self.header.names
        try:
            fields = split_record(record, columns)
        except MalformedField as error:
            return [Issue(record.line, error.column, error.code, error.message)]
        parser = FieldParser(record.line, dict(zip(columns, fields, strict=True)), self.source)
        source = parser.optional("source", parse_id) or self.source
        external_id, email = parser.optional("external_id", parse_id), parser.optional("email", parse_email)
        side, capacity = parser.optional("side", parse_side), parser.optional("capacity", parse_capacity)
        if external_id is None and email is None and not parser.issues:
            parser.issues.append(Issue(record.line, KEY_COLUMNS[0], "missing", "the row names nobody"))
        if parser.issues:
            return parser.issues
        key = external_ref(source, external_id) if external_id is not None else email or ""
        invitation = Invitation(programme_id=self.programme_id, side=side or "either", capacity=capacity)
        return InvitedRow(record.line, key, external_id is None, invitation)
