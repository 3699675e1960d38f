"""Feedback (facts only) and outcomes (restricted, in bands).

That a check-in was completed is a fact; what was answered is nobody's business and is in no event.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import EventData, Id, Instant, Topic
from contracts.pairings import TRACED_AS
from contracts.profiles import Side

FEEDBACK = Topic("feedback.v1", "time")
OUTCOMES = Topic("outcomes.v1", "time", readers=("matcher",))

Count = Annotated[int, Field(ge=0)]
Band = Literal["low", "middle", "high", "unknown"]


class Session(FrozenModel):
    """One meeting; ``held`` without ever having been ``scheduled`` is normal."""

    session_id: Id
    state: Literal["scheduled", "held", "cancelled", "missed"]
    starts_at: Instant


class FeedbackEvent(EventData):
    """What is publicly known about how a pairing goes: counts and dates."""

    TOPIC: ClassVar[Topic] = FEEDBACK
    KEY: ClassVar[str] = "pairing_id"
    TRACED_AS: ClassVar[str | None] = TRACED_AS

    pairing_id: Id
    programme_id: Id
    happened_at: Instant
    recorded_at: Instant
    sessions_held: Count = 0
    sessions_scheduled: Count = 0
    sessions_cancelled: Count = 0
    sessions_missed: Count = 0
    checkins_completed: Count = 0
    first_held_at: Instant | None = None
    last_held_at: Instant | None = None
    next_session_at: Instant | None = None


class SessionEvent(FeedbackEvent):
    session: Session


class SessionScheduled(SessionEvent):
    """A meeting has a date; also when it was moved."""

    TYPE: ClassVar[str] = "mentoring.session.scheduled.v1"


class SessionHeld(SessionEvent):
    """They met."""

    TYPE: ClassVar[str] = "mentoring.session.held.v1"


class SessionCancelled(SessionEvent):
    """A meeting was called off; by whom is not said."""

    TYPE: ClassVar[str] = "mentoring.session.cancelled.v1"


class SessionMissed(SessionEvent):
    """A meeting did not take place, and nobody had called it off."""

    TYPE: ClassVar[str] = "mentoring.session.missed.v1"


class CheckinEvent(FeedbackEvent):
    checkin_id: Id
    side: Side
    milestone: Annotated[str, Field(pattern=r"^(day_[0-9]{1,4}|end)$")]
    due_at: Instant


class CheckinDue(CheckinEvent):
    """One side is asked how it goes."""

    TYPE: ClassVar[str] = "mentoring.checkin.due.v1"


class CheckinCompleted(CheckinEvent):
    """One side answered: that, never what."""

    TYPE: ClassVar[str] = "mentoring.checkin.completed.v1"


class ContactNeeded(FeedbackEvent):
    """The facts say that this pairing would like some help. Facts about meetings only, never about answers."""

    TYPE: ClassVar[str] = "mentoring.contact.needed.v1"

    facts: tuple[
        Literal[
            "no_first_meeting_booked",
            "no_first_meeting_held",
            "nothing_scheduled_for_two_weeks",
            "two_cancellations_in_a_row",
            "two_missed_in_a_row",
        ],
        ...,
    ] = Field(min_length=1)


class PartnerChangeRequested(FeedbackEvent):
    """Somebody would like another partner; which side is not said."""

    TYPE: ClassVar[str] = "mentoring.partner.change.requested.v1"


class OutcomeRecorded(EventData):
    """How a pairing went, in bands, after its end. Restricted: for the matcher's learning alone."""

    TYPE: ClassVar[str] = "mentoring.outcome.recorded.v1"
    TOPIC: ClassVar[Topic] = OUTCOMES
    KEY: ClassVar[str] = "pairing_id"
    TRACED_AS: ClassVar[str | None] = TRACED_AS

    pairing_id: Id
    programme_id: Id
    happened_at: Instant
    recorded_at: Instant
    meetings: Band
    senior_learned: Band
    junior_learned: Band
    senior_enjoyed: Band
    junior_enjoyed: Band
