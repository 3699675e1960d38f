"""The fields of a person by role: the table of docs/architecture/access.md against the real answers, cell by cell."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis.web.authentication import Role
from services.profiles.domain.person import Person
from tests.profiles.conftest import ProfilesHarness

DOCUMENT = Path("docs/architecture/access.md")
HEAD = "| field | the person |"
FILE = """external_id,name,organisation,department,level,email,site,discipline,manager,evaluators,offers,seeks,languages
boss,Bo Ss,halden,it,19,boss@halden.example,graz,it,,,,,
eva,Ev Al,halden,law,15,,,,,,,,
{rows}"""
ROW = "{id},{id} Li,halden,it,9,{id}@halden.example,graz,engineering,boss,eva,excel:use,python:2,de\n"
STATES = ("stranger", "invited", "enrolled", "left")
COLUMNS = (
    "the person",
    "admin",
    "service",
    *(f"coordinator: {state}" for state in ("not invited", *STATES[1:])),
    "others",
)


def read_table() -> dict[str, dict[str, bool]]:
    """Column -> field -> whether it is in the answer."""
    lines = iter(DOCUMENT.read_text(encoding="utf-8").splitlines())
    head = next(line for line in lines if line.startswith(HEAD))
    columns = [cell.strip() for cell in head.strip("|").split("|")][1:]
    assert columns == list(COLUMNS)
    next(lines)
    table: dict[str, dict[str, bool]] = {column: {} for column in columns}
    for line in lines:
        if not line.startswith("|"):
            break
        field, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert set(cells) <= {"yes", "-"}
        for column, cell in zip(columns, cells, strict=True):
            table[column][field.strip("`")] = cell == "yes"
    return table


def fields_of(view: dict[str, Any]) -> set[str]:
    """The names of all fields with a value. Inner fields are named as in the table."""
    fields: set[str] = set()
    for name, value in view.items():
        inner = value[0] if name == "enrolments" and value else value if name in ("contact", "private") else None
        if isinstance(inner, dict):
            fields |= {f"{name}.{part}" for part in inner}
        elif name not in ("private", "enrolments"):
            fields.add(name)
    return fields


@pytest.fixture
async def cast(harness: ProfilesHarness) -> dict[str, Person]:
    """One person for each state in ``p1``, the manager of all, and a person who once coordinated ``p1``."""
    for programme_id in ("p1", "p2"):
        await harness.publish_programme(programme_id, coordinators=("none-yet",))
    await harness.import_file(FILE.format(rows="".join(ROW.format(id=state) for state in STATES)))
    people = {name: await harness.member(name) for name in ("boss", *STATES)}
    async with harness.client("admin") as admin:
        for state in STATES[1:]:
            path = f"/members/{people[state].member_id}/enrolments/p1/invitation"
            assert (await admin.post(path, json={"side": "senior"})).status_code == 200
    for state in ("enrolled", "left"):
        async with harness.client("member", member=people[state].member_id) as me:
            entered = {"offers": [{"topic": "leadership"}], "seeks": [{"topic": "python"}], "intro": "Private words"}
            assert (await me.put("/members/me/entered", json=entered)).status_code == 200
            assert (await me.put("/members/me/enrolments/p1", json={"notice": "1"})).status_code == 200
            assert (await me.put("/members/me/away", json={"away": [{"since": "2026-03-01"}]})).status_code == 200
    async with harness.client("member", member=people["left"].member_id) as me:
        assert (await me.post("/members/me/enrolments/p1/leave")).status_code == 200
    return people


def callers(
    harness: ProfilesHarness, cast: dict[str, Person], state: str
) -> Iterator[tuple[str, str, httpx.AsyncClient]]:
    """The column of the table, a name for the failure, and the caller."""
    person, boss = cast[state].member_id, cast["boss"].member_id

    def client(
        name: str, *roles: Role, member: str | None = None, programmes: tuple[str, ...] = ()
    ) -> httpx.AsyncClient:
        return harness.client(*roles, member=member, programmes=programmes, subject=f"{name} of {state}")

    mine = f"coordinator: {'not invited' if state == 'stranger' else state}"
    yield "the person", "themselves", client("themselves", "member", member=person)
    yield "admin", "admin", client("admin", "admin")
    yield "service", "service", client("service", "service")
    yield mine, "by token", client("by token", "coordinator", programmes=("p1",))
    yield mine, "by programme", client("by programme", "member", "coordinator", member="named-by-p1")
    yield mine, "manager", client("both", "member", "coordinator", member=boss, programmes=("p1",))
    yield "others", "another's coordinator", client("another", "coordinator", programmes=("p2",))
    yield "others", "named by another", client("named", "member", "coordinator", member="named-by-p2")
    yield "others", "former coordinator", client("former", "member", "coordinator", member="none-yet")
    yield "others", "manager", client("manager", "member", member=boss)
    yield (
        "others",
        "manager, another's coordinator",
        client("m2", "member", "coordinator", member=boss, programmes=("p2",)),
    )
    yield "others", "named without the role", client("roleless", "member", member="named-by-p1")


class TestFields:
    @pytest.mark.parametrize("state", STATES)
    async def test_each_relation_sees_the_fields_of_its_column(
        self, harness: ProfilesHarness, cast: dict[str, Person], state: str
    ) -> None:
        table = read_table()
        for programme_id in ("p1", "p2"):  # those who were named before are former coordinators now
            await harness.publish_programme(programme_id, coordinators=(f"named-by-{programme_id}",), sequence=2)
        me = cast[state].member_id
        for column, caller, client in callers(harness, cast, state):
            expected = {field for field, visible in table[column].items() if visible}
            if state == "stranger":
                expected = {field for field in expected if not field.startswith("enrolments.")}
            async with client:
                answer = await client.get(f"/members/{me}")
                listed = await client.get("/members", params={"limit": 200})
            assert answer.status_code == (200 if expected else 404), caller
            assert fields_of(answer.json() if expected else {}) == expected, caller
            assert ("ETag" in answer.headers) == (column == "the person"), caller
            if listed.status_code == 200:
                shown = [view for view in listed.json()["items"] if view["member_id"] == me]
                assert [fields_of(view) for view in shown] == ([expected] if expected else []), caller
            else:
                assert (listed.status_code, column in ("the person", "others")) == (403, True), caller

    async def test_a_search_tells_nothing_of_hidden_fields(
        self, harness: ProfilesHarness, cast: dict[str, Person]
    ) -> None:
        me = cast["enrolled"].member_id
        async with harness.client("member", member=me) as person:
            await person.put("/members/me/contact", json={"display_name": "Robin Shown"})
        async with harness.client("coordinator", programmes=("p1",)) as coordinator:

            async def names(**query: str) -> list[str]:
                items = (await coordinator.get("/members", params=query)).json()["items"]
                return [item["name"] for item in items]

            assert await names() == ["Robin Shown"]
            assert await names(name="robin") == ["Robin Shown"]
            assert await names(name="enrolled li") == [], "HR's name is not the name that is shown"
            for state in ("invited", "left"):
                assert await names(state=state) == []
            assert await names(programme="p2") == []
            for hidden in ({"email": "enrolled@halden.example"}, {"external_id": "enrolled"}):
                assert (await coordinator.get("/members", params=hidden)).status_code == 403
                assert (await coordinator.get("/members", params={"programme": "p1", **hidden})).status_code == 403

    async def test_only_entered_topics_are_shown_to_coordinators(
        self, harness: ProfilesHarness, cast: dict[str, Person]
    ) -> None:
        """HR's suggestions count for matching, and are nothing that the person chose to show."""
        async with harness.client("member", member=cast["invited"].member_id) as me:
            assert (await me.put("/members/me/enrolments/p1", json={"notice": "1"})).status_code == 200
        async with harness.client("coordinator", programmes=("p1",)) as coordinator:
            shown = (await coordinator.get(f"/members/{cast['invited'].member_id}")).json()
        assert (shown["offers"], shown["seeks"], shown["enrolments"][0]["state"]) == ([], [], "ready")


class TestInvitationAnswer:
    async def test_it_is_the_same_for_everybody(self, harness: ProfilesHarness, cast: dict[str, Person]) -> None:
        """Two different requests with one key too: a stored key would tell that the person exists."""
        nobody = "00000000-0000-4000-8000-000000000000"
        answers = []
        async with harness.client("coordinator", programmes=("p1",)) as coordinator:
            for member in (nobody, *(cast[state].member_id for state in STATES)):
                path = f"/members/{member}/enrolments/p1/invitation"
                texts = []
                for side in ("senior", "junior"):
                    headers = {"Idempotency-Key": "k", "If-Match": '"1"'}
                    answer = await coordinator.post(path, json={"side": side}, headers=headers)
                    assert "ETag" not in answer.headers
                    texts.append((answer.status_code, answer.text.replace(member, "MEMBER")))
                answers.append(texts)
        assert answers == [answers[0]] * len(answers)
        assert answers[0][0][0] == 200
        assert (await harness.member("stranger")).enrolments[0].state == "invited"
        assert (await harness.member("left")).enrolments[0].state == "left"

    async def test_named_coordinators_invite_and_others_do_not(
        self, harness: ProfilesHarness, cast: dict[str, Person]
    ) -> None:
        path = f"/members/{cast['stranger'].member_id}/enrolments/p1/invitation"
        await harness.publish_programme("p1", coordinators=("c1",), sequence=2)
        for member, status in (("c1", 200), ("none-yet", 403)):
            async with harness.client("member", "coordinator", member=member) as coordinator:
                assert (await coordinator.post(path, json={})).status_code == status
        async with harness.client("service") as service:
            assert (await service.post(path, json={})).status_code == 403, "no source of HR is bound to it"
