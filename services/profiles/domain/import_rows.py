"""A row of HR's file becomes a record, or a list of what is wrong with it: each with its line and its column.

A malformed value refuses its row, so that nothing is half read. What only *refers* to something unknown (a manager, a
topic, a programme) is remarked, and the person is imported without it. Messages never repeat what a field holds: they
outlive the person.
"""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache, lru_cache
from typing import Final, TypeVar, cast, get_args

from contracts.profiles import Depth
from services.profiles.domain.csv_records import Record
from services.profiles.domain.enrolment import EitherSide, Invitation
from services.profiles.domain.hr_record import (
    EmploymentState,
    ExternalId,
    Grade,
    HrRecord,
    Suggested,
    is_time_zone,
    ref,
)
from services.profiles.domain.levels import NORMALISED, BadLevel, normalised
from services.profiles.domain.topics import MOST, OfferWords, SeekWords, resolve

REQUIRED: Final = ("external_id", "name", "organisation", "department", "level")
OPTIONAL: Final = (
    "source", "email", "site", "discipline", "level_scheme", "manager", "evaluators", "employment", "employed_until",
    "locale", "time_zone", "languages", "programme", "side", "capacity", "experience", "offers", "seeks",
)  # fmt: skip
LONGEST_FIELD = 4000
CACHED = 4096  # texts that recur from row to row and name nobody: departments, languages, topics
FORMULA = ("=", "+", "@", "-")  # how a cell begins that a spreadsheet would run
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Issue:
    """Something wrong in the file; ``refused``: its row was not imported."""

    line: int
    column: str
    code: str
    message: str
    refused: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """A good row, with remarks about what it refers to. ``manager`` and ``evaluators`` are ``ExternalId.ref``."""

    line: int
    hr: HrRecord
    manager: str | None
    evaluators: tuple[str, ...]
    invitation: Invitation | None
    remarks: tuple[Issue, ...] = ()


class Bad(Exception):
    """One field is malformed."""

    def __init__(self, column: str, code: str, message: str) -> None:
        super().__init__(message)
        self.column, self.code, self.message = column, code, message


@dataclass(frozen=True)
class Header:
    """The columns of a file, in order."""

    names: tuple[str, ...]
    issues: tuple[Issue, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in REQUIRED if name not in self.names)


def header_of(record: Record) -> Header:
    """Read the first record; an unknown column is remarked, a missing or repeated one refuses the whole file."""
    line = record.line
    if not record.whole:
        return Header((), (Issue(line, "", "too_long", "the header row is too long"),))
    try:
        text = record.data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError:
        return Header((), (Issue(line, "", "not_utf8", "the file is not UTF-8"),))
    names = tuple(name.strip().lower() for name in _cells(text))
    issues = [
        Issue(line, name, "missing_column", f"the column {name!r} is missing") for name in REQUIRED if name not in names
    ]
    issues += [
        Issue(line, name, "repeated_column", f"the column {name!r} occurs more than once")
        for name in dict.fromkeys(names)
        if name in REQUIRED + OPTIONAL and names.count(name) > 1
    ]
    issues += [
        Issue(line, f"column {place}", "unknown_column", f"column {place} is not known and not read", refused=False)
        for place, name in enumerate(names, 1)
        if name not in REQUIRED + OPTIONAL
    ]
    return Header(names, tuple(issues))


@dataclass
class RowReader:
    """Reads the records of one file after its header."""

    header: Header
    source: str = "hr"
    _fields: dict[str, str] = field(default_factory=dict)

    def read(self, record: Record) -> Row | list[Issue]:
        """The row, or what is wrong with it: everything that is malformed, not only the first."""
        columns = self.header.names
        try:
            fields = _fields(record, columns)
        except Bad as bad:
            return [Issue(record.line, bad.column, bad.code, bad.message)]
        self._fields = dict(zip(columns, fields, strict=True))
        return _Reading(record.line, self._fields, self.source).row()


def is_blank(record: Record) -> bool:
    return record.whole and not record.data.strip(b" \t\r\n,")


def _fields(record: Record, columns: Sequence[str]) -> list[str]:
    """The fields of one record, as many as there are columns. Raises ``Bad``."""
    if not record.whole:
        cut = _cells(record.data.decode("latin-1").replace("\n", " "))
        place = min(max(len(cut), 1), len(columns)) - 1
        raise Bad(columns[place], "too_long", "the field is over the limit, or a quote is never closed")
    try:
        fields = next(csv.reader([record.data.decode("utf-8")], strict=True), [])
    except UnicodeDecodeError:
        raise Bad(_not_utf8(record.data, columns), "not_utf8", "the field is not UTF-8") from None
    except csv.Error:
        before = record.data.partition(b'"')[0].count(b",")
        column = columns[min(before, len(columns) - 1)]
        raise Bad(column, "malformed", "the row is not valid CSV (look for a stray quote)") from None
    if len(fields) != len(columns):
        column = columns[len(fields)] if len(fields) < len(columns) else columns[-1]
        raise Bad(column, "wrong_number", f"the row has {len(fields)} fields and the header {len(columns)}")
    return fields


def _cells(text: str) -> list[str]:
    """The fields as well as they can be told, for saying where something is wrong."""
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return text.split(",")


def _not_utf8(data: bytes, columns: Sequence[str]) -> str:
    for place, text in enumerate(_cells(data.decode("latin-1"))):
        try:
            text.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            return columns[min(place, len(columns) - 1)]
    return columns[0]


class _Reading:
    """One row being read; collects everything that is wrong with it."""

    def __init__(self, line: int, fields: dict[str, str], source: str) -> None:
        self.line = line
        self.fields = fields
        self.source = source
        self.issues: list[Issue] = []
        self.remarks: list[Issue] = []

    def row(self) -> Row | list[Issue]:
        take = self._take
        source, id = take("source", _id) or self.source, self._required("external_id", _id)
        hr = {
            "name": self._required("name", _name),
            "email": take("email", _email),
            "organisation_id": self._required("organisation", _code),
            "department_id": self._required("department", _code),
            "site_id": take("site", _code),
            "discipline_id": take("discipline", _code),
            "level": self._level(),
            "employment": take("employment", _employment) or "active",
            "employed_until": take("employed_until", _date),
            "locale": take("locale", _language),
            "time_zone": take("time_zone", _zone),
        }
        suggested = {
            "languages": take("languages", _languages) or (),
            "experience_band": take("experience", _band),
            "offers": self._topics("offers", _offers),
            "seeks": self._topics("seeks", _seeks),
        }
        manager, evaluators = take("manager", _id), take("evaluators", _ids) or ()
        invitation = self._invitation()
        if self.issues:
            return self.issues
        record = HrRecord.model_validate(
            hr | {"external_id": ExternalId(source=source, id=id), "suggested": Suggested.model_validate(suggested)}
        )
        return Row(
            self.line,
            record,
            None if manager is None else ref(source, manager),
            tuple(ref(source, one) for one in evaluators),
            invitation,
            tuple(self.remarks),
        )

    def _take(self, column: str, read: Callable[[str], T]) -> T | None:
        text = self.fields.get(column)
        if not text or not (text := text.strip()):
            return None
        try:
            if len(text) > LONGEST_FIELD:
                raise Bad("", "too_long", f"the field is over the limit of {LONGEST_FIELD} characters")
            if _CONTROL.search(text):
                raise Bad("", "control_character", "the field holds a control character")
            return read(text)
        except Bad as bad:
            self.issues.append(Issue(self.line, column, bad.code, bad.message))
            return None

    def _required(self, column: str, read: Callable[[str], str]) -> str:
        if not self.fields.get(column, "").strip():
            self.issues.append(Issue(self.line, column, "missing", "the field is empty"))
            return ""
        return self._take(column, read) or ""

    def _level(self) -> Grade | None:
        scheme = (self._take("level_scheme", _id) or NORMALISED).casefold()
        return self._take("level", lambda text: _grade(scheme, text))

    def _invitation(self) -> Invitation | None:
        programme, side = self._take("programme", _programme), self._take("side", _side)
        capacity = self._take("capacity", lambda text: _whole(text, 20, "bad_capacity"))
        if programme is None:
            return None
        if self.issues:
            return None
        return Invitation(programme_id=programme, side=side or "either", capacity=capacity)

    def _topics(self, column: str, read: Callable[[str], tuple[T, ...]]) -> tuple[T, ...]:
        found = self._take(column, read) or ()
        if any(resolve(cast("OfferWords | SeekWords", one).topic) is None for one in found):
            self.remarks.append(
                Issue(self.line, column, "unknown_topic", "a topic is not in the taxonomy; it is kept", refused=False)
            )
        return found


def _plain(text: str, longest: int) -> str:
    if len(text) > longest:
        raise Bad("", "too_long", f"the field is over the limit of {longest} characters")
    if text[0] in FORMULA:
        raise Bad("", "formula", "the field begins like a formula of a spreadsheet")
    return text


def _id(text: str) -> str:
    return _plain(text, 64)


@lru_cache(CACHED)
def _code(text: str) -> str:
    """An organisation, department, site or discipline as an id: ``Human Resources`` is ``human-resources``."""
    code = "-".join(_plain(text, 64).casefold().split())
    if "@" in code:
        raise Bad("", "bad_code", "the value must not contain an @")
    return code


def _programme(text: str) -> str:
    if "@" in text or len(text.split()) != 1:
        raise Bad("", "bad_code", "the value must be the id of a programme")
    return _id(text)


def _name(text: str) -> str:
    return _plain(text, 200)


def _email(text: str) -> str:
    if not _EMAIL.fullmatch(_plain(text, 320)):
        raise Bad("", "bad_email", "this is not an e-mail address")
    return text.lower()


def _parts(text: str) -> list[str]:
    return [part for part in (raw.strip() for raw in text.split(";")) if part]


def _ids(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_id(part) for part in _parts(text)))


def _one_of(text: str, known: Sequence[str], code: str) -> str:
    if (word := text.lower()) not in known:
        raise Bad("", code, f"the value must be one of {', '.join(known)}")
    return word


def _employment(text: str) -> EmploymentState:
    return cast("EmploymentState", _one_of(text, get_args(EmploymentState), "bad_employment"))


def _side(text: str) -> EitherSide:
    return cast("EitherSide", _one_of(text, get_args(EitherSide), "bad_side"))


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Bad("", "bad_date", "the date must be written as 2026-03-31") from None


@lru_cache(CACHED)
def _language(text: str) -> str:
    if len(text) > 35 or not _LANGUAGE.fullmatch(text):
        raise Bad("", "bad_language", "this is not a language tag such as en or de-AT")
    return text


@lru_cache(CACHED)
def _languages(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_language(part) for part in _parts(text)))[:20]


def _zone(text: str) -> str:
    if not is_time_zone(text):
        raise Bad("", "bad_time_zone", "this is not a time zone such as Europe/Vienna")
    return text


def _whole(text: str, highest: int, code: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= highest):
        raise Bad("", code, f"the value must be a whole number from 0 to {highest}")
    return int(text)


def _band(text: str) -> int:
    return _whole(text, 5, "bad_experience")


@cache
def _grade(scheme: str, text: str) -> Grade:
    try:
        return Grade(scheme=scheme, value=text, normalised=normalised(scheme, text))
    except BadLevel as bad:
        raise Bad("", "bad_level", str(bad)) from None


def _pairs(text: str) -> list[tuple[str, str]]:
    parts = _parts(text)
    if len(parts) > MOST:
        raise Bad("", "too_many", f"at most {MOST} topics are kept")
    pairs = []
    for part in parts:
        topic, _, more = part.rpartition(":") if ":" in part else (part, "", "")
        pairs.append((_plain(topic.strip() or " ", 80), more.strip().lower()))
    return pairs


@lru_cache(CACHED)
def _offers(text: str) -> tuple[OfferWords, ...]:
    known = get_args(Depth)
    return tuple(
        OfferWords(topic=topic, level=cast("Depth", _one_of(level, known, "bad_topic_level") if level else "use"))
        for topic, level in _pairs(text)
    )


@lru_cache(CACHED)
def _seeks(text: str) -> tuple[SeekWords, ...]:
    return tuple(
        SeekWords(topic=topic, priority=_priority(priority) if priority else 2) for topic, priority in _pairs(text)
    )


def _priority(text: str) -> int:
    if text not in ("1", "2", "3"):
        raise Bad("", "bad_priority", "the priority of a topic must be 1, 2 or 3")
    return int(text)
