"""Who is told what, when: the whole lifecycle in one table.

*essential* asks something of the reader, or ends something of theirs: by e-mail where they have one, waiting for a free
place of the week, and always in the inbox. *nudge* helps: by e-mail where a place is free, otherwise not at all. *note*
stands in the inbox and is never pushed.

``when`` gives the moment (business time) from the event and the programme's settings; ``while_`` is asked again at that
moment, of what events tell everybody; ``unless`` too, of what they do not. ``relevant``: for how long after that moment
it is still worth saying; what is older, such as all that a rebuilt notifier hears again, is recorded and not sent.

Steps that nobody is told of: ``answer.given`` (one answer waits for the other; who said no is nobody's business),
``pairing.state`` (``pairing.*`` said it), ``partner.change.requested`` (the end follows, without blame),
``checkin.completed``, ``round.published`` (each pair gets its proposal), ``outcome.recorded``, and erasure: who is to
be forgotten hears nothing more. That a programme opens lets invitations out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from contracts.envelope import EventData
from contracts.feedback import (
    CheckinDue,
    ContactNeeded,
    FeedbackEvent,
    SessionCancelled,
    SessionEvent,
    SessionHeld,
    SessionMissed,
    SessionScheduled,
)
from contracts.pairings import (
    PairingChartered,
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingLapsed,
    PairingPaused,
    PairingProposed,
    PairingRenewed,
    PairingResumed,
)
from contracts.profiles import ContactChanged
from contracts.programmes import ProgrammeSettings, RoundComputed
from services.notifier.domain.quiet_hours import add_working_days, morning_of

Kind = Literal["essential", "nudge", "note"]
Readers = Literal["the member", "both", "the side asked", "who books", "assistants", "coordinators"]

DAY = timedelta(days=1)
CLOSING = 14 * DAY  # before a planned end


@dataclass(frozen=True)
class Facts:
    """What is known at the moment of sending."""

    pairing: PairingEvent | None = None
    feedback: FeedbackEvent | None = None
    answered: bool = False
    completed: bool = False
    starts_at: datetime | None = None
    planned_end: str | None = None


When: TypeAlias = Callable[[EventData, ProgrammeSettings | None], datetime | None]
While: TypeAlias = Callable[[Facts], bool]


def at_once(_event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    """Now; None stands for no waiting."""
    return None


def two_thirds_into_the_time_to_answer(event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent)
    return event.proposed_at + (event.answer_by - event.proposed_at) * 2 / 3


def five_working_days_on(event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent | CheckinDue)
    return add_working_days(event.happened_at, 5)


def half_way_to_the_day_for_booking(event: EventData, programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent)
    days = programme.meetings.first_booked_by_working_day if programme else 10
    return add_working_days(event.happened_at, max(1, days // 2 + 1))


def the_day_before(event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, SessionEvent)
    return event.session.starts_at - DAY


def half_way(event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent)
    if event.planned_end is None:
        return None
    begun = event.formed_at or event.happened_at
    return begun + (morning_of(event.planned_end) - begun) / 2


def two_weeks_before_the_end(event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent)
    return morning_of(event.planned_end) - CLOSING if event.planned_end else None


def always(_facts: Facts) -> bool:
    return True


def proposed(facts: Facts) -> bool:
    """Still to be answered. One that comes from a request was by both, and forms in the same moment."""
    pairing = facts.pairing
    return pairing is not None and pairing.state == "proposed" and pairing.origin != "request"


def answered(facts: Facts) -> bool:
    return facts.answered


def running(facts: Facts) -> bool:
    return facts.pairing is not None and facts.pairing.state in ("formed", "chartered")


def not_ended(facts: Facts) -> bool:
    return facts.pairing is not None and facts.pairing.state != "ended"


def without_charter(facts: Facts) -> bool:
    return facts.pairing is not None and facts.pairing.state == "formed" and facts.pairing.charter_at is None


def without_a_meeting(facts: Facts) -> bool:
    known = facts.feedback
    return running(facts) and (known is None or (known.next_session_at is None and known.first_held_at is None))


def meeting_as_planned(facts: Facts) -> bool:
    known = facts.feedback
    return not_ended(facts) and known is not None and known.next_session_at == facts.starts_at


def incomplete(facts: Facts) -> bool:
    return not facts.completed


def ending_then(facts: Facts) -> bool:
    pairing = facts.pairing
    return running(facts) and pairing is not None and str(pairing.planned_end) == facts.planned_end


@dataclass(frozen=True)
class Row:
    """One line of the table. ``once``: said once for each pairing and its planned end, whatever the event was.

    ``unless``: a private fact by which it is not needed. The message goes its way all the same, waits out the night and
    takes its place of the week; only what would reach the reader is left out, and no event tells of it. Otherwise the
    fact could be told from what else is said, and when.
    """

    purpose: str
    on: tuple[type[EventData], ...]
    readers: Readers
    kind: Kind
    relevant: timedelta
    when: When = at_once
    while_: While = always
    unless: While | None = None
    once: bool = False

    @property
    def public(self) -> bool:
        """Whether events tell of it: nothing private, nothing from a restricted topic such as who is invited, and not
        whose assistant somebody is."""
        restricted = any(type.TOPIC.readers for type in self.on)
        return self.unless is None and self.readers != "assistants" and not restricted


_AGREED = (PairingFormed, PairingChartered, PairingResumed, PairingRenewed)

# fmt: off
TABLE: tuple[Row, ...] = (
    # joining
    Row("invitation",          (ContactChanged,),    "the member",     "nudge",     30 * DAY),
    Row("welcome",             (ContactChanged,),    "the member",     "note",      30 * DAY),
    Row("round_to_review",     (RoundComputed,),     "coordinators",   "nudge",     14 * DAY),
    # a proposal
    Row("proposal",            (PairingProposed,),   "both",           "essential", 60 * DAY, while_=proposed),
    Row("answer_reminder",     (PairingProposed,),   "both",           "essential", 30 * DAY,
        two_thirds_into_the_time_to_answer, proposed, unless=answered),
    Row("proposal_closed",     (PairingLapsed,),     "both",           "nudge",     14 * DAY),
    # beginning
    Row("partners",            (PairingFormed,),     "both",           "essential", 30 * DAY, while_=not_ended),
    Row("charter_reminder",    (PairingFormed,),     "both",           "nudge",     14 * DAY,
        five_working_days_on, without_charter),
    Row("booking_reminder",    (PairingFormed,),     "who books",      "nudge",     14 * DAY,
        half_way_to_the_day_for_booking, without_a_meeting),
    Row("agreed",              (PairingChartered,),  "both",           "note",      14 * DAY),
    # meeting
    Row("meeting_planned",     (SessionScheduled,),  "both",           "note",      7 * DAY),
    Row("meeting_time",        (SessionScheduled,),  "assistants",     "nudge",     7 * DAY),
    Row("meeting_soon",        (SessionScheduled,),  "both",           "nudge",     DAY,
        the_day_before, meeting_as_planned),
    Row("meeting_off",         (SessionCancelled,),  "both",           "nudge",     7 * DAY),
    Row("meeting_time_off",    (SessionCancelled,),  "assistants",     "nudge",     7 * DAY),
    Row("meeting_missed",      (SessionMissed,),     "both",           "nudge",     7 * DAY),
    Row("meeting_held",        (SessionHeld,),       "both",           "note",      7 * DAY),
    # care
    Row("checkin",             (CheckinDue,),        "the side asked", "essential", 21 * DAY, while_=incomplete),
    Row("checkin_reminder",    (CheckinDue,),        "the side asked", "nudge",     14 * DAY,
        five_working_days_on, incomplete),
    Row("help_offered",        (ContactNeeded,),     "both",           "nudge",     14 * DAY, while_=running),
    Row("pair_needs_a_person", (ContactNeeded,),     "coordinators",   "nudge",     14 * DAY),
    # going on, and the end
    Row("paused",              (PairingPaused,),     "both",           "note",      14 * DAY),
    Row("resumed",             (PairingResumed,),    "both",           "nudge",     14 * DAY),
    Row("renewed",             (PairingRenewed,),    "both",           "nudge",     14 * DAY),
    Row("half_way",            _AGREED,              "both",           "note",      21 * DAY, half_way, ending_then,
        once=True),
    Row("closing_soon",        _AGREED,              "both",           "nudge",     14 * DAY,
        two_weeks_before_the_end, ending_then, once=True),
    Row("ended",               (PairingEnded,),      "both",           "essential", 30 * DAY),
)
# fmt: on

BY_PURPOSE: Mapping[str, Row] = {row.purpose: row for row in TABLE}


def rows_for(event: type[EventData]) -> tuple[Row, ...]:
    return tuple(row for row in TABLE if event in row.on)
