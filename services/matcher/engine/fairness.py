"""Improves the worst-off pairs at a bounded cost to the total. Nobody who has a partner loses one without another.

The mean of the worst pairs equals the maximum over thresholds of ``threshold - shortfall / count``, where ``shortfall``
is the total by which all pairs stay below the threshold (Rockafellar and Uryasev 2000). So at a given threshold the
fairest assignment has the least shortfall, which is again a minimum-cost flow: shortfall counts many times what fit
counts. Two thresholds are tried; the second is the score at which the worst pairs of the first result end. If both cost
too much, a milder weight is tried.
"""

from dataclasses import dataclass

import numpy as np

from contracts.programmes import Fairness
from services.matcher.engine.arrays import Float64s, Int64s
from services.matcher.engine.assignment import assign
from services.matcher.engine.candidates import Edges, is_among_best

SHORTFALL_WEIGHT = 64.0  # weight of one unit of shortfall, in units of fit
MILD_SHORTFALL_WEIGHT = 2.0  # the weight when the first costs too much
ALTERNATIVES_PER_PERSON = 12  # candidates of each person among which a fairer partner is searched
CLEAR_IMPROVEMENT = 0.05  # relative rise of the worst pairs that needs no explanation
_TOLERANCE = 1e-9  # of a comparison of sums


@dataclass(frozen=True)
class FairnessResult:
    """``chosen``: positions of the pairs. ``note``: what was reached, or why no more was possible."""

    chosen: Int64s
    note: str


def improve_fairness(
    edges: Edges, chosen: Int64s, seniors: int, juniors: int, rules: Fairness, seed: int
) -> FairnessResult:
    """The assignment of the same people whose worst pairs are best, within the allowed cost.

    ``edges`` have scores of fit, ``chosen`` are positions in them.
    """
    if len(chosen) < 2 or rules.max_cost == 0:
        return FairnessResult(chosen, "")
    before = edges.scores[chosen]
    count = max(1, int(len(before) * rules.worst))
    least_total = before.sum() * (1 - rules.max_cost)
    usable = is_among_best(edges, ALTERNATIVES_PER_PERSON)
    usable[chosen] = True
    positions = np.nonzero(usable)[0]
    alternatives = edges.take(positions)
    senior_seats = np.bincount(edges.seniors[chosen], minlength=seniors).tolist()
    junior_seats = np.bincount(edges.juniors[chosen], minlength=juniors).tolist()

    def reassign(threshold: float, weight: float) -> Int64s:
        shortfall = np.maximum(0, threshold - alternatives.scores)
        weighted = Edges(alternatives.seniors, alternatives.juniors, alternatives.scores - weight * shortfall)
        return positions[assign(senior_seats, junior_seats, weighted, seed, fill_all=True)]

    best = chosen
    threshold = float(np.quantile(before, min(1.0, 2 * rules.worst)))
    for weight in (SHORTFALL_WEIGHT, SHORTFALL_WEIGHT, MILD_SHORTFALL_WEIGHT):
        if weight == MILD_SHORTFALL_WEIGHT and best is not chosen:
            break
        reassigned = reassign(threshold, weight)
        scores = edges.scores[reassigned]
        is_affordable = scores.sum() >= least_total - _TOLERANCE
        if is_affordable and _mean_of_worst(scores, count) > _mean_of_worst(edges.scores[best], count) + _TOLERANCE:
            best = reassigned
        if weight == SHORTFALL_WEIGHT:
            threshold = float(np.partition(scores, count - 1)[count - 1])
    return FairnessResult(best, _describe(edges, chosen, best, count))


def _describe(edges: Edges, before: Int64s, after: Int64s, count: int) -> str:
    mean_before, mean_after = _mean_of_worst(edges.scores[before], count), _mean_of_worst(edges.scores[after], count)
    rise, cost = mean_after / mean_before - 1, 1 - edges.scores[after].sum() / edges.scores[before].sum()
    note = f"The mean fit of the {count} worst pairs rose by {rise:.1%} for {max(0.0, cost):.2%} of the total."
    if mean_after >= mean_before * (1 + CLEAR_IMPROVEMENT):
        return note
    best_of_seniors, best_of_juniors = (np.zeros(int(side.max()) + 1) for side in (edges.seniors, edges.juniors))
    np.maximum.at(best_of_seniors, edges.seniors, edges.scores)
    np.maximum.at(best_of_juniors, edges.juniors, edges.scores)
    limit = min(
        _mean_of_worst(best_of_seniors[edges.seniors[before]], count),
        _mean_of_worst(best_of_juniors[edges.juniors[before]], count),
    )
    return f"{note} With everybody's best partner it could have risen by {limit / mean_before - 1:.1%} at most."


def _mean_of_worst(scores: Float64s, count: int) -> float:
    return float(np.partition(scores, count - 1)[:count].mean())
