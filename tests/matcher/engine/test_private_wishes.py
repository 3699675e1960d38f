"""Two worlds that differ in one private wish: a round may differ in a draw among near-equals, and in nothing else."""

from contextlib import nullcontext

import pytest
from hypothesis import assume, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from contracts.profiles import ProfileChanged
from contracts.programmes import ProgrammeSettings
from services.matcher.engine.solve import MatchingProblem, MatchingResult, solve
from tests.matcher.builders import PROGRAMME, TAXONOMY, TODAY, any_settings, cohorts, person, settings
from tests.matcher.large_company import large_round

Cohort = tuple[list[ProfileChanged], list[ProfileChanged]]
Pair = tuple[str, str]


def question(people: list[ProfileChanged], rules_: ProgrammeSettings, lottery: int | None) -> MatchingProblem:
    seats = {item.member_id: item.enrolments[-1].capacity for item in people}
    return MatchingProblem(PROGRAMME, rules_, people, seats, [], TODAY, 0, lottery_seed=lottery)


def pairs_of(answer: MatchingResult) -> set[Pair]:
    return {(match.senior.id, match.junior.id) for match in answer.matches}


def fixed_part(answer: MatchingResult) -> object:
    """Everything that a draw among near-equals does not change."""
    left_over = [
        (left.member.id, left.side, left.code, left.text, dict(left.counts), left.relaxation)
        for left in answer.unmatched
    ]
    seats = sorted(id for pair in pairs_of(answer) for id in pair)
    figures = answer.optimal_fit, answer.upper_bound, answer.fairness_note, answer.empty_reason
    return answer.seniors, answer.juniors, left_over, seats, figures


def told_of_pairs(answer: MatchingResult) -> dict[Pair, object]:
    return {
        (match.senior.id, match.junior.id): (match.fit, dict(match.reasons), match.focus, dict(match.runners_up))
        for match in answer.matches
    }


class TestPrivateWishes:
    @pytest.mark.parametrize("large", [False, True])
    @run_with(max_examples=100, deadline=None)
    @given(cohorts(most=4), any_settings(), st.sampled_from([0.0, 0.05, 1.0]), st.data())
    def test_a_wish_changes_nothing_but_a_draw(
        self, large: bool, cohort: Cohort, rules_: ProgrammeSettings, tolerance: float, data: st.DataObject
    ) -> None:
        people = [item.model_copy(update={"avoid": ()}) for item in (*cohort[0], *cohort[1])]
        assume(cohort[0] and cohort[1])
        draw = rules_.matching.draw.model_copy(update={"tolerance": tolerance, "max_cost": 0.001})
        rules_ = rules_.model_copy(update={"matching": rules_.matching.model_copy(update={"draw": draw})})
        who, whom = data.draw(st.permutations([data.draw(st.sampled_from(side)).member_id for side in cohort]))
        wish = [item.model_copy(update={"avoid": (whom,)}) if item.member_id == who else item for item in people]
        for lottery in (None, 7):
            with large_round() if large else nullcontext():
                plain, secret = (solve(question(world, rules_, lottery), TAXONOMY) for world in (people, wish))
            assert fixed_part(plain) == fixed_part(secret)
            pairs, others = told_of_pairs(plain), told_of_pairs(secret)
            assert all(others.get(pair, reported) == reported for pair, reported in pairs.items())
            if lottery is None or tolerance == 0.0:
                assert pairs == others

    def test_a_wish_is_heeded_where_others_fit_as_well(self) -> None:
        people = [person(f"s{n}") for n in range(5)] + [person(f"j{n}", "junior") for n in range(5)]
        plain = solve(question(people, settings(), None), TAXONOMY)
        for senior, junior in pairs_of(plain):
            wish = [
                item.model_copy(update={"avoid": (senior,)}) if item.member_id == junior else item for item in people
            ]
            trial, secret = (solve(question(wish, settings(), lottery), TAXONOMY) for lottery in (None, 3))
            assert pairs_of(trial) == pairs_of(plain), "a trial draws nothing"
            assert (senior, junior) not in pairs_of(secret)
            assert fixed_part(secret) == fixed_part(plain)
            assert secret.total_fit == pytest.approx(plain.total_fit)
