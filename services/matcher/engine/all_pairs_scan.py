"""Every pair of a large cohort, fast: what a pair's score is made of, as tables for the loops in ``tiles``.

Likeness, perspective and the hard rules between groups of people are sums over one row for each feature of a senior
that others share; benefits are products over wishes. So a score differs from that of ``pairs`` by rounding alone, but
that private wishes take no part. Both sides stand by class, so that groups and tiles in which no two may be paired are
passed over.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from services.matcher.domain.fit.score import PLACES, UNKNOWN, ample_minutes, total_weight
from services.matcher.engine.member_columns import NO_CODE, MemberColumns, Ints
from services.matcher.engine.scan_kernels import (
    GROUP,
    Barred,
    Names,
    Seniors,
    Single,
    Terms,
    Tile,
    Wishes,
    keep_best,
    merge,
    who_in,
)
from services.matcher.engine.vectorised_fit import Comparison, Floats

TILE = 1024  # juniors of a tile at most
CLASSES = 1000  # groups of people who speak the same languages in the same organisation; with more, none is passed over
EXCLUDED = np.float32(-8.0)  # what a broken rule takes from a score
ROUNDING = 1e-5  # by which scores here and those of ``pairs`` may differ
NOTHING = 1e-6  # of benefit, or less: such a pair may not be, whatever the floor
THREADS = 2
_NO_PAIRS = np.zeros(0, dtype=np.int64)
_SAID = ((False, False), (False, True), (True, False), (True, True))  # whether languages and hours are known


@dataclass(frozen=True)
class _Feature:
    """Something about the seniors, the same for all who share a value.

    ``value`` (seniors): from 0 upwards; ``like``: a senior for each value; ``worth`` (some seniors, some juniors): what
    it adds to the score of their pairs.
    """

    value: Ints
    like: Ints
    worth: Callable[[Ints, Ints], npt.NDArray[np.floating]]


class _Features:
    """Several of them, whose rows stand in one table."""

    def __init__(self, features: Sequence[_Feature]) -> None:
        self._features = features
        starts = np.cumsum([0, *(len(feature.like) for feature in features)])
        values = [feature.value + start for feature, start in zip(features, starts, strict=False)]
        self.rows = np.stack(values, axis=1).astype(np.int32)
        """(seniors, features): which row is theirs."""

    def table(self, juniors: Ints) -> Single:
        """(rows, juniors)"""
        found = [feature.worth(feature.like[:, None], juniors[None, :]) for feature in self._features]
        return np.concatenate(found).astype(np.float32)


class Scan:
    """All pairs of a comparison, or of ``some`` of its seniors; positions are places in the order by class."""

    def __init__(self, pairs: Comparison, some: Ints | None = None) -> None:
        self._pairs = pairs
        classes = _Classes.of(pairs)
        rows = np.arange(pairs.shape[0]) if some is None else some
        self._s = s = rows[np.argsort(classes.of_seniors[rows], kind="stable")]
        self._j = np.argsort(classes.of_juniors, kind="stable")
        wide = min(TILE, -(-len(self._j) // THREADS))
        self._tiles = [slice(start, start + wide) for start in range(0, len(self._j), wide)]
        self._worthwhile = classes.worthwhile(
            [s[start : start + GROUP] for start in range(0, len(s), GROUP)], [self._j[tile] for tile in self._tiles]
        )
        self._met = pairs.met()
        self._terms = _terms(pairs)
        self._places = _Features(_place_features(pairs, s))
        self._styles = _Features(_style_features(pairs, s))
        self._asked = _wishes(pairs.junior_columns, self._j)
        self._seniors = Seniors(
            _wishes(pairs.senior_columns, s),
            _in_groups(pairs.senior_columns.topic_coverage[:, s]),
            self._places.rows,
            self._styles.rows,
            (2 * pairs.senior_columns.has_languages[s] + pairs.senior_columns.has_hours[s]).astype(np.int32),
            pairs.senior_columns.has_hours[s],
            np.ascontiguousarray(pairs.senior_columns.free_slots[:, s].T),
            _names(pairs, pairs.senior_columns, s, -1),
        )

    def best(
        self,
        many: int,
        progress: Callable[[int], None] = lambda _: None,
        of_seniors: Floats | None = None,
        of_juniors: Floats | None = None,
        without: Ints = _NO_PAIRS,
    ) -> Ints:
        """So many of the best pairs of each person, as senior x juniors + junior, in order.

        Where less is given, the best are those that score more than both together by most.
        ``of_seniors`` and ``of_juniors`` are of as many people as are compared; ``without``: pairs to be passed over.
        """
        m, heaps = self._pairs.shape[1], SimpleQueue[Ints]()  # a thread has its own of the seniors
        for _ in range(THREADS):
            heaps.put(np.zeros((len(self._s), many), dtype=np.int64))
        kept = np.zeros((m, many), dtype=np.int64)
        less = [
            np.zeros(len(order), dtype=np.float32) if each is None else each[order].astype(np.float32)
            for each, order in ((of_seniors, self._s), (of_juniors, self._j))
        ]

        barred = self._barred(np.concatenate([self._met, without]))

        def look(number: int) -> None:
            tile, mine = self._tiles[number], heaps.get()
            groups = np.flatnonzero(self._worthwhile[:, number])
            try:
                juniors = self._tile(tile)
                first, terms, theirs = tile.start, self._terms, less[1][tile]
                keep_best(groups, self._seniors, juniors, first, barred, terms, less[0], theirs, mine, kept[tile])
            finally:
                heaps.put(mine)

        with ThreadPoolExecutor(THREADS) as pool:
            for done, _ in enumerate(pool.map(look, range(len(self._tiles))), start=1):
                progress(len(self._s) * done // len(self._tiles))
        of_each = heaps.get()
        for _ in range(1, THREADS):
            merge(of_each, heaps.get())
        mine, their_place = np.nonzero(of_each)
        theirs, my_place = np.nonzero(kept)
        seniors = np.concatenate([mine, who_in(kept[theirs, my_place], theirs)])
        juniors = np.concatenate([who_in(of_each[mine, their_place], mine), theirs])
        return _each_once(self._s[seniors] * m + self._j[juniors])

    def _barred(self, keys: Ints) -> Barred:
        """The same pairs by their places here."""
        n, m = self._pairs.shape
        of_seniors, of_juniors = np.full(n, -1), np.empty(m, dtype=np.int64)
        of_seniors[self._s], of_juniors[self._j] = np.arange(len(self._s)), np.arange(m)
        seniors, juniors = of_seniors[keys // m], of_juniors[keys % m]
        order = np.argsort(seniors, kind="stable")
        first = np.searchsorted(seniors[order], np.arange(len(self._s) + 1))
        return Barred(first, juniors[order])

    def _tile(self, tile: slice) -> Tile:
        j, juniors, first = self._pairs.junior_columns, self._j[tile], self._asked.first[tile.start : tile.stop + 1]
        asked = slice(first[0], first[-1])
        minutes = np.full(len(juniors), self._terms.ample_minutes)
        ease = [
            self._pairs.ease(np.where(speaks & j.has_languages[juniors], 1.0, UNKNOWN), minutes, hours & j.has_hours[juniors])
            for speaks, hours in _SAID
        ]
        return Tile(
            Wishes(first - first[0], self._asked.topics[asked], self._asked.worth[asked]),
            np.ascontiguousarray(j.topic_coverage[:, juniors]),
            self._places.table(juniors),
            self._styles.table(juniors),
            np.stack(ease).astype(np.float32),
            j.has_hours[juniors],
            np.ascontiguousarray(j.free_slots[:, juniors].T),
            _names(self._pairs, j, juniors, -2),
        )


def _terms(pairs: Comparison) -> Terms:
    matching, rules = pairs.settings.matching, pairs.settings.rules
    w, ease, total = matching.weights, matching.ease, total_weight(matching.weights)
    return Terms(
        np.float32((w.lower_benefit + w.higher_benefit) / total),
        np.float32(w.higher_benefit / total),
        np.float32((w.lower_benefit - w.higher_benefit) / total),
        np.float32(w.compatibility / total),
        np.float32(min(1 - matching.floors.benefit + ROUNDING, 1 - NOTHING)),
        np.float32(matching.floors.compatibility - ROUNDING),
        np.float32(ease.time / (ease.style + ease.language + ease.time)),
        pairs.senior_columns.words.grid_minutes,
        rules.min_overlap_minutes,
        ample_minutes(pairs.settings),
    )


def _names(pairs: Comparison, side: MemberColumns, order: Ints, nobody: int) -> Names:
    """``nobody``: the manager of whom no rule about managers is for."""
    rules = pairs.settings.rules
    manager = side.reporting_line[0][order] if rules.exclude_same_manager else np.full(len(order), NO_CODE, dtype=np.int32)
    return Names(
        side.person[order],
        np.ascontiguousarray(np.concatenate([side.reporting_line[: rules.line_depth, order], side.evaluators[:, order]]).T),
        np.where(manager == NO_CODE, np.int32(nobody), manager),
    )


def _wishes(side: MemberColumns, order: Ints) -> Wishes:
    topics, worth = side.wish_topics[:, order].T, side.wish_worths[:, order].T
    person, slot = np.nonzero(worth > 0)
    first = np.searchsorted(person, np.arange(len(order) + 1))
    return Wishes(first, topics[person, slot], worth[person, slot])


def _in_groups(covers: Single) -> Single:
    """From (topics, seniors) to (groups, topics, GROUP)."""
    padded = np.pad(covers, ((0, 0), (0, -covers.shape[1] % GROUP)))
    return np.ascontiguousarray(padded.reshape(len(padded), -1, GROUP).swapaxes(0, 1))


def _each_once(keys: Ints) -> Ints:
    """In order; many times as fast as ``np.unique``, which looks up each one."""
    keys = np.sort(keys)
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    return np.asarray(keys[first])


@dataclass(frozen=True)
class _Classes:
    """People who speak the same languages in the same organisation, by number; ``apart``: who is never paired."""

    of_seniors: Ints
    of_juniors: Ints
    apart: npt.NDArray[np.bool_]

    @staticmethod
    def of(pairs: Comparison) -> "_Classes":
        (one, rows), (other, columns) = _classes(pairs.senior_columns), _classes(pairs.junior_columns)
        if max(len(rows), len(columns)) > CLASSES:
            return _Classes(np.zeros_like(one), np.zeros_like(other), np.zeros((1, 1), dtype=np.bool_))
        rows, columns = rows[:, None], columns[None, :]
        (apart,) = pairs.organisations(rows, columns).values()
        return _Classes(one, other, apart | pairs.no_language(rows, columns))

    def worthwhile(self, groups: Sequence[Ints], tiles: Sequence[Ints]) -> npt.NDArray[np.bool_]:
        """(groups, tiles): whether anybody of one may be paired with anybody of the other."""
        of_groups, of_tiles = np.zeros((len(groups), len(self.apart))), np.zeros((self.apart.shape[1], len(tiles)))
        for n, rows in enumerate(groups):
            of_groups[n, self.of_seniors[rows]] = 1
        for n, columns in enumerate(tiles):
            of_tiles[self.of_juniors[columns], n] = 1
        return np.asarray(of_groups @ ~self.apart @ of_tiles > 0)


def _classes(side: MemberColumns) -> tuple[Ints, Ints]:
    """The class of each row, and a row for each class."""
    return _alike([side.organisation, side.has_acknowledged, *side.languages])


def _feature(
    parts: Sequence[npt.NDArray[np.generic]], order: Ints, worth: Callable[[Ints, Ints], npt.NDArray[np.floating]]
) -> _Feature:
    """Two seniors are alike where all parts are."""
    value, like = _alike([part[order] for part in parts])
    return _Feature(value, order[like], worth)


def _alike(parts: Sequence[npt.NDArray[np.generic]]) -> tuple[Ints, Ints]:
    """A number for each place, the same where all parts are, from 0 upwards; and a place for each number."""
    value = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:
        known, which = np.unique(part, return_inverse=True)
        _, value = np.unique(value * len(known) + which, return_inverse=True)
    _, like = np.unique(value, return_index=True)
    return value, like


def _place_features(pairs: Comparison, order: Ints) -> list[_Feature]:
    """What the pairs' places earn, and the hard rules that hold between groups of people."""
    s, weights = pairs.senior_columns, pairs.settings.matching.weights
    weight = weights.perspective / total_weight(weights)

    def levels(rows: Ints, columns: Ints) -> npt.NDArray[np.floating]:
        apart = np.logical_or.reduce(list(pairs.levels(rows, columns).values()))
        return np.asarray(weight * pairs.of_gap(rows, columns) + EXCLUDED * apart, dtype=np.float32)

    def organisations(rows: Ints, columns: Ints) -> npt.NDArray[np.floating]:
        (apart,) = pairs.organisations(rows, columns).values()
        return np.asarray(EXCLUDED * apart, dtype=np.float32)

    def of(place: int) -> Callable[[Ints, Ints], npt.NDArray[np.floating]]:
        return lambda rows, columns: weight * pairs.of_place(place, rows, columns)

    return [
        _feature([np.nan_to_num(s.level, nan=-1)], order, levels),
        _feature([s.organisation, s.has_acknowledged], order, organisations),
        _feature([*s.languages], order, lambda rows, columns: EXCLUDED * pairs.no_language(rows, columns)),
        _feature([np.nan_to_num(s.experience, nan=-1)], order, lambda r, c: weight * pairs.of_experience(r, c)),
        *(_feature([s.attributes[place]], order, of(place)) for place in range(len(PLACES))),
    ]


def _style_features(pairs: Comparison, order: Ints) -> list[_Feature]:
    """How alike two people are in each dimension, as a share of the plateau."""

    def of(dimension: int) -> Callable[[Ints, Ints], npt.NDArray[np.floating]]:
        return lambda rows, columns: pairs.alike(dimension, rows, columns)

    return [
        _feature([np.nan_to_num(answers, nan=9)], order, of(dimension))
        for dimension, answers in enumerate(pairs.senior_columns.style)
    ]
