"""Renders a notification in the recipient's language. The templates are data in ``templates/<language>.toml``.

A text is rendered again whenever it is read or sent, so that names are stored in the contacts only.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from functools import cache
from importlib.resources import files

import jinja2
from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ConfigDict

from contracts import taxonomy
from contracts.days import is_end_of_day, last_day
from contracts.message_languages import DEFAULT_LANGUAGE, MESSAGE_LANGUAGES, message_language
from contracts.pairings import Focus, PairingEvent
from contracts.profiles import ContactChanged
from contracts.programmes import Labels, ProgrammeSettings
from contracts.text import plain_line, without_links
from services.notifier.domain.notification import Notification
from services.notifier.domain.notification_schedule import ROW_BY_PURPOSE
from services.notifier.domain.quiet_hours import time_zone_of


class MessageTemplate(BaseModel):
    """A subject line and a text, both in Jinja2."""

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
    """One template file. ``messages`` are by purpose; ``facts`` are phrases by the code of a fact,
    ``unmatched`` are sentences by the code that says why a member has no partner.

    ``partner`` stands for a name that is not known any more. ``no_link`` says where to go when there is no link.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    partner: str
    partner_dative: str
    assisted: str
    programme: str
    no_link: str
    greeting: str
    closing: str
    dates: DateFormats
    facts: dict[str, str]
    unmatched: dict[str, str]
    messages: dict[str, MessageTemplate]


@dataclass(frozen=True)
class RenderedMessage:
    """The text for the recipient. ``language`` is its language."""

    subject: str
    text: str
    language: str


@dataclass(frozen=True)
class RenderingContext:
    """The data for the placeholders.

    ``partner`` is None when unknown or erased. ``assisted`` is the member whose assistant is the recipient.
    """

    recipient: ContactChanged
    partner: ContactChanged | None
    assisted: ContactChanged | None
    pairing: PairingEvent | None
    programme: ProgrammeSettings | None
    link_base: str | None


@cache
def load_languages() -> Mapping[str, LanguageTemplates]:
    """Every language by its tag.

    Raises ``ValueError`` for an invalid template file, or when its purposes are not those of the schedule. The files
    are those of ``MESSAGE_LANGUAGES``, no more and no fewer.
    """
    languages = {}
    for file in files("services.notifier").joinpath("templates").iterdir():
        if file.name.endswith(".toml"):
            language = LanguageTemplates.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
            check_purposes(file.name, language)
            languages[file.name.removesuffix(".toml")] = language
    if set(languages) != set(MESSAGE_LANGUAGES):
        raise ValueError(f"there must be templates for {', '.join(MESSAGE_LANGUAGES)}, and for no other language")
    return languages


def check_purposes(file_name: str, language: LanguageTemplates) -> None:
    """Raise ``ValueError`` unless there is a template for each row of the schedule, and no other."""
    different = sorted(ROW_BY_PURPOSE.keys() ^ language.messages.keys())
    if different:
        raise ValueError(f"{file_name} and the schedule differ in these purposes: {', '.join(different)}")


def render_message(notification: Notification, context: RenderingContext) -> RenderedMessage:
    tag = message_language(context.recipient.locale)
    language = load_languages()[tag]
    template = language.messages[notification.purpose]
    values = _placeholder_values(notification, context, tag, language)
    subject, body = _compile(template.subject).render(values), _compile(template.text).render(values)
    parts = (_compile(language.greeting).render(values), body.strip(), language.closing)
    return RenderedMessage(" ".join(subject.split()), "\n\n".join(parts) + "\n", tag)


# Plain text, never HTML: a name is written as it is, and no template comes from a person.
# Each value is printed on one line, without characters that could steer a mail program or a terminal.
_ENVIRONMENT = Environment(
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701
    finalize=lambda value: plain_line(value) if isinstance(value, str) else value,
)


@cache
def _compile(text: str) -> jinja2.Template:
    """Cached: compiling takes much longer than rendering. The cache holds one entry for each text of the templates."""
    return _ENVIRONMENT.from_string(text)


def _placeholder_values(
    notification: Notification, context: RenderingContext, tag: str, language: LanguageTemplates
) -> dict[str, object]:
    about, zone = notification.about, time_zone_of(context.recipient.time_zone)
    labels = _labels(context.programme, tag)
    base = context.link_base.rstrip("/") if context.link_base else None
    partner, assisted = _name_of(context.partner), _name_of(context.assisted)
    planned_end = datetime.fromisoformat(about.planned_end) if about.planned_end else None
    return {
        "name": _name_of(context.recipient),
        "partner": partner or language.partner,
        "partner_dative": partner or language.partner_dative,
        "is_partner_known": bool(partner),
        "assisted": assisted or language.assisted,
        "programme": labels.name if labels else language.programme,
        "learns": _topic_names(context.pairing, lambda focus: focus.from_side != about.side),
        "shares": _topic_names(context.pairing, lambda focus: focus.from_side == about.side),
        "link": _link(base, "pairings", about.pairing_id) or language.no_link,
        "request_link": _link(base, "requests", about.request_id) or language.no_link,
        "round_link": _link(base, "rounds", about.round_id) or language.no_link,
        "answer_by": _format_deadline(about.answer_by, context.recipient.time_zone, language),
        "meeting": _format_time(about.starts_at, zone, language) if about.starts_at else "",
        "planned_end": _format_day(planned_end, UTC, language) if planned_end else "",
        "end_kind": about.end_kind or "",
        "facts": [language.facts[fact] for fact in about.facts if fact in language.facts],
        "why_unmatched": next((language.unmatched[code] for code in about.facts if code in language.unmatched), ""),
        "contact": context.programme.confidential_contact if context.programme else "",
    }


def _name_of(contact: ContactChanged | None) -> str:
    """The name as it may stand in a mail to somebody else; empty where it is unknown or erased."""
    return without_links(contact.display_name) if contact else ""


def _link(base: str | None, kind: str, id: str | None) -> str | None:
    if base is None:
        return None
    return f"{base}/{kind}/{id}" if id else base


def _topic_names(pairing: PairingEvent | None, is_included: Callable[[Focus], bool]) -> list[str]:
    focuses = pairing.focus if pairing else ()
    return [taxonomy.load().name(focus.topic_id) for focus in focuses if is_included(focus)]


def _labels(programme: ProgrammeSettings | None, tag: str) -> Labels | None:
    """The programme's labels in this language, otherwise in English, otherwise in any language."""
    if programme is None:
        return None
    by_language = {label.partition("-")[0].lower(): labels for label, labels in programme.labels.items()}
    return by_language.get(tag) or by_language.get(DEFAULT_LANGUAGE) or next(iter(programme.labels.values()))


def _format_day(at: datetime, zone: tzinfo, language: LanguageTemplates) -> str:
    local = at.astimezone(zone) if at.tzinfo else at
    return language.dates.day.format(
        weekday=language.dates.weekdays[local.weekday()],
        day=local.day,
        month=language.dates.months[local.month - 1],
        year=local.year,
    )


def _format_deadline(deadline: datetime | None, zone: str | None, language: LanguageTemplates) -> str:
    """The day, if it lasts until its end where the reader is; otherwise with the hour."""
    if deadline is None:
        return ""
    if is_end_of_day(deadline, zone):
        return _format_day(datetime.combine(last_day(deadline, zone), time()), UTC, language)
    return _format_time(deadline, time_zone_of(zone), language)


def _format_time(at: datetime, zone: tzinfo, language: LanguageTemplates) -> str:
    local = at.astimezone(zone)
    zone_name = local.tzname() or "UTC"
    return language.dates.time.format(day=_format_day(at, zone, language), time=f"{local:%H:%M}", zone=zone_name)
