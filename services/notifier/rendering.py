"""From a notification to words in the reader's language: templates are data, in ``templates/<language>.toml``.

The words are made anew whenever they are read or sent, so that no name is kept but in the contacts.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from importlib.resources import files

import jinja2
from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ConfigDict

from contracts import taxonomy
from contracts.pairings import Focus, PairingEvent
from contracts.profiles import ContactChanged
from contracts.programmes import Labels, ProgrammeSettings
from services.notifier.domain.notification import Notification
from services.notifier.domain.quiet_hours import time_zone_of

DEFAULT_LANGUAGE = "en"


class MessageTemplate(BaseModel):
    """A subject line and a text, both in jinja2."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    text: str


class DateFormats(BaseModel):
    """How one language writes a day and a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weekdays: tuple[str, ...]
    months: tuple[str, ...]
    day: str
    time: str


class LanguageTemplates(BaseModel):
    """One file of words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partner: str
    programme: str
    greeting: str
    closing: str
    dates: DateFormats
    facts: dict[str, str]
    messages: dict[str, MessageTemplate]


@dataclass(frozen=True)
class RenderedMessage:
    """What a reader sees. ``language``: the one that it is written in."""

    subject: str
    text: str
    language: str


@dataclass(frozen=True)
class RenderingContext:
    """What the words are made from. ``partner`` None: not known, or erased; ``assisted``: whose assistant reads."""

    recipient: ContactChanged
    partner: ContactChanged | None
    assisted: ContactChanged | None
    pairing: PairingEvent | None
    programme: ProgrammeSettings | None
    link_base: str


@cache
def load_languages() -> Mapping[str, LanguageTemplates]:
    """Every language that there is, by its tag. Raises ``ValueError`` for a file that is not as it should be."""
    return {
        file.name.removesuffix(".toml"): LanguageTemplates.model_validate(
            tomllib.loads(file.read_text(encoding="utf-8"))
        )
        for file in files("services.notifier").joinpath("templates").iterdir()
        if file.name.endswith(".toml")
    }


def nearest_language(locale: str) -> str:
    """The reader's language where there are words in it, otherwise English."""
    base = locale.replace("_", "-").partition("-")[0].lower()
    return base if base in load_languages() else DEFAULT_LANGUAGE


def render_message(note: Notification, matter: RenderingContext) -> RenderedMessage:
    """The words of one notification."""
    tag = nearest_language(matter.recipient.locale)
    language = load_languages()[tag]
    template = language.messages[note.purpose]
    values = _values(note, matter, tag, language)
    subject, body = _compiled(template.subject).render(values), _compiled(template.text).render(values)
    parts = (_compiled(language.greeting).render(values), body.strip(), language.closing)
    return RenderedMessage(" ".join(subject.split()), "\n\n".join(parts) + "\n", tag)


# Plain text, never HTML: a name is written as it is, and no template comes from a person.
_ENVIRONMENT = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701


@cache
def _compiled(text: str) -> jinja2.Template:
    """Compiling takes many times as long as all else that a mail needs; there are as many as there are texts."""
    return _ENVIRONMENT.from_string(text)


def _values(note: Notification, matter: RenderingContext, tag: str, language: LanguageTemplates) -> dict[str, object]:
    about, zone = note.about, time_zone_of(matter.recipient.time_zone)
    labels = _labels(matter.programme, tag)
    base = matter.link_base.rstrip("/")
    return {
        "name": _plain(matter.recipient.display_name),
        "partner": _plain(matter.partner.display_name) if matter.partner else language.partner,
        "assisted": _plain(matter.assisted.display_name) if matter.assisted else language.partner,
        "programme": labels.name if labels else language.programme,
        "learns": _topics(matter.pairing, lambda one: one.from_side != about.side),
        "shares": _topics(matter.pairing, lambda one: one.from_side == about.side),
        "link": f"{base}/pairings/{about.pairing_id}" if about.pairing_id else base,
        "round_link": f"{base}/rounds/{about.round_id}" if about.round_id else base,
        "answer_by": _day(about.answer_by, zone, language) if about.answer_by else "",
        "meeting": _moment(about.starts_at, zone, language) if about.starts_at else "",
        "planned_end": _day(datetime.fromisoformat(about.planned_end), UTC, language) if about.planned_end else "",
        "end_kind": about.end_kind or "",
        "facts": [language.facts[fact] for fact in about.facts if fact in language.facts],
        "contact": matter.programme.confidential_contact if matter.programme else "",
    }


def _topics(pairing: PairingEvent | None, fits: Callable[[Focus], bool]) -> list[str]:
    return [taxonomy.load().name(one.topic_id) for one in (pairing.focus if pairing else ()) if fits(one)]


def _labels(programme: ProgrammeSettings | None, tag: str) -> Labels | None:
    if programme is None:
        return None
    by_base = {label.partition("-")[0].lower(): labels for label, labels in programme.labels.items()}
    return by_base.get(tag) or by_base.get(DEFAULT_LANGUAGE) or next(iter(programme.labels.values()))


def _day(at: datetime, zone: tzinfo, language: LanguageTemplates) -> str:
    local = at.astimezone(zone) if at.tzinfo else at
    return language.dates.day.format(
        weekday=language.dates.weekdays[local.weekday()],
        day=local.day,
        month=language.dates.months[local.month - 1],
        year=local.year,
    )


def _moment(at: datetime, zone: tzinfo, language: LanguageTemplates) -> str:
    local = at.astimezone(zone)
    zone_name = local.tzname() or "UTC"
    return language.dates.time.format(day=_day(at, zone, language), time=f"{local:%H:%M}", zone=zone_name)


def _plain(name: str) -> str:
    """A name on one line, whatever was typed into it."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
