"""Facts about a pairing that need no answers, and the times at which they change by themselves.

The rules that predict failure: no first meeting booked or held in time, nothing scheduled for two weeks after the last
meeting, two cancellations or two missed meetings in a row. They apply from the first day. The warm-up concerns answers
(see ``advice``): while it lasts, a pairing without such facts is *warming up*, and after it *steady*.
"""

from datetime import datetime
from typing import Literal

from services.feedback.domain.calendar import day_ends, working_day_ends
from services.feedback.domain.followup import Fact, Meeting, PairingFollowup, Terms

QUIET_DAYS = 14  # without a scheduled meeting after the last one
FAILURES_IN_A_ROW = 2
ACTIVE_DAYS = 45  # an active pairing has met within so many days
EARLY_DAYS = 30  # the report shows the share of pairings that met within so many days

CareState = Literal["warming_up", "steady", "would_like_help", "paused", "over"]


def current_facts(followup: PairingFollowup, now: datetime) -> tuple[Fact, ...]:
    """The facts for which somebody should offer help now; none while the pairing is on hold or over."""
    if not followup.is_running or followup.terms is None:
        return ()
    facts: list[Fact] = []
    if not followup.held_meetings():
        is_booked = any(meeting.state in ("scheduled", "missed") for meeting in followup.sessions)
        if not is_booked and now >= booking_deadline(followup):
            facts.append("no_first_meeting_booked")
        if now >= first_meeting_deadline(followup):
            facts.append("no_first_meeting_held")
    deadline = inactivity_deadline(followup)
    if deadline is not None and now >= deadline:
        facts.append("nothing_scheduled_for_two_weeks")
    latest_states = [meeting.state for meeting in _concluded_meetings(followup)[-FAILURES_IN_A_ROW:]]
    if latest_states == ["cancelled"] * FAILURES_IN_A_ROW:
        facts.append("two_cancellations_in_a_row")
    if latest_states == ["missed"] * FAILURES_IN_A_ROW:
        facts.append("two_missed_in_a_row")
    return tuple(facts)


def care_state(followup: PairingFollowup, now: datetime) -> CareState:
    if followup.state == "ended" or followup.gone:
        return "over"
    if followup.state == "paused":
        return "paused"
    if current_facts(followup, now):
        return "would_like_help"
    return "warming_up" if is_warming_up(followup, now) else "steady"


def is_warming_up(followup: PairingFollowup, now: datetime) -> bool:
    """Whether the two are still getting used to each other; days on hold do not count."""
    if followup.terms is None:
        return True
    days = followup.terms.warm_up_days
    return now < day_ends(followup.formed_at, days, followup.both_zones, followup.pause_spans)


def is_active(followup: PairingFollowup, now: datetime) -> bool:
    """Whether the two have met lately. A pairing on hold is neither active nor inactive."""
    held = followup.held_meetings()
    return followup.is_running and bool(held) and (now - held[-1].starts_at).days < ACTIVE_DAYS


def booking_deadline(followup: PairingFollowup) -> datetime:
    """Until when the first meeting should have a date."""
    return _working_day_ends(followup, _terms(followup).first_booked_by)


def first_meeting_deadline(followup: PairingFollowup) -> datetime:
    """Until when the first meeting should have taken place."""
    return _working_day_ends(followup, first_meeting_days(followup))


def first_meeting_days(followup: PairingFollowup) -> int:
    """The working day by whose end the first meeting should have taken place."""
    return _terms(followup).first_held_by


def early_period_end(followup: PairingFollowup) -> datetime:
    """The end of the first thirty days."""
    return day_ends(followup.formed_at, EARLY_DAYS, followup.both_zones, followup.pause_spans)


def inactivity_deadline(followup: PairingFollowup) -> datetime | None:
    """When two weeks will have passed since the latest date of a meeting, also of one to come.

    None before the first date, and once as many meetings took place as were planned.
    """
    terms = followup.terms
    dates = [meeting.starts_at for meeting in followup.sessions if meeting.state != "cancelled"]
    if terms is None or not dates or len(followup.held_meetings()) >= terms.planned:
        return None
    return day_ends(max(dates), QUIET_DAYS, followup.both_zones, followup.pause_spans)


def mid_point(followup: PairingFollowup) -> datetime | None:
    """Half way to the planned end, which moves with pauses and renewals."""
    if followup.planned_end is None:
        return None
    half = followup.formed_at + (followup.planned_end - followup.formed_at) / 2
    return half.replace(microsecond=0)


def _working_day_ends(followup: PairingFollowup, days: int) -> datetime:
    working = _terms(followup).working_days
    return working_day_ends(followup.formed_at, days, followup.both_zones, followup.pause_spans, working)


def _terms(followup: PairingFollowup) -> Terms:
    assert followup.terms is not None, "deadlines are computed with terms only"
    return followup.terms


def _concluded_meetings(followup: PairingFollowup) -> list[Meeting]:
    """Meetings whose outcome is known, in the order of their dates."""
    concluded = (meeting for meeting in followup.sessions if meeting.state != "scheduled")
    return sorted(concluded, key=lambda meeting: meeting.starts_at)
