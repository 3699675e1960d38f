"""The notification schedule: who is notified of what, and when. One row declares one notification.

A row is the only declaration: handlers are registered from its ``events`` (see ``services.notifier.handlers``). Its
texts stand in ``templates/<language>.toml`` under its purpose.

An *essential* notification asks something of the recipient or ends something of theirs. It goes by e-mail where they
have an address, waits for a free weekly slot, and always appears in the inbox. A *nudge* helps. It goes by e-mail when
a weekly slot is free; without one it is suppressed. A *note* appears in the inbox and never goes by e-mail.

Steps without a notification:

* ``answer.given``: one answer waits for the other, and who said no stays private.
* ``pairing.state``: the ``pairing.*`` events have said it.
* ``partner.change.requested``: the end of the pairing follows, without blame.
* ``checkin.completed`` and ``outcome.recorded``: nothing to do for anybody.
* ``round.published``: each pair gets its proposal, and ``member.unmatched`` tells the others.
* ``request.accepted``: the pairing has formed.
* Erasure: a member who is to be erased gets no more notifications.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from contracts.days import MONDAY_TO_FRIDAY, WorkingDays, add_working_days
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
from contracts.programmes import ProgrammeChanged, ProgrammeSettings, RoundComputed
from contracts.requests import RequestEvent, RequestLapsed, RequestOpened, RequestWithdrawn
from contracts.unmatched import MemberUnmatched
from services.notifier.domain.quiet_hours import start_of_day

Kind = Literal["essential", "nudge", "note"]
Audience = Literal[
    "the member", "all members", "both", "the side asked", "who books", "assistants", "coordinators",
    "who was asked", "who asks", "the unmatched",
]  # fmt: skip

DAY = timedelta(days=1)
CLOSING_NOTICE = 14 * DAY  # before the planned end of a pairing
REMINDER_WORKING_DAYS = 5
DEFAULT_BOOKING_DEADLINE = 10  # working days; used when the programme's settings are unknown


@dataclass(frozen=True)
class SendingFacts:
    """The facts at the moment of sending. ``is_answered`` and ``is_completed`` are about the recipient's side.

    ``is_unwanted``: the recipient would rather not be paired with the other member of the pairing or request.
    """

    pairing: PairingEvent | None = None
    request: RequestEvent | None = None
    feedback: FeedbackEvent | None = None
    is_answered: bool = False
    is_unwanted: bool = False
    is_completed: bool = False
    starts_at: datetime | None = None
    planned_end: str | None = None


DueTime: TypeAlias = Callable[[EventData, ProgrammeSettings | None], datetime | None]
Condition: TypeAlias = Callable[[SendingFacts], bool]


def immediately(_event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    return None


def two_thirds_into_answer_period(event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent)
    return event.proposed_at + (event.answer_by - event.proposed_at) * 2 / 3


def five_working_days_later(event: EventData, programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent | CheckinDue)
    return add_working_days(event.happened_at, REMINDER_WORKING_DAYS, _working_days(programme))


def half_way_to_booking_deadline(event: EventData, programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent)
    days = programme.meetings.first_booked_by_working_day if programme else DEFAULT_BOOKING_DEADLINE
    return add_working_days(event.happened_at, max(1, days // 2 + 1), _working_days(programme))


def _working_days(programme: ProgrammeSettings | None) -> WorkingDays:
    return programme.working_days if programme else MONDAY_TO_FRIDAY


def one_day_before(event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, SessionEvent)
    return event.session.starts_at - DAY


def half_way_to_end(event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent)
    if event.planned_end is None:
        return None
    start = event.formed_at or event.happened_at
    return start + (start_of_day(event.planned_end) - start) / 2


def two_weeks_before_end(event: EventData, _programme: ProgrammeSettings | None) -> datetime | None:
    assert isinstance(event, PairingEvent)
    return start_of_day(event.planned_end) - CLOSING_NOTICE if event.planned_end else None


def always(_facts: SendingFacts) -> bool:
    return True


def is_awaiting_answers(facts: SendingFacts) -> bool:
    """Whether the proposal is open. A pairing by request was agreed by both and forms at the same moment."""
    pairing = facts.pairing
    return pairing is not None and pairing.state == "proposed" and pairing.origin != "request"


def need_not_answer(facts: SendingFacts) -> bool:
    """Whether this side has answered, or would rather not be paired with the other and waits until it lapses."""
    return facts.is_answered or facts.is_unwanted


def is_request_open(facts: SendingFacts) -> bool:
    return facts.request is not None and facts.request.state == "open"


def is_unwanted(facts: SendingFacts) -> bool:
    """Whether the request is hidden from the recipient, who would rather not be paired with the one who asks."""
    return facts.is_unwanted


def is_running(facts: SendingFacts) -> bool:
    return facts.pairing is not None and facts.pairing.state in ("formed", "chartered")


def is_not_ended(facts: SendingFacts) -> bool:
    return facts.pairing is not None and facts.pairing.state != "ended"


def has_no_charter(facts: SendingFacts) -> bool:
    return facts.pairing is not None and facts.pairing.state == "formed" and facts.pairing.charter_at is None


def has_no_meeting(facts: SendingFacts) -> bool:
    feedback = facts.feedback
    return is_running(facts) and (
        feedback is None or (feedback.next_session_at is None and feedback.first_held_at is None)
    )


def is_meeting_unchanged(facts: SendingFacts) -> bool:
    feedback = facts.feedback
    if feedback is None or not is_not_ended(facts):
        return False
    if feedback.scheduled_at is None:  # an event of a former version
        return feedback.next_session_at == facts.starts_at
    return facts.starts_at in feedback.scheduled_at


def by_somebody(event: EventData) -> bool:
    """Whether somebody called the meeting off. When the pairing ended, "choose a new time" would be wrong."""
    return isinstance(event, SessionCancelled) and not event.by_end


def any_event(_event: EventData) -> bool:
    return True


def has_completed_checkin(facts: SendingFacts) -> bool:
    return facts.is_completed


def is_end_unchanged(facts: SendingFacts) -> bool:
    pairing = facts.pairing
    return is_running(facts) and pairing is not None and str(pairing.planned_end) == facts.planned_end


@dataclass(frozen=True)
class ScheduleRow:
    """One notification.

    ``events``: each of these creates it, once for each member of the audience.
    ``relevant_for``: how long after the due time it is still worth sending. An older one is recorded and not sent; this
    covers everything that a rebuilt notifier receives again.
    ``due_time``: the business time of sending, from the event and the programme's settings; None means at once.
    ``only_if``: checked at the time of sending, against public facts.
    ``unless``: a private fact that makes it unnecessary, checked last. The notification waits out the night and takes
    its weekly slot all the same; only what would reach the recipient is left out, and no event mentions it. Otherwise
    the private fact could be inferred from what else is sent, and when.
    ``created_if``: events of these types that do not meet it create none.
    ``once_per_end``: created once for each pairing and planned end, whatever the event was.
    ``member_state``: for the audience "the member", the state in a programme that they have reached.
    """

    purpose: str
    events: tuple[type[EventData], ...]
    audience: Audience
    kind: Kind
    relevant_for: timedelta
    due_time: DueTime = immediately
    only_if: Condition = always
    unless: Condition | None = None
    once_per_end: bool = False
    member_state: Literal["invited", "ready"] | None = None
    created_if: Callable[[EventData], bool] = any_event

    @property
    def is_public(self) -> bool:
        """Whether events mention it.

        They mention nothing that depends on a private fact, nothing from a restricted topic (such as who is invited or
        takes part), and not whose assistant somebody is.
        """
        is_restricted = any(event_type.TOPIC.readers for event_type in self.events)
        return self.unless is None and self.audience not in ("assistants", "all members") and not is_restricted

    @property
    def is_counted(self) -> bool:
        """Whether figures count it: not where it would tell a private fact, or a private act in its moment."""
        return self.unless is None and not any(event_type.TOPIC.holds_private_acts for event_type in self.events)


_JOINING = (ContactChanged, ProgrammeChanged)
_RUNNING = (PairingFormed, PairingChartered, PairingResumed, PairingRenewed)

# fmt: off
SCHEDULE: tuple[ScheduleRow, ...] = (
    # joining
    ScheduleRow("invitation",          _JOINING,            "the member",     "nudge",     30 * DAY,
                 member_state="invited"),
    ScheduleRow("welcome",             _JOINING,            "the member",     "note",      30 * DAY,
                 member_state="ready"),
    ScheduleRow("contact_changed",     (ProgrammeChanged,), "all members",    "essential", 30 * DAY),
    ScheduleRow("round_to_review",     (RoundComputed,),    "coordinators",   "nudge",     14 * DAY),
    # a proposal
    ScheduleRow("proposal",            (PairingProposed,),  "both",           "essential", 60 * DAY,
                 only_if=is_awaiting_answers),
    ScheduleRow("answer_reminder",     (PairingProposed,),  "both",           "essential", 30 * DAY,
                 two_thirds_into_answer_period, is_awaiting_answers, unless=need_not_answer),
    ScheduleRow("proposal_closed",     (PairingLapsed,),    "both",           "nudge",     14 * DAY),
    # choosing a partner, and having none
    ScheduleRow("request",             (RequestOpened,),    "who was asked",  "essential", 30 * DAY,
                 only_if=is_request_open, unless=is_unwanted),
    ScheduleRow("request_closed",      (RequestLapsed, RequestWithdrawn), "who was asked", "note", 14 * DAY,
                 unless=is_unwanted),
    ScheduleRow("request_lapsed",      (RequestLapsed,),    "who asks",       "nudge",     14 * DAY),
    ScheduleRow("no_partner",          (MemberUnmatched,),  "the unmatched",   "nudge",     14 * DAY),
    # the beginning
    ScheduleRow("partners",            (PairingFormed,),    "both",           "essential", 30 * DAY,
                 only_if=is_not_ended),
    ScheduleRow("charter_reminder",    (PairingFormed,),    "both",           "nudge",     14 * DAY,
                 five_working_days_later, has_no_charter),
    ScheduleRow("booking_reminder",    (PairingFormed,),    "who books",      "nudge",     14 * DAY,
                 half_way_to_booking_deadline, has_no_meeting),
    ScheduleRow("agreed",              (PairingChartered,), "both",           "note",      14 * DAY),
    # meetings
    ScheduleRow("meeting_planned",     (SessionScheduled,), "both",           "note",      7 * DAY),
    ScheduleRow("meeting_time",        (SessionScheduled,), "assistants",     "nudge",     7 * DAY),
    ScheduleRow("meeting_soon",        (SessionScheduled,), "both",           "nudge",     DAY,
                 one_day_before, is_meeting_unchanged),
    ScheduleRow("meeting_off",         (SessionCancelled,), "both",           "nudge",     7 * DAY,
                 only_if=is_not_ended, created_if=by_somebody),
    ScheduleRow("meeting_time_off",    (SessionCancelled,), "assistants",     "nudge",     7 * DAY),
    ScheduleRow("meeting_missed",      (SessionMissed,),    "both",           "nudge",     7 * DAY),
    ScheduleRow("meeting_held",        (SessionHeld,),      "both",           "note",      7 * DAY),
    # check-ins and help
    ScheduleRow("checkin",             (CheckinDue,),       "the side asked", "essential", 21 * DAY,
                 unless=has_completed_checkin),
    ScheduleRow("checkin_reminder",    (CheckinDue,),       "the side asked", "nudge",     14 * DAY,
                 five_working_days_later, unless=has_completed_checkin),
    ScheduleRow("help_offered",        (ContactNeeded,),    "both",           "nudge",     14 * DAY,
                 only_if=is_running),
    ScheduleRow("pair_needs_a_person", (ContactNeeded,),    "coordinators",   "nudge",     14 * DAY),
    # pauses, renewals and the end
    ScheduleRow("paused",              (PairingPaused,),    "both",           "note",      14 * DAY),
    ScheduleRow("resumed",             (PairingResumed,),   "both",           "nudge",     14 * DAY),
    ScheduleRow("renewed",             (PairingRenewed,),   "both",           "nudge",     14 * DAY),
    ScheduleRow("half_way",            _RUNNING,            "both",           "note",      21 * DAY,
                 half_way_to_end, is_end_unchanged, once_per_end=True),
    ScheduleRow("closing_soon",        _RUNNING,            "both",           "nudge",     14 * DAY,
                 two_weeks_before_end, is_end_unchanged, once_per_end=True),
    ScheduleRow("ended",               (PairingEnded,),     "both",           "essential", 30 * DAY),
)
# fmt: on

ROW_BY_PURPOSE: Mapping[str, ScheduleRow] = {row.purpose: row for row in SCHEDULE}


def event_types(schedule: Sequence[ScheduleRow] = SCHEDULE) -> Iterator[type[EventData]]:
    """Every event type that creates a notification, once, in the order of the rows."""
    yield from dict.fromkeys(event_type for row in schedule for event_type in row.events)


def rows_for(event_type: type[EventData]) -> tuple[ScheduleRow, ...]:
    return tuple(row for row in SCHEDULE if event_type in row.events)


def rows_for_member_state(state: str) -> tuple[ScheduleRow, ...]:
    """The rows that tell members that they have reached this state in a programme."""
    return tuple(row for row in SCHEDULE if row.member_state == state)
