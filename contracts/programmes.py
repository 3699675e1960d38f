"""Programmes, whole and versioned, and the rounds in which a cohort is matched.

Every number that a company would want to change is a setting here, with the default of the field.
"""

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import EventData, Id, Instant, Tag, Topic
from contracts.profiles import MemberId

PROGRAMMES = Topic("programmes.v1", "compact", partitions=3)
ROUNDS = Topic("rounds.v1", "time", partitions=3)

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Labels(FrozenModel):
    """What the programme and its two sides are called in one language ("senior" and "junior" may offend)."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    senior: Annotated[str, Field(min_length=1, max_length=60)] = "senior"
    junior: Annotated[str, Field(min_length=1, max_length=60)] = "junior"


class Rules(FrozenModel):
    """Hard rules: a pair that breaks one is never proposed."""

    min_level_gap: Annotated[int, Field(ge=0, le=19)] = 2
    max_level_gap: Annotated[int, Field(ge=0, le=19)] | None = None
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


class Floors(FrozenModel):
    """What each part of the fit must reach, on a scale from 0 to 1."""

    benefit: Share = Field(0.15, description="in each direction")
    compatibility: Share = Field(0.25, description="below it two people agree on nothing")


class Weights(FrozenModel):
    """How the parts of the fit are put together. They are normalised, so only their proportions count."""

    lower_benefit: Weight = Field(4.0, description="the side that gains less: it counts most")
    higher_benefit: Weight = 2.0
    compatibility: Weight = 2.0
    perspective: Weight = 2.0


class Depths(FrozenModel):
    """How much of a wish each kind of offer covers."""

    explain: Share = 0.6
    use: Share = 0.8
    teach: Share = 1.0


class Wishes(FrozenModel):
    """How much a covered wish is worth, by its priority."""

    weak: Share = Field(0.4, description="priority 1")
    medium: Share = Field(0.7, description="priority 2")
    strong: Share = Field(1.0, description="priority 3")


class Benefit(FrozenModel):
    """What somebody gains from a partner's offers."""

    depths: Depths = Depths()
    wishes: Wishes = Wishes()
    first_wish: Share = Field(
        0.8, description="what one strong wish, fully covered, is worth; every further one is a share of what is left"
    )


class Compatibility(FrozenModel):
    """How easily two people get on. ``style``, ``language`` and ``time`` count by their proportions."""

    style: Weight = Field(0.7, description="what likeness of style alone gives")
    language: Weight = Field(0.15, description="a language in common, where it is known")
    time: Weight = Field(0.15, description="free time in common, where it is known")
    plateau: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.8, description="likeness of style from which being even more alike earns nothing"
    )
    ample_minutes: Annotated[int, Field(ge=1, le=10080)] = Field(
        240, description="common free time a week from which more earns nothing"
    )


class Places(FrozenModel):
    """What each of two people's places in the organisation earns, where both are known."""

    department: Share = 0.0
    site: Share = 0.0
    discipline: Share = 0.0


class GapWorth(FrozenModel):
    """What exactly so many levels of seniority between two people earn."""

    levels: Annotated[int, Field(ge=-19, le=19)]
    worth: Share


class Perspective(FrozenModel):
    """What different views earn; all that one pair can earn may not exceed 1."""

    different: Places = Field(Places(department=0.35, site=0.25, discipline=0.25), description="by not being the same")
    same: Places = Field(Places(), description="by being the same")
    experience: Share = Field(
        0.15, description="by the greatest gap in years of experience; smaller ones in proportion"
    )
    gaps: tuple[GapWorth, ...] = Field((), max_length=39, description="by the gap in seniority; none earns by default")


class Fairness(FrozenModel):
    """How far the best total gives way to those who are worst off."""

    max_cost: Share = Field(0.02, description="share of the best total that raising the worst pairs may cost")
    worst: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.05, description="share of the pairs that count as the worst ones"
    )


class Draw(FrozenModel):
    """Chance among assignments that are as good as equal, so that what the weights do can be judged later."""

    tolerance: Share = Field(0.002, description="difference in fit of two swapped pairs that counts as none")
    max_cost: Annotated[float, Field(ge=0, le=0.001, allow_inf_nan=False)] = Field(
        0.0005, description="share of the best total that all of it may cost"
    )


class Matching(FrozenModel):
    """How pairs come about."""

    mode: Literal["cohort", "rolling"] = "cohort"
    release: Literal["coordinator", "automatic"] = "coordinator"
    shortlist: bool = Field(False, description="members may ask for a partner by name, from a shortlist")
    answer_within_working_days: Annotated[int, Field(ge=1, le=60)] = 10
    learning: bool = False
    floors: Floors = Floors()
    weights: Weights = Weights()
    benefit: Benefit = Benefit()
    ease: Compatibility = Field(Compatibility(), description="what compatibility is made of")
    perspective: Perspective = Perspective()
    fairness: Fairness = Fairness()
    draw: Draw = Draw()
    waiting: Share = Field(
        0.1,
        description="what the longest wait, or a pairing that failed, adds to somebody's fit when a round is solved",
    )


class Meetings(FrozenModel):
    """The rhythm of a pairing."""

    first_booked_by_working_day: Annotated[int, Field(ge=1, le=60)] = 10
    first_held_by_working_day: Annotated[int, Field(ge=1, le=90)] = 20
    planned: Annotated[int, Field(ge=1, le=60)] = 6
    duration_months: Annotated[int, Field(ge=1, le=36)] = 6
    booked_by: Literal["senior", "junior", "either"] = "senior"
    briefing_required: bool = True
    charter_required: bool = True


class Care(FrozenModel):
    """How a pairing is looked after. ``min_group`` (k) may be raised, never lowered below 5."""

    checkin_days: tuple[Annotated[int, Field(ge=0, le=1100)], ...] = (0, 30, 90)
    warm_up_days: Annotated[int, Field(ge=0, le=365)] = 45
    min_group: Annotated[int, Field(ge=5, le=100)] = 5
    messages_per_week: Annotated[int, Field(ge=1, le=21)] = 3
    quiet_from_hour: Annotated[int, Field(ge=0, le=23)] = 19
    quiet_until_hour: Annotated[int, Field(ge=0, le=23)] = 8


class Retention(FrozenModel):
    """How long data is kept after a pairing's end, in months."""

    months: Annotated[int, Field(ge=1, le=120)] = 12
    raw_answers_months: Annotated[int, Field(ge=1, le=24)] = 3


class ProgrammeSettings(FrozenModel):
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
