"""Check-ins: their questions, recipients and times, and the visibility of the answers."""

from collections.abc import Callable
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import CommandRejected, InvalidCommand, NotFound
from contracts.moment import Moment
from contracts.pairings import PairingFormed
from contracts.profiles import Side
from services.feedback.domain import followup_rules, sessions
from services.feedback.domain.advice import advice_for, low_items
from services.feedback.domain.anonymous_statistics import CHANGE_ITEMS
from services.feedback.domain.checkins import answer_change, find_checkin
from services.feedback.domain.followup import ERASED, Decision, PairingFollowup, remove_member
from services.feedback.domain.questions import nearest_language
from services.feedback.views import CareView
from tests.feedback.followups import JUNIOR, QUESTIONS, SimulatedPairing, programme

ITEMS = [item.id for item in QUESTIONS.items]
starts = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
SIDES: tuple[Side, Side] = ("senior", "junior")


def pairing_that_met() -> SimulatedPairing:
    life = SimulatedPairing()
    life.advance_days(3)
    life.hold()
    return life


class TestQuestions:
    def test_day_0_asks_only_about_oneself(self) -> None:
        assert [item.id for item in QUESTIONS.items_at("day_0")] == ["1", "2"]
        assert [item.id for item in QUESTIONS.items_at("end")] == ITEMS == ["1", "2", "3", "4", "5", "6", "7", "8"]
        assert [item.id for item in QUESTIONS.items if item.reversed] == ["2", "4", "6", "8"]
        life = SimulatedPairing()
        with pytest.raises(InvalidCommand):
            life.answer("junior", "day_0", {"3": 4})

    def test_agree_with_the_items_of_the_statistics(self) -> None:
        assert dict(CHANGE_ITEMS) == {id: QUESTIONS.by_id[id].baseline for id in ("1", "3", "4")}

    def test_have_texts_without_internal_terms_in_each_language(self) -> None:
        assert nearest_language("de-AT") == "de"
        assert nearest_language("tlh") == nearest_language(None) == "en"
        for language in QUESTIONS.scale:
            assert set(QUESTIONS.scale[language]) == {"1", "2", "3", "4", "5", "cannot_say"}
            advice = advice_for(
                QUESTIONS, dict.fromkeys(ITEMS, 1) | {"2": 5, "4": 5, "8": 5}, language, "Kim", warming_up=False
            )
            assert len(advice) == 1 + 7 + 2
            assert "Kim" in " ".join(advice)
            for term in ("at risk", "score", "receipt", "ended_early", "{"):
                assert term not in " ".join(advice)


class TestAdvice:
    def test_suggests_another_partner_only_after_the_warm_up(self) -> None:
        answers: dict[str, int | None] = {"3": 1, "4": 5, "6": 5, "7": 4, "8": None}
        assert low_items(QUESTIONS, answers) == ("3", "4"), "6 is never used for care; 4 and 8 are reversed"
        early = " ".join(advice_for(QUESTIONS, answers, "en", "Kim", warming_up=True))
        later = " ".join(advice_for(QUESTIONS, answers, "en", "Kim", warming_up=False))
        assert "somebody else" not in early
        assert "somebody else" in later
        assert "Only you see this" in early
        assert "Only you see this" in later
        assert advice_for(QUESTIONS, {"3": 4, "4": 2, "8": None}, "en", "Kim", warming_up=True) == []


class TestAnswers:
    def test_may_be_corrected_while_open_and_publish_once(self) -> None:
        life = SimulatedPairing()
        life.answer("junior", "day_0", {"1": 2})
        life.answer("junior", "day_0", {"1": 4, "2": None})
        assert life.event_types().count("checkin.completed") == 1
        assert life.followup.answers["pair.day_0.junior"].answers == {"1": 4, "2": None}
        life.advance_days(31)
        with pytest.raises(CommandRejected, match="closed"):
            life.answer("junior", "day_0", {"1": 5})
        with pytest.raises(NotFound):
            life.answer("junior", "day_90", {})

    def test_a_requested_call_is_in_no_event(self) -> None:
        plain, wishing = SimulatedPairing(), SimulatedPairing()
        plain.answer("junior", "day_0", {"1": 4})
        wishing.answer("junior", "day_0", {"1": 4}, call_me=True)
        assert set(wishing.followup.calls) == {"junior"}
        assert plain.events == wishing.events

    def test_change_is_measured_from_the_first_coded_answer(self) -> None:
        life = SimulatedPairing()
        life.answer("junior", "day_0", {"1": 2})
        life.advance_days(3)
        life.hold()
        life.advance_days(30)
        life.answer("junior", "day_30", {"1": 4, "3": 5, "4": 4})
        life.advance_days(65)
        life.answer("junior", "day_90", {"1": 1, "3": 4, "4": 1})
        changes = {
            (item, at): answer_change(life.followup, QUESTIONS, item, at, "junior")
            for item in CHANGE_ITEMS
            for at in ("day_30", "day_90")
        }
        assert changes == {
            ("1", "day_30"): 2,
            ("1", "day_90"): -1,
            ("3", "day_30"): 0,
            ("3", "day_90"): -1,
            ("4", "day_30"): 0,
            ("4", "day_90"): 3,
        }
        assert {key for key in life.followup.to_count if ":" in key} == {
            "1:day_30:junior",
            "1:day_90:junior",
            "3:day_90:junior",
            "4:day_90:junior",
        }


class TestOutcome:
    def test_is_recorded_after_both_answered_or_a_month(self) -> None:
        life = pairing_that_met()
        life.end("ended_early")
        life.answer("junior", "end", {"5": 1, "7": 3})
        assert life.events_of("outcome.recorded") == []
        life.answer("senior", "end", {"5": 5, "7": None})
        [both] = life.events_of("outcome.recorded")
        assert (both.junior_learned, both.junior_enjoyed, both.senior_learned, both.senior_enjoyed) == (
            "low",
            "middle",
            "high",
            "unknown",
        )
        assert both.meetings == "low"
        silent = pairing_that_met()
        silent.end()
        silent.advance_days(29)
        assert silent.events_of("outcome.recorded") == []
        silent.advance_days(2)
        assert len(silent.events_of("outcome.recorded")) == 1

    def test_is_recorded_when_retention_is_shorter_than_a_month(self) -> None:
        life = SimulatedPairing(
            programme=programme(retention__raw_answers_months=1, retention__months=1),
            formed_at=datetime(2026, 2, 2, tzinfo=ZoneInfo("UTC")),
        )
        life.hold()
        life.advance_days(1)
        life.end()
        life.answer("junior", "end", {"5": 5})
        life.advance_days(40)
        [outcome] = life.events_of("outcome.recorded")
        assert outcome.junior_learned == "high"
        assert life.followup.gone


class TestDeletion:
    def test_answers_go_after_three_months_and_the_rest_later(self) -> None:
        life = pairing_that_met()
        life.answer("junior", "day_0", {"1": 1}, call_me=True)
        life.end()
        life.answer("junior", "end", {"5": 1})
        life.advance_days(91)
        assert len(life.followup.answers) == 2
        life.advance_days(3)
        assert (life.followup.answers, life.followup.pulses, life.followup.calls) == ({}, (), {})
        assert life.followup.sessions
        life.advance_days(300)
        assert (set(life.followup.members.values()), life.followup.sessions, life.followup.gone) == ({ERASED}, (), True)
        assert life.followup.due is None

    def test_of_an_erased_member_nothing_stays_or_comes_back(self) -> None:
        life = pairing_that_met()
        life.answer("junior", "day_0", {"1": 1}, call_me=True)
        life.answer("senior", "day_0", {"1": 5})
        life.apply(lambda followup, moment: remove_member(followup, JUNIOR, moment.now))
        left = life.followup.model_dump_json()
        assert JUNIOR not in left
        assert "day_0.junior" not in left
        assert (life.followup.sessions, life.followup.calls, life.followup.pulses) == ((), {}, ())
        assert life.followup.answers["pair.day_0.senior"].answers["1"] == 5
        published = len(life.events)
        life.end()
        life.advance_days(500)
        assert JUNIOR not in life.followup.model_dump_json()
        assert (len(life.events), life.followup.answers, life.followup.due) == (published, {}, None)


class TestAsking:
    def test_comes_at_formation_and_then_at_nine_local_time(self) -> None:
        life = SimulatedPairing(zones={"senior": "America/New_York", "junior": "Asia/Kolkata"})
        assert [(event.side, event.milestone) for event in life.events_of("checkin.due")] == [
            ("senior", "day_0"),
            ("junior", "day_0"),
        ]
        life.advance_days(100)
        later = [event for event in life.events_of("checkin.due") if event.milestone != "day_0"]
        for event in later:
            local = event.due_at.astimezone(ZoneInfo(life.zones[event.side]))
            assert (local.time(), local.weekday() < 5) == (time(9), True)
            assert event.happened_at == event.due_at
        assert sorted((event.milestone, event.side) for event in later) == [
            ("day_30", "junior"),
            ("day_30", "senior"),
            ("day_90", "junior"),
            ("day_90", "senior"),
        ]

    @given(start=starts)
    def test_about_the_partner_waits_until_they_can_have_met(self, start: datetime) -> None:
        life = SimulatedPairing(formed_at=start, programme=programme(care__checkin_days=(0, 3, 90)))
        meeting = life.schedule(12)
        life.advance_days(11.9)
        assert {checkin.milestone for checkin in life.followup.checkins} == {"day_0"}
        life.advance_days(0.1)
        life.hold(meeting)
        life.advance_days(5)
        assert {checkin.milestone for checkin in life.followup.checkins} == {"day_0", "day_3"}

    def test_before_a_meeting_shows_items_about_oneself(self) -> None:
        assert [item.id for item in QUESTIONS.items_at("day_30", have_met=False)] == ["1", "2"]

    def test_comes_a_last_time_at_the_end_if_they_met(self) -> None:
        life = pairing_that_met()
        life.end()
        assert [event.side for event in life.events_of("checkin.due") if event.milestone == "end"] == [
            "senior",
            "junior",
        ]
        never = SimulatedPairing()
        never.advance_days(9)
        never.end("not_started")
        assert [event.milestone for event in never.events_of("checkin.due")] == ["day_0", "day_0"]

    def test_an_older_event_of_the_pairing_changes_nothing(self) -> None:
        life = pairing_that_met()
        life.end()
        before = life.followup
        life.sequence = 0
        life.receive(PairingFormed, "formed")
        assert life.followup == before


def pulse_of(side: Side, session: str, mark: int | None) -> Callable[[PairingFollowup, Moment], Decision | None]:
    return lambda followup, moment: sessions.record_pulse(followup, side, session, mark, met=True, moment=moment)


rating = st.one_of(st.none(), st.integers(1, 5))


class TestAnswerPrivacy:
    @settings(deadline=None, max_examples=80)
    @given(st.data())
    def test_answers_change_nothing_that_others_can_see(self, data: st.DataObject) -> None:
        """The same acts at the same times with other answers give the same events, facts and due times."""
        worlds = SimulatedPairing(), SimulatedPairing()
        for _ in range(data.draw(st.integers(4, 16))):
            days = data.draw(st.one_of(st.floats(0.1, 3), st.floats(28, 35)))
            for life in worlds:
                life.advance_days(days)
            act = data.draw(
                st.sampled_from(["answer", "answer", "answer", "answer", "pulse", "met", "schedule", "end"])
            )
            side = data.draw(st.sampled_from(SIDES))
            milestone = [checkin.milestone for checkin in worlds[0].followup.checkins if checkin.side == side][-1]
            refusals = []
            for life in worlds:
                try:
                    if act == "answer":
                        ids = [item.id for item in QUESTIONS.items_at(milestone)]
                        answers = {id: data.draw(rating) for id in ids}
                        life.answer(side, milestone, answers, call_me=data.draw(st.booleans()))
                    elif act == "pulse" and life.followup.held_meetings():
                        life.apply(pulse_of(side, life.followup.held_meetings()[-1].session_id, data.draw(rating)))
                    elif act == "met":
                        life.hold()
                    elif act == "schedule":
                        life.schedule(10)
                    elif act == "end" and life.followup.state != "ended":
                        life.end()
                except CommandRejected as rejection:
                    refusals.append(rejection.code)
            assert len(set(refusals)) <= 1
            assert len(refusals) in (0, 2)
            first, second = worlds
            assert first.event_times == second.event_times
            assert first.feedback_events() == second.feedback_events()
            assert (first.followup.due, first.followup.lease, first.followup.to_count) == (
                second.followup.due,
                second.followup.lease,
                second.followup.to_count,
            )
            assert CareView.of(first.followup, first.now) == CareView.of(second.followup, second.now)
            outcomes = [
                [
                    event.model_dump(exclude={"senior_learned", "junior_learned", "senior_enjoyed", "junior_enjoyed"})
                    for event in life.events_of("outcome.recorded")
                ]
                for life in worlds
            ]
            assert outcomes[0] == outcomes[1]

    def test_no_event_has_a_field_for_an_answer(self) -> None:
        life = pairing_that_met()
        life.answer("junior", "day_0", {"1": 1})
        life.end()
        names = {name for event in life.feedback_events() for name in event.model_dump()}
        assert not names & {"answers", "advice", "score", "worth", "text", "call_me"}
        assert find_checkin(life.followup, "junior", "day_0").completed_at is not None
        assert followup_rules.follow_up(None, life.moment) is None
