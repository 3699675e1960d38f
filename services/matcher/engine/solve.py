"""A round from end to end: who takes part, who is paired with whom and why, who is left over and why."""

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
from services.matcher.domain.fit import rules
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.fit.score import Fit, select_focus
from services.matcher.engine.assignment import split_sides
from services.matcher.engine.candidates import Candidates, Edges, best_two_edges, find_candidates, scan_if_large
from services.matcher.engine.fairness import improve_fairness
from services.matcher.engine.member_columns import Ints
from services.matcher.engine.optimality_bound import (
    AssignmentProblem,
    BoundedAssignment,
    is_in_sorted,
    seat_values,
    solve_with_bound,
)
from services.matcher.engine.tie_lottery import LotteryResult, draw_ties
from services.matcher.engine.unmatched import OptimalAssignment as Assigned
from services.matcher.engine.unmatched import UnmatchedMember, explain_one_sided, explain_unmatched
from services.matcher.engine.vectorised_fit import CohortFit, FitBlock


@dataclass(frozen=True)
class MatchingProblem:
    """All that a round's result depends on."""

    programme_id: str
    settings: ProgrammeSettings
    profiles: Sequence[ProfileChanged]
    free_seats: Mapping[str, int]  # free places of each member who has any
    earlier_pairs: Sequence[tuple[str, str]]
    on: date
    seed: int
    locked_pairs: Sequence[tuple[str, str]] = ()  # (senior, junior) that a coordinator holds together
    forbidden_pairs: Sequence[tuple[str, str]] = ()  # members that a coordinator keeps apart, either way round
    waiting_priority: Mapping[str, float] = field(
        default_factory=dict
    )  # priority of each member who has one, from 0 to 1


@dataclass(frozen=True)
class NextBestPartner:
    """The best partner that a side could have had instead, and how well they fit."""

    member_id: str
    score: float


@dataclass(frozen=True)
class ExplanationContext:
    """What the words about a pair depend on beside the two."""

    settings: ProgrammeSettings
    taxonomy: Taxonomy
    on: date


@dataclass(frozen=True)
class Match:
    """One proposed pair; its words are made when they are asked for.

    ``probability``: with which the draw among near-equals chose it, given the assignment before the draw.
    ``runner_up``: of each side, whether their place was taken or not; private rules play no part in it.
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
        known = self.context
        return build_reasons(self.senior.profile, self.junior.profile, known.settings, known.taxonomy, known.on)

    @cached_property
    def focus(self) -> tuple[Focus, ...]:
        marks = self.context.settings.matching.benefit
        return select_focus(self.senior.profile, self.junior.profile, marks, self.context.taxonomy)


@dataclass(frozen=True)
class MatchingResult:
    """A round's result, the best pairs first.

    ``total``: fit of all pairs; ``optimum``: the same before fairness and the draw; ``bound``: what that of no
    assignment exceeds (priority counted; by an estimate where only some seniors were looked at), None where nothing was
    assigned; ``fairness``: what that pass reached.
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
    problem: MatchingProblem, taxonomy: Taxonomy, progress: Callable[[str, int, int], None] = lambda *_: None
) -> MatchingResult:
    """Who is to be paired with whom. ``progress`` hears the stage, what is done of it and how much there is."""
    seniors, juniors = eligible_sides(problem)
    if not seniors or not juniors:
        why, left = explain_one_sided(seniors, juniors)
        return MatchingResult(len(seniors), len(juniors), (), left, why)
    pairs = CohortFit(seniors, juniors, problem.settings, taxonomy, problem.on, problem.earlier_pairs)
    scan = scan_if_large(pairs)
    found = find_candidates(pairs, scan, lambda done: progress("scoring", done, len(seniors)))
    locked = _locked(problem, pairs)
    market = _market(problem, pairs, locked)
    progress("solving", 0, len(found.edges))
    best = solve_with_bound(market, found, scan)
    del scan  # whose tables take hundreds of megabytes, which others need now
    before = best.edges.scores[best.chosen]
    matching = problem.settings.matching
    with ThreadPoolExecutor(1) as beside:  # who is left over does not depend on what follows
        told = best.without_unused_columns()
        leaving = beside.submit(
            lambda: explain_unmatched(pairs, _before_fairness(problem, market, found, told, locked))
        )
        fair = improve_fairness(best.edges, best.chosen, len(seniors), len(juniors), matching.fairness, problem.seed)
        lot = draw_ties(best.edges, fair.chosen, len(juniors), float(before.sum()), matching.draw, problem.seed)
        matches = _matches(problem, taxonomy, pairs, found, locked, best.edges.take(lot.chosen), lot)
        left = leaving.result()
    held = sum(match.fit.score for match in matches if match.is_locked)
    return MatchingResult(
        seniors=len(seniors),
        juniors=len(juniors),
        matches=matches,
        unmatched=left,
        empty_reason=None if matches else "No two of them can be paired; the reason of each is given.",
        total_fit=sum(match.fit.score for match in matches),
        optimal_fit=float(before.sum()) + held,
        upper_bound=float(before.sum()) + held + best.gap if matches else None,
        fairness_note=fair.note,
    )


def _locked(question: MatchingProblem, pairs: CohortFit) -> tuple[tuple[int, int], ...]:
    """The rows of the held pairs that no rule is in the way of and both have a place for, in the order of their ids."""
    row, column = pairs.senior_columns.row_of, pairs.junior_columns.row_of
    places = dict(question.free_seats)
    kept = []
    for senior, junior in sorted(set(question.locked_pairs)):
        if senior not in row or junior not in column or min(places[senior], places[junior]) <= 0:
            continue
        block = pairs.evaluate(np.array([row[senior]]), np.array([column[junior]]))
        if not any(mask[0] for mask in block.broken.values()):
            kept.append((row[senior], column[junior]))
            places[senior] -= 1
            places[junior] -= 1
    return tuple(kept)


def _market(question: MatchingProblem, pairs: CohortFit, locked: Sequence[tuple[int, int]]) -> AssignmentProblem:
    row, column = pairs.senior_columns.row_of, pairs.junior_columns.row_of
    places = [np.array([question.free_seats[m.id] for m in side]) for side in (pairs.seniors, pairs.juniors)]
    for s, j in locked:
        places[0][s] -= 1
        places[1][j] -= 1
    weight = question.settings.matching.waiting
    bonus = [
        np.array([weight * question.waiting_priority.get(m.id, 0.0) for m in side])
        for side in (pairs.seniors, pairs.juniors)
    ]
    apart = {(row[a], column[b]) for a, b in _either_way(question.forbidden_pairs) if a in row and b in column}
    keys = np.array(sorted(s * len(pairs.juniors) + j for s, j in {*locked, *apart}), dtype=np.int64)
    return AssignmentProblem(pairs, places[0], places[1], bonus[0], bonus[1], keys, question.seed)


def _either_way(pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    return {way for one, other in pairs for way in ((one, other), (other, one))}


def _before_fairness(
    question: MatchingProblem,
    market: AssignmentProblem,
    found: Candidates,
    best: BoundedAssignment,
    locked: Sequence[tuple[int, int]],
) -> Assigned:
    """The best assignment with the held pairs, whose places nobody else can have, for the words of those left over."""
    m = market.fit.shape[1]
    open_ = best.edges.seniors * m + best.edges.juniors
    held = np.array([s * m + j for s, j in locked], dtype=np.int64)
    closed = found.edges.seniors * m + found.edges.juniors
    closed = closed[~(is_in_sorted(closed, open_) | np.isin(closed, held))]
    keys = np.concatenate([open_, held, closed])
    order = np.argsort(keys, kind="stable")  # made for what stands in order for the most part
    taken = np.zeros(len(keys), dtype=np.bool_)
    taken[best.chosen] = True
    taken[len(open_) : len(open_) + len(held)] = True
    allowed = order < len(open_) + len(held)
    edges = Edges(*np.divmod(keys[order], m), np.zeros(len(keys)))
    return Assigned(
        Candidates(edges, ~allowed),
        np.nonzero(taken[order[allowed]])[0],
        seat_values(market, found, best),
        question.forbidden_pairs,
    )


def eligible_sides(question: MatchingProblem) -> tuple[list[Member], list[Member]]:
    """Seniors and juniors who can be proposed today and have a place free, in the order of their ids."""
    held = {senior: "senior" for senior, _ in question.locked_pairs} | {
        junior: "junior" for _, junior in question.locked_pairs
    }
    found: dict[str, list[Member]] = {"senior": [], "junior": [], "either": []}
    for profile in question.profiles:
        member = rules.find_enrolled_member(profile, question.programme_id)
        if member is None or question.free_seats.get(profile.member_id, 0) <= 0:
            continue
        if rules.find_member_absence_reason(member, question.settings, question.on) is None:
            found[held.get(member.id, "either") if member.enrolment.side == "either" else member.enrolment.side].append(
                member
            )
    places = [question.free_seats[m.id] for side in ("senior", "junior", "either") for m in found[side]]
    return split_sides(found["senior"], found["junior"], found["either"], places)


def _matches(
    question: MatchingProblem,
    taxonomy: Taxonomy,
    pairs: CohortFit,
    found: Candidates,
    locked: Sequence[tuple[int, int]],
    chosen: Edges,
    lot: LotteryResult,
) -> list[Match]:
    """The pairs in words' reach, the best first."""
    held = np.array(locked, dtype=np.int64).reshape(-1, 2)
    rows, columns = np.concatenate([held[:, 0], chosen.seniors]), np.concatenate([held[:, 1], chosen.juniors])
    probability = np.concatenate([np.ones(len(held)), lot.probability])
    block = pairs.evaluate(rows, columns)
    order = np.lexsort((columns, rows, -block.score))  # rows are in the order of ids
    rows, columns, probability = rows[order], columns[order], probability[order]
    edges, (n, m) = found.edges, pairs.shape
    ups_of_seniors = _runners_up(edges, edges.seniors, edges.juniors, n, rows, columns, pairs.juniors)
    ups_of_juniors = _runners_up(edges, edges.juniors, edges.seniors, m, columns, rows, pairs.seniors)
    background = ExplanationContext(question.settings, taxonomy, question.on)
    return [
        Match(pairs.seniors[s], pairs.juniors[j], parts, background, likely, _ups(up_of_s, up_of_j), place < len(held))
        for s, j, parts, likely, up_of_s, up_of_j, place in zip(
            rows.tolist(),
            columns.tolist(),
            _parts(block, order),
            probability.tolist(),
            ups_of_seniors,
            ups_of_juniors,
            order.tolist(),
            strict=True,
        )
    ]


def _parts(block: FitBlock, order: Ints) -> Iterator[Fit]:
    parts = block.score, block.senior_benefit, block.junior_benefit, block.compatibility, block.perspective
    for score, senior, junior, together, views in zip(*(part[order].tolist() for part in parts), strict=True):
        yield Fit(score=score, senior_benefit=senior, junior_benefit=junior, compatibility=together, perspective=views)


def _ups(of_senior: NextBestPartner | None, of_junior: NextBestPartner | None) -> Mapping[Side, NextBestPartner]:
    ups: dict[Side, NextBestPartner] = {}
    if of_senior is not None:
        ups["senior"] = of_senior
    if of_junior is not None:
        ups["junior"] = of_junior
    return ups


def _runners_up(
    edges: Edges, mine: Ints, theirs: Ints, people: int, who: Ints, partners: Ints, others: Sequence[Member]
) -> list[NextBestPartner | None]:
    """The best candidate of each beside the partner; ``mine`` and ``theirs`` are both ends of each edge, ``people`` how
    many there are of mine."""
    first, second = best_two_edges(mine, edges.scores, people)
    ends, scores = np.append(theirs, -1), np.append(edges.scores, 0.0)  # the last stands for nobody
    best = np.where(ends[first[who]] == partners, second[who], first[who])
    return [
        None if end < 0 else NextBestPartner(others[end].id, score)
        for end, score in zip(ends[best].tolist(), scores[best].tolist(), strict=True)
    ]
