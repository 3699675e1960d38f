"""The compared matchers: each returns pairs, by position of senior and junior, and its time.

The people, and who may be paired with whom, are the same for all of them. What the seconds include:

* ours: all of ``solve``, from profiles to the answer: encoding, candidates, assignment, fairness pass, draw, receipts'
  runners-up, and why each of the others is left over;
* dense: encoding, the score of every pair, and ``scipy.optimize.linear_sum_assignment``, which maximises the total;
* greedy: encoding, our candidates, and the best one first;
* mentor-match and matching: solving alone, see ``peers``. What each needs to know is worked out beforehand: for
  mentor-match who is excluded, for matching everybody's list of partners, the dearest first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
from pydantic import BaseModel
from scipy.optimize import linear_sum_assignment

from benchmarks import peers, quality
from benchmarks.quality import Everything
from contracts.profiles import ProfileChanged
from contracts.programmes import Draw, Fairness
from contracts.taxonomy import load
from services.matcher.engine.candidates import find_candidates, scan_if_large
from services.matcher.engine.solve import MatchingProblem, MatchingResult, eligible_sides, solve
from services.matcher.engine.vectorised_fit import CohortFit, FitBlock

WISHED, DIFFERENT, MATCHED = 5, 3, 1  # mentor-match's points, where it matches our people


@dataclass(frozen=True)
class Result:
    """The result of one matcher for a round."""

    pairs: Sequence[tuple[int, int]]
    seconds: float
    told: Mapping[str, Any] = field(default_factory=dict)


def ours(question: MatchingProblem) -> Result:
    start = perf_counter()
    answer = solve(question, load())
    seconds = perf_counter() - start
    seniors, juniors = positions(question)
    pairs = [(seniors[match.senior.id], juniors[match.junior.id]) for match in answer.matches]
    return Result(pairs, seconds)


def dense(question: MatchingProblem) -> Result:
    start = perf_counter()
    pairs = _pairs(question)
    scores = np.empty(pairs.shape)
    for rows, block in _blocks(pairs):
        scores[rows] = np.where(block.feasible(), block.score, 0)
    scored = perf_counter()
    seniors, juniors = linear_sum_assignment(scores, maximize=True)
    end = perf_counter()
    may = scores[seniors, juniors] > 0
    made = list(zip(seniors[may].tolist(), juniors[may].tolist(), strict=True))
    return Result(made, end - start, {"seconds_of_scoring": round(scored - start, 3)})


def greedy(question: MatchingProblem) -> Result:
    start = perf_counter()
    pairs = _pairs(question)
    edges = find_candidates(pairs, scan_if_large(pairs))
    result = perf_counter()
    made = quality.greedy(edges.seniors, edges.juniors, edges.scores)
    end = perf_counter()
    return Result(made, end - start, {"seconds_of_candidates": round(result - start, 3)})


def mentor_match(question: MatchingProblem, everything: Everything) -> Result:
    """By rules of its own kinds that come closest to what our people say of themselves. Raises ``peers.Missing``."""
    seniors, juniors = eligible_sides(question)
    request = {
        "mentors": [
            _request_of(item.profile) | {"excluded": np.nonzero(row <= 0)[0].tolist()}
            for item, row in zip(seniors, everything.scores, strict=True)
        ],
        "mentees": [_request_of(item.profile) for item in juniors],
        "rules": [
            ["excluded is disqualified"],
            ["mentee's among mentor's", "wish", "offers", WISHED],
            ["mentor's among mentee's", "wish", "offers", WISHED],
            ["differs", "department", DIFFERENT],
            ["unmatched", MATCHED],
        ],
    }
    answer = peers.ask(peers.MENTOR_MATCH, request)
    return Result(answer.pairs, answer.seconds)


def stable_marriage(everything: Everything) -> Result:
    """Raises ``peers.Missing``."""
    answer = peers.ask(peers.MATCHING, dict(quality.likings(everything)))
    return Result(answer.pairs, answer.seconds, {"seconds_of_making_the_game": round(answer.told["making"], 3)})


def judge(question: MatchingProblem) -> Everything:
    """All pairs of a round, to judge a result."""
    pairs = _pairs(question)
    scores, for_seniors, for_juniors = (np.zeros(pairs.shape, dtype=np.float32) for _ in range(3))
    for rows, block in _blocks(pairs):
        may = block.feasible()
        scores[rows] = np.where(may, block.score, 0)
        for_seniors[rows] = np.where(may, block.senior_benefit, 0)
        for_juniors[rows] = np.where(may, block.junior_benefit, 0)
    return Everything(scores, for_seniors, for_juniors)


def blocking_of_some(question: MatchingProblem, answer: MatchingResult, seniors: int) -> float:
    """Blocking pairs for each senior, over an even sample of seniors and all juniors."""
    pairs = _pairs(question)
    senior_at, junior_at = positions(question)
    senior_has, junior_has = np.zeros(pairs.shape[0]), np.zeros(pairs.shape[1])
    for match in answer.matches:
        senior_has[senior_at[match.senior.id]] = match.fit.senior_benefit
        junior_has[junior_at[match.junior.id]] = match.fit.junior_benefit
    chosen = np.unique(np.linspace(0, pairs.shape[0] - 1, min(seniors, pairs.shape[0])).astype(np.int64))
    result = 0
    for rows in quality.blocks(len(chosen), pairs.shape[1]):
        block = pairs.evaluate_block(chosen[rows], np.arange(pairs.shape[1]))
        result += quality.blocking(
            Everything(np.where(block.feasible(), block.score, 0), block.senior_benefit, block.junior_benefit),
            senior_has[chosen[rows]],
            junior_has,
        )
    return result / len(chosen)


def positions(question: MatchingProblem) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """The position of each senior and each junior in the arrays of every matcher."""
    seniors, juniors = eligible_sides(question)
    return {item.id: n for n, item in enumerate(seniors)}, {item.id: n for n, item in enumerate(juniors)}


def undrawn(question: MatchingProblem) -> MatchingProblem:
    """The same round without a draw among near-equals."""
    return _with(question, draw=Draw(tolerance=0))


def plainly(question: MatchingProblem) -> MatchingProblem:
    """The same round for the best total, without fairness pass and draw."""
    return _with(question, draw=Draw(tolerance=0), fairness=Fairness(max_cost=0))


def _with(question: MatchingProblem, **changes: BaseModel) -> MatchingProblem:
    matching = question.settings.matching.model_copy(update=changes)
    return replace(question, settings=question.settings.model_copy(update={"matching": matching}))


def _pairs(question: MatchingProblem) -> CohortFit:
    seniors, juniors = eligible_sides(question)
    return CohortFit(seniors, juniors, question.settings, load(), question.on, question.earlier_pairs)


def _blocks(pairs: CohortFit) -> Iterator[tuple[slice, FitBlock]]:
    everybody = np.arange(pairs.shape[1])
    for rows in quality.blocks(*pairs.shape):
        yield rows, pairs.evaluate_block(np.arange(rows.start, rows.stop), everybody)


def _request_of(profile: ProfileChanged) -> dict[str, Any]:
    """The attributes for mentor-match: grade, first of the strongest wishes, offer, department."""
    wish = max(profile.seeks, key=lambda seek: seek.priority, default=None)
    return {
        "grade": profile.level or 0,
        "wish": wish and wish.topic,
        "offers": [offer.topic for offer in profile.offers],
        "department": profile.department_id,
    }
