"""Explains why a member has no partner in a round, to coordinators and to the member.

The reason is the first step (rule or floor) after which nobody of the other side remains, with the number of people who
remained before it. What would have helped is in ``relaxation``.

Cost: up to ``MAX_FULL_PAIRS`` pairs of unmatched members are all evaluated. Beyond that, the work per round is bounded
by ``PAIR_BUDGET`` and ``EXACT_PAIR_BUDGET``, and some members get a less exact reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from contracts.profiles import Side
from services.matcher.domain.fit.hard_rules import Member, Rule
from services.matcher.engine.arrays import Bools, Float64s, Int64s
from services.matcher.engine.candidates import Edges
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
from services.matcher.engine.unmatched_texts import NONE_REMAIN_TEXTS
from services.matcher.engine.vectorised_fit import CohortFit

MAX_FULL_PAIRS = 10_000_000  # pairs of one side's unmatched members up to which all are evaluated
PAIR_BUDGET = 50_000_000  # beyond that: pairs of one side whose rules are evaluated, roughly
EXACT_PAIR_BUDGET = 3_000_000  # of these, pairs whose fit is evaluated exactly
NEAREST_PER_PERSON = 256  # people whom rules keep out that are evaluated exactly for each member then
RULE_BATCH = 1_000_000  # pairs whose rules are evaluated at once
EXACT_BATCH = 250_000  # pairs whose fit is evaluated exactly at once

ALL_RULES: tuple[Rule, ...] = get_args(Rule)
RULES = tuple(rule for rule in ALL_RULES if rule != "same_person")
NEVER_RELAXED: tuple[Rule, ...] = ("reporting_line", "evaluator", "earlier_partner", "no_common_language")
PARTS: tuple[str, ...] = ("nothing_to_learn", "nothing_to_give", "too_different")
STEPS: tuple[str, ...] = (*RULES, *PARTS)


@dataclass(frozen=True)
class UnmatchedMember:
    """A member without a partner, and the reason. ``counts``: how many people remained after each step."""

    member: Member
    side: Side
    code: str
    text: str
    counts: Mapping[str, int]
    relaxation: Relaxation | None = None


@dataclass(frozen=True)
class OptimalAssignment:
    """The best assignment before fairness and the lottery, which do not change who has a partner.

    ``allowed`` (candidates): the pair may be assigned. ``chosen``: positions among the allowed candidates.
    ``seat_values``: of a seat of each member of a side, in fit. ``forbidden_pairs``: members whom a coordinator keeps
    apart, in either order.
    """

    candidates: Edges
    allowed: Bools
    chosen: Int64s
    seat_values: Mapping[Side, Float64s]
    forbidden_pairs: Sequence[tuple[str, str]] = ()


def relaxation_outlook(relaxation: Relaxation | None) -> str:
    """The change that would have helped, for coordinators."""
    if relaxation:
        return relaxation.text
    return "No change of one rule, or of two, is known to bring two people within reach."


def explain_one_sided(seniors: Sequence[Member], juniors: Sequence[Member]) -> tuple[str, list[UnmatchedMember]]:
    """Why a round without seniors or without juniors is empty, and the reason of each member."""
    members: list[tuple[Side, Member]] = [("senior", m) for m in seniors] + [("junior", m) for m in juniors]
    if not members:
        return "Nobody is ready and has a place free.", []
    text = f"There is no {'junior' if seniors else 'senior'} who is ready and has a place free."
    code, counts = "nobody_on_the_other_side", {"people": 0}
    return text, [UnmatchedMember(member, side, code, text, counts) for side, member in members]


def explain_unmatched(fit: CohortFit, best: OptimalAssignment) -> list[UnmatchedMember]:
    """All members to whom ``best`` gives no partner: seniors first, each side in the order of its rows."""
    return [*_SideExplainer("senior", fit, best).explain(), *_SideExplainer("junior", fit, best).explain()]


@dataclass(frozen=True)
class _PairFacts:
    """Exact facts about some pairs, all arrays (pairs,).

    ``in_reach``: the pair gains more than the other's seat is worth. ``gap``: levels of seniority between the two.
    ``lower_benefit``: of the side that gains less.
    """

    broken: Mapping[str, Bools]
    in_reach: Bools
    gap: Float64s
    minutes: Int64s
    lower_benefit: Float64s
    compatibility: Float64s

    def suits(self) -> Bools:
        """No rule excludes the pair."""
        return self._breaks_none(STEPS)

    def can_be_relaxed(self) -> Bools:
        """No rule excludes the pair that is never relaxed."""
        return self._breaks_none(NEVER_RELAXED)

    def _breaks_none(self, codes: Sequence[str]) -> Bools:
        excluded = self.broken["same_person"].copy()
        for code in codes:
            excluded |= self.broken[code]
        return ~excluded

    @staticmethod
    def concatenate(parts: "Sequence[_PairFacts]") -> "_PairFacts":
        broken = {code: np.concatenate([part.broken[code] for part in parts]) for code in parts[0].broken}
        return _PairFacts(
            broken,
            np.concatenate([part.in_reach for part in parts]),
            np.concatenate([part.gap for part in parts]),
            np.concatenate([part.minutes for part in parts]),
            np.concatenate([part.lower_benefit for part in parts]),
            np.concatenate([part.compatibility for part in parts]),
        )

    def take(self, selected: Bools) -> "_PairFacts":
        broken = {code: mask[selected] for code, mask in self.broken.items()}
        in_reach, gap, minutes = self.in_reach[selected], self.gap[selected], self.minutes[selected]
        return _PairFacts(broken, in_reach, gap, minutes, self.lower_benefit[selected], self.compatibility[selected])


class _SideExplainer:
    """Evaluates the unmatched members of one side (rows) against all members of the other side (columns)."""

    def __init__(self, side: Side, fit: CohortFit, best: OptimalAssignment) -> None:
        self._side, self._fit = side, fit
        ours, theirs = (fit.seniors, fit.juniors) if side == "senior" else (fit.juniors, fit.seniors)
        edges, allowed = best.candidates, best.candidates.take(best.allowed)
        mine = allowed.seniors if side == "senior" else allowed.juniors
        is_chosen = np.zeros(len(mine), dtype=np.bool_)
        is_chosen[best.chosen] = True
        self._members, self._width = ours, len(theirs)
        self._unmatched = np.setdiff1d(np.arange(len(ours)), mine[is_chosen])
        self._has_allowed_candidate = np.bincount(mine, minlength=len(ours)) > 0
        self._candidate_count = np.bincount(edges.seniors if side == "senior" else edges.juniors, minlength=len(ours))
        self._exact_budget = EXACT_PAIR_BUDGET
        self._forbidden_keys = _keys_of(best.forbidden_pairs, fit)
        self._seat_values = best.seat_values["junior" if side == "senior" else "senior"]

    def explain(self) -> list[UnmatchedMember]:
        explained, rows, nearest = dict[int, UnmatchedMember](), self._unmatched, self._width
        if len(rows) * self._width > MAX_FULL_PAIRS:
            nearest = NEAREST_PER_PERSON
            has_suitors = (self._candidate_count[rows] >= MIN_PEOPLE_IN_REACH) & self._has_allowed_candidate[rows]
            explained |= {row: self._explain_by_candidates(row) for row in rows[has_suitors].tolist()}
            rows = rows[~has_suitors]
            is_level_alone = self._level_excludes_all(rows)
            explained |= zip(rows[is_level_alone].tolist(), self._explain_by_level(rows[is_level_alone]), strict=True)
            rows = rows[~is_level_alone]
            affordable = PAIR_BUDGET // self._width
            explained |= {row: self._explain_unevaluated(row) for row in rows[affordable:].tolist()}
            rows = rows[:affordable]
        size = max(1, RULE_BATCH // self._width)
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            explained |= zip(batch.tolist(), self._explain_by_evaluation(batch, nearest), strict=True)
        return [explained[row] for row in sorted(explained)]

    def _explain_by_candidates(self, row: int) -> UnmatchedMember:
        """The reason of a member with candidates, which needs no evaluation of the other side."""
        least = int(self._candidate_count[row])
        has_suitors = least >= MIN_PEOPLE_IN_REACH and self._has_allowed_candidate[row]
        relaxation = one_seat_more(least, exact=False) if has_suitors else None
        counts = {"people": self._width, "at_least": least}
        return self._seats_taken(row, f"at least {least}", counts, relaxation)

    def _explain_unevaluated(self, row: int) -> UnmatchedMember:
        """The reason of a member for whom the budget does not allow an evaluation of the other side."""
        if self._candidate_count[row]:
            return self._explain_by_candidates(row)
        text = f"Of {self._width} on the other side, {NONE_REMAIN_TEXTS['nobody_found']}."
        return UnmatchedMember(self._members[row], self._side, "nobody_found", text, {"people": self._width})

    def _level_excludes_all(self, rows: Int64s) -> Bools:
        """(rows): whether the member's level alone excludes the whole other side."""
        ours, theirs = self._levels()
        if np.isnan(theirs).any():
            return np.zeros(len(rows), dtype=np.bool_)
        gap: Float64s = ours[rows] - theirs.min() if self._side == "senior" else theirs.max() - ours[rows]
        return np.asarray(gap < self._fit.settings.rules.min_level_gap, dtype=np.bool_)

    def _explain_by_level(self, rows: Int64s) -> list[UnmatchedMember]:
        """The reason of members whose level excludes all. The same few columns, farthest in level, serve them all."""
        _, theirs = self._levels()
        farthest = np.lexsort((self._seat_values, theirs if self._side == "senior" else -theirs))[:NEAREST_PER_PERSON]
        row = np.repeat(np.arange(len(rows)), len(farthest))
        facts = self._evaluate(rows[row], np.tile(farthest, len(rows)))
        relaxations = self._find_relaxations(row, facts, len(rows))
        counts = [("people", self._width), ("level_gap", 0)]
        return [self._reason(member, counts, relaxations[n]) for n, member in enumerate(rows.tolist())]

    def _explain_by_evaluation(self, rows: Int64s, nearest: int) -> list[UnmatchedMember]:
        """The reason of these members, rule by rule. ``nearest``: columns per row that may be relaxed."""
        broken = self._evaluate_rules(rows)
        remains = ~broken["same_person"]
        counts = [("people", remains.sum(axis=1))]
        for code in STEPS[: STEPS.index("no_common_time")]:
            if code in broken:
                remains &= ~broken[code]
                counts.append((code, remains.sum(axis=1)))
        is_affordable = np.cumsum(remains.sum(axis=1)) <= self._exact_budget
        if not is_affordable.any():
            return [self._explain_unevaluated(row) for row in rows.tolist()]
        selected = (remains | self._near_misses(rows, broken, nearest)) & is_affordable[:, None]
        self._exact_budget -= int(selected.sum()) if nearest < self._width else 0
        row, column = np.nonzero(selected)
        facts = self._evaluate(rows[row], column)
        pair_remains = remains[row, column]
        for code in STEPS[STEPS.index("no_common_time") :]:
            pair_remains &= ~facts.broken[code]
            counts.append((code, np.bincount(row[pair_remains], minlength=len(rows))))
        relaxations = self._find_relaxations(row, facts, len(rows))
        counts_of = [[(code, int(count[n])) for code, count in counts] for n in range(len(rows))]
        return [
            self._reason(member, counts_of[n], relaxations[n])
            if is_affordable[n]
            else self._explain_unevaluated(member)
            for n, member in enumerate(rows.tolist())
        ]

    def _near_misses(self, rows: Int64s, broken: Mapping[str, Bools], nearest: int) -> Bools:
        """(rows, columns): the ``nearest`` columns of each row that only rules which can be relaxed keep out."""
        rules = self._fit.settings.rules
        gap = self._level_gap(rows[:, None], np.arange(self._width)[None, :])
        none = np.zeros_like(broken["level_gap"])
        too_great = broken.get("level_gap_too_great", none)
        manager = broken.get("same_manager", none)
        organisation = broken.get("other_organisation", none) | broken.get("not_acknowledged", none)
        level = np.where(broken["level_gap"], rules.min_level_gap - gap, 0)
        level += np.where(too_great, gap - (rules.max_level_gap or 0), 0)
        kinds = (broken["level_gap"] | too_great).astype(np.int8) + manager + organisation
        is_near: Bools = (kinds > 0) & (kinds <= 2) & ~broken["same_person"]
        is_near &= too_great | (level <= rules.min_level_gap)
        for code in NEVER_RELAXED:
            is_near &= ~broken[code]
        if nearest >= self._width:
            return is_near
        effort = EFFORT_PER_STEP["min_level_gap"] * level + EFFORT_PER_STEP["exclude_same_manager"] * manager
        effort += EFFORT_PER_STEP["cross_organisation"] * organisation + np.minimum(self._seat_values, 1)
        effort[~is_near] = np.inf
        limit = np.partition(effort, nearest, axis=1)[:, nearest, None]
        is_near &= effort < limit
        return is_near

    def _find_relaxations(self, row: Int64s, facts: _PairFacts, people: int) -> list[Relaxation | None]:
        """The help for each person: a seat if enough people suit, a change of a rule otherwise.

        ``row`` (pairs): the person of each pair, by number from 0.
        """
        suits = facts.suits()
        suitors = np.bincount(row[suits], minlength=people)
        has_free_suitor = np.bincount(row[suits & ~facts.broken["apart"]], minlength=people) > 0
        needs_seat = has_free_suitor & (suitors >= MIN_PEOPLE_IN_REACH)
        is_near = facts.can_be_relaxed() & ~suits & ~needs_seat[row]
        near = facts.take(is_near)
        steps = relaxation_steps(
            near.broken, near.gap, near.minutes, near.lower_benefit, near.compatibility, self._fit.settings
        )
        near_misses = NearMisses(row[is_near], steps, near.in_reach, near.broken["apart"])
        relaxations = least_relaxations(near_misses, people, self._fit.settings)
        return [one_seat_more(int(suitors[n]), exact=True) if needs_seat[n] else relaxations[n] for n in range(people)]

    def _evaluate(self, rows: Int64s, columns: Int64s) -> _PairFacts:
        """The facts of these pairs, in batches."""
        starts = range(0, max(1, len(rows)), EXACT_BATCH)
        return _PairFacts.concatenate(
            [self._evaluate_batch(rows[a : a + EXACT_BATCH], columns[a : a + EXACT_BATCH]) for a in starts]
        )

    def _evaluate_batch(self, rows: Int64s, columns: Int64s) -> _PairFacts:
        seniors, juniors = self._as_senior_junior(rows, columns)
        block = self._fit.evaluate(seniors, juniors)
        none = np.zeros(len(rows), dtype=np.bool_)
        broken: dict[str, Bools] = {rule: block.broken.get(rule, none) for rule in ALL_RULES}
        lacking = block.short["nothing_for_senior"], block.short["nothing_for_junior"]
        learn, give = lacking if self._side == "senior" else lacking[::-1]
        broken |= {"nothing_to_learn": learn, "nothing_to_give": give, "too_different": block.short["too_different"]}
        broken["apart"] = np.isin(seniors * self._fit.shape[1] + juniors, self._forbidden_keys)
        minutes = np.zeros(len(rows), dtype=np.int64)
        lacks_time = broken["no_common_time"]
        minutes[lacks_time] = self._fit.common_minutes(seniors[lacks_time], juniors[lacks_time])
        lower_benefit = np.minimum(block.senior_benefit, block.junior_benefit)
        in_reach = np.asarray(block.score > self._seat_values[columns] + MIN_GAIN_MARGIN)
        gap = self._level_gap(rows, columns)
        return _PairFacts(broken, in_reach, gap, minutes, lower_benefit, block.compatibility)

    def _evaluate_rules(self, rows: Int64s) -> Mapping[str, Bools]:
        """(rows, columns): all rules but common time."""
        seniors, juniors = self._as_senior_junior(rows[:, None], np.arange(self._width)[None, :])
        return {str(rule): mask for rule, mask in self._fit.broken_rules_except_time(seniors, juniors).items()}

    def _as_senior_junior(self, rows: Int64s, columns: Int64s) -> tuple[Int64s, Int64s]:
        return (rows, columns) if self._side == "senior" else (columns, rows)

    def _levels(self) -> tuple[Float64s, Float64s]:
        """The levels of this side and of the other side."""
        sides = self._fit.senior_columns, self._fit.junior_columns
        seniors, juniors = (side.level.astype(np.float64) for side in sides)
        return (seniors, juniors) if self._side == "senior" else (juniors, seniors)

    def _level_gap(self, rows: Int64s, columns: Int64s) -> Float64s:
        seniors, juniors = self._as_senior_junior(rows, columns)
        gap = self._fit.senior_columns.level[seniors] - self._fit.junior_columns.level[juniors]
        return np.asarray(gap, dtype=np.float64)

    def _reason(self, row: int, counts: Sequence[tuple[str, int]], relaxation: Relaxation | None) -> UnmatchedMember:
        """``counts``: the number of people on the other side, then how many remain after each step."""
        (_, people), *after_each = counts
        shown, before = {"people": people}, people
        for code, after in after_each:
            if after == before and code in RULES:
                continue
            shown[f"after_{code}"] = after
            if after == 0:
                remained = "" if before == people else f", {before} remained"
                text = f"Of {people} on the other side{remained}: {NONE_REMAIN_TEXTS[code]}."
                return UnmatchedMember(self._members[row], self._side, code, text, shown, relaxation)
            before = after
        return self._seats_taken(row, str(before), shown, relaxation)

    def _seats_taken(
        self, row: int, suitors: str, counts: Mapping[str, int], relaxation: Relaxation | None
    ) -> UnmatchedMember:
        start = f"Of {counts['people']} on the other side, {suitors} would suit, but the round as a whole came out best"
        text = f"{start} without a pair for this person."
        return UnmatchedMember(self._members[row], self._side, "places_taken", text, counts, relaxation)


def _keys_of(couples: Sequence[tuple[str, str]], fit: CohortFit) -> Int64s:
    """Keys ``senior x juniors + junior`` of these pairs of member ids, in either order."""
    s, j = fit.senior_columns.row_of, fit.junior_columns.row_of
    both = [couple for a, b in couples for couple in ((a, b), (b, a))]
    return np.array([s[a] * fit.shape[1] + j[b] for a, b in both if a in s and b in j], dtype=np.int64)
