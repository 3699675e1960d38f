"""The life of a pairing, step by step, and any sequence of steps."""

from datetime import date, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.envelope import OutgoingEvent, Tombstone
from contracts.errors import CommandRejected
from contracts.pairings import AnswerGiven, PairingEnded, PairingEvent, PairingState
from contracts.profiles import Side
from services.matcher.domain.fit.rules import Rule
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.conflict import Course
from services.matcher.domain.pairings.pairing import Charter, Pairing
from tests.matcher.builders import MOMENT, NOW, moment_at
from tests.matcher.domain.test_seat_ledger import plan, receipt_for

CHARTER = Charter(goals=("try one new tool a month",), meeting_rhythm="monthly")


def done(decision: pairings.Decision | None) -> Pairing:
    assert decision is not None
    return decision[0]


def proposed(*, agreed: bool = False) -> Pairing:
    begun = done(pairings.begin(None, plan("p", "s", "j"), MOMENT))
    return done(pairings.propose(begun, receipt_for(begun), MOMENT, agreed=agreed))


def formed() -> Pairing:
    once = done(pairings.answer(proposed(), "senior", "accepted", None, MOMENT))
    return done(pairings.answer(once, "junior", "accepted", None, MOMENT))


def types(decision: pairings.Decision | None) -> list[str]:
    assert decision is not None
    return [
        "tombstone" if isinstance(event, Tombstone) else event.TYPE.removeprefix("mentoring.") for event in decision[1]
    ]


def test_a_reservation_is_seen_by_nobody_until_it_is_proposed() -> None:
    begun = pairings.begin(None, plan("p", "s", "j"), MOMENT)
    assert types(begun) == []
    assert types(pairings.abandon(done(begun), 1, NOW)) == []
    assert types(pairings.propose(done(begun), receipt_for(done(begun)), MOMENT)) == [
        "pairing.proposed.v1",
        "pairing.state.v1",
    ]


def test_a_reservation_that_was_given_up_is_begun_again_under_the_next_attempt() -> None:
    given_up = done(pairings.abandon(done(pairings.begin(None, plan("p", "s", "j"), MOMENT)), 1, NOW))
    again = done(pairings.begin(given_up, plan("p", "s", "j"), MOMENT))
    assert again.attempt == 2
    assert pairings.propose(again, receipt_for(given_up), MOMENT) is None, "the first attempt comes too late"
    assert pairings.abandon(again, 1, NOW) is None


def test_both_yes_form_it_and_set_its_end() -> None:
    first = pairings.answer(proposed(), "senior", "accepted", None, MOMENT)
    assert types(first) == ["answer.given.v1"]
    second = pairings.answer(done(first), "junior", "accepted", None, MOMENT)
    assert types(second) == ["answer.given.v1", "pairing.formed.v1", "pairing.state.v1"]
    assert done(second).planned_end == date(2026, 9, 2)


def test_a_no_and_an_expiry_look_alike_from_outside() -> None:
    refused = pairings.answer(proposed(), "junior", "declined", "no_time", MOMENT)
    assert types(refused) == ["answer.given.v1", "pairing.lapsed.v1", "pairing.state.v1"]
    late = proposed().answer_by
    assert late is not None
    expired = pairings.due(proposed(), moment_at(late))
    assert types(expired) == ["pairing.lapsed.v1", "pairing.state.v1"]

    def shown(decision: pairings.Decision | None) -> set[str]:
        assert decision is not None
        [event] = [event for event in decision[1] if isinstance(event, PairingState)]
        return set(event.model_dump(exclude_none=True))

    assert shown(refused) == shown(expired)
    assert "no_time" not in str([event for event in done_events(refused) if not isinstance(event, AnswerGiven)])


def done_events(decision: pairings.Decision | None) -> list[OutgoingEvent]:
    assert decision is not None
    return list(decision[1])


def test_a_yes_may_become_a_no_until_both_said_yes_and_an_answer_again_changes_nothing() -> None:
    once = done(pairings.answer(proposed(), "senior", "accepted", None, MOMENT))
    assert pairings.answer(once, "senior", "accepted", None, MOMENT) is None
    assert done(pairings.answer(once, "senior", "declined", None, MOMENT)).state == "lapsed"
    with pytest.raises(CommandRejected, match="no longer open"):
        pairings.answer(formed(), "senior", "declined", None, MOMENT)


def test_after_the_deadline_no_answer_counts_even_before_the_sweep_came() -> None:
    with pytest.raises(CommandRejected, match="time to answer is over"):
        pairings.answer(proposed(), "senior", "accepted", None, moment_at(NOW + timedelta(days=15)))


def test_a_request_and_its_acceptance_form_it_at_once() -> None:
    begun = done(pairings.begin(None, plan("p", "s", "j"), MOMENT))
    assert types(pairings.propose(begun, receipt_for(begun), MOMENT, agreed=True)) == [
        "pairing.proposed.v1",
        "pairing.state.v1",
        "answer.given.v1",
        "answer.given.v1",
        "pairing.formed.v1",
        "pairing.state.v1",
    ]


def test_a_charter_needs_both_and_another_text_needs_both_again() -> None:
    drafted = done(pairings.sign(formed(), "senior", CHARTER, MOMENT))
    assert (drafted.state, drafted.signed) == ("formed", ("senior",))
    other = Charter(goals=("something else",))
    redrafted = done(pairings.sign(drafted, "junior", other, MOMENT))
    assert redrafted.signed == ("junior",)
    agreed = pairings.sign(redrafted, "senior", None, MOMENT)
    assert types(agreed) == ["pairing.chartered.v1", "pairing.state.v1"]
    with pytest.raises(CommandRejected, match="stays between the two"):
        pairings.sign(formed(), "senior", Charter(goals=("g",), confidential=False), MOMENT)
    with pytest.raises(CommandRejected, match="no draft"):
        pairings.sign(formed(), "senior", None, MOMENT)


def test_a_pause_keeps_the_seats_and_moves_the_planned_end() -> None:
    paused = done(pairings.pause(formed(), None, MOMENT))
    assert paused.live
    later = NOW + timedelta(days=30)
    resumed = done(pairings.resume(paused, moment_at(later)))
    assert resumed.state == "formed"
    assert resumed.planned_end == date(2026, 10, 2)


def test_a_pause_with_an_end_goes_on_by_itself() -> None:
    paused = done(pairings.pause(formed(), date(2026, 3, 20), MOMENT))
    assert pairings.due(paused, moment_at(NOW + timedelta(days=17))) is None
    assert types(pairings.due(paused, moment_at(NOW + timedelta(days=18)))) == [
        "pairing.resumed.v1",
        "pairing.state.v1",
    ]
    with pytest.raises(CommandRejected, match="later day"):
        pairings.pause(formed(), NOW.date(), MOMENT)


def test_a_renewal_needs_both_and_the_shorter_wish_counts() -> None:
    once = pairings.renew(formed(), "senior", 6, MOMENT)
    assert types(once) == []
    both = pairings.renew(done(once), "junior", 3, MOMENT)
    assert types(both) == ["pairing.renewed.v1", "pairing.state.v1"]
    assert done(both).planned_end == date(2026, 12, 2)
    assert done(both).renewals == 1


@pytest.mark.parametrize(
    ("met", "days", "kind"), [(True, 200, "completed"), (True, 30, "ended_early"), (False, 30, "not_started")]
)
def test_how_it_ended_is_a_fact_and_names_nobody(met: bool, days: int, kind: str) -> None:
    running = done(pairings.have_met(formed())) if met else formed()
    over = pairings.end(running, moment_at(NOW + timedelta(days=days)))
    assert done(over).end_kind == kind
    assert types(over) == ["pairing.ended.v1", "pairing.state.v1"]
    assert pairings.end(done(over), MOMENT) is None


def test_the_planned_end_comes_by_the_clock() -> None:
    running = formed()
    assert running.due == datetime(2026, 9, 2, tzinfo=NOW.tzinfo)
    assert running.due is not None
    assert done(pairings.due(running, moment_at(running.due))).end_kind == "completed"


def test_who_is_forgotten_leaves_a_stub_that_says_nothing() -> None:
    chartered = done(pairings.sign(done(pairings.sign(formed(), "senior", CHARTER, MOMENT)), "junior", None, MOMENT))
    decision = pairings.forget(chartered, "j", MOMENT)
    assert types(decision) == ["pairing.ended.v1", "tombstone"]
    stub = done(decision)
    text = stub.model_dump_json()
    assert '"j"' not in text
    assert "try one new tool" not in text
    assert isinstance(pairings.public(stub), Tombstone)
    assert pairings.forget(stub, "j", MOMENT) is None
    assert types(pairings.forget(stub, "s", MOMENT)) == ["tombstone"]


def test_a_reservation_with_who_is_forgotten_is_never_begun_again() -> None:
    begun = done(pairings.begin(None, plan("p", "s", "j"), MOMENT))
    decision = pairings.forget(begun, "s", MOMENT)
    assert types(decision) == [], "it was never said, so there is nothing to take back"
    assert pairings.begin(done(decision), plan("p", "s", "j"), MOMENT) is None


SIDES: st.SearchStrategy[Side] = st.sampled_from(["senior", "junior"])
COURSES: st.SearchStrategy[Course] = st.sampled_from(["flag", "end"])


class AnyLife(RuleBasedStateMachine):
    """Any steps in any order: states follow each other as they may, and each event tells the state it leads to."""

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
        self.pairing = done(pairings.begin(None, plan("p", "s", "j"), MOMENT))
        self.told: list[PairingEvent] = []
        self.apply(pairings.propose(self.pairing, receipt_for(self.pairing), MOMENT))

    def apply(self, decision: pairings.Decision | None) -> None:
        if decision is None:
            return
        self.pairing = decision[0]
        told = [event for event in decision[1] if isinstance(event, PairingEvent)]
        for event, state in zip(told[::2], told[1::2], strict=True):
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
        self.attempt(pairings.due)

    @rule(side=SIDES, answer=st.sampled_from(["accepted", "accepted", "declined"]))
    def answer(self, side: Side, answer: str) -> None:
        self.attempt(pairings.answer, side, answer, None)

    @rule(side=SIDES, text=st.sampled_from([None, CHARTER]))
    def sign(self, side: Side, text: Charter | None) -> None:
        self.attempt(pairings.sign, side, text)

    @rule(days=st.one_of(st.none(), st.integers(-1, 40)))
    def pause(self, days: int | None) -> None:
        self.attempt(pairings.pause, None if days is None else self.now.date() + timedelta(days=days))

    @rule()
    def resume(self) -> None:
        self.attempt(pairings.resume)

    @rule(side=SIDES, months=st.integers(1, 6))
    def renew(self, side: Side, months: int) -> None:
        self.attempt(pairings.renew, side, months)

    @rule(broken=st.sampled_from([(), ("same_manager",), ("same_manager", "evaluator")]), course=COURSES)
    def reorganised(self, broken: tuple[Rule, ...], course: Course) -> None:
        told = len(self.told)
        self.apply(pairings.look_again(self.pairing, broken, course, self.now))
        assert len(self.told) == told, "nothing tells of it"

    @rule()
    def kept(self) -> None:
        self.attempt(pairings.decide_conflict, "keep")

    @precondition(lambda self: len(self.told) > 3)
    @rule()
    def end(self) -> None:
        self.attempt(pairings.end)

    @invariant()
    def holds(self) -> None:
        pairing = self.pairing
        if pairing.state in ("lapsed", "ended"):
            assert pairing.due is None, "what is over waits for nothing"
            assert pairing.conflict is None
        elif pairing.conflict is not None and pairing.conflict.ends_at is not None:
            assert pairing.due is not None
            assert pairing.due <= pairing.conflict.ends_at
        if pairing.state in ("proposed", "formed", "chartered"):
            assert pairing.due is not None, "the clock brings the next step"
        if pairing.formed_at is not None:
            assert {answer.answer for answer in pairing.answers.values()} == {"accepted"}
            assert len(pairing.answers) == 2
        assert not any(isinstance(event, PairingEnded) for event in self.told[:-1]), "an end is the end"


TestAnyLife = AnyLife.TestCase


@given(SIDES)
def test_each_side_is_found_by_its_member(side: Side) -> None:
    pairing = formed()
    assert pairing.side_of({"senior": "s", "junior": "j"}[side]) == side
    assert pairing.side_of("somebody else") is None
    assert pairing.side_of(None) is None
