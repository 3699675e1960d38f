"""HR's file, on the real service code and a real store."""

import asyncio
from typing import Any

import pytest

from chassis.storage.aggregates import Change, SaveResult
from services.profiles import import_runner
from services.profiles.domain.person import Person
from tests.profiles.conftest import ProfilesHarness, pairing

HEADER = "external_id,name,organisation,department,level,manager,employment\n"


def file(*rows: str, header: str = HEADER) -> str:
    return header + "\n".join(rows) + "\n"


async def test_a_file_of_people_becomes_members_with_lines(world: ProfilesHarness) -> None:
    done = await world.import_file(
        file(
            "e3,Cy,halden,Human Resources,4,e2,",
            "e2,Bo,halden,it,9,e1,",
            "e1,Al,halden,it,15,,",
            "e4,Di,halden,it,3,e3,",
        )
    )
    assert done["state"] == "done"
    assert (done["rows"], done["created"], done["failed"]) == (4, 4, 0)
    al, bo, cy, di = [await world.member(f"e{n}") for n in (1, 2, 3, 4)]
    assert di.place.line == (cy.member_id, bo.member_id, al.member_id)
    assert cy.place.line == (bo.member_id, al.member_id)
    assert cy.hr is not None
    assert cy.hr.department_id == "human-resources"
    topics = [topic for topic, _ in await world.outbox_events(world.profiles.persons, di.member_id)]
    assert topics == ["profiles.v1", "contacts.v1"]


async def test_the_same_file_again_changes_nothing(world: ProfilesHarness) -> None:
    rows = file("e1,Al,halden,it,15,,", "e2,Bo,halden,it,9,e1,")
    await world.import_file(rows)
    before = [await world.profiles.persons.get((await world.member(id)).member_id) for id in ("e1", "e2")]
    again = await world.import_file(rows)
    assert (again["created"], again["changed"], again["unchanged"]) == (0, 0, 2)
    assert [await world.profiles.persons.get((await world.member(id)).member_id) for id in ("e1", "e2")] == before


async def test_each_bad_row_is_named_and_the_good_ones_are_imported(world: ProfilesHarness) -> None:
    """The list of bad input that such a file must survive, all of it in one."""
    lines = [
        b"external_id,name,organisation,department,level,manager,shoe_size",
        b"e1,Al,halden,it,15,,44",
        b"e2,Bo,halden,it,21,e1,",
        b"e3,Cy,halden,it,x,e1,",
        b"e1,Al again,halden,it,15,,",
        b"e4," + b"x" * 1_000_000 + b",halden,it,3,,",
        b"e5,Na\xefve,halden,it,3,,",
        b"e6,=cmd|' /C calc'!A0,halden,it,3,,",
        b"e7,+49 170,halden,it,3,,",
        b"e8,@SUM(A1),halden,it,3,,",
        b"e9,Gone,halden,it,3,nobody,",
        b"e10,Loop,halden,it,3,e11,",
        b"e11,Hole,halden,it,3,e10,",
        b"e12,Self,halden,it,3,e12,",
        b"e13,Short,halden",
        b"e14,,halden,it,3,,",
        b'e15,"Open,halden,it,3,,',
        b"e16,Under bad,halden,it,3,e2,",
        b"e17,Last,halden,it,3,e1,",
    ]
    done = await world.import_file(b"\r\n".join(lines))
    assert done["state"] == "done"
    assert await world.import_errors(done["import_id"]) == [
        (1, "column 7", "unknown_column"),
        (3, "level", "bad_level"),
        (4, "level", "bad_level"),
        (5, "external_id", "duplicate"),
        (6, "name", "too_long"),
        (7, "name", "not_utf8"),
        (8, "name", "formula"),
        (9, "name", "formula"),
        (10, "name", "formula"),
        (11, "manager", "unknown_manager"),
        (12, "manager", "manager_loop"),
        (13, "manager", "manager_loop"),
        (14, "manager", "manager_loop"),
        (15, "department", "wrong_number"),
        (16, "name", "missing"),
        (17, "name", "malformed"),
        (18, "manager", "unknown_manager"),
    ]
    good = {"e1", "e9", "e10", "e11", "e12", "e16", "e17"}
    found = {f"e{n}" for n in range(1, 18) if await world.find_person(f"e{n}") is not None}
    assert found == good
    assert (done["rows"], done["created"], done["failed"]) == (18, 7, 11)
    assert {(await world.member(id)).place.line for id in good - {"e17"}} == {()}


@pytest.mark.parametrize(
    ("content", "failure"),
    [
        (b"", "empty"),
        (b"external_id,name,organisation,level\ne1,Al,halden,3\n", "missing_column"),
        (b"external_id;name;organisation;department;level\ne1;Al;halden;it;3\n", "missing_column"),
        (b"external_id,name,name,organisation,department,level\n", "repeated_column"),
        ("external_id,name,organisation,department,level,Größe\n".encode("latin-1"), "not_utf8"),
    ],
)
async def test_a_file_that_cannot_be_read_at_all_says_why(world: ProfilesHarness, content: bytes, failure: str) -> None:
    done = await world.import_file(content)
    assert (done["state"], done["failure"]) == ("failed", failure)
    assert await world.import_errors(done["import_id"])


async def test_hr_does_not_overwrite_what_a_person_entered(world: ProfilesHarness) -> None:
    header = "external_id,name,organisation,department,level,languages,offers,seeks\n"
    await world.import_file(file("e1,Al,halden,it,9,de,excel:use,python:2", header=header))
    me = (await world.member("e1")).member_id
    async with world.client("member", member=me) as client:
        await client.put("/members/me/entered", json={"languages": ["en", "nb"], "offers": []})
    await world.import_file(file("e1,Al B,halden,sales,9,fr,excel:teach,python:3", header=header))
    al = await world.member("e1")
    assert al.hr is not None
    assert (al.hr.name, al.hr.department_id) == ("Al B", "sales")
    assert al.languages() == ("en", "nb")
    assert al.topics.offers == ()
    assert al.seek_words()[0].priority == 3, "what they have not entered follows HR"


async def test_an_absent_row_is_not_a_leaver(world: ProfilesHarness) -> None:
    await world.import_file(file("e1,Al,halden,it,9,,", "e2,Bo,halden,it,9,,"))
    await world.import_file(file("e2,Bo,halden,it,10,,"))
    assert (await world.member("e1")).employment == "active"


async def test_lines_below_somebody_who_moved_are_drawn_again(world: ProfilesHarness) -> None:
    await world.import_file(
        file("e1,Al,halden,it,15,,", "e2,Bo,halden,it,14,,", "e3,Cy,halden,it,9,e1,", "e4,Di,halden,it,3,e3,")
    )
    bo, cy = await world.member("e2"), await world.member("e3")
    await world.import_file(file("e3,Cy,halden,it,9,e2,"))  # a file with nobody but the one who moved
    assert (await world.member("e4")).place.line == (cy.member_id, bo.member_id)


async def test_a_manager_who_comes_later_is_found(world: ProfilesHarness) -> None:
    await world.import_file(file("e2,Bo,halden,it,9,e1,", "e3,Cy,halden,it,4,e2,"))
    await world.import_file(file("e1,Al,halden,it,15,,"))
    al, bo = await world.member("e1"), await world.member("e2")
    assert bo.place.line == (al.member_id,)
    assert (await world.member("e3")).place.line == (bo.member_id, al.member_id)


async def test_a_slip_in_the_manager_column_leaves_the_line_as_it_was(world: ProfilesHarness) -> None:
    await world.import_file(file("e1,Al,halden,it,15,,", "e2,Bo,halden,it,9,e1,", "e3,Cy,halden,it,4,e2,"))
    before = await _lines(world, "e2", "e3")
    for _ in range(2):
        done = await world.import_file(file("e1,Al,halden,it,15,,", "e2,Bo,halden,it,9,typo,", "e3,Cy,halden,it,4,e2,"))
        assert await _lines(world, "e2", "e3") == before
    assert (done["changed"], done["unchanged"]) == (0, 3)


async def _lines(world: ProfilesHarness, *external_ids: str) -> list[tuple[str, ...]]:
    return [(await world.member(id)).place.line for id in external_ids]


class Killed(BaseException):
    """Stands for ``kill -9``: nothing that follows is done."""


async def test_a_killed_import_goes_on_where_it_stopped(
    world: ProfilesHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the effect of a batch and its cursor, then again; each row counts once all the same."""
    monkeypatch.setattr(import_runner, "BATCH_ROWS", 10)
    rows = [f"e{n},Name {n},halden,it,{n % 20 + 1},e{n // 2},active" for n in range(1, 36)]
    import_id = await world.start_import(file(*rows))
    for stop_at in (2, 3):
        await _work_until_killed(world, stop_at)
        assert (await world.load_import(import_id))["state"] == "running"
        await world.restart()
        await world.let_leases_pass()
    await world.sweep()
    done = await world.load_import(import_id)
    assert (done["state"], done["rows"], done["created"], done["changed"], done["failed"]) == ("done", 35, 35, 0, 0)
    assert await world.profiles.persons.count({}) == 35
    assert await world.import_errors(import_id) == [(2, "manager", "unknown_manager")]
    assert len((await world.member("e9")).place.line) == 3
    assert await world.chassis.documents("uploads").count({}) == 0


async def _work_until_killed(world: ProfilesHarness, batches: int) -> None:
    persons = world.profiles.persons
    real, done = persons.update_many, 0

    async def counted(changes: list[Change[Person]], **more: Any) -> list[SaveResult[Person] | Exception]:
        nonlocal done
        results = await real(changes, **more)
        done += 1
        if done == batches:
            raise Killed
        return results

    persons.update_many = counted  # type: ignore[method-assign,assignment]
    stored = await world.profiles.unfinished_imports()
    with pytest.raises(Killed):
        await import_runner.drive_import(stored[0], world.profiles)


async def test_two_files_are_worked_on_one_after_the_other(world: ProfilesHarness) -> None:
    first = await world.start_import(file("e1,Al,halden,it,15,,"))
    second = await world.start_import(file("e1,Al,halden,it,16,,"))
    stored = {one.id: one for one in await world.profiles.unfinished_imports()}
    await asyncio.gather(*(import_runner.drive_import(stored[id], world.profiles) for id in (second, first)))
    assert (await world.load_import(first))["state"] == "done"
    assert (await world.load_import(second))["state"] == "received"
    await world.let_leases_pass()
    await world.sweep()
    al = await world.member("e1")
    assert al.hr is not None
    assert al.hr.level is not None
    assert al.hr.level.normalised == 16


async def test_the_same_upload_again_is_the_same_import(world: ProfilesHarness) -> None:
    async with world.client("admin") as admin:
        key = {"Idempotency-Key": "k1"}
        first = await admin.post("/imports", content=file("e1,Al,halden,it,15,,"), headers=key)
        again = await admin.post("/imports", content=file("e1,Al,halden,it,15,,"), headers=key)
        other = await admin.post("/imports", content=file("e2,Bo,halden,it,15,,"), headers=key)
    assert first.json()["import_id"] == again.json()["import_id"]
    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert await world.chassis.documents("uploads").count({}) == 1


async def test_an_import_that_touches_many_running_pairings_waits_for_a_person(world: ProfilesHarness) -> None:
    rows = [f"e{n},Name {n},halden,it,5,," for n in range(20)]
    await world.import_file(file(*rows))
    members = [(await world.member(f"e{n}")).member_id for n in range(20)]
    now = world.chassis.clock.now()
    await world.project_events(*(pairing(f"pair{n}", members[n], members[n + 10], now=now) for n in range(10)))
    renamed = await world.import_file(file(*(row.replace("Name", "Other") for row in rows)))
    assert (renamed["state"], renamed["changed"], renamed["touched_pairings"]) == ("done", 20, 0)
    moved = await world.import_file(file("e1,Other 1,halden,sales,5,,", "e2,Other 2,halden,it,5,,"))
    assert (moved["state"], moved["touched_pairings"], moved["running_pairings"]) == ("waiting_for_release", 1, 10)
    assert moved["rows"] == 0
    async with world.client("coordinator", subject="someone") as other, world.client("admin") as admin:
        assert (await other.post(f"/imports/{moved['import_id']}/release")).status_code == 404
        assert (await admin.post(f"/imports/{moved['import_id']}/release")).status_code == 200
    await world.sweep()
    done = await world.load_import(moved["import_id"])
    assert (done["state"], done["changed"], done["released_by"]) == ("done", 1, "admin")


async def test_an_old_file_cannot_be_released_over_a_newer_one(world: ProfilesHarness) -> None:
    await world.import_file(file("e1,Al,halden,it,5,,", "e2,Bo,halden,it,9,,"))
    pair = [(await world.member(id)).member_id for id in ("e1", "e2")]
    await world.project_events(pairing("pair", *pair, now=world.chassis.clock.now()))
    old = await world.import_file(file("e1,Al,halden,sales,5,,"))
    await world.import_file(file("e3,Cy,halden,it,5,,"))
    async with world.client("admin") as admin:
        answer = await admin.post(f"/imports/{old['import_id']}/release")
    assert (answer.status_code, answer.json()["code"]) == (409, "outdated")


async def test_a_coordinator_invites_to_their_own_programmes_only(world: ProfilesHarness) -> None:
    await world.publish_programme("p1")
    header = "external_id,name,organisation,department,level,programme\n"
    async with world.client("coordinator", programmes=("p1",)) as coordinator:
        answer = await coordinator.post(
            "/imports", content=file("e1,Al,halden,it,5,p1", "e2,Bo,halden,it,5,p2", header=header)
        )
    await world.sweep()
    assert await world.import_errors(answer.json()["import_id"]) == [(3, "programme", "not_your_programme")]
    assert [one.state for one in (await world.member("e1")).enrolments] == ["invited"]
    assert (await world.member("e2")).enrolments == ()
