"""Programmes, whole and versioned, and the rounds in which a cohort is matched.

Every number that a company would want to change is a setting here, with the default of the field.
"""

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.envelope import EventData, Id, Instant, Tag, Topic
from contracts.people import MemberId

PROGRAMMES = Topic("programmes.v1", "compact", partitions=3)
ROUNDS = Topic("rounds.v1", "time", partitions=3)

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Labels(_Settings):
    """What the programme and its two sides are called in one language ("senior" and "junior" may offend)."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    senior: Annotated[str, Field(min_length=1, max_length=60)] = "senior"
    junior: Annotated[str, Field(min_length=1, max_length=60)] = "junior"


class Rules(_Settings):
    """Hard rules: a pair that breaks one is never proposed."""

    min_level_gap: Annotated[int, Field(ge=0, le=19)] = 2
    line_depth: Annotated[int, Field(ge=0, le=3)] = 3
    exclude_same_manager: bool = True
    cross_organisation: bool = False
    default_capacity: Annotated[int, Field(ge=0, le=20)] = 1
    min_overlap_minutes: Annotated[int, Field(ge=0, le=2400)] = Field(
        60, description="Weekly time both have free; applies only where both have said theirs."
    )
    on_conflict: Literal["flag", "end"] = Field(
        "flag",
        description="what becomes of a running pairing when the organisation changes and it breaks a rule about line, "
        "manager, evaluators or organisation: a person decides, or it ends after a day",
    )


class Floors(_Settings):
    """What each part of the fit must reach, on a scale from 0 to 1."""

    benefit: Share = Field(0.15, description="in each direction")
    compatibility: Share = Field(0.25, description="below it two people agree on nothing")


class Weights(_Settings):
    """How the parts of the fit are put together. They are normalised, so only their proportions count."""

    lower_benefit: Weight = Field(4.0, description="the side that gains less: it counts most")
    higher_benefit: Weight = 2.0
    compatibility: Weight = 2.0
    perspective: Weight = 2.0


class Matching(_Settings):
    """How pairs come about."""

    mode: Literal["cohort", "rolling"] = "cohort"
    release: Literal["coordinator", "automatic"] = "coordinator"
    shortlist: bool = Field(False, description="members may ask for a partner by name, from a shortlist")
    answer_within_working_days: Annotated[int, Field(ge=1, le=60)] = 10
    learning: bool = False
    floors: Floors = Floors()
    weights: Weights = Weights()


class Meetings(_Settings):
    """The rhythm of a pairing."""

    first_booked_by_working_day: Annotated[int, Field(ge=1, le=60)] = 10
    first_held_by_working_day: Annotated[int, Field(ge=1, le=90)] = 20
    planned: Annotated[int, Field(ge=1, le=60)] = 6
    duration_months: Annotated[int, Field(ge=1, le=36)] = 6
    booked_by: Literal["senior", "junior", "either"] = "senior"
    briefing_required: bool = True
    charter_required: bool = True


class Care(_Settings):
    """How a pairing is looked after. ``min_group`` (k) may be raised, never lowered below 5."""

    checkin_days: tuple[Annotated[int, Field(ge=0, le=1100)], ...] = (0, 30, 90)
    warm_up_days: Annotated[int, Field(ge=0, le=365)] = 45
    min_group: Annotated[int, Field(ge=5, le=100)] = 5
    messages_per_week: Annotated[int, Field(ge=1, le=21)] = 3
    quiet_from_hour: Annotated[int, Field(ge=0, le=23)] = 19
    quiet_until_hour: Annotated[int, Field(ge=0, le=23)] = 8


class Retention(_Settings):
    """How long data is kept after a pairing's end, in months."""

    months: Annotated[int, Field(ge=1, le=120)] = 12
    raw_answers_months: Annotated[int, Field(ge=1, le=24)] = 3


class ProgrammeSettings(_Settings):
    """All that a coordinator decides about a programme."""

    labels: dict[Tag, Labels] = Field(min_length=1, description="by BCP 47 language tag")
    purpose: Annotated[str, Field(max_length=500)] = ""
    organisations: tuple[Id, ...] = Field(min_length=1)
    coordinators: tuple[MemberId, ...] = ()
    confidential_contact: Annotated[str, Field(min_length=1, max_length=320)] = Field(
        description="whom anybody can turn to, outside every senior's line; a function, not a private address"
    )
    notice: Id = Field("1", description="version of the privacy notice that members have seen")
    starts: date | None = None
    ends: date | None = None
    rules: Rules = Rules()
    matching: Matching = Matching()
    meetings: Meetings = Meetings()
    care: Care = Care()
    retention: Retention = Retention()


class ProgrammeChanged(EventData):
    """A programme with all its settings; ``version`` grows with every change of them."""

    TYPE: ClassVar[str] = "mentoring.programme.changed.v1"
    TOPIC: ClassVar[Topic] = PROGRAMMES
    KEY: ClassVar[str] = "programme_id"

    programme_id: Id
    version: Annotated[int, Field(ge=1)]
    state: Literal["draft", "open", "closed"]
    settings: ProgrammeSettings
    happened_at: Instant
    recorded_at: Instant


class RoundEvent(EventData):
    """A round's totals: how many people, how many pairs. Never who, never a score."""

    TOPIC: ClassVar[Topic] = ROUNDS
    KEY: ClassVar[str] = "round_id"

    round_id: Id
    programme_id: Id
    programme_version: Annotated[int, Field(ge=1)]
    state: Literal["computed", "publishing", "published", "discarded"]
    seniors: Annotated[int, Field(ge=0)]
    juniors: Annotated[int, Field(ge=0)]
    pairs: Annotated[int, Field(ge=0)]
    proposed: Annotated[int, Field(ge=0)] = 0
    withdrawn: Annotated[int, Field(ge=0)] = Field(0, description="no longer possible when it was published")
    unmatched_seniors: Annotated[int, Field(ge=0)] = 0
    unmatched_juniors: Annotated[int, Field(ge=0)] = 0
    happened_at: Instant
    recorded_at: Instant


class RoundComputed(RoundEvent):
    """A round was solved and waits for a coordinator's review."""

    TYPE: ClassVar[str] = "mentoring.round.computed.v1"


class RoundPublished(RoundEvent):
    """A coordinator released a round, and all its proposals have gone out."""

    TYPE: ClassVar[str] = "mentoring.round.published.v1"
