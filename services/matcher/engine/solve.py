"""A round from end to end: who takes part, who is paired with whom and why, who stays unmatched and why."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import numpy as np

from contracts.pairings import Focus
from contracts.profiles import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.score import Fit, select_focus
from services.matcher.engine.arrays import Int64s
from services.matcher.engine.assignment import split_sides
from services.matcher.engine.candidates import Edges, best_two_edges, find_candidates, scan_if_large
from services.matcher.engine.fairness import improve_fairness
from services.matcher.engine.optimality_bound import (
    AssignmentProblem,
    BoundedAssignment,
    is_in_sorted,
    seat_values,
    solve_with_bound,
)
from services.matcher.engine.tie_lottery import LotteryResult, draw_ties
from services.matcher.engine.unmatched import (
    OptimalAssignment,
    UnmatchedMember,
    explain_one_sided,
    explain_unmatched,
)
from services.matcher.engine.vectorised_fit import CohortFit, FitBlock

ProgressReport = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class MatchingProblem:
    """All inputs that a round's result depends on.

    ``free_seats``: of each member who has any. ``earlier_pairs``: members who were suggested to each other before.
    ``locked_pairs``: (senior, junior) that a coordinator holds together. ``forbidden_pairs``: members that a
    coordinator keeps apart, in either order. ``waiting_priority``: from 0 to 1, of each member who has one.
    ``lottery_seed``: of the draw among near-equals, which alone heeds private wishes; None: nothing is drawn.
    """

    programme_id: str
    settings: ProgrammeSettings
    profiles: Sequence[ProfileChanged]
    free_seats: Mapping[str, int]
    earlier_pairs: Sequence[tuple[str, str]]
    on: date
    seed: int
    locked_pairs: Sequence[tuple[str, str]] = ()
    forbidden_pairs: Sequence[tuple[str, str]] = ()
    waiting_priority: Mapping[str, float] = field(default_factory=dict)
    lottery_seed: int | None = None


@dataclass(frozen=True)
class NextBestPartner:
    """The best other partner that a member could have had, and how well they fit."""

    member_id: str
    score: float


@dataclass(frozen=True)
class ExplanationContext:
    """The inputs of the texts about a pair, besides the two members."""

    settings: ProgrammeSettings
    taxonomy: Taxonomy
    on: date


@dataclass(frozen=True)
class Match:
    """One proposed pair. Its texts are made on demand.

    ``probability``: with which the lottery among near-equals chose the pair, given the assignment before the lottery.
    ``runners_up``: of each side, whether their seats were taken or not.
    """

    senior: Member
    junior: Member
    fit: Fit
    context: ExplanationContext
    probability: float = 1.0
    runners_up: Mapping[Side, NextBestPartner] = field(default_factory=dict)
    is_locked: bool = False

    @cached_property
    def reasons(self) -> Mapping[Side, Sequence[str]]:
        context = self.context
        return build_reasons(self.senior.profile, self.junior.profile, context.settings, context.taxonomy, context.on)

    @cached_property
    def focus(self) -> tuple[Focus, ...]:
        benefit = self.context.settings.matching.benefit
        return select_focus(self.senior.profile, self.junior.profile, benefit, self.context.taxonomy)


@dataclass(frozen=True)
class MatchingResult:
    """A round's result, the best pairs first.

    ``seniors`` and ``juniors``: how many took part. ``empty_reason``: why there are no pairs. ``total_fit``: of all
    pairs. ``optimal_fit``: the same before fairness and the lottery. ``upper_bound``: the total fit of no assignment
    exceeds it (waiting priority counted; an estimate if only some seniors were scanned), None if nothing was assigned.
    ``fairness_note``: what that pass reached.
    """

    seniors: int
    juniors: int
    matches: Sequence[Match] = ()
    unmatched: Sequence[UnmatchedMember] = ()
    empty_reason: str | None = None
    total_fit: float = 0.0
    optimal_fit: float = 0.0
    upper_bound: float | None = None
    fairness_note: str = ""


def solve(
    problem: MatchingProblem, taxonomy: Taxonomy, report_progress: ProgressReport = lambda *_: None
) -> MatchingResult:
    """Match the members. ``report_progress`` receives the stage, what is done of it and how much there is."""
    seniors, juniors = eligible_sides(problem)
    if not seniors or not juniors:
        reason, unmatched = explain_one_sided(seniors, juniors)
        return MatchingResult(len(seniors), len(juniors), (), unmatched, reason)
    fit = CohortFit(seniors, juniors, problem.settings, taxonomy, problem.on, problem.earlier_pairs)
    scan = scan_if_large(fit)
    candidates = find_candidates(fit, scan, lambda done: report_progress("scoring", done, len(seniors)))
    locked = _locked_rows(problem, fit)
    assignment_problem = _assignment_problem(problem, fit, locked)
    report_progress("solving", 0, len(candidates))
    best = solve_with_bound(assignment_problem, candidates, scan)
    del scan  # its tables take hundreds of megabytes, which the next steps need
    scores = best.edges.scores[best.chosen]
    matching = problem.settings.matching
    with ThreadPoolExecutor(1) as pool:  # the explanations do not depend on fairness and the lottery
        explaining = pool.submit(
            lambda: explain_unmatched(fit, _optimal_assignment(problem, assignment_problem, candidates, best, locked))
        )
        fair = improve_fairness(best.edges, best.chosen, *fit.shape, matching.fairness, problem.seed)
        lottery = _draw(problem, fit, best.edges, fair.chosen, float(scores.sum()))
        chosen = best.edges.take(lottery.chosen)
        matches = _matches(problem, taxonomy, fit, candidates, locked, chosen, lottery)
        unmatched = explaining.result()
    optimal_fit = float(scores.sum()) + sum(match.fit.score for match in matches if match.is_locked)
    return MatchingResult(
        seniors=len(seniors),
        juniors=len(juniors),
        matches=matches,
        unmatched=unmatched,
        empty_reason=None if matches else "No two of them can be paired; the reason of each is given.",
        total_fit=sum(match.fit.score for match in matches),
        optimal_fit=optimal_fit,
        upper_bound=optimal_fit + best.gap if matches else None,
        fairness_note=fair.note,
    )


def eligible_sides(problem: MatchingProblem) -> tuple[list[Member], list[Member]]:
    """Seniors and juniors who can be proposed on this day and have a free seat, in the order of their ids."""
    locked_side = {senior: "senior" for senior, _ in problem.locked_pairs}
    locked_side |= {junior: "junior" for _, junior in problem.locked_pairs}
    members: dict[str, list[Member]] = {"senior": [], "junior": [], "either": []}
    for profile in problem.profiles:
        member = hard_rules.find_enrolled_member(profile, problem.programme_id)
        if member is None or problem.free_seats.get(profile.member_id, 0) <= 0:
            continue
        if hard_rules.find_member_absence_reason(member, problem.settings, problem.on) is None:
            side: str = member.enrolment.side
            members[locked_side.get(member.id, side) if side == "either" else side].append(member)
    seats = [problem.free_seats[m.id] for side in ("senior", "junior", "either") for m in members[side]]
    return split_sides(members["senior"], members["junior"], members["either"], seats)


def _draw(problem: MatchingProblem, fit: CohortFit, edges: Edges, chosen: Int64s, best_total: float) -> LotteryResult:
    """The draw among near-equals, and the only place of a round that heeds private wishes."""
    if problem.lottery_seed is None:
        return LotteryResult(chosen, np.ones(len(chosen)))
    rules, unwanted = problem.settings.matching.draw, fit.unwanted_pair_keys()
    return draw_ties(edges, chosen, fit.shape[1], best_total, rules, problem.lottery_seed, unwanted)


def _locked_rows(problem: MatchingProblem, fit: CohortFit) -> tuple[tuple[int, int], ...]:
    """The rows of the locked pairs that break no rule and have a seat on both sides, in the order of their ids."""
    row_of, column_of = fit.senior_columns.row_of, fit.junior_columns.row_of
    seats = dict(problem.free_seats)
    locked = []
    for senior, junior in sorted(set(problem.locked_pairs)):
        if senior not in row_of or junior not in column_of or min(seats[senior], seats[junior]) <= 0:
            continue
        block = fit.evaluate(np.array([row_of[senior]]), np.array([column_of[junior]]))
        if not any(mask[0] for mask in block.broken.values()):
            locked.append((row_of[senior], column_of[junior]))
            seats[senior] -= 1
            seats[junior] -= 1
    return tuple(locked)


def _assignment_problem(
    problem: MatchingProblem, fit: CohortFit, locked: Sequence[tuple[int, int]]
) -> AssignmentProblem:
    """The problem without the locked pairs and the seats that they take."""
    row_of, column_of = fit.senior_columns.row_of, fit.junior_columns.row_of
    capacities = [np.array([problem.free_seats[m.id] for m in side]) for side in (fit.seniors, fit.juniors)]
    for s, j in locked:
        capacities[0][s] -= 1
        capacities[1][j] -= 1
    weight, priority = problem.settings.matching.waiting, problem.waiting_priority
    bonus = [np.array([weight * priority.get(m.id, 0.0) for m in side]) for side in (fit.seniors, fit.juniors)]
    apart = {
        (row_of[first], column_of[second])
        for pair in problem.forbidden_pairs
        for first, second in (pair, pair[::-1])
        if first in row_of and second in column_of
    }
    keys = np.array(sorted(s * len(fit.juniors) + j for s, j in {*locked, *apart}), dtype=np.int64)
    return AssignmentProblem(fit, capacities[0], capacities[1], bonus[0], bonus[1], keys, problem.seed)


def _optimal_assignment(
    problem: MatchingProblem,
    assignment_problem: AssignmentProblem,
    candidates: Edges,
    best: BoundedAssignment,
    locked: Sequence[tuple[int, int]],
) -> OptimalAssignment:
    """The best assignment plus the locked pairs, whose seats nobody else can have, to explain who is unmatched."""
    m = assignment_problem.fit.shape[1]
    open_keys = best.edges.seniors * m + best.edges.juniors
    locked_keys = np.array([s * m + j for s, j in locked], dtype=np.int64)
    closed_keys = candidates.seniors * m + candidates.juniors
    closed_keys = closed_keys[~(is_in_sorted(closed_keys, open_keys) | np.isin(closed_keys, locked_keys))]
    keys = np.concatenate([open_keys, locked_keys, closed_keys])
    order = np.argsort(keys, kind="stable")  # fast for keys that are mostly sorted
    allowed_count = len(open_keys) + len(locked_keys)
    is_chosen = np.zeros(len(keys), dtype=np.bool_)
    is_chosen[best.chosen] = True
    is_chosen[len(open_keys) : allowed_count] = True
    is_allowed = order < allowed_count
    edges = Edges(*np.divmod(keys[order], m), np.zeros(len(keys)))
    return OptimalAssignment(
        edges,
        is_allowed,
        np.nonzero(is_chosen[order[is_allowed]])[0],
        seat_values(assignment_problem, best),
        problem.forbidden_pairs,
    )


def _matches(
    problem: MatchingProblem,
    taxonomy: Taxonomy,
    fit: CohortFit,
    candidates: Edges,
    locked: Sequence[tuple[int, int]],
    chosen: Edges,
    lottery: LotteryResult,
) -> list[Match]:
    """The locked and the chosen pairs with all that explains them, the best first."""
    locked_rows = np.array(locked, dtype=np.int64).reshape(-1, 2)
    rows = np.concatenate([locked_rows[:, 0], chosen.seniors])
    columns = np.concatenate([locked_rows[:, 1], chosen.juniors])
    probability = np.concatenate([np.ones(len(locked)), lottery.probability])
    block = fit.evaluate(rows, columns)
    order = np.lexsort((columns, rows, -block.score))  # rows are in the order of ids
    rows, columns, probability = rows[order], columns[order], probability[order]
    n, m = fit.shape
    for_seniors = _runners_up(candidates, candidates.seniors, candidates.juniors, n, rows, columns, fit.juniors)
    for_juniors = _runners_up(candidates, candidates.juniors, candidates.seniors, m, columns, rows, fit.seniors)
    context = ExplanationContext(problem.settings, taxonomy, problem.on)
    return [
        Match(
            fit.seniors[s],
            fit.juniors[j],
            parts,
            context,
            chance,
            _runners_up_by_side(for_senior, for_junior),
            position < len(locked),
        )
        for s, j, parts, chance, for_senior, for_junior, position in zip(
            rows.tolist(),
            columns.tolist(),
            _fits_in_order(block, order),
            probability.tolist(),
            for_seniors,
            for_juniors,
            order.tolist(),
            strict=True,
        )
    ]


def _fits_in_order(block: FitBlock, order: Int64s) -> Iterator[Fit]:
    parts = block.score, block.senior_benefit, block.junior_benefit, block.compatibility, block.perspective
    for score, senior, junior, compatibility, perspective in zip(
        *(part[order].tolist() for part in parts), strict=True
    ):
        yield Fit(
            score=score,
            senior_benefit=senior,
            junior_benefit=junior,
            compatibility=compatibility,
            perspective=perspective,
        )


def _runners_up_by_side(
    for_senior: NextBestPartner | None, for_junior: NextBestPartner | None
) -> Mapping[Side, NextBestPartner]:
    by_side: dict[Side, NextBestPartner] = {}
    if for_senior is not None:
        by_side["senior"] = for_senior
    if for_junior is not None:
        by_side["junior"] = for_junior
    return by_side


def _runners_up(
    edges: Edges,
    mine: Int64s,
    theirs: Int64s,
    people: int,
    members: Int64s,
    partners: Int64s,
    others: Sequence[Member],
) -> list[NextBestPartner | None]:
    """(members): the best candidate of each besides the partner.

    ``mine`` and ``theirs`` are both ends of each edge; ``people``: how many there are on my side.
    """
    best, second = best_two_edges(mine, edges.scores, people)
    ends, scores = np.append(theirs, -1), np.append(edges.scores, 0.0)  # position -1 stands for nobody
    runner_up = np.where(ends[best[members]] == partners, second[members], best[members])
    return [
        None if end < 0 else NextBestPartner(others[end].id, score)
        for end, score in zip(ends[runner_up].tolist(), scores[runner_up].tolist(), strict=True)
    ]
