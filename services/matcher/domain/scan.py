"""Every pair of a large cohort, approximately and fast.

The score of a pair is taken apart into sums over table rows. With ``a`` and ``b`` what the wishes of senior and junior
leave open (a product over wishes, so a sum of logarithms over rows of (topic, worth)), the weighted benefits are
``constant - higher x (a + b) - (lower - higher) x max(a, b)``. Likeness, perspective and the hard rules between groups
of people are sums over one row for each feature. Only common time is averaged over people with like hours; rules
that name people take no part. The first of each side are a fair sample; the others stand by class, so that tiles in
which no two may be paired are passed over.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from services.matcher.domain.columns import Columns, Ints
from services.matcher.domain.fit import PLACES, UNKNOWN
from services.matcher.domain.pairs import Comparison

Single = npt.NDArray[np.float32]

TILE = 1008  # juniors of a tile; neither is a power of two, which would make transposing slow
STRIPE = 120  # seniors of a tile
SAMPLE = 1920  # people at most against whom each person's threshold is estimated
LEAST_SAMPLE = 960
SAMPLED = 10  # one of so many people, between these
KEPT = 60_000  # juniors at most of whom all tables are kept, some 7 KB each
CLASSES = 1000  # groups of people who speak the same languages in the same organisation; with more, none is passed over
NEAR = 16  # the best rank in that sample that is steady enough to go by
DAY_PARTS = 24  # seniors whose free time has its middle in the same one count as alike
MODELS = 6  # seniors of each, by whom the common time of all is judged
GROUPS = 512  # features are joined as long as they have no more values together
EXCLUDED = np.float32(-8.0)  # what a broken rule takes from a score
_BELOW = np.float32(1000)  # ... and what a benefit below its floor does, times what is missing
THREADS = 2
_WHOLE = np.float32(0.99)  # a wish that is covered altogether, as far as it has a logarithm
_SCALE = np.float32(2**23 / np.log(2))
_BIAS = np.float32(127 * 2**23 - 366_393)


@dataclass(frozen=True)
class _Feature:
    """Something about the seniors, the same for all who share a value.

    ``value`` (seniors): from 0 upwards; ``like``: a senior for each value; ``worth`` (some seniors, some juniors): what
    it adds to the score of their pairs.
    """

    value: Ints
    like: Ints
    worth: Callable[[Ints, Ints], npt.NDArray[np.floating]]


@dataclass(frozen=True)
class _Joined:
    """Several features as one, with a value for each combination that occurs; ``parts`` tell its value of each."""

    value: Ints
    parts: tuple[tuple[_Feature, Ints], ...]

    @property
    def values(self) -> int:
        return len(self.parts[0][1])

    def table(self, juniors: Ints) -> Single:
        """(values, juniors)"""
        found = np.zeros((self.values, len(juniors)), dtype=np.float32)
        for feature, which in self.parts:
            found += feature.worth(feature.like[:, None], juniors[None, :]).astype(np.float32)[which]
        return found


@dataclass(frozen=True)
class _Wishes:
    """One side's wishes: ``of`` (people, kinds) with a one for each, and each kind's topic and worth."""

    of: sparse.csr_array
    topics: Ints
    worth: Single

    def left(self, giver: Columns, rows: Ints) -> Single:
        """(kinds, givers): the logarithm (times ``_SCALE``) of what offers leave of each kind of wish."""
        covered = self.worth[:, None] * giver.covers[:, rows][self.topics]
        return np.asarray(np.log(1 - np.minimum(covered, _WHOLE)) * _SCALE, dtype=np.float32)


@dataclass(frozen=True)
class _Hours:
    """What language and common time leave of the likeness, averaged over some seniors (``models``) of each value."""

    pairs: Comparison
    value: Ints
    models: list[Ints]
    weight: float

    def tables(self, juniors: Ints) -> tuple[Single, Single]:
        """(values, juniors): the weighted part of the score; and the same, excluded where all models are."""
        result = np.empty((len(self.models), len(juniors)), dtype=np.float32)
        excluded = np.zeros(result.shape, dtype=np.bool_)
        for value, seniors in enumerate(self.models):
            rows, columns = seniors[:, None], juniors[None, :]
            speaks = np.where(self.pairs.s.speaks[rows] & self.pairs.j.speaks[columns], 1.0, UNKNOWN)
            hours = self.pairs.s.hours[rows] & self.pairs.j.hours[columns]
            minutes = self.pairs.minutes(rows, columns)
            short = hours & (minutes < self.pairs.settings.rules.min_overlap_minutes)
            result[value] = self.weight * self.pairs.ease(speaks, minutes, hours).mean(axis=0)
            excluded[value] = short.all(axis=0)
        return result, np.where(excluded, EXCLUDED, result)


class Scan:
    """All pairs of a comparison in tiles; positions are places in the shuffled order of each side."""

    def __init__(self, pairs: Comparison, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._pairs = pairs
        self._sampled = tuple(
            min(n, max(LEAST_SAMPLE, min(SAMPLE, n // SAMPLED // STRIPE * STRIPE))) for n in pairs.shape
        )
        classes = _Classes.of(pairs)
        self._s = _order(classes.of_seniors, self._sampled[0], rng)
        self._j = _order(classes.of_juniors, self._sampled[1], rng)
        w = pairs.settings.matching.weights
        total = w.lower_benefit + w.higher_benefit + w.compatibility + w.perspective
        self._higher = np.float32(w.higher_benefit / total)
        self._excess = np.float32((w.lower_benefit - w.higher_benefit) / total)
        self._most_open = np.float32(1.05 * (1 - pairs.settings.matching.floors.benefit))  # as wide as ``_exp`` errs
        self._s_wishes, self._j_wishes = _wishes(pairs.s, self._s), _wishes(pairs.j, self._j)
        self._stripes = [slice(a, a + STRIPE) for a in range(0, len(self._s), STRIPE)]
        self._left_of_juniors = [self._j_wishes.left(pairs.s, self._s[stripe]) for stripe in self._stripes]
        self._s_parts = [self._s_wishes.of[stripe] for stripe in self._stripes]
        self._worthwhile = classes.worthwhile(
            [self._s[stripe] for stripe in self._stripes], [self._j[tile] for tile in self._tiles(len(self._j))]
        )
        places = _joined(_place_features(pairs, self._s, w.perspective / total))
        self._places = _Sums(places, self._stripes)
        constant = np.float32((w.lower_benefit + w.higher_benefit) / total)
        self._share = constant / len(places)  # each pair sums up so many rows of places
        self._styles = _Sums(_joined(_style_features(pairs, self._s)), self._stripes)
        self._known: dict[tuple[int, int], tuple[Single, sparse.csr_array, Single, Single, Single, Single]] = {}
        self._hours = _hours(pairs, self._s, w.compatibility / total, rng)

    def best(self, looked_at: int, progress: Callable[[int], None]) -> Ints:
        """About so many of the best pairs of each person, as senior x juniors + junior, in order."""
        n, m = self._pairs.shape
        of_seniors, of_juniors = self._thresholds(looked_at)
        tiles = self._tiles(m)

        def look(tile: slice) -> Ints:
            kept = [np.zeros(0, np.int64)]
            for stripe, scores in self._tile(tile, self._worth_a_look(tile)):
                above = (scores >= of_seniors[stripe, None]) | (scores >= of_juniors[None, tile])
                row, column = np.divmod(np.flatnonzero(above), scores.shape[1])
                kept.append(self._s[stripe][row] * m + self._j[tile][column])
            return np.concatenate(kept)

        found = []
        with ThreadPoolExecutor(THREADS) as pool:
            for done, keys in enumerate(pool.map(look, tiles), start=1):
                found.append(keys)
                progress(n * done // len(tiles))
        return np.sort(np.concatenate(found))

    def above(self, of_seniors: npt.NDArray[np.float64], of_juniors: npt.NDArray[np.float64], some: int | None) -> Ints:
        """Pairs that score more than both of these together; of ``some`` random seniors, or of all."""
        m = self._pairs.shape[1]
        mine, theirs = of_seniors[self._s].astype(np.float32), of_juniors[self._j].astype(np.float32)

        def look(tile: slice) -> Ints:
            kept = [np.zeros(0, np.int64)]
            for stripe, scores in self._tile(tile, self._worth_a_look(tile, some), whoever=True):
                over = scores - mine[stripe, None] > theirs[None, tile]
                row, column = np.divmod(np.flatnonzero(over), scores.shape[1])
                kept.append(self._s[stripe][row] * m + self._j[tile][column])
            return np.concatenate(kept)

        with ThreadPoolExecutor(THREADS) as pool:
            return np.sort(np.concatenate(list(pool.map(look, self._tiles(m)))))

    def _worth_a_look(self, tile: slice, some: int | None = None) -> Ints:
        """The stripes, by number, in which anybody may be paired with anybody of the tile; the first of them alone."""
        stripes = np.nonzero(self._worthwhile[:, tile.start // TILE])[0]
        return stripes if some is None else stripes[stripes < -(-some // STRIPE)]

    def _tile(self, tile: slice, stripes: Iterable[int], *, whoever: bool = False) -> Iterator[tuple[slice, Single]]:
        """The scores of these juniors with the seniors of each of these stripes, (stripe, tile).

        ``whoever``: also with those whose hours are most likely too different.
        """
        left_of_seniors, wishes, places, styles, anybody, most = self._tables(tile)
        hours = anybody if whoever else most
        for n in stripes:
            stripe = self._stripes[n]
            a = _exp(self._s_parts[n] @ left_of_seniors)
            b = _exp(np.ascontiguousarray((wishes @ self._left_of_juniors[n]).T))
            larger = np.maximum(a, b)
            a += b
            a *= self._higher
            np.multiply(larger, self._excess, out=b)
            a += b
            scores = self._styles.sums(n, styles)
            np.minimum(scores, np.float32(1), out=scores)
            scores *= hours[self._hours.value[stripe]]
            scores -= a
            scores += self._places.sums(n, places)
            larger -= self._most_open  # a mask would cost more than all the rest
            np.maximum(larger, np.float32(0), out=larger)
            larger *= _BELOW
            scores -= larger
            yield stripe, scores

    def _tiles(self, juniors: int) -> list[slice]:
        return [slice(start, start + TILE) for start in range(0, juniors, TILE)]

    def _tables(self, tile: slice) -> tuple[Single, sparse.csr_array, Single, Single, Single, Single]:
        """What the seniors' rows are summed from, for the juniors of a tile; kept where they are needed again soon."""
        known = self._known.get((tile.start, tile.stop))
        if known is None:
            juniors = self._j[tile]
            known = (
                self._s_wishes.left(self._pairs.j, juniors),
                self._j_wishes.of[tile],
                self._places.table(juniors) + self._share,
                self._styles.table(juniors),
                *self._hours.tables(juniors),
            )
            if len(self._j) <= KEPT:
                self._known[tile.start, tile.stop] = known
        return known

    def _thresholds(self, looked_at: int) -> tuple[Single, Single]:
        """Above what each senior and each junior has about so many pairs."""
        with ThreadPoolExecutor(THREADS) as pool:
            seniors = pool.submit(self._sampled_seniors, looked_at)
            juniors = pool.submit(self._sampled_juniors, looked_at)
            (near_s, all_of_some_juniors), (near_j, all_of_some_seniors) = seniors.result(), juniors.result()
        return (
            _extrapolated(near_s, all_of_some_seniors, looked_at),
            _extrapolated(near_j, all_of_some_juniors, looked_at),
        )

    def _sampled_seniors(self, looked_at: int) -> tuple[Single, Single]:
        """Each senior's two ranks among some juniors, (2, seniors); and (few juniors, seniors), their scores."""
        n, m = self._pairs.shape
        ranks, few = np.empty((2, n), np.float32), np.empty((min(STRIPE, m), n), np.float32)
        for stripe, scores in self._tile(slice(0, self._sampled[1]), range(len(self._stripes))):
            ranks[:, stripe] = _ranked(scores, looked_at, m)
            few[:, stripe] = scores[:, : len(few)].T
        return ranks, few

    def _sampled_juniors(self, looked_at: int) -> tuple[Single, Single]:
        """The same, the other way round."""
        n, m = self._pairs.shape
        ranks, few = np.empty((2, m), np.float32), np.empty((min(STRIPE, n), m), np.float32)
        for tile in self._tiles(m):
            first = range(-(-self._sampled[0] // STRIPE))
            scores = np.concatenate([scores for _, scores in self._tile(tile, first)])
            ranks[:, tile] = _ranked(np.ascontiguousarray(scores.T), looked_at, n)
            few[:, tile] = scores[: len(few)]
        return ranks, few


@dataclass(frozen=True)
class _Classes:
    """People who speak the same languages in the same organisation, by number; ``apart``: who is never paired."""

    of_seniors: Ints
    of_juniors: Ints
    apart: npt.NDArray[np.bool_]

    @staticmethod
    def of(pairs: Comparison) -> "_Classes":
        (one, rows), (other, columns) = _classes(pairs.s), _classes(pairs.j)
        if max(len(rows), len(columns)) > CLASSES:
            return _Classes(np.zeros_like(one), np.zeros_like(other), np.zeros((1, 1), dtype=np.bool_))
        rows, columns = rows[:, None], columns[None, :]
        (apart,) = pairs.organisations(rows, columns).values()
        return _Classes(one, other, apart | pairs.no_language(rows, columns))

    def worthwhile(self, stripes: Sequence[Ints], tiles: Sequence[Ints]) -> npt.NDArray[np.bool_]:
        """(stripes, tiles): whether anybody of one may be paired with anybody of the other."""
        of_stripes, of_tiles = np.zeros((len(stripes), len(self.apart))), np.zeros((self.apart.shape[1], len(tiles)))
        for n, rows in enumerate(stripes):
            of_stripes[n, self.of_seniors[rows]] = 1
        for n, columns in enumerate(tiles):
            of_tiles[self.of_juniors[columns], n] = 1
        return np.asarray(of_stripes @ ~self.apart @ of_tiles > 0)


def _classes(side: Columns) -> tuple[Ints, Ints]:
    """The class of each row, and a row for each class."""
    parts = np.vstack([side.organisation, side.acknowledged, side.languages.view(np.int64)])
    _, like, value = np.unique(parts, axis=1, return_index=True, return_inverse=True)
    return value, like


def _order(classes: Ints, sampled: int, rng: np.random.Generator) -> Ints:
    """So many at random, and then everybody else by class."""
    shuffled = rng.permutation(len(classes))
    rest = shuffled[sampled:]
    return np.concatenate([shuffled[:sampled], rest[np.argsort(classes[rest], kind="stable")]])


def _exp(logarithms: Single) -> Single:
    """Within 3 %, by what their bits mean (Schraudolph 1999); ``logarithms`` times ``_SCALE``, and lost."""
    logarithms += _BIAS
    return logarithms.astype(np.int32).view(np.float32)


class _Sums:
    """Joined features of the seniors, and the sums over them for the seniors of each stripe."""

    def __init__(self, features: list[_Joined], stripes: list[slice]) -> None:
        self._features = features
        starts = np.cumsum([0, *(feature.values for feature in features)])
        columns = np.stack([feature.value + start for feature, start in zip(features, starts, strict=False)], axis=1)
        self._picks = [_ones(columns[stripe], int(starts[-1])) for stripe in stripes]

    def table(self, juniors: Ints) -> Single:
        return np.concatenate([feature.table(juniors) for feature in self._features])

    def sums(self, stripe: int, table: Single) -> Single:
        """(seniors of the stripe, juniors of the table)"""
        return self._picks[stripe] @ table


def _ones(columns: Ints, width: int) -> sparse.csr_array:
    """A one in each of these columns, as many in every row."""
    rows, each = columns.shape
    data = np.ones(rows * each, dtype=np.float32)
    return sparse.csr_array((data, columns.ravel(), np.arange(0, rows * each + 1, each)), shape=(rows, width))


def _wishes(side: Columns, order: Ints) -> _Wishes:
    topics, worth = side.wishes[:, order].T, side.worth[:, order].T
    person, slot = np.nonzero(worth > 0)
    values, which = np.unique(worth[person, slot], return_inverse=True)
    kinds, kind = np.unique(topics[person, slot].astype(np.int64) * len(values) + which, return_inverse=True)
    starts = np.searchsorted(person, np.arange(len(order) + 1))
    ones = np.ones(len(person), dtype=np.float32)
    of = sparse.csr_array((ones, kind, starts), shape=(len(order), len(kinds)))
    return _Wishes(of, kinds // max(1, len(values)), values[kinds % max(1, len(values))])


def _feature(
    values: npt.NDArray[np.generic], order: Ints, worth: Callable[[Ints, Ints], npt.NDArray[np.floating]]
) -> _Feature:
    """``values`` (parts, rows): two seniors are alike where all parts are."""
    _, like, value = np.unique(values[:, order], axis=1, return_index=True, return_inverse=True)
    return _Feature(value, order[like], worth)


def _place_features(pairs: Comparison, order: Ints, weight: float) -> list[_Feature]:
    """What the pairs' places earn, and the hard rules that hold between groups of people."""
    s = pairs.s

    def levels(rows: Ints, columns: Ints) -> npt.NDArray[np.floating]:
        apart = np.logical_or.reduce(list(pairs.levels(rows, columns).values()))
        return np.asarray(weight * pairs.of_gap(rows, columns) + EXCLUDED * apart, dtype=np.float32)

    def organisations(rows: Ints, columns: Ints) -> npt.NDArray[np.floating]:
        (apart,) = pairs.organisations(rows, columns).values()
        return np.asarray(EXCLUDED * apart, dtype=np.float32)

    def of(place: int) -> Callable[[Ints, Ints], npt.NDArray[np.floating]]:
        return lambda rows, columns: weight * pairs.of_place(place, rows, columns)

    return [
        _feature(np.nan_to_num(s.level[None], nan=-1), order, levels),
        _feature(np.stack([s.organisation, s.acknowledged]), order, organisations),
        _feature(s.languages, order, lambda rows, columns: EXCLUDED * pairs.no_language(rows, columns)),
        _feature(np.nan_to_num(s.experience[None], nan=-1), order, lambda r, c: weight * pairs.of_experience(r, c)),
        *(_feature(s.places[place, None], order, of(place)) for place in range(len(PLACES))),
    ]


def _style_features(pairs: Comparison, order: Ints) -> list[_Feature]:
    """How alike two people are in each dimension, as a share of the plateau; to an eighth of a step."""

    def of(dimension: int) -> Callable[[Ints, Ints], npt.NDArray[np.floating]]:
        return lambda rows, columns: pairs.alike(dimension, rows, columns)

    return [
        _feature(np.nan_to_num(np.rint(answers[None] * 8), nan=99), order, of(dimension))
        for dimension, answers in enumerate(pairs.s.style)
    ]


def _joined(features: list[_Feature]) -> list[_Joined]:
    """As few as there can be without one having too many values."""
    groups: list[list[_Feature]] = []
    for feature in sorted(features, key=lambda one: -len(one.like)):
        for group in groups:
            if np.prod([len(one.like) for one in (*group, feature)]) <= GROUPS:
                group.append(feature)
                break
        else:
            groups.append([feature])
    return [_combined(group) for group in groups]


def _combined(group: list[_Feature]) -> _Joined:
    values, value = np.unique(np.stack([one.value for one in group]), axis=1, return_inverse=True)
    return _Joined(value, tuple(zip(group, values, strict=True)))


def _hours(pairs: Comparison, order: Ints, weight: float, rng: np.random.Generator) -> _Hours:
    """Seniors by the time of day that is the middle of theirs, and whether their languages are known."""
    slots = pairs.s.slots_of_a_day(order)
    angle = 2 * np.pi * np.arange(slots.shape[1]) / slots.shape[1]
    middle = np.arctan2(slots @ np.sin(angle), slots @ np.cos(angle))
    hour = np.where(pairs.s.hours[order], np.rint(middle * DAY_PARTS / (2 * np.pi)) % DAY_PARTS, DAY_PARTS)
    _, value = np.unique(np.stack([hour, pairs.s.speaks[order]]), axis=1, return_inverse=True)
    members = [np.nonzero(value == one)[0] for one in range(int(value.max(initial=-1)) + 1)]
    return _Hours(pairs, value, [order[rng.permutation(some)[:MODELS]] for some in members], weight)


def _ranked(scores: Single, looked_at: int, everybody: int) -> Single:
    """(2, people): two ranks of each row, a near and a far one, from which the threshold is extrapolated."""
    width = scores.shape[1]
    near = min(max(NEAR, looked_at * width // everybody), width // 4)
    ranked = np.partition(scores, (width - 4 * near, width - near), axis=1)
    return np.stack([ranked[:, width - near], ranked[:, width - 4 * near]])


def _extrapolated(ranks: Single, exact: Single, looked_at: int) -> Single:
    """Thresholds of all from two ranks of each, set right by some whose every score is known, (some, others)."""
    if exact.shape[1] <= looked_at:
        return np.zeros(ranks.shape[1], dtype=np.float32)
    near, far = np.maximum(ranks, 0)
    step = np.minimum(near - far, 2 * np.median(near - far))
    right = np.partition(exact, exact.shape[1] - looked_at, axis=1)[:, exact.shape[1] - looked_at]
    some = slice(0, len(exact))
    steps = np.median((right - near[some]) / np.maximum(step[some], 1e-6))
    return np.asarray(np.maximum(near + np.float32(steps) * step, 0), dtype=np.float32)
