"""Rounds too large to consider all pairs: the result is optimal, or its distance from the optimum is stated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest

from benchmarks import cohort as made_up
from benchmarks import mentor_match_rules
from contracts.profiles import ProfileChanged, Style
from services.matcher.engine import candidates as candidates_of
from services.matcher.engine import optimality_bound
from services.matcher.engine.all_pairs_scan import AllPairsScan
from services.matcher.engine.assignment import PricedAssignment, assign, assign_with_prices
from services.matcher.engine.candidates import (
    CANDIDATES_PER_PERSON,
    HARD_TO_SUIT_SHARE,
    Edges,
    find_candidates,
    scan_if_large,
)
from services.matcher.engine.optimality_bound import solve_with_bound
from services.matcher.engine.solve import MatchingProblem, _assignment_problem, _locked_rows, eligible_sides, solve
from services.matcher.engine.vectorised_fit import CohortFit
from tests.matcher.builders import PROGRAMME, TAXONOMY, TODAY, TOPICS, member, person, settings, weekly
from tests.matcher.large_company import large_round


@dataclass(frozen=True)
class Weighed:
    """The best total of a round as it is solved, including priority."""

    weight: float
    open: float
    pairs: list[tuple[str, str]]


def weighed(problem: MatchingProblem, *, scanned: bool) -> Weighed:
    pairs = CohortFit(*eligible_sides(problem), problem.settings, TAXONOMY, TODAY, problem.earlier_pairs)
    scan = AllPairsScan(pairs) if scanned else None
    of = _assignment_problem(problem, pairs, _locked_rows(problem, pairs))
    best = solve_with_bound(of, find_candidates(pairs, scan), scan)
    chosen = of.with_bonus(best.edges).take(best.chosen)
    ids = [
        (pairs.seniors[s].id, pairs.juniors[j].id)
        for s, j in zip(chosen.seniors.tolist(), chosen.juniors.tolist(), strict=True)
    ]
    return Weighed(float(chosen.scores.sum()), best.gap, ids)


def company(seed: int) -> MatchingProblem:
    """A few people with every possible obstacle; most of them could be paired."""
    rng = Random(seed)

    def somebody(side: str, n: int) -> ProfileChanged:
        offers = {topic: rng.choice(["explain", "use", "teach"]) for topic in rng.sample(TOPICS, rng.randint(2, 4))}
        seeks = {topic: rng.randint(1, 3) for topic in rng.sample(TOPICS, rng.randint(2, 4))}
        return person(
            f"{side[0]}{n:02}",
            side,
            offers=offers,
            seeks=seeks,
            level=rng.randint(9, 14) if side == "senior" else rng.randint(3, 8),
            style=Style(pace=rng.choice([-1.0, 0.0, 1.0]), debate=rng.choice([None, -1.0, 1.0])),
            site_id=rng.choice([None, "berlin", "lyon"]),
            availability=rng.choice([weekly((1, 540, 1000)), weekly((1, 900, 1200), (2, 540, 600))]),
            time_zone=rng.choice([None, "Europe/Berlin"]),
        )

    seniors = [somebody("senior", n) for n in range(rng.randint(2, 12))]
    juniors = [somebody("junior", n) for n in range(rng.randint(2, 12))]
    people = [
        item.model_copy(update={"avoid": (rng.choice(others).member_id,)}) if rng.random() < 0.2 else item
        for selection, others in ((seniors, juniors), (juniors, seniors))
        for item in selection
    ]

    def some_pairs(most: int) -> list[tuple[str, str]]:
        count = rng.randint(0, most)
        return [(rng.choice(seniors).member_id, rng.choice(juniors).member_id) for _ in range(count)]

    return MatchingProblem(
        PROGRAMME,
        settings(matching__waiting=rng.choice([0, 0.1, 1.0]), rules__min_level_gap=rng.choice([0, 2, 3])),
        people,
        {item.member_id: rng.choice([0, 1, 1, 1, 2, 3]) for item in people},
        some_pairs(6),
        TODAY,
        seed,
        locked_pairs=some_pairs(2),
        forbidden_pairs=some_pairs(5),
        waiting_priority={item.member_id: rng.random() for item in people if rng.random() < 0.5},
    )


def companies() -> list[MatchingProblem]:
    return [problem for problem in map(company, range(300)) if all(eligible_sides(problem))]


class TestBound:
    def test_bound_holds_without_pricing_rounds(self) -> None:
        short = 0
        for problem in companies():
            best = weighed(problem, scanned=False).weight
            with large_round(turns=0):
                scanned = weighed(problem, scanned=True)
            assert scanned.weight - 1e-4 <= best <= scanned.weight + scanned.open + 1e-4
            short += scanned.weight < best - 1e-3
        assert short > 30

    def test_sampled_bound_adds_two_standard_errors(self) -> None:
        excess, seats = np.array([0.1, 0.3, 0.0, 0.0]), np.array([1, 2, 1, 1])
        nobody = np.zeros(0, dtype=np.int64)
        beyond = optimality_bound._PricedOut(Edges(nobody, nobody, np.zeros(0)), excess)
        of = made_up.question(made_up.cohort(8))
        pairs = CohortFit(*eligible_sides(of), of.settings, TAXONOMY, TODAY)
        problem = replace(_assignment_problem(of, pairs, ()), senior_capacities=seats)
        assert beyond.gap(problem, 4) == pytest.approx(0.7)
        values = np.array([0.1, 0.6])
        assert beyond.gap(problem, 2) == pytest.approx(4 * (values.mean() + 2 * values.std() / np.sqrt(2)))


class TestColumnGeneration:
    def test_scanned_round_equals_the_exhaustive_one(self) -> None:
        several = 0
        for problem in companies():
            best = weighed(problem, scanned=False)
            with large_round():
                scanned = weighed(problem, scanned=True)
            assert scanned.weight == pytest.approx(best.weight, abs=1e-4)
            assert 0 <= scanned.open <= 1e-4
            assert not {*problem.forbidden_pairs, *problem.earlier_pairs, *problem.locked_pairs} & {*scanned.pairs}
            assert len({*scanned.pairs}) == len(scanned.pairs)
            several += len(best.pairs) > 1
        assert several > 200

    @pytest.mark.parametrize("why", ["earlier", "forbidden"])
    def test_excluded_best_partners_are_replaced_by_the_next(self, why: str) -> None:
        problem = made_up.question(made_up.cohort(800, seed=2))
        pairs = CohortFit(*eligible_sides(problem), problem.settings, TAXONOMY, TODAY)
        block = pairs.evaluate_block(np.arange(400), np.arange(400))
        best = np.argsort(-np.where(block.feasible(), block.score, 0), axis=1)[:, :40]
        apart = {
            senior.id: tuple(pairs.juniors[j].id for j in mine)
            for senior, mine in zip(pairs.seniors, best, strict=True)
        }
        barred = [(senior, junior) for senior, juniors in apart.items() for junior in juniors]
        problem = (
            replace(problem, earlier_pairs=barred) if why == "earlier" else replace(problem, forbidden_pairs=barred)
        )
        scanned = weighed(problem, scanned=True)
        assert scanned.weight == pytest.approx(weighed(problem, scanned=False).weight, abs=1e-3)
        assert scanned.open <= 1e-3
        assert not {*barred} & {*scanned.pairs}

    def test_full_scan_reaches_the_optimum(
        self,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        problem = made_up.question(made_up.cohort(1400, seed=5))
        scanned = solve(problem, TAXONOMY)
        monkeypatch.setattr(candidates_of, "MAX_EXHAUSTIVE_PAIRS", 10**9)
        best = solve(problem, TAXONOMY)
        assert scanned.optimal_fit == pytest.approx(best.optimal_fit, abs=2e-6 * len(best.matches))
        assert scanned.upper_bound == pytest.approx(scanned.optimal_fit, abs=2e-6 * len(best.matches))
        reported = [
            [(left.member.id, left.code, left.text, left.counts) for left in answer.unmatched]
            for answer in (scanned, best)
        ]
        assert reported[0] == reported[1]

    @pytest.mark.parametrize("sampled", [200, 960])
    def test_pricing_rounds_find_contested_partners(self, sampled: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(optimality_bound, "BOUND_SAMPLE_SENIORS", sampled)
        monkeypatch.setattr(optimality_bound, "CANDIDATES_PER_PERSON", 4)
        monkeypatch.setattr(candidates_of, "CANDIDATES_PER_PERSON", 4)
        steps: list[int] = []

        def step(seniors: Sequence[int], juniors: Sequence[int], edges: Edges, seed: int) -> PricedAssignment:
            steps.append(len(edges))
            return assign_with_prices(seniors, juniors, edges, seed)

        monkeypatch.setattr(optimality_bound, "assign_with_prices", step)
        problem = mentor_match_rules.question(*mentor_match_rules.servants(900, seed=1))
        answer = solve(problem, TAXONOMY)
        pairs = CohortFit(*eligible_sides(problem), problem.settings, TAXONOMY, TODAY)
        block = pairs.evaluate_block(np.arange(900), np.arange(900))
        everything = np.where(block.feasible(), block.score, 0)
        s, j = np.nonzero(everything)
        best = everything[s, j][assign([1] * 900, [1] * 900, Edges(s, j, everything[s, j]), 0)].sum()
        assert 2 <= len(steps) <= optimality_bound.MAX_PRICING_ROUNDS
        assert max(steps) < len(s) / 10
        assert answer.upper_bound is not None
        assert (
            optimality_bound.SUFFICIENT_RATIO * best - 1e-3
            <= answer.optimal_fit
            <= best + 1e-3
            <= answer.upper_bound + 2e-3
        )


class TestCandidates:
    def test_few_candidates_stay_near_the_optimum(self) -> None:
        rng = np.random.default_rng(4)
        topics = sorted(topic.id for topic in TAXONOMY.topics)[:60]

        def somebody(n: int, side: str) -> ProfileChanged:
            offers, seeks = rng.choice(topics, 4, replace=False), rng.choice(topics, 4, replace=False)
            return person(
                f"{side}{n}",
                side,
                offers={str(topic): "teach" for topic in offers},
                seeks={str(topic): 2 for topic in seeks},
            )

        seniors = [member(somebody(n, "senior")) for n in range(1100)]
        juniors = [member(somebody(n, "junior")) for n in range(1000)]
        pairs = CohortFit(seniors, juniors, settings(), TAXONOMY, TODAY)
        edges = find_candidates(pairs, scan_if_large(pairs))
        block = pairs.evaluate_block(np.arange(1100), np.arange(1000))
        everything = np.where(block.feasible(), block.score, 0)
        s, j = np.nonzero(everything)
        assert len(edges.scores) < len(s)
        ones = [1] * 1100, [1] * 1000
        selection = edges.scores[assign(*ones, edges, 0)].sum()
        best = everything[s, j][assign(*ones, Edges(s, j, everything[s, j]), 0)].sum()
        assert selection >= 0.999 * best

    def test_hard_to_suit_members_keep_more_candidates(self) -> None:
        problem = made_up.question(made_up.cohort(2400))
        pairs = CohortFit(*eligible_sides(problem), problem.settings, TAXONOMY, TODAY)
        edges = find_candidates(pairs, scan_if_large(pairs))
        for group in (edges.seniors, edges.juniors):
            retained = np.bincount(group)
            best = np.zeros(len(retained))
            np.maximum.at(best, group, edges.scores)
            hard = (retained > 0) & (best <= np.quantile(best[retained > 0], HARD_TO_SUIT_SHARE))
            assert np.median(retained[hard]) >= 1.5 * CANDIDATES_PER_PERSON

    def test_equal_partners_are_spread_over_people(self) -> None:
        seniors = [member(person(f"s{n}")) for n in range(400)]
        juniors = [member(person(f"j{n}", "junior")) for n in range(400)]
        pairs = CohortFit(seniors, juniors, settings(), TAXONOMY, TODAY)
        edges = find_candidates(pairs, scan_if_large(pairs))
        assert len(edges) < 400 * 3 * CANDIDATES_PER_PERSON
        for people in (edges.seniors, edges.juniors):
            assert (
                CANDIDATES_PER_PERSON
                <= np.bincount(people).min()
                <= np.bincount(people).max()
                < 8 * CANDIDATES_PER_PERSON
            )
