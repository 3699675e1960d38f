"""The fields that each identity reads of each object, and that nobody else may do anything to it.

`docs/architecture/fields.md` holds the result for review; every cell is compared with the running services. Write it
again with `VICEVERSA_WRITE_FIELDS=1 ./scripts/test tests/journey/test_access_fields.py`, and read the difference.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from chassis.web.dev_tokens import ALGORITHM, load_signing_key, public_jwk
from contracts.catalogue import SERVICES
from tests.journey.access_table import TABLE, AccessRow
from tests.journey.actors import A, Actors, B, body_of
from tests.journey.conditions import wait_until
from tests.journey.people import ok

DOCUMENT = Path("docs/architecture/fields.md")
VARIABLE = "VICEVERSA_WRITE_FIELDS"
HEAD = """# Who reads which field

This page is generated from the answers of the running services. A test compares it with them
(`TestFields::test_each_identity_reads_the_fields_of_the_page`). It says for each object who reads which of its fields.
A change of this page is a change of what people can see: read it in a review. Fields without a value are left
out. The rules are in [Access](access.md); the fields of a person are there too, by state.

The object is a formed pairing of a senior and a junior, or belongs to them or to their programme. *Manager* is that
of the junior. *Former coordinator* is somebody whom the programme does not name any more.
"""
WITHOUT_OBJECT = {"GET /statements", "GET /topics", "GET /questions", "GET /members", "GET /members/{member}"}
"""The same for everybody, or in the table of the fields of a person."""

Client = Callable[[str], httpx.Client]


def identities(cast: Actors) -> Mapping[str, Client]:
    """Each identity by name: a client of a service as this caller."""

    def with_token(token: str | None) -> Client:
        return lambda service: cast.stack.api(service, token or "none")

    def member(who: str, *roles: str, programmes: tuple[str, ...] = ()) -> Client:
        return lambda service: cast.api(service, who, "member", *roles, programmes=programmes)

    def account(*roles: str, programmes: tuple[str, ...] = (), subject: str, no_member: bool = True) -> Client:
        return with_token(cast.token(None, *roles, programmes=programmes, subject=subject, no_member=no_member))

    return {
        "senior": member("s4"),
        "junior": member("j1"),
        "another member": member("s2"),
        "manager": member("boss"),
        "coordinator": account("coordinator", programmes=(A,), subject="coordinates"),
        "coordinator who takes part": member("s4", "coordinator", programmes=(A,)),
        "coordinator who is the manager": member("boss", "coordinator", programmes=(A,)),
        "coordinator of another programme": account("coordinator", programmes=(B,), subject="elsewhere"),
        "former coordinator": account("coordinator", subject="formerly"),
        "undeclared coordinator": account("coordinator", programmes=(A,), subject="undeclared", no_member=False),
        "admin": account("admin", subject="administers"),
        "admin who takes part": member("s4", "admin"),
        "undeclared admin": account("admin", subject="undeclared-admin", no_member=False),
        "service": account("service", subject="hr-system"),
        "confidential contact": account("service", subject="speak-up"),
        "former contact": account("service", subject="spoke-up"),
        "no role": account(subject="nobody"),
        "no token": with_token(None),
        "ID token": with_token(id_token(cast)),
    }


def id_token(cast: Actors) -> str:
    key = load_signing_key(cast.stack.data)
    claims = jwt.decode(cast.token("s4", "member"), options={"verify_signature": False})
    return jwt.encode({**claims, "nonce": "n"}, key, algorithm=ALGORITHM, headers={"kid": public_jwk(key)["kid"]})


def path_of(row: AccessRow, cast: Actors) -> str:
    """The path with the ids of the objects of the formed pairing."""
    pairing = cast.pairings["f1"]
    objects = {
        "programmes": A,
        "rounds": cast.rounds[A],
        "pairings": pairing,
        "receipts": cast.receipt("f1") if row.path.startswith("/receipts") else "",
        "requests": cast.requests["accept"],
        "suggestions": cast.suggestions["release"],
    }
    values = {
        "id": objects.get(row.path.split("/")[1], ""),
        "programme": A,
        "version": "0",
        "import_id": cast.imports["coordinator"],
        "milestone": "day_0",
        "notification": cast.care["message"],
        "other": cast.rounds[A],
        "adjustment": "none",
        "session": cast.care["session"],
        "idea": cast.care["idea"],
        "member": cast.ids["j1"],
        "member_id": cast.ids["j1"],
    }
    return re.sub(r"{(\w+)}", lambda name: values[name[1]], row.path)


def field_paths(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all fields with a value. Ids, days and codes as keys are ``*``, and items of a list are merged."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            plain = re.fullmatch(r"[a-z][a-z_]*", name) and "numbers" not in path
            yield from field_paths(inner, f"{path}.{name if plain else '*'}".lstrip("."))
    elif isinstance(value, list) and value:
        for item in value:
            yield from field_paths(item, path)
    elif value not in (None, [], {}, ""):
        yield path


def answer_of(row: AccessRow, client: Client, cast: Actors) -> str:
    """The fields of the answer, or its status with the code."""
    query = {"programme_id": A} if str(row) == "GET /pairings" else None
    answer = client(row.service).get(path_of(row, cast), params=query)
    assert answer.status_code < 500, f"{row}: {answer.text}"
    if not answer.is_success:
        return f"{answer.status_code} {answer.json()['code']}"
    fields = sorted(set(field_paths(answer.json())))
    return ", ".join(f"`{field}`" for field in fields) or "nothing"


READS = [row for row in TABLE if row.method == "GET" and str(row) not in WITHOUT_OBJECT]


def render(answers: Mapping[str, Mapping[str, str]]) -> str:
    """The page: for each route the groups of identities that read the same."""
    parts = [HEAD]
    for row in READS:
        groups: dict[str, list[str]] = {}
        for identity, answer in answers[str(row)].items():
            groups.setdefault(answer, []).append(identity)
        lines = [f"- **{', '.join(names)}**: {answer}" for answer, names in groups.items()]
        parts.append(f"## `{row}`\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


class TestFields:
    def test_each_identity_reads_the_fields_of_the_page(self, cast: Actors) -> None:
        callers = identities(cast)
        assert len(callers) >= 10
        cast.stack.settle()
        computed = callers["admin"]("matcher")
        path = f"/rounds/{cast.rounds[A]}"
        wait_until(lambda: ok(computed.get(path))["state"] == "computed", "the round of the programme")
        answers = {str(row): {name: answer_of(row, client, cast) for name, client in callers.items()} for row in READS}
        page = render(answers)
        if os.environ.get(VARIABLE):
            DOCUMENT.write_text(page, encoding="utf-8")
        assert page == DOCUMENT.read_text(encoding="utf-8")


STRANGERS = (
    "another member",
    "manager",
    "coordinator of another programme",
    "former coordinator",
    "service",
    "confidential contact",
    "former contact",
    "no role",
    "no token",
    "ID token",
)
ROLE_OF = {"another member": "member", "manager": "member", "coordinator of another programme": "coordinator",
           "former coordinator": "coordinator", "service": "service", "confidential contact": "service",
           "former contact": "service"}  # fmt: skip
ABOUT_THE_CALLER = {"PUT /preferences", "POST /programmes", "POST /imports", "POST /programmes/{id}/requests"}
"""Commands that name no object of somebody else: they act on the caller's own, or create something new."""
COMMANDS = [row for row in TABLE if row.method != "GET" and str(row) not in ABOUT_THE_CALLER]


class TestCommands:
    @pytest.mark.parametrize("row", COMMANDS, ids=str)
    def test_nobody_else_does_anything_to_the_object(self, row: AccessRow, cast: Actors) -> None:
        """Those whose role has the whole cell, such as an admin, are covered by the table itself."""
        callers = identities(cast)
        for name in STRANGERS:
            cell = row.cells.get(ROLE_OF.get(name, ""), "-")
            if cell.startswith("all") or (cell == "the contact" and name == "confidential contact"):
                continue
            if cell in ("of HR", "its sources"):
                continue
            sent = body_of(row.method, row.path, cast, mine=True)
            answer = callers[name](row.service).request(row.method, path_of(row, cast), **sent)
            assert answer.status_code in (401, 403, 404) or answer.json().get("code") == "not_enrolled", (
                f"{name}: {answer.status_code} {answer.text}"
            )

    def test_every_service_is_covered(self) -> None:
        assert {row.service for row in COMMANDS} == {row.service for row in READS} == set(SERVICES)
