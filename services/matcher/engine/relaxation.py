"""Which rule, relaxed by how much for one person, would have given them a partner.

A pair that a rule keeps out would come about, for certain, if it were let in and gained more than the other's place
is worth (``worth``): such a person is *within reach*. A relaxation is named when it lets in two people within reach,
one of whom neither a private rule nor a coordinator keeps apart from this person. One would be enough for the truth;
with two, no single private wish changes what is said. How many *would suit* counts everybody who is let in, as if
nobody had a private wish.

Never relaxed: reporting lines, evaluators, earlier partners and private wishes, which protect people, and languages,
which no programme can change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from contracts.programmes import ProgrammeSettings
from services.matcher.engine.member_columns import Bools, Ints
from services.matcher.engine.vectorised_fit import Floats

RelaxableRule = Literal[
    "min_level_gap",
    "max_level_gap",
    "min_overlap_minutes",
    "benefit",
    "compatibility",
    "exclude_same_manager",
    "cross_organisation",
    "capacity",
]

MIN_PEOPLE_IN_REACH = 2  # people within reach, so that one private wish never decides what is named
MIN_GAIN_MARGIN = (
    1e-5  # by so much a pair must gain more than the place is worth: above what rounding and the draw can change
)
OUT_OF_REACH = 10_000  # steps of a rule that cannot be relaxed so far
MAX_LEVEL_GAP = 19  # levels between the highest and the lowest
FLOOR_STEP = 0.05  # one step of a floor
OVERLAP_STEP_MINUTES = 15  # one step of common time

Change = tuple[tuple[int, int], ...]  # which rules, by their place in EFFORT, and how many steps of each

EFFORT_PER_STEP: Mapping[RelaxableRule, int] = {  # the common scale: what one step gives up of the programme's idea
    "min_overlap_minutes": 1,
    "min_level_gap": 2,
    "max_level_gap": 2,
    "benefit": 2,
    "compatibility": 2,
    "exclude_same_manager": 4,
    "cross_organisation": 6,
}


@dataclass(frozen=True)
class Relaxation:
    """One change of a rule that gives somebody who is left over a partner.

    ``by``: levels, minutes, a share of a floor, places, or 1 for a rule that is dropped. ``change``: the new setting in
    words, the same for everybody whom it would help; ``text``: what it would bring this person. ``also``: the second
    rule and its ``by``, where no single one would do.
    """

    rule: RelaxableRule
    amount: float
    change: str
    text: str
    second: tuple[RelaxableRule, float] | None = None


@dataclass(frozen=True)
class NearMisses:
    """Pairs that nothing but what can be relaxed keeps out, in the order of who is left over.

    ``person``: who that is, by number from 0. ``steps``: for each rule 0 where it is kept, ``OUT`` where relaxing it
    cannot help. ``reach``: the pair gains more than the other's place is worth. ``apart``: a private rule
    or a coordinator forbids it.
    """

    person: Ints
    steps: Mapping[RelaxableRule, Ints]
    reach: Bools
    apart: Bools


def one_seat_more(suitors: int, exact: bool) -> Relaxation:
    """For whom the places are too few; ``suitors`` of the other side would suit, or at least so many."""
    many = f"{suitors}" if exact else f"{suitors} or more"
    text = f"With a place more at one of the {many} people who would suit, kept for this person, they would be a pair."
    return Relaxation("capacity", 1, "a place more with somebody who would suit", text)


def relaxation_steps(
    broken: Mapping[str, Bools], gap: Floats, minutes: Ints, lower: Floats, together: Floats, rules: ProgrammeSettings
) -> dict[RelaxableRule, Ints]:
    """How far each pair is from what each rule asks, in steps of that rule.

    ``gap``: levels between the two; ``minutes`` they share; ``lower``: what the side gains that gains less;
    ``together``: compatibility.
    """
    asked, floors = rules.rules, rules.matching.floors
    widest = asked.max_level_gap if asked.max_level_gap is not None else MAX_LEVEL_GAP
    short = broken["nothing_to_learn"] | broken["nothing_to_give"]
    return {
        "min_overlap_minutes": _steps(
            broken["no_common_time"], asked.min_overlap_minutes - minutes, OVERLAP_STEP_MINUTES
        ),
        "min_level_gap": _steps(broken["level_gap"], asked.min_level_gap - gap, 1, gap >= 0),
        "max_level_gap": _steps(broken["level_gap_too_great"], gap - widest, 1),
        "benefit": _steps(short, floors.benefit - lower, FLOOR_STEP, lower > 0),
        "compatibility": _steps(broken["too_different"], floors.compatibility - together, FLOOR_STEP, together > 0),
        "exclude_same_manager": broken["same_manager"].astype(np.int64),
        "cross_organisation": (broken["other_organisation"] | broken["not_acknowledged"]).astype(np.int64),
    }


def least_relaxations(near: NearMisses, people: int, rules: ProgrammeSettings) -> list[Relaxation | None]:
    """For each person the change that gives up least; two rules where one does not do, None where two do not either."""
    steps_ = np.stack([near.steps[rule] for rule in EFFORT_PER_STEP])
    kinds = (steps_ > 0).sum(axis=0)
    kept = (kinds > 0) & (kinds <= 2) & (steps_ < OUT_OF_REACH).all(axis=0)
    kept_out = _KeptOut(near.person[kept], steps_[:, kept], near.reach[kept], ~near.apart[kept])
    found: list[Relaxation | None] = []
    for person, one in enumerate(kept_out.by_one(people)):
        change = one or kept_out.by_two(person)
        found.append(None if change is None else _told(change, kept_out.let_in(person, change), rules))
    return found


class _KeptOut:
    """Pairs that one rule or two keep out, with ``steps`` (rules, pairs)."""

    def __init__(self, person: Ints, steps_: Ints, reach: Bools, free: Bools) -> None:
        self._person, self._steps, self._reach, self._free = person, steps_, reach, free
        self._rules: Ints = ((steps_ > 0) << np.arange(len(EFFORT_PER_STEP))[:, None]).sum(
            axis=0
        )  # a bit for each broken one

    def by_one(self, people: int) -> list[Change | None]:
        """For each person the rule that alone would do, and how far, with the least effort."""
        efforts = np.full((len(EFFORT_PER_STEP), people), OUT_OF_REACH, dtype=np.int64)
        far = np.zeros((len(EFFORT_PER_STEP), people), dtype=np.int64)
        for n, each in enumerate(EFFORT_PER_STEP.values()):
            some = self._reach & (self._rules == 1 << n)
            far[n] = _enough(self._person[some], self._steps[n, some], self._free[some], people)
            efforts[n] = np.where(far[n] < OUT_OF_REACH, each * far[n], OUT_OF_REACH)
        best = efforts.argmin(axis=0)
        least = np.take_along_axis(far, best[None], axis=0)[0]
        return [((n, f),) if f < OUT_OF_REACH else None for n, f in zip(best.tolist(), least.tolist(), strict=True)]

    def by_two(self, person: int) -> Change | None:
        """The two rules that together would do, and how far each, with the least effort."""
        near = self._of(person)
        near = near[self._reach[near]]
        best: tuple[int, Change] | None = None
        kinds = np.unique(self._rules[near]).tolist()
        for both in {one | other for one in kinds for other in kinds if (one | other).bit_count() == 2}:
            n, m = (rule for rule in range(len(EFFORT_PER_STEP)) if both >> rule & 1)
            for option in self._two(n, m, near[self._rules[near] & ~both == 0]):
                best = option if best is None else min(best, option)
        return best[1] if best else None

    def let_in(self, person: int, change: Change) -> int:
        """How many would suit then who do not now."""
        near = self._of(person)
        inside: Bools = self._rules[near] & ~sum(1 << n for n, _ in change) == 0
        for n, far in change:
            inside &= self._steps[n, near] <= far
        return int(np.count_nonzero(inside))

    def _two(self, n: int, m: int, pairs: Ints) -> Iterator[tuple[int, Change]]:
        one, other, free = self._steps[n, pairs], self._steps[m, pairs], self._free[pairs]
        of = list(EFFORT_PER_STEP.values())
        for far in np.unique(one).tolist():
            here = one <= far
            further = int(_enough(np.zeros(here.sum(), np.int64), other[here], free[here], 1)[0])
            if further < OUT_OF_REACH:
                yield of[n] * far + of[m] * further, ((n, far), (m, further))

    def _of(self, person: int) -> Ints:
        first, last = np.searchsorted(self._person, (person, person + 1))
        return np.arange(first, last)


def _enough(person: Ints, far: Ints, free: Bools, people: int) -> Ints:
    """For each person the fewest steps within which there are enough, and one whom nothing else keeps apart."""
    nearest: Ints = np.full(people, OUT_OF_REACH, dtype=np.int64)
    np.minimum.at(nearest, person[free], far[free])
    order = np.lexsort((far, person))
    person, far = person[order], far[order]
    last = np.searchsorted(person, np.arange(people)) + MIN_PEOPLE_IN_REACH - 1
    inside = np.minimum(last, max(0, len(person) - 1))
    if not len(person):
        return nearest
    there = (last < len(person)) & (person[inside] == np.arange(people))
    return np.where(there, np.maximum(nearest, far[inside]), OUT_OF_REACH)


def _told(change: Change, let_in: int, rules: ProgrammeSettings) -> Relaxation:
    names = list(EFFORT_PER_STEP)
    parts = [(names[n], *_change(names[n], far, rules)) for n, far in change]
    what = " and ".join(words for _, _, words in parts)
    text = f"With {what}, {let_in} people more would suit, and this person would have a partner."
    (rule, by, _), *more = parts
    return Relaxation(rule, by, what, text, (more[0][0], more[0][1]) if more else None)


def _steps(broken: Bools, short: Floats | Ints, step: float, possible: Bools | None = None) -> Ints:
    """Steps of this size that make up for what is ``short``, where the rule is broken."""
    whole = np.ceil(np.where(broken, short, 0) / step - 1e-6).astype(np.int64)
    whole = np.maximum(whole, broken)
    return whole if possible is None else np.where(broken & ~possible, OUT_OF_REACH, whole)


def _change(rule: RelaxableRule, far: int, rules: ProgrammeSettings) -> tuple[float, str]:
    """By how much the setting changes, and the words for it; no setting goes below 0."""
    asked, floors = rules.rules, rules.matching.floors
    match rule:
        case "min_level_gap":
            new = asked.min_level_gap - far
            return far, f"a gap of {new} level{'' if new == 1 else 's'} instead of {asked.min_level_gap}"
        case "max_level_gap":
            most = asked.max_level_gap or 0
            return far, f"a gap of up to {most + far} levels instead of {most}"
        case "min_overlap_minutes":
            minutes = max(0, asked.min_overlap_minutes - OVERLAP_STEP_MINUTES * far)
            words = f"{minutes} minutes of common time a week instead of {asked.min_overlap_minutes}"
            return asked.min_overlap_minutes - minutes, words
        case "benefit":
            by, words = _floor(floors.benefit, far)
            return by, f"{words} for what each side gains"
        case "compatibility":
            by, words = _floor(floors.compatibility, far)
            return by, f"{words} for how well two people get on"
        case "exclude_same_manager":
            return 1, "pairs under the same manager allowed"
        case "cross_organisation" if not asked.cross_organisation:
            return 1, "pairs of different organisations allowed, and the notice for them acknowledged by both"
        case "cross_organisation":
            return 1, "the notice for pairs of different organisations acknowledged by both"
    raise ValueError(f"{rule} is not relaxed in steps")


def _floor(floor: float, far: int) -> tuple[float, str]:
    new = max(0.0, floor - FLOOR_STEP * far)
    return round(floor - new, 6), f"a floor of {new:.2f} instead of {floor:.2f}"
