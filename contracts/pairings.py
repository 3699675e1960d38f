"""The life of a pairing: the events to which other systems subscribe.

Each event carries the whole public state, so any single event brings a subscriber up to date. ``pairing-states.v1`` is
compacted and gives a late subscriber the current state of every pairing. A refusal and an expiry are both ``lapsed``,
so that nobody learns who refused.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Day, EventData, Id, Instant, Topic
from contracts.profiles import MemberId, Side

PAIRINGS = Topic("pairings.v1", "keep", writers=("matcher",))
PAIRING_STATES = Topic("pairing-states.v1", "compact", writers=("matcher",))
ANSWERS = Topic("answers.v1", "time", writers=("matcher",), readers=("notifier",))
TRACED_AS = "mentoring.pairing.id"

PairingStateName = Literal["proposed", "lapsed", "formed", "chartered", "paused", "ended"]
Origin = Literal["round", "rolling", "request", "coordinator"]
DeclineReason = Literal[
    "no_time", "topics_do_not_fit", "know_each_other", "conflict_of_interest", "prefer_somebody_else", "other"
]


class Participant(FrozenModel):
    member_id: MemberId
    side: Side
    organisation_id: Id
    department_id: Id


class Focus(FrozenModel):
    """A topic of the pairing; ``from_side`` is the side that has the knowledge."""

    topic_id: Id
    from_side: Side


class PairingEvent(EventData):
    """The public state of a pairing. It contains no score, no name, no side that answered, no reason for leaving."""

    TOPIC: ClassVar[Topic] = PAIRINGS
    KEY: ClassVar[str] = "pairing_id"
    TRACED_AS: ClassVar[str | None] = TRACED_AS

    pairing_id: Id
    state: PairingStateName
    previous_state: PairingStateName | None = None
    happened_at: Instant = Field(description="business time")
    recorded_at: Instant = Field(description="machine time")
    programme_id: Id
    programme_version: Annotated[int, Field(ge=1)]
    round_id: Id | None = None
    origin: Origin
    participants: tuple[Participant, ...] = Field(
        min_length=2, description="two members today; a list, because groups may follow"
    )
    focus: tuple[Focus, ...] = ()
    cross_organisation: bool = False
    proposed_at: Instant
    answer_by: Instant
    formed_at: Instant | None = None
    charter_at: Instant | None = None
    planned_end: Day | None = None
    ended_at: Instant | None = None
    end_kind: Literal["completed", "ended_early", "not_started"] | None = None
    renewals: Annotated[int, Field(ge=0)] = 0
    predecessor_id: Id | None = None
    receipt_id: Id | None = None


class PairingProposed(PairingEvent):
    """Both members are asked; a seat is held for each of them until ``answer_by``."""

    TYPE: ClassVar[str] = "mentoring.pairing.proposed.v1"


class PairingLapsed(PairingEvent):
    """The pairing will not form: not both members accepted in time."""

    TYPE: ClassVar[str] = "mentoring.pairing.lapsed.v1"


class PairingFormed(PairingEvent):
    """Both members accepted."""

    TYPE: ClassVar[str] = "mentoring.pairing.formed.v1"


class PairingChartered(PairingEvent):
    """Both members agreed on goals, dates and confidentiality."""

    TYPE: ClassVar[str] = "mentoring.pairing.chartered.v1"


class PairingPaused(PairingEvent):
    """The pairing is on hold, for example during an absence; its seats stay taken."""

    TYPE: ClassVar[str] = "mentoring.pairing.paused.v1"


class PairingResumed(PairingEvent):
    """The pairing continues after a pause."""

    TYPE: ClassVar[str] = "mentoring.pairing.resumed.v1"


class PairingRenewed(PairingEvent):
    """The pairing continues beyond its planned end, as both sides wish."""

    TYPE: ClassVar[str] = "mentoring.pairing.renewed.v1"


class PairingEnded(PairingEvent):
    """The pairing is over and its seats are free again. An end carries no blame, and nobody is named."""

    TYPE: ClassVar[str] = "mentoring.pairing.ended.v1"


class PairingState(PairingEvent):
    """The current state, for subscribers that start late: the last record of a key is the current one."""

    TYPE: ClassVar[str] = "mentoring.pairing.state.v1"
    TOPIC: ClassVar[Topic] = PAIRING_STATES


class AnswerGiven(EventData):
    """One side answered a proposal. Restricted: the matcher publishes it, and only the notifier reads it."""

    TYPE: ClassVar[str] = "mentoring.answer.given.v1"
    TOPIC: ClassVar[Topic] = ANSWERS
    KEY: ClassVar[str] = "pairing_id"
    TRACED_AS: ClassVar[str | None] = TRACED_AS

    pairing_id: Id
    programme_id: Id
    side: Side
    answer: Literal["accepted", "declined"]
    reason: DeclineReason | None = None
    happened_at: Instant
    recorded_at: Instant
