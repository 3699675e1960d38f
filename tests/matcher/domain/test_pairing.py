"""The life of a pairing: each transition alone, and random sequences of transitions."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.days import WorkingDays, end_of_day, end_of_working_day, is_end_of_day, start_of_day
from contracts.envelope import OutgoingEvent, Tombstone
from contracts.errors import CommandRejected
from contracts.moment import Moment
from contracts.pairings import AnswerGiven, PairingEnded, PairingEvent, PairingState
from contracts.profiles import Side
from services.matcher.domain.fit.hard_rules import Rule
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.conflict import ConflictPolicy
from services.matcher.domain.pairings.pairing import Pairing, PairingCharter, PairingPlan
from tests.matcher.builders import MOMENT, NOW, moment_at
from tests.matcher.domain.test_seat_ledger import plan, receipt_for

CHARTER = PairingCharter(goals=("try one new tool a month",), meeting_rhythm="monthly")


def done(decision: pairings.Decision | None) -> Pairing:
    assert decision is not None
    return decision[0]


def proposed(*, agreed: bool = False) -> Pairing:
    begun = done(pairings.begin_reservation(None, plan("p", "s", "j"), MOMENT))
    return done(pairings.propose_pairing(begun, receipt_for(begun), MOMENT, agreed=agreed))


def formed() -> Pairing:
    once = done(pairings.record_answer(proposed(), "senior", "accepted", None, MOMENT))
    return done(pairings.record_answer(once, "junior", "accepted", None, MOMENT))


def types(decision: pairings.Decision | None) -> list[str]:
    assert decision is not None
    return [
        "tombstone" if isinstance(event, Tombstone) else event.TYPE.removeprefix("mentoring.") for event in decision[1]
    ]


class TestPairingReservation:
    def test_publishes_nothing_until_proposed(self) -> None:
        begun = pairings.begin_reservation(None, plan("p", "s", "j"), MOMENT)
        assert types(begun) == []
        assert types(pairings.abandon_reservation(done(begun), 1, NOW)) == []
        assert types(pairings.propose_pairing(done(begun), receipt_for(done(begun)), MOMENT)) == [
            "pairing.proposed.v1",
            "pairing.state.v1",
        ]

    def test_retry_uses_the_next_attempt(self) -> None:
        given_up = done(
            pairings.abandon_reservation(done(pairings.begin_reservation(None, plan("p", "s", "j"), MOMENT)), 1, NOW)
        )
        again = done(pairings.begin_reservation(given_up, plan("p", "s", "j"), MOMENT))
        assert again.attempt == 2
        assert pairings.propose_pairing(again, receipt_for(given_up), MOMENT) is None, "the first attempt is outdated"
        assert pairings.abandon_reservation(again, 1, NOW) is None


def done_events(decision: pairings.Decision | None) -> list[OutgoingEvent]:
    assert decision is not None
    return list(decision[1])


class TestPairingAnswers:
    def test_two_acceptances_form_it_and_set_its_end(self) -> None:
        first = pairings.record_answer(proposed(), "senior", "accepted", None, MOMENT)
        assert types(first) == ["answer.given.v1"]
        second = pairings.record_answer(done(first), "junior", "accepted", None, MOMENT)
        assert types(second) == ["answer.given.v1", "pairing.formed.v1", "pairing.state.v1"]
        assert done(second).planned_end == date(2026, 9, 2)

    def test_refusal_and_expiry_look_alike_from_outside(self) -> None:
        refused = pairings.record_answer(proposed(), "junior", "declined", "no_time", MOMENT)
        assert types(refused) == ["answer.given.v1", "pairing.lapsed.v1", "pairing.state.v1"]
        late = proposed().answer_by
        assert late is not None
        expired = pairings.apply_deadline(proposed(), moment_at(late))
        assert types(expired) == ["pairing.lapsed.v1", "pairing.state.v1"]

        def shown(decision: pairings.Decision | None) -> set[str]:
            assert decision is not None
            [event] = [event for event in decision[1] if isinstance(event, PairingState)]
            return set(event.model_dump(exclude_none=True))

        assert shown(refused) == shown(expired)
        assert "no_time" not in str([event for event in done_events(refused) if not isinstance(event, AnswerGiven)])

    def test_acceptance_may_be_revoked_until_both_accepted(self) -> None:
        """The same answer again changes nothing."""
        once = done(pairings.record_answer(proposed(), "senior", "accepted", None, MOMENT))
        assert pairings.record_answer(once, "senior", "accepted", None, MOMENT) is None
        assert done(pairings.record_answer(once, "senior", "declined", None, MOMENT)).state == "lapsed"
        with pytest.raises(CommandRejected, match="no longer open"):
            pairings.record_answer(formed(), "senior", "declined", None, MOMENT)

    def test_late_answer_is_rejected_even_before_the_sweep(self) -> None:
        with pytest.raises(CommandRejected, match="time to answer is over"):
            pairings.record_answer(proposed(), "senior", "accepted", None, moment_at(NOW + timedelta(days=15)))

    def test_agreed_request_forms_it_at_once(self) -> None:
        begun = done(pairings.begin_reservation(None, plan("p", "s", "j"), MOMENT))
        assert types(pairings.propose_pairing(begun, receipt_for(begun), MOMENT, agreed=True)) == [
            "pairing.proposed.v1",
            "pairing.state.v1",
            "answer.given.v1",
            "answer.given.v1",
            "pairing.formed.v1",
            "pairing.state.v1",
        ]


class TestPairingCharter:
    def test_each_text_needs_both_signatures(self) -> None:
        drafted = done(pairings.sign_charter(formed(), "senior", CHARTER, MOMENT))
        assert (drafted.state, drafted.signed) == ("formed", ("senior",))
        other = PairingCharter(goals=("something else",))
        redrafted = done(pairings.sign_charter(drafted, "junior", other, MOMENT))
        assert redrafted.signed == ("junior",)
        agreed = pairings.sign_charter(redrafted, "senior", None, MOMENT)
        assert types(agreed) == ["pairing.chartered.v1", "pairing.state.v1"]
        with pytest.raises(CommandRejected, match="stays between the two"):
            pairings.sign_charter(formed(), "senior", PairingCharter(goals=("g",), confidential=False), MOMENT)
        with pytest.raises(CommandRejected, match="no draft"):
            pairings.sign_charter(formed(), "senior", None, MOMENT)


class TestPairingPause:
    def test_keeps_the_seats_and_moves_the_planned_end(self) -> None:
        paused = done(pairings.pause_pairing(formed(), None, MOMENT))
        assert paused.is_live
        later = NOW + timedelta(days=30)
        resumed = done(pairings.resume_pairing(paused, moment_at(later)))
        assert resumed.state == "formed"
        assert resumed.planned_end == date(2026, 10, 2)

    def test_pause_with_an_end_resumes_by_itself(self) -> None:
        paused = done(pairings.pause_pairing(formed(), date(2026, 3, 20), MOMENT))
        assert pairings.apply_deadline(paused, moment_at(NOW + timedelta(days=17))) is None
        assert types(pairings.apply_deadline(paused, moment_at(NOW + timedelta(days=18)))) == [
            "pairing.resumed.v1",
            "pairing.state.v1",
        ]
        with pytest.raises(CommandRejected, match="later day"):
            pairings.pause_pairing(formed(), NOW.date(), MOMENT)


class TestPairingRenewal:
    def test_needs_both_and_uses_the_shorter_wish(self) -> None:
        once = pairings.request_renewal(formed(), "senior", 6, MOMENT)
        assert types(once) == []
        both = pairings.request_renewal(done(once), "junior", 3, MOMENT)
        assert types(both) == ["pairing.renewed.v1", "pairing.state.v1"]
        assert done(both).planned_end == date(2026, 12, 2)
        assert done(both).renewals == 1


class TestPairingEnd:
    @pytest.mark.parametrize(
        ("met", "days", "kind"), [(True, 200, "completed"), (True, 30, "ended_early"), (False, 30, "not_started")]
    )
    def test_end_kind_is_a_fact_and_names_nobody(self, met: bool, days: int, kind: str) -> None:
        running = done(pairings.record_first_meeting(formed())) if met else formed()
        over = pairings.end_pairing(running, moment_at(NOW + timedelta(days=days)))
        assert done(over).end_kind == kind
        assert types(over) == ["pairing.ended.v1", "pairing.state.v1"]
        assert pairings.end_pairing(done(over), MOMENT) is None

    def test_planned_end_is_applied_by_the_clock(self) -> None:
        running = formed()
        assert running.planned_end == date(2026, 9, 2)
        assert running.due == datetime(2026, 9, 3, tzinfo=NOW.tzinfo), "the last day counts"
        assert running.due is not None
        assert done(pairings.apply_deadline(running, moment_at(running.due))).end_kind == "completed"


@st.composite
def placed_plans(draw: st.DrawFn) -> PairingPlan:
    """The plan of two people in any two time zones."""
    zones = {side: draw(st.sampled_from(sorted(available_timezones()))) for side in ("senior", "junior")}
    return plan("p", "s", "j").model_copy(update={"zones": zones})


def propose(of: PairingPlan, moment: Moment = MOMENT) -> pairings.Decision | None:
    begun = done(pairings.begin_reservation(None, of, moment))
    return pairings.propose_pairing(begun, receipt_for(begun), moment)


def form(of: PairingPlan, moment: Moment = MOMENT) -> Pairing:
    once = done(pairings.record_answer(done(propose(of, moment)), "senior", "accepted", None, moment))
    return done(pairings.record_answer(once, "junior", "accepted", None, moment))


class TestPairingDays:
    @given(placed_plans())
    def test_answer_by_and_planned_end_last_until_midnight(self, of: PairingPlan) -> None:
        proposal, running = done(propose(of)), form(of)
        assert proposal.answer_by is not None
        assert running.planned_end is not None
        assert running.due == end_of_day(running.planned_end, of.zones.values())
        assert any(is_end_of_day(proposal.answer_by, zone) for zone in of.zones.values())
        for zone in of.zones.values():
            assert proposal.answer_by >= end_of_working_day(NOW, of.answer_within_working_days, [zone])

    @given(placed_plans(), st.integers(2, 300))
    def test_pause_ends_when_its_day_begins_for_both(self, of: PairingPlan, days: int) -> None:
        until = NOW.date() + timedelta(days=days)
        paused = done(pairings.pause_pairing(form(of), until, MOMENT))
        assert paused.due == max(start_of_day(until, zone) for zone in of.zones.values())

    def test_weekend_and_holidays_are_the_programmes(self) -> None:
        usual = plan("p", "s", "j").model_copy(update={"answer_within_working_days": 4})
        gulf = usual.model_copy(update={"working_days": WorkingDays(weekend=(4, 5))})
        closed = usual.model_copy(update={"working_days": WorkingDays(holidays=(date(2026, 3, 3),))})
        assert [done(propose(of)).answer_by for of in (usual, gulf, closed)] == [
            datetime(2026, 3, day, tzinfo=UTC) for day in (7, 9, 10)
        ]

    def test_nobody_is_paired_after_the_programmes_last_day(self) -> None:
        ends = plan("p", "s", "j").model_copy(update={"ends": date(2026, 3, 5)})
        proposal, running = done(propose(ends)), form(ends)
        assert proposal.answer_by == datetime(2026, 3, 6, tzinfo=UTC)
        assert running.planned_end == date(2026, 3, 5)
        both = done(pairings.request_renewal(running, "senior", 3, MOMENT))
        assert done(pairings.request_renewal(both, "junior", 3, MOMENT)).planned_end == date(2026, 3, 5)
        assert propose(ends, moment_at(NOW + timedelta(days=4))) is None

    def test_documents_of_a_former_version_are_read(self) -> None:
        former = formed().model_dump(mode="json")
        for name in ("zones", "working_days", "ends"):
            del former["plan"][name]
        assert Pairing.model_validate(former) == formed()


class TestPairingErasure:
    def test_leaves_a_stub_without_content(self) -> None:
        chartered = done(
            pairings.sign_charter(
                done(pairings.sign_charter(formed(), "senior", CHARTER, MOMENT)), "junior", None, MOMENT
            )
        )
        decision = pairings.erase_member(chartered, "j", MOMENT)
        assert types(decision) == ["pairing.ended.v1", "tombstone"]
        stub = done(decision)
        text = stub.model_dump_json()
        assert '"j"' not in text
        assert "try one new tool" not in text
        assert isinstance(pairings.to_public_event(stub), Tombstone)
        assert pairings.erase_member(stub, "j", MOMENT) is None
        assert types(pairings.erase_member(stub, "s", MOMENT)) == ["tombstone"]

    def test_reservation_of_an_erased_member_never_restarts(self) -> None:
        begun = done(pairings.begin_reservation(None, plan("p", "s", "j"), MOMENT))
        decision = pairings.erase_member(begun, "s", MOMENT)
        assert types(decision) == [], "the proposal was never published, so no event withdraws it"
        assert pairings.begin_reservation(done(decision), plan("p", "s", "j"), MOMENT) is None


SIDES: st.SearchStrategy[Side] = st.sampled_from(["senior", "junior"])
COURSES: st.SearchStrategy[ConflictPolicy] = st.sampled_from(["flag", "end"])


class AnyLife(RuleBasedStateMachine):
    """Random transitions in any order. Only allowed states follow each other, and each event states the new state."""

    ALLOWED: ClassVar[dict[str | None, set[str]]] = {
        None: {"proposed"},
        "proposed": {"formed", "lapsed"},
        "formed": {"chartered", "paused", "ended", "formed"},
        "chartered": {"paused", "ended", "chartered"},
        "paused": {"formed", "chartered", "ended", "paused"},
        "lapsed": set(),
        "ended": set(),
    }

    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.pairing = done(pairings.begin_reservation(None, plan("p", "s", "j"), MOMENT))
        self.told: list[PairingEvent] = []
        self.apply(pairings.propose_pairing(self.pairing, receipt_for(self.pairing), MOMENT))

    def apply(self, decision: pairings.Decision | None) -> None:
        if decision is None:
            return
        self.pairing = decision[0]
        pairing_events = [event for event in decision[1] if isinstance(event, PairingEvent)]
        for event, state in zip(pairing_events[::2], pairing_events[1::2], strict=True):
            assert isinstance(state, PairingState)
            assert event.model_dump() == state.model_dump()
            assert event.state in self.ALLOWED[event.previous_state]
            self.told.append(event)

    def attempt(self, act: Any, *arguments: Any) -> None:
        before = self.pairing
        try:
            self.apply(act(self.pairing, *arguments, moment_at(self.now)))
        except CommandRejected:
            assert self.pairing == before

    @rule(hours=st.integers(1, 24 * 60))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        self.attempt(pairings.apply_deadline)

    @rule(side=SIDES, answer=st.sampled_from(["accepted", "accepted", "declined"]))
    def answer(self, side: Side, answer: str) -> None:
        self.attempt(pairings.record_answer, side, answer, None)

    @rule(side=SIDES, text=st.sampled_from([None, CHARTER]))
    def sign(self, side: Side, text: PairingCharter | None) -> None:
        self.attempt(pairings.sign_charter, side, text)

    @rule(days=st.one_of(st.none(), st.integers(-1, 40)))
    def pause(self, days: int | None) -> None:
        self.attempt(pairings.pause_pairing, None if days is None else self.now.date() + timedelta(days=days))

    @rule()
    def resume(self) -> None:
        self.attempt(pairings.resume_pairing)

    @rule(side=SIDES, months=st.integers(1, 6))
    def renew(self, side: Side, months: int) -> None:
        self.attempt(pairings.request_renewal, side, months)

    @rule(broken=st.sampled_from([(), ("same_manager",), ("same_manager", "evaluator")]), course=COURSES)
    def reorganised(self, broken: tuple[Rule, ...], course: ConflictPolicy) -> None:
        published_before = len(self.told)
        self.apply(pairings.update_conflict(self.pairing, broken, course, self.now))
        assert len(self.told) == published_before, "no event was published"

    @rule()
    def state_is_consistent(self) -> None:
        self.attempt(pairings.decide_conflict, "keep")

    @precondition(lambda self: len(self.told) > 3)
    @rule()
    def end(self) -> None:
        self.attempt(pairings.end_pairing)

    @invariant()
    def holds(self) -> None:
        pairing = self.pairing
        if pairing.state in ("lapsed", "ended"):
            assert pairing.due is None, "an ended pairing has no deadline"
            assert pairing.conflict is None
        elif pairing.conflict is not None and pairing.conflict.ends_at is not None:
            assert pairing.due is not None
            assert pairing.due <= pairing.conflict.ends_at
        if pairing.state in ("proposed", "formed", "chartered"):
            assert pairing.due is not None, "an open pairing has a deadline"
        if pairing.formed_at is not None:
            assert {answer.answer for answer in pairing.answers.values()} == {"accepted"}
            assert len(pairing.answers) == 2
        assert not any(isinstance(event, PairingEnded) for event in self.told[:-1]), "no event follows the end"


TestAnyLife = AnyLife.TestCase


class TestPairingSides:
    @given(SIDES)
    def test_side_of_each_member(self, side: Side) -> None:
        pairing = formed()
        assert pairing.side_of({"senior": "s", "junior": "j"}[side]) == side
        assert pairing.side_of("somebody else") is None
        assert pairing.side_of(None) is None
