"""Two worlds that differ in one private wish. They may differ in their pairs, and in nothing else."""

from contextlib import nullcontext

import pytest
from hypothesis import assume, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from contracts.profiles import ProfileChanged
from services.matcher.engine.solve import MatchingProblem, MatchingResult, solve
from tests.matcher.builders import PROGRAMME, TAXONOMY, TODAY, cohorts, settings
from tests.matcher.large_company import large_round

Cohort = tuple[list[ProfileChanged], list[ProfileChanged]]


def solved(people: list[ProfileChanged]) -> MatchingResult:
    seats = {item.member_id: item.enrolments[-1].capacity for item in people}
    return solve(MatchingProblem(PROGRAMME, settings(), people, seats, [], TODAY, 0), TAXONOMY)


def told_of_pairs(answer: MatchingResult) -> dict[tuple[str, str], object]:
    return {(item.senior.id, item.junior.id): (item.fit, dict(item.reasons), item.focus) for item in answer.matches}


def told_of_the_left_over(answer: MatchingResult) -> dict[str, object]:
    return {item.member.id: (item.side, item.code, item.text, dict(item.counts)) for item in answer.unmatched}


class TestPrivateRules:
    @pytest.mark.parametrize("large", [False, True])
    @run_with(max_examples=100, deadline=None)
    @given(cohorts(most=4), st.data())
    def test_private_wish_shows_in_no_reason_count_or_code(
        self, large: bool, cohort: Cohort, data: st.DataObject
    ) -> None:
        people = [*cohort[0], *cohort[1]]
        assume(cohort[0] and cohort[1])
        who, whom = data.draw(st.permutations([data.draw(st.sampled_from(side)) for side in cohort]))
        wish = who.model_copy(update={"avoid": (*who.avoid, whom.member_id)})
        with large_round() if large else nullcontext():
            item, other = solved(people), solved([wish if person is who else person for person in people])
        assert (item.seniors, item.juniors) == (other.seniors, other.juniors)
        pairs, left = told_of_pairs(item), told_of_the_left_over(item)
        for pair, reported in told_of_pairs(other).items():
            assert pairs.get(pair, reported) == reported
        for member, why in told_of_the_left_over(other).items():
            assert left.get(member, why) == why
        if not any({who.member_id, whom.member_id} == set(pair) for pair in pairs):
            assert other.total_fit == pytest.approx(item.total_fit)
