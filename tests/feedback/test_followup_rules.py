"""The care for a pairing, from facts alone, over simulated months."""

import contextlib
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import CommandRejected
from contracts.pairings import PairingFormed
from contracts.profiles import Side
from services.feedback.domain.facts import care_state, current_facts, is_active
from services.feedback.domain.followup_rules import request_partner_change
from tests.feedback.followups import MONDAY, SimulatedPairing, programme

DAY = timedelta(days=1)
starts = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"])


def noticed(life: SimulatedPairing, fact: str) -> list[datetime]:
    return [event.happened_at for event in life.events_of("contact.needed") if fact in event.facts]


def working_days(start: datetime, until: datetime, zone: str, away: set[date]) -> int:
    """Whole working days after the day of ``start`` that are over at ``until``, none of them touched by a pause."""
    local, end = start.astimezone(ZoneInfo(zone)), until.astimezone(ZoneInfo(zone))
    day, found = local.date() + DAY, 0
    while datetime.combine(day + DAY, time(0), ZoneInfo(zone)) <= end:
        found += day.weekday() < 5 and day not in away
        day += DAY
    return found


@settings(deadline=None, max_examples=30)
@given(starts, zones, zones, st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), max_size=2))
def test_every_pairing_without_a_first_meeting_is_noticed_when_it_should_be(
    start: datetime, one: str, other: str, stops: list[tuple[int, int]]
) -> None:
    """Neither earlier nor later than by a plain count of days in each one's calendar, pauses and clock changes in."""
    sides: dict[Side, str] = {"senior": one, "junior": other}
    life = SimulatedPairing(start, sides)
    held_up: list[tuple[datetime, datetime]] = []
    for hours, length in stops:
        life.advance_days(hours / 24)
        since = life.now
        life.pause()
        life.advance_days(length / 24)
        life.resume()
        held_up.append((since, life.now))
    life.advance_days(120)
    away = {
        zone: {
            since.astimezone(ZoneInfo(zone)).date() + n * DAY
            for since, until in held_up
            for n in range((until.astimezone(ZoneInfo(zone)).date() - since.astimezone(ZoneInfo(zone)).date()).days + 1)
        }
        for zone in sides.values()
    }
    for fact, days in (("no_first_meeting_booked", 10), ("no_first_meeting_held", 20)):
        first = noticed(life, fact)[0]
        on_hold = any(since <= first < until for since, until in held_up)
        assert not on_hold
        before_the_pause = [known for known in held_up if known[1] > first]
        so_far = {
            zone: {
                day
                for day in away[zone]
                if not any(day >= since.astimezone(ZoneInfo(zone)).date() for since, _ in before_the_pause)
            }
            for zone in sides.values()
        }
        assert min(working_days(start, first, zone, so_far[zone]) for zone in sides.values()) >= days
        a_moment_before = first - timedelta(minutes=1)
        resumed_just_now = any(until == first for _, until in held_up)
        if not resumed_just_now:
            assert min(working_days(start, a_moment_before, zone, so_far[zone]) for zone in sides.values()) < days
    assert noticed(life, "no_first_meeting_booked")[0] < noticed(life, "no_first_meeting_held")[0]


def test_a_first_meeting_in_time_needs_nobody() -> None:
    life = SimulatedPairing()
    life.advance_days(5)
    id = life.schedule(10)
    life.advance_days(10.1)
    life.hold(id)
    life.advance_days(13)
    assert life.events_of("contact.needed") == []


def test_booked_but_not_held_is_noticed_at_the_second_deadline_alone() -> None:
    life = SimulatedPairing()
    life.advance_days(3)
    life.schedule(60)
    life.advance_days(40)
    assert [event.facts for event in life.events_of("contact.needed")] == [("no_first_meeting_held",)]


def test_a_date_that_was_called_off_is_no_date() -> None:
    life = SimulatedPairing()
    life.advance_days(1)
    life.cancel(life.schedule(7))
    life.advance_days(20)
    assert noticed(life, "no_first_meeting_booked")


def test_two_weeks_without_a_date_after_the_last_one_are_noticed_once_and_again_after_it_was_better() -> None:
    life = SimulatedPairing()
    life.advance_days(7)
    life.hold()
    life.advance_days(30)
    assert len(noticed(life, "nothing_scheduled_for_two_weeks")) == 1
    assert life.events_of("contact.needed")[0].happened_at == datetime(2026, 3, 23, 23, tzinfo=UTC)
    assert care_state(life.followup, life.now) == "would_like_help"
    id = life.schedule(3)
    assert current_facts(life.followup, life.now) == ()
    life.advance_days(3.1)
    life.hold(id)
    life.advance_days(40)
    assert len(noticed(life, "nothing_scheduled_for_two_weeks")) == 2


def test_when_as_many_met_as_planned_nothing_more_needs_a_date() -> None:
    life = SimulatedPairing(programme=programme(meetings__planned=2))
    for _ in range(2):
        life.advance_days(7)
        life.hold()
    life.advance_days(100)
    assert life.events_of("contact.needed") == []


def test_two_cancellations_or_two_missed_in_a_row_are_noticed_and_one_is_not() -> None:
    for how, fact in (("cancel", "two_cancellations_in_a_row"), ("missed", "two_missed_in_a_row")):
        life = SimulatedPairing()
        for n in range(2):
            assert noticed(life, fact) == []
            id = life.schedule(2)
            life.advance_days(2.5 if how == "missed" else 1)
            life.miss(id) if how == "missed" else life.cancel(id)
            assert bool(noticed(life, fact)) == (n == 1)
        life.hold()
        assert fact not in current_facts(life.followup, life.now)


def test_a_meeting_between_two_cancellations_breaks_the_row() -> None:
    life = SimulatedPairing()
    life.cancel(life.schedule(2))
    life.advance_days(3)
    life.hold()
    life.cancel(life.schedule(2))
    assert noticed(life, "two_cancellations_in_a_row") == []


def test_on_hold_nothing_is_due_nobody_is_asked_and_the_deadlines_move() -> None:
    life = SimulatedPairing()
    life.advance_days(2)
    life.pause()
    assert life.followup.due is None
    life.advance_days(60)
    assert (care_state(life.followup, life.now), life.event_types()) == ("paused", ["checkin.due", "checkin.due"])
    assert not is_active(life.followup, life.now)
    life.resume()
    life.advance_days(9)
    assert life.events_of("contact.needed") == []
    life.advance_days(7)
    assert len(noticed(life, "no_first_meeting_booked")) == 1


def test_the_warm_up_is_warm_and_help_comes_in_it_all_the_same() -> None:
    life = SimulatedPairing()
    life.advance_days(5)
    life.hold()
    life.schedule(20)
    assert care_state(life.followup, life.now) == "warming_up"
    life.advance_days(10)
    life.schedule(60)
    life.advance_days(40)
    assert care_state(life.followup, life.now) == "steady"
    unlucky = SimulatedPairing()
    for _ in range(2):
        unlucky.cancel(unlucky.schedule(1))
    assert care_state(unlucky.followup, unlucky.now) == "would_like_help"


def test_days_on_hold_are_no_days_of_the_warm_up() -> None:
    life = SimulatedPairing()
    life.advance_days(5)
    life.hold()
    life.pause()
    life.advance_days(60)
    life.resume()
    life.schedule(20)
    assert care_state(life.followup, life.now) == "warming_up"


def test_who_booked_is_as_the_programme_says() -> None:
    for booked_by, refused in (("senior", {"junior"}), ("junior", {"senior"}), ("either", set())):
        life = SimulatedPairing(programme=programme(meetings__booked_by=booked_by))
        sides: tuple[Side, Side] = ("senior", "junior")
        for side in sides:
            if side in refused:
                with pytest.raises(CommandRejected) as why:
                    life.schedule(3, side=side)
                assert why.value.code == "not_yours_to_book"
            else:
                life.schedule(3, side=side)


def test_a_meeting_held_without_a_date_and_one_held_near_its_date() -> None:
    life = SimulatedPairing()
    life.advance_days(4)
    life.hold()
    life.schedule(2)
    life.advance_days(2.2)
    life.hold()
    assert [one.state for one in life.followup.sessions] == ["held", "held"]
    assert [event.sessions_held for event in life.events_of("session.held")] == [1, 2]


def test_half_way_is_noted_and_moves_with_the_end() -> None:
    life = SimulatedPairing()
    life.advance_days(50)
    life.pause()
    life.advance_days(20)
    assert life.planned_end is not None
    life.planned_end += timedelta(days=20)
    life.resume()
    life.advance_days(30)
    assert life.followup.mid_point_at is None
    life.advance_days(5)
    assert life.followup.mid_point_at is not None


def test_what_still_had_a_date_is_called_off_when_a_pairing_ends() -> None:
    life = SimulatedPairing()
    life.schedule(5)
    life.schedule(9)
    life.advance_days(1)
    life.end("not_started")
    assert Counter(life.event_types()) == {
        "session.scheduled": 2,
        "session.cancelled": 2,
        "checkin.due": 2,
        "outcome.recorded": 1,
    }
    life.advance_days(400)
    assert life.events_of("contact.needed") == []


def test_the_wish_for_another_partner_is_said_once_and_without_a_side() -> None:
    life = SimulatedPairing()
    life.apply(request_partner_change)
    life.apply(request_partner_change)
    [event] = life.events_of("partner.change.requested")
    assert "side" not in event.model_dump()
    assert "junior" not in life.followup.model_dump_json(include={"partner_change_at"})


def something(data: st.DataObject, life: SimulatedPairing) -> None:
    """One of the things that people do; it may be refused."""
    dated = [one.session_id for one in life.followup.sessions if one.state == "scheduled"]
    match data.draw(st.sampled_from(["schedule", "met", "missed", "cancel", "pause", "resume", "wait"])):
        case "schedule":
            life.schedule(data.draw(st.floats(0.1, 60)))
        case "met":
            life.hold(data.draw(st.sampled_from([None, *dated])))
        case "missed" if dated:
            life.miss(data.draw(st.sampled_from(dated)))
        case "cancel" if dated:
            life.cancel(data.draw(st.sampled_from(dated)))
        case "pause" if life.followup.is_running:
            life.pause()
        case "resume" if life.followup.state == "paused":
            life.resume()


@settings(deadline=None, max_examples=30)
@given(st.data(), starts, zones)
def test_whatever_people_do_every_fact_that_holds_has_been_told_and_none_that_does_not(
    data: st.DataObject, start: datetime, zone: str
) -> None:
    """A year at random: after each step what holds was said in its latest run, and nothing came due twice."""
    life = SimulatedPairing(start, {"senior": zone, "junior": "Europe/Berlin"})
    for _ in range(data.draw(st.integers(1, 25))):
        life.advance_days(data.draw(st.floats(0.01, 25)))
        with contextlib.suppress(CommandRejected):
            something(data, life)
        assert life.followup.due is None or life.followup.due > life.now
        if life.followup.is_running:
            assert life.followup.told == current_facts(life.followup, life.now)
            if life.followup.told:
                assert set(life.followup.told) <= {
                    fact for event in life.events_of("contact.needed") for fact in event.facts
                }
    asked = [(event.side, event.milestone) for event in life.events_of("checkin.due")]
    assert len(set(asked)) == len(asked)
    for event in life.events_of("contact.needed"):
        assert event.facts


def test_a_course_of_a_year_ago_that_is_heard_of_today_asks_each_side_once() -> None:
    life = SimulatedPairing()
    fresh = SimulatedPairing()
    fresh.state = None
    fresh.events, fresh.event_times, fresh.sequence = [], [], 0
    fresh.now = MONDAY + timedelta(days=120)
    fresh.receive(PairingFormed, "formed")
    assert [event.milestone for event in fresh.events_of("checkin.due")] == ["day_90", "day_90"]
    assert life.event_types() == ["checkin.due", "checkin.due"]
