"""The fit of many pairs at once: the rules of ``domain.fit.rules`` and ``domain.fit.score`` over member columns.

It equals the scalar definition to a millionth, which a property test checks. It accepts any two arrays of rows that
broadcast: a list of pairs, one member against all, or a whole block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.hard_rules import Member, Rule
from services.matcher.domain.fit.score import (
    MAX_EXPERIENCE_BAND,
    MIN_STYLE_ANSWERS,
    POSITION_FIELDS,
    STYLE_BANDS,
    STYLE_DIMENSIONS,
    UNANSWERED_SHARE,
    Shortfall,
    get_ample_minutes,
    sum_weights,
)
from services.matcher.engine.arrays import Bits, Bools, Codes, Float64s, Int64s
from services.matcher.engine.member_columns import NO_CODE, MemberColumns, Vocabulary

_MIN_BULK_PAIRS = 10_000  # pairs from which one product over all members is faster than looking up each pair
_FLOOR_TOLERANCE = 1e-6  # rounding that a value may stay below its floor
SKIPPED = 16  # more than all dimensions together
STYLE_STEPS = 8  # of a similarity: answers are halves of a scale of four
_CODE_BITS = 32  # bits of a person's code in a packed couple


@dataclass(frozen=True)
class FitBlock:
    """The fit of each pair in its parts, and the rules that it breaks; all arrays have the same shape.

    ``broken``: whether the pair breaks the hard rule. ``short``: whether it stays below the floor.
    """

    score: Float64s
    senior_benefit: Float64s
    junior_benefit: Float64s
    compatibility: Float64s
    perspective: Float64s
    broken: Mapping[Rule, Bools]
    short: Mapping[Shortfall, Bools]

    def feasible(self) -> Bools:
        """Whether the pair keeps all rules and reaches all floors."""
        forbidden: Bools = np.zeros(self.score.shape, dtype=np.bool_)
        for mask in (*self.broken.values(), *self.short.values()):
            forbidden |= mask
        return ~forbidden


class PairwiseFit:
    """The fit of pairs of seniors and juniors of one programme, whose columns share a vocabulary.

    In all methods ``rows`` are rows of seniors and ``columns`` are rows of juniors; they broadcast, and the results
    have the broadcast shape. The columns must not change while a ``PairwiseFit`` is in use.
    """

    def __init__(
        self,
        seniors: MemberColumns,
        juniors: MemberColumns,
        settings: ProgrammeSettings,
        earlier: Iterable[tuple[str, str]] = (),
    ) -> None:
        """``earlier``: pairs of member ids, in either order, that were suggested to each other before."""
        self.senior_columns, self.junior_columns, self.settings = seniors, juniors, settings
        seniors.align()
        juniors.align()
        people = seniors.vocabulary.people
        couples = [(people[a], people[b]) for a, b in earlier if a in people and b in people]
        self._earlier = np.sort(np.array([_pack_couple(a, b) for a, b in couples], dtype=np.int64))

    @property
    def shape(self) -> tuple[int, int]:
        """The number of seniors and of juniors."""
        return self.senior_columns.rows, self.junior_columns.rows

    def evaluate_block(self, rows: Int64s, columns: Int64s) -> FitBlock:
        """(rows, columns): every pair of these seniors and juniors."""
        return self.evaluate(rows[:, None], columns[None, :])

    def evaluate(self, rows: Int64s, columns: Int64s) -> FitBlock:
        """All parts of the fit, and every rule, of each pair."""
        seniors, juniors = self.senior_columns, self.junior_columns
        for_senior = _benefit(seniors, rows, juniors, columns)
        for_junior = _benefit(juniors, columns, seniors, rows)
        know_languages = seniors.has_languages[rows] & juniors.has_languages[columns]
        common_language = _have_common_bit(seniors.languages, rows, juniors.languages, columns)
        know_hours = seniors.has_hours[rows] & juniors.has_hours[columns]
        minutes = self.common_minutes(rows, columns)
        language = np.where(know_languages, common_language, UNANSWERED_SHARE)
        compatibility = self.style_similarity(rows, columns) * self.ease_factor(language, minutes, know_hours)
        perspective = self.perspective_score(rows, columns)
        broken = self.broken_rules_except_time(rows, columns)
        broken["no_common_time"] = know_hours & (minutes < self.settings.rules.min_overlap_minutes)
        floors = self.settings.matching.floors
        short: dict[Shortfall, Bools] = {
            "nothing_for_senior": ~_reaches_floor(for_senior, floors.benefit),
            "nothing_for_junior": ~_reaches_floor(for_junior, floors.benefit),
            "too_different": ~_reaches_floor(compatibility, floors.compatibility),
        }
        lower, higher = np.minimum(for_senior, for_junior), np.maximum(for_senior, for_junior)
        w = self.settings.matching.weights
        score = (
            w.lower_benefit * lower
            + w.higher_benefit * higher
            + w.compatibility * compatibility
            + w.perspective * perspective
        ) / sum_weights(w)
        return FitBlock(score, for_senior, for_junior, compatibility, perspective, broken, short)

    def common_minutes(self, rows: Int64s, columns: Int64s) -> Int64s:
        """Free minutes a week in common; without meaning where the hours of either are unknown."""
        slots: npt.NDArray[np.uint16] = np.zeros(np.broadcast_shapes(rows.shape, columns.shape), dtype=np.uint16)
        for mine, theirs in zip(self.senior_columns.free_slots, self.junior_columns.free_slots, strict=True):
            slots += np.bitwise_count(mine[rows] & theirs[columns])
        return slots.astype(np.int64) * self.senior_columns.vocabulary.grid_minutes

    def style_similarity(self, rows: Int64s, columns: Int64s) -> Float64s:
        """What the band of similarity of working styles counts, as a share of the plateau, at most 1."""
        total = sum(self.dimension_similarity(dimension, rows, columns) for dimension in range(len(STYLE_DIMENSIONS)))
        return self.style_shares[np.asarray(total * STYLE_STEPS, dtype=np.int64)]

    @cached_property
    def style_shares(self) -> Float64s:
        """(sums of ``dimension_similarity`` in steps): what the band of each sum counts, as a share of the plateau."""
        total = np.arange(len(STYLE_DIMENSIONS) * SKIPPED * STYLE_STEPS + 1) / STYLE_STEPS
        skipped = np.floor(total / SKIPPED)
        answered, similarity = len(STYLE_DIMENSIONS) - skipped, total - SKIPPED * skipped
        share = np.select(
            [similarity >= begin * answered for begin, _ in STYLE_BANDS], [share for _, share in STYLE_BANDS]
        )
        share = np.where(answered < MIN_STYLE_ANSWERS, UNANSWERED_SHARE, share)
        return np.asarray(np.minimum(1.0, share / self.settings.matching.ease.plateau), dtype=np.float64)

    def dimension_similarity(self, dimension: int, rows: Int64s, columns: Int64s) -> Float64s:
        """The similarity in one dimension, from 0 to 1 in eighths; ``SKIPPED`` where either has not answered it.

        So the sum over all dimensions tells both the similarity and how many were skipped.
        """
        distance = np.abs(self.senior_columns.style[dimension][rows] - self.junior_columns.style[dimension][columns])
        return np.where(np.isnan(distance), SKIPPED, 1 - distance / 4)

    def ease_factor(self, language: Float64s, minutes: Int64s, know_hours: Bools) -> Float64s:
        """The factor from 0 to 1 by which language and common time reduce the similarity."""
        ease = self.settings.matching.ease
        time = np.where(know_hours, np.minimum(1.0, minutes / get_ample_minutes(self.settings)), UNANSWERED_SHARE)
        total = ease.style + ease.language + ease.time
        return np.asarray((ease.style + ease.language * language + ease.time * time) / total, dtype=np.float64)

    def perspective_score(self, rows: Int64s, columns: Int64s) -> Float64s:
        """The reward for different positions of the two in the organisation."""
        return sum(
            (self.attribute_score(n, rows, columns) for n in range(len(POSITION_FIELDS))),
            self.experience_score(rows, columns) + self.level_gap_score(rows, columns),
        )

    def attribute_score(self, attribute: int, rows: Int64s, columns: Int64s) -> Float64s:
        """The reward for one attribute: department, site or discipline, by index."""
        worth, name = self.settings.matching.perspective, POSITION_FIELDS[attribute]
        mine, theirs = (
            self.senior_columns.attributes[attribute][rows],
            self.junior_columns.attributes[attribute][columns],
        )
        same, different = getattr(worth.same, name), getattr(worth.different, name)
        return np.where((mine >= 0) & (theirs >= 0), np.where(mine == theirs, same, different), 0.0)

    def experience_score(self, rows: Int64s, columns: Int64s) -> Float64s:
        gap = self.senior_columns.experience[rows] - self.junior_columns.experience[columns]
        return np.asarray(
            self.settings.matching.perspective.experience
            * np.nan_to_num(np.maximum(0, gap)).astype(np.float64)
            / MAX_EXPERIENCE_BAND
        )

    def level_gap_score(self, rows: Int64s, columns: Int64s) -> Float64s:
        gap = self.senior_columns.level[rows] - self.junior_columns.level[columns]
        earned = np.zeros(gap.shape)
        for step in self.settings.matching.perspective.gaps:
            earned[gap == step.levels] = step.worth
        return earned

    def broken_level_rules(self, rows: Int64s, columns: Int64s) -> dict[Rule, Bools]:
        """The rules about the gap in seniority."""
        gap = self.senior_columns.level[rows] - self.junior_columns.level[columns]
        max_gap = self.settings.rules.max_level_gap
        broken: dict[Rule, Bools] = {"level_gap": np.asarray(gap < self.settings.rules.min_level_gap)}
        if max_gap is not None:
            broken["level_gap_too_great"] = np.asarray(gap > max_gap) & ~broken["level_gap"]
        return broken

    def broken_organisation_rules(self, rows: Int64s, columns: Int64s) -> dict[Rule, Bools]:
        """The one rule about other organisations that this programme has."""
        seniors, juniors = self.senior_columns, self.junior_columns
        other = seniors.organisation[rows] != juniors.organisation[columns]
        if not self.settings.rules.cross_organisation:
            return {"other_organisation": other}
        return {"not_acknowledged": other & ~(seniors.has_acknowledged[rows] & juniors.has_acknowledged[columns])}

    def lacks_common_language(self, rows: Int64s, columns: Int64s) -> Bools:
        seniors, juniors = self.senior_columns, self.junior_columns
        know_languages = seniors.has_languages[rows] & juniors.has_languages[columns]
        return know_languages & ~_have_common_bit(seniors.languages, rows, juniors.languages, columns)

    def broken_rules_except_time(self, rows: Int64s, columns: Int64s) -> dict[Rule, Bools]:
        """Every rule but the one about common time."""
        s, j, rules = self.senior_columns, self.junior_columns, self.settings.rules
        seniors, juniors = s.person[rows], j.person[columns]
        depth = rules.line_depth
        broken: dict[Rule, Bools] = {
            "same_person": seniors == juniors,
            **self.broken_level_rules(rows, columns),
            "reporting_line": _is_named(s.reporting_line[:depth], rows, juniors)
            | _is_named(j.reporting_line[:depth], columns, seniors),
            "evaluator": _is_named(s.evaluators, rows, juniors) | _is_named(j.evaluators, columns, seniors),
            "earlier_partner": self._were_partners(seniors, juniors),
            "no_common_language": self.lacks_common_language(rows, columns),
            **self.broken_organisation_rules(rows, columns),
        }
        if rules.exclude_same_manager:
            manager = s.reporting_line[0][rows]
            broken["same_manager"] = (manager != NO_CODE) & (manager == j.reporting_line[0][columns])
        return broken

    def earlier_pair_keys(self) -> Int64s:
        """Sorted keys ``senior x juniors + junior`` of pairs that were suggested to each other before."""
        first, second = self._earlier >> _CODE_BITS, self._earlier & ((1 << _CODE_BITS) - 1)
        people = np.concatenate([first, second]), np.concatenate([second, first])
        return self._keys_of(_rows_of(self.senior_columns, people[0]), _rows_of(self.junior_columns, people[1]))

    def unwanted_pair_keys(self) -> Int64s:
        """Sorted keys of pairs of whom one would rather not be paired with the other: a private wish, and no rule."""
        s, j = self.senior_columns, self.junior_columns
        of_seniors, of_juniors = np.nonzero(s.avoided != NO_CODE), np.nonzero(j.avoided != NO_CODE)
        return self._keys_of(
            np.concatenate([of_seniors[1], _rows_of(s, j.avoided[of_juniors])]),
            np.concatenate([_rows_of(j, s.avoided[of_seniors]), of_juniors[1]]),
        )

    def _keys_of(self, rows: Int64s, columns: Int64s) -> Int64s:
        is_present = (rows >= 0) & (columns >= 0)
        return np.sort(rows[is_present] * self.shape[1] + columns[is_present])

    def _were_partners(self, seniors: Codes, juniors: Codes) -> Bools:
        if not len(self._earlier):
            return np.zeros(np.broadcast_shapes(seniors.shape, juniors.shape), dtype=np.bool_)
        low, high = np.minimum(seniors, juniors).astype(np.int64), np.maximum(seniors, juniors).astype(np.int64)
        couples = (low << _CODE_BITS) | high
        position = np.minimum(np.searchsorted(self._earlier, couples), len(self._earlier) - 1)
        return np.asarray(self._earlier[position] == couples)


class CohortFit(PairwiseFit):
    """The fit of all pairs of these members, whose rows are their positions in ``seniors`` and ``juniors``."""

    def __init__(
        self,
        seniors: Sequence[Member],
        juniors: Sequence[Member],
        settings: ProgrammeSettings,
        taxonomy: Taxonomy,
        on: date,
        earlier: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.seniors, self.juniors = seniors, juniors
        vocabulary = Vocabulary(settings, taxonomy, on)
        super().__init__(MemberColumns(vocabulary, seniors), MemberColumns(vocabulary, juniors), settings, earlier)


def _rows_of(side: MemberColumns, people: Int64s | Codes) -> Int64s:
    """(people): the row of each person, -1 if the person is not of this side."""
    if not side.rows:
        return np.full(len(people), -1)
    order = np.argsort(side.person)
    row = order[np.minimum(np.searchsorted(side.person, people, sorter=order), side.rows - 1)]
    return np.where(side.person[row] == people, row, -1)


def _pack_couple(a: int, b: int) -> int:
    return (min(a, b) << _CODE_BITS) | max(a, b)


def _benefit(seeker: MemberColumns, seekers: Int64s, giver: MemberColumns, givers: Int64s) -> Float64s:
    """The gain of each seeker: 1 - product over the wishes of (1 - worth x coverage)."""
    if seekers.size * givers.size >= _MIN_BULK_PAIRS and seekers.ndim == 2:
        is_transposed = seekers.shape[0] == 1
        return _benefit_of_all(seeker, seekers.ravel(), giver, givers.ravel(), is_transposed=is_transposed)
    if seekers.size >= _MIN_BULK_PAIRS and seekers.shape == givers.shape:
        from services.matcher.engine.benefit_kernel import unmet_shares  # loads numba only where it is needed

        unmet = unmet_shares(seeker.wish_topics, seeker.wish_worths, seekers, giver.topic_coverage, givers)
        return np.asarray(1 - unmet, dtype=np.float64)
    unmet = np.ones(np.broadcast_shapes(seekers.shape, givers.shape))
    coverage = giver.topic_coverage
    for topics, worths in zip(seeker.wish_topics, seeker.wish_worths, strict=True):
        worth = worths[seekers]
        if worth.any():
            unmet *= 1 - worth * coverage[topics[seekers], givers]
    return 1 - unmet


def _benefit_of_all(
    seeker: MemberColumns, seekers: Int64s, giver: MemberColumns, givers: Int64s, *, is_transposed: bool
) -> Float64s:
    """(seekers, givers), or transposed: the same for all pairs, as a sparse product of logarithms."""
    topics, worths = seeker.wish_topics[:, seekers].T, seeker.wish_worths[:, seekers].T
    person, slot = np.nonzero(worths > 0)
    values, value_of = np.unique(worths[person, slot], return_inverse=True)
    coverage = giver.topic_coverage[:, givers].astype(np.float64)
    with np.errstate(divide="ignore"):  # a fully covered wish leaves nothing: log(0)
        log_unmet = np.concatenate([np.log1p(-value * coverage) for value in values.tolist()] or [coverage])
    starts = np.searchsorted(person, np.arange(len(seekers) + 1))
    columns = value_of * len(coverage) + topics[person, slot]
    wishes = sparse.csr_array((np.ones(len(person)), columns, starts), shape=(len(seekers), len(log_unmet)))
    sums = np.asarray(wishes @ log_unmet)
    return np.asarray(-np.expm1(np.ascontiguousarray(sums.T) if is_transposed else sums), dtype=np.float64)


def _have_common_bit(first: Bits, rows: Int64s, other: Bits, columns: Int64s) -> Bools:
    """Whether the two share a bit. The sides may differ in words: nobody shares a language that only one side knows."""
    common: Bools = np.zeros(np.broadcast_shapes(rows.shape, columns.shape), dtype=np.bool_)
    for mine, theirs in zip(first, other, strict=False):
        common |= (mine[rows] & theirs[columns]) != 0
    return common


def _is_named(lists: Codes, rows: Int64s, people: Codes) -> Bools:
    """Whether the list of each row names the person."""
    is_named: Bools = np.zeros(np.broadcast_shapes(rows.shape, people.shape), dtype=np.bool_)
    for names in lists:
        is_named |= names[rows] == people
    return is_named


def _reaches_floor(value: Float64s, floor: float) -> Bools:
    """Whether the value reaches the floor; a value of 0 never does."""
    return np.asarray((value > 0) & (value >= floor - _FLOOR_TOLERANCE), dtype=np.bool_)
