"""The course of one pairing: its meetings, what each side was asked, and what the clock brings.

Everything public of it is a count or a date. What somebody answered is in ``answers`` and ``pulses``, enters no event,
and decides neither what is said nor when: the same course with other answers says the same events at the same moments
and is due at the same time. (``outcome.recorded``, on its restricted topic, is the one exception, after the end.)
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.feedback import Session, SessionCancelled
from contracts.pairings import PairingEvent
from contracts.profiles import Side
from contracts.programmes import ProgrammeSettings

ERASED = "erased"  # stands for whoever was forgotten
SIDES: tuple[Side, Side] = ("senior", "junior")
RUNNING_STATES = frozenset({"formed", "chartered"})
MAX_SESSIONS = 300
MAX_IDEAS = 100

SessionState = Literal["scheduled", "held", "cancelled", "missed"]
Fact = Literal[
    "no_first_meeting_booked",
    "no_first_meeting_held",
    "nothing_scheduled_for_two_weeks",
    "two_cancellations_in_a_row",
    "two_missed_in_a_row",
]


class Terms(FrozenModel):
    """What the programme's settings were when the pairing formed; later changes are for later pairings."""

    checkin_days: tuple[int, ...]
    warm_up_days: int
    first_booked_by: int
    first_held_by: int
    planned: int
    booked_by: Literal["senior", "junior", "either"]
    raw_answers_months: int
    months: int

    @classmethod
    def of(cls, settings: ProgrammeSettings) -> "Terms":
        meetings, care, kept = settings.meetings, settings.care, settings.retention
        return cls(
            checkin_days=tuple(sorted(set(care.checkin_days))),
            warm_up_days=care.warm_up_days,
            first_booked_by=meetings.first_booked_by_working_day,
            first_held_by=meetings.first_held_by_working_day,
            planned=meetings.planned,
            booked_by=meetings.booked_by,
            raw_answers_months=min(kept.raw_answers_months, kept.months),
            months=kept.months,
        )


class Meeting(FrozenModel):
    """One meeting, as ``contracts.feedback.Session`` tells it; ``changed_at`` is when its state was last reported."""

    session_id: str
    state: SessionState
    starts_at: Instant
    changed_at: Instant

    def public(self) -> Session:
        return Session(session_id=self.session_id, state=self.state, starts_at=self.starts_at)


class Checkin(FrozenModel):
    """One side was asked; whether it has answered, never what."""

    checkin_id: str
    milestone: str
    side: Side
    due_at: Instant
    completed_at: Instant | None = None


class AnswerSet(FrozenModel):
    """What one side answered to one check-in; None is "cannot say". ``version`` is that of the questions."""

    version: str
    answers: dict[str, int | None]
    at: Instant


class Pulse(FrozenModel):
    """Whether a meeting was worth one side's time."""

    session_id: str
    side: Side
    worth: int | None


class Idea(FrozenModel):
    """An idea that came out of a meeting; its words are for others only when both agree."""

    idea_id: str
    by: Side
    text: str | None
    agreed: bool = False
    at: Instant


class PauseInterval(FrozenModel):
    """A pause."""

    since: Instant
    until: Instant | None = None


class PairingFollowup(FrozenModel):
    """One pairing as feedback knows it. ``to_count`` are the figures to which it has something new to add."""

    pairing_id: str
    programme_id: str
    members: dict[Side, str]
    zones: dict[Side, str] = Field(default_factory=dict)
    terms: Terms | None = None
    state: Literal["formed", "chartered", "paused", "ended"]
    followed: int
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
        return [(stop.since, stop.until) for stop in self.pauses]

    @property
    def both_zones(self) -> tuple[str, ...]:
        return tuple(self.zones.get(side, "UTC") for side in SIDES)

    def side_of(self, member_id: str | None) -> Side | None:
        if member_id is None or member_id == ERASED:
            return None
        return next((side for side, member in self.members.items() if member == member_id), None)

    def held_meetings(self) -> list[Meeting]:
        """Meetings that took place, the first one first."""
        return sorted((one for one in self.sessions if one.state == "held"), key=lambda one: one.starts_at)

    def upcoming_meetings(self, now: datetime) -> list[Meeting]:
        """Meetings that have a date that is still to come, the next one first."""
        found = [one for one in self.sessions if one.state == "scheduled" and one.starts_at > now]
        return sorted(found, key=lambda one: one.starts_at)


Decision = tuple[PairingFollowup, Sequence[OutgoingEvent]]


def event_fields(course: PairingFollowup, now: datetime, recorded_at: datetime) -> dict[str, Any]:
    """What all events of a course share: counts and dates."""
    held, ahead = course.held_meetings(), course.upcoming_meetings(now)
    states = [one.state for one in course.sessions]
    return {
        "pairing_id": course.pairing_id,
        "programme_id": course.programme_id,
        "happened_at": now,
        "recorded_at": recorded_at,
        "sessions_held": len(held),
        "sessions_scheduled": states.count("scheduled"),
        "sessions_cancelled": states.count("cancelled"),
        "sessions_missed": states.count("missed"),
        "checkins_completed": sum(one.completed_at is not None for one in course.checkins),
        "first_held_at": held[0].starts_at if held else None,
        "last_held_at": held[-1].starts_at if held else None,
        "next_session_at": ahead[0].starts_at if ahead else None,
    }


def apply_pairing_event(
    course: PairingFollowup | None,
    pairing: PairingEvent,
    sequence: int,
    zones: Mapping[Side, str],
    now: datetime,
    recorded_at: datetime,
) -> Decision | None:
    """What the matcher said of the pairing: begin when it has formed, hold when it pauses, close when it ends.

    ``sequence`` orders what one pairing said; older news changes nothing. The two are taken from the first event alone,
    so nothing that is heard late brings back somebody who was forgotten.
    """
    if pairing.formed_at is None or (course is None and pairing.state not in (*RUNNING_STATES, "paused")):
        return None
    if course is not None and (course.gone or sequence <= course.followed):
        return None
    if course is None:
        course = PairingFollowup(
            pairing_id=pairing.pairing_id,
            programme_id=pairing.programme_id,
            members={one.side: one.member_id for one in pairing.participants},
            zones=dict(zones),
            state="formed",
            followed=sequence,
            formed_at=pairing.formed_at,
        )
    if pairing.state not in ("formed", "chartered", "paused", "ended"):
        return None
    end = pairing.planned_end
    after = course.model_copy(
        update={
            "state": pairing.state,
            "followed": sequence,
            "charter_at": pairing.charter_at,
            "planned_end": datetime.combine(end, time(0), UTC) if end else None,
            "pauses": _pauses(course, pairing),
            "ended_at": pairing.ended_at,
            "end_kind": pairing.end_kind,
        }
    )
    if after.state != "ended" or course.state == "ended":
        return after, []
    return _called_off(after, now, recorded_at)


def _pauses(course: PairingFollowup, pairing: PairingEvent) -> tuple[PauseInterval, ...]:
    """The stops so far; one that begins within a day of the last one's end goes on with that one."""
    running = bool(course.pauses) and course.pauses[-1].until is None
    if pairing.state == "paused":
        if running:
            return course.pauses
        last = course.pauses[-1] if course.pauses else None
        if last is not None and last.until is not None and pairing.happened_at - last.until < timedelta(days=1):
            return (*course.pauses[:-1], PauseInterval(since=last.since))
        return (*course.pauses, PauseInterval(since=pairing.happened_at))
    if not running:
        return course.pauses
    return (*course.pauses[:-1], PauseInterval(since=course.pauses[-1].since, until=pairing.happened_at))


def _called_off(course: PairingFollowup, now: datetime, recorded_at: datetime) -> Decision:
    """The pairing is over: what still had a date does not take place."""
    ahead = {one.session_id for one in course.upcoming_meetings(now)}
    said: list[OutgoingEvent] = []
    for one in course.sessions:
        if one.session_id in ahead:
            off = one.model_copy(update={"state": "cancelled", "changed_at": now})
            course = with_meeting(course, off)
            said.append(SessionCancelled(session=off.public(), **event_fields(course, now, recorded_at)))
    return course, said


def with_meeting(course: PairingFollowup, meeting: Meeting) -> PairingFollowup:
    """With this meeting new, or in the place of what it was before."""
    others = [one for one in course.sessions if one.session_id != meeting.session_id]
    return course.model_copy(update={"sessions": tuple(sorted([*others, meeting], key=lambda one: one.starts_at))})


def remove_counted_keys(course: PairingFollowup | None, keys: Sequence[str]) -> Decision | None:
    """These figures have what was new."""
    if course is None or not set(keys) & set(course.to_count):
        return None
    left = tuple(key for key in course.to_count if key not in keys)
    return course.model_copy(update={"to_count": left, "lease": None}), []


def remove_member(course: PairingFollowup | None, member_id: str, now: datetime) -> Decision | None:
    """Without this member, their answers, ideas and meetings; the other's own answers stay theirs.

    A pairing of which one is forgotten is over, also if its end is heard only later: nothing of it is due any more but
    the deletion of what is left.
    """
    side = course.side_of(member_id) if course is not None else None
    if course is None or side is None:
        return None
    mine = {one.checkin_id for one in course.checkins if one.side == side}
    return course.model_copy(
        update={
            "members": {**course.members, side: ERASED},
            "zones": {other: zone for other, zone in course.zones.items() if other != side},
            "sessions": (),
            "pulses": tuple(pulse for pulse in course.pulses if pulse.side != side),
            "checkins": tuple(one for one in course.checkins if one.side != side),
            "answers": {id: given for id, given in course.answers.items() if id not in mine},
            "ideas": tuple(idea.model_copy(update={"text": None, "agreed": False}) for idea in course.ideas),
            "calls": {other: at for other, at in course.calls.items() if other != side},
            "to_count": tuple(key for key in course.to_count if not key.endswith(f":{side}")),
            "state": "ended",
            "ended_at": course.ended_at or now,
            "gone": True,
        }
    ), []
