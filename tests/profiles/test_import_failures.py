"""One bad row, file or run stops nothing else: rows are refused alone, and no import is retried without end."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.profiles import import_runner, import_watch
from services.profiles.domain import imports
from services.profiles.domain.csv_splitter import CsvRecord
from services.profiles.domain.person import OrgPosition, apply_hr_record
from services.profiles.domain.row_parser import PEOPLE_COLUMNS, ImportRow, RowReader, read_header
from tests.profiles.conftest import ProfilesHarness

HEADER = "external_id,name,organisation,department,level,site,employed_until"
GROWING_DEPARTMENT = "Großhandel, Straßenbau, Schließtechnik und Außendienst Süd-Weste"
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)

BAD_ROWS = {
    "a department that grows when it is written small": (
        f'b1,Bo,halden,"{GROWING_DEPARTMENT}",9,,',
        "department",
        "too_long",
    ),
    "a site that grows": (f"b1,Bo,halden,it,9,{'ß' * 33},", "site", "too_long"),
    "a tab in an id": ("b1\t2,Bo,halden,it,9,,", "external_id", "control_character"),
    "a day beyond all calendars": ("b1,Bo,halden,it,9,,9999-12-30", "employed_until", "bad_date"),
    "a year with a typing error": ("b1,Bo,halden,it,9,,0226-03-31", "employed_until", "bad_date"),
}


def file_with(row: str) -> str:
    return f"{HEADER}\ng1,Al,halden,it,9,,\n{row}\ng2,Cy,halden,it,9,,\n"


async def check_that_all_goes_on(harness: ProfilesHarness) -> None:
    """A later import and an erasure run to their ends."""
    later = await harness.import_file(f"{HEADER}\nlater,Di,halden,it,9,,\n")
    assert (later["state"], later["created"]) == ("done", 1)
    member = (await harness.member("later")).member_id
    async with harness.client("admin") as admin:
        assert (await admin.post(f"/members/{member}/erasure")).status_code == 202
        await harness.sweep()
        assert "profiles" in (await admin.get(f"/erasures/{member}")).json()["completed"]


class TestBadRows:
    @pytest.mark.parametrize("kind", BAD_ROWS)
    async def test_a_bad_row_is_refused_alone(self, harness: ProfilesHarness, kind: str) -> None:
        row, column, code = BAD_ROWS[kind]
        result = await harness.import_file(file_with(row))
        assert (result["state"], result["created"], result["failed"]) == ("done", 2, 1)
        assert await harness.import_errors(result["import_id"]) == [(3, column, code)]
        await check_that_all_goes_on(harness)

    @pytest.mark.parametrize("day", ["9999-12-31", "2999-12-31", "4712-12-31"])
    async def test_a_date_for_no_end_is_no_end(self, harness: ProfilesHarness, day: str) -> None:
        result = await harness.import_file(file_with(f"b1,Bo,halden,it,9,,{day}"))
        assert (result["created"], result["failed"]) == (3, 0)
        person = await harness.member("b1")
        assert person.hr is not None
        assert (person.hr.employed_until, person.employment, person.due) == (None, "active", None)

    @pytest.mark.parametrize("error", [OverflowError("too far"), RuntimeError("anything"), KeyError("x")])
    async def test_an_unknown_error_refuses_its_row(
        self, harness: ProfilesHarness, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail_for_bo(apply: Callable[..., Any]) -> Callable[..., Any]:
            def failing(person: Any, member_id: str, hr: Any, *rest: Any) -> Any:
                if hr.name == "Bo":
                    raise error
                return apply(person, member_id, hr, *rest)

            return failing

        monkeypatch.setattr(import_runner, "apply_hr_record", fail_for_bo(apply_hr_record))
        result = await harness.import_file(file_with("b1,Bo,halden,it,9,,"))
        assert (result["state"], result["created"], result["failed"]) == ("done", 2, 1)
        assert await harness.import_errors(result["import_id"]) == [(3, "", "failed")]
        await check_that_all_goes_on(harness)

    async def test_an_unknown_error_of_the_parser_does_too(
        self, harness: ProfilesHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(reader: RowReader, record: CsvRecord) -> Any:
            if b"Bo" in record.data:
                raise RuntimeError("anything")
            return read(reader, record)

        read = RowReader.read
        monkeypatch.setattr(RowReader, "read", failing)
        result = await harness.import_file(file_with("b1,Bo,halden,it,9,,"))
        assert (result["state"], result["created"], result["failed"]) == ("done", 2, 1)
        assert await harness.import_errors(result["import_id"]) == [(3, "", "failed")]


class TestBadRuns:
    @pytest.mark.parametrize(
        ("content", "failure"),
        [
            ("external_id,name,organisation,department,level\rc1,Al,halden,it,9\n", "line_ends"),
            (f"{HEADER}\n", "no_rows"),
        ],
    )
    async def test_a_file_without_rows_is_no_success(
        self, harness: ProfilesHarness, content: str, failure: str
    ) -> None:
        result = await harness.import_file(content)
        assert (result["state"], result["failure"]) == ("failed", failure)

    async def test_a_run_that_always_fails_is_given_up(
        self, harness: ProfilesHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object) -> None:
            raise RuntimeError("anything")

        with monkeypatch.context() as patch:
            patch.setattr(import_runner.PeopleRun, "_resolve_outsiders", fail)
            import_id = await harness.start_import(file_with("b1,Bo,halden,it,9,,"))
            for run in range(imports.MAX_FAILED_ATTEMPTS):
                assert (await harness.load_import(import_id))["state"] in ("received", "running"), run
                await harness.let_leases_pass()
                await harness.sweep()
        result = await harness.load_import(import_id)
        assert (result["state"], result["failure"]) == ("failed", "unknown_error")
        assert await harness.chassis.documents("uploads").count({}) == 0
        await check_that_all_goes_on(harness)

    async def test_a_process_that_always_dies_is_noticed(self, harness: ProfilesHarness) -> None:
        """Each run is cut off without a word, as by ``kill -9``."""
        import_id = await harness.start_import(file_with("b1,Bo,halden,it,9,,"))
        await harness.profiles.imports.collection.update_one(
            {"_id": import_id}, {"$set": {"state": "running", "attempts": imports.MAX_ATTEMPTS}}
        )
        await import_watch.report_imports(harness.profiles, harness.chassis.health)
        report = harness.chassis.health.check_readiness()
        [check] = [check for check in report.checks if check.name == "imports"]
        assert (check.ok, import_id in check.detail) == (False, True)
        await harness.let_leases_pass()
        result = await harness.let_run(import_id)
        assert (result["state"], result["failure"]) == ("failed", "no_progress")
        await import_watch.report_imports(harness.profiles, harness.chassis.health)
        assert all(check.ok for check in harness.chassis.health.check_readiness().checks if check.name == "imports")
        await check_that_all_goes_on(harness)

    def test_progress_begins_the_count_again(self) -> None:
        made = imports.HrImport(
            import_id="i", source="hr", uploaded_by="a", received_at=NOW, upload_id="u", chunks=1, size=1, digest="d"
        )
        begun = imports.begin_run(imports.begin_run(made, NOW), NOW)
        assert (begun.attempts, imports.advance_cursor(begun, 2, imports.RowCounts(), NOW).attempts) == (2, 0)
        assert not imports.stands_still(begun, NOW + imports.STANDS_STILL_AFTER)
        assert imports.stands_still(begun, NOW + 2 * imports.STANDS_STILL_AFTER)
        assert not imports.stands_still(made, NOW + 2 * imports.STANDS_STILL_AFTER), "waiting is not standing still"


class TestQueue:
    async def test_a_waiting_import_says_behind_what(self, harness: ProfilesHarness) -> None:
        ids = [await harness.start_import(file_with(f"b{n},Bo,halden,it,9,,")) for n in range(3)]
        shown = [await harness.load_import(id) for id in ids]
        assert [(item["waits_behind"], item["waits_for"]) for item in shown] == [(0, None), (1, ids[0]), (2, ids[0])]
        async with harness.client("admin") as admin:
            waiting = (await admin.get("/imports", params={"unfinished": "true"})).json()["items"]
            assert {item["import_id"] for item in waiting} == set(ids)
        await harness.let_leases_pass()
        for _ in ids:
            await harness.sweep()
            await harness.let_leases_pass()
        assert [(await harness.load_import(id))["state"] for id in ids] == ["done"] * 3

    async def test_a_cancelled_import_never_runs(self, harness: ProfilesHarness) -> None:
        import_id = await harness.start_import(file_with("b1,Bo,halden,it,9,,"))
        async with harness.client("admin", subject="another") as admin:
            answer = await admin.post(f"/imports/{import_id}/cancel")
            assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
            again = await admin.post(f"/imports/{import_id}/cancel")
            assert (again.status_code, again.json()["code"]) == (409, "finished")
        result = await harness.let_run(import_id)
        assert (result["state"], result["cancelled_by"], result["rows"]) == ("cancelled", "another", 0)
        assert await harness.find_person("g1") is None
        assert await harness.chassis.documents("uploads").count({}) == 0

    async def test_a_running_import_ends_after_its_batch(
        self, harness: ProfilesHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(import_runner, "BATCH_ROWS", 10)
        rows = "".join(f"e{n},Name {n},halden,it,9,,\n" for n in range(40))
        import_id = await harness.start_import(f"{HEADER}\n{rows}")
        persons = harness.profiles.persons
        real_update_many = persons.update_many

        async def cancel_meanwhile(changes: Any, **options: Any) -> Any:
            async with harness.client("admin") as admin:
                await admin.post(f"/imports/{import_id}/cancel")
            return await real_update_many(changes, **options)

        monkeypatch.setattr(persons, "update_many", cancel_meanwhile)
        result = await harness.let_run(import_id)
        assert (result["state"], result["rows"], result["created"]) == ("cancelled", 9, 9)
        assert await harness.profiles.persons.count({}) == 9

    async def test_invitations_wait_for_no_file(self, harness: ProfilesHarness) -> None:
        await harness.publish_programme("p1")
        await harness.import_file(file_with("b1,Bo,halden,it,9,,"))
        blocked = await harness.start_import(file_with("b2,Bo,halden,it,9,,"))
        await harness.profiles.imports.collection.update_one(
            {"_id": blocked},
            {"$set": {"state": "running", "lease": datetime(2999, 1, 1)}},  # noqa: DTZ001 - the store's
        )
        async with harness.client("coordinator", programmes=("p1",)) as coordinator:
            answer = await coordinator.post("/programmes/p1/invitations", content="external_id\nb1\n")
        assert (await harness.let_run(answer.json()["import_id"]))["state"] == "done"
        assert [enrolment.state for enrolment in (await harness.member("b1")).enrolments] == ["invited"]


# -- whatever a file holds ---------------------------------------------------------------------------------------------

CELLS = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        ["", "9", "9999-12-31", "0001-01-01", "2026-03-31", "ß" * 64, "ŉ" * 64, "İ@x.example", "=1", "a\tb", "\u200b",
         "x:use", "career", "director", "p1", "senior", "en;de", "Europe/Vienna", "left", "😀" * 64, "\x85", "\xa0"]
    ),
)  # fmt: skip
COLUMNS = (*PEOPLE_COLUMNS[0], *PEOPLE_COLUMNS[1])


def quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


class TestAnyFile:
    @given(cells=st.lists(CELLS, min_size=len(COLUMNS), max_size=len(COLUMNS)))
    def test_any_cells_are_a_row_or_its_problems(self, cells: list[str]) -> None:
        """What the parser lets through, the domain accepts too."""
        reader = RowReader(read_header(CsvRecord(1, ",".join(COLUMNS).encode())))
        data = ",".join(quote(cell) for cell in cells).encode()
        row = reader.read(CsvRecord(2, data))
        if not isinstance(row, ImportRow):
            assert row
            assert all(issue.line == 2 and issue.code and issue.refused for issue in row)
            return
        decision = apply_hr_record(None, "m", row.hr, OrgPosition(), row.invitation, {}, NOW)
        assert decision is not None
        person, events = decision
        assert person.model_validate(person.model_dump(mode="json")) == person
        assert len(events) == 2

    @given(pieces=st.lists(st.binary(max_size=60), min_size=1, max_size=5), end=st.binary(max_size=20))
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_any_bytes_end_and_good_rows_are_in(
        self, harness: ProfilesHarness, pieces: list[bytes], end: bytes
    ) -> None:
        good = [f"g{n}-{id(pieces)}" for n in range(len(pieces))]
        lines = [HEADER.encode()]
        for name, piece in zip(good, pieces, strict=True):
            lines += [piece, f"{name},Al,halden,it,9,,".encode()]
        result = await harness.import_file(b"\n".join([*lines, end]))
        assert result["state"] == "done"
        assert [name for name in good if await harness.find_person(name) is None] == []
        assert result["rows"] == result["created"] + result["changed"] + result["unchanged"] + result["failed"]
