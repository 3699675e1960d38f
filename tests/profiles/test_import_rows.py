"""Reading HR's file, row by row, with whatever people put into spreadsheets."""

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from services.profiles.domain.csv_records import CsvRecord, CsvSplitter
from services.profiles.domain.import_rows import (
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    ImportRow,
    Issue,
    RowReader,
    read_header,
)

ALL = (
    "external_id,name,organisation,department,level,source,email,site,discipline,level_scheme,manager,evaluators,"
    "employment,employed_until,locale,time_zone,languages,programme,side,capacity,experience,offers,seeks"
)


def records(data: bytes, size: int = 1 << 20) -> list[CsvRecord]:
    splitter = CsvSplitter(in_one_line=REQUIRED_COLUMNS + OPTIONAL_COLUMNS)
    found = [one for start in range(0, len(data), size) for one in splitter.feed(data[start : start + size])]
    return found + list(splitter.close())


def read(header: str, line: str) -> ImportRow | list[Issue]:
    first, second = records(f"{header}\n{line}\n".encode())
    return RowReader(read_header(first)).read(second)


def row(header: str, line: str) -> ImportRow:
    found = read(header, line)
    assert isinstance(found, ImportRow), found
    return found


def test_every_column_is_read() -> None:
    found = row(
        ALL,
        "e1,Al Ek,Halden,Human Resources,director,sap,Al@Halden.example,Oslo,Law,career,e2,e3;e4,leaving,2026-05-31,"
        "nb-NO,Europe/Oslo,nb;en,p1,senior,2,3,excel:teach;llama whispering,python:3",
    )
    hr = found.hr
    assert hr.external_id.ref == "sap\x1fe1"
    assert (hr.name, hr.email) == ("Al Ek", "al@halden.example")
    assert (hr.organisation_id, hr.department_id, hr.site_id, hr.discipline_id) == (
        "halden", "human-resources", "oslo", "law",
    )  # fmt: skip
    assert hr.level is not None
    assert (hr.level.scheme, hr.level.value, hr.level.normalised) == ("career", "director", 16)
    assert (found.manager, found.evaluators) == ("sap\x1fe2", ("sap\x1fe3", "sap\x1fe4"))
    assert (hr.employment, str(hr.employed_until)) == ("leaving", "2026-05-31")
    assert (hr.locale, hr.time_zone, hr.suggested.languages) == ("nb-NO", "Europe/Oslo", ("nb", "en"))
    assert hr.suggested.experience_band == 3
    assert [(one.topic, one.level) for one in hr.suggested.offers] == [("excel", "teach"), ("llama whispering", "use")]
    assert [(one.topic, one.priority) for one in hr.suggested.seeks] == [("python", 3)]
    assert found.invitation is not None
    assert (found.invitation.programme_id, found.invitation.side, found.invitation.capacity) == ("p1", "senior", 2)
    assert [(one.column, one.code, one.refused) for one in found.remarks] == [("offers", "unknown_topic", False)]


def test_an_unknown_level_is_no_error_and_a_bad_one_is() -> None:
    header = "external_id,name,organisation,department,level"
    assert row(header, "e1,Al,halden,it,").hr.level is None
    for level in ("0", "21", "-3", "9.5", "ninth", "٣"):
        assert [one.code for one in read(header, f"e1,Al,halden,it,{level}")] == ["bad_level"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("email", "nobody", "bad_email"),
        ("level_scheme", "stars", "bad_level"),
        ("employment", "fired", "bad_employment"),
        ("employed_until", "31.5.2026", "bad_date"),
        ("locale", "german!", "bad_language"),
        ("time_zone", "Mars/Olympus", "bad_time_zone"),
        ("languages", "en;???", "bad_language"),
        ("side", "left", "bad_side"),
        ("capacity", "21", "bad_capacity"),
        ("experience", "6", "bad_experience"),
        ("offers", "excel:wizard", "bad_topic_level"),
        ("seeks", "python:4", "bad_priority"),
        ("offers", "=cmd:use", "formula"),
        ("programme", "my programme", "bad_code"),
        ("site", "oslo@home", "bad_code"),
        ("manager", "+e1", "formula"),
        ("name", "Al\x00Ek", "control_character"),
        ("name", "x" * 201, "too_long"),
        ("offers", ";".join(f"topic {n}" for n in range(31)), "too_many"),
    ],
)
def test_a_malformed_value_is_named_by_its_column_and_never_repeated(column: str, value: str, code: str) -> None:
    fields = {"external_id": "e1", "name": "Al", "organisation": "halden", "department": "it", "level": "9"}
    fields[column] = value
    issues = read(",".join(fields), ",".join(fields.values()))
    assert isinstance(issues, list)
    where = "level" if column == "level_scheme" else column
    assert [(one.line, one.column, one.code) for one in issues] == [(2, where, code)]
    assert value not in issues[0].message


def test_everything_wrong_with_a_row_is_said_at_once() -> None:
    issues = read("external_id,name,organisation,department,level", ",=x,halden,,99")
    assert isinstance(issues, list)
    assert [one.column for one in issues] == ["external_id", "name", "department", "level"]


def test_a_byte_order_mark_and_windows_lines_are_welcome() -> None:
    data = "\ufeffexternal_id,name,organisation,department,level\r\ne1,Åse,halden,it,9\r\n".encode()
    first, second = records(data)
    header = read_header(first)
    assert header.missing == ()
    found = RowReader(header).read(second)
    assert isinstance(found, ImportRow)
    assert found.hr.name == "Åse"


def test_two_stray_quotes_far_apart_do_not_swallow_the_rows_between() -> None:
    data = b'external_id,name,organisation,department,level\na,"A,h,i,1\nb,B,h,i,2\nc,C,h,i,3\nd,D",h,i,4\n'
    reader = RowReader(read_header(records(data)[0]))
    found = [reader.read(one) for one in records(data)[1:]]
    assert [one.hr.name for one in found if isinstance(one, ImportRow)] == ["B", "C", 'D"']


def test_a_column_that_is_not_read_may_break_lines() -> None:
    data = b'external_id,name,organisation,department,level,remark\na,A,h,i,1,"one\ntwo"\nb,B,h,i,2,\n'
    reader = RowReader(read_header(records(data)[0]))
    found = [reader.read(one) for one in records(data)[1:]]
    assert [(one.line, one.hr.name) for one in found if isinstance(one, ImportRow)] == [(2, "A"), (4, "B")]


def test_a_huge_field_is_never_held_as_a_whole() -> None:
    splitter = CsvSplitter(limit=1000)
    found = [one for _ in range(100) for one in splitter.feed(b"x" * 500)]
    assert len(splitter._rest) <= 1000
    found += [*splitter.feed(b"\ngood,row\n"), *splitter.close()]
    assert [(one.line, one.is_complete) for one in found] == [(1, False), (2, True)]


texts = some.text(some.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(
    some.lists(some.lists(some.one_of(texts, some.just('say "hi"'), some.just("two\nlines")), min_size=3, max_size=3)),
    some.integers(1, 40),
)
@example([["a", '"', "b\n\n"]], 1)
def test_however_a_file_is_cut_the_records_are_those_that_were_written(rows: list[list[str]], size: int) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["one", "two", "three"])
    writer.writerows(rows)
    read_back = [next(csv.reader([one.data.decode()], strict=True)) for one in records(text.getvalue().encode(), size)]
    assert read_back[1:] == rows


@given(some.binary(max_size=400), some.integers(1, 50))
def test_no_bytes_upset_the_reader(data: bytes, size: int) -> None:
    head = b"external_id,name,organisation,department,level\n"
    found = records(head + data, size)
    assert found == records(head + data)
    reader = RowReader(read_header(found[0]))
    for one in found[1:]:
        reader.read(one)
