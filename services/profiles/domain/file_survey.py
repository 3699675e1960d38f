"""The people and reporting lines of one whole file, collected before any row takes effect."""

from collections.abc import Callable, Mapping, Sequence

from services.profiles.domain.hr_record import email_ref
from services.profiles.domain.line import find_circles, reporting_line
from services.profiles.domain.person import OrgPosition, Person
from services.profiles.domain.row_parser import FileHeader, ImportRow, Issue

MAX_LINES_NAMED = 5  # lines named of a circle of managers
MAX_UNKNOWN_MANAGERS = 0.1  # share of the rows; more of them mean a wrong column, and would dissolve reporting lines
MIN_UNKNOWN_MANAGERS = 3  # rows; fewer are typing errors, also in a short file


class FileSurvey:
    """Collects rows. For each person it holds only the id, the line in the file, and the manager.

    ``members``: external id (``ExternalId.ref``) of each good row -> member id, or None for an erased person.
    ``lines``: member id -> line of the first good row about them. ``row_count``: all rows, good or not.
    ``unresolved``: members whose manager in the file cannot be used.
    ``hash_ref`` turns an external id into the key under which it may be stored.
    """

    def __init__(self, hash_ref: Callable[[str], str]) -> None:
        self._hash_ref = hash_ref
        self.header = FileHeader((), (Issue(1, "", "empty", "the file is empty"),))
        self.row_count = 0
        self.unresolved: frozenset[str] = frozenset()
        self.members: dict[str, str | None] = {}
        self.lines: dict[str, int] = {}
        self._member_of_email: dict[str, str | None] = {}  # by ``email_ref``; None where two people have it
        self._manager_ref: dict[str, str] = {}
        self._mentioned: set[str] = set()
        self._outside_members: Mapping[str, str] = {}
        self._manager_of: dict[str, str | None] = {}
        self._circles: Mapping[str, Sequence[str]] = {}

    @property
    def header_failure(self) -> str | None:
        """The code of the problem of the header that prevents the import of the whole file, or None."""
        refusing = [issue.code for issue in self.header.issues if issue.refused]
        return refusing[0] if refusing else None

    @property
    def failure(self) -> str | None:
        """As ``header_failure``; a file without rows is one, too."""
        return self.header_failure or (None if self.row_count else "no_rows")

    def add_rows(self, rows: Sequence[ImportRow], members: Mapping[str, str | None]) -> None:
        for row in rows:
            external_id = row.hr.external_id.ref
            member = members[external_id]
            self.members.setdefault(external_id, member)
            if member is None or member in self.lines:
                continue
            self.lines[member] = row.line
            if row.hr.email is not None:
                ref = email_ref(row.hr.email)
                self._member_of_email[ref] = None if ref in self._member_of_email else member
            if row.manager is not None:
                self._manager_ref[member] = row.manager
            self._mentioned.update(row.evaluators)

    def refs_outside_file(self) -> list[str]:
        """The references to managers and evaluators without a good row in the file."""
        inside = self.members.keys() | self._member_of_email.keys()
        return [ref for ref in {*self._manager_ref.values(), *self._mentioned} if ref not in inside]

    def add_outsiders(self, members_by_ref: Mapping[str, str], persons: Mapping[str, Person]) -> None:
        """Add people who are not in the file, then find the members whose manager cannot be used (``unresolved``).

        ``members_by_ref``: external id -> member id, for known people. ``persons``: these members and the managers
        above them, by member id.
        """
        self._outside_members = members_by_ref
        self._add_managers(persons)
        for member in self.lines:
            manager_ref = self._manager_ref.get(member)
            self._manager_of[member] = None if manager_ref is None else self._resolve_ref(manager_ref)
        self._circles = find_circles(self._manager_of)
        self.unresolved = frozenset(
            member for member in self._manager_ref if member in self._circles or self._manager_of.get(member) is None
        )

    def lines_without_manager(self) -> list[int]:
        """The lines of rows whose manager nobody knows. A circle of managers is another matter."""
        return sorted(self.lines[member] for member in self.unresolved if member not in self._circles)

    def lacks_managers(self) -> bool:
        """Whether so many managers are unknown that the file must be wrong."""
        unknown = len(self.lines_without_manager())
        return unknown >= MIN_UNKNOWN_MANAGERS and unknown > self.row_count * MAX_UNKNOWN_MANAGERS

    def manager_issues(self) -> list[Issue]:
        """The report of a file that ``lacks_managers``."""
        lines = self.lines_without_manager()
        text = (
            f"the managers of {len(lines)} of {self.row_count} rows are unknown, so nothing was imported; write their "
            "external ids or e-mail addresses, or leave the column out"
        )
        unknown = "nobody has the external id or the address of this manager"
        return [
            Issue(1, "manager", "unknown_managers", text),
            *(Issue(line, "manager", "unknown_manager", unknown) for line in lines),
        ]

    def keep_managers(self, former: Mapping[str, str | None], persons: Mapping[str, Person]) -> None:
        """Let these members keep their managers, as if the file did not name them.

        ``former``: member id -> manager. ``persons``: these managers and the managers above them, by member id.
        """
        self._add_managers(persons)
        self._manager_of |= former

    def restore_former_managers(self, former: Mapping[str, str | None], persons: Mapping[str, Person]) -> None:
        """Let members without a usable manager keep their former one.

        ``former``: member id -> former manager. ``persons``: the former managers and the managers above them.
        """
        self._add_managers(persons)
        for member in self.unresolved:
            self._manager_of[member] = former.get(member)

    def _add_managers(self, persons: Mapping[str, Person]) -> None:
        for member, person in persons.items():
            if member not in self.lines:
                self._manager_of[member] = person.place.manager

    def position_of(self, member: str, row: ImportRow) -> OrgPosition:
        """The member's position in the organisation.

        When the manager named by HR cannot be used, the former one stays. So a typing error in a file cannot pair
        anybody with a person of their own line.
        """
        evaluator_ids = (self._resolve_ref(evaluator_ref) for evaluator_ref in row.evaluators)
        evaluators = tuple(
            dict.fromkeys(member_id for member_id in evaluator_ids if member_id is not None and member_id != member)
        )
        manager_key = self._hash_ref(row.manager) if row.manager is not None and member in self.unresolved else None
        line = reporting_line(member, self._manager_of)
        return OrgPosition(manager=line[0] if line else None, line=line, evaluators=evaluators, wanted=manager_key)

    def duplicate_issue(self, member: str, row: ImportRow) -> Issue | None:
        first = self.lines[member]
        if first == row.line:
            return None
        return Issue(row.line, "external_id", "duplicate", f"the same person is already on line {first}")

    def reference_remarks(self, member: str, row: ImportRow) -> list[Issue]:
        """Remarks about the manager and the evaluators to whom a row refers."""
        issues = []
        if row.manager is not None and member in self._circles:
            text = f"the managers on these lines manage each other in a circle: {self._describe_circle(member)}"
            issues.append(Issue(row.line, "manager", "manager_loop", text, refused=False))
        elif row.manager is not None and member in self.unresolved:
            text = "the manager is unknown or has a refused row; the person is imported without this manager"
            issues.append(Issue(row.line, "manager", "unknown_manager", text, refused=False))
        if any(self._resolve_ref(evaluator_ref) is None for evaluator_ref in row.evaluators):
            text = "an evaluator is unknown, or the evaluator's own row was refused; the others are imported"
            issues.append(Issue(row.line, "evaluators", "unknown_evaluator", text, refused=False))
        return issues

    def _resolve_ref(self, ref: str) -> str | None:
        for members in (self.members, self._member_of_email):
            if ref in members:
                return members[ref]
        return self._outside_members.get(ref)

    def _describe_circle(self, member: str) -> str:
        line_numbers = [
            str(self.lines[manager]) if manager in self.lines else "outside this file"
            for manager in self._circles[member]
        ]
        return ", ".join(line_numbers[:MAX_LINES_NAMED]) + (
            " and others" if len(line_numbers) > MAX_LINES_NAMED else ""
        )
