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

from services.matcher.domain.fit.score import POSITION_FIELDS, UNANSWERED_SHARE, get_ample_minutes, sum_weights
from services.matcher.engine.member_columns import NO_CODE, Ints, MemberColumns
from services.matcher.engine.scan_kernels import (
    SENIORS_PER_GROUP,
    ExcludedPairs,
    JuniorTile,
    PersonRules,
    ScoreTerms,
    SeniorTables,
    Single,
    WishLists,
    decode_partners,
    merge_heaps,
    update_heaps,
)
from services.matcher.engine.vectorised_fit import Floats, PairwiseFit

TILE_WIDTH = 1024  # juniors of a tile at most
MAX_CLASSES = (
    1000  # groups of people who speak the same languages in the same organisation; with more, none is passed over
)
EXCLUSION_PENALTY = np.float32(-8.0)  # what a broken rule takes from a score
SCORE_ROUNDING = 1e-5  # by which scores here and those of ``pairs`` may differ
MIN_BENEFIT = 1e-6  # of benefit, or less: such a pair may not be, whatever the floor
SCAN_THREADS = 2
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


class AllPairsScan:
    """All pairs of a comparison, or of ``some`` of its seniors; positions are places in the order by class."""

    def __init__(self, pairs: PairwiseFit, some: Ints | None = None) -> None:
        self._pairs = pairs
        classes = _Classes.of(pairs)
        rows = np.arange(pairs.shape[0]) if some is None else some
        self._s = s = rows[np.argsort(classes.of_seniors[rows], kind="stable")]
        self._j = np.argsort(classes.of_juniors, kind="stable")
        wide = min(TILE_WIDTH, -(-len(self._j) // SCAN_THREADS))
        self._tiles = [slice(start, start + wide) for start in range(0, len(self._j), wide)]
        self._worthwhile = classes.worthwhile(
            [s[start : start + SENIORS_PER_GROUP] for start in range(0, len(s), SENIORS_PER_GROUP)],
            [self._j[tile] for tile in self._tiles],
        )
        self._met = pairs.earlier_pair_keys()
        self._terms = _terms(pairs)
        self._places = _Features(_place_features(pairs, s))
        self._styles = _Features(_style_features(pairs, s))
        self._asked = _wishes(pairs.junior_columns, self._j)
        self._seniors = SeniorTables(
            _wishes(pairs.senior_columns, s),
            _in_groups(pairs.senior_columns.topic_coverage[:, s]),
            self._places.rows,
            self._styles.rows,
            (2 * pairs.senior_columns.has_languages[s] + pairs.senior_columns.has_hours[s]).astype(np.int32),
            pairs.senior_columns.has_hours[s],
            np.ascontiguousarray(pairs.senior_columns.free_slots[:, s].T),
            _names(pairs, pairs.senior_columns, s, -1),
        )

    def best_pairs(
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
        for _ in range(SCAN_THREADS):
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
                update_heaps(groups, self._seniors, juniors, first, barred, terms, less[0], theirs, mine, kept[tile])
            finally:
                heaps.put(mine)

        with ThreadPoolExecutor(SCAN_THREADS) as pool:
            for done, _ in enumerate(pool.map(look, range(len(self._tiles))), start=1):
                progress(len(self._s) * done // len(self._tiles))
        of_each = heaps.get()
        for _ in range(1, SCAN_THREADS):
            merge_heaps(of_each, heaps.get())
        mine, their_place = np.nonzero(of_each)
        theirs, my_place = np.nonzero(kept)
        seniors = np.concatenate([mine, decode_partners(kept[theirs, my_place], theirs)])
        juniors = np.concatenate([decode_partners(of_each[mine, their_place], mine), theirs])
        return _each_once(self._s[seniors] * m + self._j[juniors])

    def _barred(self, keys: Ints) -> ExcludedPairs:
        """The same pairs by their places here."""
        n, m = self._pairs.shape
        of_seniors, of_juniors = np.full(n, -1), np.empty(m, dtype=np.int64)
        of_seniors[self._s], of_juniors[self._j] = np.arange(len(self._s)), np.arange(m)
        seniors, juniors = of_seniors[keys // m], of_juniors[keys % m]
        order = np.argsort(seniors, kind="stable")
        first = np.searchsorted(seniors[order], np.arange(len(self._s) + 1))
        return ExcludedPairs(first, juniors[order])

    def _tile(self, tile: slice) -> JuniorTile:
        j, juniors, first = self._pairs.junior_columns, self._j[tile], self._asked.first[tile.start : tile.stop + 1]
        asked = slice(first[0], first[-1])
        minutes = np.full(len(juniors), self._terms.ample_minutes)
        ease = [
            self._pairs.ease_factor(
                np.where(speaks & j.has_languages[juniors], 1.0, UNANSWERED_SHARE),
                minutes,
                hours & j.has_hours[juniors],
            )
            for speaks, hours in _SAID
        ]
        return JuniorTile(
            WishLists(first - first[0], self._asked.topics[asked], self._asked.worth[asked]),
            np.ascontiguousarray(j.topic_coverage[:, juniors]),
            self._places.table(juniors),
            self._styles.table(juniors),
            np.stack(ease).astype(np.float32),
            j.has_hours[juniors],
            np.ascontiguousarray(j.free_slots[:, juniors].T),
            _names(self._pairs, j, juniors, -2),
        )


def _terms(pairs: PairwiseFit) -> ScoreTerms:
    matching, rules = pairs.settings.matching, pairs.settings.rules
    w, ease, total = matching.weights, matching.ease, sum_weights(matching.weights)
    return ScoreTerms(
        np.float32((w.lower_benefit + w.higher_benefit) / total),
        np.float32(w.higher_benefit / total),
        np.float32((w.lower_benefit - w.higher_benefit) / total),
        np.float32(w.compatibility / total),
        np.float32(min(1 - matching.floors.benefit + SCORE_ROUNDING, 1 - MIN_BENEFIT)),
        np.float32(matching.floors.compatibility - SCORE_ROUNDING),
        np.float32(ease.time / (ease.style + ease.language + ease.time)),
        pairs.senior_columns.words.grid_minutes,
        rules.min_overlap_minutes,
        get_ample_minutes(pairs.settings),
    )


def _names(pairs: PairwiseFit, side: MemberColumns, order: Ints, nobody: int) -> PersonRules:
    """``nobody``: the manager of whom no rule about managers is for."""
    rules = pairs.settings.rules
    manager = (
        side.reporting_line[0][order] if rules.exclude_same_manager else np.full(len(order), NO_CODE, dtype=np.int32)
    )
    return PersonRules(
        side.person[order],
        np.ascontiguousarray(
            np.concatenate([side.reporting_line[: rules.line_depth, order], side.evaluators[:, order]]).T
        ),
        np.where(manager == NO_CODE, np.int32(nobody), manager),
    )


def _wishes(side: MemberColumns, order: Ints) -> WishLists:
    topics, worth = side.wish_topics[:, order].T, side.wish_worths[:, order].T
    person, slot = np.nonzero(worth > 0)
    first = np.searchsorted(person, np.arange(len(order) + 1))
    return WishLists(first, topics[person, slot], worth[person, slot])


def _in_groups(covers: Single) -> Single:
    """From (topics, seniors) to (groups, topics, GROUP)."""
    padded = np.pad(covers, ((0, 0), (0, -covers.shape[1] % SENIORS_PER_GROUP)))
    return np.ascontiguousarray(padded.reshape(len(padded), -1, SENIORS_PER_GROUP).swapaxes(0, 1))


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
    def of(pairs: PairwiseFit) -> "_Classes":
        (one, rows), (other, columns) = _classes(pairs.senior_columns), _classes(pairs.junior_columns)
        if max(len(rows), len(columns)) > MAX_CLASSES:
            return _Classes(np.zeros_like(one), np.zeros_like(other), np.zeros((1, 1), dtype=np.bool_))
        rows, columns = rows[:, None], columns[None, :]
        (apart,) = pairs.broken_organisation_rules(rows, columns).values()
        return _Classes(one, other, apart | pairs.lacks_common_language(rows, columns))

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


def _place_features(pairs: PairwiseFit, order: Ints) -> list[_Feature]:
    """What the pairs' places earn, and the hard rules that hold between groups of people."""
    s, weights = pairs.senior_columns, pairs.settings.matching.weights
    weight = weights.perspective / sum_weights(weights)

    def levels(rows: Ints, columns: Ints) -> npt.NDArray[np.floating]:
        apart = np.logical_or.reduce(list(pairs.broken_level_rules(rows, columns).values()))
        return np.asarray(weight * pairs.level_gap_score(rows, columns) + EXCLUSION_PENALTY * apart, dtype=np.float32)

    def organisations(rows: Ints, columns: Ints) -> npt.NDArray[np.floating]:
        (apart,) = pairs.broken_organisation_rules(rows, columns).values()
        return np.asarray(EXCLUSION_PENALTY * apart, dtype=np.float32)

    def of(place: int) -> Callable[[Ints, Ints], npt.NDArray[np.floating]]:
        return lambda rows, columns: weight * pairs.attribute_score(place, rows, columns)

    return [
        _feature([np.nan_to_num(s.level, nan=-1)], order, levels),
        _feature([s.organisation, s.has_acknowledged], order, organisations),
        _feature(
            [*s.languages], order, lambda rows, columns: EXCLUSION_PENALTY * pairs.lacks_common_language(rows, columns)
        ),
        _feature([np.nan_to_num(s.experience, nan=-1)], order, lambda r, c: weight * pairs.experience_score(r, c)),
        *(_feature([s.attributes[place]], order, of(place)) for place in range(len(POSITION_FIELDS))),
    ]


def _style_features(pairs: PairwiseFit, order: Ints) -> list[_Feature]:
    """How alike two people are in each dimension, as a share of the plateau."""

    def of(dimension: int) -> Callable[[Ints, Ints], npt.NDArray[np.floating]]:
        return lambda rows, columns: pairs.dimension_similarity(dimension, rows, columns)

    return [
        _feature([np.nan_to_num(answers, nan=9)], order, of(dimension))
        for dimension, answers in enumerate(pairs.senior_columns.style)
    ]
