"""The parts of a person, each with one owner: HR's record, the person's own entries, and their contact wishes."""

import zoneinfo
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from contracts import envelope
from contracts.base import FrozenModel
from contracts.envelope import Day
from contracts.language_codes import normalise_tags
from contracts.profiles import Availability, Level, MemberId, Mode
from contracts.text import SEVERAL_LINES
from services.profiles.domain.enrolment import Capacity
from services.profiles.domain.topics import MAX_TOPICS, OfferEntry, SeekEntry

REF_SEPARATOR = "\x1f"  # ASCII unit separator: a control character, so no field can contain it
ONE_LINE = r"^[^\x00-\x1f\x7f]+$"  # no control characters, because a name is written into mail headers
ShortText = Annotated[str, Field(min_length=1, max_length=64, pattern=ONE_LINE)]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", max_length=35)]
ExperienceBand = Annotated[int, Field(ge=0, le=5)]
Channel = Literal["email", "inbox", "chat"]
EmploymentState = Literal["active", "on_leave", "leaving", "left"]


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def is_time_zone(text: str) -> bool:
    return text in _time_zones()


class ExternalId(FrozenModel):
    """The id of a person in one HR system. After a merger, a person may have several."""

    source: ShortText
    id: ShortText

    @property
    def ref(self) -> str:
        """Source and id as one string. ``REF_SEPARATOR`` occurs in neither of them."""
        return external_ref(self.source, self.id)


EMAIL_SIGN = "@"  # begins no source


def external_ref(source: str, id: str) -> str:
    return source + REF_SEPARATOR + id


def email_ref(email: str) -> str:
    """How a row names a person by their address. No ``external_ref`` looks like it."""
    return EMAIL_SIGN + email


class Grade(FrozenModel):
    """A level as HR wrote it, and its value on the common scale."""

    scheme: str
    value: str
    normalised: Level


class HrSuggestions(FrozenModel):
    """HR's suggestions for data that the person owns. They count only where the person has entered nothing."""

    languages: Annotated[tuple[Language, ...], AfterValidator(normalise_tags)] = ()
    experience_band: ExperienceBand | None = None
    offers: tuple[OfferEntry, ...] = ()
    seeks: tuple[SeekEntry, ...] = ()


class HrRecord(FrozenModel):
    """Everything that HR states about a person. An import replaces it as a whole and changes nothing else."""

    external_id: ExternalId
    name: Annotated[str, Field(min_length=1, max_length=200)]
    email: Annotated[str, Field(max_length=320)] | None = None
    organisation_id: envelope.Id
    department_id: envelope.Id
    site_id: envelope.Id | None = None
    discipline_id: envelope.Id | None = None
    level: Grade | None = None
    employment: EmploymentState = "active"
    employed_until: Day | None = None
    locale: str | None = None
    time_zone: str | None = None
    suggested: HrSuggestions = HrSuggestions()


class Entered(FrozenModel):
    """A person's statements about themselves. None means "not stated yet", an empty list means "none"."""

    offers: tuple[OfferEntry, ...] | None = Field(None, max_length=MAX_TOPICS)
    seeks: tuple[SeekEntry, ...] | None = Field(None, max_length=MAX_TOPICS)
    experience_band: ExperienceBand | None = None
    languages: Annotated[tuple[Language, ...], AfterValidator(normalise_tags)] | None = Field(None, max_length=20)
    availability: Availability | None = None
    meeting_mode: Mode | None = None
    intro: Annotated[str, Field(max_length=280), SEVERAL_LINES] | None = Field(None, description="for the partner only")
    personal_cap: Capacity | None = None


class ContactWishes(FrozenModel):
    """How a person wants to be named and reached. For None, HR's record counts."""

    display_name: Annotated[str, Field(min_length=1, max_length=200, pattern=ONE_LINE)] | None = None
    channels: tuple[Channel, ...] | None = Field(None, max_length=3)
    locale: Language | None = None
    time_zone: envelope.Tag | None = None
    delegates: tuple[MemberId, ...] = Field((), max_length=5, description="an assistant sees times, nothing else")
