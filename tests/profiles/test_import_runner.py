"""Imports of HR's file, with the real service code and a real store."""

import asyncio
from typing import Any

import pytest

from chassis.storage.aggregates import Change, SaveResult
from services.profiles import import_runner
from services.profiles.domain.person import Person
from tests.profiles.conftest import ProfilesHarness, pairing

HEADER = "external_id,name,organisation,department,level,manager,employment\n"


def csv_file(*rows: str, header: str = HEADER) -> str:
    return header + "\n".join(rows) + "\n"


class TestBadFiles:
    async def test_bad_rows_are_reported_and_good_rows_imported(self, harness: ProfilesHarness) -> None:
        """All kinds of bad input that an import must survive, in one file."""
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
            "e12,Sélf,halden,it,3,e12,".encode(),
            b"e13,Short,halden",
            b"e14,,halden,it,3,,",
            b'e15,"Open,halden,it,3,,',
            b"e16,Under bad,halden,it,3,e2,",
            b"e17,Last,halden,it,3,e1,",
        ]
        result = await harness.import_file(b"\r\n".join(lines))
        assert result["state"] == "done"
        assert await harness.import_errors(result["import_id"]) == [
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
        expected = {"e1", "e9", "e10", "e11", "e12", "e16", "e17"}
        imported = {f"e{n}" for n in range(1, 18) if await harness.find_person(f"e{n}") is not None}
        assert imported == expected
        assert (result["rows"], result["created"], result["failed"]) == (18, 7, 11)
        assert {(await harness.member(id)).place.line for id in expected - {"e17"}} == {()}

    @pytest.mark.parametrize(
        ("content", "failure"),
        [
            (b"", "empty"),
            (b"external_id,name,organisation,level\ne1,Al,halden,3\n", "missing_column"),
            (b"external_id:name:organisation:department:level\ne1:Al:halden:it:3\n", "missing_column"),
            (b"external_id,name,name,organisation,department,level\n", "repeated_column"),
            ("external_id,name,organisation,department,level,Größe\n".encode("latin-1"), "no_rows"),
        ],
    )
    async def test_an_unreadable_file_reports_the_reason(
        self, harness: ProfilesHarness, content: bytes, failure: str
    ) -> None:
        result = await harness.import_file(content)
        assert (result["state"], result["failure"]) == ("failed", failure)
        assert await harness.import_errors(result["import_id"])


class TestImportedPeople:
    async def test_a_file_becomes_members_with_reporting_lines(self, harness: ProfilesHarness) -> None:
        result = await harness.import_file(
            csv_file(
                "e3,Cy,halden,Human Resources,4,e2,",
                "e2,Bo,halden,it,9,e1,",
                "e1,Al,halden,it,15,,",
                "e4,Di,halden,it,3,e3,",
            )
        )
        assert result["state"] == "done"
        assert (result["rows"], result["created"], result["failed"]) == (4, 4, 0)
        al, bo, cy, di = [await harness.member(f"e{n}") for n in (1, 2, 3, 4)]
        assert di.place.line == (cy.member_id, bo.member_id, al.member_id)
        assert cy.place.line == (bo.member_id, al.member_id)
        assert cy.hr is not None
        assert cy.hr.department_id == "human-resources"
        topics = [topic for topic, _ in await harness.outbox_events(harness.profiles.persons, di.member_id)]
        assert topics == ["profiles.v1", "contacts.v1"]

    async def test_the_same_file_again_changes_nothing(self, harness: ProfilesHarness) -> None:
        rows = csv_file("e1,Al,halden,it,15,,", "e2,Bo,halden,it,9,e1,")
        await harness.import_file(rows)
        before = [await harness.profiles.persons.get((await harness.member(id)).member_id) for id in ("e1", "e2")]
        again = await harness.import_file(rows)
        assert (again["created"], again["changed"], again["unchanged"]) == (0, 0, 2)
        assert [
            await harness.profiles.persons.get((await harness.member(id)).member_id) for id in ("e1", "e2")
        ] == before

    async def test_hr_does_not_overwrite_what_a_person_entered(self, harness: ProfilesHarness) -> None:
        header = "external_id,name,organisation,department,level,languages,offers,seeks\n"
        await harness.import_file(csv_file("e1,Al,halden,it,9,de,excel:use,python:2", header=header))
        me = (await harness.member("e1")).member_id
        async with harness.client("member", member=me) as client:
            await client.put("/members/me/entered", json={"languages": ["en", "nb"], "offers": []})
        await harness.import_file(csv_file("e1,Al B,halden,sales,9,fr,excel:teach,python:3", header=header))
        al = await harness.member("e1")
        assert al.hr is not None
        assert (al.hr.name, al.hr.department_id) == ("Al B", "sales")
        assert al.languages() == ("en", "no")
        assert al.topics.offers == ()
        assert al.seek_words()[0].priority == 3, "fields without own entries follow HR"

    async def test_a_person_missing_from_the_file_has_not_left(self, harness: ProfilesHarness) -> None:
        await harness.import_file(csv_file("e1,Al,halden,it,9,,", "e2,Bo,halden,it,9,,"))
        await harness.import_file(csv_file("e2,Bo,halden,it,10,,"))
        assert (await harness.member("e1")).employment == "active"


class TestReportingLines:
    async def test_lines_below_a_moved_manager_are_updated(self, harness: ProfilesHarness) -> None:
        await harness.import_file(
            csv_file("e1,Al,halden,it,15,,", "e2,Bo,halden,it,14,,", "e3,Cy,halden,it,9,e1,", "e4,Di,halden,it,3,e3,")
        )
        bo, cy = await harness.member("e2"), await harness.member("e3")
        await harness.import_file(csv_file("e3,Cy,halden,it,9,e2,"))  # a file with only the person who moved
        assert (await harness.member("e4")).place.line == (cy.member_id, bo.member_id)

    async def test_a_manager_imported_later_is_found(self, harness: ProfilesHarness) -> None:
        await harness.import_file(csv_file("e2,Bo,halden,it,9,e1,", "e3,Cy,halden,it,4,e2,"))
        await harness.import_file(csv_file("e1,Al,halden,it,15,,"))
        al, bo = await harness.member("e1"), await harness.member("e2")
        assert bo.place.line == (al.member_id,)
        assert (await harness.member("e3")).place.line == (bo.member_id, al.member_id)

    async def test_a_typing_error_in_the_manager_keeps_the_line(self, harness: ProfilesHarness) -> None:
        await harness.import_file(csv_file("e1,Al,halden,it,15,,", "e2,Bo,halden,it,9,e1,", "e3,Cy,halden,it,4,e2,"))
        before = await load_lines(harness, "e2", "e3")
        for _ in range(2):
            result = await harness.import_file(
                csv_file("e1,Al,halden,it,15,,", "e2,Bo,halden,it,9,typo,", "e3,Cy,halden,it,4,e2,")
            )
            assert await load_lines(harness, "e2", "e3") == before
        assert (result["changed"], result["unchanged"]) == (0, 3)


async def load_lines(harness: ProfilesHarness, *external_ids: str) -> list[tuple[str, ...]]:
    return [(await harness.member(id)).place.line for id in external_ids]


class ProcessKilled(BaseException):
    """Stands for ``kill -9``: no later statement runs."""


async def run_until_killed(harness: ProfilesHarness, batches: int) -> None:
    persons = harness.profiles.persons
    real_update_many, finished_batches = persons.update_many, 0

    async def count_batches(changes: list[Change[Person]], **options: Any) -> list[SaveResult[Person] | Exception]:
        nonlocal finished_batches
        results = await real_update_many(changes, **options)
        finished_batches += 1
        if finished_batches == batches:
            raise ProcessKilled
        return results

    persons.update_many = count_batches  # type: ignore[method-assign,assignment]
    stored = await harness.profiles.unfinished_imports()
    with pytest.raises(ProcessKilled):
        await import_runner.drive_import(stored[0], harness.profiles)


class TestImportOrder:
    async def test_a_killed_import_continues_where_it_stopped(
        self, harness: ProfilesHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed twice, between applying a batch and saving the cursor. Each row still counts once."""
        monkeypatch.setattr(import_runner, "BATCH_ROWS", 10)
        rows = [f"e{n},Name {n},halden,it,{n % 20 + 1},e{n // 2},active" for n in range(1, 36)]
        import_id = await harness.start_import(csv_file(*rows))
        for stop_at in (2, 3):
            await run_until_killed(harness, stop_at)
            assert (await harness.load_import(import_id))["state"] == "running"
            await harness.restart()
            await harness.let_leases_pass()
        await harness.sweep()
        result = await harness.load_import(import_id)
        assert (result["state"], result["rows"], result["created"], result["changed"], result["failed"]) == (
            "done",
            35,
            35,
            0,
            0,
        )
        assert await harness.profiles.persons.count({}) == 35
        assert await harness.import_errors(import_id) == [(2, "manager", "unknown_manager")]
        assert len((await harness.member("e9")).place.line) == 3
        assert await harness.chassis.documents("uploads").count({}) == 0

    async def test_two_files_are_imported_one_after_the_other(self, harness: ProfilesHarness) -> None:
        first = await harness.start_import(csv_file("e1,Al,halden,it,15,,"))
        second = await harness.start_import(csv_file("e1,Al,halden,it,16,,"))
        stored = {stored_import.id: stored_import for stored_import in await harness.profiles.unfinished_imports()}
        await asyncio.gather(*(import_runner.drive_import(stored[id], harness.profiles) for id in (second, first)))
        assert (await harness.load_import(first))["state"] == "done"
        assert (await harness.load_import(second))["state"] == "received"
        await harness.let_leases_pass()
        await harness.sweep()
        al = await harness.member("e1")
        assert al.hr is not None
        assert al.hr.level is not None
        assert al.hr.level.normalised == 16

    async def test_a_repeated_upload_is_the_same_import(self, harness: ProfilesHarness) -> None:
        async with harness.client("admin") as admin:
            key = {"Idempotency-Key": "k1"}
            first = await admin.post("/imports", content=csv_file("e1,Al,halden,it,15,,"), headers=key)
            again = await admin.post("/imports", content=csv_file("e1,Al,halden,it,15,,"), headers=key)
            other = await admin.post("/imports", content=csv_file("e2,Bo,halden,it,15,,"), headers=key)
        assert first.json()["import_id"] == again.json()["import_id"]
        assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
        assert await harness.chassis.documents("uploads").count({}) == 1


class TestImportRelease:
    async def test_an_import_touching_many_pairings_waits_for_release(self, harness: ProfilesHarness) -> None:
        harness.configure(release_from=1)
        rows = [f"e{n},Name {n},halden,it,5,," for n in range(20)]
        await harness.import_file(csv_file(*rows))
        members = [(await harness.member(f"e{n}")).member_id for n in range(20)]
        now = harness.chassis.clock.now()
        await harness.project_events(*(pairing(f"pair{n}", members[n], members[n + 10], now=now) for n in range(10)))
        renamed = await harness.import_file(csv_file(*(row.replace("Name", "Other") for row in rows)))
        assert (renamed["state"], renamed["changed"], renamed["touched_pairings"]) == ("done", 20, 0)
        moved = await harness.import_file(csv_file("e1,Other 1,halden,sales,5,,", "e2,Other 2,halden,it,5,,"))
        assert (moved["state"], moved["touched_pairings"], moved["running_pairings"]) == ("waiting_for_release", 1, 10)
        assert (moved["rows"], moved["held_rows"]) == (1, 1), "the harmless row is applied"
        path = f"/imports/{moved['import_id']}/release"
        async with (
            harness.client("coordinator", subject="someone") as other,
            harness.client("admin") as uploader,
            harness.client("admin", subject="second") as second,
        ):
            assert (await other.post(path)).status_code == 403
            own = await uploader.post(path)
            assert (own.status_code, own.json()["code"]) == (409, "own_upload")
            assert (await second.post(path)).status_code == 200
        result = await harness.let_run(moved["import_id"])
        assert (result["state"], result["changed"], result["released_by"]) == ("done", 1, "second")
        assert (result["rows"], result["total"]) == (2, 2)

    async def test_an_old_file_cannot_be_released_after_a_newer_one(self, harness: ProfilesHarness) -> None:
        harness.configure(release_from=1)
        await harness.import_file(csv_file("e1,Al,halden,it,5,,", "e2,Bo,halden,it,9,,"))
        pair = [(await harness.member(id)).member_id for id in ("e1", "e2")]
        await harness.project_events(pairing("pair", *pair, now=harness.chassis.clock.now()))
        old = await harness.import_file(csv_file("e1,Al,halden,sales,5,,"))
        await harness.import_file(csv_file("e3,Cy,halden,it,5,,"))
        async with harness.client("admin", subject="second") as admin:
            response = await admin.post(f"/imports/{old['import_id']}/release")
        assert (response.status_code, response.json()["code"]) == (409, "outdated")
