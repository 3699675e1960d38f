"""Check-ins: who is asked when, and what they answered.

One check-in of a side is open at a time: from the morning it is due until the next one is, or for thirty days. Days on
hold are not counted. The last one comes with the end, when the two have met at all.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from contracts.envelope import OutgoingEvent
from contracts.errors import CommandRejected, NotFound
from contracts.feedback import CheckinCompleted, CheckinDue
from contracts.profiles import Side
from services.feedback.domain.anonymous_statistics import CHANGE_ITEMS, change_cell_name, milestone_rank
from services.feedback.domain.calendar import morning_of
from services.feedback.domain.followup import SIDES, AnswerSet, Checkin, Decision, PairingFollowup, event_fields
from services.feedback.domain.questions import Questions

OPEN_FOR = timedelta(days=30)
END_MILESTONE = "end"


class PlannedCheckin(NamedTuple):
    """A check-in that is still to come."""

    due_at: datetime
    milestone: str
    side: Side


def upcoming_checkins(course: PairingFollowup) -> list[PlannedCheckin]:
    """What is still to be asked, the next one first; only of a running pairing are the days known."""
    if course.terms is None or not course.is_running:
        return []
    found = []
    for side in SIDES:
        asked = [milestone_rank(one.milestone) for one in course.checkins if one.side == side]
        last = max(asked, default=-1)
        found += [
            PlannedCheckin(_due(course, side, day), f"day_{day}", side)
            for day in course.terms.checkin_days
            if day > last
        ]
    return sorted(found)


def ask_due_checkins(course: PairingFollowup, now: datetime, recorded_at: datetime) -> Decision:
    """Ask each side what is due. Where several came due at once, only the latest: nobody is asked about long ago."""
    said: list[OutgoingEvent] = []
    for side in SIDES:
        due = [one for one in upcoming_checkins(course) if one.side == side and one.due_at <= now]
        if due:
            course, event = _asked(course, due[-1], now, recorded_at)
            said.append(event)
    return course, said


def ask_final_checkins(course: PairingFollowup, now: datetime, recorded_at: datetime) -> Decision:
    """The last check-in of each side, once; not where the two have never met."""
    said: list[OutgoingEvent] = []
    if not course.held_meetings() or any(one.milestone == END_MILESTONE for one in course.checkins):
        return course, said
    for side in SIDES:
        course, event = _asked(course, PlannedCheckin(course.ended_at or now, END_MILESTONE, side), now, recorded_at)
        said.append(event)
    return course, said


def record_answers(
    course: PairingFollowup,
    side: Side,
    milestone: str,
    answers: Mapping[str, int | None],
    questions: Questions,
    now: datetime,
    recorded_at: datetime,
    *,
    call_me: bool = False,
) -> Decision | None:
    """Keep one side's answers, for nobody but them. The first time it is said that they answered; what, never."""
    checkin = find_checkin(course, side, milestone)
    if not is_open(course, checkin, now):
        raise CommandRejected("closed", "This check-in is closed; the next one will come.")
    given = AnswerSet(version=questions.version, answers=questions.validate_answers(milestone, answers), at=now)
    before = course.answers.get(checkin.checkin_id)
    calls = {other: at for other, at in course.calls.items() if other != side or call_me}
    if call_me:
        calls.setdefault(side, now)
    if before is not None and before.answers == given.answers and calls == course.calls:
        return None
    after = course.model_copy(update={"answers": {**course.answers, checkin.checkin_id: given}, "calls": calls})
    if checkin.completed_at is not None:
        return after, []
    done = checkin.model_copy(update={"completed_at": now})
    after = after.model_copy(
        update={
            "checkins": tuple(done if one is checkin else one for one in after.checkins),
            "to_count": (*after.to_count, *_to_count(after, done)),
        }
    )
    return after, [CheckinCompleted(**_event(after, done, now, recorded_at))]


def find_checkin(course: PairingFollowup, side: Side, milestone: str) -> Checkin:
    """Raises ``NotFound``."""
    for one in course.checkins:
        if (one.side, one.milestone) == (side, milestone):
            return one
    raise NotFound("check-in")


def is_open(course: PairingFollowup, checkin: Checkin, now: datetime) -> bool:
    """Whether it may still be answered, or its answers changed."""
    if course.gone or course.answers_deleted_at is not None:
        return False
    last = [one for one in course.checkins if one.side == checkin.side][-1]
    return checkin.checkin_id == last.checkin_id and now <= checkin.due_at + OPEN_FOR


def answer_change(course: PairingFollowup, questions: Questions, item: str, milestone: str, side: Side) -> int | None:
    """By how much one side's answer to ``item`` differs from their first one, more being better; None: not known."""
    since = _baseline(course, questions, item)
    ids = {one.milestone: one.checkin_id for one in course.checkins if one.side == side}
    coded = []
    for name in (since, milestone):
        given = course.answers.get(ids.get(name or "", ""))
        coded.append(questions.by_id[item].coded_answer(given.answers.get(item)) if given is not None else None)
    first, last = coded
    return None if first is None or last is None else last - first


def latest_answer(course: PairingFollowup, side: Side, item: str) -> int | None:
    """One side's latest answer to ``item``."""
    for checkin in reversed(course.checkins):
        given = course.answers.get(checkin.checkin_id)
        if checkin.side == side and given is not None and given.answers.get(item) is not None:
            return given.answers[item]
    return None


def _due(course: PairingFollowup, side: Side, day: int) -> datetime:
    if day == 0:
        return course.formed_at
    return morning_of(course.formed_at, day, course.zones.get(side, "UTC"), course.pause_spans)


def _asked(
    course: PairingFollowup, planned: PlannedCheckin, now: datetime, recorded_at: datetime
) -> tuple[PairingFollowup, OutgoingEvent]:
    made = Checkin(
        checkin_id=f"{course.pairing_id}.{planned.milestone}.{planned.side}",
        milestone=planned.milestone,
        side=planned.side,
        due_at=planned.due_at,
    )
    after = course.model_copy(
        update={
            "checkins": (*course.checkins, made),
            "asked_for": (*course.asked_for, f"{made.milestone}:{made.side}"),
        }
    )
    return after, CheckinDue(**_event(after, made, now, recorded_at))


def _event(course: PairingFollowup, checkin: Checkin, now: datetime, recorded_at: datetime) -> dict[str, Any]:
    return {
        **event_fields(course, now, recorded_at),
        "checkin_id": checkin.checkin_id,
        "side": checkin.side,
        "milestone": checkin.milestone,
        "due_at": checkin.due_at,
    }


def _to_count(course: PairingFollowup, done: Checkin) -> list[str]:
    """The figures that this may add to: those whose first answer was given at an earlier check-in."""
    completed = {one.milestone for one in course.checkins if one.side == done.side and one.completed_at is not None}
    found = []
    for item, baseline in CHANGE_ITEMS.items():
        since = _since(course, baseline=baseline)
        if since in completed and since != done.milestone:
            found.append(change_cell_name(item, done.milestone, done.side))
    return found


def _baseline(course: PairingFollowup, questions: Questions, item: str) -> str | None:
    return _since(course, baseline=questions.by_id[item].baseline)


def _since(course: PairingFollowup, *, baseline: bool) -> str | None:
    """The milestone of the first answer: day 0, or for what is about the partner the first one after it."""
    days = course.terms.checkin_days if course.terms is not None else ()
    first = [day for day in days if (day == 0) == baseline]
    return f"day_{first[0]}" if first else None
