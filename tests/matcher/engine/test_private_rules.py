"""Two worlds that differ in one private wish: nothing tells them apart but who is paired with whom."""

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
    places = {one.member_id: one.enrolments[-1].capacity for one in people}
    return solve(MatchingProblem(PROGRAMME, settings(), people, places, [], TODAY, 0), TAXONOMY)


def told_of_pairs(answer: MatchingResult) -> dict[tuple[str, str], object]:
    return {(one.senior.id, one.junior.id): (one.fit, dict(one.reasons), one.focus) for one in answer.matches}


def told_of_the_left_over(answer: MatchingResult) -> dict[str, object]:
    return {one.member.id: (one.side, one.code, one.text, dict(one.counts)) for one in answer.unmatched}


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
            one, other = solved(people), solved([wish if person is who else person for person in people])
        assert (one.seniors, one.juniors) == (other.seniors, other.juniors)
        pairs, left = told_of_pairs(one), told_of_the_left_over(one)
        for pair, told in told_of_pairs(other).items():
            assert pairs.get(pair, told) == told
        for member, why in told_of_the_left_over(other).items():
            assert left.get(member, why) == why
        if not any({who.member_id, whom.member_id} == set(pair) for pair in pairs):
            assert other.total_fit == pytest.approx(one.total_fit)
