"""Raises the pairs that are worst off, at a bounded cost to the total; nobody who has a partner is left without.

The mean of the worst pairs is the greatest, over a threshold, of ``threshold - missing / count``, where ``missing`` is
by how much all pairs together stay below it (Rockafellar and Uryasev 2000). So, at a threshold, the fairest assignment
is the one with the least missing, again a minimum-cost flow: what a pair lacks costs many times what it has. Two
thresholds are tried, the second where the worst pairs of the first result end; a milder weight, where both cost too
much.
"""

from dataclasses import dataclass

import numpy as np

from contracts.programmes import Fairness
from services.matcher.engine.assignment import assign
from services.matcher.engine.candidates import Edges, is_among_best
from services.matcher.engine.member_columns import Ints
from services.matcher.engine.vectorised_fit import Floats

SHORTFALL_WEIGHT = 64.0  # what a pair lacks counts so many times what it has
MILD_SHORTFALL_WEIGHT = 2.0  # ... and this where that cost too much
ALTERNATIVES_PER_PERSON = 12  # candidates of each person among whom the fairer partner is looked for
CLEAR_IMPROVEMENT = 0.05  # rise of the worst pairs that needs no explanation


@dataclass(frozen=True)
class FairnessResult:
    """``chosen``: positions of the pairs; ``words``: what was reached, or why no more could be."""

    chosen: Ints
    note: str


def improve_fairness(
    edges: Edges, chosen: Ints, seniors: int, juniors: int, rules: Fairness, seed: int
) -> FairnessResult:
    """The assignment of the same people whose worst pairs are best, within the cost. ``edges`` have scores of fit."""
    if len(chosen) < 2 or rules.max_cost == 0:
        return FairnessResult(chosen, "")
    before = edges.scores[chosen]
    count = max(1, int(len(before) * rules.worst))
    most = before.sum() * (1 - rules.max_cost)
    keep = is_among_best(edges, ALTERNATIVES_PER_PERSON)
    keep[chosen] = True
    which = np.nonzero(keep)[0]
    some = edges.take(which)
    places = (
        np.bincount(edges.seniors[chosen], minlength=seniors),
        np.bincount(edges.juniors[chosen], minlength=juniors),
    )

    def tried(threshold: float, weight: float) -> Ints:
        lacking = np.maximum(0, threshold - some.scores)
        weights = some.scores - weight * lacking
        found = assign(
            places[0].tolist(), places[1].tolist(), Edges(some.seniors, some.juniors, weights), seed, fill_all=True
        )
        return which[found]

    best = chosen
    threshold = float(np.quantile(before, min(1.0, 2 * rules.worst)))
    for weight in (SHORTFALL_WEIGHT, SHORTFALL_WEIGHT, MILD_SHORTFALL_WEIGHT):
        if weight == MILD_SHORTFALL_WEIGHT and best is not chosen:
            break
        found = tried(threshold, weight)
        scores = edges.scores[found]
        affordable = scores.sum() >= most - 1e-9
        if affordable and _worst(scores, count) > _worst(edges.scores[best], count) + 1e-9:
            best = found
        if weight == SHORTFALL_WEIGHT:
            threshold = float(np.partition(scores, count - 1)[count - 1])
    return FairnessResult(best, _told(edges, chosen, best, count))


def _told(edges: Edges, before: Ints, after: Ints, count: int) -> str:
    had, has = _worst(edges.scores[before], count), _worst(edges.scores[after], count)
    cost = 1 - edges.scores[after].sum() / edges.scores[before].sum()
    said = f"The mean fit of the {count} worst pairs rose by {has / had - 1:.1%} for {max(0.0, cost):.2%} of the total."
    if has >= had * (1 + CLEAR_IMPROVEMENT):
        return said
    of_seniors, of_juniors = (np.zeros(int(side.max()) + 1) for side in (edges.seniors, edges.juniors))
    np.maximum.at(of_seniors, edges.seniors, edges.scores)
    np.maximum.at(of_juniors, edges.juniors, edges.scores)
    most = min(_worst(of_seniors[edges.seniors[before]], count), _worst(of_juniors[edges.juniors[before]], count))
    return f"{said} With everybody's best partner it could have risen by {most / had - 1:.1%} at most."


def _worst(scores: Floats, count: int) -> float:
    """Mean of the worst."""
    return float(np.partition(scores, count - 1)[:count].mean())
