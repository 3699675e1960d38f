"""Scores every pair of a large cohort, fast: prepares the tables for the loops in ``scan_kernels``.

Similarity, perspective, and the hard rules between groups of people are sums of one table row for each feature that
seniors share. Benefits are products over wishes. So a score differs from that of ``vectorised_fit`` by rounding alone,
Both sides are sorted by class, so that groups and tiles without any possible
pair are skipped.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from services.matcher.domain.fit.score import POSITION_FIELDS, UNANSWERED_SHARE, get_ample_minutes, sum_weights
from services.matcher.engine.arrays import Bools, Float32s, Float64s, Int64s
from services.matcher.engine.member_columns import NO_CODE, MemberColumns
from services.matcher.engine.scan_kernels import (
    SENIORS_PER_GROUP,
    ExcludedPairs,
    JuniorTile,
    PersonRules,
    ScoreTerms,
    SeniorTables,
    WishLists,
    decode_partners,
    merge_heaps,
    update_heaps,
)
from services.matcher.engine.vectorised_fit import STYLE_STEPS, PairwiseFit

TILE_WIDTH = 1024  # juniors of a tile, at most
MAX_CLASSES = 1000  # classes of one side up to which groups and tiles without a possible pair are skipped
EXCLUSION_PENALTY = np.float32(-8.0)  # added to the score of a pair that breaks a rule
SCORE_ROUNDING = 1e-5  # bound of the difference between a score here and that of ``vectorised_fit``
MIN_BENEFIT = 1e-6  # a pair with less benefit is impossible, whatever the floor
SCAN_THREADS = 2
_NO_KEYS = np.zeros(0, dtype=np.int64)
_UNKNOWN_LEVEL, _UNKNOWN_BAND, _UNKNOWN_ANSWER = -1, -1, 9  # values that no member has
# Whether both know languages and hours: the order of the rows of ``JuniorTile.ease``.
_EASE_ROWS = ((False, False), (False, True), (True, False), (True, True))

FeatureScore = Callable[[Int64s, Int64s], npt.NDArray[np.floating]]


@dataclass(frozen=True)
class _Feature:
    """A property of seniors that contributes the same score to all who share a value.

    ``value_of`` (seniors): the value, from 0. ``examples`` (values): a senior row for each value. ``score``: the
    contribution to pairs of senior rows and junior rows, which broadcast.
    """

    value_of: Int64s
    examples: Int64s
    score: FeatureScore


class _FeatureTable:
    """Several features, whose values are rows of one table."""

    def __init__(self, features: Sequence[_Feature]) -> None:
        self._features = features
        starts = np.cumsum([0, *(len(feature.examples) for feature in features)])
        rows = [feature.value_of + start for feature, start in zip(features, starts, strict=False)]
        self.rows = np.stack(rows, axis=1).astype(np.int32)
        """(seniors, features): the table rows of each senior."""

    def scores(self, juniors: Int64s) -> Float32s:
        """(rows, juniors): the contribution of each row."""
        scores = [feature.score(feature.examples[:, None], juniors[None, :]) for feature in self._features]
        return np.concatenate(scores).astype(np.float32)


class AllPairsScan:
    """All pairs of a cohort, or of the senior rows ``sample``. Positions are those in the order by class."""

    def __init__(self, fit: PairwiseFit, sample: Int64s | None = None) -> None:
        self._fit = fit
        classes = _Classes.of(fit)
        rows = np.arange(fit.shape[0]) if sample is None else sample
        seniors = rows[np.argsort(classes.of_seniors[rows], kind="stable")]
        self._seniors = seniors
        self._juniors = np.argsort(classes.of_juniors, kind="stable")
        width = min(TILE_WIDTH, -(-len(self._juniors) // SCAN_THREADS))
        self._tiles = [slice(start, start + width) for start in range(0, len(self._juniors), width)]
        self._may_pair = classes.may_pair(
            [seniors[start : start + SENIORS_PER_GROUP] for start in range(0, len(seniors), SENIORS_PER_GROUP)],
            [self._juniors[tile] for tile in self._tiles],
        )
        self._earlier_keys = fit.earlier_pair_keys()
        self._terms = _score_terms(fit)
        self._position_features = _FeatureTable(_position_features(fit, seniors))
        self._style_features = _FeatureTable(_style_features(fit, seniors))
        self._junior_wishes = _wish_lists(fit.junior_columns, self._juniors)
        columns = fit.senior_columns
        self._senior_tables = SeniorTables(
            _wish_lists(columns, seniors),
            _split_into_groups(columns.topic_coverage[:, seniors]),
            self._position_features.rows,
            self._style_features.rows,
            (2 * columns.has_languages[seniors] + columns.has_hours[seniors]).astype(np.int32),
            columns.has_hours[seniors],
            np.ascontiguousarray(columns.free_slots[:, seniors].T),
            _person_rules(fit, columns, seniors, -1),
        )

    def best_pairs(
        self,
        per_person: int,
        report_progress: Callable[[int], None] = lambda _: None,
        senior_offsets: Float64s | None = None,
        junior_offsets: Float64s | None = None,
        excluded_keys: Int64s = _NO_KEYS,
    ) -> Int64s:
        """Sorted keys ``senior x juniors + junior`` of the best pairs of each person, ``per_person`` of them at most.

        With offsets given, pairs are ranked by score - senior offset - junior offset, and only positive ones count. The
        offsets are (seniors,) and (juniors,) of the whole cohort. ``excluded_keys``: pairs to skip.
        ``report_progress`` receives the number of seniors that are done. O(seniors x juniors x wishes).
        """
        free_senior_heaps = SimpleQueue[Int64s]()  # each thread has its own heaps of the seniors
        for _ in range(SCAN_THREADS):
            free_senior_heaps.put(np.zeros((len(self._seniors), per_person), dtype=np.int64))
        junior_heaps = np.zeros((self._fit.shape[1], per_person), dtype=np.int64)
        senior_less = _in_order(senior_offsets, self._seniors)
        junior_less = _in_order(junior_offsets, self._juniors)
        excluded = self._excluded_pairs(np.concatenate([self._earlier_keys, excluded_keys]))

        def scan_tile(number: int) -> None:
            tile, senior_heaps = self._tiles[number], free_senior_heaps.get()
            groups = np.flatnonzero(self._may_pair[:, number])
            try:
                update_heaps(
                    groups,
                    self._senior_tables,
                    self._junior_tile(tile),
                    tile.start,
                    excluded,
                    self._terms,
                    senior_less,
                    junior_less[tile],
                    senior_heaps,
                    junior_heaps[tile],
                )
            finally:
                free_senior_heaps.put(senior_heaps)

        with ThreadPoolExecutor(SCAN_THREADS) as pool:
            for done, _ in enumerate(pool.map(scan_tile, range(len(self._tiles))), start=1):
                report_progress(len(self._seniors) * done // len(self._tiles))
        senior_heaps = free_senior_heaps.get()
        for _ in range(1, SCAN_THREADS):
            merge_heaps(senior_heaps, free_senior_heaps.get())
        return self._keys_in_heaps(senior_heaps, junior_heaps)

    def _keys_in_heaps(self, senior_heaps: Int64s, junior_heaps: Int64s) -> Int64s:
        """Sorted distinct keys of all pairs in the heaps of either side."""
        of_senior, senior_slot = np.nonzero(senior_heaps)
        of_junior, junior_slot = np.nonzero(junior_heaps)
        partners_of_seniors = decode_partners(senior_heaps[of_senior, senior_slot], of_senior)
        partners_of_juniors = decode_partners(junior_heaps[of_junior, junior_slot], of_junior)
        seniors = np.concatenate([of_senior, partners_of_juniors])
        juniors = np.concatenate([partners_of_seniors, of_junior])
        return _sorted_unique(self._seniors[seniors] * self._fit.shape[1] + self._juniors[juniors])

    def _excluded_pairs(self, keys: Int64s) -> ExcludedPairs:
        """The pairs of these keys by their positions here. Position -1 stands for a senior outside the sample."""
        n, m = self._fit.shape
        position_of_senior, position_of_junior = np.full(n, -1), np.empty(m, dtype=np.int64)
        position_of_senior[self._seniors] = np.arange(len(self._seniors))
        position_of_junior[self._juniors] = np.arange(m)
        seniors, juniors = position_of_senior[keys // m], position_of_junior[keys % m]
        order = np.argsort(seniors, kind="stable")
        first = np.searchsorted(seniors[order], np.arange(len(self._seniors) + 1))
        return ExcludedPairs(first, juniors[order])

    def _junior_tile(self, tile: slice) -> JuniorTile:
        columns, juniors = self._fit.junior_columns, self._juniors[tile]
        first = self._junior_wishes.first[tile.start : tile.stop + 1]
        wishes = slice(first[0], first[-1])
        minutes = np.full(len(juniors), self._terms.ample_minutes)
        has_languages, has_hours = columns.has_languages[juniors], columns.has_hours[juniors]
        ease = [
            self._fit.ease_factor(
                np.where(languages & has_languages, 1.0, UNANSWERED_SHARE), minutes, hours & has_hours
            )
            for languages, hours in _EASE_ROWS
        ]
        return JuniorTile(
            WishLists(first - first[0], self._junior_wishes.topics[wishes], self._junior_wishes.worths[wishes]),
            np.ascontiguousarray(columns.topic_coverage[:, juniors]),
            self._position_features.scores(juniors),
            self._style_features.scores(juniors),
            self._fit.style_shares.astype(np.float32),
            np.stack(ease).astype(np.float32),
            has_hours,
            np.ascontiguousarray(columns.free_slots[:, juniors].T),
            _person_rules(self._fit, columns, juniors, -2),
        )


def _in_order(offsets: Float64s | None, order: Int64s) -> Float32s:
    return np.zeros(len(order), dtype=np.float32) if offsets is None else offsets[order].astype(np.float32)


def _score_terms(fit: PairwiseFit) -> ScoreTerms:
    matching, rules = fit.settings.matching, fit.settings.rules
    w, ease, total = matching.weights, matching.ease, sum_weights(matching.weights)
    return ScoreTerms(
        np.float32((w.lower_benefit + w.higher_benefit) / total),
        np.float32(w.higher_benefit / total),
        np.float32((w.lower_benefit - w.higher_benefit) / total),
        np.float32(w.compatibility / total),
        np.float32(min(1 - matching.floors.benefit + SCORE_ROUNDING, 1 - MIN_BENEFIT)),
        np.float32(matching.floors.compatibility - SCORE_ROUNDING),
        np.float32(STYLE_STEPS),
        np.float32(ease.time / (ease.style + ease.language + ease.time)),
        fit.senior_columns.vocabulary.grid_minutes,
        rules.min_overlap_minutes,
        get_ample_minutes(fit.settings),
    )


def _person_rules(fit: PairwiseFit, side: MemberColumns, order: Int64s, no_manager: int) -> PersonRules:
    """``no_manager``: the code of a manager whom nobody of the other side has."""
    rules = fit.settings.rules
    if rules.exclude_same_manager:
        manager = side.reporting_line[0][order]
    else:
        manager = np.full(len(order), NO_CODE, dtype=np.int32)
    named = np.concatenate([side.reporting_line[: rules.line_depth, order], side.evaluators[:, order]])
    return PersonRules(
        side.person[order],
        np.ascontiguousarray(named.T),
        np.where(manager == NO_CODE, np.int32(no_manager), manager),
    )


def _wish_lists(side: MemberColumns, order: Int64s) -> WishLists:
    topics, worths = side.wish_topics[:, order].T, side.wish_worths[:, order].T
    person, slot = np.nonzero(worths > 0)
    first = np.searchsorted(person, np.arange(len(order) + 1))
    return WishLists(first, topics[person, slot], worths[person, slot])


def _split_into_groups(coverage: Float32s) -> Float32s:
    """From (topics, seniors) to (groups, topics, SENIORS_PER_GROUP), padded with zeros."""
    padded = np.pad(coverage, ((0, 0), (0, -coverage.shape[1] % SENIORS_PER_GROUP)))
    return np.ascontiguousarray(padded.reshape(len(padded), -1, SENIORS_PER_GROUP).swapaxes(0, 1))


def _sorted_unique(keys: Int64s) -> Int64s:
    """Many times as fast as ``np.unique``, which hashes each key."""
    keys = np.sort(keys)
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    return np.asarray(keys[first])


@dataclass(frozen=True)
class _Classes:
    """Classes of people with the same languages in the same organisation.

    ``of_seniors`` (seniors) and ``of_juniors`` (juniors): the class of each. ``are_apart`` (senior classes, junior
    classes): no pair of the two classes is possible.
    """

    of_seniors: Int64s
    of_juniors: Int64s
    are_apart: Bools

    @staticmethod
    def of(fit: PairwiseFit) -> "_Classes":
        """With more than ``MAX_CLASSES`` of them, all people are in one class."""
        (of_seniors, rows), (of_juniors, columns) = _classify(fit.senior_columns), _classify(fit.junior_columns)
        if max(len(rows), len(columns)) > MAX_CLASSES:
            return _Classes(np.zeros_like(of_seniors), np.zeros_like(of_juniors), np.zeros((1, 1), dtype=np.bool_))
        rows, columns = rows[:, None], columns[None, :]
        (are_apart,) = fit.broken_organisation_rules(rows, columns).values()
        return _Classes(of_seniors, of_juniors, are_apart | fit.lacks_common_language(rows, columns))

    def may_pair(self, groups: Sequence[Int64s], tiles: Sequence[Int64s]) -> Bools:
        """(groups, tiles): whether any senior of the group may be paired with any junior of the tile."""
        in_group = np.zeros((len(groups), len(self.are_apart)))
        in_tile = np.zeros((self.are_apart.shape[1], len(tiles)))
        for n, rows in enumerate(groups):
            in_group[n, self.of_seniors[rows]] = 1
        for n, columns in enumerate(tiles):
            in_tile[self.of_juniors[columns], n] = 1
        return np.asarray(in_group @ ~self.are_apart @ in_tile > 0)


def _classify(side: MemberColumns) -> tuple[Int64s, Int64s]:
    """The class of each row, and an example row for each class."""
    return _group_equal([side.organisation, side.has_acknowledged, *side.languages])


def _feature(parts: Sequence[npt.NDArray[np.generic]], order: Int64s, score: FeatureScore) -> _Feature:
    """A feature in which two seniors are equal where all ``parts`` (rows) are."""
    value_of, examples = _group_equal([part[order] for part in parts])
    return _Feature(value_of, order[examples], score)


def _group_equal(parts: Sequence[npt.NDArray[np.generic]]) -> tuple[Int64s, Int64s]:
    """A group number from 0 for each position, the same where all parts are; and an example position of each group."""
    group = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:
        values, value_of = np.unique(part, return_inverse=True)
        _, group = np.unique(group * len(values) + value_of, return_inverse=True)
    _, examples = np.unique(group, return_index=True)
    return group, examples


def _position_features(fit: PairwiseFit, order: Int64s) -> list[_Feature]:
    """The reward for different positions in the organisation, and the hard rules between groups of people."""
    s, weights = fit.senior_columns, fit.settings.matching.weights
    weight = weights.perspective / sum_weights(weights)

    def score_levels(rows: Int64s, columns: Int64s) -> npt.NDArray[np.floating]:
        is_broken = np.logical_or.reduce(list(fit.broken_level_rules(rows, columns).values()))
        score = weight * fit.level_gap_score(rows, columns) + EXCLUSION_PENALTY * is_broken
        return np.asarray(score, dtype=np.float32)

    def score_organisations(rows: Int64s, columns: Int64s) -> npt.NDArray[np.floating]:
        (is_broken,) = fit.broken_organisation_rules(rows, columns).values()
        return np.asarray(EXCLUSION_PENALTY * is_broken, dtype=np.float32)

    def score_languages(rows: Int64s, columns: Int64s) -> npt.NDArray[np.floating]:
        return EXCLUSION_PENALTY * fit.lacks_common_language(rows, columns)

    def score_attribute(attribute: int) -> FeatureScore:
        return lambda rows, columns: weight * fit.attribute_score(attribute, rows, columns)

    return [
        _feature([np.nan_to_num(s.level, nan=_UNKNOWN_LEVEL)], order, score_levels),
        _feature([s.organisation, s.has_acknowledged], order, score_organisations),
        _feature([*s.languages], order, score_languages),
        _feature(
            [np.nan_to_num(s.experience, nan=_UNKNOWN_BAND)],
            order,
            lambda rows, columns: weight * fit.experience_score(rows, columns),
        ),
        *(_feature([s.attributes[n]], order, score_attribute(n)) for n in range(len(POSITION_FIELDS))),
    ]


def _style_features(fit: PairwiseFit, order: Int64s) -> list[_Feature]:
    """The similarity of two people in each dimension of style."""

    def score_dimension(dimension: int) -> FeatureScore:
        return lambda rows, columns: fit.dimension_similarity(dimension, rows, columns)

    return [
        _feature([np.nan_to_num(answers, nan=_UNKNOWN_ANSWER)], order, score_dimension(dimension))
        for dimension, answers in enumerate(fit.senior_columns.style)
    ]
