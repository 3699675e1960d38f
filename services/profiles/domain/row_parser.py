"""Turns a row of HR's file into a record, or into a list of problems, each with its line and column.

A malformed value refuses its row, so that no row is imported in part. A reference to something unknown (a manager, a
topic, a programme) is only remarked, and the person is imported without it. Messages never repeat the content of a
field, because they are stored longer than the person.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, lru_cache
from typing import Final, TypeVar, cast, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from contracts.language_codes import normalise_tags
from contracts.message_languages import DEFAULT_LANGUAGE, MESSAGE_LANGUAGE_NAMES, find_message_language
from contracts.profiles import Depth
from contracts.text import FAULT_MESSAGES, Fault, find_fault, has_url
from services.profiles.domain.column_names import (
    EMPLOYMENT_WORDS,
    NAME_PARTS,
    find_columns,
    find_missing,
    normalise_word,
    suggest_column,
)
from services.profiles.domain.csv_splitter import CsvRecord
from services.profiles.domain.enrolment import EitherSide, Invitation
from services.profiles.domain.file_dialect import UNREADABLE
from services.profiles.domain.hr_record import (
    EmploymentState,
    ExternalId,
    Grade,
    HrRecord,
    HrSuggestions,
    email_ref,
    external_ref,
    is_time_zone,
)
from services.profiles.domain.levels import COMMON_SCALE, InvalidLevel, normalise_level
from services.profiles.domain.topics import MAX_TOPICS, OfferEntry, SeekEntry, resolve_topic

REQUIRED_COLUMNS: Final = ("external_id", "name", "organisation", "department", "level")
OPTIONAL_COLUMNS: Final = (
    "source", "email", "site", "discipline", "level_scheme", "manager", "evaluators", "employment", "employed_until",
    "locale", "time_zone", "languages", "programme", "side", "capacity", "experience", "offers", "seeks",
)  # fmt: skip
PEOPLE_COLUMNS: Final = (REQUIRED_COLUMNS, OPTIONAL_COLUMNS)
MAX_FIELD_CHARS = 4000
CACHED_TEXTS = 4096  # parsed texts that recur in many rows and identify nobody: departments, languages, topics
FORMULA_PREFIXES = ("=", "+", "@", "-")  # a spreadsheet would run a cell that begins like this
_FAULT_CODES: Final[Mapping[Fault, str]] = {"control": "control_character", "line_break": "control_character"}
FIRST_YEAR, LAST_YEAR = 1900, 2199  # of dates; outside, it is a typing error, and later days cannot be counted
NO_END_DATES = frozenset({date(9999, 12, 31), date(4712, 12, 31), date(2999, 12, 31)})  # "no end" in HR systems
_BARE_CR = re.compile(rb"\r(?!\n)")
_DOTTED_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")  # day first, in every country that writes dots
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Issue:
    """A problem in the file. ``refused``: its row was not imported. ``admins_only``: it would tell who exists."""

    line: int
    column: str
    code: str
    message: str
    refused: bool = True
    admins_only: bool = False

    def for_admins(self) -> "Issue":
        return replace(self, refused=False, admins_only=True)


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A good row, with remarks about unknown references.

    ``manager`` and ``evaluators`` are ``ExternalId.ref``, or ``email_ref`` where HR names people by their addresses.
    """

    line: int
    hr: HrRecord
    manager: str | None
    evaluators: tuple[str, ...]
    invitation: Invitation | None
    remarks: tuple[Issue, ...] = ()


class MalformedField(Exception):
    """One field is malformed."""

    def __init__(self, column: str, code: str, message: str) -> None:
        super().__init__(message)
        self.column, self.code, self.message = column, code, message


@dataclass(frozen=True)
class FileHeader:
    """The columns of a file, in order."""

    names: tuple[str, ...]
    issues: tuple[Issue, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(find_missing(REQUIRED_COLUMNS, self.names))


def read_header(
    record: CsvRecord,
    columns: tuple[Sequence[str], Sequence[str]] = PEOPLE_COLUMNS,
    given: Sequence[str] = (),
) -> FileHeader:
    """Read the first record. ``columns``: the required and the optional ones. ``given``: those with a value for all.

    An unknown column is remarked; a missing or repeated one refuses the whole file.
    """
    line = record.line
    required, optional = columns
    if _BARE_CR.search(record.data):
        text = "the lines end with CR alone; save the file with line ends LF or CRLF"
        return FileHeader((), (Issue(line, "", "line_ends", text),))
    if not record.is_complete:
        return FileHeader((), (Issue(line, "", "too_long", "the header row is longer than the limit"),))
    try:
        text = record.data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError:
        return FileHeader((), (Issue(line, "", "not_utf8", "the file is not UTF-8"),))
    written = tuple(name.strip() for name in _split_cells(text, record.separator))
    names = find_columns(written, (*required, *optional))
    missing = [name for name in find_missing(required, names) if name not in given]
    issues = [
        Issue(line, name, "missing_column", f"the column {name!r} is missing{suggest_column(name, written)}")
        for name in missing
    ]
    issues += [
        Issue(line, name, "repeated_column", f"the column {name!r} occurs more than once")
        for name in dict.fromkeys(names)
        if name in (*required, *optional) and names.count(name) > 1
    ]
    # Without a header, the first row is a person: then no name of a column is repeated.
    is_header = not missing
    issues += [
        Issue(
            line,
            f"column {position}",
            "unknown_column",
            f"column {position}{f' ({own})' if is_header and own else ''} is not read",
            refused=False,
        )
        for position, (name, own) in enumerate(zip(names, written, strict=True), 1)
        if name not in (*required, *optional, *NAME_PARTS)
    ]
    return FileHeader(names, tuple(issues))


@dataclass(frozen=True)
class RowReader:
    """Reads the records of one file after its header."""

    header: FileHeader
    source: str = "hr"
    sources: tuple[str, ...] | None = None
    """The sources whose people the file may change; None: all."""
    organisation: str | None = None
    """Of all people, where the file has no column for it."""

    def read(self, record: CsvRecord) -> ImportRow | list[Issue]:
        """The row, or all of its problems, not only the first one."""
        columns = self.header.names
        try:
            fields = split_record(record, columns)
        except MalformedField as error:
            return [Issue(record.line, error.column, error.code, error.message)]
        by_column = dict(zip(columns, fields, strict=True))
        if self.organisation is not None:
            by_column.setdefault("organisation", self.organisation)
        row = _RowParser(record.line, by_column, self.source).parse_row()
        if isinstance(row, ImportRow) and self.sources is not None and row.hr.external_id.source not in self.sources:
            return [Issue(record.line, "source", "other_source", "this file may not change people of that source")]
        return row


def is_blank(record: CsvRecord) -> bool:
    return record.is_complete and not record.data.strip(b" \t\r\n" + record.separator.encode())


def split_record(record: CsvRecord, columns: Sequence[str]) -> list[str]:
    """The fields of one record, as many as there are columns. Raises ``MalformedField``."""
    if not record.is_complete:
        cells = _split_cells(record.data.decode("latin-1").replace("\n", " "), record.separator)
        column_index = min(max(len(cells), 1), len(columns)) - 1
        raise MalformedField(
            columns[column_index], "too_long", "the field is longer than the limit, or a quote is never closed"
        )
    try:
        text = record.data.decode("utf-8")
        fields = next(csv.reader([text], strict=True, delimiter=record.separator), [])
    except UnicodeDecodeError:
        raise MalformedField(_find_undecodable_column(record, columns), "not_utf8", "the field is not UTF-8") from None
    except csv.Error:
        commas_before = record.data.partition(b'"')[0].count(record.separator.encode())
        column = columns[min(commas_before, len(columns) - 1)]
        raise MalformedField(
            column, "malformed", "the row is not valid CSV; look for a quote that does not belong there"
        ) from None
    if len(fields) != len(columns):
        column = columns[len(fields)] if len(fields) < len(columns) else columns[-1]
        raise MalformedField(
            column, "wrong_number", f"the row has {len(fields)} fields, but the header has {len(columns)}"
        )
    return fields


def _split_cells(text: str, separator: str) -> list[str]:
    """The fields of a row that may be invalid, as a best guess, to report the column of a problem."""
    try:
        return next(csv.reader([text], delimiter=separator), [])
    except csv.Error:
        return text.split(separator)


def _find_undecodable_column(record: CsvRecord, columns: Sequence[str]) -> str:
    for index, text in enumerate(_split_cells(record.data.decode("latin-1"), record.separator)):
        try:
            text.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            return columns[min(index, len(columns) - 1)]
    return columns[0]


class FieldParser:
    """Parses the fields of one row and collects all of its problems."""

    def __init__(self, line: int, fields: dict[str, str], source: str) -> None:
        self.line = line
        self.fields = fields
        self.source = source
        self.issues: list[Issue] = []
        self.remarks: list[Issue] = []

    def optional(self, column: str, read: Callable[[str], T]) -> T | None:
        text = self.fields.get(column)
        if not text or not (text := text.strip()):
            return None
        try:
            if len(text) > MAX_FIELD_CHARS:
                raise MalformedField(
                    "", "too_long", f"the field is longer than the limit of {MAX_FIELD_CHARS} characters"
                )
            if UNREADABLE in text:
                raise MalformedField("", "unreadable", "a letter of the field cannot be read; save the file as UTF-8")
            if (fault := find_fault(text)) is not None:
                raise MalformedField("", _FAULT_CODES.get(fault, "unsafe_text"), f"the field {FAULT_MESSAGES[fault]}")
            return read(text)
        except MalformedField as error:
            self.issues.append(Issue(self.line, column, error.code, error.message))
        except ValidationError as error:
            self.issues.append(Issue(self.line, column, *_describe_invalid(error)))
        return None

    def required(self, column: str, read: Callable[[str], str]) -> str:
        if not self.fields.get(column, "").strip():
            self.issues.append(Issue(self.line, column, "missing", "the field is empty"))
            return ""
        return self.optional(column, read) or ""


class _RowParser(FieldParser):
    """Parses one row of HR's file."""

    def parse_row(self) -> ImportRow | list[Issue]:
        optional = self.optional
        source, external_id = optional("source", parse_id) or self.source, self.required("external_id", parse_id)
        hr = {
            "name": self._name(),
            "email": optional("email", parse_email),
            "organisation_id": self.required("organisation", _parse_code),
            "department_id": self.required("department", _parse_code),
            "site_id": optional("site", _parse_code),
            "discipline_id": optional("discipline", _parse_code),
            "level": self._level(),
            "employment": optional("employment", _parse_employment) or "active",
            "employed_until": optional("employed_until", _parse_last_day),
            "locale": self._locale(),
            "time_zone": optional("time_zone", _parse_time_zone),
        }
        suggested = {
            "languages": optional("languages", _parse_languages) or (),
            "experience_band": optional("experience", _parse_experience_band),
            "offers": self._topics("offers", _parse_offers),
            "seeks": self._topics("seeks", _parse_seeks),
        }
        manager, evaluators = optional("manager", _parse_reference), optional("evaluators", _parse_references) or ()
        invitation = self._invitation()
        if self.issues:
            return self.issues
        try:
            record = HrRecord.model_validate(
                hr
                | {
                    "external_id": ExternalId(source=source, id=external_id),
                    "suggested": HrSuggestions.model_validate(suggested),
                }
            )
        except ValidationError as error:
            return [
                Issue(self.line, _COLUMN_OF_FIELD.get(str(detail["loc"][0]), str(detail["loc"][0])), *_text_of(detail))
                for detail in error.errors(include_input=False, include_url=False)
            ]
        return ImportRow(
            self.line,
            record,
            None if manager is None else _reference(source, manager),
            tuple(_reference(source, evaluator) for evaluator in evaluators),
            invitation,
            tuple(self.remarks),
        )

    def _name(self) -> str:
        """The whole name, from one column or from those of the first and the last name."""
        if "name" in self.fields:
            return self.required("name", _parse_name)
        parts = [self.fields.get(part, "").strip() for part in NAME_PARTS]
        self.fields["name"] = " ".join(filter(None, parts))
        return self.required("name", _parse_name)

    def _locale(self) -> str | None:
        locale = self.optional("locale", _parse_language)
        if locale is not None and find_message_language(locale) is None:
            text = (
                f"there are no messages in this language yet; they come in {MESSAGE_LANGUAGE_NAMES[DEFAULT_LANGUAGE]}"
            )
            self.remarks.append(Issue(self.line, "locale", "no_messages_in_language", text, refused=False))
        return locale

    def _level(self) -> Grade | None:
        scheme = (self.optional("level_scheme", parse_id) or COMMON_SCALE).casefold()
        return self.optional("level", lambda text: _parse_grade(scheme, text))

    def _invitation(self) -> Invitation | None:
        programme, side = self.optional("programme", _parse_programme_id), self.optional("side", parse_side)
        capacity = self.optional("capacity", parse_capacity)
        if programme is None:
            return None
        if self.issues:
            return None
        return Invitation(programme_id=programme, side=side or "either", capacity=capacity)

    def _topics(self, column: str, read: Callable[[str], tuple[T, ...]]) -> tuple[T, ...]:
        topics = self.optional(column, read) or ()
        if any(resolve_topic(cast("OfferEntry | SeekEntry", topic).topic) is None for topic in topics):
            self.remarks.append(
                Issue(
                    self.line,
                    column,
                    "unknown_topic",
                    "a topic is not in the taxonomy; it is stored for later",
                    refused=False,
                )
            )
        return topics


_COLUMN_OF_FIELD: Final = {
    "id": "external_id",
    "organisation_id": "organisation",
    "department_id": "department",
    "site_id": "site",
    "discipline_id": "discipline",
    "experience_band": "experience",
}
"""Field of ``HrRecord``, ``HrSuggestions`` or ``ExternalId`` -> column; the others have the same name."""


def _describe_invalid(error: ValidationError) -> tuple[str, str]:
    """Code and message of a value that the model refuses."""
    return _text_of(error.errors(include_input=False, include_url=False)[0])


def _text_of(detail: ErrorDetails) -> tuple[str, str]:
    if detail["type"] == "string_too_long":
        return "too_long", f"the field is longer than the limit of {detail['ctx']['max_length']} characters"
    return "not_allowed", "the field contains something that is not allowed here"


def _require_plain_text(text: str, max_chars: int) -> str:
    if len(text) > max_chars:
        raise MalformedField("", "too_long", f"the field is longer than the limit of {max_chars} characters")
    if text[0] in FORMULA_PREFIXES:
        raise MalformedField("", "formula", "the field begins like a spreadsheet formula")
    return text


def parse_id(text: str) -> str:
    return _require_plain_text(text, 64)


@lru_cache(CACHED_TEXTS)
def _parse_code(text: str) -> str:
    """The id of an organisation, department, site or discipline: ``Human Resources`` -> ``human-resources``."""
    code = "-".join(_require_plain_text(text, 64).casefold().split())
    if len(code) > 64:  # some letters grow, such as ß to ss
        raise MalformedField("", "too_long", "written in small letters, the field is longer than 64 characters")
    if "@" in code:
        raise MalformedField("", "bad_code", "the value must not contain an @")
    return code


def _parse_programme_id(text: str) -> str:
    if "@" in text or len(text.split()) != 1:
        raise MalformedField("", "bad_code", "the value must be the id of a programme")
    return parse_id(text)


def _parse_name(text: str) -> str:
    if has_url(_require_plain_text(text, 200)):
        raise MalformedField("", "link_in_name", "a name must not contain the address of a web page")
    return text


def parse_email(text: str) -> str:
    if not _EMAIL.fullmatch(_require_plain_text(text, 320)):
        raise MalformedField("", "bad_email", "the value is not an e-mail address")
    return text.lower()


def _split_list(text: str) -> list[str]:
    return [part for part in (raw.strip() for raw in text.split(";")) if part]


def _parse_reference(text: str) -> str:
    """The external id or the e-mail address of another person."""
    return parse_email(text) if "@" in text else parse_id(text)


def _parse_references(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_parse_reference(part) for part in _split_list(text)))


def _reference(source: str, text: str) -> str:
    return email_ref(text) if "@" in text else external_ref(source, text)


def _parse_choice(text: str, choices: Sequence[str], code: str) -> str:
    if (choice := text.lower()) not in choices:
        raise MalformedField("", code, f"the value must be one of {', '.join(choices)}")
    return choice


def _parse_employment(text: str) -> EmploymentState:
    text = EMPLOYMENT_WORDS.get(normalise_word(text), text)
    return cast("EmploymentState", _parse_choice(text, get_args(EmploymentState), "bad_employment"))


def parse_side(text: str) -> EitherSide:
    return cast("EitherSide", _parse_choice(text, get_args(EitherSide), "bad_side"))


def _parse_last_day(text: str) -> date | None:
    """The last day at work; None for the dates by which HR systems say that there is no end."""
    dotted = _DOTTED_DATE.fullmatch(text)
    try:
        day = date(*map(int, reversed(dotted.groups()))) if dotted else date.fromisoformat(text)
    except ValueError:
        example = "the date must be written like 2026-03-31 or 31.03.2026"
        raise MalformedField("", "bad_date", example) from None
    if day in NO_END_DATES:
        return None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        text = f"the date is outside the years {FIRST_YEAR} to {LAST_YEAR}; leave it empty if there is no end"
        raise MalformedField("", "bad_date", text)
    return day


@lru_cache(CACHED_TEXTS)
def _parse_language(text: str) -> str:
    if len(text) > 35 or not _LANGUAGE.fullmatch(text):
        raise MalformedField("", "bad_language", "the value must be a language tag such as en or de-AT")
    return text


@lru_cache(CACHED_TEXTS)
def _parse_languages(text: str) -> tuple[str, ...]:
    return normalise_tags(_parse_language(part) for part in _split_list(text))[:20]


def _parse_time_zone(text: str) -> str:
    if not is_time_zone(text):
        raise MalformedField("", "bad_time_zone", "the value must be a time zone such as Europe/Vienna")
    return text


def _parse_whole_number(text: str, highest: int, code: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= highest):
        raise MalformedField("", code, f"the value must be a whole number from 0 to {highest}")
    return int(text)


def parse_capacity(text: str) -> int:
    return _parse_whole_number(text, 20, "bad_capacity")


def _parse_experience_band(text: str) -> int:
    return _parse_whole_number(text, 5, "bad_experience")


@cache
def _parse_grade(scheme: str, text: str) -> Grade:
    try:
        return Grade(scheme=scheme, value=text, normalised=normalise_level(scheme, text))
    except InvalidLevel as error:
        raise MalformedField("", "bad_level", str(error)) from None


def _split_topics(text: str) -> list[tuple[str, str]]:
    parts = _split_list(text)
    if len(parts) > MAX_TOPICS:
        raise MalformedField("", "too_many", f"at most {MAX_TOPICS} topics are allowed")
    pairs = []
    for part in parts:
        topic, _, suffix = part.rpartition(":") if ":" in part else (part, "", "")
        pairs.append((_require_plain_text(topic.strip() or " ", 80), suffix.strip().lower()))
    return pairs


@lru_cache(CACHED_TEXTS)
def _parse_offers(text: str) -> tuple[OfferEntry, ...]:
    depths = get_args(Depth)
    return tuple(
        OfferEntry(
            topic=topic, level=cast("Depth", _parse_choice(level, depths, "bad_topic_level") if level else "use")
        )
        for topic, level in _split_topics(text)
    )


@lru_cache(CACHED_TEXTS)
def _parse_seeks(text: str) -> tuple[SeekEntry, ...]:
    return tuple(
        SeekEntry(topic=topic, priority=_parse_priority(priority) if priority else 2)
        for topic, priority in _split_topics(text)
    )


def _parse_priority(text: str) -> int:
    if text not in ("1", "2", "3"):
        raise MalformedField("", "bad_priority", "the priority of a topic must be 1, 2 or 3")
    return int(text)
