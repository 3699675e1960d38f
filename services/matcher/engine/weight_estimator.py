"""What outcomes say about the weights of the fit: a regression that leans on the weights in use.

The score is a weighted mean of four parts, so learning it is a regression of how pairings went on the parts that they
were chosen by. With ``x`` the parts of a pair, ``y`` its outcome from 0 to 1, ``v`` how much evidence it is and ``w``
the shares of the weights in use, the slopes are the generalised ridge estimate (Hoerl and Kennard 1970) under bounds,

    b = argmin  sum of v (y - b.x)^2  +  s2 / PRIOR_DEVIATION^2 |b - PRIOR_SLOPE w|^2,   b >= 0,

``x`` and ``y`` taken from their means within each round, and ``s2`` the variance of the residuals; it is also the mean
of the posterior for a normal prior around the weights in use, whose covariance is

    C = s2 (X'VX + s2 / PRIOR_DEVIATION^2 I)^-1.

New shares lie on the straight line from ``w`` towards ``b / sum(b)``, as far as the bounds allow.

The gain is the response to selection by an index (Smith 1936, Hazel 1943), ``b.S w' / sqrt(w'.S w') - b.S w /
sqrt(w.S w)`` with ``S`` the covariance of the parts, for choosing the better half. It is linear in ``b``, so its noise
follows from ``C``. Along that line it never falls, whatever ``S``: that the parts vary less among pairs that were
chosen than among all makes it too small, never wrong in sign. Since the direction was chosen after looking at the data,
it is clear only beyond Scheffé's bound for all directions at once, not beyond that of one.

Only pairs that were chosen are seen. Choice was by the parts themselves (and by a draw that does not know how a pair
will go), and a regression on what was chosen by is not biased by the choice: it is only less certain.
"""

from collections import Counter
from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from contracts.errors import CommandRejected
from contracts.programmes import Weights
from services.matcher.domain.learning.evidence import (
    MIN_OUTCOMES,
    OUTCOME_FIELDS,
    PART_NAMES,
    ExpectedGain,
    OutcomeExample,
    PartValues,
    WeightEstimate,
)

FloatArray = npt.NDArray[np.float64]
PRIOR_SLOPE = 1.0  # before any outcome, a pair that fits better by 0.1 is taken to go better by 0.1 ...
PRIOR_DEVIATION = 0.25  # ... and each part's slope to differ from that by so much, as a standard deviation
REFUSAL_EVIDENCE = 0.1  # what such a refusal counts beside an outcome of which all is known
MAX_REFUSAL_SHARE = 0.25  # what all refusals together may count beside all outcomes
MIN_ROUND_EXAMPLES = 5  # examples that a round needs for a mean of its own; smaller ones share one
MAX_SHARE_STEP = 0.1  # by so much of the whole may one version change one weight's share
MIN_SHARE, MAX_SHARE = 0.05, 0.7  # shares that learning leaves every weight at least, and at most
MIN_VARIANCE = 0.01  # of an outcome; five bands are never more exact than that
BETTER_HALF_MEAN = 0.798  # mean of the better half of a normal distribution, in standard deviations
INTERVAL_90_HALF_WIDTH = 1.645  # half the width of an interval of 90 per cent, in standard deviations
MIN_SLOPE_SUM = 0.05  # slopes that add up to less have no direction


def estimate_weights(examples: Sequence[OutcomeExample], weights: Weights) -> WeightEstimate:
    """What the examples say about the weights in use. A weight of 0 was a decision, and stays 0.

    Raises ``CommandRejected`` where fewer than ``MIN_OUTCOMES`` outcomes are known.
    """
    outcomes = sum(example.bands is not None for example in examples)
    if outcomes < MIN_OUTCOMES:
        raise CommandRejected(
            "too_few_outcomes", f"Fewer than {MIN_OUTCOMES} outcomes are known: too few to learn from."
        )
    now = compute_shares(weights)
    used = now > 0
    x, y, v, groups = _build_regression_data(examples)
    x = x[:, used]
    within = _center_within_groups(x, y, v, groups)
    slopes, covariance = _estimate_posterior(*within, v, now[used], len(set(groups)))
    towards = slopes / slopes.sum() if slopes.sum() > MIN_SLOPE_SUM else now[used]
    after = _limit_step(now[used], towards)
    hundredths = np.maximum(0.01, np.round(after, 2))
    set_to = np.round(_expand(hundredths, used) * _sum_weights(weights), 2).tolist()
    spread = _share_deviations(slopes, towards, covariance)
    low, high = towards - INTERVAL_90_HALF_WIDTH * spread, towards + INTERVAL_90_HALF_WIDTH * spread
    return WeightEstimate(
        outcomes=outcomes,
        refusals=len(examples) - outcomes,
        shares=_to_parts(_expand(towards, used)),
        low=_to_parts(_expand(np.clip(low, 0, 1), used)),
        high=_to_parts(_expand(np.clip(high, 0, 1), used)),
        slopes=_to_parts(_expand(slopes, used)),
        covariance=_expand_square(covariance, used),
        weights=Weights(**dict(zip(PART_NAMES, set_to, strict=True))),
        gain=_estimate_gain(slopes, covariance, _parts_covariance(within[0], v), now[used], after),
    )


def compare_expected_outcomes(estimate: WeightEstimate, now: PartValues, then: PartValues) -> ExpectedGain:
    """What two sets of pairs are expected to differ by in their mean outcome, from the means of their parts."""
    moved = np.array(then) - np.array(now)
    noise = sqrt(max(0.0, float(moved @ np.array(estimate.covariance) @ moved)))
    return ExpectedGain(by=float(moved @ np.array(estimate.slopes)), noise=noise)


def compute_shares(weights: Weights) -> FloatArray:
    """(4,) in the order of ``PART_NAMES``; they add up to 1."""
    return np.array([getattr(weights, part) for part in PART_NAMES], dtype=np.float64) / _sum_weights(weights)


def _sum_weights(weights: Weights) -> float:
    return float(sum(getattr(weights, part) for part in PART_NAMES))


def _build_regression_data(examples: Sequence[OutcomeExample]) -> tuple[FloatArray, FloatArray, FloatArray, list[str]]:
    """Parts (n, 4), outcomes (n,), evidence (n,), and of each example the group that it is compared within."""
    x = np.array([example.parts for example in examples], dtype=np.float64)
    known = [example.known_worths for example in examples]
    y = np.array([sum(one) / len(one) if one else 0.0 for one in known])
    refused = np.array([example.bands is None for example in examples])
    v = np.where(refused, REFUSAL_EVIDENCE, np.array([len(one) / len(OUTCOME_FIELDS) for one in known]))
    of_outcomes, of_refusals = float(v[~refused].sum()), float(v[refused].sum())
    if of_refusals > MAX_REFUSAL_SHARE * of_outcomes:
        v[refused] *= MAX_REFUSAL_SHARE * of_outcomes / of_refusals
    sizes = Counter(example.round_id for example in examples)
    groups = [one.round_id if sizes[one.round_id] >= MIN_ROUND_EXAMPLES else "" for one in examples]
    return x, y, v, groups


def _center_within_groups(
    x: FloatArray, y: FloatArray, v: FloatArray, groups: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """``x`` and ``y`` from their weighted means within each group: rounds differ in much that is no pair's doing."""
    x, y = x.copy(), y.copy()
    of = np.array(groups)
    for group in set(groups):
        rows = of == group
        x[rows] -= np.average(x[rows], axis=0, weights=v[rows])
        y[rows] -= np.average(y[rows], weights=v[rows])
    return x, y


def _estimate_posterior(
    x: FloatArray, y: FloatArray, v: FloatArray, now: FloatArray, groups: int
) -> tuple[FloatArray, FloatArray]:
    """Slopes (p,) and their covariance (p, p); see the formula above."""
    from scipy.optimize import lsq_linear  # 0.4 s of every start, for a step that few programmes take

    root = np.sqrt(v)
    a, b = x * root[:, None], y * root
    plain = np.linalg.lstsq(a, b, rcond=None)[0]
    freedom = max(1, len(y) - groups - x.shape[1])
    variance = max(MIN_VARIANCE, float(np.square(b - a @ plain).sum()) / freedom)
    ridge = variance / PRIOR_DEVIATION**2
    tied = np.vstack([a, sqrt(ridge) * np.eye(x.shape[1])])
    aimed = np.concatenate([b, sqrt(ridge) * PRIOR_SLOPE * now])
    slopes = np.asarray(lsq_linear(tied, aimed, bounds=(0, np.inf)).x, dtype=np.float64)
    covariance = variance * np.linalg.inv(tied.T @ tied)
    return slopes, covariance


def _limit_step(now: FloatArray, towards: FloatArray) -> FloatArray:
    """As far from ``now`` on the straight line ``towards`` as every share stays within its bounds."""
    least = np.minimum(now, np.maximum(MIN_SHARE, now - MAX_SHARE_STEP))
    most = np.maximum(now, np.minimum(MAX_SHARE, now + MAX_SHARE_STEP))
    moved = towards - now
    room = np.where(moved > 0, most - now, now - least)
    reach = [room[n] / abs(moved[n]) for n in range(len(now)) if abs(moved[n]) > 1e-12]
    return np.asarray(now + min([1.0, *reach]) * moved, dtype=np.float64)


def _estimate_gain(
    slopes: FloatArray, covariance: FloatArray, spread: FloatArray, now: FloatArray, after: FloatArray
) -> ExpectedGain:
    moved = BETTER_HALF_MEAN * (_selection_response(after, spread) - _selection_response(now, spread))
    return ExpectedGain(by=float(moved @ slopes), noise=sqrt(max(0.0, float(moved @ covariance @ moved))))


def _selection_response(shares: FloatArray, spread: FloatArray) -> FloatArray:
    """By how much the parts rise where pairs are chosen by these shares, for one standard deviation of the index."""
    deviation = sqrt(max(0.0, float(shares @ spread @ shares)))
    return np.asarray(spread @ shares / deviation if deviation > 0 else np.zeros_like(shares), dtype=np.float64)


def _parts_covariance(x: FloatArray, v: FloatArray) -> FloatArray:
    """Covariance (p, p) of the parts within groups."""
    return np.asarray((x * v[:, None]).T @ x / v.sum(), dtype=np.float64)


def _share_deviations(slopes: FloatArray, shares: FloatArray, covariance: FloatArray) -> FloatArray:
    """Standard deviations of the shares, by the delta method; of no direction, anything is possible."""
    whole = float(slopes.sum())
    if whole <= MIN_SLOPE_SUM:
        return np.ones_like(shares)
    change = (np.eye(len(shares)) - np.outer(shares, np.ones_like(shares))) / whole
    return np.asarray(np.sqrt(np.maximum(0, np.diag(change @ covariance @ change.T))), dtype=np.float64)


def _expand(values: FloatArray, used: npt.NDArray[np.bool_]) -> FloatArray:
    found = np.zeros(len(PART_NAMES))
    found[used] = values
    return found


def _to_parts(values: FloatArray) -> PartValues:
    one, two, three, four = (float(value) for value in values)
    return one, two, three, four


def _expand_square(
    values: FloatArray, used: npt.NDArray[np.bool_]
) -> tuple[PartValues, PartValues, PartValues, PartValues]:
    found = np.zeros((len(PART_NAMES), len(PART_NAMES)))
    found[np.ix_(used, used)] = values
    one, two, three, four = (_to_parts(row) for row in found)
    return one, two, three, four
