"""Renders a notification in the recipient's language. The templates are data in ``templates/<language>.toml``.

A text is rendered again whenever it is read or sent, so that names are stored in the contacts only.
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
from contracts.text import plain_line
from services.notifier.domain.notification import Notification
from services.notifier.domain.notification_schedule import ROW_BY_PURPOSE
from services.notifier.domain.quiet_hours import time_zone_of

DEFAULT_LANGUAGE = "en"


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
    """One template file. ``messages`` are by purpose; ``facts`` are phrases by the code of a fact."""

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
    link_base: str


@cache
def load_languages() -> Mapping[str, LanguageTemplates]:
    """Every language by its tag.

    Raises ``ValueError`` for an invalid template file, or when its purposes are not those of the schedule.
    """
    languages = {}
    for file in files("services.notifier").joinpath("templates").iterdir():
        if file.name.endswith(".toml"):
            language = LanguageTemplates.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
            check_purposes(file.name, language)
            languages[file.name.removesuffix(".toml")] = language
    return languages


def check_purposes(file_name: str, language: LanguageTemplates) -> None:
    """Raise ``ValueError`` unless there is a template for each row of the schedule, and no other."""
    different = sorted(ROW_BY_PURPOSE.keys() ^ language.messages.keys())
    if different:
        raise ValueError(f"{file_name} and the schedule differ in these purposes: {', '.join(different)}")


def nearest_language(locale: str) -> str:
    """The recipient's language when there are templates in it, otherwise English."""
    base = locale.replace("_", "-").partition("-")[0].lower()
    return base if base in load_languages() else DEFAULT_LANGUAGE


def render_message(notification: Notification, context: RenderingContext) -> RenderedMessage:
    tag = nearest_language(context.recipient.locale)
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
    base = context.link_base.rstrip("/")
    planned_end = datetime.fromisoformat(about.planned_end) if about.planned_end else None
    return {
        "name": context.recipient.display_name,
        "partner": context.partner.display_name if context.partner else language.partner,
        "assisted": context.assisted.display_name if context.assisted else language.partner,
        "programme": labels.name if labels else language.programme,
        "learns": _topic_names(context.pairing, lambda focus: focus.from_side != about.side),
        "shares": _topic_names(context.pairing, lambda focus: focus.from_side == about.side),
        "link": f"{base}/pairings/{about.pairing_id}" if about.pairing_id else base,
        "round_link": f"{base}/rounds/{about.round_id}" if about.round_id else base,
        "answer_by": _format_day(about.answer_by, zone, language) if about.answer_by else "",
        "meeting": _format_time(about.starts_at, zone, language) if about.starts_at else "",
        "planned_end": _format_day(planned_end, UTC, language) if planned_end else "",
        "end_kind": about.end_kind or "",
        "facts": [language.facts[fact] for fact in about.facts if fact in language.facts],
        "contact": context.programme.confidential_contact if context.programme else "",
    }


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


def _format_time(at: datetime, zone: tzinfo, language: LanguageTemplates) -> str:
    local = at.astimezone(zone)
    zone_name = local.tzname() or "UTC"
    return language.dates.time.format(day=_format_day(at, zone, language), time=f"{local:%H:%M}", zone=zone_name)
