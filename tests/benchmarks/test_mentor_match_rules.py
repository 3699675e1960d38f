"""mentor-match's rules as a programme of ours: the same pairs are excluded, and fit is points on another scale."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import mentor_match_rules as theirs
from benchmarks.mentor_match_rules import Servant
from contracts.taxonomy import load
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.fit.score import compute_fit
from services.matcher.domain.programmes import programme
from services.matcher.engine.solve import solve


def servants(characteristics: st.SearchStrategy[tuple[str, ...]]) -> st.SearchStrategy[Servant]:
    return st.builds(
        Servant,
        grade=st.integers(0, 8),
        organisation=st.sampled_from(["treasury", "defence", "health"]),
        profession=st.sampled_from(["law", "policy"]),
        characteristics=characteristics,
    )


def characteristics(least: int, most: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from("abcd"), min_size=least, max_size=most, unique=True).map(tuple)


MENTORS, MENTEES = servants(characteristics(1, 4)), servants(characteristics(1, 1))


def members(mentor: Servant, mentee: Servant) -> tuple[Member, Member]:
    senior, junior = theirs.profile(mentor, "senior", "mentor"), theirs.profile(mentee, "junior", "mentee")
    return Member(senior, senior.enrolments[0]), Member(junior, junior.enrolments[0])


class TestMentorMatchRules:
    @given(MENTORS, MENTEES)
    def test_exclusions_and_points_agree(self, mentor: Servant, mentee: Servant) -> None:
        senior, junior = members(mentor, mentee)
        settings = theirs.programme()
        worth = theirs.points(mentor, mentee)
        assert (worth is None) == bool(hard_rules.find_broken_rules(senior, junior, settings, theirs.TODAY))
        if worth is not None:
            fitting = compute_fit(senior, junior, settings, load(), theirs.TODAY)
            assert fitting.find_shortfalls(settings) == ()
            assert fitting.score == pytest.approx(worth / 32, abs=1e-12)
            assert theirs.fit_of(worth) == pytest.approx(worth / 32, abs=1e-12)

    def test_every_score_occurs(self) -> None:
        mentors, mentees = theirs.servants(200, seed=7)
        worths = {theirs.points(mentor, mentee) for mentor in mentors for mentee in mentees}
        assert worths == {None, 4, 7, 8, 9, 11, 12, 13, 16}

    def test_programme_is_valid(self) -> None:
        programme.check_settings(theirs.programme())

    def test_round_reaches_the_best_total_of_points(self) -> None:
        mentors, mentees = theirs.servants(12, seed=3)
        answer = solve(theirs.question(mentors, mentees), load())
        scipy = pytest.importorskip("scipy.optimize")
        worths = [[theirs.points(mentor, mentee) or 0 for mentee in mentees] for mentor in mentors]
        rows, columns = scipy.linear_sum_assignment(worths, maximize=True)
        best = sum(worths[s][j] for s, j in zip(rows, columns, strict=True))
        assert answer.total_fit == pytest.approx(theirs.fit_of(best), abs=1e-4)
