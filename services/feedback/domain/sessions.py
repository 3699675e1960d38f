"""Meetings: scheduled, moved, cancelled, held (with or without a date beforehand), missed."""

from datetime import datetime, timedelta
from typing import Literal

from contracts.days import local_day
from contracts.errors import CommandRejected, NotFound
from contracts.feedback import SessionCancelled, SessionEvent, SessionHeld, SessionMissed, SessionScheduled
from contracts.moment import Moment
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

MAX_LEAD_TIME = timedelta(days=400)  # a date further ahead is a typing error
SAME_MEETING_WINDOW = timedelta(hours=24)  # a meeting held so near to a date is the meeting with that date
SAME_NOTE_WINDOW = timedelta(hours=6)  # notes of the two sides so near to each other are about one meeting
DOUBLE_CLICK_WINDOW = timedelta(minutes=15)  # notes so near to each other are about one meeting, whoever made them

_EVENTS: dict[SessionState, type[SessionEvent]] = {
    "scheduled": SessionScheduled,
    "held": SessionHeld,
    "cancelled": SessionCancelled,
    "missed": SessionMissed,
}


def schedule(
    followup: PairingFollowup, side: Side, session_id: str, starts_at: datetime, moment: Moment
) -> Decision | None:
    """Give a meeting a date; only for the side that books in this programme. None if this date exists already."""
    _require_booking_right(followup, side)
    _require_valid_date(starts_at, moment.now)
    if any((meeting.state, meeting.starts_at) == ("scheduled", starts_at) for meeting in followup.sessions):
        return None
    _require_room(followup)
    meeting = Meeting(session_id=session_id, state="scheduled", starts_at=starts_at, changed_at=moment.now)
    return _save(followup, meeting, moment)


def move(
    followup: PairingFollowup, side: Side, session_id: str, starts_at: datetime, moment: Moment
) -> Decision | None:
    """Give a meeting another date. The event is the same as for a new date."""
    _require_booking_right(followup, side)
    meeting = _find_meeting(followup, session_id)
    if meeting.state != "scheduled":
        raise CommandRejected("not_scheduled", "Only a scheduled meeting can be moved.")
    if meeting.starts_at == starts_at:
        return None
    _require_valid_date(starts_at, moment.now)
    return _save(followup, meeting.model_copy(update={"starts_at": starts_at, "changed_at": moment.now}), moment)


def cancel(followup: PairingFollowup, session_id: str, moment: Moment) -> Decision | None:
    """Cancel a meeting. Either side may, and nobody is told which side it was."""
    meeting = _find_meeting(followup, session_id)
    if meeting.state == "cancelled":
        return None
    if meeting.state != "scheduled":
        raise CommandRejected("not_scheduled", "Only a scheduled meeting can be cancelled.")
    return _save(followup, meeting.model_copy(update={"state": "cancelled", "changed_at": moment.now}), moment)


def report_outcome(
    followup: PairingFollowup, side: Side, session_id: str, outcome: Literal["held", "missed"], moment: Moment
) -> Decision | None:
    """Record the outcome of a meeting whose time has come. "held" corrects "missed", but not the other way round."""
    meeting = _find_meeting(followup, session_id)
    if meeting.state == "held":
        return _note(followup, meeting, side) if outcome == "held" else None
    if meeting.state == outcome:
        return None
    if meeting.state == "cancelled" and outcome == "missed":
        raise CommandRejected("not_scheduled", "This meeting was cancelled.")
    if meeting.starts_at > moment.now:
        raise CommandRejected("not_yet", "This meeting has not taken place yet.")
    noted_by = (side,) if outcome == "held" else ()
    changes = {"state": outcome, "changed_at": moment.now, "noted_by": noted_by}
    return _save(followup, meeting.model_copy(update=changes), moment)


def record_held(
    followup: PairingFollowup, side: Side, session_id: str, at: datetime, moment: Moment
) -> Decision | None:
    """Record a meeting that took place; the two may both do so, and one may do so twice.

    A meeting that this side has not noted yet, on the same local day or a few hours away, is the same one. So is one
    that this side noted with almost the same time. Otherwise a scheduled one within a day becomes the held one, but
    none that is still to come.
    """
    if followup.state == "ended" or followup.gone:
        raise CommandRejected("over", "This pairing is over.")
    if at > moment.now:
        raise CommandRejected("not_yet", "A meeting can be recorded only after it has taken place.")
    if at < (followup.proposed_at or followup.formed_at - SAME_MEETING_WINDOW):
        raise CommandRejected("too_early", "That was before this pairing was proposed.")
    same = _find_noted(followup, side, at)
    if same is not None:
        return _note(followup, same, side)
    nearby = [
        meeting
        for meeting in followup.sessions
        if meeting.state in ("scheduled", "missed")
        and meeting.starts_at <= moment.now
        and abs(meeting.starts_at - at) < SAME_MEETING_WINDOW
    ]
    if nearby:
        nearest = min(nearby, key=lambda meeting: abs(meeting.starts_at - at))
        changes = {"state": "held", "starts_at": at, "changed_at": moment.now, "noted_by": (side,)}
        return _save(followup, nearest.model_copy(update=changes), moment)
    _require_room(followup)
    meeting = Meeting(session_id=session_id, state="held", starts_at=at, changed_at=moment.now, noted_by=(side,))
    return _save(followup, meeting, moment)


def record_pulse(
    followup: PairingFollowup, side: Side, session_id: str, worth: int | None, *, met: bool, moment: Moment
) -> Decision | None:
    """Record whether they met (a public fact) and whether it was worth the time (a private answer)."""
    reported = report_outcome(followup, side, session_id, "held" if met else "missed", moment)
    after, events = reported or (followup, [])
    others = tuple(pulse for pulse in after.pulses if (pulse.session_id, pulse.side) != (session_id, side))
    own = Pulse(session_id=session_id, side=side, worth=worth if met else None)
    if reported is None and own in followup.pulses:
        return None
    return after.model_copy(update={"pulses": (*others, own)}), events


def record_idea(followup: PairingFollowup, side: Side, idea_id: str, text: str | None, now: datetime) -> Decision:
    """Record an idea from a meeting. Only the two see its text until the other side agrees."""
    if followup.gone:
        raise CommandRejected("over", "This pairing is over.")
    if len(followup.ideas) >= MAX_IDEAS:
        raise CommandRejected("too_many", "This pairing has the maximum number of ideas.")
    idea = Idea(idea_id=idea_id, by=side, text=text, at=now)
    return followup.model_copy(update={"ideas": (*followup.ideas, idea)}), []


def agree_to_idea(followup: PairingFollowup, side: Side, idea_id: str) -> Decision | None:
    """The other side agrees that others may read the text of the idea."""
    idea = next((idea for idea in followup.ideas if idea.idea_id == idea_id), None)
    if idea is None:
        raise NotFound("idea")
    if idea.by == side:
        raise CommandRejected("own_idea", "Your partner has to agree, not you.")
    if idea.agreed:
        return None
    agreed = idea.model_copy(update={"agreed": True})
    ideas = tuple(agreed if other is idea else other for other in followup.ideas)
    return followup.model_copy(update={"ideas": ideas}), []


def _save(followup: PairingFollowup, meeting: Meeting, moment: Moment) -> Decision:
    after = with_meeting(followup, meeting)
    return after, [_EVENTS[meeting.state](session=meeting.to_session(), **event_fields(after, moment))]


def _find_noted(followup: PairingFollowup, side: Side, at: datetime) -> Meeting | None:
    """The held meeting that this side means: the nearest one of the other side's, or the same click once more."""

    def distance(meeting: Meeting) -> timedelta:
        return abs(meeting.starts_at - at)

    held = sorted(followup.held_meetings(), key=distance)
    again = [meeting for meeting in held if distance(meeting) <= DOUBLE_CLICK_WINDOW]
    unnoted = [meeting for meeting in held if side not in meeting.noted_by and _may_be_same(followup, meeting, at)]
    return next(iter([*again, *unnoted]), None)


def _may_be_same(followup: PairingFollowup, meeting: Meeting, at: datetime) -> bool:
    """Two people remember the hour of one meeting differently, but hardly its day."""
    if abs(meeting.starts_at - at) <= SAME_NOTE_WINDOW:
        return True
    return any(local_day(meeting.starts_at, zone) == local_day(at, zone) for zone in followup.both_zones)


def _note(followup: PairingFollowup, meeting: Meeting, side: Side) -> Decision | None:
    """Record that this side noted the meeting too. No event: nothing new is known about it."""
    if side in meeting.noted_by:
        return None
    noted_by: tuple[Side, ...] = (*meeting.noted_by, side)
    return with_meeting(followup, meeting.model_copy(update={"noted_by": noted_by})), []


def _find_meeting(followup: PairingFollowup, session_id: str) -> Meeting:
    if followup.state == "ended" or followup.gone:
        raise CommandRejected("over", "This pairing is over.")
    for meeting in followup.sessions:
        if meeting.session_id == session_id:
            return meeting
    raise NotFound("meeting")


def _require_booking_right(followup: PairingFollowup, side: Side) -> None:
    if not followup.is_running:
        raise CommandRejected("not_running", "Meetings can be planned only while a pairing is running.")
    if followup.terms is not None and followup.terms.booked_by not in (side, "either"):
        raise CommandRejected("not_yours_to_book", "In this programme the other side plans the meetings.")


def _require_valid_date(starts_at: datetime, now: datetime) -> None:
    if starts_at <= now:
        raise CommandRejected("in_the_past", "A meeting needs a future date. If you have met already, record that.")
    if starts_at - now > MAX_LEAD_TIME:
        raise CommandRejected("too_far", "That is more than a year from now.")


def _require_room(followup: PairingFollowup) -> None:
    if len(followup.sessions) >= MAX_SESSIONS:
        raise CommandRejected("too_many", "This pairing has the maximum number of meetings.")
