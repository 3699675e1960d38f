"""Which rule, relaxed by how much for one person, would have given the person a partner.

A pair that a rule keeps out would certainly come about if it were allowed and gained more than the other's seat is
worth (``seat_values``): the other person is then *within reach*. A relaxation is named when it lets in two people
within reach, and no coordinator keeps at least one of them apart from this person. One person would be enough for the
truth. With two, the text points at no single person. Private wishes play no part in it.

Never relaxed: reporting lines, evaluators and earlier partners, which protect people, and languages, which no
programme can change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from contracts.programmes import ProgrammeSettings
from services.matcher.engine.arrays import Bools, Float64s, Int64s

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

MIN_PEOPLE_IN_REACH = 2  # so that what is named points at no single person
# A pair must gain so much more, in fit, than the seat is worth: above what rounding and the lottery can change.
MIN_GAIN_MARGIN = 1e-5
OUT_OF_REACH = 10_000  # number of steps that stands for a rule that cannot be relaxed far enough
MAX_LEVEL_GAP = 19  # levels between the highest and the lowest
FLOOR_STEP = 0.05  # one step of a floor
OVERLAP_STEP_MINUTES = 15  # one step of common time
_STEP_TOLERANCE = 1e-6  # part of a step that rounding may add

Change = tuple[tuple[int, int], ...]  # (index of a rule in EFFORT_PER_STEP, number of steps) of each relaxed rule

# The common scale of all rules: how much of the programme's idea one step gives up.
EFFORT_PER_STEP: Mapping[RelaxableRule, int] = {
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
    """One change of a rule that gives an unmatched person a partner.

    ``amount``: levels, minutes, a share of a floor, seats, or 1 for a rule that is dropped. ``change``: the new setting
    in words, the same for all people whom it would help. ``text``: what it would bring this person. ``second``: the
    second rule and its amount, if no single rule suffices.
    """

    rule: RelaxableRule
    amount: float
    change: str
    text: str
    second: tuple[RelaxableRule, float] | None = None


@dataclass(frozen=True)
class NearMisses:
    """Pairs that only relaxable rules keep out, sorted by unmatched person; all arrays (pairs,).

    ``person``: the unmatched person, by number from 0. ``steps``: for each rule 0 if the pair keeps it, and
    ``OUT_OF_REACH`` if relaxing it cannot help. ``in_reach``: the pair gains more than the other's seat is worth.
    ``apart``: a coordinator forbids the pair.
    """

    person: Int64s
    steps: Mapping[RelaxableRule, Int64s]
    in_reach: Bools
    apart: Bools


def one_seat_more(suitors: int, exact: bool) -> Relaxation:
    """For a person who lacks only a free seat; ``suitors`` of the other side would suit, or at least so many."""
    many = f"{suitors}" if exact else f"{suitors} or more"
    text = f"With a place more at one of the {many} people who would suit, kept for this person, they would be a pair."
    return Relaxation("capacity", 1, "a place more with somebody who would suit", text)


def relaxation_steps(
    broken: Mapping[str, Bools],
    gap: Float64s,
    minutes: Int64s,
    lower_benefit: Float64s,
    compatibility: Float64s,
    settings: ProgrammeSettings,
) -> dict[RelaxableRule, Int64s]:
    """(pairs) for each rule: how far the pair is from what the rule asks for, in steps of that rule.

    ``gap``: levels between the two; ``minutes``: common time a week; ``lower_benefit``: of the side that gains less.
    """
    rules, floors = settings.rules, settings.matching.floors
    max_gap = rules.max_level_gap if rules.max_level_gap is not None else MAX_LEVEL_GAP
    short = broken["nothing_to_learn"] | broken["nothing_to_give"]
    different = broken["too_different"]
    lacking_minutes = rules.min_overlap_minutes - minutes
    return {
        "min_overlap_minutes": _count_steps(broken["no_common_time"], lacking_minutes, OVERLAP_STEP_MINUTES),
        "min_level_gap": _count_steps(broken["level_gap"], rules.min_level_gap - gap, 1, gap >= 0),
        "max_level_gap": _count_steps(broken["level_gap_too_great"], gap - max_gap, 1),
        "benefit": _count_steps(short, floors.benefit - lower_benefit, FLOOR_STEP, lower_benefit > 0),
        "compatibility": _count_steps(different, floors.compatibility - compatibility, FLOOR_STEP, compatibility > 0),
        "exclude_same_manager": broken["same_manager"].astype(np.int64),
        "cross_organisation": (broken["other_organisation"] | broken["not_acknowledged"]).astype(np.int64),
    }


def least_relaxations(near: NearMisses, people: int, settings: ProgrammeSettings) -> list[Relaxation | None]:
    """For each person the change of least effort: one rule, or two if one does not suffice, or None."""
    steps = np.stack([near.steps[rule] for rule in EFFORT_PER_STEP])
    kinds = (steps > 0).sum(axis=0)
    usable = (kinds > 0) & (kinds <= 2) & (steps < OUT_OF_REACH).all(axis=0)
    pairs = _RuleExcludedPairs(near.person[usable], steps[:, usable], near.in_reach[usable], ~near.apart[usable])
    relaxations: list[Relaxation | None] = []
    for person, single in enumerate(pairs.single_changes(people)):
        change = single or pairs.double_change(person)
        let_in = 0 if change is None else pairs.count_let_in(person, change)
        relaxations.append(None if change is None else _describe(change, let_in, settings))
    return relaxations


class _RuleExcludedPairs:
    """Pairs that one or two rules exclude.

    ``steps`` (rules, pairs). ``allowed`` (pairs): no coordinator forbids the pair.
    """

    def __init__(self, person: Int64s, steps: Int64s, in_reach: Bools, allowed: Bools) -> None:
        self._person, self._steps, self._in_reach, self._allowed = person, steps, in_reach, allowed
        # One bit for each broken rule.
        self._broken_bits: Int64s = ((steps > 0) << np.arange(len(EFFORT_PER_STEP))[:, None]).sum(axis=0)

    def single_changes(self, people: int) -> list[Change | None]:
        """For each person the single rule that suffices with the least effort, and its steps."""
        efforts = np.full((len(EFFORT_PER_STEP), people), OUT_OF_REACH, dtype=np.int64)
        steps = np.zeros((len(EFFORT_PER_STEP), people), dtype=np.int64)
        for n, effort in enumerate(EFFORT_PER_STEP.values()):
            pairs = self._in_reach & (self._broken_bits == 1 << n)
            steps[n] = _sufficient_steps(self._person[pairs], self._steps[n, pairs], self._allowed[pairs], people)
            efforts[n] = np.where(steps[n] < OUT_OF_REACH, effort * steps[n], OUT_OF_REACH)
        best = efforts.argmin(axis=0)
        least = np.take_along_axis(steps, best[None], axis=0)[0]
        return [((n, k),) if k < OUT_OF_REACH else None for n, k in zip(best.tolist(), least.tolist(), strict=True)]

    def double_change(self, person: int) -> Change | None:
        """The two rules that together suffice with the least effort, and the steps of each."""
        pairs = self._pairs_of(person)
        pairs = pairs[self._in_reach[pairs]]
        best: tuple[int, Change] | None = None
        kinds = np.unique(self._broken_bits[pairs]).tolist()
        for both in {first | second for first in kinds for second in kinds if (first | second).bit_count() == 2}:
            n, m = (rule for rule in range(len(EFFORT_PER_STEP)) if both >> rule & 1)
            for option in self._options_for_two(n, m, pairs[self._broken_bits[pairs] & ~both == 0]):
                best = option if best is None else min(best, option)
        return best[1] if best else None

    def count_let_in(self, person: int, change: Change) -> int:
        """The number of people who would suit after the change and do not now."""
        pairs = self._pairs_of(person)
        is_let_in: Bools = self._broken_bits[pairs] & ~sum(1 << n for n, _ in change) == 0
        for n, steps in change:
            is_let_in &= self._steps[n, pairs] <= steps
        return int(np.count_nonzero(is_let_in))

    def _options_for_two(self, n: int, m: int, pairs: Int64s) -> Iterator[tuple[int, Change]]:
        """(effort, change) for each number of steps of rule ``n`` and the fewest steps of rule ``m`` that suffice."""
        first, second, allowed = self._steps[n, pairs], self._steps[m, pairs], self._allowed[pairs]
        efforts = list(EFFORT_PER_STEP.values())
        for steps in np.unique(first).tolist():
            within = first <= steps
            same_person = np.zeros(within.sum(), np.int64)
            further = int(_sufficient_steps(same_person, second[within], allowed[within], 1)[0])
            if further < OUT_OF_REACH:
                yield efforts[n] * steps + efforts[m] * further, ((n, steps), (m, further))

    def _pairs_of(self, person: int) -> Int64s:
        first, last = np.searchsorted(self._person, (person, person + 1))
        return np.arange(first, last)


def _sufficient_steps(person: Int64s, steps: Int64s, allowed: Bools, people: int) -> Int64s:
    """(people): the fewest steps that let in ``MIN_PEOPLE_IN_REACH`` people, one of them allowed."""
    nearest_allowed: Int64s = np.full(people, OUT_OF_REACH, dtype=np.int64)
    np.minimum.at(nearest_allowed, person[allowed], steps[allowed])
    order = np.lexsort((steps, person))
    person, steps = person[order], steps[order]
    last = np.searchsorted(person, np.arange(people)) + MIN_PEOPLE_IN_REACH - 1
    bounded = np.minimum(last, max(0, len(person) - 1))
    if not len(person):
        return nearest_allowed
    has_enough = (last < len(person)) & (person[bounded] == np.arange(people))
    return np.where(has_enough, np.maximum(nearest_allowed, steps[bounded]), OUT_OF_REACH)


def _describe(change: Change, let_in: int, settings: ProgrammeSettings) -> Relaxation:
    names = list(EFFORT_PER_STEP)
    parts = [(names[n], *_describe_setting(names[n], steps, settings)) for n, steps in change]
    new_settings = " and ".join(words for _, _, words in parts)
    text = f"With {new_settings}, {let_in} people more would suit, and this person would have a partner."
    (rule, amount, _), *more = parts
    return Relaxation(rule, amount, new_settings, text, (more[0][0], more[0][1]) if more else None)


def _count_steps(broken: Bools, shortfall: Float64s | Int64s, step: float, possible: Bools | None = None) -> Int64s:
    """The number of steps that make up for ``shortfall`` where the rule is broken; at least 1 there."""
    whole = np.ceil(np.where(broken, shortfall, 0) / step - _STEP_TOLERANCE).astype(np.int64)
    whole = np.maximum(whole, broken)
    return whole if possible is None else np.where(broken & ~possible, OUT_OF_REACH, whole)


def _describe_setting(rule: RelaxableRule, steps: int, settings: ProgrammeSettings) -> tuple[float, str]:
    """By how much the setting changes, and the new setting in words; no setting goes below 0."""
    rules, floors = settings.rules, settings.matching.floors
    match rule:
        case "min_level_gap":
            new = rules.min_level_gap - steps
            return steps, f"a gap of {new} level{'' if new == 1 else 's'} instead of {rules.min_level_gap}"
        case "max_level_gap":
            max_gap = rules.max_level_gap or 0
            return steps, f"a gap of up to {max_gap + steps} levels instead of {max_gap}"
        case "min_overlap_minutes":
            minutes = max(0, rules.min_overlap_minutes - OVERLAP_STEP_MINUTES * steps)
            words = f"{minutes} minutes of common time a week instead of {rules.min_overlap_minutes}"
            return rules.min_overlap_minutes - minutes, words
        case "benefit":
            amount, words = _describe_floor(floors.benefit, steps)
            return amount, f"{words} for what each side gains"
        case "compatibility":
            amount, words = _describe_floor(floors.compatibility, steps)
            return amount, f"{words} for how well two people get on"
        case "exclude_same_manager":
            return 1, "pairs under the same manager allowed"
        case "cross_organisation" if not rules.cross_organisation:
            return 1, "pairs of different organisations allowed, and the notice for them acknowledged by both"
        case "cross_organisation":
            return 1, "the notice for pairs of different organisations acknowledged by both"
    raise ValueError(f"{rule} is not relaxed in steps")


def _describe_floor(floor: float, steps: int) -> tuple[float, str]:
    new = max(0.0, floor - FLOOR_STEP * steps)
    return round(floor - new, 6), f"a floor of {new:.2f} instead of {floor:.2f}"
