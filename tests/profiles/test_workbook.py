"""Workbooks of Excel are read like CSV, and a hostile or damaged one ends with a clear error."""

import io
import zipfile
from collections.abc import Sequence
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.profiles import workbook
from services.profiles.workbook import UnreadableWorkbook, is_workbook, read_workbook
from tests.profiles.conftest import ProfilesHarness
from tests.profiles.test_file_dialect import PEOPLE, WORKDAY

Cell = str | float | None
TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{TYPES}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{TYPES}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" '
    f'Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}"><sheets>'
    '<sheet name="People" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" '
    f'Type="{RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
}


def build_workbook(rows: Sequence[Sequence[Cell]]) -> bytes:
    """The smallest workbook with these rows in its only sheet. Numbers are cells of numbers."""

    def cell(value: Cell) -> str:
        if isinstance(value, float):
            return f"<c><v>{value}</v></c>"
        return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(value or "")}</t></is></c>'

    body = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in PARTS.items():
            archive.writestr(name, content)
        archive.writestr(
            "xl/worksheets/sheet1.xml", f'<worksheet xmlns="{MAIN}"><sheetData>{body}</sheetData></worksheet>'
        )
    return file.getvalue()


class TestReading:
    def test_a_title_above_the_header_is_skipped(self) -> None:
        content = build_workbook([["Report of people"], [None], ["id", "name", "level"], [1001.0, "Ek, Al", 7.5]])
        assert is_workbook(content)
        assert [(record.line, record.data) for record in read_workbook(content)] == [
            (3, b"id,name,level"),
            (4, b'1001,"Ek, Al",7.5'),
        ]

    @given(st.binary(max_size=200))
    def test_damage_is_refused_by_its_name(self, garbage: bytes) -> None:
        for content in (b"PK\x03\x04" + garbage, build_workbook([["a", "b", "c"]])[: len(garbage)]):
            with pytest.raises(UnreadableWorkbook):
                list(read_workbook(content))

    def test_an_archive_that_grows_without_end_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workbook, "MAX_UNPACKED_BYTES", 1_000_000)
        content = build_workbook([["a" * 2_000_000]])
        assert len(content) < 10_000
        with pytest.raises(UnreadableWorkbook) as refusal:
            list(read_workbook(content))
        assert refusal.value.code == "too_large"


class TestImport:
    async def test_a_workbook_of_workday_is_imported_as_it_is(self, harness: ProfilesHarness) -> None:
        people: list[list[Cell]] = [[float(row[0]), *row[1:6], float(row[6]), *row[7:]] for row in PEOPLE]
        result = await harness.import_file(build_workbook([WORKDAY, *people]))
        assert (result["state"], result["created"], result["failed"]) == ("done", 3, 0)
        person = await harness.member("1002")
        assert person.hr is not None
        assert (person.hr.name, person.hr.level and person.hr.level.normalised) == ("Zoë D'Été; Graf", 7)

    async def test_a_damaged_workbook_fails_with_its_reason(self, harness: ProfilesHarness) -> None:
        result = await harness.import_file(b"PK\x03\x04 no workbook")
        assert (result["state"], result["failure"]) == ("failed", "not_readable")
        assert await harness.import_errors(result["import_id"]) == [(1, "", "not_readable")]
