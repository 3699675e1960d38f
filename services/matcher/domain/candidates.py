"""The fit of many pairs at once: ``rules`` and ``fit`` over whole blocks of seniors and juniors.

It must equal the scalar definition (a property test holds it to that). Benefits become sums of logarithms: with a row
of wishes per seeker and a row of ``log(1 - 0.8 x wish x share)`` per giver over (priority, topic), one matrix product
gives every pair's benefit. Blocks bound the memory, whatever the number of people.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.calendar import Stretch, free_time
from services.matcher.domain.fit import (
    AMPLE_MINUTES,
    DEPTH,
    DIFFERENT,
    DIMENSIONS,
    EXPERIENCE,
    FIRST_WISH,
    MAX_BAND,
    PLATEAU,
    UNKNOWN,
    WISH,
    Short,
    wishes,
)
from services.matcher.domain.rules import Member, Rule, spoken

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BLOCK_CELLS = 1_000_000  # pairs looked at together: 8 MB for each array over them
ALL_EDGES = 1_000_000  # up to so many pairs, all that fit are candidates; beyond, the best of each person
BEST = 48  # candidates kept for each person then

Step = Rule | Short


@dataclass(frozen=True)
class Edges:
    """Candidate pairs by position of senior and junior, with their score; in the order of (senior, junior)."""

    seniors: Ints
    juniors: Ints
    scores: Floats


@dataclass(frozen=True)
class Block:
    """What is known of each pair of some rows (seniors) and columns (juniors)."""

    score: Floats
    senior_benefit: Floats
    junior_benefit: Floats
    compatibility: Floats
    perspective: Floats
    broken: Mapping[Rule, Bools]
    short: Mapping[Short, Bools]

    def possible(self) -> Bools:
        forbidden: Bools = np.zeros(self.score.shape, dtype=np.bool_)
        for mask in (*self.broken.values(), *self.short.values()):
            forbidden |= mask
        return ~forbidden


@dataclass(frozen=True)
class _Side:
    """One side's members as arrays; -1 and NaN stand for unknown."""

    wishes: Floats
    covers: Floats
    level: Floats
    manager: Ints
    organisation: Ints
    acknowledged: Bools
    languages: Floats
    speaks: Bools
    free: Floats
    hours_known: Bools
    style: Floats
    places: Mapping[str, Ints]
    experience: Floats


class Pairs:
    """All pairs of some seniors and juniors of one programme."""

    def __init__(
        self,
        seniors: Sequence[Member],
        juniors: Sequence[Member],
        settings: ProgrammeSettings,
        taxonomy: Taxonomy,
        on: date,
        earlier: Iterable[tuple[str, str]] = (),
    ) -> None:
        """``earlier``: pairs of members, either way round, that were suggested to each other before."""
        self.seniors, self.juniors, self.settings = seniors, juniors, settings
        everybody = [*seniors, *juniors]
        code = _Codes(everybody, taxonomy, on)
        self._s, self._j = code.side(seniors), code.side(juniors)
        self._segments = code.segments
        self._listed = _listed(seniors, juniors, settings, earlier)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.seniors), len(self.juniors)

    def block(self, rows: Ints, columns: Ints) -> Block:
        """All parts of the fit, and every rule, of the pairs of these rows and columns."""
        s, j = self._s, self._j
        for_senior = 1 - np.exp(s.wishes[rows] @ j.covers[columns].T)
        for_junior = 1 - np.exp(s.covers[rows] @ j.wishes[columns].T)
        common = s.languages[rows] @ j.languages[columns].T > 0
        speaks = s.speaks[rows, None] & j.speaks[None, columns]
        minutes = (s.free[rows] * self._segments) @ j.free[columns].T
        hours = s.hours_known[rows, None] & j.hours_known[None, columns]
        together = self._compatibility(rows, columns, np.where(speaks, common, UNKNOWN), minutes, hours)
        views = self._perspective(rows, columns)
        broken = self._broken(rows, columns)
        broken["no_common_language"] = speaks & ~common
        broken["no_common_time"] = hours & (minutes < self.settings.rules.min_overlap_minutes)
        weights, floors = self.settings.matching.weights, self.settings.matching.floors
        total = weights.lower_benefit + weights.higher_benefit + weights.compatibility + weights.perspective
        score = (
            weights.lower_benefit * np.minimum(for_senior, for_junior)
            + weights.higher_benefit * np.maximum(for_senior, for_junior)
            + weights.compatibility * together
            + weights.perspective * views
        ) / total
        short: dict[Short, Bools] = {
            "nothing_for_senior": ~_reaches(for_senior, floors.benefit),
            "nothing_for_junior": ~_reaches(for_junior, floors.benefit),
            "too_different": ~_reaches(together, floors.compatibility),
        }
        return Block(score, for_senior, for_junior, together, views, broken, short)

    def edges(self, progress: Callable[[int], None] = lambda _: None) -> Edges:
        """The candidates; ``progress`` hears how many seniors have been looked at."""
        n, m = self.shape
        if n * m <= ALL_EDGES:
            best, keep = None, 0
        else:
            best, keep = _BestOfColumns(m), BEST
        found: list[tuple[Ints, Ints, Floats]] = []
        columns = np.arange(m)
        for rows in self._blocks(m):
            block = self.block(rows, columns)
            score = np.where(block.possible(), block.score, -1.0)
            if best is not None:
                best.look(rows, score)
                score = _only_best_of_rows(score, keep)
            r, c = np.nonzero(score > 0)
            found.append((rows[r], c, score[r, c]))
            progress(int(rows[-1]) + 1)
        if best is not None:
            found.append(best.found())
        return _joined(found)

    def _blocks(self, width: int) -> Iterator[Ints]:
        size = max(1, BLOCK_CELLS // max(1, width))
        for start in range(0, len(self.seniors), size):
            yield np.arange(start, min(start + size, len(self.seniors)))

    def _compatibility(self, rows: Ints, columns: Ints, language: Floats, minutes: Floats, hours: Bools) -> Floats:
        alike = np.zeros((len(rows), len(columns)))
        for dimension in range(len(DIMENSIONS)):
            distance = np.abs(self._s.style[rows, None, dimension] - self._j.style[None, columns, dimension])
            alike += np.where(np.isnan(distance), UNKNOWN, 1 - distance / 4)
        ample = max(AMPLE_MINUTES, self.settings.rules.min_overlap_minutes)
        time = np.where(hours, np.minimum(1.0, minutes / ample), UNKNOWN)
        style = np.minimum(1.0, alike / len(DIMENSIONS) / PLATEAU)
        return np.asarray(style * (0.7 + 0.15 * language + 0.15 * time), dtype=np.float64)

    def _perspective(self, rows: Ints, columns: Ints) -> Floats:
        earned = np.zeros((len(rows), len(columns)))
        for what, worth in DIFFERENT.items():
            one, other = self._s.places[what][rows, None], self._j.places[what][None, columns]
            earned += worth * ((one >= 0) & (other >= 0) & (one != other))
        gap = self._s.experience[rows, None] - self._j.experience[None, columns]
        return earned + EXPERIENCE * np.nan_to_num(np.maximum(0, gap)) / MAX_BAND

    def _broken(self, rows: Ints, columns: Ints) -> dict[Rule, Bools]:
        s, j, rules = self._s, self._j, self.settings.rules
        gap = s.level[rows, None] - j.level[None, columns]
        broken: dict[Rule, Bools] = {"level_gap": gap < rules.min_level_gap}
        if rules.exclude_same_manager:
            same = s.manager[rows, None] == j.manager[None, columns]
            broken["same_manager"] = same & (s.manager[rows, None] >= 0)
        other = s.organisation[rows, None] != j.organisation[None, columns]
        if rules.cross_organisation:
            broken["not_acknowledged"] = other & ~(s.acknowledged[rows, None] & j.acknowledged[None, columns])
        else:
            broken["other_organisation"] = other
        row_of = np.full(len(self.seniors), -1)
        row_of[rows] = np.arange(len(rows))
        column_of = np.full(len(self.juniors), -1)
        column_of[columns] = np.arange(len(columns))
        for rule, (one, two) in self._listed.items():
            mask: Bools = np.zeros((len(rows), len(columns)), dtype=np.bool_)
            inside = (row_of[one] >= 0) & (column_of[two] >= 0)
            mask[row_of[one[inside]], column_of[two[inside]]] = True
            broken[rule] = mask
        return broken


def _reaches(value: Floats, floor: float) -> Bools:
    return np.asarray((value > 0) & (value >= floor - 1e-6), dtype=np.bool_)


def _only_best_of_rows(score: Floats, keep: int) -> Floats:
    if score.shape[1] <= keep:
        return score
    places = np.argpartition(-score, keep, axis=1)[:, :keep]
    result = np.full_like(score, -1.0)
    np.put_along_axis(result, places, np.take_along_axis(score, places, axis=1), axis=1)
    return result


class _BestOfColumns:
    """The best seniors of each junior, over blocks of seniors."""

    def __init__(self, width: int) -> None:
        self._scores: Floats = np.full((BEST, width), -1.0)
        self._rows: Ints = np.zeros((BEST, width), dtype=np.int64)

    def look(self, rows: Ints, score: Floats) -> None:
        scores = np.concatenate([self._scores, score])
        who = np.concatenate([self._rows, np.broadcast_to(rows[:, None], score.shape)])
        places = np.argpartition(-scores, BEST - 1, axis=0)[:BEST]
        self._scores = np.take_along_axis(scores, places, axis=0)
        self._rows = np.take_along_axis(who, places, axis=0)

    def found(self) -> tuple[Ints, Ints, Floats]:
        place, column = np.nonzero(self._scores > 0)
        return self._rows[place, column], column, self._scores[place, column]


def _joined(found: Sequence[tuple[Ints, Ints, Floats]]) -> Edges:
    if not found:
        return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    seniors, juniors, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
    _, first = np.unique(np.stack([seniors, juniors]), axis=1, return_index=True)
    return Edges(seniors[first], juniors[first], scores[first])


def _listed(
    seniors: Sequence[Member],
    juniors: Sequence[Member],
    settings: ProgrammeSettings,
    earlier: Iterable[tuple[str, str]],
) -> dict[Rule, tuple[Ints, Ints]]:
    """The rules that name people: which positions they exclude."""
    place: tuple[dict[str, int], dict[str, int]] = (
        {member.id: n for n, member in enumerate(seniors)},
        {member.id: n for n, member in enumerate(juniors)},
    )
    depth = settings.rules.line_depth
    named: dict[Rule, list[tuple[str, str]]] = {
        "same_person": [(member.id, member.id) for member in seniors],
        "reporting_line": [],
        "evaluator": [],
        "earlier_partner": list(earlier),
        "rather_not": [],
    }
    for member in (*seniors, *juniors):
        profile = member.profile
        named["reporting_line"] += [(member.id, above) for above in profile.line[:depth]]
        named["evaluator"] += [(member.id, judge) for judge in profile.evaluators]
        named["rather_not"] += [(member.id, other) for other in profile.avoid]
    result: dict[Rule, tuple[Ints, Ints]] = {}
    for rule, pairs in named.items():
        found = {
            (place[0][one], place[1][other])
            for a, b in pairs
            for one, other in ((a, b), (b, a))
            if one in place[0] and other in place[1]
        }
        both = np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
        result[rule] = (both[:, 0], both[:, 1])
    return result


class _Codes:
    """Numbers for everything that is compared, the same for both sides."""

    def __init__(self, members: Sequence[Member], taxonomy: Taxonomy, on: date) -> None:
        self._taxonomy = taxonomy
        self._topics = {t: n for n, t in enumerate(sorted({s.topic for m in members for s in m.profile.seeks}))}
        self._languages = {t: n for n, t in enumerate(sorted(set().union(*(spoken(m.profile) for m in members))))}
        self._hours = {member.id: free_time(member.profile, on) for member in members}
        points = sorted({minute for hours in self._hours.values() for stretch in hours or () for minute in stretch})
        self._points = {point: n for n, point in enumerate(points)}
        self.segments: Floats = np.diff(np.array(points, dtype=np.float64)) if points else np.zeros(0)
        self._numbers: dict[tuple[str, str], int] = {}
        self._shares: dict[tuple[str, str], Floats] = {}

    def side(self, members: Sequence[Member]) -> _Side:
        profiles = [member.profile for member in members]
        return _Side(
            wishes=self._wishes(members),
            covers=self._covers(members),
            level=_floats([p.level for p in profiles]),
            manager=self._coded("person", [p.line[0] if p.line else None for p in profiles]),
            organisation=self._coded("organisation", [p.organisation_id for p in profiles]),
            acknowledged=np.array([m.enrolment.confidentiality_acknowledged for m in members], dtype=np.bool_),
            languages=self._spoken(members),
            speaks=np.array([bool(p.languages) for p in profiles], dtype=np.bool_),
            free=self._free(members),
            hours_known=np.array([self._hours[m.id] is not None for m in members], dtype=np.bool_),
            style=np.array(
                [[_float(getattr(p.style, dimension)) for dimension in DIMENSIONS] for p in profiles]
            ).reshape(-1, len(DIMENSIONS)),
            places={
                "department": self._coded("department", [p.department_id for p in profiles]),
                "site": self._coded("site", [p.site_id for p in profiles]),
                "discipline": self._coded("discipline", [p.discipline_id for p in profiles]),
            },
            experience=_floats([p.experience_band for p in profiles]),
        )

    def _wishes(self, members: Sequence[Member]) -> Floats:
        width = len(self._topics)
        result = np.zeros((len(members), width * len(WISH)))
        for row, member in enumerate(members):
            for seek in wishes(member.profile.seeks):
                result[row, (seek.priority - 1) * width + self._topics[seek.topic]] = 1
        return result

    def _covers(self, members: Sequence[Member]) -> Floats:
        shares = np.zeros((len(members), len(self._topics)))
        for row, member in enumerate(members):
            for offer in member.profile.offers:
                np.maximum(shares[row], self._share(offer.topic, offer.level), out=shares[row])
        return np.concatenate([np.log1p(-FIRST_WISH * WISH[priority] * shares) for priority in sorted(WISH)], axis=1)

    def _share(self, topic: str, level: str) -> Floats:
        """How much an offer covers a wish for each topic."""
        known = self._shares.get((topic, level))
        if known is None:
            known = DEPTH[level] * np.array([self._taxonomy.related(topic, wish) for wish in self._topics])
            self._shares[topic, level] = known
        return known

    def _spoken(self, members: Sequence[Member]) -> Floats:
        result = np.zeros((len(members), len(self._languages)))
        for row, member in enumerate(members):
            result[row, [self._languages[tag] for tag in spoken(member.profile)]] = 1
        return result

    def _free(self, members: Sequence[Member]) -> Floats:
        result = np.zeros((len(members), len(self.segments)))
        for row, member in enumerate(members):
            for start, end in self._stretches(member):
                result[row, self._points[start] : self._points[end]] = 1
        return result

    def _stretches(self, member: Member) -> tuple[Stretch, ...]:
        return self._hours[member.id] or ()

    def _coded(self, kind: str, values: Sequence[str | None]) -> Ints:
        return np.array(
            [-1 if v is None else self._numbers.setdefault((kind, v), len(self._numbers)) for v in values],
            dtype=np.int64,
        )


def _float(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([_float(value) for value in values], dtype=np.float64)
