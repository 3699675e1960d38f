"""Feedback (facts about meetings), and what only one service may read: check-ins, partner changes, outcomes in bands.

Of two people each knows what they did themselves. So an event that "one of the two" has answered, or has asked for
another partner, tells the other one who it was. Such events are on restricted topics, and no open event counts them.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import EventData, Id, Instant, Topic
from contracts.pairings import TRACED_AS
from contracts.profiles import Side

FEEDBACK = Topic("feedback.v1", "time", writers=("feedback",))
CHECKINS = Topic("checkins.v1", "time", writers=("feedback",), readers=("notifier",))
PARTNER_CHANGES = Topic("partner-changes.v1", "time", writers=("feedback",), readers=("matcher",))
OUTCOMES = Topic("outcomes.v1", "time", writers=("feedback",), readers=("matcher",))

Count = Annotated[int, Field(ge=0)]
Band = Literal["low", "middle", "high", "unknown"]


class Session(FrozenModel):
    """One meeting. A meeting may be ``held`` that was never ``scheduled``."""

    session_id: Id
    state: Literal["scheduled", "held", "cancelled", "missed"]
    starts_at: Instant


class FeedbackEvent(EventData):
    """The public facts about the course of a pairing: counts and dates."""

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
    first_held_at: Instant | None = None
    last_held_at: Instant | None = None
    next_session_at: Instant | None = None
    scheduled_at: tuple[Instant, ...] | None = Field(
        None, description="all meetings that are still to come, the next one first; absent in older events"
    )


class SessionEvent(FeedbackEvent):
    session: Session


class SessionScheduled(SessionEvent):
    """A meeting has a date, or has a new date."""

    TYPE: ClassVar[str] = "mentoring.session.scheduled.v1"


class SessionHeld(SessionEvent):
    """A meeting took place."""

    TYPE: ClassVar[str] = "mentoring.session.held.v1"


class SessionCancelled(SessionEvent):
    """A meeting was called off. The event does not name who called it off."""

    TYPE: ClassVar[str] = "mentoring.session.cancelled.v1"

    by_end: bool = Field(False, description="whether nobody called it off, but the pairing ended before it")


class SessionMissed(SessionEvent):
    """A meeting did not take place, and was not called off before."""

    TYPE: ClassVar[str] = "mentoring.session.missed.v1"


class CheckinEvent(FeedbackEvent):
    TOPIC: ClassVar[Topic] = CHECKINS
    FORMER_TOPIC: ClassVar[Topic | None] = FEEDBACK

    checkin_id: Id
    side: Side
    milestone: Annotated[str, Field(pattern=r"^(day_[0-9]{1,4}|end)$")]
    due_at: Instant


class CheckinDue(CheckinEvent):
    """One side is asked for its feedback."""

    TYPE: ClassVar[str] = "mentoring.checkin.due.v1"


class CheckinCompleted(CheckinEvent):
    """One side has answered a check-in. The event never contains the answer."""

    TYPE: ClassVar[str] = "mentoring.checkin.completed.v1"


class ContactNeeded(FeedbackEvent):
    """The facts suggest that this pairing needs help. They are facts about meetings only, never about answers."""

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
    """One side asks for another partner. The event does not name the side, and only the matcher reads it."""

    TYPE: ClassVar[str] = "mentoring.partner.change.requested.v1"
    TOPIC: ClassVar[Topic] = PARTNER_CHANGES
    FORMER_TOPIC: ClassVar[Topic | None] = FEEDBACK


class OutcomeRecorded(EventData):
    """The outcome of a pairing after its end, in bands. Restricted: only the matcher reads it, to learn."""

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
