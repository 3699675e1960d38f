"""The follow-up of a pairing by its facts, over simulated months."""

import contextlib
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import CommandRejected
from contracts.pairings import PairingFormed, PairingPaused, PairingState
from contracts.profiles import Side
from services.feedback.domain import sessions
from services.feedback.domain.care_facts import care_state, current_facts, is_active
from services.feedback.domain.followup import unfreeze_followup
from services.feedback.domain.followup_rules import request_partner_change
from tests.feedback.followups import MONDAY, SimulatedPairing, pairing, programme

DAY = timedelta(days=1)
starts = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"])


def noticed(life: SimulatedPairing, fact: str) -> list[datetime]:
    return [event.happened_at for event in life.events_of("contact.needed") if fact in event.facts]


def working_days(start: datetime, until: datetime, zone: str, away: set[date]) -> int:
    """Whole working days after the day of ``start`` that are over at ``until``, without days of a pause."""
    local, end = start.astimezone(ZoneInfo(zone)), until.astimezone(ZoneInfo(zone))
    day, count = local.date() + DAY, 0
    while datetime.combine(day + DAY, time(0), ZoneInfo(zone)) <= end:
        count += day.weekday() < 5 and day not in away
        day += DAY
    return count


class TestFirstMeeting:
    @settings(deadline=None, max_examples=30)
    @given(starts, zones, zones, st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), max_size=2))
    def test_a_missing_one_is_noticed_on_the_right_day(
        self, start: datetime, senior_zone: str, junior_zone: str, pauses: list[tuple[int, int]]
    ) -> None:
        """The day equals a plain count of days in each member's calendar, with pauses and clock changes."""
        sides: dict[Side, str] = {"senior": senior_zone, "junior": junior_zone}
        life = SimulatedPairing(start, sides)
        held_up: list[tuple[datetime, datetime]] = []
        for hours, length in pauses:
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
                for n in range(
                    (until.astimezone(ZoneInfo(zone)).date() - since.astimezone(ZoneInfo(zone)).date()).days + 1
                )
            }
            for zone in sides.values()
        }
        for fact, days in (("no_first_meeting_booked", 10), ("no_first_meeting_held", 20)):
            first = noticed(life, fact)[0]
            on_hold = any(since <= first < until for since, until in held_up)
            assert not on_hold
            before_the_pause = [pause for pause in held_up if pause[1] > first]
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

    def test_one_in_time_needs_no_help(self) -> None:
        life = SimulatedPairing()
        life.advance_days(5)
        id = life.schedule(10)
        life.advance_days(10.1)
        life.hold(id)
        life.advance_days(13)
        assert life.events_of("contact.needed") == []

    def test_booked_but_not_held_misses_only_the_second_deadline(self) -> None:
        life = SimulatedPairing()
        life.advance_days(3)
        life.schedule(60)
        life.advance_days(40)
        assert [event.facts for event in life.events_of("contact.needed")] == [("no_first_meeting_held",)]

    def test_a_cancelled_date_does_not_count(self) -> None:
        life = SimulatedPairing()
        life.advance_days(1)
        life.cancel(life.schedule(7))
        life.advance_days(20)
        assert noticed(life, "no_first_meeting_booked")


class TestInactivity:
    def test_is_noticed_once_and_again_after_an_improvement(self) -> None:
        """The case: no new date for two weeks after the last meeting."""
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

    def test_is_not_noticed_after_all_planned_meetings(self) -> None:
        life = SimulatedPairing(programme=programme(meetings__planned=2))
        for _ in range(2):
            life.advance_days(7)
            life.hold()
        life.advance_days(100)
        assert life.events_of("contact.needed") == []


class TestFailuresInARow:
    def test_two_are_noticed_and_one_is_not(self) -> None:
        for act, fact in (("cancel", "two_cancellations_in_a_row"), ("missed", "two_missed_in_a_row")):
            life = SimulatedPairing()
            for n in range(2):
                assert noticed(life, fact) == []
                id = life.schedule(2)
                life.advance_days(2.5 if act == "missed" else 1)
                life.miss(id) if act == "missed" else life.cancel(id)
                assert bool(noticed(life, fact)) == (n == 1)
            life.hold()
            assert fact not in current_facts(life.followup, life.now)

    def test_a_meeting_in_between_resets_the_count(self) -> None:
        life = SimulatedPairing()
        life.cancel(life.schedule(2))
        life.advance_days(3)
        life.hold()
        life.cancel(life.schedule(2))
        assert noticed(life, "two_cancellations_in_a_row") == []


class TestWarmUp:
    def test_facts_bring_help_during_it(self) -> None:
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


class TestPause:
    def test_nothing_is_due_and_deadlines_move(self) -> None:
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

    def test_paused_days_do_not_count_for_the_warm_up(self) -> None:
        life = SimulatedPairing()
        life.advance_days(5)
        life.hold()
        life.pause()
        life.advance_days(60)
        life.resume()
        life.schedule(20)
        assert care_state(life.followup, life.now) == "warming_up"


class TestMidPoint:
    def test_is_recorded_and_moves_with_the_end(self) -> None:
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


class TestMeetings:
    def test_are_booked_by_the_side_of_the_programme(self) -> None:
        for booked_by, refused in (("senior", {"junior"}), ("junior", {"senior"}), ("either", set())):
            life = SimulatedPairing(programme=programme(meetings__booked_by=booked_by))
            sides: tuple[Side, Side] = ("senior", "junior")
            for side in sides:
                if side in refused:
                    with pytest.raises(CommandRejected) as rejection:
                        life.schedule(3, side=side)
                    assert rejection.value.code == "not_yours_to_book"
                else:
                    life.schedule(3, side=side)

    def test_held_without_a_date_or_near_one(self) -> None:
        life = SimulatedPairing()
        life.advance_days(4)
        life.hold()
        life.schedule(2)
        life.advance_days(2.2)
        life.hold()
        assert [meeting.state for meeting in life.followup.sessions] == ["held", "held"]
        assert [event.sessions_held for event in life.events_of("session.held")] == [1, 2]

    def test_noted_by_both_sides_or_twice_count_once(self) -> None:
        life = SimulatedPairing()
        life.advance_days(4)
        life.hold(side="senior")
        life.hold(side="senior")
        life.advance_days(0.1)
        life.hold(side="junior")
        assert [meeting.noted_by for meeting in life.followup.sessions] == [("senior", "junior")]
        life.advance_days(0.1)
        life.hold(side="junior")
        life.hold(side="senior")
        assert len(life.followup.sessions) == 2, "a second meeting of that day is another one"
        assert len(life.events_of("session.held")) == 2

    def test_with_one_date_are_planned_once(self) -> None:
        life = SimulatedPairing()
        life.schedule(3, id="first")
        life.schedule(3, id="second")
        assert [meeting.session_id for meeting in life.followup.sessions] == ["first"]

    @given(hours=st.floats(0.1, 23.9))
    def test_held_now_leaves_those_to_come(self, hours: float) -> None:
        life = SimulatedPairing()
        life.schedule(hours / 24)
        life.hold()
        assert [meeting.state for meeting in life.followup.sessions] == ["held", "scheduled"]

    def test_none_took_place_before_the_proposal(self) -> None:
        life = SimulatedPairing()
        proposed = life.followup.proposed_at
        assert proposed is not None
        life.apply(lambda followup, moment: sessions.record_held(followup, "senior", "in-time", proposed, moment))
        early = proposed - timedelta(minutes=1)
        with pytest.raises(CommandRejected) as rejection:
            life.apply(lambda followup, moment: sessions.record_held(followup, "senior", "early", early, moment))
        assert rejection.value.code == "too_early"

    def test_all_those_to_come_stand_in_each_event(self) -> None:
        life = SimulatedPairing()
        life.schedule(2)
        life.schedule(2.5)
        assert [event.scheduled_at for event in life.events_of("session.scheduled")][-1] == tuple(
            meeting.starts_at for meeting in life.followup.sessions
        )

    def test_are_cancelled_when_the_pairing_ends(self) -> None:
        life = SimulatedPairing()
        life.schedule(5)
        life.schedule(9)
        life.advance_days(1)
        life.end("not_started")
        assert [event.by_end for event in life.events_of("session.cancelled")] == [True, True]
        assert Counter(life.event_types()) == {
            "session.scheduled": 2,
            "session.cancelled": 2,
            "checkin.due": 2,
            "outcome.recorded": 1,
        }
        life.advance_days(400)
        assert life.events_of("contact.needed") == []


class TestPartnerChange:
    def test_is_published_once_without_a_side(self) -> None:
        life = SimulatedPairing()
        life.apply(request_partner_change)
        life.apply(request_partner_change)
        [event] = life.events_of("partner.change.requested")
        assert "side" not in event.model_dump()
        assert "junior" not in life.followup.model_dump_json(include={"partner_change_at"})


def act_randomly(data: st.DataObject, life: SimulatedPairing) -> None:
    """A random action of one of the two members; it may be rejected."""
    dated = [meeting.session_id for meeting in life.followup.sessions if meeting.state == "scheduled"]
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


class TestFacts:
    @settings(deadline=None, max_examples=30)
    @given(st.data(), starts, zones)
    def test_exactly_the_current_facts_have_been_published(
        self, data: st.DataObject, start: datetime, zone: str
    ) -> None:
        """After each random action in a year the current facts have been published, and no item was due twice."""
        life = SimulatedPairing(start, {"senior": zone, "junior": "Europe/Berlin"})
        for _ in range(data.draw(st.integers(1, 25))):
            life.advance_days(data.draw(st.floats(0.01, 25)))
            with contextlib.suppress(CommandRejected):
                act_randomly(data, life)
            assert life.followup.due is None or life.followup.due > life.now
            if life.followup.is_running:
                assert life.followup.told == current_facts(life.followup, life.now)
                if life.followup.told:
                    assert set(life.followup.told) <= {
                        fact for event in life.events_of("contact.needed") for fact in event.facts
                    }
        asked_sides = [(event.side, event.milestone) for event in life.events_of("checkin.due")]
        assert len(set(asked_sides)) == len(asked_sides)
        for event in life.events_of("contact.needed"):
            assert event.facts


class TestLateStart:
    def test_an_old_pairing_asks_each_side_once(self) -> None:
        life = SimulatedPairing()
        fresh = SimulatedPairing()
        fresh.state = None
        fresh.events, fresh.event_times, fresh.sequence = [], [], 0
        fresh.now = MONDAY + timedelta(days=120)
        fresh.receive(PairingFormed, "formed")
        assert [event.milestone for event in fresh.events_of("checkin.due")] == ["day_90", "day_90"]
        assert life.event_types() == ["checkin.due", "checkin.due"]


class TestUnfrozenFollowup:
    def test_it_follows_the_current_state_and_later_events(self) -> None:
        """A forged end with a high sequence has frozen the follow-up."""
        life = SimulatedPairing()
        life.sequence = 10**6
        life.end()
        life.sequence = 1
        life.receive(PairingPaused, "paused")
        frozen = life.followup
        assert frozen.state == "ended", "later events change nothing"
        current = pairing(PairingState, life.now, state="paused")
        unfrozen = unfreeze_followup(frozen, current, 3, life.moment)
        assert unfrozen is not None
        after, _ = unfrozen
        assert (after.state, after.ended_at, after.end_kind) == ("paused", None, None)
        life.state, life.sequence = after, 3
        life.resume()
        assert life.followup.state == "formed"

    def test_one_that_is_not_frozen_is_left_alone(self) -> None:
        life = SimulatedPairing()
        assert unfreeze_followup(life.followup, pairing(PairingState), life.sequence, life.moment) is None
        assert unfreeze_followup(None, pairing(PairingState), 1, life.moment) is None
