"""Meetings: scheduled, moved, called off, held (also without ever having had a date), missed."""

from datetime import datetime, timedelta
from typing import Literal

from contracts.errors import CommandRejected, NotFound
from contracts.feedback import SessionCancelled, SessionEvent, SessionHeld, SessionMissed, SessionScheduled
from contracts.profiles import Side
from services.feedback.domain.followup import (
    MAX_IDEAS,
    MAX_SESSIONS,
    Decision,
    Idea,
    Meeting,
    PairingFollowup,
    Pulse,
    SessionState,
    event_fields,
    with_meeting,
)

FARTHEST = timedelta(days=400)  # ahead; beyond it a date is a slip of the finger
AROUND = timedelta(hours=24)  # held so near to a date is the meeting that had the date

_EVENTS: dict[SessionState, type[SessionEvent]] = {
    "scheduled": SessionScheduled,
    "held": SessionHeld,
    "cancelled": SessionCancelled,
    "missed": SessionMissed,
}


def schedule(
    course: PairingFollowup, side: Side, session_id: str, starts_at: datetime, now: datetime, recorded_at: datetime
) -> Decision:
    """Give a meeting a date; for the side that books in this programme."""
    _may_book(course, side)
    _ahead(starts_at, now)
    _room(course)
    made = Meeting(session_id=session_id, state="scheduled", starts_at=starts_at, changed_at=now)
    return _told(course, made, now, recorded_at)


def move(
    course: PairingFollowup, side: Side, session_id: str, starts_at: datetime, now: datetime, recorded_at: datetime
) -> Decision | None:
    """Give it another date; said as scheduled again."""
    _may_book(course, side)
    meeting = _meeting(course, session_id)
    if meeting.state != "scheduled":
        raise CommandRejected("not_scheduled", "Only a meeting that has a date can be moved.")
    if meeting.starts_at == starts_at:
        return None
    _ahead(starts_at, now)
    return _told(course, meeting.model_copy(update={"starts_at": starts_at, "changed_at": now}), now, recorded_at)


def cancel(course: PairingFollowup, session_id: str, now: datetime, recorded_at: datetime) -> Decision | None:
    """Call it off; either side may, and nobody is told which one did."""
    meeting = _meeting(course, session_id)
    if meeting.state == "cancelled":
        return None
    if meeting.state != "scheduled":
        raise CommandRejected("not_scheduled", "Only a meeting that has a date can be called off.")
    return _told(course, meeting.model_copy(update={"state": "cancelled", "changed_at": now}), now, recorded_at)


def report_outcome(
    course: PairingFollowup, session_id: str, met: Literal["held", "missed"], now: datetime, recorded_at: datetime
) -> Decision | None:
    """What became of a meeting whose time has come. That they met corrects that they did not; never the other way."""
    meeting = _meeting(course, session_id)
    if meeting.state == met or (meeting.state == "held" and met == "missed"):
        return None
    if meeting.state == "cancelled" and met == "missed":
        raise CommandRejected("not_scheduled", "It was called off before.")
    if meeting.starts_at > now:
        raise CommandRejected("not_yet", "This meeting is still to come.")
    return _told(course, meeting.model_copy(update={"state": met, "changed_at": now}), now, recorded_at)


def record_held(
    course: PairingFollowup, session_id: str, at: datetime, now: datetime, recorded_at: datetime
) -> Decision:
    """They met, in their own calendars: two taps. Where a date stood within a day of it, that is the one."""
    if course.state == "ended" or course.gone:
        raise CommandRejected("over", "This pairing is over.")
    if at > now:
        raise CommandRejected("not_yet", "A meeting can be noted once it has taken place.")
    if at < course.formed_at - AROUND:
        raise CommandRejected("too_early", "That was before this pairing began.")
    near = [one for one in course.sessions if one.state in ("scheduled", "missed") and abs(one.starts_at - at) < AROUND]
    if near:
        nearest = min(near, key=lambda one: abs(one.starts_at - at))
        return _told(
            course, nearest.model_copy(update={"state": "held", "starts_at": at, "changed_at": now}), now, recorded_at
        )
    _room(course)
    return _told(course, Meeting(session_id=session_id, state="held", starts_at=at, changed_at=now), now, recorded_at)


def record_pulse(
    course: PairingFollowup,
    side: Side,
    session_id: str,
    worth: int | None,
    *,
    met: bool,
    now: datetime,
    recorded_at: datetime,
) -> Decision | None:
    """After a meeting: did you meet (a fact, told), and was it worth your time (an answer, told to nobody)."""
    reported = report_outcome(course, session_id, "held" if met else "missed", now, recorded_at)
    after, said = reported or (course, [])
    others = tuple(one for one in after.pulses if (one.session_id, one.side) != (session_id, side))
    mine = Pulse(session_id=session_id, side=side, worth=worth if met else None)
    if reported is None and mine in course.pulses:
        return None
    return after.model_copy(update={"pulses": (*others, mine)}), said


def record_idea(course: PairingFollowup, side: Side, idea_id: str, text: str | None, now: datetime) -> Decision:
    """Note that an idea came out of a meeting; its words are seen by the two alone until the other agrees."""
    if course.gone:
        raise CommandRejected("over", "This pairing is over.")
    if len(course.ideas) >= MAX_IDEAS:
        raise CommandRejected("too_many", "So many ideas are noted here that no more can be kept.")
    return course.model_copy(update={"ideas": (*course.ideas, Idea(idea_id=idea_id, by=side, text=text, at=now))}), []


def agree_to_idea(course: PairingFollowup, side: Side, idea_id: str) -> Decision | None:
    """The other one agrees that the words of an idea are told."""
    found = next((one for one in course.ideas if one.idea_id == idea_id), None)
    if found is None:
        raise NotFound("idea")
    if found.by == side:
        raise CommandRejected("own_idea", "It is for the other one to agree.")
    if found.agreed:
        return None
    after = tuple(one.model_copy(update={"agreed": True}) if one is found else one for one in course.ideas)
    return course.model_copy(update={"ideas": after}), []


def _told(course: PairingFollowup, meeting: Meeting, now: datetime, recorded_at: datetime) -> Decision:
    after = with_meeting(course, meeting)
    return after, [_EVENTS[meeting.state](session=meeting.public(), **event_fields(after, now, recorded_at))]


def _meeting(course: PairingFollowup, session_id: str) -> Meeting:
    if course.state == "ended" or course.gone:
        raise CommandRejected("over", "This pairing is over.")
    found = next((one for one in course.sessions if one.session_id == session_id), None)
    if found is None:
        raise NotFound("meeting")
    return found


def _may_book(course: PairingFollowup, side: Side) -> None:
    if not course.is_running:
        raise CommandRejected("not_running", "Meetings are planned while a pairing is running.")
    if course.terms is not None and course.terms.booked_by not in (side, "either"):
        raise CommandRejected("not_yours_to_book", "In this programme the other side plans the meetings.")


def _ahead(starts_at: datetime, now: datetime) -> None:
    if starts_at <= now:
        raise CommandRejected("in_the_past", "A meeting is planned for a time to come; if you met already, note that.")
    if starts_at - now > FARTHEST:
        raise CommandRejected("too_far", "That is more than a year from now.")


def _room(course: PairingFollowup) -> None:
    if len(course.sessions) >= MAX_SESSIONS:
        raise CommandRejected("too_many", "So many meetings are noted here that no more can be kept.")
