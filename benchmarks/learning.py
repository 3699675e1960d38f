"""Learning from outcomes against constant weights, in made-up companies whose true weights are known.

Made-up companies run one cohort after the other. How a pairing goes follows hidden weights of the four parts of the fit
and chance; of that, the matcher sees bands, some of them unknown. Whenever a batch of outcomes is full, the learning
computes what all of them say, and a new version is released at once. The same cohorts, with the same chance, are
matched with the default weights as well, so each company is its own comparison.

Quality is the mean of what a cohort's pairings are truly worth, on the scale of outcomes from 0 to 1. ``gain`` is that
of the last cohort less the same with the default weights: its mean over the companies, and the standard error of that;
``best`` is what is gained by knowing the hidden weights from the start. Where the default is right there is nothing to
gain, also where what is heard is chance alone, or seniors refuse what promises little: there, as everywhere, it must
not lose more than two standard errors, or a hundredth of the step from one band to the next.

``python -m benchmarks learning``; no servers, about a minute.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from benchmarks.cohort import TODAY, cohort, settings
from contracts.feedback import Band
from contracts.programmes import Weights
from contracts.taxonomy import Taxonomy, load
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.learning.evidence import (
    MIN_OUTCOMES,
    OUTCOME_FIELDS,
    PART_NAMES,
    OutcomeExample,
    PartValues,
)
from services.matcher.domain.learning.weight_versions import is_batch_full
from services.matcher.engine.vectorised_fit import CohortFit
from services.matcher.engine.weight_estimator import compute_shares, estimate_weights

Floats = npt.NDArray[np.float64]

COMPANIES = 24
COHORTS = 6
PEOPLE = 200
PAIR_NOISE = 0.2  # of how a pairing goes, whatever the fit
ANSWER_NOISE = 0.2  # of what each of the two says about it
UNKNOWN = 0.25  # of the answers
SMALL = 0.005  # a hundredth of the step from one band to the next
DEFAULT = Weights()


@dataclass(frozen=True)
class Hidden:
    """The true weights, and how much of them the outcomes show.

    ``shares`` of the parts in what a pairing is worth; ``told``: how much its outcome rises with that; ``silence``:
    how much rarer those answer whose pairing went badly; ``refusing``: how often a senior says that the topics do not
    fit, where the lower benefit is 0; it falls as that rises, and what is refused has no outcome.
    """

    shares: PartValues
    told: float = 1.0
    silence: float = 0.0
    refusing: float = 0.0

    def worth(self, parts: Floats) -> Floats:
        """(..., 4) to (...): the true value of pairs, up to a constant."""
        return np.asarray(parts @ np.array(self.shares), dtype=np.float64)


SAME: PartValues = (0.4, 0.2, 0.2, 0.2)  # as the default
WORLDS: Mapping[str, Hidden] = {
    "perspective matters most": Hidden((0.1, 0.1, 0.2, 0.6)),
    "getting on matters most": Hidden((0.1, 0.1, 0.7, 0.1)),
    "the side that gains less is all that matters": Hidden((0.8, 0.1, 0.05, 0.05)),
    "perspective, and who is disappointed rarely answers": Hidden((0.1, 0.1, 0.2, 0.6), silence=0.5),
    "the default is right": Hidden(SAME),
    "the default is right, and seniors refuse what promises little": Hidden(SAME, refusing=0.6),
    "what is heard is chance alone": Hidden(SAME, told=0.0),
}
TO_GAIN = [name for name, hidden in WORLDS.items() if hidden.shares != SAME]


@dataclass(frozen=True)
class Cohort:
    """All pairs of one cohort: their parts (seniors, juniors, 4), and which break no rule."""

    parts: Floats
    possible: npt.NDArray[np.bool_]

    def matched(self, weights: Weights) -> Floats:
        """The parts (pairs, 4) of the pairs with the greatest total fit."""
        score = np.where(self.possible, self.parts @ compute_shares(weights), -1.0)
        rows, columns = linear_sum_assignment(score, maximize=True)
        result: Floats = self.parts[rows, columns][self.possible[rows, columns]]
        return result


@dataclass(frozen=True)
class Story:
    """One company's cohorts: what their pairings were worth, learning, with the default and with hidden weights."""

    learning: Sequence[float]
    default: Sequence[float]
    best: Sequence[float]
    released: int


def cohort_of(people: int, seed: int, taxonomy: Taxonomy) -> Cohort:
    members = [Member(item, item.enrolments[0]) for item in cohort(people, seed)]
    half = people // 2
    pairs = CohortFit(members[:half], members[half:], settings(), taxonomy, TODAY)
    block = pairs.evaluate_block(np.arange(half), np.arange(people - half))
    benefits = np.stack([block.senior_benefit, block.junior_benefit])
    parts = [benefits.min(axis=0), benefits.max(axis=0), block.compatibility, block.perspective]
    return Cohort(np.stack(parts, axis=-1), block.feasible())


def cohorts_of(company: int, cohorts: int, people: int) -> list[Cohort]:
    taxonomy = load()
    return [cohort_of(people, 1000 * company + n, taxonomy) for n in range(cohorts)]


def live(cohorts: Sequence[Cohort], hidden: Hidden, seed: int) -> Story:
    """Match cohort after cohort, learning in between; every new version that learning finds is released."""
    weights, released, existing, new = DEFAULT, 0, 0, 0
    examples: list[OutcomeExample] = []
    learning, default, best = [], [], []
    truth = Weights(**dict(zip(PART_NAMES, hidden.shares, strict=True)))
    for n, item in enumerate(cohorts):
        pairs = item.matched(weights)
        learning.append(float(hidden.worth(pairs).mean()))
        default.append(float(hidden.worth(item.matched(DEFAULT)).mean()))
        best.append(float(hidden.worth(item.matched(truth)).mean()))
        for example in events(pairs, hidden, np.random.default_rng([seed, n]), f"round-{n}"):
            examples.append(example)
            new += example.bands is not None
            if not is_batch_full(new, existing) or new + existing < MIN_OUTCOMES:
                continue
            existing, new = existing + new, 0
            result = estimate_weights(examples, weights)
            if result.is_clear:
                weights, released = result.weights, released + 1
    return Story(learning, default, best, released)


def events(pairs: Floats, hidden: Hidden, rng: np.random.Generator, round_id: str) -> Iterator[OutcomeExample]:
    """The observed outcomes of these pairings, or of their refusals."""
    worth = hidden.worth(pairs)
    went = 0.5 + hidden.told * (worth - worth.mean()) + PAIR_NOISE * rng.standard_normal(len(pairs))
    answer = went[:, None] + ANSWER_NOISE * rng.standard_normal((len(pairs), len(OUTCOME_FIELDS)))
    silent = rng.random(answer.shape) < UNKNOWN + hidden.silence * (answer < 1 / 3)
    silent[:, 0] = False  # meetings are known without an answer
    refused = rng.random(len(pairs)) < hidden.refusing * (1 - pairs[:, 0]) ** 2
    for parts, values, unknown, no in zip(pairs, answer, silent, refused, strict=True):
        bands = {
            problem: _band(value, unknown=bool(lost))
            for problem, value, lost in zip(OUTCOME_FIELDS, values, unknown, strict=True)
        }
        item, two, three, four = (float(part) for part in parts)
        yield OutcomeExample(parts=(item, two, three, four), bands=None if no else bands, round_id=round_id)


def _band(value: float, *, unknown: bool) -> Band:
    return "unknown" if unknown else "low" if value < 1 / 3 else "middle" if value < 2 / 3 else "high"


def measure(scale: float = 1.0) -> dict[str, Any]:
    companies = max(4, int(COMPANIES * scale))
    stories: dict[str, list[Story]] = {name: [] for name in WORLDS}
    for company in range(companies):
        cohorts = cohorts_of(company, COHORTS, PEOPLE)
        for name, hidden in WORLDS.items():
            stories[name].append(live(cohorts, hidden, company))
    worlds = {name: summed_up(result) for name, result in stories.items()}
    gained = all(worlds[name]["gain"] > 2 * worlds[name]["standard_error"] for name in TO_GAIN)
    retained = all(item["gain"] >= -max(2 * item["standard_error"], SMALL) for item in worlds.values())
    return {
        "name": "learning",
        "companies": companies,
        "cohorts": COHORTS,
        "pairs_in_a_cohort": PEOPLE // 2,
        "worlds": worlds,
        "goals": {"gains where there is something to learn": gained, "loses nowhere more than the noise": retained},
        "met": gained and retained,
    }


def summed_up(stories: Sequence[Story]) -> dict[str, Any]:
    """Paired over the companies: each is compared with itself under the default weights."""
    gains = [story.learning[-1] - story.default[-1] for story in stories]
    best = fmean(story.best[-1] - story.default[-1] for story in stories)
    return {
        "gain": round(fmean(gains), 5),
        "standard_error": round(stdev(gains) / sqrt(len(gains)), 5),
        "best": round(best, 5),
        "share_of_best": round(fmean(gains) / best, 2) if best > SMALL else None,
        "gain_by_cohort": [
            round(fmean(story.learning[n] - story.default[n] for story in stories), 4)
            for n in range(len(stories[0].learning))
        ],
        "worst_company": round(min(gains), 4),
        "versions_released": round(fmean(story.released for story in stories), 2),
    }
