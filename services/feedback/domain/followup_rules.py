"""What follows from a change or from the clock: ask, notice, mark, record, delete; and when to look again.

``settled`` is applied after every decision and whenever ``due`` has passed. What it does never depends on what somebody
answered (but for the bands of ``outcome.recorded``), so neither events nor their moments give an answer away.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from contracts.envelope import OutgoingEvent
from contracts.errors import CommandRejected
from contracts.feedback import Band, ContactNeeded, OutcomeRecorded, PartnerChangeRequested
from contracts.profiles import Side
from contracts.programmes import ProgrammeChanged
from services.feedback.domain.anonymous_statistics import FIRST_MEETING, MET_EARLY
from services.feedback.domain.calendar import add_months
from services.feedback.domain.checkins import (
    OPEN_FOR,
    ask_due_checkins,
    ask_final_checkins,
    latest_answer,
    upcoming_checkins,
)
from services.feedback.domain.facts import (
    booking_deadline,
    current_facts,
    early_period_end,
    first_meeting_deadline,
    inactivity_deadline,
    mid_point,
)
from services.feedback.domain.followup import ERASED, Decision, PairingFollowup, Terms, event_fields, remove_member

LEARNED, ENJOYED = "5", "7"  # the items from which the outcome's bands are made
FEW, MANY = 1 / 3, 3 / 4  # of the meetings that were planned


def follow_up(decision: Decision | None, now: datetime, recorded_at: datetime) -> Decision | None:
    """The decision with all that follows from it now."""
    if decision is None:
        return None
    course, said = decision
    course, more = _followed_up(course, now, recorded_at)
    waits = course.terms is None or bool(course.to_count)
    lease = (course.lease or recorded_at) if waits and not (course.gone and not course.to_count) else None
    return course.model_copy(update={"due": _next(course, now), "lease": lease}), [*said, *more]


def set_terms(course: PairingFollowup | None, terms: Terms) -> Decision | None:
    """Its programme is known: care begins."""
    if course is None or course.terms is not None:
        return None
    return course.model_copy(update={"terms": terms, "lease": None}), []


def with_terms(decision: Decision | None, programme: ProgrammeChanged | None) -> Decision | None:
    """With the programme's terms, where both the course and the programme are known by now."""
    if decision is None or programme is None or decision[0].terms is not None:
        return decision
    return decision[0].model_copy(update={"terms": Terms.of(programme.settings)}), decision[1]


def update_zones(course: PairingFollowup | None, zones: Mapping[Side, str]) -> Decision | None:
    """Where the two live now: their days may begin at another time than when they began."""
    if course is None:
        return None
    if course.gone or course.state == "ended":
        return course, []
    return course.model_copy(update={"zones": {**course.zones, **zones}}), []


def remove_member_and_follow_up(
    course: PairingFollowup | None, member_id: str, now: datetime, recorded_at: datetime
) -> Decision | None:
    return follow_up(remove_member(course, member_id, now), now, recorded_at)


def request_partner_change(course: PairingFollowup, now: datetime, recorded_at: datetime) -> Decision | None:
    """Somebody would like to go on with somebody else. Which of the two is not said, and not even kept."""
    if course.state == "ended" or course.gone:
        raise CommandRejected("over", "This pairing is over.")
    if course.partner_change_at is not None:
        return None
    after = course.model_copy(update={"partner_change_at": now})
    return after, [PartnerChangeRequested(**event_fields(after, now, recorded_at))]


def mark_called(course: PairingFollowup | None, side: Side) -> Decision | None:
    """The confidential contact has called."""
    if course is None or side not in course.calls:
        return None
    return course.model_copy(update={"calls": {other: at for other, at in course.calls.items() if other != side}}), []


def _followed_up(course: PairingFollowup, now: datetime, recorded_at: datetime) -> Decision:
    if course.gone or course.terms is None:
        return _cleared(course, now), []
    if course.state == "ended":
        return _wound_up(course, now, recorded_at)
    course = _marked(course, now)
    if not course.is_running:
        return course, []
    course, said = ask_due_checkins(course, now, recorded_at)
    found = current_facts(course, now)
    if set(found) - set(course.told):
        said = [*said, ContactNeeded(facts=found, **event_fields(course, now, recorded_at))]
    changes: dict[str, object] = {"told": found}
    half = mid_point(course)
    if half is not None and half <= now and course.mid_point_at is None:
        changes["mid_point_at"] = half
    return course.model_copy(update=changes), said


def _marked(course: PairingFollowup, now: datetime) -> PairingFollowup:
    """What is a figure once: the time to the first meeting, and whether it came within thirty days (or before the end).

    Who never met counts there too, so that the figures do not tell only of those who did.
    """
    held = course.held_meetings()
    if held and not course.first_meeting_counted:
        course = course.model_copy(
            update={"first_meeting_counted": True, "to_count": (*course.to_count, FIRST_MEETING)}
        )
    early = early_period_end(course)
    if course.met_by_day_30 is not None or (course.state != "ended" and (course.state == "paused" or now < early)):
        return course
    met = any(one.starts_at < early for one in held)
    return course.model_copy(update={"met_by_day_30": met, "to_count": (*course.to_count, MET_EARLY)})


def _wound_up(course: PairingFollowup, now: datetime, recorded_at: datetime) -> Decision:
    """After the end: the last questions, the outcome once they are answered or closed, and what is to be deleted."""
    course = _marked(course, now)
    course, asked = ask_final_checkins(course, now, recorded_at)
    said: list[OutgoingEvent] = list(asked)
    if course.outcome_at is None and _outcome_due(course, now):
        said.append(_outcome(course, now, recorded_at))
        course = course.model_copy(update={"outcome_at": now})
    return _cleared(course, now), said


def _outcome_due(course: PairingFollowup, now: datetime) -> bool:
    last = [one for one in course.checkins if one.milestone == "end"]
    if all(one.completed_at is not None for one in last):
        return True
    return now >= _closes(course) or now >= _raw_until(course)


def _outcome(course: PairingFollowup, now: datetime, recorded_at: datetime) -> OutcomeRecorded:
    return OutcomeRecorded(
        pairing_id=course.pairing_id,
        programme_id=course.programme_id,
        happened_at=now,
        recorded_at=recorded_at,
        meetings=_meetings(course),
        senior_learned=_band(latest_answer(course, "senior", LEARNED)),
        junior_learned=_band(latest_answer(course, "junior", LEARNED)),
        senior_enjoyed=_band(latest_answer(course, "senior", ENJOYED)),
        junior_enjoyed=_band(latest_answer(course, "junior", ENJOYED)),
    )


def _meetings(course: PairingFollowup) -> Band:
    assert course.terms is not None, "only looked after with its terms"
    share = len(course.held_meetings()) / course.terms.planned
    return "high" if share >= MANY else "middle" if share >= FEW else "low"


def _band(answer: int | None) -> Band:
    return "unknown" if answer is None else "low" if answer <= 2 else "middle" if answer == 3 else "high"


def _cleared(course: PairingFollowup, now: datetime) -> PairingFollowup:
    """Raw answers go first, and in the end everything that tells of somebody."""
    ended, terms = course.ended_at, course.terms
    if ended is None or terms is None:
        return course
    if course.answers_deleted_at is None and now >= _raw_until(course):
        course = course.model_copy(update={"answers": {}, "pulses": (), "calls": {}, "answers_deleted_at": now})
    if now < add_months(ended, terms.months) or set(course.members.values()) == {ERASED}:
        return course
    nobody = dict.fromkeys(course.members, ERASED)
    empty: dict[str, object] = {"zones": {}, "sessions": (), "checkins": (), "ideas": (), "to_count": ()}
    return course.model_copy(update={**empty, "members": nobody, "gone": True})


def _closes(course: PairingFollowup) -> datetime:
    """When the last check-in closes."""
    return (course.ended_at or course.formed_at) + OPEN_FOR + timedelta(milliseconds=1)


def _raw_until(course: PairingFollowup) -> datetime:
    assert course.terms is not None, "only looked after with its terms"
    return add_months(course.ended_at or course.formed_at, course.terms.raw_answers_months)


def _next(course: PairingFollowup, now: datetime) -> datetime | None:
    """When the clock alone changes something next. On hold nothing is due: the days are known when it goes on."""
    return min((at for at in _dates(course) if at is not None and at > now), default=None)


def _dates(course: PairingFollowup) -> Iterable[datetime | None]:
    if course.terms is None:
        return
    if course.state == "ended":
        yield from _last_dates(course)
    elif course.is_running:
        coming: Sequence[datetime] = [one.due_at for one in upcoming_checkins(course)]
        yield from coming
        yield mid_point(course) if course.mid_point_at is None else None
        yield early_period_end(course) if course.met_by_day_30 is None else None
        yield inactivity_deadline(course)
        if not course.held_meetings():
            yield booking_deadline(course)
            yield first_meeting_deadline(course)


def _last_dates(course: PairingFollowup) -> Iterable[datetime | None]:
    assert course.terms is not None, "only looked after with its terms"
    if course.outcome_at is None and not course.gone:
        yield _closes(course)
    if course.answers_deleted_at is None:
        yield _raw_until(course)
    if course.ended_at is not None:
        yield add_months(course.ended_at, course.terms.months)
