"""Check-ins: who is asked when, and what they answered.

Each side has at most one open check-in. It is open from the morning on which it is due until the next one is due, and
for thirty days at most. Days on hold do not count. The last check-in comes with the end if the two have ever met.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from contracts.days import MONDAY_TO_FRIDAY
from contracts.envelope import OutgoingEvent
from contracts.errors import CommandRejected, NotFound
from contracts.feedback import CheckinCompleted, CheckinDue
from contracts.moment import Moment
from contracts.profiles import Side
from services.feedback.domain.anonymous_statistics import CHANGE_ITEMS, change_cell_name, milestone_rank
from services.feedback.domain.calendar import morning_of
from services.feedback.domain.calls import with_call
from services.feedback.domain.care_facts import first_meeting_days, first_meeting_deadline
from services.feedback.domain.followup import SIDES, AnswerSet, Checkin, Decision, PairingFollowup, event_fields
from services.feedback.domain.questions import Questions

DAYS_A_WEEK, WORKING_DAYS_A_WEEK = 7, 5
OPEN_FOR = timedelta(days=30)
ONE_MOMENT = timedelta(milliseconds=1)  # a deadline is the midnight that ends a day; just before it is still that day
END_MILESTONE = "end"


class PlannedCheckin(NamedTuple):
    """A check-in that is still to come. The order of the fields sorts by time."""

    due_at: datetime
    milestone: str
    side: Side


def upcoming_checkins(followup: PairingFollowup) -> list[PlannedCheckin]:
    """The check-ins still to come, the next one first. Empty unless the pairing is running: else no day is certain."""
    if followup.terms is None or not followup.is_running:
        return []
    planned = []
    for side in SIDES:
        asked_days = [milestone_rank(checkin.milestone) for checkin in followup.checkins if checkin.side == side]
        last_day = max(asked_days, default=-1)
        planned += [
            PlannedCheckin(_due_at(followup, side, day), f"day_{day}", side)
            for day in followup.terms.checkin_days
            if day > last_day
        ]
    return sorted(planned)


def ask_due_checkins(followup: PairingFollowup, moment: Moment) -> Decision:
    """Ask each side what is due. Of several that are due at once only the latest is asked, to avoid old questions."""
    events: list[OutgoingEvent] = []
    for side in SIDES:
        due = [
            planned for planned in upcoming_checkins(followup) if planned.side == side and planned.due_at <= moment.now
        ]
        if due:
            latest = max(due, key=lambda planned: (planned.due_at, milestone_rank(planned.milestone)))
            followup, event = _ask(followup, latest, moment)
            events.append(event)
    return followup, events


def ask_final_checkins(followup: PairingFollowup, moment: Moment) -> Decision:
    """Ask each side for the last time, once. Nobody is asked when the two have never met."""
    events: list[OutgoingEvent] = []
    if not followup.held_meetings() or any(checkin.milestone == END_MILESTONE for checkin in followup.checkins):
        return followup, events
    for side in SIDES:
        planned = PlannedCheckin(followup.ended_at or moment.now, END_MILESTONE, side)
        followup, event = _ask(followup, planned, moment)
        events.append(event)
    return followup, events


def record_answers(
    followup: PairingFollowup,
    side: Side,
    milestone: str,
    answers: Mapping[str, int | None],
    questions: Questions,
    moment: Moment,
    *,
    call_me: bool = False,
    contact: str = "",
) -> Decision | None:
    """Store one side's answers, which only that side can read. ``contact``: whom a new call is for.

    The first time, an event says that this side has answered. No event ever contains an answer.
    """
    checkin = find_checkin(followup, side, milestone)
    if not is_open(followup, checkin, moment.now):
        raise CommandRejected("closed", "This check-in is closed. You can answer the next one.")
    valid = questions.validate_answers(milestone, answers)
    answer_set = AnswerSet(version=questions.version, answers=valid, at=moment.now)
    before = followup.answers.get(checkin.checkin_id)
    after = with_call(followup, side, contact, moment.now, call_me=call_me)
    if before is not None and before.answers == answer_set.answers and after.calls == followup.calls:
        return None
    after = after.model_copy(update={"answers": {**followup.answers, checkin.checkin_id: answer_set}})
    if checkin.completed_at is not None:
        return after, []
    completed = checkin.model_copy(update={"completed_at": moment.now})
    after = after.model_copy(
        update={
            "checkins": tuple(completed if other is checkin else other for other in after.checkins),
            "to_count": (*after.to_count, *_cells_to_count(after, completed)),
        }
    )
    return after, [CheckinCompleted(**_checkin_fields(after, completed, moment))]


def find_checkin(followup: PairingFollowup, side: Side, milestone: str) -> Checkin:
    """Raises ``NotFound``."""
    for checkin in followup.checkins:
        if (checkin.side, checkin.milestone) == (side, milestone):
            return checkin
    raise NotFound("check-in")


def is_open(followup: PairingFollowup, checkin: Checkin, now: datetime) -> bool:
    """Whether it may still be answered, or its answers changed."""
    if followup.gone or followup.answers_deleted_at is not None:
        return False
    latest = [other for other in followup.checkins if other.side == checkin.side][-1]
    return checkin.checkin_id == latest.checkin_id and now <= checkin.due_at + OPEN_FOR


def answer_change(followup: PairingFollowup, questions: Questions, item: str, milestone: str, side: Side) -> int | None:
    """One side's coded answer to ``item`` at the milestone minus their first one. None when one of them is missing."""
    baseline = _first_milestone(followup, is_baseline=questions.by_id[item].baseline)
    ids = {checkin.milestone: checkin.checkin_id for checkin in followup.checkins if checkin.side == side}
    coded = []
    for name in (baseline, milestone):
        answer_set = followup.answers.get(ids.get(name or "", ""))
        answer = answer_set.answers.get(item) if answer_set is not None else None
        coded.append(questions.by_id[item].coded_answer(answer))
    first, last = coded
    return None if first is None or last is None else last - first


def latest_answer(followup: PairingFollowup, side: Side, item: str) -> int | None:
    """One side's latest answer to ``item``, not coded."""
    for checkin in reversed(followup.checkins):
        answer_set = followup.answers.get(checkin.checkin_id)
        if checkin.side == side and answer_set is not None and answer_set.answers.get(item) is not None:
            return answer_set.answers[item]
    return None


def _due_at(followup: PairingFollowup, side: Side, day: int) -> datetime:
    if day == 0:
        return followup.formed_at
    zone, pauses = followup.zones.get(side, "UTC"), followup.pause_spans
    working = followup.terms.working_days if followup.terms is not None else MONDAY_TO_FRIDAY
    regular = morning_of(followup.formed_at, day, zone, pauses, working)
    if day * WORKING_DAYS_A_WEEK >= first_meeting_days(followup) * DAYS_A_WEEK:
        return regular
    return max(regular, morning_of(_first_chance_to_meet(followup), 1, zone, pauses, working))


def _first_chance_to_meet(followup: PairingFollowup) -> datetime:
    """When the two met first or are to meet first, at the latest when the programme expects it.

    An early check-in about the partner waits for it: before, the answers could only be guessed.
    """
    deadline = first_meeting_deadline(followup) - ONE_MOMENT
    dates = [meeting.starts_at for meeting in followup.sessions if meeting.state in ("held", "scheduled")]
    return min([deadline, *dates])


def _ask(followup: PairingFollowup, planned: PlannedCheckin, moment: Moment) -> tuple[PairingFollowup, OutgoingEvent]:
    checkin = Checkin(
        checkin_id=f"{followup.pairing_id}.{planned.milestone}.{planned.side}",
        milestone=planned.milestone,
        side=planned.side,
        due_at=planned.due_at,
    )
    after = followup.model_copy(
        update={
            "checkins": (*followup.checkins, checkin),
            "asked_for": (*followup.asked_for, f"{checkin.milestone}:{checkin.side}"),
        }
    )
    return after, CheckinDue(**_checkin_fields(after, checkin, moment))


def _checkin_fields(followup: PairingFollowup, checkin: Checkin, moment: Moment) -> dict[str, Any]:
    return {
        **event_fields(followup, moment),
        "checkin_id": checkin.checkin_id,
        "side": checkin.side,
        "milestone": checkin.milestone,
        "due_at": checkin.due_at,
    }


def _cells_to_count(followup: PairingFollowup, completed: Checkin) -> list[str]:
    """The cells that this check-in may add to: those whose first answer was given at an earlier check-in."""
    milestones = {
        checkin.milestone
        for checkin in followup.checkins
        if checkin.side == completed.side and checkin.completed_at is not None
    }
    cells = []
    for item, is_baseline in CHANGE_ITEMS.items():
        first = _first_milestone(followup, is_baseline=is_baseline)
        if first in milestones and first != completed.milestone:
            cells.append(change_cell_name(item, completed.milestone, completed.side))
    return cells


def _first_milestone(followup: PairingFollowup, *, is_baseline: bool) -> str | None:
    """The milestone of the first answer: day 0, or the first one after it for items about the partner."""
    days = followup.terms.checkin_days if followup.terms is not None else ()
    candidates = [day for day in days if (day == 0) == is_baseline]
    return f"day_{candidates[0]}" if candidates else None
