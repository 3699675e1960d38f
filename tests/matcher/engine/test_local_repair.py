"""Repair of a result after a manual change: local, within all rules, and completely reversible."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from benchmarks import cohort
from contracts.errors import CommandRejected
from contracts.profiles import ProfileChanged
from contracts.programmes import Draw, Fairness, ProgrammeSettings
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.score import compute_fit
from services.matcher.domain.rounds.adjustment import (
    Adjustment,
    AdjustmentEffect,
    Pair,
    append_adjustment,
    apply_effects,
    remove_adjustment,
)
from services.matcher.engine.local_repair import LocalRepair, StandingPairs
from services.matcher.engine.solve import MatchingProblem, solve
from tests.matcher.builders import PROGRAMME, TAXONOMY, TODAY, any_settings, cohorts, person, settings

Cohort = tuple[list[ProfileChanged], list[ProfileChanged]]


def _for_the_best_total() -> ProgrammeSettings:
    """Settings without features that reduce the total. With them a manual change can only lower it."""
    plain = cohort.settings()
    unmoved = {"fairness": Fairness(max_cost=0.0), "draw": Draw(tolerance=0.0)}
    return plain.model_copy(update={"matching": plain.matching.model_copy(update=unmoved)})


BEST_TOTAL = _for_the_best_total()


def question(people: list[ProfileChanged], with_settings: ProgrammeSettings | None = None) -> MatchingProblem:
    seats = {item.member_id: item.enrolments[-1].capacity for item in people}
    return MatchingProblem(PROGRAMME, with_settings or settings(), people, seats, (), TODAY, 0)


def solved(problem: MatchingProblem) -> StandingPairs:
    answer = solve(problem, TAXONOMY)
    seniors = {item.senior.id: item.senior for item in answer.matches}
    juniors = {item.junior.id: item.junior for item in answer.matches}
    for left in answer.unmatched:
        (seniors if left.side == "senior" else juniors)[left.member.id] = left.member
    return StandingPairs(
        seniors, juniors, {(item.senior.id, item.junior.id): item.fit.score for item in answer.matches}
    )


def lock(*pair: str) -> Adjustment:
    return Adjustment(adjustment_id="-".join(("lock", *pair)), kind="lock", pairs=(pair,))  # type: ignore[arg-type]


def forbid(*pair: str) -> Adjustment:
    return Adjustment(adjustment_id="-".join(("forbid", *pair)), kind="forbid", pairs=(pair,))  # type: ignore[arg-type]


def repaired(problem: MatchingProblem, *adjustments: Adjustment) -> tuple[Mapping[Pair, float], list[AdjustmentEffect]]:
    repairs = LocalRepair(problem, solved(problem), TAXONOMY)
    effects = [repairs.apply(item) for item in adjustments]
    return repairs.pairs, effects


class TestLocalRepair:
    @run_with(max_examples=60)
    @given(cohorts(most=4), any_settings(), st.data())
    def test_rules_capacities_and_locked_pairs_hold(
        self, cohort: Cohort, rules_: ProgrammeSettings, data: st.DataObject
    ) -> None:
        assume(cohort[0] and cohort[1])
        problem = question([*cohort[0], *cohort[1]], rules_)
        start = solved(problem)
        drawn = st.tuples(
            st.sampled_from([item.member_id for item in cohort[0]]),
            st.sampled_from([item.member_id for item in cohort[1]]),
        )
        expected = [
            data.draw(st.sampled_from((lock, forbid)))(*pair)
            for pair in data.draw(st.lists(drawn, unique=True, max_size=4))
        ]
        pairs, effects = repaired(problem, *expected)
        taken = Counter(member for pair in pairs for member in pair)
        assert all(taken[member] <= problem.free_seats[member] for member in taken)
        for senior, junior in pairs:
            s, j = start.seniors[senior], start.juniors[junior]
            assert hard_rules.find_broken_rules(s, j, rules_, TODAY) == ()
            assert compute_fit(s, j, rules_, TAXONOMY, TODAY).find_shortfalls(rules_) == ()
            assert pairs[senior, junior] == pytest.approx(compute_fit(s, j, rules_, TAXONOMY, TODAY).score, abs=1e-6)
        for item, effect in zip(expected, effects, strict=True):
            if item.is_wanted:
                assert effect.kept == (item.pairs[0] in pairs)
            else:
                assert effect.kept
                assert item.pairs[0] not in pairs
        total = sum(start.pairs.values())
        assert sum(pairs.values()) == pytest.approx(total - sum(effect.cost for effect in effects), abs=1e-4)

    def test_private_wish_changes_no_repair(self) -> None:
        people = [person("s"), person("t"), person("j", "junior"), person("k", "junior")]
        wish = [*people[:2], person("j", "junior", avoid=("s",)), people[3]]
        for made in (lock("s", "j"), lock("t", "j"), forbid("t", "j")):
            assert repaired(question(wish), made) == repaired(question(people), made)

    def test_cost_is_the_loss_and_nobody_else_moves(self) -> None:
        people = cohort.cohort(400, seed=3)
        problem = cohort.question(people, BEST_TOTAL)
        start = solved(problem)
        (senior, junior), *_ = start.pairs
        pairs, [effect] = repaired(problem, forbid(senior, junior))
        assert effect.cost == pytest.approx(sum(start.pairs.values()) - sum(pairs.values()), abs=1e-6)
        assert effect.cost > -1e-6
        assert len(start.pairs.keys() - pairs.keys()) < len(start.pairs) / 10

    def test_repair_is_nearly_as_good_as_solving_again(self) -> None:
        people = cohort.cohort(600, seed=5)
        problem = cohort.question(people, BEST_TOTAL)
        start = solved(problem)
        ordered = sorted(start.pairs)
        expected = [forbid(*pair) for pair in ordered[:3]]
        pairs, effects = repaired(problem, *expected)
        assert all(effect.kept for effect in effects)
        apart = [item.pairs[0] for item in expected]
        again = solve(replace(problem, forbidden_pairs=apart), TAXONOMY)
        assert sum(pairs.values()) >= 0.999 * again.total_fit

    def test_contradictions_are_refused_and_undone_ones_vanish(self) -> None:
        existing = append_adjustment((), lock("s", "j"))
        with pytest.raises(CommandRejected, match="held together already"):
            append_adjustment(existing, forbid("s", "j"))
        assert remove_adjustment(existing, "lock-s-j") == ()
        in_force = apply_effects(existing, [AdjustmentEffect(adjustment_id="lock-s-j", kept=True, cost=0.1)])
        assert (in_force[0].state, in_force[0].kept, in_force[0].cost) == ("in_force", True, 0.1)
        leaving = remove_adjustment(in_force, "lock-s-j")
        assert leaving[0].state == "undone"
        assert append_adjustment(leaving, forbid("s", "j"))[-1].kind == "forbid"
        assert apply_effects(leaving, []) == ()
