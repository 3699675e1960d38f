"""The table "Who may do what" of docs/architecture/access.md."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROLES = ("member", "coordinator", "admin", "service")


@dataclass(frozen=True)
class AccessRow:
    service: str
    method: str
    path: str
    cells: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def table() -> Iterator[AccessRow]:
    """The rows of the table "Who may do what" in the document."""
    text = Path("docs/architecture/access.md").read_text(encoding="utf-8")
    service = ""
    for line in text.partition("| method and path | member")[2].splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 1 + len(ROLES):
            return
        if heading := re.fullmatch(r"\*\*(\w+)\*\*", cells[0]):
            service = heading[1]
            continue
        method, _, path = cells[0].strip("`").partition(" ")
        yield AccessRow(service, method, path, dict(zip(ROLES, cells[1:], strict=True)))


TABLE = list(table())
