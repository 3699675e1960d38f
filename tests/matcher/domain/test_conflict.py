"""Conflicts after a change of the organisation: how they are recorded, disappear, and end a pairing."""

from datetime import date, timedelta

import pytest

from contracts.errors import CommandRejected
from services.matcher.domain.fit.hard_rules import Rule
from services.matcher.domain.pairings import conflict as conflicts
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.conflict import CONFLICT_GRACE, StructuralConflict, find_structural_conflicts
from services.matcher.domain.pairings.pairing import Pairing
from tests.matcher.builders import MOMENT, NOW, TODAY, member, moment_at, person, settings, weekly
from tests.matcher.domain.test_pairing import done, formed, proposed, types
from tests.matcher.domain.test_seat_ledger import plan, receipt_for

MANAGER: tuple[Rule, ...] = ("same_manager",)
JUDGE: tuple[Rule, ...] = ("evaluator",)
LATER = NOW + timedelta(days=3)


def flagged(pairing: Pairing | None = None, course: conflicts.ConflictPolicy = "flag") -> Pairing:
    return done(pairings.update_conflict(pairing or formed(), MANAGER, course, NOW))


class TestConflictStructuralRules:
    def test_only_structural_rules_make_a_conflict(self) -> None:
        senior = person("s", level=3, languages=("fr",), avoid=("j",), availability=weekly((0, 0, 60)), time_zone="UTC")
        junior = person(
            "j", "junior", line=("s", "boss"), languages=("de",), availability=weekly((1, 0, 60)), time_zone="UTC"
        )
        assert find_structural_conflicts(member(senior), member(junior), settings(), TODAY) == ("reporting_line",)
        elsewhere = junior.model_copy(update={"organisation_id": "daughter", "evaluators": ("s",)})
        conflict = find_structural_conflicts(
            member(senior), member(elsewhere), settings(rules__cross_organisation=True), TODAY
        )
        assert conflict == ("reporting_line", "evaluator", "not_acknowledged")


class TestConflictDecision:
    def test_decision_stands_until_another_rule_is_broken(self) -> None:
        decided = done(pairings.decide_conflict(flagged(), "keep", moment_at(LATER)))
        assert decided.conflict == StructuralConflict(rules=MANAGER, since=NOW, kept=True)
        assert pairings.decide_conflict(decided, "keep", moment_at(LATER)) is None
        assert pairings.update_conflict(decided, MANAGER, "end", LATER) is None
        again = done(pairings.update_conflict(decided, (*MANAGER, *JUDGE), "flag", LATER)).conflict
        assert again is not None
        assert not again.kept
        cleared = done(pairings.update_conflict(decided, (), "flag", LATER))
        assert done(pairings.update_conflict(cleared, MANAGER, "flag", LATER)).conflict == StructuralConflict(
            rules=MANAGER, since=LATER
        )

    def test_decided_end_equals_an_ordinary_end(self) -> None:
        ended = pairings.decide_conflict(flagged(), "end", moment_at(LATER))
        plain = pairings.end_pairing(formed(), moment_at(LATER))
        assert ended == plain
        lapsed = pairings.decide_conflict(flagged(proposed()), "end", moment_at(LATER))
        assert types(lapsed) == ["pairing.lapsed.v1", "pairing.state.v1"]
        for over in (done(ended), done(lapsed)):
            assert over.conflict is None
            assert pairings.update_conflict(over, MANAGER, "end", LATER) is None
            with pytest.raises(CommandRejected, match="no rule"):
                pairings.decide_conflict(over, "end", moment_at(LATER))
        with pytest.raises(CommandRejected, match="no rule"):
            pairings.decide_conflict(formed(), "keep", moment_at(LATER))


class TestConflictAutomaticEnd:
    def test_ends_after_the_grace_unless_a_person_keeps_it(self) -> None:
        """Only where the programme's policy is "end"."""
        ending = flagged(course="end")
        assert ending.conflict is not None
        assert ending.conflict.ends_at == ending.due == NOW + CONFLICT_GRACE
        assert pairings.apply_deadline(ending, moment_at(NOW + CONFLICT_GRACE - timedelta(seconds=1))) is None
        assert types(pairings.apply_deadline(ending, moment_at(NOW + CONFLICT_GRACE))) == [
            "pairing.ended.v1",
            "pairing.state.v1",
        ]
        for spared in (
            pairings.decide_conflict(ending, "keep", MOMENT),
            pairings.update_conflict(ending, (), "end", NOW),
            pairings.update_conflict(ending, MANAGER, "flag", NOW),
        ):
            assert done(spared).due == formed().due
            assert pairings.apply_deadline(done(spared), moment_at(NOW + CONFLICT_GRACE)) is None
        more = done(pairings.update_conflict(ending, (*MANAGER, *JUDGE), "end", NOW + CONFLICT_GRACE / 2))
        assert more.due == ending.due, "another broken rule does not delay the end"

    def test_pause_keeps_its_own_end_beside_the_conflict(self) -> None:
        paused = done(pairings.pause_pairing(formed(), date(2026, 3, 20), MOMENT))
        ending = flagged(paused, "end")
        assert ending.due == NOW + CONFLICT_GRACE
        assert done(pairings.update_conflict(ending, (), "end", NOW)).due == paused.due
        resumed = done(pairings.resume_pairing(ending, moment_at(NOW + timedelta(hours=1))))
        assert resumed.due == NOW + CONFLICT_GRACE


class TestConflictRecording:
    def test_conflict_is_recorded_once_without_an_event(self) -> None:
        noted = pairings.update_conflict(formed(), MANAGER, "flag", NOW)
        assert types(noted) == []
        assert done(noted).conflict == StructuralConflict(rules=MANAGER, since=NOW)
        assert done(noted).state == "formed"
        assert pairings.update_conflict(done(noted), MANAGER, "flag", LATER) is None

    def test_resolved_rules_clear_it_and_new_rules_ask_anew(self) -> None:
        assert done(pairings.update_conflict(flagged(), (), "flag", LATER)).conflict is None
        more = done(pairings.update_conflict(flagged(), (*MANAGER, *JUDGE), "flag", LATER)).conflict
        assert more == StructuralConflict(rules=(*MANAGER, *JUDGE), since=LATER)
        assert conflicts.update_conflict(more, JUDGE, "flag", NOW) == StructuralConflict(rules=JUDGE, since=LATER)

    def test_reservation_with_a_conflict_is_not_proposed(self) -> None:
        begun = done(pairings.begin_reservation(None, plan("p", "s", "j"), MOMENT))
        overtaken = done(pairings.update_conflict(begun, MANAGER, "flag", NOW))
        assert overtaken.due is None
        assert pairings.propose_pairing(overtaken, receipt_for(begun), MOMENT) is None
        given_up = done(pairings.abandon_reservation(overtaken, 1, NOW))
        assert done(pairings.begin_reservation(given_up, plan("p", "s", "j"), MOMENT)).conflict is None

    def test_erasure_of_a_member_clears_it(self) -> None:
        assert done(pairings.erase_member(flagged(), "s", MOMENT)).conflict is None
