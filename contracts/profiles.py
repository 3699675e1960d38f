"""Events about people: the profile that matching needs, and the contact data that the notifier needs."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from contracts.base import FrozenModel
from contracts.envelope import Day, EventData, Id, Instant, Tag, Topic
from contracts.language_codes import normalise_tags

PROFILES = Topic("profiles.v1", "compact", writers=("profiles",), readers=("matcher", "feedback"))
CONTACTS = Topic("contacts.v1", "compact", writers=("profiles",), readers=("notifier",))

MemberId = Annotated[Id, Field(description="Random and never reused; reveals nothing about the member.")]
Level = Annotated[int, Field(ge=1, le=20, description="Seniority, normalised over all grade schemes; 20 is highest.")]
Side = Literal["senior", "junior"]
Depth = Literal["explain", "use", "teach"]
Mode = Literal["in_person", "remote", "either"]
Leaning = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


LanguageTags = Annotated[tuple[Tag, ...], AfterValidator(normalise_tags)]
"""``eng`` and ``en`` are one language: older records too are read with one code for each."""


class Offer(FrozenModel):
    """A topic with which the member can help: can explain it, uses it, or can teach it."""

    topic: Id
    level: Depth = "use"


class Seek(FrozenModel):
    """A topic that the member wants to learn about; priority 3 is the strongest wish."""

    topic: Id
    priority: Annotated[int, Field(ge=1, le=3)] = 2


class Window(FrozenModel):
    """A weekly interval of local time in minutes since midnight; weekday 0 is Monday.

    ``end < start`` is a time across midnight: it ends on the next day. ``end == start`` is no time.
    """

    weekday: Annotated[int, Field(ge=0, le=6)]
    start: Annotated[int, Field(ge=0, lt=1440)]
    end: Annotated[int, Field(gt=0, le=1440)]


class Availability(FrozenModel):
    """The times at which the member can meet. ``rotating`` (shifts) and ``by_arrangement`` never exclude anybody."""

    kind: Literal["weekly", "rotating", "by_arrangement"] = "by_arrangement"
    windows: tuple[Window, ...] = ()


class Absence(FrozenModel):
    """An absence, both days included; its reason is never asked. Without ``until`` it has no planned end."""

    since: Day
    until: Day | None = None


class Style(FrozenModel):
    """The style of thinking and working, each value from -2 to +2: half the difference of two opposite statements.

    A value is absent if a statement was skipped; an absent value never counts against anybody.
    """

    candour: Leaning | None = None
    pace: Leaning | None = None
    change: Leaning | None = None
    debate: Leaning | None = None


class Enrolment(FrozenModel):
    """The participation in one programme."""

    programme_id: Id
    side: Literal["senior", "junior", "either"]
    capacity: Annotated[int, Field(ge=0, le=20)] = 1
    state: Literal["invited", "enrolled", "ready", "left"]
    confidentiality_acknowledged: bool = Field(
        False, description="Whether the member has acknowledged the notice for pairings across organisations."
    )
    waiting_since: Instant | None = None


class ProfileChanged(EventData):
    """The whole profile of a member, as far as matching needs it. It contains no name, no address and no free text."""

    TYPE: ClassVar[str] = "mentoring.profile.changed.v1"
    TOPIC: ClassVar[Topic] = PROFILES
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    organisation_id: Id
    department_id: Id
    site_id: Id | None = None
    discipline_id: Id | None = None
    level: Level | None = None
    experience_band: Annotated[int, Field(ge=0, le=5, description="0-2, 3-5, 6-10, 11-15, 16-25, 26+ years")] | None = (
        None
    )
    line: tuple[MemberId, ...] = Field((), max_length=3, description="Managers above, nearest first; opaque ids.")
    evaluators: tuple[MemberId, ...] = Field((), description="Others who judge this person's work; opaque ids.")
    employment: Literal["active", "on_leave", "leaving", "left"] = "active"
    employed_until: Day | None = None
    offers: tuple[Offer, ...] = ()
    seeks: tuple[Seek, ...] = ()
    languages: LanguageTags = Field((), description="BCP 47 tags")
    time_zone: Tag | None = Field(None, description="IANA name")
    availability: Availability = Availability()
    meeting_mode: Mode = "either"
    style: Style = Style()
    avoid: tuple[MemberId, ...] = Field(
        (), description="Private: members with whom this one would rather not be paired. Never shown to anyone else."
    )
    away: tuple[Absence, ...] = ()
    personal_cap: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="The maximum of pairings over all programmes."
    )
    enrolments: tuple[Enrolment, ...] = ()


class TakingPart(FrozenModel):
    """The state of a member in one programme, and since when (business time)."""

    programme_id: Id
    state: Literal["invited", "enrolled", "ready", "left"]
    since: Instant | None = None


class ContactChanged(EventData):
    """How and when a member is reached. The only event with a name or an address; its topic is restricted."""

    TYPE: ClassVar[str] = "mentoring.contact.changed.v1"
    TOPIC: ClassVar[Topic] = CONTACTS
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    display_name: Annotated[str, Field(max_length=200)]
    email: Annotated[str, Field(max_length=320)] | None = None
    channels: tuple[Literal["email", "inbox", "chat"], ...] = ("inbox",)
    locale: Tag = "en"
    time_zone: Tag | None = None
    delegates: tuple[MemberId, ...] = Field((), description="Assistants; they see times and nothing else.")
    employment: Literal["active", "on_leave", "leaving", "left"] = Field(
        "active", description="Members who have left receive no messages."
    )
    away: tuple[Absence, ...] = ()
    avoid: tuple[MemberId, ...] = Field(
        (), description="Private: members with whom this one would rather not be paired, and needs no reminder."
    )
    taking_part: tuple[TakingPart, ...] = ()
