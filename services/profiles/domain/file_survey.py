"""The whole picture of one file: who is in it, and who manages whom."""

from collections.abc import Callable, Mapping, Sequence

from services.profiles.domain.import_rows import Header, Issue, Row
from services.profiles.domain.line import line_of, loops
from services.profiles.domain.person import Person, Place

SHOWN = 5  # lines named of a circle of managers


class Survey:
    """Grows row by row; holds of each person their id, their line in the file, and their manager, and no more.

    ``members`` maps the external id (``ExternalId.ref``) of each good row to the member, or to None for somebody who
    was erased; ``lines`` the member to the line of the first good row about them. ``hashed`` makes of an external id
    the key under which it may be kept.
    """

    def __init__(self, hashed: Callable[[str], str]) -> None:
        self._hashed = hashed
        self.header = Header((), (Issue(1, "", "empty", "the file is empty"),))
        self.total = 0
        self.unusable: frozenset[str] = frozenset()
        self.members: dict[str, str | None] = {}
        self.lines: dict[str, int] = {}
        self._manager_ref: dict[str, str] = {}
        self._mentioned: set[str] = set()
        self._others: Mapping[str, str] = {}
        self._manager_of: dict[str, str | None] = {}
        self._circles: Mapping[str, Sequence[str]] = {}

    @property
    def failure(self) -> str | None:
        """Why the file as a whole cannot be imported."""
        refusing = [issue.code for issue in self.header.issues if issue.refused]
        return refusing[0] if refusing else None

    def add(self, rows: Sequence[Row], members: Mapping[str, str | None]) -> None:
        for row in rows:
            external_id = row.hr.external_id.ref
            member = members[external_id]
            self.members.setdefault(external_id, member)
            if member is None or member in self.lines:
                continue
            self.lines[member] = row.line
            if row.manager is not None:
                self._manager_ref[member] = row.manager
            self._mentioned.update(row.evaluators)

    def mentioned_elsewhere(self) -> list[str]:
        """External ids of managers and evaluators who have no good row in the file."""
        return [one for one in {*self._manager_ref.values(), *self._mentioned} if one not in self.members]

    def know(self, others: Mapping[str, str], people: Mapping[str, Person]) -> None:
        """Complete the picture by people outside the file.

        ``others``: external id -> member, as far as they are known; ``people``: those members, and managers above them.
        ``unusable`` then names those whose manager in the file cannot be used.
        """
        self._others = others
        self._add(people)
        for member in self.lines:
            wanted = self._manager_ref.get(member)
            self._manager_of[member] = None if wanted is None else self._member(wanted)
        self._circles = loops(self._manager_of)
        self.unusable = frozenset(
            member for member in self._manager_ref if member in self._circles or self._manager_of.get(member) is None
        )

    def fall_back(self, former: Mapping[str, str | None], people: Mapping[str, Person]) -> None:
        """Let those whose manager cannot be used keep the one they had; ``people`` are those, and who is above them."""
        self._add(people)
        for member in self.unusable:
            self._manager_of[member] = former.get(member)

    def _add(self, people: Mapping[str, Person]) -> None:
        for member, person in people.items():
            if member not in self.lines:
                self._manager_of[member] = person.place.manager

    def place(self, member: str, row: Row) -> Place:
        """Where somebody stands.

        Where HR named a manager who cannot be used, the one known so far stays: a slip in a file should pair nobody
        with their own line.
        """
        found = (self._member(one) for one in row.evaluators)
        evaluators = tuple(dict.fromkeys(id for id in found if id is not None and id != member))
        wanted = self._hashed(row.manager) if row.manager is not None and member in self.unusable else None
        line = line_of(member, self._manager_of)
        return Place(manager=line[0] if line else None, line=line, evaluators=evaluators, wanted=wanted)

    def repeats(self, member: str, row: Row) -> Issue | None:
        first = self.lines[member]
        if first == row.line:
            return None
        return Issue(row.line, "external_id", "duplicate", f"the same person is already on line {first}")

    def remarks(self, member: str, row: Row) -> list[Issue]:
        """What is to be said about the people whom a row refers to."""
        found = []
        if row.manager is not None and member in self._circles:
            text = f"the managers on these lines form a circle: {self._circle(member)}"
            found.append(Issue(row.line, "manager", "manager_loop", text, refused=False))
        elif row.manager is not None and member in self.unusable:
            text = "there is no such person, or their own row was refused; the person is imported without this manager"
            found.append(Issue(row.line, "manager", "unknown_manager", text, refused=False))
        if any(self._member(one) is None for one in row.evaluators):
            text = "there is no such person, or their own row was refused"
            found.append(Issue(row.line, "evaluators", "unknown_evaluator", text, refused=False))
        return found

    def _member(self, wanted: str) -> str | None:
        return self.members[wanted] if wanted in self.members else self._others.get(wanted)

    def _circle(self, member: str) -> str:
        places = [str(self.lines[one]) if one in self.lines else "outside this file" for one in self._circles[member]]
        return ", ".join(places[:SHOWN]) + (" and others" if len(places) > SHOWN else "")
