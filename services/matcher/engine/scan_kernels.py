"""The score of every pair of a tile, and which of them are among the best of their senior or their junior.

Seniors come in groups: what they leave of the juniors' wishes is worked out for a whole group at once. Then each senior
has a row of scores with the juniors of the tile, made of sums and products over rows of tables, in which common time
counts in full. Only where such a score is good enough is the time counted that both really have. What is needed there
of each pair is taken out of its tuple once: taking it out for each pair counts references, for which threads contend,
and that takes as long as all the rest.

The best of each person are kept in a heap, the least one first. A key holds the score and then who it is, times an odd
number of the person's own; so the best are the same in whatever order the pairs are met, and of many who score the same
not everybody keeps the same few, who could not be paired with all of them.
"""

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from services.matcher.engine.jit import jit_kernel
from services.matcher.engine.member_columns import Bits, Bools, Codes, Ints

Single = npt.NDArray[np.float32]
Whose = TypeVar("Whose", int, Ints)

SENIORS_PER_GROUP = 64  # seniors of a group
_BLOCK = 16  # juniors whose wishes are turned from columns to rows at once
_BELOW = np.float32(1e9)  # what a benefit below its floor takes from a score, times what is missing
_ZERO, _ONE = np.float32(0), np.float32(1)
_STEPS = np.float32(2**28)  # of a score in a key; a score's own steps are no finer, but near 0
_LAST = 2**32 - 1
_STEP = 0x9E3779B1  # spreads what stands close together (Knuth 1998, 6.4)


class ScoreTerms(NamedTuple):
    """What a score is made of; a pair's wishes leave ``open`` a part of either side's benefit.

    Score: ``benefits - higher x (open + open) - excess x greater open + compatibility x together + places``.
    """

    benefits: np.float32
    higher: np.float32
    excess: np.float32
    compatibility: np.float32
    most_open: np.float32
    least_together: np.float32
    of_time: np.float32  # what common time weighs of the ease
    grid: int  # minutes of a slot
    least_minutes: int
    ample_minutes: int


class WishLists(NamedTuple):
    """``first`` (people + 1): where each one's begin; ``topics`` and ``worth`` of each."""

    first: Ints
    topics: Codes
    worth: Single


class PersonRules(NamedTuple):
    """Of each person: who they are, whom they may not be paired with (people, most), and whose people they are.

    Whoever is nobody's here has a manager that nobody of the other side has.
    """

    person: Codes
    apart: Codes
    manager: Codes


class ExcludedPairs(NamedTuple):
    """``first`` (seniors + 1): where those begin with whom each may not be paired; ``juniors``: who they are."""

    first: Ints
    juniors: Ints


class SeniorTables(NamedTuple):
    """``covers`` (groups, topics, GROUP): of a wish; ``places``, ``styles`` and ``told`` say which rows of the tile's
    tables are theirs; ``free`` (seniors, words): a bit for each slot."""

    wishes: WishLists
    covers: Single
    places: Codes
    styles: Codes
    told: Codes
    hours: Bools
    free: Bits
    names: PersonRules


class JuniorTile(NamedTuple):
    """Juniors, in the last place of each array but for ``free``; tables of what any senior has with each of them."""

    wishes: WishLists
    covers: Single
    places: Single
    styles: Single
    ease: Single
    hours: Bools
    free: Bits
    names: PersonRules


class _Row(NamedTuple):
    """Of one senior with each junior: ``open`` is what stays so of the senior's wishes."""

    open: Single
    alike: Single
    score: Single


@jit_kernel
def update_heaps(
    groups: Ints,
    seniors: SeniorTables,
    tile: JuniorTile,
    first: int,
    barred: ExcludedPairs,
    terms: ScoreTerms,
    mine: Single,
    theirs: Single,
    of_seniors: Ints,
    of_juniors: Ints,
) -> None:
    """Put every pair of these groups and the tile into the heaps where it belongs; ``first``: the tile's first junior.

    ``mine`` (seniors) and ``theirs`` (juniors of the tile) are taken from the score of each pair, which is not kept if
    nothing is left. ``of_seniors`` and ``of_juniors`` (people, as many as are kept): keys, 0 where there is none yet.
    """
    width = len(tile.hours)
    open_, row, least, good = _room(width), _row(width), np.empty(width, np.float32), np.empty(width, np.int64)
    scores, alike, timed, free, hours, others = row.score, row.alike, seniors.hours, seniors.free, tile.hours, tile.free
    person, apart, manager = seniors.names
    persons, from_whom, managers = tile.names
    barred_from, barred_juniors = barred
    for c in range(width):
        least[c] = _score_in(of_juniors[c, 0])
    for group in groups:
        _open_to(seniors.covers[group], tile.wishes, open_)
        for place in range(min(SENIORS_PER_GROUP, len(seniors.hours) - group * SENIORS_PER_GROUP)):
            r = group * SENIORS_PER_GROUP + place
            _fill(row, r, open_[place], seniors, tile, terms, mine[r], theirs)
            lowest = _score_in(of_seniors[r, 0])
            full = tile.ease[seniors.told[r]]
            for n in range(_good(scores, lowest, least, good)):
                c = good[n]
                if scores[c] < min(lowest, least[c]):  # better ones have come since
                    continue
                if manager[r] == managers[c] or _named(person[r], apart[r], persons[c], from_whom[c]):
                    continue
                if _among(first + c, barred_juniors, barred_from[r], barred_from[r + 1]):
                    continue
                minutes = _in_common(free, r, others, c) * terms.grid if timed[r] and hours[c] else terms.ample_minutes
                score = _exact(scores[c], alike[c], full[c], minutes, terms)
                if score > _ZERO:
                    _push(of_seniors, r, _key(score, first + c, r))
                    _push(of_juniors, c, _key(score, r, first + c))
                    lowest, least[c] = _score_in(of_seniors[r, 0]), _score_in(of_juniors[c, 0])


@jit_kernel
def _good(score: Single, least_of_mine: np.float32, least: Single, good: Ints) -> int:
    """How many score enough for either side; their places come first in ``good``."""
    count = 0
    for c in range(len(score)):
        good[count] = c
        count += score[c] >= min(least_of_mine, least[c])
    return count


@jit_kernel
def merge_heaps(heaps: Ints, others: Ints) -> None:
    """Put what is in one heap of each person into the other."""
    for person in range(len(heaps)):
        for key in others[person]:
            _push(heaps, person, key)


def decode_partners(keys: Ints, whose: Ints) -> Ints:
    """Who it is, of each key in the heap of one person."""
    odd = _odd(whose).astype(np.uint64)
    inverse = odd  # modulo 8; each turn of Newton's method doubles the digits
    for _ in range(4):
        inverse = inverse * (np.uint64(2) - odd * inverse)
    return (keys.astype(np.uint64) * inverse & np.uint64(_LAST)).astype(np.int64) - 1


@jit_kernel
def _room(width: int) -> Single:
    return np.empty((SENIORS_PER_GROUP, width), dtype=np.float32)


@jit_kernel
def _row(width: int) -> _Row:
    return _Row(np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32))


@jit_kernel
def _open_to(giving: Single, wishes: WishLists, open_: Single) -> None:
    """What each senior of a group leaves of each junior's wishes; ``giving`` (topics, GROUP): how they cover them."""
    width = open_.shape[1]
    some = np.empty((_BLOCK, SENIORS_PER_GROUP), dtype=np.float32)
    for start in range(0, width, _BLOCK):
        block = min(_BLOCK, width - start)
        for n in range(block):
            left = some[n]
            left[:] = _ONE
            for k in range(wishes.first[start + n], wishes.first[start + n + 1]):
                covers, worth = giving[wishes.topics[k]], wishes.worth[k]
                for i in range(SENIORS_PER_GROUP):
                    left[i] *= _ONE - worth * covers[i]
        for i in range(SENIORS_PER_GROUP):
            for n in range(block):
                open_[i, start + n] = some[n, i]


@jit_kernel
def _fill(
    row: _Row,
    r: int,
    theirs: Single,
    seniors: SeniorTables,
    tile: JuniorTile,
    terms: ScoreTerms,
    less: np.float32,
    of_each: Single,
) -> None:
    """The scores of a senior with everybody of the tile, if all had ample time in common.

    ``less`` and ``of_each`` (juniors) are taken from them.
    """
    width = len(theirs)
    mine, alike, score = row.open, row.alike, row.score
    mine[:] = _ONE
    for k in range(seniors.wishes.first[r], seniors.wishes.first[r + 1]):
        covers, worth = tile.covers[seniors.wishes.topics[k]], seniors.wishes.worth[k]
        for c in range(width):
            mine[c] *= _ONE - worth * covers[c]
    alike[:] = _ZERO
    _add(tile.styles, seniors.styles[r], alike)
    for c in range(width):
        score[c] = terms.benefits - less - of_each[c]
    _add(tile.places, seniors.places[r], score)
    ease = tile.ease[seniors.told[r]]
    for c in range(width):
        greater = max(mine[c], theirs[c])
        alike[c] = min(_ONE, alike[c])
        score[c] += terms.compatibility * alike[c] * ease[c]
        score[c] -= terms.higher * (mine[c] + theirs[c]) + terms.excess * greater
        score[c] -= _BELOW * max(_ZERO, greater - terms.most_open)


@jit_kernel
def _add(table: Single, rows: Codes, total: Single) -> None:
    for n in rows:
        row = table[n]
        for c in range(len(total)):
            total[c] += row[c]


@jit_kernel
def _exact(
    score: np.float32, alike: np.float32, full: np.float32, minutes: np.int64 | int, terms: ScoreTerms
) -> np.float32:
    """The score with the time that both really have; 0 where that or their likeness is too little."""
    if minutes < terms.least_minutes:
        return _ZERO
    ease = full - terms.of_time * np.float32(1 - min(1.0, minutes / terms.ample_minutes))
    if alike * ease < terms.least_together:
        return _ZERO
    return score - terms.compatibility * alike * (full - ease)


@jit_kernel
def _named(one: np.int32, by_one: Codes, other: np.int32, by_other: Codes) -> bool:
    """Whether they are the same person, or either names the other."""
    found: bool = one == other
    for name in by_one:
        found |= name == other
    for name in by_other:
        found |= name == one
    return found


@jit_kernel
def _among(who: int, people: Ints, begin: int, end: int) -> bool:
    found = False
    for n in range(begin, end):
        found |= people[n] == who
    return found


@jit_kernel
def _in_common(mine: Bits, r: int, theirs: Bits, c: int) -> np.int64:
    """Bits that both have: in pairs, in fours, in eights, and then all bytes into the uppermost (Warren 2012, 5-1)."""
    count = np.uint64(0)
    for n in range(mine.shape[1]):
        bits = mine[r, n] & theirs[c, n]
        bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
        bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
        bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        count += (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return np.int64(count)


@jit_kernel
def _key(score: np.float32, who: int, whose: int) -> np.int64:
    return (np.int64(score * _STEPS) << 32) | ((who + 1) * _odd(whose) & _LAST)


@jit_kernel
def _odd(person: Whose) -> Whose:
    return (person + 1) * _STEP & _LAST | 1


@jit_kernel
def _score_in(key: np.int64) -> np.float32:
    return np.float32(key >> 32) / _STEPS


@jit_kernel
def _push(heaps: Ints, person: int, key: np.int64) -> None:
    """Replace the least of this person's heap by this key, where it is more."""
    if key <= heaps[person, 0]:
        return
    place, size = 0, heaps.shape[1]
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heaps[person, child + 1] < heaps[person, child]:
            child += 1
        if heaps[person, child] >= key:
            break
        heaps[person, place] = heaps[person, child]
        place = child
    heaps[person, place] = key
