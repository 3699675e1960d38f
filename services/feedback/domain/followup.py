"""The follow-up of one pairing: its meetings, what each side was asked, and what becomes due with time.

The public part consists of counts and dates. Answers are stored in ``answers`` and ``pulses``. They are in no event,
and they decide neither what is published nor when: the same follow-up with other answers publishes the same events at
the same moments and is due at the same time. The one exception is ``outcome.recorded``, after the end, on its
restricted topic.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.days import WorkingDays
from contracts.envelope import Instant, OutgoingEvent
from contracts.feedback import Session, SessionCancelled
from contracts.moment import Moment
from contracts.pairings import PairingEvent
from contracts.profiles import Side
from contracts.programmes import ProgrammeSettings

ERASED = "erased"  # replaces the id of an erased member
SIDES: tuple[Side, Side] = ("senior", "junior")
RUNNING_STATES = frozenset({"formed", "chartered"})
MAX_SESSIONS = 300  # of one pairing
MAX_IDEAS = 100  # of one pairing
PAUSE_MERGE_WINDOW = timedelta(days=1)  # a pause that begins so soon after another one continues it

SessionState = Literal["scheduled", "held", "cancelled", "missed"]
Fact = Literal[
    "no_first_meeting_booked",
    "no_first_meeting_held",
    "nothing_scheduled_for_two_weeks",
    "two_cancellations_in_a_row",
    "two_missed_in_a_row",
]


class Terms(FrozenModel):
    """The programme's settings when the pairing formed. Later changes apply to later pairings.

    ``first_booked_by`` and ``first_held_by`` are working days after the start. ``planned`` is the number of meetings.
    ``raw_answers_months`` and ``months`` say how long after the end answers and everything else are retention.
    """

    checkin_days: tuple[int, ...]
    warm_up_days: int
    first_booked_by: int
    first_held_by: int
    planned: int
    booked_by: Literal["senior", "junior", "either"]
    raw_answers_months: int
    months: int
    working_days: WorkingDays = WorkingDays()

    @classmethod
    def of(cls, settings: ProgrammeSettings) -> "Terms":
        meetings, care, retention = settings.meetings, settings.care, settings.retention
        return cls(
            checkin_days=tuple(sorted(set(care.checkin_days))),
            warm_up_days=care.warm_up_days,
            first_booked_by=meetings.first_booked_by_working_day,
            first_held_by=meetings.first_held_by_working_day,
            planned=meetings.planned,
            booked_by=meetings.booked_by,
            raw_answers_months=min(retention.raw_answers_months, retention.months),
            months=retention.months,
            working_days=settings.working_days,
        )


class Meeting(FrozenModel):
    """One meeting. ``changed_at`` is when its state was last reported. ``noted_by``: who reported that it was held.

    ``noted_by`` is empty in documents of former versions.
    """

    session_id: str
    state: SessionState
    starts_at: Instant
    changed_at: Instant
    noted_by: tuple[Side, ...] = ()

    def to_session(self) -> Session:
        return Session(session_id=self.session_id, state=self.state, starts_at=self.starts_at)


class Checkin(FrozenModel):
    """A check-in of one side: that it was asked and whether it has answered, but no answer."""

    checkin_id: str
    milestone: str
    side: Side
    due_at: Instant
    completed_at: Instant | None = None


class AnswerSet(FrozenModel):
    """One side's answers to one check-in. None means "cannot say". ``version`` is the version of the questions."""

    version: str
    answers: dict[str, int | None]
    at: Instant


class Pulse(FrozenModel):
    """One side's rating of a meeting: whether it was worth the time. None means "cannot say"."""

    session_id: str
    side: Side
    worth: int | None


class Idea(FrozenModel):
    """An idea from a meeting. Others may read its text only after both sides agreed."""

    idea_id: str
    by: Side
    text: str | None
    agreed: bool = False
    at: Instant


class PauseInterval(FrozenModel):
    """A pause. ``until`` is None while the pairing is on hold."""

    since: Instant
    until: Instant | None = None


class PairingFollowup(FrozenModel):
    """One pairing as feedback stores it.

    ``followed``: the sequence of the last applied event. ``told``: the facts of the last ``contact.needed``.
    ``to_count``: the cells to which this pairing has a new value to add. ``calls``: who would like to be called, since
    when, and ``call_contacts`` by whom: a call belongs to the contact named when it was made, until the caller
    hands it over. ``gone``: a member was erased, or the time of retention is over.
    """

    pairing_id: str
    programme_id: str
    members: dict[Side, str]
    zones: dict[Side, str] = Field(default_factory=dict)
    terms: Terms | None = None
    state: Literal["formed", "chartered", "paused", "ended"]
    followed: int
    proposed_at: Instant | None = None
    formed_at: Instant
    charter_at: Instant | None = None
    planned_end: Instant | None = None
    pauses: tuple[PauseInterval, ...] = ()
    ended_at: Instant | None = None
    end_kind: Literal["completed", "ended_early", "not_started"] | None = None
    sessions: tuple[Meeting, ...] = ()
    checkins: tuple[Checkin, ...] = ()
    asked_for: tuple[str, ...] = ()
    answers: dict[str, AnswerSet] = Field(default_factory=dict)
    pulses: tuple[Pulse, ...] = ()
    ideas: tuple[Idea, ...] = ()
    calls: dict[Side, Instant] = Field(default_factory=dict)
    call_contacts: dict[Side, str] = Field(default_factory=dict)
    told: tuple[Fact, ...] = ()
    mid_point_at: Instant | None = None
    first_meeting_counted: bool = False
    met_by_day_30: bool | None = None
    partner_change_at: Instant | None = None
    outcome_at: Instant | None = None
    answers_deleted_at: Instant | None = None
    to_count: tuple[str, ...] = ()
    gone: bool = False
    due: Instant | None = None
    lease: Instant | None = None

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING_STATES and not self.gone

    @property
    def pause_spans(self) -> list[tuple[datetime, datetime | None]]:
        return [(pause.since, pause.until) for pause in self.pauses]

    @property
    def both_zones(self) -> tuple[str, ...]:
        return tuple(self.zones.get(side, "UTC") for side in SIDES)

    def side_of(self, member_id: str | None) -> Side | None:
        if member_id is None or member_id == ERASED:
            return None
        return next((side for side, member in self.members.items() if member == member_id), None)

    def held_meetings(self) -> list[Meeting]:
        """Meetings that took place, the earliest first."""
        held = (meeting for meeting in self.sessions if meeting.state == "held")
        return sorted(held, key=lambda meeting: meeting.starts_at)

    def upcoming_meetings(self, now: datetime) -> list[Meeting]:
        """Scheduled meetings that are still to come, the next one first."""
        upcoming = (meeting for meeting in self.sessions if meeting.state == "scheduled" and meeting.starts_at > now)
        return sorted(upcoming, key=lambda meeting: meeting.starts_at)


Decision = tuple[PairingFollowup, Sequence[OutgoingEvent]]


def public_facts(followup: PairingFollowup, now: datetime) -> dict[str, Any]:
    """The counts and dates that everybody may see: the common fields of all events, but for the event's own times."""
    held, upcoming = followup.held_meetings(), followup.upcoming_meetings(now)
    states = [meeting.state for meeting in followup.sessions]
    return {
        "pairing_id": followup.pairing_id,
        "programme_id": followup.programme_id,
        "sessions_held": len(held),
        "sessions_scheduled": states.count("scheduled"),
        "sessions_cancelled": states.count("cancelled"),
        "sessions_missed": states.count("missed"),
        "first_held_at": held[0].starts_at if held else None,
        "last_held_at": held[-1].starts_at if held else None,
        "next_session_at": upcoming[0].starts_at if upcoming else None,
    }


def event_fields(followup: PairingFollowup, moment: Moment) -> dict[str, Any]:
    """The common fields of all events about a follow-up."""
    times = {"happened_at": moment.now, "recorded_at": moment.recorded_at}
    scheduled_at = tuple(meeting.starts_at for meeting in followup.upcoming_meetings(moment.now))
    return {**public_facts(followup, moment.now), "scheduled_at": scheduled_at, **times}


def apply_pairing_event(
    followup: PairingFollowup | None,
    event: PairingEvent,
    sequence: int,
    zones: Mapping[Side, str],
    moment: Moment,
) -> Decision | None:
    """Apply an event of the matcher: start when the pairing has formed, hold when it pauses, close when it ends.

    ``sequence`` orders the events of one pairing; an older event changes nothing. The two members are taken from the
    first event only, so a late event cannot bring back somebody who was erased.
    """
    if event.formed_at is None or (followup is None and event.state not in (*RUNNING_STATES, "paused")):
        return None
    if followup is not None and (followup.gone or sequence <= followup.followed):
        return None
    if followup is None:
        followup = PairingFollowup(
            pairing_id=event.pairing_id,
            programme_id=event.programme_id,
            members={participant.side: participant.member_id for participant in event.participants},
            zones=dict(zones),
            state="formed",
            followed=sequence,
            proposed_at=event.proposed_at,
            formed_at=event.formed_at,
        )
    if event.state not in ("formed", "chartered", "paused", "ended"):
        return None
    end = event.planned_end
    after = followup.model_copy(
        update={
            "state": event.state,
            "followed": sequence,
            "proposed_at": event.proposed_at,
            "charter_at": event.charter_at,
            "planned_end": datetime.combine(end, time(0), UTC) if end else None,
            "pauses": _pauses_after(followup, event),
            "ended_at": event.ended_at,
            "end_kind": event.end_kind,
        }
    )
    if after.state != "ended" or followup.state == "ended":
        return after, []
    return _cancel_upcoming_meetings(after, moment)


def unfreeze_followup(
    followup: PairingFollowup | None, state: PairingEvent, sequence: int, moment: Moment
) -> Decision | None:
    """Follow the pairing from its current state, if the last event counted as newer than that state."""
    if followup is None or followup.gone or followup.followed <= sequence:
        return None
    behind = followup.model_copy(update={"followed": sequence - 1})
    return apply_pairing_event(behind, state, sequence, followup.zones, moment)


def _pauses_after(followup: PairingFollowup, event: PairingEvent) -> tuple[PauseInterval, ...]:
    """The pauses including this event. A pause that begins within a day of the last one's end continues that one."""
    pauses = followup.pauses
    last = pauses[-1] if pauses else None
    is_on_hold = last is not None and last.until is None
    if event.state == "paused":
        if is_on_hold:
            return pauses
        if last is not None and last.until is not None and event.happened_at - last.until < PAUSE_MERGE_WINDOW:
            return (*pauses[:-1], PauseInterval(since=last.since))
        return (*pauses, PauseInterval(since=event.happened_at))
    if last is None or not is_on_hold:
        return pauses
    return (*pauses[:-1], PauseInterval(since=last.since, until=event.happened_at))


def _cancel_upcoming_meetings(followup: PairingFollowup, moment: Moment) -> Decision:
    """The pairing is over, so its scheduled meetings do not take place."""
    upcoming = {meeting.session_id for meeting in followup.upcoming_meetings(moment.now)}
    events: list[OutgoingEvent] = []
    for meeting in followup.sessions:
        if meeting.session_id in upcoming:
            cancelled = meeting.model_copy(update={"state": "cancelled", "changed_at": moment.now})
            followup = with_meeting(followup, cancelled)
            fields = event_fields(followup, moment)
            events.append(SessionCancelled(session=cancelled.to_session(), by_end=True, **fields))
    return followup, events


def with_meeting(followup: PairingFollowup, meeting: Meeting) -> PairingFollowup:
    """Add the meeting, or replace the meeting with the same id."""
    others = [other for other in followup.sessions if other.session_id != meeting.session_id]
    sessions = sorted([*others, meeting], key=lambda meeting: meeting.starts_at)
    return followup.model_copy(update={"sessions": tuple(sessions)})


def remove_counted_keys(followup: PairingFollowup | None, keys: Sequence[str]) -> Decision | None:
    """The cells named by ``keys`` have received the new values."""
    if followup is None or not set(keys) & set(followup.to_count):
        return None
    remaining = tuple(key for key in followup.to_count if key not in keys)
    return followup.model_copy(update={"to_count": remaining, "lease": None}), []


def remove_member(followup: PairingFollowup | None, member_id: str, now: datetime) -> Decision | None:
    """Delete the member, their answers and ideas, and the meetings. The other side's answers stay.

    The pairing of an erased member is over, even if its end arrives only later. Nothing more becomes due but the
    deletion of the rest.
    """
    side = followup.side_of(member_id) if followup is not None else None
    if followup is None or side is None:
        return None
    own_checkins = {checkin.checkin_id for checkin in followup.checkins if checkin.side == side}
    return followup.model_copy(
        update={
            "members": {**followup.members, side: ERASED},
            "zones": {other: zone for other, zone in followup.zones.items() if other != side},
            "sessions": (),
            "pulses": tuple(pulse for pulse in followup.pulses if pulse.side != side),
            "checkins": tuple(checkin for checkin in followup.checkins if checkin.side != side),
            "answers": {id: answers for id, answers in followup.answers.items() if id not in own_checkins},
            "ideas": tuple(idea.model_copy(update={"text": None, "agreed": False}) for idea in followup.ideas),
            "calls": {other: at for other, at in followup.calls.items() if other != side},
            "call_contacts": {other: name for other, name in followup.call_contacts.items() if other != side},
            "to_count": tuple(key for key in followup.to_count if not key.endswith(f":{side}")),
            "state": "ended",
            "ended_at": followup.ended_at or now,
            "gone": True,
        }
    ), []
