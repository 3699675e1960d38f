"""The estimator of the weights of the fit: a regression of outcomes with a prior around the weights in use.

The score is a weighted mean of four parts, so the weights are learned by a regression of the outcomes on these parts.
With ``x`` the parts of a pair, ``y`` its outcome from 0 to 1, ``v`` its weight as evidence and ``w`` the shares of the
weights in use, the slopes are the generalised ridge estimate (Hoerl and Kennard 1970) under bounds,

    b = argmin  sum of v (y - b.x)^2  +  s2 / PRIOR_DEVIATION^2 |b - PRIOR_SLOPE w|^2,   b >= 0,

with ``x`` and ``y`` centred within each round, and ``s2`` the variance of the residuals. This is also the mean of the
posterior for a normal prior around the weights in use, whose covariance is

    C = s2 (X'VX + s2 / PRIOR_DEVIATION^2 I)^-1.

New shares lie on the straight line from ``w`` towards ``b / sum(b)``, as far as the bounds allow.

The gain is the response to selection by an index (Smith 1936, Hazel 1943), ``b.S w' / sqrt(w'.S w') - b.S w /
sqrt(w.S w)`` with ``S`` the covariance of the parts, for choosing the better half. It is linear in ``b``, so its noise
follows from ``C``. Along that line it never falls, whatever ``S``. The parts vary less among chosen pairs than among
all pairs; this makes the gain too small, never wrong in sign. The direction is chosen after the data are seen, so the
gain is clear only beyond Scheffé's bound for all directions at once.

Only chosen pairs are observed. They were chosen by the parts themselves and by a draw that is independent of the
outcome. A regression on the selecting variables is not biased by the selection, only less certain.
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
PRIOR_SLOPE = 1.0  # prior: a fit that is higher by 0.1 gives an outcome that is higher by 0.1
PRIOR_DEVIATION = 0.25  # standard deviation of the prior for the slope of each part
REFUSAL_EVIDENCE = 0.1  # evidence of a refusal, relative to a complete outcome
MAX_REFUSAL_SHARE = 0.25  # largest evidence of all refusals, relative to all outcomes
MIN_ROUND_EXAMPLES = 5  # examples that a round needs for its own mean; smaller rounds share one
MAX_SHARE_STEP = 0.1  # largest change of one share in one version
MIN_SHARE, MAX_SHARE = 0.05, 0.7  # bounds of every share that learning sets
MIN_VARIANCE = 0.01  # of an outcome, limited by the resolution of five bands
BETTER_HALF_MEAN = 0.798  # mean of the better half of a normal distribution, in standard deviations
INTERVAL_90_HALF_WIDTH = 1.645  # half the width of an interval of 90 per cent, in standard deviations
MIN_SLOPE_SUM = 0.05  # below this sum, the slopes give no direction


def estimate_weights(examples: Sequence[OutcomeExample], weights: Weights) -> WeightEstimate:
    """Estimate the weights from examples. A weight of 0 was a decision, and stays 0.

    Raises ``CommandRejected`` if fewer than ``MIN_OUTCOMES`` outcomes are known.
    """
    outcomes = sum(example.bands is not None for example in examples)
    if outcomes < MIN_OUTCOMES:
        raise CommandRejected(
            "too_few_outcomes", f"Fewer than {MIN_OUTCOMES} outcomes are known: too few to learn from."
        )
    current = compute_shares(weights)
    is_used = current > 0
    x, y, v, groups = _build_regression_data(examples)
    x = x[:, is_used]
    centred = _center_within_groups(x, y, v, groups)
    slopes, covariance = _estimate_posterior(*centred, v, current[is_used], len(set(groups)))
    target = slopes / slopes.sum() if slopes.sum() > MIN_SLOPE_SUM else current[is_used]
    updated = _limit_step(current[is_used], target)
    hundredths = np.maximum(0.01, np.round(updated, 2))
    new_weights = np.round(_expand(hundredths, is_used) * _sum_weights(weights), 2).tolist()
    deviations = _share_deviations(slopes, target, covariance)
    low, high = target - INTERVAL_90_HALF_WIDTH * deviations, target + INTERVAL_90_HALF_WIDTH * deviations
    return WeightEstimate(
        outcomes=outcomes,
        refusals=len(examples) - outcomes,
        shares=_to_parts(_expand(target, is_used)),
        low=_to_parts(_expand(np.clip(low, 0, 1), is_used)),
        high=_to_parts(_expand(np.clip(high, 0, 1), is_used)),
        slopes=_to_parts(_expand(slopes, is_used)),
        covariance=_expand_square(covariance, is_used),
        weights=Weights(**dict(zip(PART_NAMES, new_weights, strict=True))),
        gain=_estimate_gain(slopes, covariance, _parts_covariance(centred[0], v), current[is_used], updated),
    )


def compare_expected_outcomes(estimate: WeightEstimate, now: PartValues, then: PartValues) -> ExpectedGain:
    """The expected difference in the mean outcome of two sets of pairs, from the means of their parts."""
    difference = np.array(then) - np.array(now)
    noise = sqrt(max(0.0, float(difference @ np.array(estimate.covariance) @ difference)))
    return ExpectedGain(by=float(difference @ np.array(estimate.slopes)), noise=noise)


def compute_shares(weights: Weights) -> FloatArray:
    """The shares (4,) in the order of ``PART_NAMES``; they add up to 1."""
    return np.array([getattr(weights, part) for part in PART_NAMES], dtype=np.float64) / _sum_weights(weights)


def _sum_weights(weights: Weights) -> float:
    return float(sum(getattr(weights, part) for part in PART_NAMES))


def _build_regression_data(examples: Sequence[OutcomeExample]) -> tuple[FloatArray, FloatArray, FloatArray, list[str]]:
    """Parts (n, 4), outcomes (n,), evidence (n,), and the comparison group of each example (n)."""
    x = np.array([example.parts for example in examples], dtype=np.float64)
    worths = [example.known_worths for example in examples]
    y = np.array([sum(example) / len(example) if example else 0.0 for example in worths])
    is_refusal = np.array([example.bands is None for example in examples])
    v = np.where(is_refusal, REFUSAL_EVIDENCE, np.array([len(example) / len(OUTCOME_FIELDS) for example in worths]))
    of_outcomes, of_refusals = float(v[~is_refusal].sum()), float(v[is_refusal].sum())
    if of_refusals > MAX_REFUSAL_SHARE * of_outcomes:
        v[is_refusal] *= MAX_REFUSAL_SHARE * of_outcomes / of_refusals
    sizes = Counter(example.round_id for example in examples)
    groups = [example.round_id if sizes[example.round_id] >= MIN_ROUND_EXAMPLES else "" for example in examples]
    return x, y, v, groups


def _center_within_groups(
    x: FloatArray, y: FloatArray, v: FloatArray, groups: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Centre ``x`` and ``y`` at the weighted means of each group, since rounds differ for reasons beyond the pairs."""
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
    """Slopes (p,) and their covariance (p, p) by the formula of the module."""
    from scipy.optimize import lsq_linear  # the import takes 0.4 s, and few programmes need it

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


def _limit_step(current: FloatArray, target: FloatArray) -> FloatArray:
    """The point farthest from ``now`` on the line to ``towards`` at which every share is within its bounds."""
    lower = np.minimum(current, np.maximum(MIN_SHARE, current - MAX_SHARE_STEP))
    upper = np.maximum(current, np.minimum(MAX_SHARE, current + MAX_SHARE_STEP))
    difference = target - current
    room = np.where(difference > 0, upper - current, current - lower)
    reach = [room[n] / abs(difference[n]) for n in range(len(current)) if abs(difference[n]) > 1e-12]
    return np.asarray(current + min([1.0, *reach]) * difference, dtype=np.float64)


def _estimate_gain(
    slopes: FloatArray, covariance: FloatArray, spread: FloatArray, now: FloatArray, after: FloatArray
) -> ExpectedGain:
    difference = BETTER_HALF_MEAN * (_selection_response(after, spread) - _selection_response(now, spread))
    return ExpectedGain(
        by=float(difference @ slopes), noise=sqrt(max(0.0, float(difference @ covariance @ difference)))
    )


def _selection_response(shares: FloatArray, spread: FloatArray) -> FloatArray:
    """The rise of the parts when pairs are selected by these shares, per standard deviation of the index."""
    deviation = sqrt(max(0.0, float(shares @ spread @ shares)))
    return np.asarray(spread @ shares / deviation if deviation > 0 else np.zeros_like(shares), dtype=np.float64)


def _parts_covariance(x: FloatArray, v: FloatArray) -> FloatArray:
    """The covariance (p, p) of the parts within groups."""
    return np.asarray((x * v[:, None]).T @ x / v.sum(), dtype=np.float64)


def _share_deviations(slopes: FloatArray, shares: FloatArray, covariance: FloatArray) -> FloatArray:
    """Standard deviations of the shares by the delta method; 1 if the slopes give no direction."""
    whole = float(slopes.sum())
    if whole <= MIN_SLOPE_SUM:
        return np.ones_like(shares)
    change = (np.eye(len(shares)) - np.outer(shares, np.ones_like(shares))) / whole
    return np.asarray(np.sqrt(np.maximum(0, np.diag(change @ covariance @ change.T))), dtype=np.float64)


def _expand(values: FloatArray, is_used: npt.NDArray[np.bool_]) -> FloatArray:
    expanded = np.zeros(len(PART_NAMES))
    expanded[is_used] = values
    return expanded


def _to_parts(values: FloatArray) -> PartValues:
    first, second, third, fourth = (float(value) for value in values)
    return first, second, third, fourth


def _expand_square(
    values: FloatArray, is_used: npt.NDArray[np.bool_]
) -> tuple[PartValues, PartValues, PartValues, PartValues]:
    expanded = np.zeros((len(PART_NAMES), len(PART_NAMES)))
    expanded[np.ix_(is_used, is_used)] = values
    first, second, third, fourth = (_to_parts(row) for row in expanded)
    return first, second, third, fourth
