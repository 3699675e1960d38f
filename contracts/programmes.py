"""Programmes with all their settings, and the rounds in which a cohort is matched.

Every number that a company may want to change is a setting here. The default of the field applies without it.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.days import WorkingDays
from contracts.envelope import Day, EventData, Id, Instant, Tag, Topic
from contracts.profiles import MemberId
from contracts.text import SEVERAL_LINES

PROGRAMMES = Topic("programmes.v1", "compact", partitions=3, writers=("matcher",))
ROUNDS = Topic("rounds.v1", "time", partitions=3, writers=("matcher",))

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Labels(FrozenModel):
    """The names of the programme and its two sides in one language ("senior" and "junior" may offend)."""

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
        60, description="Minutes a week that both have free; applies only if both have stated their times."
    )
    on_conflict: Literal["flag", "end"] = Field(
        "flag",
        description="what happens to a running pairing that breaks a rule about line, manager, evaluators or "
        "organisation after a change of the organisation: a person decides, or it ends after a day",
    )


class Floors(FrozenModel):
    """The minimum of each part of the fit, on a scale from 0 to 1."""

    benefit: Share = Field(0.15, description="in each direction")
    compatibility: Share = Field(0.25, description="below it, two people agree on nothing")


class Weights(FrozenModel):
    """The weights of the parts of the fit. They are normalised, so only their proportions count."""

    lower_benefit: Weight = Field(4.0, description="the benefit of the side that gains less; it counts most")
    higher_benefit: Weight = 2.0
    compatibility: Weight = 2.0
    perspective: Weight = 2.0


class Depths(FrozenModel):
    """The share of a wish that each kind of offer covers."""

    explain: Share = 0.6
    use: Share = 0.8
    teach: Share = 1.0


class Wishes(FrozenModel):
    """The value of a covered wish, by its priority."""

    weak: Share = Field(0.4, description="priority 1")
    medium: Share = Field(0.7, description="priority 2")
    strong: Share = Field(1.0, description="priority 3")


class Benefit(FrozenModel):
    """The benefit of a member from the offers of a partner."""

    depths: Depths = Depths()
    wishes: Wishes = Wishes()
    first_wish: Share = Field(
        0.8, description="value of one strong wish, fully covered; every further wish adds a share of the rest"
    )


class Compatibility(FrozenModel):
    """How easily two people work together. ``style``, ``language`` and ``time`` count by their proportions."""

    style: Weight = Field(0.7, description="weight of similar styles")
    language: Weight = Field(0.15, description="weight of a common language, if both are known")
    time: Weight = Field(0.15, description="weight of common free time, if both are known")
    plateau: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.8, description="similarity of styles above which more similarity adds nothing"
    )
    ample_minutes: Annotated[int, Field(ge=1, le=10080)] = Field(
        240, description="common free minutes a week above which more time adds nothing"
    )


class Places(FrozenModel):
    """The values for each kind of position in the organisation, if those of both members are known."""

    department: Share = 0.0
    site: Share = 0.0
    discipline: Share = 0.0


class GapWorth(FrozenModel):
    """The value of exactly this difference in levels of seniority."""

    levels: Annotated[int, Field(ge=-19, le=19)]
    worth: Share


class Perspective(FrozenModel):
    """The value of different views; the maximum for one pair may not exceed 1."""

    different: Places = Field(
        Places(department=0.35, site=0.25, discipline=0.25), description="for different positions"
    )
    same: Places = Field(Places(), description="for equal positions")
    experience: Share = Field(
        0.15, description="for the greatest difference in years of experience; smaller ones in proportion"
    )
    gaps: tuple[GapWorth, ...] = Field(
        (), max_length=39, description="for the difference in seniority; none has a value by default"
    )


class Fairness(FrozenModel):
    """How much of the best total is given up for the pairs that are worst off."""

    max_cost: Share = Field(0.02, description="share of the best total that improving the worst pairs may cost")
    worst: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.05, description="share of the pairs that count as the worst ones"
    )


class Draw(FrozenModel):
    """The random choice among nearly equal assignments, so that the effect of the weights can be measured later."""

    tolerance: Share = Field(0.002, description="difference in fit of two swapped pairs that counts as zero")
    max_cost: Annotated[float, Field(ge=0, le=0.001, allow_inf_nan=False)] = Field(
        0.0005, description="share of the best total that all random choices together may cost"
    )


class Matching(FrozenModel):
    """How pairs are formed."""

    mode: Literal["cohort", "rolling"] = "cohort"
    release: Literal["coordinator", "automatic"] = "coordinator"
    shortlist: bool = Field(False, description="members may ask for a partner by name, from a shortlist")
    answer_within_working_days: Annotated[int, Field(ge=1, le=60)] = 10
    learning: bool = False
    floors: Floors = Floors()
    weights: Weights = Weights()
    benefit: Benefit = Benefit()
    ease: Compatibility = Field(Compatibility(), description="the parts of compatibility")
    perspective: Perspective = Perspective()
    fairness: Fairness = Fairness()
    draw: Draw = Draw()
    waiting: Share = Field(
        0.1,
        description="added to the fit of a member in a round for the longest wait, or for a pairing that failed",
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
    """How a pairing is supported. ``min_group`` (k) may be raised, never lowered below 5."""

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
    """All settings of a programme; coordinators decide them."""

    labels: dict[Tag, Labels] = Field(min_length=1, description="by BCP 47 language tag")
    purpose: Annotated[str, Field(max_length=500), SEVERAL_LINES] = ""
    organisations: tuple[Id, ...] = Field(min_length=1)
    coordinators: tuple[MemberId, ...] = ()
    confidential_contact: Annotated[str, Field(min_length=1, max_length=320)] = Field(
        description="a contact for everybody, outside the line of every senior; a function, not a private address"
    )
    notice: Id = Field("1", description="version of the privacy notice that members have seen")
    starts: Day | None = None
    ends: Day | None = Field(None, description="the last day; nobody is paired after it, and pairings end with it")
    working_days: WorkingDays = Field(WorkingDays(), description="the days that count for every deadline")
    rules: Rules = Rules()
    matching: Matching = Matching()
    meetings: Meetings = Meetings()
    care: Care = Care()
    retention: Retention = Retention()


class ProgrammeChanged(EventData):
    """A programme with all its settings; every change of them increases ``version``."""

    TYPE: ClassVar[str] = "mentoring.programme.changed.v1"
    TOPIC: ClassVar[Topic] = PROGRAMMES
    KEY: ClassVar[str] = "programme_id"

    programme_id: Id
    version: Annotated[int, Field(ge=1)]
    state: Literal["draft", "open", "closed"]
    settings: ProgrammeSettings
    happened_at: Instant
    recorded_at: Instant
    contact_since: Instant | None = Field(
        None, description="when an open programme last got another confidential contact; its members are told"
    )


class RoundEvent(EventData):
    """The totals of a round: numbers of people and pairs. It names nobody and contains no score."""

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
    withdrawn: Annotated[int, Field(ge=0)] = Field(
        0, description="pairs that were no longer possible when the round was published"
    )
    unmatched_seniors: Annotated[int, Field(ge=0)] = 0
    unmatched_juniors: Annotated[int, Field(ge=0)] = 0
    happened_at: Instant
    recorded_at: Instant


class RoundComputed(RoundEvent):
    """A round was computed and waits for the review of a coordinator."""

    TYPE: ClassVar[str] = "mentoring.round.computed.v1"


class RoundPublished(RoundEvent):
    """A coordinator released a round, and all its proposals were sent."""

    TYPE: ClassVar[str] = "mentoring.round.published.v1"
