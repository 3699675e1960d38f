"""What outcomes say about the weights of the fit: a regression that leans on the weights in use.

The score is a weighted mean of four parts, so learning it is a regression of how pairings went on the parts that they
were chosen by. With ``x`` the parts of a pair, ``y`` its outcome from 0 to 1, ``v`` how much evidence it is and ``w``
the shares of the weights in use, the slopes are the generalised ridge estimate (Hoerl and Kennard 1970) under bounds,

    b = argmin  sum of v (y - b.x)^2  +  s2 / SPREAD^2 |b - SLOPE w|^2,   b >= 0,

``x`` and ``y`` taken from their means within each round, and ``s2`` the variance of the residuals; it is also the mean
of the posterior for a normal prior around the weights in use, whose covariance is ``C = s2 (X'VX + s2/SPREAD^2 I)^-1``.
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
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from contracts.base import FrozenModel
from contracts.errors import CommandRejected
from contracts.feedback import Band, OutcomeRecorded
from contracts.pairings import DeclineReason
from contracts.programmes import Weights
from services.matcher.domain.fit.score import Fit

Floats = npt.NDArray[np.float64]
Part = Literal["lower_benefit", "higher_benefit", "compatibility", "perspective"]
Asked = Literal["meetings", "senior_learned", "junior_learned", "senior_enjoyed", "junior_enjoyed"]
Parts: TypeAlias = tuple[float, float, float, float]

PARTS: tuple[Part, ...] = ("lower_benefit", "higher_benefit", "compatibility", "perspective")
ASKED: tuple[Asked, ...] = ("meetings", "senior_learned", "junior_learned", "senior_enjoyed", "junior_enjoyed")
WORTH: Mapping[Band, float] = {"low": 0.0, "middle": 0.5, "high": 1.0}

ENOUGH = 30  # outcomes, below which nothing is said
SLOPE = 1.0  # before any outcome, a pair that fits better by 0.1 is taken to go better by 0.1 ...
SPREAD = 0.25  # ... and each part's slope to differ from that by so much, as a standard deviation
ABOUT_FIT: frozenset[DeclineReason] = frozenset({"topics_do_not_fit"})  # refusals that say something about fit
REFUSAL = 0.1  # what such a refusal counts beside an outcome of which all is known
REFUSALS = 0.25  # what all refusals together may count beside all outcomes
COMPARABLE = 5  # examples that a round needs for a mean of its own; smaller ones share one
STEP = 0.1  # by so much of the whole may one version change one weight's share
LEAST, MOST = 0.05, 0.7  # shares that learning leaves every weight at least, and at most
LEAST_VARIANCE = 0.01  # of an outcome; five bands are never more exact than that
HALF = 0.798  # mean of the better half of a normal distribution, in standard deviations
SCHEFFE = 2.5  # square root of the 90th percentile of chi-square with 3 degrees of freedom: directions of the shares
NINETY = 1.645  # half the width of an interval of 90 per cent, in standard deviations
FLAT = 0.05  # slopes that add up to less have no direction


class Example(FrozenModel):
    """One pairing as numbers, without its people. ``bands`` None: it was refused, for a reason that concerns fit.

    ``round_id`` is empty where it came from no round. Pairings of one round are compared with each other alone.
    """

    parts: Parts
    bands: dict[Asked, Band] | None
    round_id: str = ""

    @property
    def known(self) -> list[float]:
        """What is known of its outcome; nothing of a refusal, which had none."""
        return [WORTH[band] for band in (self.bands or {}).values() if band != "unknown"]


class Gain(FrozenModel):
    """By how much the mean outcome rises, on its scale from 0 to 1, and the standard deviation of that figure."""

    by: float
    noise: float


class Estimate(FrozenModel):
    """What the outcomes say. Shares, and their intervals of 90 per cent, in the order of ``PARTS``.

    ``shares`` is where the outcomes point, before the bounds; ``weights`` what they would be set to, in hundredths of
    the whole.
    """

    outcomes: int
    refusals: int
    shares: Parts
    low: Parts
    high: Parts
    slopes: Parts
    covariance: tuple[Parts, Parts, Parts, Parts]
    weights: Weights
    gain: Gain

    @property
    def clear(self) -> bool:
        """Whether the gain is more than chance would often show where there is none."""
        return self.gain.by > SCHEFFE * self.gain.noise


def parts_of(fit: Fit) -> Parts:
    """What the weights weigh, in the order of ``PARTS``."""
    benefits = fit.senior_benefit, fit.junior_benefit
    return min(benefits), max(benefits), fit.compatibility, fit.perspective


def from_outcome(fit: Fit, outcome: OutcomeRecorded, round_id: str | None) -> Example | None:
    """None where nothing is known of how it went."""
    bands: dict[Asked, Band] = {asked: getattr(outcome, asked) for asked in ASKED}
    example = Example(parts=parts_of(fit), bands=bands, round_id=round_id or "")
    return example if example.known else None


def from_refusal(fit: Fit, reason: DeclineReason | None, round_id: str | None) -> Example | None:
    """None where the reason says nothing about fit."""
    if reason not in ABOUT_FIT:
        return None
    return Example(parts=parts_of(fit), bands=None, round_id=round_id or "")


def estimate(examples: Sequence[Example], weights: Weights) -> Estimate:
    """What the examples say about the weights in use. A weight of 0 was a decision, and stays 0.

    Raises ``CommandRejected`` where fewer than ``ENOUGH`` outcomes are known.
    """
    outcomes = sum(example.bands is not None for example in examples)
    if outcomes < ENOUGH:
        raise CommandRejected("too_few_outcomes", f"Fewer than {ENOUGH} outcomes are known: too few to learn from.")
    now = shares_of(weights)
    used = now > 0
    x, y, v, groups = _arranged(examples)
    x = x[:, used]
    within = _within(x, y, v, groups)
    slopes, covariance = _posterior(*within, v, now[used], len(set(groups)))
    towards = slopes / slopes.sum() if slopes.sum() > FLAT else now[used]
    after = _bounded(now[used], towards)
    hundredths = np.maximum(0.01, np.round(after, 2))
    set_to = np.round(_full(hundredths, used) * _whole(weights), 2).tolist()
    spread = _deviations(slopes, towards, covariance)
    low, high = towards - NINETY * spread, towards + NINETY * spread
    return Estimate(
        outcomes=outcomes,
        refusals=len(examples) - outcomes,
        shares=_parts(_full(towards, used)),
        low=_parts(_full(np.clip(low, 0, 1), used)),
        high=_parts(_full(np.clip(high, 0, 1), used)),
        slopes=_parts(_full(slopes, used)),
        covariance=_square(covariance, used),
        weights=Weights(**dict(zip(PARTS, set_to, strict=True))),
        gain=_gain(slopes, covariance, _spread(within[0], v), now[used], after),
    )


def gain_between(estimate: Estimate, now: Parts, then: Parts) -> Gain:
    """What two sets of pairs are expected to differ by in their mean outcome, from the means of their parts."""
    moved = np.array(then) - np.array(now)
    noise = sqrt(max(0.0, float(moved @ np.array(estimate.covariance) @ moved)))
    return Gain(by=float(moved @ np.array(estimate.slopes)), noise=noise)


def counted(examples: Sequence[Example]) -> dict[Asked, dict[Band, int]]:
    """How often each band came, of each thing that outcomes tell."""
    found: dict[Asked, Counter[Band]] = {asked: Counter() for asked in ASKED}
    for example in examples:
        for asked, band in (example.bands or {}).items():
            found[asked][band] += 1
    return {asked: dict(bands) for asked, bands in found.items()}


def shares_of(weights: Weights) -> Floats:
    """(4,) in the order of ``PARTS``; they add up to 1."""
    return np.array([getattr(weights, part) for part in PARTS], dtype=np.float64) / _whole(weights)


def _whole(weights: Weights) -> float:
    return float(sum(getattr(weights, part) for part in PARTS))


def _arranged(examples: Sequence[Example]) -> tuple[Floats, Floats, Floats, list[str]]:
    """Parts (n, 4), outcomes (n,), evidence (n,), and of each example the group that it is compared within."""
    x = np.array([example.parts for example in examples], dtype=np.float64)
    known = [example.known for example in examples]
    y = np.array([sum(one) / len(one) if one else 0.0 for one in known])
    refused = np.array([example.bands is None for example in examples])
    v = np.where(refused, REFUSAL, np.array([len(one) / len(ASKED) for one in known]))
    of_outcomes, of_refusals = float(v[~refused].sum()), float(v[refused].sum())
    if of_refusals > REFUSALS * of_outcomes:
        v[refused] *= REFUSALS * of_outcomes / of_refusals
    sizes = Counter(example.round_id for example in examples)
    groups = [one.round_id if sizes[one.round_id] >= COMPARABLE else "" for one in examples]
    return x, y, v, groups


def _within(x: Floats, y: Floats, v: Floats, groups: Sequence[str]) -> tuple[Floats, Floats]:
    """``x`` and ``y`` from their weighted means within each group: rounds differ in much that is no pair's doing."""
    x, y = x.copy(), y.copy()
    of = np.array(groups)
    for group in set(groups):
        rows = of == group
        x[rows] -= np.average(x[rows], axis=0, weights=v[rows])
        y[rows] -= np.average(y[rows], weights=v[rows])
    return x, y


def _posterior(x: Floats, y: Floats, v: Floats, now: Floats, groups: int) -> tuple[Floats, Floats]:
    """Slopes (p,) and their covariance (p, p); see the formula above."""
    from scipy.optimize import lsq_linear  # 0.4 s of every start, for a step that few programmes take

    root = np.sqrt(v)
    a, b = x * root[:, None], y * root
    plain = np.linalg.lstsq(a, b, rcond=None)[0]
    freedom = max(1, len(y) - groups - x.shape[1])
    variance = max(LEAST_VARIANCE, float(np.square(b - a @ plain).sum()) / freedom)
    ridge = variance / SPREAD**2
    tied = np.vstack([a, sqrt(ridge) * np.eye(x.shape[1])])
    aimed = np.concatenate([b, sqrt(ridge) * SLOPE * now])
    slopes = np.asarray(lsq_linear(tied, aimed, bounds=(0, np.inf)).x, dtype=np.float64)
    covariance = variance * np.linalg.inv(tied.T @ tied)
    return slopes, covariance


def _bounded(now: Floats, towards: Floats) -> Floats:
    """As far from ``now`` on the straight line ``towards`` as every share stays within its bounds."""
    least = np.minimum(now, np.maximum(LEAST, now - STEP))
    most = np.maximum(now, np.minimum(MOST, now + STEP))
    moved = towards - now
    room = np.where(moved > 0, most - now, now - least)
    reach = [room[n] / abs(moved[n]) for n in range(len(now)) if abs(moved[n]) > 1e-12]
    return np.asarray(now + min([1.0, *reach]) * moved, dtype=np.float64)


def _gain(slopes: Floats, covariance: Floats, spread: Floats, now: Floats, after: Floats) -> Gain:
    moved = HALF * (_response(after, spread) - _response(now, spread))
    return Gain(by=float(moved @ slopes), noise=sqrt(max(0.0, float(moved @ covariance @ moved))))


def _response(shares: Floats, spread: Floats) -> Floats:
    """By how much the parts rise where pairs are chosen by these shares, for one standard deviation of the index."""
    deviation = sqrt(max(0.0, float(shares @ spread @ shares)))
    return np.asarray(spread @ shares / deviation if deviation > 0 else np.zeros_like(shares), dtype=np.float64)


def _spread(x: Floats, v: Floats) -> Floats:
    """Covariance (p, p) of the parts within groups."""
    return np.asarray((x * v[:, None]).T @ x / v.sum(), dtype=np.float64)


def _deviations(slopes: Floats, shares: Floats, covariance: Floats) -> Floats:
    """Standard deviations of the shares, by the delta method; of no direction, anything is possible."""
    whole = float(slopes.sum())
    if whole <= FLAT:
        return np.ones_like(shares)
    change = (np.eye(len(shares)) - np.outer(shares, np.ones_like(shares))) / whole
    return np.asarray(np.sqrt(np.maximum(0, np.diag(change @ covariance @ change.T))), dtype=np.float64)


def _full(values: Floats, used: npt.NDArray[np.bool_]) -> Floats:
    found = np.zeros(len(PARTS))
    found[used] = values
    return found


def _parts(values: Floats) -> Parts:
    one, two, three, four = (float(value) for value in values)
    return one, two, three, four


def _square(values: Floats, used: npt.NDArray[np.bool_]) -> tuple[Parts, Parts, Parts, Parts]:
    found = np.zeros((len(PARTS), len(PARTS)))
    found[np.ix_(used, used)] = values
    one, two, three, four = (_parts(row) for row in found)
    return one, two, three, four
