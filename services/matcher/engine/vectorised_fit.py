"""The fit of many pairs at once: ``rules`` and ``fit`` over columns of seniors and juniors.

It equals the scalar definition to a millionth (a property test holds it to that), for any two arrays of rows that
broadcast: a list of pairs, one against all, or a whole block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
from scipy import sparse

from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.rules import Member, Rule
from services.matcher.domain.fit.score import (
    MAX_EXPERIENCE_BAND,
    POSITION_FIELDS,
    STYLE_DIMENSIONS,
    UNANSWERED_SHARE,
    Shortfall,
    get_ample_minutes,
    sum_weights,
)
from services.matcher.engine.member_columns import NO_CODE, Bits, Bools, Codes, Ints, MemberColumns, Vocabulary

Floats = npt.NDArray[np.float64]
Step = Rule | Shortfall

_MANY = 10_000  # pairs from which a product over everybody is faster than looking up each
_PERSON = 32  # bits of a person's number


@dataclass(frozen=True)
class FitBlock:
    """What is known of each pair, all arrays of the same shape."""

    score: Floats
    senior_benefit: Floats
    junior_benefit: Floats
    compatibility: Floats
    perspective: Floats
    broken: Mapping[Rule, Bools]
    short: Mapping[Shortfall, Bools]

    def feasible(self) -> Bools:
        return self.publicly_feasible() & ~self.broken["rather_not"]

    def publicly_feasible(self) -> Bools:
        """Possible as far as everybody may know: private rules take no part."""
        forbidden: Bools = np.zeros(self.score.shape, dtype=np.bool_)
        for rule, mask in self.broken.items():
            if rule != "rather_not":
                forbidden |= mask
        for mask in self.short.values():
            forbidden |= mask
        return ~forbidden


class PairwiseFit:
    """Seniors and juniors of one programme, as columns on the same words."""

    def __init__(
        self,
        seniors: MemberColumns,
        juniors: MemberColumns,
        settings: ProgrammeSettings,
        earlier: Iterable[tuple[str, str]] = (),
    ) -> None:
        """``earlier``: pairs of members, either way round, that were suggested to each other before."""
        self.senior_columns, self.junior_columns, self.settings = seniors, juniors, settings
        people = seniors.words.people
        known = [(people[one], people[other]) for one, other in earlier if one in people and other in people]
        self._earlier = np.sort(np.array([_couple(a, b) for a, b in known], dtype=np.int64))

    @property
    def shape(self) -> tuple[int, int]:
        return self.senior_columns.rows, self.junior_columns.rows

    def evaluate_block(self, rows: Ints, columns: Ints) -> FitBlock:
        """Every pair of these seniors (rows) and juniors (columns)."""
        return self.evaluate(rows[:, None], columns[None, :])

    def evaluate(self, rows: Ints, columns: Ints) -> FitBlock:
        """All parts of the fit, and every rule, of the pairs that seniors (rows) and juniors make in this order."""
        for_senior = _benefit(self.senior_columns, rows, self.junior_columns, columns)
        for_junior = _benefit(self.junior_columns, columns, self.senior_columns, rows)
        speaks = self.senior_columns.has_languages[rows] & self.junior_columns.has_languages[columns]
        common = _any_common(self.senior_columns.languages, rows, self.junior_columns.languages, columns)
        hours = self.senior_columns.has_hours[rows] & self.junior_columns.has_hours[columns]
        minutes = self.common_minutes(rows, columns)
        together = self.style_similarity(rows, columns) * self.ease_factor(
            np.where(speaks, common, UNANSWERED_SHARE), minutes, hours
        )
        views = self.perspective_score(rows, columns)
        broken = self.broken_rules_except_time(rows, columns)
        broken["no_common_time"] = hours & (minutes < self.settings.rules.min_overlap_minutes)
        floors = self.settings.matching.floors
        short: dict[Shortfall, Bools] = {
            "nothing_for_senior": ~_reaches(for_senior, floors.benefit),
            "nothing_for_junior": ~_reaches(for_junior, floors.benefit),
            "too_different": ~_reaches(together, floors.compatibility),
        }
        lower, higher = np.minimum(for_senior, for_junior), np.maximum(for_senior, for_junior)
        w = self.settings.matching.weights
        score = (
            w.lower_benefit * lower + w.higher_benefit * higher + w.compatibility * together + w.perspective * views
        ) / sum_weights(w)
        return FitBlock(score, for_senior, for_junior, together, views, broken, short)

    def common_minutes(self, rows: Ints, columns: Ints) -> Ints:
        """Free minutes a week in common; without meaning where either has not said theirs."""
        one, other = self.senior_columns.free_slots, self.junior_columns.free_slots
        slots: npt.NDArray[np.uint16] = np.zeros(np.broadcast_shapes(rows.shape, columns.shape), dtype=np.uint16)
        for mine, theirs in zip(one, other, strict=True):
            slots += np.bitwise_count(mine[rows] & theirs[columns])
        return slots.astype(np.int64) * self.senior_columns.words.grid_minutes

    def style_similarity(self, rows: Ints, columns: Ints) -> Floats:
        """Likeness of style as a share of the plateau, 1 at most."""
        alike = sum(self.dimension_similarity(dimension, rows, columns) for dimension in range(len(STYLE_DIMENSIONS)))
        return np.asarray(np.minimum(1.0, alike), dtype=np.float64)

    def dimension_similarity(self, dimension: int, rows: Ints, columns: Ints) -> Floats:
        """What one dimension adds to it."""
        distance = np.abs(self.senior_columns.style[dimension][rows] - self.junior_columns.style[dimension][columns])
        most = len(STYLE_DIMENSIONS) * self.settings.matching.ease.plateau
        return np.where(np.isnan(distance), UNANSWERED_SHARE / most, (1 - distance / 4) / most)

    def ease_factor(self, language: Floats, minutes: Ints, hours: Bools) -> Floats:
        """What language and common time leave of the likeness."""
        ease = self.settings.matching.ease
        time = np.where(hours, np.minimum(1.0, minutes / get_ample_minutes(self.settings)), UNANSWERED_SHARE)
        total = ease.style + ease.language + ease.time
        return np.asarray((ease.style + ease.language * language + ease.time * time) / total, dtype=np.float64)

    def perspective_score(self, rows: Ints, columns: Ints) -> Floats:
        """What their places in the organisation earn."""
        return sum(
            (self.attribute_score(n, rows, columns) for n in range(len(POSITION_FIELDS))),
            self.experience_score(rows, columns) + self.level_gap_score(rows, columns),
        )

    def attribute_score(self, place: int, rows: Ints, columns: Ints) -> Floats:
        """What department, site or discipline (by number) earns."""
        worth = self.settings.matching.perspective
        one, other = self.senior_columns.attributes[place][rows], self.junior_columns.attributes[place][columns]
        same, different = getattr(worth.same, POSITION_FIELDS[place]), getattr(worth.different, POSITION_FIELDS[place])
        return np.where((one >= 0) & (other >= 0), np.where(one == other, same, different), 0.0)

    def experience_score(self, rows: Ints, columns: Ints) -> Floats:
        gap = self.senior_columns.experience[rows] - self.junior_columns.experience[columns]
        return np.asarray(
            self.settings.matching.perspective.experience
            * np.nan_to_num(np.maximum(0, gap)).astype(np.float64)
            / MAX_EXPERIENCE_BAND
        )

    def level_gap_score(self, rows: Ints, columns: Ints) -> Floats:
        gap = self.senior_columns.level[rows] - self.junior_columns.level[columns]
        earned = np.zeros(gap.shape)
        for one in self.settings.matching.perspective.gaps:
            earned[gap == one.levels] = one.worth
        return earned

    def broken_level_rules(self, rows: Ints, columns: Ints) -> dict[Rule, Bools]:
        """The rules about the gap in seniority."""
        gap, most = (
            self.senior_columns.level[rows] - self.junior_columns.level[columns],
            self.settings.rules.max_level_gap,
        )
        broken: dict[Rule, Bools] = {"level_gap": np.asarray(gap < self.settings.rules.min_level_gap)}
        if most is not None:
            broken["level_gap_too_great"] = np.asarray(gap > most) & ~broken["level_gap"]
        return broken

    def broken_organisation_rules(self, rows: Ints, columns: Ints) -> dict[Rule, Bools]:
        """The one rule about other organisations that this programme has."""
        other = self.senior_columns.organisation[rows] != self.junior_columns.organisation[columns]
        if not self.settings.rules.cross_organisation:
            return {"other_organisation": other}
        return {
            "not_acknowledged": other
            & ~(self.senior_columns.has_acknowledged[rows] & self.junior_columns.has_acknowledged[columns])
        }

    def lacks_common_language(self, rows: Ints, columns: Ints) -> Bools:
        speaks = self.senior_columns.has_languages[rows] & self.junior_columns.has_languages[columns]
        return speaks & ~_any_common(self.senior_columns.languages, rows, self.junior_columns.languages, columns)

    def broken_rules_except_time(self, rows: Ints, columns: Ints) -> dict[Rule, Bools]:
        """Every rule but the one about common time."""
        s, j, rules = self.senior_columns, self.junior_columns, self.settings.rules
        one, other = s.person[rows], j.person[columns]
        depth = rules.line_depth
        broken: dict[Rule, Bools] = {
            "same_person": one == other,
            **self.broken_level_rules(rows, columns),
            "reporting_line": _named(s.reporting_line[:depth], rows, other)
            | _named(j.reporting_line[:depth], columns, one),
            "evaluator": _named(s.evaluators, rows, other) | _named(j.evaluators, columns, one),
            "earlier_partner": self._met(one, other),
            "no_common_language": self.lacks_common_language(rows, columns),
            "rather_not": _named(s.avoided, rows, other) | _named(j.avoided, columns, one),
            **self.broken_organisation_rules(rows, columns),
        }
        if rules.exclude_same_manager:
            manager = s.reporting_line[0][rows]
            broken["same_manager"] = (manager != NO_CODE) & (manager == j.reporting_line[0][columns])
        return broken

    def earlier_pair_keys(self) -> Ints:
        """Pairs that were suggested to each other before, as senior x juniors + junior, in order."""
        one, other = self._earlier >> _PERSON, self._earlier & ((1 << _PERSON) - 1)
        people = np.concatenate([one, other]), np.concatenate([other, one])
        return self._keys(_rows(self.senior_columns, people[0]), _rows(self.junior_columns, people[1]))

    def avoided_pair_keys(self) -> Ints:
        """Pairs of whom one would rather not be paired with the other, in the same form."""
        of_seniors, of_juniors = (
            np.nonzero(self.senior_columns.avoided != NO_CODE),
            np.nonzero(self.junior_columns.avoided != NO_CODE),
        )
        return self._keys(
            np.concatenate([of_seniors[1], _rows(self.senior_columns, self.junior_columns.avoided[of_juniors])]),
            np.concatenate([_rows(self.junior_columns, self.senior_columns.avoided[of_seniors]), of_juniors[1]]),
        )

    def _keys(self, rows: Ints, columns: Ints) -> Ints:
        there = (rows >= 0) & (columns >= 0)
        return np.sort(rows[there] * self.shape[1] + columns[there])

    def _met(self, one: Codes, other: Codes) -> Bools:
        if not len(self._earlier):
            return np.zeros(np.broadcast_shapes(one.shape, other.shape), dtype=np.bool_)
        low, high = np.minimum(one, other).astype(np.int64), np.maximum(one, other).astype(np.int64)
        couples = (low << _PERSON) | high
        place = np.minimum(np.searchsorted(self._earlier, couples), len(self._earlier) - 1)
        return np.asarray(self._earlier[place] == couples)


class CohortFit(PairwiseFit):
    """All pairs of some seniors and juniors."""

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
        words = Vocabulary(settings, taxonomy, on)
        super().__init__(MemberColumns(words, seniors), MemberColumns(words, juniors), settings, earlier)


def _rows(side: MemberColumns, people: Ints | Codes) -> Ints:
    """The row of each person, -1 of who is not of this side."""
    if not side.rows:
        return np.full(len(people), -1)
    order = np.argsort(side.person)
    place = order[np.minimum(np.searchsorted(side.person, people, sorter=order), side.rows - 1)]
    return np.where(side.person[place] == people, place, -1)


def _couple(a: int, b: int) -> int:
    return (min(a, b) << _PERSON) | max(a, b)


def _benefit(seeker: MemberColumns, who: Ints, giver: MemberColumns, whom: Ints) -> Floats:
    """What each seeker gains: 1 - product over the wishes of (1 - worth x cover)."""
    if who.size * whom.size >= _MANY and who.ndim == 2:
        return _benefit_of_all(seeker, who.ravel(), giver, whom.ravel(), turned=who.shape[0] == 1)
    if who.size >= _MANY and who.shape == whom.shape:
        from services.matcher.engine.benefit_kernel import unmet_shares  # which takes numba into the process

        return np.asarray(
            1 - unmet_shares(seeker.wish_topics, seeker.wish_worths, who, giver.topic_coverage, whom), dtype=np.float64
        )
    left = np.ones(np.broadcast_shapes(who.shape, whom.shape))
    covers = giver.topic_coverage
    for topics, worths in zip(seeker.wish_topics, seeker.wish_worths, strict=True):
        worth = worths[who]
        if worth.any():
            left *= 1 - worth * covers[topics[who], whom]
    return 1 - left


def _benefit_of_all(seeker: MemberColumns, who: Ints, giver: MemberColumns, whom: Ints, *, turned: bool) -> Floats:
    """The same for everybody with everybody, (who, whom) or turned, as a sparse product of logarithms."""
    topics, worths = seeker.wish_topics[:, who].T, seeker.wish_worths[:, who].T
    person, slot = np.nonzero(worths > 0)
    values, which = np.unique(worths[person, slot], return_inverse=True)
    covers = giver.topic_coverage[:, whom].astype(np.float64)
    with np.errstate(divide="ignore"):  # of a wish that is covered altogether nothing is left
        left = np.concatenate([np.log1p(-value * covers) for value in values.tolist()] or [covers])
    starts = np.searchsorted(person, np.arange(len(who) + 1))
    columns = which * len(covers) + topics[person, slot]
    wishes = sparse.csr_array((np.ones(len(person)), columns, starts), shape=(len(who), len(left)))
    sums = np.asarray(wishes @ left)
    return np.asarray(-np.expm1(np.ascontiguousarray(sums.T) if turned else sums), dtype=np.float64)


def _any_common(one: Bits, rows: Ints, other: Bits, columns: Ints) -> Bools:
    found: Bools = np.zeros(np.broadcast_shapes(rows.shape, columns.shape), dtype=np.bool_)
    for mine, theirs in zip(one, other, strict=False):  # of a language that only one side has met, nobody has both
        found |= (mine[rows] & theirs[columns]) != 0
    return found


def _named(lists: Codes, rows: Ints, people: Codes) -> Bools:
    """Whether the list of each row names the person."""
    found: Bools = np.zeros(np.broadcast_shapes(rows.shape, people.shape), dtype=np.bool_)
    for names in lists:
        found |= names[rows] == people
    return found


def _reaches(value: Floats, floor: float) -> Bools:
    return np.asarray((value > 0) & (value >= floor - 1e-6), dtype=np.bool_)
