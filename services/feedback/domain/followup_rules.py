"""The effects of a change or of the clock: ask, notice, measure, record, delete; and when to check again.

``follow_up`` is applied after every decision and whenever ``due`` has passed. What it does never depends on anybody's
answers (except for the bands of ``outcome.recorded``), so neither events nor their times reveal an answer.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from contracts.errors import CommandRejected
from contracts.feedback import Band, ContactNeeded, OutcomeRecorded, PartnerChangeRequested
from contracts.moment import Moment
from contracts.profiles import Side
from contracts.programmes import ProgrammeChanged
from services.feedback.domain.anonymous_statistics import FIRST_MEETING, MET_EARLY
from services.feedback.domain.calendar import add_months
from services.feedback.domain.care_facts import (
    booking_deadline,
    current_facts,
    early_period_end,
    first_meeting_deadline,
    inactivity_deadline,
    mid_point,
)
from services.feedback.domain.checkins import (
    END_MILESTONE,
    OPEN_FOR,
    ask_due_checkins,
    ask_final_checkins,
    latest_answer,
    upcoming_checkins,
)
from services.feedback.domain.followup import ERASED, Decision, PairingFollowup, Terms, event_fields, remove_member

LEARNED_ITEM, ENJOYED_ITEM = "5", "7"  # the items behind the bands of the outcome
MIDDLE_SHARE, HIGH_SHARE = 1 / 3, 3 / 4  # of the planned meetings: the lower bounds of two bands
MIDDLE_RATING = 3
AFTER_CLOSING = timedelta(milliseconds=1)  # a check-in is still open at the last moment of ``OPEN_FOR``


def follow_up(decision: Decision | None, moment: Moment) -> Decision | None:
    """The decision with everything that follows from it now."""
    if decision is None:
        return None
    followup, events = decision
    followup, more_events = _consequences(followup, moment)
    has_work = followup.terms is None or bool(followup.to_count)
    is_retired = followup.gone and not followup.to_count
    lease = (followup.lease or moment.recorded_at) if has_work and not is_retired else None
    changes = {"due": _next_due(followup, moment.now), "lease": lease}
    return followup.model_copy(update=changes), [*events, *more_events]


def set_terms(followup: PairingFollowup | None, terms: Terms) -> Decision | None:
    """The programme has arrived, so the follow-up begins."""
    if followup is None or followup.terms is not None:
        return None
    return followup.model_copy(update={"terms": terms, "lease": None}), []


def with_terms(decision: Decision | None, programme: ProgrammeChanged | None) -> Decision | None:
    """The decision with the programme's terms, if the programme has arrived and the terms are not set yet."""
    if decision is None or programme is None or decision[0].terms is not None:
        return decision
    followup, events = decision
    return followup.model_copy(update={"terms": Terms.of(programme.settings)}), events


def update_zones(followup: PairingFollowup | None, zones: Mapping[Side, str]) -> Decision | None:
    """Use the members' current time zones: their days may begin at another time than before."""
    if followup is None:
        return None
    if followup.gone or followup.state == "ended":
        return followup, []
    return followup.model_copy(update={"zones": {**followup.zones, **zones}}), []


def remove_member_and_follow_up(followup: PairingFollowup | None, member_id: str, moment: Moment) -> Decision | None:
    return follow_up(remove_member(followup, member_id, moment.now), moment)


def request_partner_change(followup: PairingFollowup, moment: Moment) -> Decision | None:
    """A member would like another partner. Which of the two it was is neither published nor stored."""
    if followup.state == "ended" or followup.gone:
        raise CommandRejected("over", "This pairing is over.")
    if followup.partner_change_at is not None:
        return None
    after = followup.model_copy(update={"partner_change_at": moment.now})
    return after, [PartnerChangeRequested(**event_fields(after, moment))]


def _consequences(followup: PairingFollowup, moment: Moment) -> Decision:
    if followup.gone or followup.terms is None:
        return _delete_expired(followup, moment.now), []
    if followup.state == "ended":
        return _wind_up(followup, moment)
    followup = _measure_first_meeting(followup, moment.now)
    if not followup.is_running:
        return followup, []
    followup, asked_events = ask_due_checkins(followup, moment)
    events = list(asked_events)
    facts = current_facts(followup, moment.now)
    if set(facts) - set(followup.told):
        events.append(ContactNeeded(facts=facts, **event_fields(followup, moment)))
    changes: dict[str, object] = {"told": facts}
    half = mid_point(followup)
    if half is not None and half <= moment.now and followup.mid_point_at is None:
        changes["mid_point_at"] = half
    return followup.model_copy(update=changes), events


def _measure_first_meeting(followup: PairingFollowup, now: datetime) -> PairingFollowup:
    """Measure two statistics, once each: the time to the first meeting, and whether it came within thirty days.

    Pairings that never met count for the second one too. Otherwise the statistic would describe only those that met.
    It is measured after thirty days or at the end, and not while the pairing is on hold.
    """
    held = followup.held_meetings()
    if held and not followup.first_meeting_counted:
        to_count = (*followup.to_count, FIRST_MEETING)
        followup = followup.model_copy(update={"first_meeting_counted": True, "to_count": to_count})
    early_end = early_period_end(followup)
    is_too_early = followup.state != "ended" and (followup.state == "paused" or now < early_end)
    if followup.met_by_day_30 is not None or is_too_early:
        return followup
    has_met = any(meeting.starts_at < early_end for meeting in held)
    return followup.model_copy(update={"met_by_day_30": has_met, "to_count": (*followup.to_count, MET_EARLY)})


def _wind_up(followup: PairingFollowup, moment: Moment) -> Decision:
    """After the end: ask the last questions, record the outcome when they are answered or closed, delete old data."""
    followup = _measure_first_meeting(followup, moment.now)
    followup, asked_events = ask_final_checkins(followup, moment)
    events = list(asked_events)
    if followup.outcome_at is None and _is_outcome_due(followup, moment.now):
        events.append(_outcome(followup, moment))
        followup = followup.model_copy(update={"outcome_at": moment.now})
    return _delete_expired(followup, moment.now), events


def _is_outcome_due(followup: PairingFollowup, now: datetime) -> bool:
    final = [checkin for checkin in followup.checkins if checkin.milestone == END_MILESTONE]
    if all(checkin.completed_at is not None for checkin in final):
        return True
    return now >= _final_checkin_closes(followup) or now >= _answers_expire_at(followup, _terms(followup))


def _outcome(followup: PairingFollowup, moment: Moment) -> OutcomeRecorded:
    return OutcomeRecorded(
        pairing_id=followup.pairing_id,
        programme_id=followup.programme_id,
        happened_at=moment.now,
        recorded_at=moment.recorded_at,
        meetings=_meetings_band(followup),
        senior_learned=_answer_band(latest_answer(followup, "senior", LEARNED_ITEM)),
        junior_learned=_answer_band(latest_answer(followup, "junior", LEARNED_ITEM)),
        senior_enjoyed=_answer_band(latest_answer(followup, "senior", ENJOYED_ITEM)),
        junior_enjoyed=_answer_band(latest_answer(followup, "junior", ENJOYED_ITEM)),
    )


def _meetings_band(followup: PairingFollowup) -> Band:
    share = len(followup.held_meetings()) / _terms(followup).planned
    return "high" if share >= HIGH_SHARE else "middle" if share >= MIDDLE_SHARE else "low"


def _answer_band(answer: int | None) -> Band:
    if answer is None:
        return "unknown"
    return "low" if answer < MIDDLE_RATING else "middle" if answer == MIDDLE_RATING else "high"


def _delete_expired(followup: PairingFollowup, now: datetime) -> PairingFollowup:
    """Delete the raw answers first, and later everything that identifies somebody."""
    ended, terms = followup.ended_at, followup.terms
    if ended is None or terms is None:
        return followup
    if followup.answers_deleted_at is None and now >= _answers_expire_at(followup, terms):
        no_answers: dict[str, object] = {"answers": {}, "pulses": (), "answers_deleted_at": now}
        no_answers |= {"calls": {}, "call_contacts": {}}
        followup = followup.model_copy(update=no_answers)
    if now < add_months(ended, terms.months) or set(followup.members.values()) == {ERASED}:
        return followup
    erased = dict.fromkeys(followup.members, ERASED)
    empty: dict[str, object] = {"zones": {}, "sessions": (), "checkins": (), "ideas": (), "to_count": ()}
    return followup.model_copy(update={**empty, "members": erased, "gone": True})


def _final_checkin_closes(followup: PairingFollowup) -> datetime:
    return (followup.ended_at or followup.formed_at) + OPEN_FOR + AFTER_CLOSING


def _answers_expire_at(followup: PairingFollowup, terms: Terms) -> datetime:
    return add_months(followup.ended_at or followup.formed_at, terms.raw_answers_months)


def _next_due(followup: PairingFollowup, now: datetime) -> datetime | None:
    """When the clock alone changes something next.

    Nothing is due on hold: the dates are computed again when the pairing continues.
    """
    return min((at for at in _due_dates(followup) if at is not None and at > now), default=None)


def _due_dates(followup: PairingFollowup) -> Iterable[datetime | None]:
    if followup.terms is None:
        return
    if followup.state == "ended":
        yield from _due_dates_after_end(followup, followup.terms)
    elif followup.is_running:
        yield from (planned.due_at for planned in upcoming_checkins(followup))
        yield mid_point(followup) if followup.mid_point_at is None else None
        yield early_period_end(followup) if followup.met_by_day_30 is None else None
        yield inactivity_deadline(followup)
        if not followup.held_meetings():
            yield booking_deadline(followup)
            yield first_meeting_deadline(followup)


def _due_dates_after_end(followup: PairingFollowup, terms: Terms) -> Iterable[datetime | None]:
    if followup.outcome_at is None and not followup.gone:
        yield _final_checkin_closes(followup)
    if followup.answers_deleted_at is None:
        yield _answers_expire_at(followup, terms)
    if followup.ended_at is not None:
        yield add_months(followup.ended_at, terms.months)


def _terms(followup: PairingFollowup) -> Terms:
    assert followup.terms is not None, "an outcome is computed with terms only"
    return followup.terms
