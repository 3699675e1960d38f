"""The names of columns and values that HR systems write, in English and German, and what they mean here.

The lists follow the reports of Workday, SAP SuccessFactors, BambooHR and Personio. A column that is named as in the
manual of this project always wins over one with a foreign name.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

NAME_PARTS: Final = ("first_name", "last_name")
_FOREIGN_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "external_id": (
        "employee id", "employee number", "employee no", "employee", "worker id", "user id", "person id",
        "person id external", "personnel number", "personnel id", "staff id", "personalnummer", "personal nr",
        "pers nr", "mitarbeiternummer", "mitarbeiter id", "personen id",
    ),
    "first_name": (
        "first name", "legal first name", "given name", "preferred first name", "forename", "vorname", "rufname",
    ),
    "last_name": ("last name", "legal last name", "surname", "family name", "nachname", "familienname"),
    "name": (
        "full name", "display name", "employee name", "worker", "worker name", "preferred name", "name vollstandig",
        "vollstandiger name", "anzeigename",
    ),
    "email": (
        "work email", "email address", "email primary work", "primary work email", "business email", "work e mail",
        "e mail", "email work", "e mail adresse", "geschaftliche e mail", "e mail geschaftlich", "emailadresse",
    ),
    "organisation": (
        "organization", "company", "legal entity", "company name", "employer", "unternehmen", "firma", "gesellschaft",
        "buchungskreis", "arbeitgeber",
    ),
    "department": (
        "department name", "supervisory organization", "cost center name", "org unit", "organizational unit", "team",
        "abteilung", "organisationseinheit", "bereich",
    ),
    "level": (
        "job level", "grade", "pay grade", "job grade", "compensation grade", "management level", "tarifgruppe",
        "entgeltgruppe", "karrierestufe", "stufe", "ebene",
    ),
    "site": ("location", "work location", "office", "office location", "standort", "arbeitsort", "dienstort"),
    "discipline": (
        "job family", "job function", "job profile", "function", "fachbereich", "fachrichtung", "tatigkeitsfeld",
    ),
    "manager": (
        "manager id", "manager employee id", "manager number", "supervisor", "supervisor id", "reports to",
        "reporting to", "manager email", "manager e mail", "supervisor email", "manager user id", "vorgesetzter",
        "vorgesetzte r", "vorgesetzten id", "fuhrungskraft", "personalnummer vorgesetzter", "e mail vorgesetzter",
    ),
    "employment": (
        "status", "employment status", "employee status", "worker status", "active status", "beschaftigungsstatus",
        "mitarbeiterstatus",
    ),
    "employed_until": (
        "termination date", "end date", "contract end date", "last day of work", "last working day", "austrittsdatum",
        "austritt", "vertragsende", "letzter arbeitstag", "enddatum",
    ),
    "locale": ("language", "preferred language", "sprache", "korrespondenzsprache"),
    "languages": ("spoken languages", "sprachkenntnisse"),
    "time_zone": ("time zone", "timezone", "zeitzone"),
}  # fmt: skip
EMPLOYMENT_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("active", "aktiv", "employed", "beschaftigt", "yes", "ja"), "active"),
    **dict.fromkeys(
        ("on leave", "leave", "leave of absence", "paid leave", "unpaid leave", "parental leave", "beurlaubt",
         "elternzeit", "ruhend", "freigestellt", "sabbatical"),
        "on_leave",
    ),
    **dict.fromkeys(("leaving", "notice given", "notice period", "gekundigt", "scheidet aus"), "leaving"),
    **dict.fromkeys(
        ("left", "terminated", "inactive", "former", "retired", "ausgeschieden", "ausgetreten", "inaktiv",
         "pensioniert"),
        "left",
    ),
}  # fmt: skip
"""What HR systems call the states of employment, by ``normalise_word``."""


def normalise_word(text: str) -> str:
    """Small letters without accents, and spaces in place of all other signs: ``E-Mail (Work)`` -> ``e mail work``."""
    folded = "".join(sign for sign in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(sign))
    return " ".join("".join(sign if sign.isalnum() else " " for sign in folded).split())


_COLUMN_OF_NAME: Final = {name: column for column, names in _FOREIGN_NAMES.items() for name in names}


def find_columns(written: Sequence[str], accepted: Iterable[str]) -> tuple[str, ...]:
    """The column that each written name stands for; the name itself, in small letters, where none is known."""
    own = [name.lower() for name in written]
    columns = []
    for name in own:
        column = _COLUMN_OF_NAME.get(normalise_word(name))
        is_free = column is not None and column not in own and column not in columns
        columns.append(column if name not in accepted and is_free and column is not None else name)
    return tuple(columns)


def find_missing(required: Iterable[str], names: Sequence[str]) -> list[str]:
    """The required columns that a file lacks. A first and a last name are a name."""
    has_parts = set(NAME_PARTS) <= set(names)
    return [name for name in required if name not in names and not (name == "name" and has_parts)]


def suggest_column(missing: str, written: Sequence[str]) -> str:
    """A hint at the column that was probably meant, or nothing. Only names like a known one are repeated."""
    if missing == "organisation":
        return "; name the organisation of all people with --organisation, or add the column"
    candidates = {normalise_word(name): name for name in written}
    wanted = [normalise_word(missing), *_FOREIGN_NAMES.get(missing, ())]
    similar = [name for word in wanted for name in get_close_matches(word, candidates, n=1, cutoff=0.8)]
    return f"; rename {candidates[similar[0]]!r} to it, if that is what it holds" if similar else ""
