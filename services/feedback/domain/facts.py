"""What can be said of a pairing without anybody's answers, and when it changes by itself.

The rules that predict failure: no first meeting booked or held in time, nothing scheduled for two weeks after the last
one, two cancellations or two missed meetings in a row. They hold from the first day. The warm-up is for answers (see
``advice``): while it lasts a pairing that has no such facts is *warming up*, and after it *steady*.
"""

from datetime import datetime
from typing import Literal

from services.feedback.domain.calendar import day_ends, working_day_ends
from services.feedback.domain.followup import Fact, Meeting, PairingFollowup

QUIET_DAYS = 14  # without a date after the last meeting
IN_A_ROW = 2
ACTIVE_DAYS = 45  # "active" is a pairing that met so lately
EARLY_DAYS = 30  # the share that met by then is a figure of the report

CareState = Literal["warming_up", "steady", "would_like_help", "paused", "over"]


def current_facts(course: PairingFollowup, now: datetime) -> tuple[Fact, ...]:
    """The facts for which somebody should offer help now; none while it is on hold or over."""
    if not course.is_running or course.terms is None:
        return ()
    found: list[Fact] = []
    held = course.held_meetings()
    if not held:
        booked = [one for one in course.sessions if one.state in ("scheduled", "missed")]
        if not booked and now >= booking_deadline(course):
            found.append("no_first_meeting_booked")
        if now >= first_meeting_deadline(course):
            found.append("no_first_meeting_held")
    quiet = inactivity_deadline(course)
    if quiet is not None and now >= quiet:
        found.append("nothing_scheduled_for_two_weeks")
    last = [one.state for one in _concluded(course)[-IN_A_ROW:]]
    if last == ["cancelled"] * IN_A_ROW:
        found.append("two_cancellations_in_a_row")
    if last == ["missed"] * IN_A_ROW:
        found.append("two_missed_in_a_row")
    return tuple(found)


def care_state(course: PairingFollowup, now: datetime) -> CareState:
    if course.state == "ended" or course.gone:
        return "over"
    if course.state == "paused":
        return "paused"
    if current_facts(course, now):
        return "would_like_help"
    return "warming_up" if is_warming_up(course, now) else "steady"


def is_warming_up(course: PairingFollowup, now: datetime) -> bool:
    """Whether the two are still getting used to each other; days on hold do not count."""
    if course.terms is None:
        return True
    return now < day_ends(course.formed_at, course.terms.warm_up_days, course.both_zones, course.pause_spans)


def is_active(course: PairingFollowup, now: datetime) -> bool:
    """Has met lately. Pairings on hold are neither active nor inactive."""
    held = course.held_meetings()
    return course.is_running and bool(held) and (now - held[-1].starts_at).days < ACTIVE_DAYS


def booking_deadline(course: PairingFollowup) -> datetime:
    assert course.terms is not None, "only looked after with its terms"
    return working_day_ends(course.formed_at, course.terms.first_booked_by, course.both_zones, course.pause_spans)


def first_meeting_deadline(course: PairingFollowup) -> datetime:
    assert course.terms is not None, "only looked after with its terms"
    return working_day_ends(course.formed_at, course.terms.first_held_by, course.both_zones, course.pause_spans)


def early_period_end(course: PairingFollowup) -> datetime:
    """When the first thirty days are over."""
    return day_ends(course.formed_at, EARLY_DAYS, course.both_zones, course.pause_spans)


def inactivity_deadline(course: PairingFollowup) -> datetime | None:
    """When two weeks will have passed since the last date there is, also one to come; None: not counted.

    It begins with the first date and ends when as many meetings took place as were planned.
    """
    terms = course.terms
    dates = [one.starts_at for one in course.sessions if one.state != "cancelled"]
    if terms is None or not dates or len(course.held_meetings()) >= terms.planned:
        return None
    return day_ends(max(dates), QUIET_DAYS, course.both_zones, course.pause_spans)


def mid_point(course: PairingFollowup) -> datetime | None:
    """Half way to the planned end, which moves with pauses and renewals."""
    if course.planned_end is None:
        return None
    half = course.formed_at + (course.planned_end - course.formed_at) / 2
    return half.replace(microsecond=0)


def _concluded(course: PairingFollowup) -> list[Meeting]:
    """Meetings of which is known what became of them, in the order in which they should have taken place."""
    return sorted((one for one in course.sessions if one.state != "scheduled"), key=lambda one: one.starts_at)
