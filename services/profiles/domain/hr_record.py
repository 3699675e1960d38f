"""The parts of a person, each with one owner: HR's record, what they entered themselves, how to reach them."""

import zoneinfo
from datetime import date
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from contracts import envelope
from contracts.profiles import Availability, Level, MemberId, Mode
from services.profiles.domain.base import Value
from services.profiles.domain.enrolment import Capacity
from services.profiles.domain.topics import MOST, OfferWords, SeekWords

SEPARATOR = "\x1f"  # ASCII unit separator: a control character, refused in every field
ONE_LINE = r"^[^\x00-\x1f\x7f]+$"  # no control character: a name goes into the headers of mail
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=ONE_LINE)]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", max_length=35)]
Band = Annotated[int, Field(ge=0, le=5)]
Channel = Literal["email", "inbox", "chat"]
EmploymentState = Literal["active", "on_leave", "leaving", "left"]


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def is_time_zone(text: str) -> bool:
    return text in _zones()


class ExternalId(Value):
    """How one HR system calls a person; after a merger somebody has several."""

    source: Id
    id: Id

    @property
    def ref(self) -> str:
        """One string for both; ``SEPARATOR`` occurs in neither."""
        return ref(self.source, self.id)


def ref(source: str, id: str) -> str:
    return source + SEPARATOR + id


class Grade(Value):
    """A level as HR wrote it, and what it is on the common scale."""

    scheme: str
    value: str
    normalised: Level


class Suggested(Value):
    """What HR supposes about matters that are the person's own; it fills only what they have not entered."""

    languages: tuple[Language, ...] = ()
    experience_band: Band | None = None
    offers: tuple[OfferWords, ...] = ()
    seeks: tuple[SeekWords, ...] = ()


class HrRecord(Value):
    """All that HR says of a person. An import replaces it as a whole and touches nothing else."""

    external_id: ExternalId
    name: Annotated[str, Field(min_length=1, max_length=200)]
    email: Annotated[str, Field(max_length=320)] | None = None
    organisation_id: envelope.Id
    department_id: envelope.Id
    site_id: envelope.Id | None = None
    discipline_id: envelope.Id | None = None
    level: Grade | None = None
    employment: EmploymentState = "active"
    employed_until: date | None = None
    locale: str | None = None
    time_zone: str | None = None
    suggested: Suggested = Suggested()


class Entered(Value):
    """What a person says of themselves; None is "not said yet", and an empty list is "none"."""

    offers: tuple[OfferWords, ...] | None = Field(None, max_length=MOST)
    seeks: tuple[SeekWords, ...] | None = Field(None, max_length=MOST)
    experience_band: Band | None = None
    languages: tuple[Language, ...] | None = Field(None, max_length=20)
    availability: Availability | None = None
    meeting_mode: Mode | None = None
    intro: Annotated[str, Field(max_length=280)] | None = Field(None, description="for the partner only")
    personal_cap: Capacity | None = None


class ContactWishes(Value):
    """How a person wants to be called and reached; None leaves it to HR's record."""

    display_name: Annotated[str, Field(min_length=1, max_length=200, pattern=ONE_LINE)] | None = None
    channels: tuple[Channel, ...] | None = Field(None, max_length=3)
    locale: Language | None = None
    time_zone: envelope.Tag | None = None
    delegates: tuple[MemberId, ...] = Field((), max_length=5, description="an assistant sees times, nothing else")
