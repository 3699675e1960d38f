"""Files as HR systems and spreadsheets write them: the same people, whatever the encoding, separator and line ends."""

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.profiles.domain.column_names import find_columns, normalise_word, suggest_column
from services.profiles.domain.csv_splitter import CsvRecord, CsvSplitter
from services.profiles.domain.file_dialect import SEPARATORS, DialectSurvey, Translator, find_separator
from services.profiles.domain.row_parser import ImportRow, RowReader, is_blank, read_header
from tests.profiles.conftest import ProfilesHarness

WORKDAY = (
    "Employee ID", "First Name", "Last Name", "Work Email", "Company", "Department", "Job Level", "Location",
    "Manager ID", "Hire Date", "Termination Date", "Status",
)  # fmt: skip
SAP = (
    "Personalnummer", "Vorname", "Nachname", "E-Mail", "Gesellschaft", "Abteilung", "Tarifgruppe", "Standort",
    "Vorgesetzter", "Eintrittsdatum", "Austrittsdatum", "Status",
)  # fmt: skip
PEOPLE = [
    ("1001", "Hans-Jürgen", "Müller", "hj@nordwerk.example", "Nordwerk", "Geschäftsführung", "18", "München", "",
     "01.04.1998", "", "Active"),
    ("1002", "Zoë", "D'Été; Graf", "zoe@nordwerk.example", "Nordwerk", "Vertrieb", "7", "Köln", "1001",
     "01.09.2021", "31.03.2199", "On Leave"),
    ("1003", "Åse", "Nygård", "ase@nordwerk.example", "Nordwerk", "Vertrieb", "5", "Köln", "1001",
     "01.09.2021", "30.06.2026", "Terminated"),
]  # fmt: skip
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
LINE_ENDS = ["\n", "\r\n", "\r"]


def write(header: tuple[str, ...], separator: str, line_end: str, encoding: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=line_end).writerows([header, *PEOPLE])
    return text.getvalue().encode(encoding)


def read(content: bytes, piece_bytes: int = 7) -> tuple[list[CsvRecord], list[ImportRow]]:
    """The records and rows of a file that arrives in small pieces."""

    def pieces() -> Iterator[bytes]:
        yield from (content[start : start + piece_bytes] for start in range(0, len(content), piece_bytes))

    survey = DialectSurvey()
    for piece in pieces():
        survey.feed(piece)
    translator, splitter = Translator(survey.dialect()), CsvSplitter()
    records = [record for piece in pieces() for record in splitter.feed(translator.feed(piece))]
    records += [*splitter.feed(translator.feed(b"", final=True)), *splitter.close()]
    records = [record for record in records if not is_blank(record)]
    reader = RowReader(read_header(records[0]))
    rows = [reader.read(record) for record in records[1:]]
    assert all(isinstance(row, ImportRow) for row in rows), rows
    return records, [row for row in rows if isinstance(row, ImportRow)]


class TestDialects:
    @pytest.mark.parametrize("encoding", ENCODINGS)
    @pytest.mark.parametrize("separator", SEPARATORS)
    @pytest.mark.parametrize("line_end", LINE_ENDS)
    @pytest.mark.parametrize("header", [WORKDAY, SAP], ids=["workday", "sap"])
    def test_each_gives_the_same_people(
        self, header: tuple[str, ...], line_end: str, separator: str, encoding: str
    ) -> None:
        records, rows = read(write(header, separator, line_end, encoding))
        assert [record.line for record in records] == [1, 2, 3, 4]
        assert [row.hr.name for row in rows] == ["Hans-Jürgen Müller", "Zoë D'Été; Graf", "Åse Nygård"]
        assert [row.hr.employment for row in rows] == ["active", "on_leave", "left"]
        assert [row.hr.department_id for row in rows] == ["geschäftsführung", "vertrieb", "vertrieb"]
        assert [row.manager for row in rows] == [None, "hr\x1f1001", "hr\x1f1001"]
        assert str(rows[2].hr.employed_until) == "2026-06-30"

    def test_a_damaged_letter_does_not_change_the_encoding(self) -> None:
        survey = DialectSurvey()
        survey.feed("Müller".encode() + b"\xfc")
        assert survey.dialect().encoding == "utf-8"

    @given(st.text(st.characters(codec="cp1252", exclude_characters="\r\n\t\0"), max_size=40))
    def test_any_letters_of_windows_come_back(self, text: str) -> None:
        content = f"ä{text}".encode("cp1252")
        survey = DialectSurvey()
        survey.feed(content)
        if survey.dialect().encoding == "cp1252":
            translator = Translator(survey.dialect())
            assert (translator.feed(content + b"\n") + translator.feed(b"", final=True)).decode() == f"ä{text}\n"

    @given(st.text(max_size=60), st.integers(1, 9))
    def test_any_utf8_is_read_as_such(self, text: str, piece_bytes: int) -> None:
        content = text.encode("utf-8", "ignore")
        survey = DialectSurvey()
        for start in range(0, len(content), piece_bytes):
            survey.feed(content[start : start + piece_bytes])
        if "\0" not in text:
            assert survey.dialect().encoding == "utf-8"

    def test_separator_inside_of_quotes_does_not_count(self) -> None:
        assert find_separator('"a,b,c";d;e') == ";"
        assert find_separator("alone") == ","


class TestColumnNames:
    def test_own_names_win_over_foreign_ones(self) -> None:
        accepted = ("external_id", "email", "level")
        assert find_columns(("external_id", "Employee ID", "E-Mail (Work)"), accepted) == (
            "external_id", "employee id", "e-mail (work)",
        )  # fmt: skip
        assert find_columns(("Employee ID", "Worker ID"), accepted) == ("external_id", "worker id")

    def test_missing_column_is_told_with_the_one_like_it(self) -> None:
        assert "'Departement'" in suggest_column("department", ("Departement", "Al Ek"))
        assert suggest_column("department", ("Al Ek", "17")) == "", "a row without a header holds a person"

    @pytest.mark.parametrize(("text", "word"), [("E-Mail (Work)", "e mail work"), (" FÜHRUNGSKRAFT ", "fuhrungskraft")])
    def test_words_are_compared_without_signs_and_accents(self, text: str, word: str) -> None:
        assert normalise_word(text) == word


class TestImport:
    @pytest.mark.parametrize(("separator", "encoding"), [(";", "cp1252"), ("\t", "utf-16"), (",", "utf-8-sig")])
    async def test_the_whole_import_reads_it(self, harness: ProfilesHarness, separator: str, encoding: str) -> None:
        result = await harness.import_file(write(SAP, separator, "\r\n", encoding))
        assert (result["state"], result["created"], result["failed"]) == ("done", 3, 0)
        assert await harness.import_errors(result["import_id"]) == [(1, "column 10", "unknown_column")]
        person = await harness.member("1002")
        assert person.hr is not None
        assert (person.hr.name, person.place.manager) == ("Zoë D'Été; Graf", (await harness.member("1001")).member_id)

    async def test_managers_are_found_by_address(self, harness: ProfilesHarness) -> None:
        """Inside of the file and outside of it. An address that two people have names nobody."""
        header = "external_id,name,department,level,email,manager"
        await harness.import_file(
            f"{header}\nb1,Al,it,9,al@halden.example,\nb2,Bo,it,9,both@halden.example,\nb3,Cy,it,9,both@halden.example,\n",
            organisation="halden",
        )
        result = await harness.import_file(
            f"{header}\nc1,Di,it,7,di@halden.example,AL@halden.example\nc2,Ed,it,3,ed@halden.example,di@halden.example\n"
            "c3,Flo,it,3,,both@halden.example\n",
            organisation="halden",
        )
        assert (result["state"], result["created"]) == ("done", 3)
        assert await harness.import_errors(result["import_id"]) == [(4, "manager", "unknown_manager")]
        di, ed = await harness.member("c1"), await harness.member("c2")
        assert di.place.manager == (await harness.member("b1")).member_id
        assert (ed.place.manager, ed.hr and ed.hr.organisation_id) == (di.member_id, "halden")

    async def test_missing_organisation_is_told_with_its_cure(self, harness: ProfilesHarness) -> None:
        result = await harness.import_file("external_id,name,department,level\nc1,Di,it,7\n")
        assert (result["state"], result["failure"]) == ("failed", "missing_column")
        [error] = [entry async for entry in harness.profiles.import_errors.find({"import_id": result["import_id"]})]
        assert "--organisation" in error["message"]
