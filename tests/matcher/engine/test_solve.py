"""The result of a round: the best total within rules and capacities, and a true reason for each unmatched member."""

import os
import subprocess
import sys
from contextlib import nullcontext
from datetime import date
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from contracts.profiles import ProfileChanged
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.score import compute_fit
from services.matcher.engine.assignment import assign, split_sides
from services.matcher.engine.candidates import Edges
from services.matcher.engine.solve import MatchingProblem, MatchingResult, solve
from services.matcher.engine.vectorised_fit import CohortFit
from tests.matcher.builders import PROGRAMME, TAXONOMY, TODAY, any_settings, cohorts, member, person, settings
from tests.matcher.large_company import large_round

Cohort = tuple[list[ProfileChanged], list[ProfileChanged]]

FEWER = run_with(max_examples=40)  # each example solves whole rounds


def question(
    people: list[ProfileChanged],
    with_settings: ProgrammeSettings | None = None,
    *,
    seats: dict[str, int] | None = None,
    earlier: list[tuple[str, str]] | None = None,
    seed: int = 0,
    on: date = TODAY,
) -> MatchingProblem:
    existing = {item.member_id: item.enrolments[-1].capacity for item in people}
    return MatchingProblem(PROGRAMME, with_settings or settings(), people, seats or existing, earlier or [], on, seed)


def pairs_of(answer: MatchingResult) -> list[tuple[str, str]]:
    return sorted((match.senior.id, match.junior.id) for match in answer.matches)


def best_by_force(seniors: list[int], juniors: list[int], edges: list[tuple[int, int, float]]) -> float:
    """The best total over all subsets of the candidates that exceed no member's capacity."""
    best = 0.0
    for count in range(len(edges) + 1):
        for chosen in combinations(edges, count):
            used_s = [sum(s == n for s, _, _ in chosen) for n in range(len(seniors))]
            used_j = [sum(j == n for _, j, _ in chosen) for n in range(len(juniors))]
            if all(u <= c for u, c in zip(used_s + used_j, seniors + juniors, strict=True)):
                best = max(best, sum(score for _, _, score in chosen))
    return best


class TestReasons:
    @FEWER
    @given(cohorts(most=4), any_settings(), st.booleans())
    def test_every_reason_is_true(self, cohort: Cohort, rules_: ProgrammeSettings, large: bool) -> None:
        people = [*cohort[0], *cohort[1]]
        with large_round() if large else nullcontext():
            answer = solve(question(people, rules_), TAXONOMY)
        assume(cohort[0] and cohort[1])
        for left in answer.unmatched:
            others = [member(item) for item in cohort[1 if left.side == "senior" else 0]]
            couples = [(left.member, item) if left.side == "senior" else (item, left.member) for item in others]
            possible = [
                couple
                for couple in couples
                if not hard_rules.find_broken_rules(*couple, rules_, TODAY)
                and not compute_fit(*couple, rules_, TAXONOMY, TODAY).find_shortfalls(rules_)
            ]
            assert (left.code == "places_taken") == bool(possible)

    @pytest.mark.parametrize(
        ("senior", "junior", "code"),
        [
            ({"level": 5}, {}, "level_gap"),
            ({"offers": {"french": "teach"}}, {}, "nothing_to_give"),
            ({"seeks": {"french": 3}}, {}, "nothing_to_learn"),
            ({"languages": ("de",)}, {"languages": ("fr",)}, "no_common_language"),
        ],
    )
    def test_unmatched_senior_learns_the_rule(
        self, senior: dict[str, object], junior: dict[str, object], code: str
    ) -> None:
        people = [person("s", **senior), person("j", "junior", **junior)]  # type: ignore[arg-type]
        answer = solve(question(people), TAXONOMY)
        assert {left.member.id: left.code for left in answer.unmatched}["s"] == code
        assert answer.empty_reason is not None

    def test_round_without_one_side_gives_its_reason(self) -> None:
        assert solve(question([]), TAXONOMY).empty_reason == "Nobody is ready and has a place free."
        alone = solve(question([person("s")]), TAXONOMY)
        assert alone.empty_reason == "There is no junior who is ready and has a place free."
        assert [left.code for left in alone.unmatched] == ["nobody_on_the_other_side"]
        full = solve(question([person("s"), person("j", "junior")], seats={"s": 0, "j": 1}), TAXONOMY)
        assert full.matches == ()


CANDIDATES = """
from benchmarks.cohort import cohort, question
from contracts.taxonomy import load
from services.matcher.engine.candidates import find_candidates, scan_if_large
from services.matcher.engine.vectorised_fit import CohortFit
from services.matcher.engine.solve import eligible_sides
asked = question(cohort(8000))
pairs = CohortFit(*eligible_sides(asked), asked.settings, load(), asked.on, ())
edges = find_candidates(pairs, scan_if_large(pairs))
print(len(edges), (edges.seniors * pairs.shape[1] + edges.juniors).sum(), edges.scores.sum())
"""


class TestSolve:
    @FEWER
    @given(cohorts(most=4), any_settings(), st.booleans())
    def test_vectorised_fit_equals_the_scalar_fit(self, cohort: Cohort, rules_: ProgrammeSettings, again: bool) -> None:
        seniors, juniors = [member(item) for item in cohort[0]], [member(item) for item in cohort[1]]
        assume(seniors and juniors)
        earlier = [(juniors[0].id, seniors[0].id)] if again else []
        pairs = CohortFit(seniors, juniors, rules_, TAXONOMY, TODAY, earlier)
        block = pairs.evaluate_block(np.arange(len(seniors)), np.arange(len(juniors)))
        for s, senior in enumerate(seniors):
            for j, junior in enumerate(juniors):
                existing = [junior.id] if again and s == j == 0 else []
                scalar = compute_fit(senior, junior, rules_, TAXONOMY, TODAY)
                assert {rule for rule, mask in block.broken.items() if mask[s, j]} == set(
                    hard_rules.find_broken_rules(senior, junior, rules_, TODAY, existing)
                )
                assert {short for short, mask in block.short.items() if mask[s, j]} == set(
                    scalar.find_shortfalls(rules_)
                )
                assert block.score[s, j] == pytest.approx(scalar.score, abs=1e-6)
                assert block.senior_benefit[s, j] == pytest.approx(scalar.senior_benefit, abs=1e-6)
                assert block.junior_benefit[s, j] == pytest.approx(scalar.junior_benefit, abs=1e-6)
                assert block.compatibility[s, j] == pytest.approx(scalar.compatibility, abs=1e-6)
                assert block.perspective[s, j] == pytest.approx(scalar.perspective, abs=1e-6)

    @given(
        st.lists(st.integers(0, 2), min_size=1, max_size=4),
        st.lists(st.integers(0, 2), min_size=1, max_size=4),
        st.data(),
    )
    def test_assignment_is_optimal(self, seniors: list[int], juniors: list[int], data: st.DataObject) -> None:
        every = [(s, j) for s in range(len(seniors)) for j in range(len(juniors))]
        selection = data.draw(st.lists(st.sampled_from(every), unique=True, max_size=9))
        edges = [(s, j, data.draw(st.integers(1, 1000)) / 1000) for s, j in sorted(selection)]
        arrays = Edges(
            np.array([s for s, _, _ in edges], np.int64),
            np.array([j for _, j, _ in edges], np.int64),
            np.array([score for _, _, score in edges]),
        )
        chosen = [edges[n] for n in assign(seniors, juniors, arrays, seed=7)]
        for n, seats in enumerate(seniors):
            assert sum(s == n for s, _, _ in chosen) <= seats
        for n, seats in enumerate(juniors):
            assert sum(j == n for _, j, _ in chosen) <= seats
        assert sum(score for _, _, score in chosen) == pytest.approx(best_by_force(seniors, juniors, edges), abs=1e-4)

    @FEWER
    @given(cohorts(), any_settings(), st.integers(0, 5), st.booleans())
    def test_rules_floors_and_capacities_hold(
        self, cohort: Cohort, rules_: ProgrammeSettings, seed: int, large: bool
    ) -> None:
        people = [*cohort[0], *cohort[1]]
        with large_round() if large else nullcontext():
            answer = solve(question(people, rules_, seed=seed), TAXONOMY)
        taken: dict[str, int] = {}
        for match in answer.matches:
            assert hard_rules.find_broken_rules(match.senior, match.junior, rules_, TODAY) == ()
            assert match.fit.find_shortfalls(rules_) == ()
            for id in (match.senior.id, match.junior.id):
                taken[id] = taken.get(id, 0) + 1
        assert all(taken.get(item.member_id, 0) <= item.enrolments[0].capacity for item in people)
        assert {left.member.id for left in answer.unmatched} == {item.member_id for item in people} - taken.keys()

    @FEWER
    @given(cohorts(), any_settings(), st.randoms(use_true_random=False), st.integers(0, 3))
    def test_order_of_members_changes_nothing(
        self, cohort: Cohort, rules_: ProgrammeSettings, shuffle: object, seed: int
    ) -> None:
        people = [*cohort[0], *cohort[1]]
        first = solve(question(people, rules_, seed=seed), TAXONOMY)
        shuffle.shuffle(people)  # type: ignore[attr-defined]
        second = solve(question(people, rules_, seed=seed), TAXONOMY)
        assert pairs_of(first) == pairs_of(second)
        assert sorted((left.member.id, left.text) for left in first.unmatched) == sorted(
            (left.member.id, left.text) for left in second.unmatched
        )

    @FEWER
    @given(cohorts(), any_settings())
    def test_one_more_candidate_never_lowers_the_total(self, cohort: Cohort, rules_: ProgrammeSettings) -> None:
        people = [*cohort[0], *cohort[1]]
        before = solve(question(people, rules_), TAXONOMY).optimal_fit
        assert solve(question([*people, person("newcomer", "junior")], rules_), TAXONOMY).optimal_fit >= before - 1e-4

    def test_earlier_partners_are_not_paired_again(self) -> None:
        people = [person("s"), person("j", "junior")]
        assert pairs_of(solve(question(people), TAXONOMY)) == [("s", "j")]
        again = solve(question(people, earlier=[("s", "j")]), TAXONOMY)
        assert again.matches == []
        assert {left.code for left in again.unmatched} == {"earlier_partner"}

    def test_capacity_of_two_gives_two_partners(self) -> None:
        people = [person("s", enrolment={"capacity": 2}), person("j1", "junior"), person("j2", "junior")]
        assert pairs_of(solve(question(people), TAXONOMY)) == [("s", "j1"), ("s", "j2")]

    def test_flexible_members_balance_the_sides(self) -> None:
        seniors = [member(person(f"s{n}")) for n in range(3)]
        juniors = [member(person("j", "junior"))]
        either = [member(person(f"e{level}", "either", level=level)) for level in (9, 4, 7, 15)]
        left, right = split_sides(seniors, juniors, either, [1] * 8)
        assert [item.id for item in left] == ["e15", "s0", "s1", "s2"]
        assert [item.id for item in right] == ["e4", "e7", "e9", "j"]

    def test_large_round_is_the_same_in_every_process(self) -> None:
        """Another process iterates over sets and dictionaries of strings in another order."""
        result = {
            subprocess.run(
                [sys.executable, "-c", CANDIDATES],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            for seed in ("1", "4")
        }
        assert len(result) == 1
        assert result != {""}
