"""Why somebody has no partner in a round, in words for who coordinates and in words for the person.

A reason is the first step after which nobody of the other side remains, with how many remained before. Private rules
take no part in it: every reason, count and word is what it would be if nobody had a private wish, and the words are
chosen so that they are true all the same. What would have helped is in ``relaxing``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from contracts.profiles import Side
from services.matcher.domain.fit.rules import PRIVATE_RULES, Member, Rule
from services.matcher.engine.candidates import Candidates
from services.matcher.engine.member_columns import Bools, Ints
from services.matcher.engine.relaxation import (
    EFFORT_PER_STEP,
    MIN_GAIN_MARGIN,
    MIN_PEOPLE_IN_REACH,
    NearMisses,
    Relaxation,
    least_relaxations,
    one_seat_more,
    relaxation_steps,
)
from services.matcher.engine.vectorised_fit import CohortFit, Floats

MAX_FULL_PAIRS = (
    10_000_000  # up to so many pairs of those left over, all are looked at; beyond, who has candidates is not
)
PAIR_BUDGET = 50_000_000  # pairs that are looked at then, roughly, for the rest of one side
EXACT_PAIR_BUDGET = 3_000_000  # of these, so many exactly
NEAREST_PER_PERSON = 256  # people whom rules keep out that are looked at for each person then
RULE_BATCH = 1_000_000  # pairs looked at together
EXACT_BATCH = 250_000  # pairs looked at together exactly

ALL_RULES: tuple[Rule, ...] = get_args(Rule)
RULES = tuple(rule for rule in ALL_RULES if rule != "same_person" and rule not in PRIVATE_RULES)
NEVER_RELAXED: tuple[Rule, ...] = ("reporting_line", "evaluator", "earlier_partner", "no_common_language")
PARTS: tuple[str, ...] = ("nothing_to_learn", "nothing_to_give", "too_different")
STEPS: tuple[str, ...] = (*RULES, *PARTS)

NONE_REMAIN_TEXTS: Mapping[str, str] = {
    "level_gap": "nobody has the gap in seniority that the programme asks for",
    "level_gap_too_great": "the rest are further apart in seniority than the programme asks for",
    "reporting_line": "the rest are in the same reporting line",
    "same_manager": "the rest report to the same manager",
    "evaluator": "the rest judge this person's work or are judged by them",
    "earlier_partner": "the rest have been suggested before",
    "other_organisation": "the rest belong to other organisations",
    "not_acknowledged": "the rest belong to other organisations, and not both have acknowledged the notice for that",
    "no_common_language": "the rest have no language in common with this person",
    "no_common_time": "the rest have too little free time in common with this person",
    "nothing_to_learn": "none of the rest offers enough of what this person wants to learn",
    "nothing_to_give": "none of the rest wants to learn enough of what this person offers",
    "too_different": "the rest like to work too differently",
    "nobody_found": "the search found nobody with whom a pair would keep all rules and reach all floors",
}

MEMBER_TEXTS: Mapping[str, str] = {
    "nobody_on_the_other_side": "There was nobody on the other side who was ready and had a place free.",
    "level_gap": "The programme brings together people who are some levels of seniority apart, and nobody was far "
    "enough from your level.",
    "level_gap_too_great": "All who remained are further from your level of seniority than the programme asks for.",
    "reporting_line": "All who remained are in one reporting line with you, and the programme keeps that apart.",
    "same_manager": "All who remained report to the same manager as you, and the programme asks for some distance.",
    "evaluator": "With all who remained, one of you has a say in judging the other's work, and partners should be free "
    "of that.",
    "earlier_partner": "All who remained have been suggested to you before. New people may join before the next round.",
    "other_organisation": "All who remained belong to another organisation, and the programme pairs people within one.",
    "not_acknowledged": "All who remained belong to another organisation. For such a pair both need to have "
    "acknowledged the notice for it; in your enrolment you can see whether you have.",
    "no_common_language": "None of those who remained has named a language that you have named. If you speak others, "
    "add them to your profile.",
    "no_common_time": "With those who remained you have too little free time in common. If you can meet at other "
    "times, add them to your profile.",
    "nothing_to_learn": "None of those who remained offers enough of what you want to learn. The more topics you name, "
    "the more there is to find.",
    "nothing_to_give": "None of those who remained wants to learn enough of what you offer. The more topics you name "
    "that you can help with, the more there is to find.",
    "too_different": "Your way of working and that of those who remained are so far apart that a start would be hard.",
    "nobody_found": "Among those who could take part, nobody was found with whom a pair would be what the programme "
    "asks of one.",
    "changed_by_hand": "Single pairs of this round were changed by hand, and nobody who would suit you was left with "
    "a place free.",
    "places_taken": "There are people who would suit you, but the round as a whole came out best without a pair for "
    "you. That is no judgement of you, and the next round begins anew.",
}


@dataclass(frozen=True)
class UnmatchedMember:
    """Somebody without a partner, with the reason: ``numbers`` tells how many remained after each step."""

    member: Member
    side: Side
    code: str
    text: str
    counts: Mapping[str, int]
    relaxation: Relaxation | None = None


@dataclass(frozen=True)
class OptimalAssignment:
    """The best assignment, before fairness and the draw: these do not change who has a partner.

    ``chosen``: positions among the allowed candidates. ``worth``: of a place of each member of a side, in fit.
    """

    candidates: Candidates
    chosen: Ints
    seat_values: Mapping[Side, Floats]
    forbidden_pairs: Sequence[tuple[str, str]] = ()  # members whom a coordinator keeps apart, either way round


def member_text(code: str) -> str:
    """Why the person has no partner, for nobody's eyes but theirs: no number, and nothing about anybody else."""
    return MEMBER_TEXTS[code]


def relaxation_outlook(relaxation: Relaxation | None) -> str:
    """What would have helped, for who coordinates."""
    return (
        relaxation.text
        if relaxation
        else "No change of one rule, or of two, is known to bring two people within reach."
    )


def explain_one_sided(seniors: Sequence[Member], juniors: Sequence[Member]) -> tuple[str, list[UnmatchedMember]]:
    """Why a round without seniors or without juniors is empty, and the reason of everybody."""
    everybody: list[tuple[Side, Member]] = [("senior", m) for m in seniors] + [("junior", m) for m in juniors]
    if not everybody:
        return "Nobody is ready and has a place free.", []
    why = f"There is no {'junior' if seniors else 'senior'} who is ready and has a place free."
    return why, [
        UnmatchedMember(member, side, "nobody_on_the_other_side", why, {"people": 0}) for side, member in everybody
    ]


def explain_unmatched(pairs: CohortFit, best: OptimalAssignment) -> list[UnmatchedMember]:
    """Everybody whom ``best`` gives no partner, seniors first, each in the order of their positions."""
    return [*_Look("senior", pairs, best).reasons(), *_Look("junior", pairs, best).reasons()]


@dataclass(frozen=True)
class _Parts:
    """What is known exactly of some pairs, all arrays (pairs,)."""

    broken: Mapping[str, Bools]
    reach: Bools
    gap: Floats
    minutes: Ints
    lower: Floats
    together: Floats

    def suits(self) -> Bools:
        """No rule but a private one excludes them."""
        excluded = self.broken["same_person"].copy()
        for code in STEPS:
            excluded |= self.broken[code]
        return ~excluded

    def may_open(self) -> Bools:
        """No rule excludes them that is never relaxed."""
        closed = self.broken["same_person"].copy()
        for code in NEVER_RELAXED:
            closed |= self.broken[code]
        return ~closed

    @staticmethod
    def joined(some: "Sequence[_Parts]") -> "_Parts":
        broken = {code: np.concatenate([one.broken[code] for one in some]) for code in some[0].broken}
        return _Parts(
            broken,
            np.concatenate([one.reach for one in some]),
            np.concatenate([one.gap for one in some]),
            np.concatenate([one.minutes for one in some]),
            np.concatenate([one.lower for one in some]),
            np.concatenate([one.together for one in some]),
        )

    def take(self, which: Bools) -> "_Parts":
        broken = {code: mask[which] for code, mask in self.broken.items()}
        reach, gap, minutes = self.reach[which], self.gap[which], self.minutes[which]
        return _Parts(broken, reach, gap, minutes, self.lower[which], self.together[which])


class _Look:
    """One side's people who are left over (rows, by position) against all of the other side (columns)."""

    def __init__(self, side: Side, pairs: CohortFit, best: OptimalAssignment) -> None:
        self._side, self._pairs = side, pairs
        ours, theirs = (pairs.seniors, pairs.juniors) if side == "senior" else (pairs.juniors, pairs.seniors)
        allowed, every = best.candidates.allowed(), best.candidates.edges
        mine = allowed.seniors if side == "senior" else allowed.juniors
        taken = np.zeros(len(mine), dtype=np.bool_)
        taken[best.chosen] = True
        self._ours, self._width = ours, len(theirs)
        self._left = np.setdiff1d(np.arange(len(ours)), mine[taken])
        self._free = np.bincount(mine, minlength=len(ours)) > 0
        self._known = np.bincount(every.seniors if side == "senior" else every.juniors, minlength=len(ours))
        self._spare = EXACT_PAIR_BUDGET
        self._forbidden = _keys(best.forbidden_pairs, pairs)
        self._worth = best.seat_values["junior" if side == "senior" else "senior"]

    def reasons(self) -> list[UnmatchedMember]:
        found, rows, nearest = dict[int, UnmatchedMember](), self._left, self._width
        if len(rows) * self._width > MAX_FULL_PAIRS:
            nearest = NEAREST_PER_PERSON
            known = (self._known[rows] >= MIN_PEOPLE_IN_REACH) & self._free[rows]
            found |= {row: self._suited(row) for row in rows[known].tolist()}
            rows = rows[~known]
            near = self._too_near(rows)
            found |= zip(rows[near].tolist(), self._of_level(rows[near]), strict=True)
            rows = rows[~near]
            looks = PAIR_BUDGET // self._width
            found |= {row: self._beyond(row) for row in rows[looks:].tolist()}
            rows = rows[:looks]
        size = max(1, RULE_BATCH // self._width)
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            found |= zip(some.tolist(), self._looked_at(some, nearest), strict=True)
        return [found[row] for row in sorted(found)]

    def _suited(self, row: int) -> UnmatchedMember:
        """Somebody with candidates: enough is known without a look at everybody."""
        least = int(self._known[row])
        helped = one_seat_more(least, exact=False) if least >= MIN_PEOPLE_IN_REACH and self._free[row] else None
        return self._places_taken(row, f"at least {least}", {"people": self._width, "at_least": least}, helped)

    def _beyond(self, row: int) -> UnmatchedMember:
        """One of so many that not everybody can be looked at for each of them."""
        if self._known[row]:
            return self._suited(row)
        text = f"Of {self._width} on the other side, {NONE_REMAIN_TEXTS['nobody_found']}."
        return UnmatchedMember(self._ours[row], self._side, "nobody_found", text, {"people": self._width})

    def _too_near(self, rows: Ints) -> Bools:
        """Whose level alone keeps everybody out."""
        ours, theirs = self._levels()
        if np.isnan(theirs).any():
            return np.zeros(len(rows), dtype=np.bool_)
        gap: Floats = ours[rows] - theirs.min() if self._side == "senior" else theirs.max() - ours[rows]
        asked = self._pairs.settings.rules.min_level_gap
        return np.asarray(gap < asked, dtype=np.bool_)

    def _of_level(self, rows: Ints) -> list[UnmatchedMember]:
        """The same nearest few are looked at for all of these: those farthest from them in level."""
        _, theirs = self._levels()
        far = np.lexsort((self._worth, theirs if self._side == "senior" else -theirs))[:NEAREST_PER_PERSON]
        row = np.repeat(np.arange(len(rows)), len(far))
        helped = self._helped(row, self._exactly(rows[row], np.tile(far, len(rows))), len(rows))
        counts = [("people", self._width), ("level_gap", 0)]
        return [self._why(one, counts, helped[n]) for n, one in enumerate(rows.tolist())]

    def _looked_at(self, rows: Ints, nearest: int) -> list[UnmatchedMember]:
        broken = self._rules(rows)
        left = ~broken["same_person"]
        counts = [("people", left.sum(axis=1))]
        for code in STEPS[: STEPS.index("no_common_time")]:
            if code in broken:
                left &= ~broken[code]
                counts.append((code, left.sum(axis=1)))
        examined = np.cumsum(left.sum(axis=1)) <= self._spare
        if not examined.any():
            return [self._beyond(one) for one in rows.tolist()]
        look = (left | self._nearly(rows, broken, nearest)) & examined[:, None]
        self._spare -= int(look.sum()) if nearest < self._width else 0
        row, column = np.nonzero(look)
        parts = self._exactly(rows[row], column)
        remains = left[row, column]
        for code in STEPS[STEPS.index("no_common_time") :]:
            remains &= ~parts.broken[code]
            counts.append((code, np.bincount(row[remains], minlength=len(rows))))
        helped = self._helped(row, parts, len(rows))
        remaining = [[(code, int(count[n])) for code, count in counts] for n in range(len(rows))]
        return [
            self._why(one, remaining[n], helped[n]) if examined[n] else self._beyond(one)
            for n, one in enumerate(rows.tolist())
        ]

    def _nearly(self, rows: Ints, broken: Mapping[str, Bools], nearest: int) -> Bools:
        """For each row the ``nearest`` columns that rules which can be relaxed keep out, and no other rule."""
        asked = self._pairs.settings.rules
        gap = self._gap(rows[:, None], np.arange(self._width)[None, :])
        none = np.zeros_like(broken["level_gap"])
        beyond = broken.get("level_gap_too_great", none)
        manager = broken.get("same_manager", none)
        organisation = broken.get("other_organisation", none) | broken.get("not_acknowledged", none)
        level = np.where(broken["level_gap"], asked.min_level_gap - gap, 0)
        level += np.where(beyond, gap - (asked.max_level_gap or 0), 0)
        kinds = (broken["level_gap"] | beyond).astype(np.int8) + manager + organisation
        near: Bools = (kinds > 0) & (kinds <= 2) & (beyond | (level <= asked.min_level_gap)) & ~broken["same_person"]
        for code in NEVER_RELAXED:
            near &= ~broken[code]
        if nearest >= self._width:
            return near
        effort = EFFORT_PER_STEP["min_level_gap"] * level + EFFORT_PER_STEP["exclude_same_manager"] * manager
        effort += EFFORT_PER_STEP["cross_organisation"] * organisation + np.minimum(self._worth, 1)
        effort[~near] = np.inf
        last = np.partition(effort, nearest, axis=1)[:, nearest, None]
        near &= effort < last
        return near

    def _helped(self, row: Ints, parts: _Parts, people: int) -> list[Relaxation | None]:
        """What would help each: a place for whom enough people suit, a rule for the others."""
        suits = parts.suits()
        suitors = np.bincount(row[suits], minlength=people)
        free = np.bincount(row[suits & ~parts.broken["apart"]], minlength=people) > 0
        full = free & (suitors >= MIN_PEOPLE_IN_REACH)
        kept = parts.may_open() & ~suits & ~full[row]
        some = parts.take(kept)
        far = relaxation_steps(some.broken, some.gap, some.minutes, some.lower, some.together, self._pairs.settings)
        near = NearMisses(row[kept], far, some.reach, some.broken["apart"])
        found = least_relaxations(near, people, self._pairs.settings)
        return [one_seat_more(int(suitors[n]), exact=True) if full[n] else found[n] for n in range(people)]

    def _exactly(self, rows: Ints, columns: Ints) -> _Parts:
        """``rows`` and ``columns`` pair by pair."""
        starts = range(0, max(1, len(rows)), EXACT_BATCH)
        found = [self._some_exactly(rows[a : a + EXACT_BATCH], columns[a : a + EXACT_BATCH]) for a in starts]
        return _Parts.joined(found)

    def _some_exactly(self, rows: Ints, columns: Ints) -> _Parts:
        seniors, juniors = self._turned(rows, columns)
        block = self._pairs.evaluate(seniors, juniors)
        none = np.zeros(len(rows), dtype=np.bool_)
        broken: dict[str, Bools] = {rule: block.broken.get(rule, none) for rule in ALL_RULES}
        lacking = block.short["nothing_for_senior"], block.short["nothing_for_junior"]
        learn, give = lacking if self._side == "senior" else lacking[::-1]
        broken |= {"nothing_to_learn": learn, "nothing_to_give": give, "too_different": block.short["too_different"]}
        broken["apart"] = broken.pop("rather_not")
        if len(self._forbidden):
            broken["apart"] = broken["apart"] | np.isin(seniors * self._pairs.shape[1] + juniors, self._forbidden)
        minutes = np.zeros(len(rows), dtype=np.int64)
        short = broken["no_common_time"]
        minutes[short] = self._pairs.common_minutes(seniors[short], juniors[short])
        lower = np.minimum(block.senior_benefit, block.junior_benefit)
        reach = np.asarray(block.score > self._worth[columns] + MIN_GAIN_MARGIN)
        return _Parts(broken, reach, self._gap(rows, columns), minutes, lower, block.compatibility)

    def _rules(self, rows: Ints) -> Mapping[str, Bools]:
        """(rows, columns): all rules but common time."""
        seniors, juniors = self._turned(rows[:, None], np.arange(self._width)[None, :])
        return {str(rule): mask for rule, mask in self._pairs.broken_rules_except_time(seniors, juniors).items()}

    def _turned(self, rows: Ints, columns: Ints) -> tuple[Ints, Ints]:
        return (rows, columns) if self._side == "senior" else (columns, rows)

    def _levels(self) -> tuple[Floats, Floats]:
        seniors, juniors = (
            side.level.astype(np.float64) for side in (self._pairs.senior_columns, self._pairs.junior_columns)
        )
        return (seniors, juniors) if self._side == "senior" else (juniors, seniors)

    def _gap(self, rows: Ints, columns: Ints) -> Floats:
        seniors, juniors = self._turned(rows, columns)
        return np.asarray(
            self._pairs.senior_columns.level[seniors] - self._pairs.junior_columns.level[juniors], dtype=np.float64
        )

    def _why(self, row: int, remaining: Sequence[tuple[str, int]], helped: Relaxation | None) -> UnmatchedMember:
        """``remaining``: how many there are, and how many remain after each step."""
        (_, everybody), *after_each = remaining
        numbers, before = {"people": everybody}, everybody
        for code, after in after_each:
            if after == before and code in RULES:
                continue
            numbers[f"after_{code}"] = after
            if after == 0:
                known = "" if before == everybody else f", {before} remained"
                text = f"Of {everybody} on the other side{known}: {NONE_REMAIN_TEXTS[code]}."
                return UnmatchedMember(self._ours[row], self._side, code, text, numbers, helped)
            before = after
        return self._places_taken(row, str(before), numbers, helped)

    def _places_taken(
        self, row: int, many: str, numbers: Mapping[str, int], helped: Relaxation | None
    ) -> UnmatchedMember:
        text = f"Of {numbers['people']} on the other side, {many} would suit, but the round as a whole came out best"
        words = f"{text} without a pair for this person."
        return UnmatchedMember(self._ours[row], self._side, "places_taken", words, numbers, helped)


def _keys(couples: Sequence[tuple[str, str]], pairs: CohortFit) -> Ints:
    """These pairs as senior x juniors + junior, by position."""
    s, j = pairs.senior_columns.row_of, pairs.junior_columns.row_of
    both = [couple for a, b in couples for couple in ((a, b), (b, a))]
    return np.array([s[a] * pairs.shape[1] + j[b] for a, b in both if a in s and b in j], dtype=np.int64)
