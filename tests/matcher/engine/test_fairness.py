"""A round besides its optimum: fixed and forbidden pairs, priority, fairness, draw, runners-up, prices."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given
from hypothesis import settings as run_with
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from benchmarks import cohort as made_up
from contracts.profiles import ProfileChanged
from contracts.programmes import Draw, Fairness, ProgrammeSettings
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.score import compute_fit
from services.matcher.engine.assignment import InfeasibleAssignment, PricedAssignment, assign, assign_with_prices
from services.matcher.engine.candidates import Edges, find_candidates
from services.matcher.engine.fairness import improve_fairness
from services.matcher.engine.member_columns import MemberColumns, Vocabulary
from services.matcher.engine.solve import MatchingProblem, MatchingResult, eligible_sides, solve
from services.matcher.engine.tie_lottery import draw_ties
from services.matcher.engine.vectorised_fit import CohortFit, PairwiseFit
from tests.matcher.builders import PROGRAMME, TAXONOMY, TODAY, any_settings, cohorts, member, person, settings, weekly

Cohort = tuple[list[ProfileChanged], list[ProfileChanged]]
FEWER = run_with(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def question(
    people: Sequence[ProfileChanged], under: ProgrammeSettings | None = None, **more: object
) -> MatchingProblem:
    seats = {item.member_id: item.enrolments[-1].capacity for item in people}
    return MatchingProblem(PROGRAMME, under or settings(), people, seats, (), TODAY, 3, **more)  # type: ignore[arg-type]


def pairs_of(answer: MatchingResult) -> set[tuple[str, str]]:
    return {(match.senior.id, match.junior.id) for match in answer.matches}


@st.composite
def markets(draw: st.DrawFn) -> tuple[list[int], list[int], Edges]:
    seniors = draw(st.lists(st.integers(0, 2), min_size=1, max_size=5))
    juniors = draw(st.lists(st.integers(0, 2), min_size=1, max_size=5))
    every = [(s, j) for s in range(len(seniors)) for j in range(len(juniors))]
    selection = sorted(draw(st.lists(st.sampled_from(every), unique=True, max_size=14)))
    scores = [draw(st.integers(1, 100)) / 100 for _ in selection]
    return seniors, juniors, edges_of([(s, j, score) for (s, j), score in zip(selection, scores, strict=True)])


def edges_of(edges: Sequence[tuple[int, int, float]]) -> Edges:
    s, j, score = zip(*edges, strict=True) if edges else ((), (), ())
    return Edges(np.array(s, np.int64), np.array(j, np.int64), np.array(score, np.float64))


class TestFairness:
    @given(markets(), st.sampled_from([0.0, 0.02, 0.3]))
    def test_everybody_stays_paired_within_the_cost(
        self, market: tuple[list[int], list[int], Edges], cost: float
    ) -> None:
        seniors, juniors, edges = market
        chosen = assign(seniors, juniors, edges, 0)
        assume(len(chosen))
        fair = improve_fairness(edges, chosen, len(seniors), len(juniors), Fairness(max_cost=cost, worst=0.3), 0)
        for side in (edges.seniors, edges.juniors):
            assert sorted(side[fair.chosen]) == sorted(side[chosen])
        before, after = edges.scores[chosen], edges.scores[fair.chosen]
        assert after.sum() >= before.sum() * (1 - cost) - 1e-9
        count = max(1, int(len(before) * 0.3))
        assert np.sort(after)[:count].sum() >= np.sort(before)[:count].sum() - 1e-9

    def test_worst_pairs_rise_clearly_or_the_note_says_why(self) -> None:
        answer = solve(made_up.question(made_up.cohort(1000)), TAXONOMY)
        assert answer.total_fit >= answer.optimal_fit * (1 - 0.02 - 0.001)
        assert "worst pairs rose by" in answer.fairness_note
        none = solve(made_up.question(made_up.cohort(1000), _without_fairness()), TAXONOMY)
        worst = [
            np.sort([match.fit.score for match in item.matches])[: len(item.matches) // 20] for item in (answer, none)
        ]
        assert worst[0].mean() >= 1.05 * worst[1].mean() or "at most" in answer.fairness_note


def _without_fairness() -> ProgrammeSettings:
    plain = made_up.settings()
    matching = plain.matching.model_copy(update={"fairness": Fairness(max_cost=0.0), "draw": Draw(tolerance=0.0)})
    return plain.model_copy(update={"matching": matching})


ALIKE = edges_of([(0, 0, 0.01), (0, 1, 0.01), (1, 0, 0.01), (1, 1, 0.01)])


class TestTieLottery:
    def test_near_equals_are_swapped_half_of_the_time(self) -> None:
        edges = edges_of([(0, 0, 0.6), (0, 1, 0.6005), (1, 0, 0.6), (1, 1, 0.6), (2, 2, 0.9)])
        chosen = np.array([1, 2, 4])
        outcomes = []
        for seed in range(200):
            result = draw_ties(edges, chosen, 3, 100.0, Draw(), seed)
            assert result.probability.tolist() == [0.5, 0.5, 1.0]
            outcomes.append(result.chosen.tolist() == [0, 3, 4])
        assert 70 < sum(outcomes) < 130
        assert draw_ties(edges, chosen, 3, 100.0, Draw(tolerance=0.0), 1).chosen.tolist() == [1, 2, 4]

    def test_a_private_wish_decides_in_place_of_the_coin(self) -> None:
        edges = edges_of([(0, 0, 0.6), (0, 1, 0.6005), (1, 0, 0.6), (1, 1, 0.6), (2, 2, 0.9)])
        chosen = np.array([1, 2, 4])
        for seed in range(50):
            for against, expected in ((1, [0, 3, 4]), (3, [1, 2, 4])):  # keys: senior x juniors + junior
                unwanted = np.array([edges.seniors[against] * 3 + edges.juniors[against]])
                result = draw_ties(edges, chosen, 3, 100.0, Draw(), seed, unwanted)
                assert result.chosen.tolist() == expected
                assert result.probability.tolist() == [0.5, 0.5, 1.0], "the stored figures are those of the coin"
            both = np.array([edges.seniors[n] * 3 + edges.juniors[n] for n in (0, 1)])
            plain = draw_ties(edges, chosen, 3, 100.0, Draw(), seed)
            assert draw_ties(edges, chosen, 3, 100.0, Draw(), seed, both).chosen.tolist() == plain.chosen.tolist()
        assert draw_ties(edges, chosen, 3, 100.0, Draw(), 1, np.array([8])).chosen.tolist()[2] == 4

    @example(market=([1, 2], [1, 2], ALIKE), seed=1)  # the exchange would produce a pair that already exists
    @given(markets(), st.integers(0, 50))
    def test_lottery_keeps_the_cost_and_the_capacities(
        self, market: tuple[list[int], list[int], Edges], seed: int
    ) -> None:
        seniors, juniors, edges = market
        chosen = assign(seniors, juniors, edges, 0)
        best = float(edges.scores[chosen].sum())
        result = draw_ties(edges, chosen, len(juniors), best, Draw(tolerance=0.05, max_cost=0.001), seed)
        for side in (edges.seniors, edges.juniors):
            assert sorted(side[result.chosen]) == sorted(side[chosen])
        assert edges.scores[result.chosen].sum() >= best * 0.999 - 1e-9


class TestRunnersUp:
    @FEWER
    @given(cohorts(most=4), st.data())
    def test_private_wishes_change_no_runner_up(self, cohort: Cohort, data: st.DataObject) -> None:
        assume(cohort[0] and cohort[1])
        people = [*cohort[0], *cohort[1]]
        who, whom = data.draw(st.permutations([data.draw(st.sampled_from(side)) for side in cohort]))
        wish = who.model_copy(update={"avoid": (*who.avoid, whom.member_id)})
        other = [wish if item is who else item for item in people]
        one_world, other_world = solve(question(people), TAXONOMY), solve(question(other), TAXONOMY)
        ups = {(m.senior.id, m.junior.id): m.runners_up for m in one_world.matches}
        for match in other_world.matches:
            pair = (match.senior.id, match.junior.id)
            assert ups.get(pair, match.runners_up) == match.runners_up
        open_ = [
            find_candidates(CohortFit(*eligible_sides(question(world)), settings(), TAXONOMY, TODAY), None)
            for world in (people, other)
        ]
        assert open_[0].scores.tolist() == open_[1].scores.tolist()

    def test_runner_up_is_the_best_other_candidate(self) -> None:
        people = [
            person("s"),
            person("s2"),
            person("j1", "junior"),
            person("j2", "junior", offers={"generative-ai": "teach"}),
        ]
        answer = solve(question(people), TAXONOMY)
        for match in answer.matches:
            up = match.runners_up
            assert {up["senior"].member_id, match.junior.id} == {"j1", "j2"}
            assert {up["junior"].member_id, match.senior.id} == {"s", "s2"}


class TestMemberColumns:
    def test_changed_rows_compare_like_new_columns(self) -> None:
        people = [member(item) for item in made_up.cohort(60)]
        seniors, juniors = people[:30], people[30:]
        words = Vocabulary(settings(), TAXONOMY, TODAY)
        item, other = MemberColumns(words, seniors), MemberColumns(words, juniors[1:])
        odd = person("odd", "junior", time_zone="Asia/Kathmandu", availability=weekly((2, 8 * 60 + 1, 9 * 60 + 4)))
        row = other.add(member(odd))
        other.remove(row)
        assert other.add(juniors[0]) == row
        other.write([juniors[0]])
        grown = PairwiseFit(item, other, settings()).evaluate_block(np.arange(30), np.arange(30))
        fresh = CohortFit(seniors, [*juniors[1:], juniors[0]], settings(), TAXONOMY, TODAY).evaluate_block(
            np.arange(30), np.arange(30)
        )
        assert grown.score == pytest.approx(fresh.score, abs=1e-9)
        for rule, mask in fresh.broken.items():
            assert (grown.broken[rule] == mask).all()
        with pytest.raises(ValueError, match="has a row already"):
            other.add(juniors[0])

    def test_adding_a_member_does_not_read_the_others(self) -> None:
        class Unread(dict[str, int]):
            """A collection that raises an error when a caller iterates over all of it."""

            def __iter__(self) -> Iterator[str]:
                raise AssertionError("the whole collection was read")

            keys = items = values = __iter__  # type: ignore[assignment]

        people = [member(item) for item in made_up.cohort(20)]
        columns = MemberColumns(Vocabulary(settings(), TAXONOMY, TODAY), people[1:])
        columns.row_of = Unread(columns.row_of)
        columns.remove(columns.add(people[0]))


@st.composite
def markets_of_one_place(draw: st.DrawFn) -> tuple[list[int], list[int], Edges]:
    n = draw(st.integers(1, 5))
    every = [(s, j) for s in range(n) for j in range(n)]
    selection = sorted(draw(st.lists(st.sampled_from(every), unique=True, min_size=1)))
    scores = [draw(st.integers(-100, 100)) / 100 for _ in selection]
    rows, columns = np.array([s for s, _ in selection]), np.array([j for _, j in selection])
    taking = draw(st.integers(1, n))
    there = [int(position < taking) for position in range(n)]
    return draw(st.permutations(there)), draw(st.permutations(there)), Edges(rows, columns, np.array(scores))


class TestOptimum:
    @given(markets())
    def test_dual_prices_prove_the_optimum(self, market: tuple[list[int], list[int], Edges]) -> None:
        seniors, juniors, edges = market
        result: PricedAssignment = assign_with_prices(seniors, juniors, edges, 0)
        best = float(edges.scores[result.chosen].sum())
        over = edges.scores - result.senior_prices[edges.seniors] - result.junior_prices[edges.juniors]
        taken = np.isin(np.arange(len(edges)), result.chosen)
        assert (over[~taken] < 1e-5).all()
        worth = sum(p * price for p, price in zip(seniors, result.senior_prices.tolist(), strict=True) if p)
        worth += sum(p * price for p, price in zip(juniors, result.junior_prices.tolist(), strict=True) if p)
        assert worth + np.maximum(0, over[taken]).sum() == pytest.approx(best, abs=1e-4)

    def test_total_equals_that_of_scipy_within_the_bound(self) -> None:
        problem = made_up.question(made_up.cohort(300))
        answer = solve(problem, TAXONOMY)
        seniors, juniors = eligible_sides(problem)
        pairs = CohortFit(seniors, juniors, problem.settings, TAXONOMY, TODAY)
        block = pairs.evaluate_block(np.arange(len(seniors)), np.arange(len(juniors)))
        scores = np.where(block.feasible(), block.score, 0)
        best = scores[linear_sum_assignment(scores, maximize=True)].sum()
        assert answer.optimal_fit == pytest.approx(best, abs=1e-3)
        assert answer.upper_bound is not None
        assert answer.upper_bound >= answer.optimal_fit - 1e-9

    def test_large_company_is_near_its_upper_bound(self) -> None:
        problem = made_up.question(made_up.cohort(2400))
        answer = solve(problem, TAXONOMY)
        seniors, juniors = eligible_sides(problem)
        pairs = CohortFit(seniors, juniors, problem.settings, TAXONOMY, TODAY)
        scores = np.zeros(pairs.shape)
        for row in np.array_split(np.arange(len(seniors)), 8):
            block = pairs.evaluate_block(row, np.arange(len(juniors)))
            scores[row] = np.where(block.feasible(), block.score, 0)
        best = scores[linear_sum_assignment(scores, maximize=True)].sum()
        assert answer.upper_bound is not None
        assert 0.999 * best <= answer.optimal_fit <= best + 1e-3
        assert best <= answer.upper_bound * (1 + 1e-4)
        assert answer.optimal_fit >= 0.998 * answer.upper_bound

    @FEWER
    @given(cohorts(most=4), any_settings(), st.data())
    def test_locked_pairs_stay_and_forbidden_pairs_do_not_form(
        self, cohort: Cohort, rules_: ProgrammeSettings, data: st.DataObject
    ) -> None:
        assume(cohort[0] and cohort[1])
        every = [(s.member_id, j.member_id) for s in cohort[0] for j in cohort[1]]
        locked = data.draw(st.lists(st.sampled_from(every), max_size=2, unique=True))
        apart = data.draw(st.lists(st.sampled_from(every), max_size=3, unique=True))
        answer = solve(question([*cohort[0], *cohort[1]], rules_, locked_pairs=locked, forbidden_pairs=apart), TAXONOMY)
        for match in answer.matches:
            pair = (match.senior.id, match.junior.id)
            assert hard_rules.find_broken_rules(match.senior, match.junior, rules_, TODAY) == ()
            assert match.is_locked or (pair not in apart and not match.fit.find_shortfalls(rules_))
            assert not match.is_locked or pair in locked
            assert match.fit.score == pytest.approx(
                compute_fit(match.senior, match.junior, rules_, TAXONOMY, TODAY).score
            )
        if len(locked) == 1:
            existing = {item.member_id: item for item in (*cohort[0], *cohort[1])}
            senior, junior = (hard_rules.find_enrolled_member(existing[id], PROGRAMME) for id in locked[0])
            assert senior is not None
            assert junior is not None
            assert (locked[0] in {(m.senior.id, m.junior.id) for m in answer.matches if m.is_locked}) == (
                not hard_rules.find_broken_rules(senior, junior, rules_, TODAY)
            )

    def test_waiting_priority_decides_between_near_equals(self) -> None:
        people = [person("s"), person("j1", "junior"), person("j2", "junior", offers={"generative-ai": "teach"})]
        assert pairs_of(solve(question(people), TAXONOMY)) == {("s", "j2")}
        assert pairs_of(solve(question(people, waiting_priority={"j1": 1.0}), TAXONOMY)) == {("s", "j1")}
        unmoved = settings(matching__waiting=0.0)
        assert pairs_of(solve(question(people, unmoved, waiting_priority={"j1": 1.0}), TAXONOMY)) == {("s", "j2")}

    def test_empty_round_gives_its_reason(self) -> None:
        alone = solve(question([person("s")]), TAXONOMY)
        blocked = solve(question([person("s", level=1), person("j", "junior", level=20)]), TAXONOMY)
        full = solve(question([person("s", enrolment={"capacity": 0}), person("j", "junior")]), TAXONOMY)
        for answer in (alone, blocked, full):
            assert not answer.matches
            assert answer.empty_reason
            assert (answer.total_fit, answer.upper_bound) == (0.0, None)

    @given(markets_of_one_place())
    def test_perfect_matching_equals_the_flow_or_is_infeasible(
        self,
        market: tuple[list[int], list[int], Edges],
    ) -> None:
        seniors, juniors, edges = market
        two = [*seniors, 2], [*juniors, 2]  # a flow solver is used when a member has two seats
        n = len(seniors)
        aside = Edges(
            np.append(edges.seniors, [n, n, n + 1]),
            np.append(edges.juniors, [n, n + 1, n]),
            np.append(edges.scores, [0.0, 0.0, 0.0]),
        )
        try:
            expected = assign([*two[0], 1], [*two[1], 1], aside, 1, fill_all=True)
        except InfeasibleAssignment:
            with pytest.raises(InfeasibleAssignment):
                assign(seniors, juniors, edges, 1, fill_all=True)
            return
        result = assign(seniors, juniors, edges, 1, fill_all=True)
        assert edges.scores[result].sum() == pytest.approx(aside.scores[expected].sum())
        for side, seats in ((edges.seniors, seniors), (edges.juniors, juniors)):
            assert np.bincount(side[result], minlength=n).tolist() == seats
