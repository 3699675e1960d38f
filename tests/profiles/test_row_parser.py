"""Parsing HR's file row by row, with everything that people put into spreadsheets."""

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.text import find_fault
from services.profiles.domain.csv_splitter import CsvRecord, CsvSplitter
from services.profiles.domain.row_parser import (
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    ImportRow,
    Issue,
    RowReader,
    read_header,
)

ALL_COLUMNS = (
    "external_id,name,organisation,department,level,source,email,site,discipline,level_scheme,manager,evaluators,"
    "employment,employed_until,locale,time_zone,languages,programme,side,capacity,experience,offers,seeks"
)


def split_records(data: bytes, size: int = 1 << 20) -> list[CsvRecord]:
    splitter = CsvSplitter(in_one_line=REQUIRED_COLUMNS + OPTIONAL_COLUMNS)
    records = [record for start in range(0, len(data), size) for record in splitter.feed(data[start : start + size])]
    return records + list(splitter.close())


def parse_line(header: str, line: str) -> ImportRow | list[Issue]:
    first, second = split_records(f"{header}\n{line}\n".encode())
    return RowReader(read_header(first)).read(second)


def parse_good_row(header: str, line: str) -> ImportRow:
    row = parse_line(header, line)
    assert isinstance(row, ImportRow), row
    return row


class TestRowParsing:
    def test_every_column_is_parsed(self) -> None:
        row = parse_good_row(
            ALL_COLUMNS,
            "e1,Al Ek,Halden,Human Resources,director,sap,Al@Halden.example,Oslo,Law,career,e2,e3;e4,leaving,"
            "2026-05-31,nb-NO,Europe/Oslo,nb;en,p1,senior,2,3,excel:teach;llama whispering,python:3",
        )
        hr = row.hr
        assert hr.external_id.ref == "sap\x1fe1"
        assert (hr.name, hr.email) == ("Al Ek", "al@halden.example")
        assert (hr.organisation_id, hr.department_id, hr.site_id, hr.discipline_id) == (
            "halden", "human-resources", "oslo", "law",
        )  # fmt: skip
        assert hr.level is not None
        assert (hr.level.scheme, hr.level.value, hr.level.normalised) == ("career", "director", 16)
        assert (row.manager, row.evaluators) == ("sap\x1fe2", ("sap\x1fe3", "sap\x1fe4"))
        assert (hr.employment, str(hr.employed_until)) == ("leaving", "2026-05-31")
        assert (hr.locale, hr.time_zone, hr.suggested.languages) == ("nb-NO", "Europe/Oslo", ("no", "en"))
        assert hr.suggested.experience_band == 3
        assert [(item.topic, item.level) for item in hr.suggested.offers] == [
            ("excel", "teach"),
            ("llama whispering", "use"),
        ]
        assert [(item.topic, item.priority) for item in hr.suggested.seeks] == [("python", 3)]
        assert row.invitation is not None
        assert (row.invitation.programme_id, row.invitation.side, row.invitation.capacity) == ("p1", "senior", 2)
        assert [(item.column, item.code, item.refused) for item in row.remarks] == [
            ("locale", "no_messages_in_language", False),
            ("offers", "unknown_topic", False),
        ]

    @pytest.mark.parametrize("locale", ["de-AT", "gsw", "en-GB", "de"])
    def test_a_locale_with_messages_is_not_remarked(self, locale: str) -> None:
        header = "external_id,name,organisation,department,level,locale"
        assert parse_good_row(header, f"e1,Al,halden,it,9,{locale}").remarks == ()

    def test_an_empty_level_is_accepted_and_a_bad_one_refused(self) -> None:
        header = "external_id,name,organisation,department,level"
        assert parse_good_row(header, "e1,Al,halden,it,").hr.level is None
        for level in ("0", "21", "-3", "9.5", "ninth", "٣"):
            assert [issue.code for issue in parse_line(header, f"e1,Al,halden,it,{level}")] == ["bad_level"]  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("column", "value", "code"),
        [
            ("email", "nobody", "bad_email"),
            ("level_scheme", "stars", "bad_level"),
            ("employment", "fired", "bad_employment"),
            ("employed_until", "05/31/2026", "bad_date"),
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
            ("name", "Pay at https://evil.example", "link_in_name"),
            ("name", "www.evil.example", "link_in_name"),
            ("offers", ";".join(f"topic {n}" for n in range(31)), "too_many"),
        ],
    )
    def test_a_malformed_value_is_reported_by_column(self, column: str, value: str, code: str) -> None:
        """The message never repeats the value."""
        fields = {"external_id": "e1", "name": "Al", "organisation": "halden", "department": "it", "level": "9"}
        fields[column] = value
        issues = parse_line(",".join(fields), ",".join(fields.values()))
        assert isinstance(issues, list)
        expected_column = "level" if column == "level_scheme" else column
        assert [(issue.line, issue.column, issue.code) for issue in issues] == [(2, expected_column, code)]
        assert value not in issues[0].message

    def test_all_problems_of_a_row_are_reported_at_once(self) -> None:
        issues = parse_line("external_id,name,organisation,department,level", ",=x,halden,,99")
        assert isinstance(issues, list)
        assert [issue.column for issue in issues] == ["external_id", "name", "department", "level"]


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


class TestRecordSplitting:
    def test_byte_order_mark_and_windows_line_ends_are_accepted(self) -> None:
        data = "\ufeffexternal_id,name,organisation,department,level\r\ne1,Åse,halden,it,9\r\n".encode()
        first, second = split_records(data)
        header = read_header(first)
        assert header.missing == ()
        row = RowReader(header).read(second)
        assert isinstance(row, ImportRow)
        assert row.hr.name == "Åse"

    def test_stray_quotes_do_not_swallow_the_rows_between(self) -> None:
        data = b'external_id,name,organisation,department,level\na,"A,h,i,1\nb,B,h,i,2\nc,C,h,i,3\nd,D",h,i,4\n'
        reader = RowReader(read_header(split_records(data)[0]))
        rows = [reader.read(item) for item in split_records(data)[1:]]
        assert [item.hr.name for item in rows if isinstance(item, ImportRow)] == ["B", "C", 'D"']

    def test_an_unread_column_may_contain_line_breaks(self) -> None:
        data = b'external_id,name,organisation,department,level,remark\na,A,h,i,1,"one\ntwo"\nb,B,h,i,2,\n'
        reader = RowReader(read_header(split_records(data)[0]))
        rows = [reader.read(item) for item in split_records(data)[1:]]
        assert [(item.line, item.hr.name) for item in rows if isinstance(item, ImportRow)] == [(2, "A"), (4, "B")]

    def test_a_huge_field_is_never_held_in_memory(self) -> None:
        splitter = CsvSplitter(limit=1000)
        records = [record for _ in range(100) for record in splitter.feed(b"x" * 500)]
        assert len(splitter._rest) <= 1000
        records += [*splitter.feed(b"\ngood,row\n"), *splitter.close()]
        assert [(record.line, record.is_complete) for record in records] == [(1, False), (2, True)]

    @given(
        st.lists(st.lists(st.one_of(texts, st.just('say "hi"'), st.just("two\nlines")), min_size=3, max_size=3)),
        st.integers(1, 40),
    )
    @example([["a", '"', "b\n\n"]], 1)
    def test_records_do_not_depend_on_how_the_file_is_cut(self, rows: list[list[str]], size: int) -> None:
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["one", "two", "three"])
        writer.writerows(rows)
        read_back = [
            next(csv.reader([record.data.decode()], strict=True))
            for record in split_records(text.getvalue().encode(), size)
        ]
        assert read_back[1:] == rows

    @given(st.binary(max_size=400), st.integers(1, 50))
    def test_any_bytes_can_be_read(self, data: bytes, size: int) -> None:
        header = b"external_id,name,organisation,department,level\n"
        records = split_records(header + data, size)
        assert records == split_records(header + data)
        reader = RowReader(read_header(records[0]))
        for record in records[1:]:
            reader.read(record)


class TestTextBorder:
    @pytest.mark.parametrize(
        "text", ["Al\x9bEk", "Al\u202eEk", "Al\u2028Ek", "Al\x85Ek", "Al\tEk", "Al\ufffeEk", "Al\x00Ek"]
    )
    @pytest.mark.parametrize("column", ["external_id", "name", "department", "email", "manager", "offers"])
    def test_unsafe_text_refuses_its_row(self, column: str, text: str) -> None:
        cells = {"external_id": "e1", "name": "Al", "organisation": "o", "department": "d", "level": "3"} | {
            column: text
        }
        issues = parse_line(",".join(cells), ",".join(cells.values()))
        assert isinstance(issues, list)
        assert {issue.column for issue in issues} == {column}
        assert not any(text in issue.message for issue in issues)

    def test_joiners_inside_words_stay(self) -> None:
        name = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
        assert parse_good_row("external_id,name,organisation,department,level", f"e1,{name},o,d,3").hr.name == name

    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
    def test_any_cell_gives_a_safe_name_or_an_issue(self, text: str) -> None:
        stream = io.StringIO()
        csv.writer(stream).writerows(
            [["external_id", "name", "organisation", "department", "level"], ["e1", text, "o", "d", "3"]]
        )
        records = split_records(stream.getvalue().encode())
        reader = RowReader(read_header(records[0]))
        for row in map(reader.read, records[1:]):
            assert isinstance(row, list) or not find_fault(row.hr.name)
