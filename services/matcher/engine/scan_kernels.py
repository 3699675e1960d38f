"""Compiled loops that score every pair of a tile and keep the best pairs of each senior and each junior.

Seniors come in groups: what they leave unmet of the juniors' wishes is computed for a whole group at once. Then each
senior gets a row of scores with the juniors of the tile. The row consists of sums and products over rows of tables, and
counts common time in full. Only where such a score is good enough, the common time of the pair is counted exactly. The
arrays that this needs are taken out of their tuples once. Taking them out for each pair counts references, for which
threads contend, and takes as long as everything else.

The best partners of each person are in a heap with the least one first. A heap key packs (score, id x a per-person odd
multiplier). Results do not depend on scan order, and equally good partners are permuted differently for each person, so
that ties do not pile onto the same few partners, who could not be paired with everybody.
"""

from typing import NamedTuple, TypeVar

import numpy as np

from services.matcher.engine.arrays import Bits, Bools, Codes, Float32s, Int64s
from services.matcher.engine.jit import jit_kernel

IntOrArray = TypeVar("IntOrArray", int, Int64s)

SENIORS_PER_GROUP = 64
_JUNIORS_PER_BLOCK = 16  # juniors whose unmet shares are transposed at once
_BELOW_FLOOR_PENALTY = np.float32(1e9)  # score penalty for a benefit below its floor, per unit of missing benefit
_ZERO, _UNIT = np.float32(0), np.float32(1)
_SCORE_STEPS = np.float32(2**28)  # steps of a score in a key; float32 scores are no finer, except near 0
_LOW_32_BITS = 2**32 - 1
_KNUTH_MULTIPLIER = 0x9E3779B1  # multiplicative hashing of neighbouring numbers (Knuth 1998, 6.4)


class ScoreTerms(NamedTuple):
    """The weights of a score. The unmet share ``open`` of a person's wishes is 1 - benefit.

    Score: ``benefits - higher x (open + open) - excess x greater open + compatibility x similarity x ease +
    positions``.
    """

    benefits: np.float32
    higher: np.float32
    excess: np.float32
    compatibility: np.float32
    max_open: np.float32  # from the floor of benefit
    min_compatibility: np.float32
    style_steps: np.float32  # steps of a similarity of styles, by which ``JuniorTile.style_shares`` is read
    time_weight: np.float32  # share of common time in the ease
    grid_minutes: int  # length of a weekly slot
    min_minutes: int  # of common time, that the rule asks for
    ample_minutes: int  # of common time, that count in full


class WishLists(NamedTuple):
    """``first`` (people + 1): where the wishes of each person begin. ``topics`` and ``worths`` (wishes)."""

    first: Int64s
    topics: Codes
    worths: Float32s


class PersonRules(NamedTuple):
    """Rules that name people. ``person`` (people): codes. ``apart`` (people, longest list): who is never a partner.

    ``manager`` (people): the manager whose other reports are no partners. A person without one has a code that nobody
    of the other side has.
    """

    person: Codes
    apart: Codes
    manager: Codes


class ExcludedPairs(NamedTuple):
    """``first`` (seniors + 1): where the excluded partners of each senior begin. ``juniors``: their positions."""

    first: Int64s
    juniors: Int64s


class SeniorTables(NamedTuple):
    """``coverage`` (groups, topics, SENIORS_PER_GROUP): of a wish by the senior's best offer. ``free_slots`` (seniors,
    words). ``positions``, ``styles`` and ``ease`` say which rows of the tile's tables belong to each senior."""

    wishes: WishLists
    coverage: Float32s
    positions: Codes
    styles: Codes
    ease: Codes
    has_hours: Bools
    free_slots: Bits
    rules: PersonRules


class JuniorTile(NamedTuple):
    """Juniors are the last axis of each array, except of ``free_slots`` (juniors, words).

    ``positions``, ``styles`` and ``ease`` (rows, juniors): the contribution of a senior's feature with each junior.
    ``style_shares`` (steps): what each sum of the contributions of style counts.
    """

    wishes: WishLists
    coverage: Float32s
    positions: Float32s
    styles: Float32s
    style_shares: Float32s
    ease: Float32s
    has_hours: Bools
    free_slots: Bits
    rules: PersonRules


class _ScoreRow(NamedTuple):
    """Of one senior with each junior; ``open``: the unmet share of the senior's wishes."""

    open: Float32s
    similarity: Float32s
    score: Float32s


@jit_kernel
def update_heaps(
    groups: Int64s,
    seniors: SeniorTables,
    tile: JuniorTile,
    first: int,
    excluded: ExcludedPairs,
    terms: ScoreTerms,
    senior_offsets: Float32s,
    junior_offsets: Float32s,
    senior_heaps: Int64s,
    junior_heaps: Int64s,
) -> None:
    """Put every pair of these groups and the tile into the heaps where it belongs.

    ``first``: position of the tile's first junior. The offsets (seniors) and (juniors of the tile) are subtracted from
    the score; a pair whose difference is not positive is dropped. Heaps (people, size) hold keys, 0 where empty.
    """
    width = len(tile.has_hours)
    open_, row = _new_group_table(width), _new_row(width)
    least, good = np.empty(width, np.float32), np.empty(width, np.int64)
    scores, similarity = row.score, row.similarity
    has_hours, free_slots = seniors.has_hours, seniors.free_slots
    hours, others = tile.has_hours, tile.free_slots
    person, apart, manager = seniors.rules
    persons, aparts, managers = tile.rules
    excluded_from, excluded_juniors = excluded
    for c in range(width):
        least[c] = _score_of(junior_heaps[c, 0])
    for group in groups:
        _fill_open_shares(seniors.coverage[group], tile.wishes, open_)
        for n in range(min(SENIORS_PER_GROUP, len(seniors.has_hours) - group * SENIORS_PER_GROUP)):
            r = group * SENIORS_PER_GROUP + n
            _fill_row(row, r, open_[n], seniors, tile, terms, senior_offsets[r], junior_offsets)
            lowest = _score_of(senior_heaps[r, 0])
            full = tile.ease[seniors.ease[r]]
            for k in range(_select_good(scores, lowest, least, good)):
                c = good[k]
                if scores[c] < min(lowest, least[c]):  # better pairs have come since the selection
                    continue
                if manager[r] == managers[c] or _is_named(person[r], apart[r], persons[c], aparts[c]):
                    continue
                if _contains(first + c, excluded_juniors, excluded_from[r], excluded_from[r + 1]):
                    continue
                both_known = has_hours[r] and hours[c]
                slots = _common_slots(free_slots, r, others, c) if both_known else 0
                minutes = slots * terms.grid_minutes if both_known else terms.ample_minutes
                score = _exact_score(scores[c], similarity[c], full[c], minutes, terms)
                if score > _ZERO:
                    _push(senior_heaps, r, _key(score, first + c, r))
                    _push(junior_heaps, c, _key(score, r, first + c))
                    lowest, least[c] = _score_of(senior_heaps[r, 0]), _score_of(junior_heaps[c, 0])


@jit_kernel
def _select_good(score: Float32s, lowest: np.float32, least: Float32s, good: Int64s) -> int:
    """The number of pairs whose score suffices for either side; their positions come first in ``good``."""
    count = 0
    for c in range(len(score)):
        good[count] = c
        count += score[c] >= min(lowest, least[c])
    return count


@jit_kernel
def merge_heaps(heaps: Int64s, others: Int64s) -> None:
    """Put all keys of ``others`` (people, size) into the heaps of the same people."""
    for person in range(len(heaps)):
        for key in others[person]:
            _push(heaps, person, key)


def decode_partners(keys: Int64s, owners: Int64s) -> Int64s:
    """(keys): the partner in each key of the owner's heap."""
    odd = _odd_multiplier(owners).astype(np.uint64)
    inverse = odd  # correct modulo 8; each step of Newton's method doubles the correct digits
    for _ in range(4):
        inverse = inverse * (np.uint64(2) - odd * inverse)
    return (keys.astype(np.uint64) * inverse & np.uint64(_LOW_32_BITS)).astype(np.int64) - 1


@jit_kernel
def _new_group_table(width: int) -> Float32s:
    return np.empty((SENIORS_PER_GROUP, width), dtype=np.float32)


@jit_kernel
def _new_row(width: int) -> _ScoreRow:
    return _ScoreRow(np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32))


@jit_kernel
def _fill_open_shares(coverage: Float32s, wishes: WishLists, open_: Float32s) -> None:
    """``open_`` (SENIORS_PER_GROUP, juniors): the share of each junior's wishes that each senior leaves unmet.

    ``coverage`` (topics, SENIORS_PER_GROUP): how the seniors of the group cover a wish.
    """
    width = open_.shape[1]
    block_open = np.empty((_JUNIORS_PER_BLOCK, SENIORS_PER_GROUP), dtype=np.float32)
    for start in range(0, width, _JUNIORS_PER_BLOCK):
        block = min(_JUNIORS_PER_BLOCK, width - start)
        for n in range(block):
            left = block_open[n]
            left[:] = _UNIT
            for k in range(wishes.first[start + n], wishes.first[start + n + 1]):
                covers, worth = coverage[wishes.topics[k]], wishes.worths[k]
                for i in range(SENIORS_PER_GROUP):
                    left[i] *= _UNIT - worth * covers[i]
        for i in range(SENIORS_PER_GROUP):
            for n in range(block):
                open_[i, start + n] = block_open[n, i]


@jit_kernel
def _fill_row(
    row: _ScoreRow,
    r: int,
    theirs: Float32s,
    seniors: SeniorTables,
    tile: JuniorTile,
    terms: ScoreTerms,
    senior_offset: np.float32,
    junior_offsets: Float32s,
) -> None:
    """The scores of senior ``r`` with all juniors of the tile, as if all had ample common time.

    ``theirs`` (juniors): the unmet share of each junior's wishes.
    """
    width = len(theirs)
    mine, similarity, score, shares = row.open, row.similarity, row.score, tile.style_shares
    mine[:] = _UNIT
    for k in range(seniors.wishes.first[r], seniors.wishes.first[r + 1]):
        covers, worth = tile.coverage[seniors.wishes.topics[k]], seniors.wishes.worths[k]
        for c in range(width):
            mine[c] *= _UNIT - worth * covers[c]
    similarity[:] = _ZERO
    _add_rows(tile.styles, seniors.styles[r], similarity)
    for c in range(width):
        score[c] = terms.benefits - senior_offset - junior_offsets[c]
    _add_rows(tile.positions, seniors.positions[r], score)
    ease = tile.ease[seniors.ease[r]]
    for c in range(width):
        greater = max(mine[c], theirs[c])
        similarity[c] = shares[np.int64(similarity[c] * terms.style_steps)]
        score[c] += terms.compatibility * similarity[c] * ease[c]
        score[c] -= terms.higher * (mine[c] + theirs[c]) + terms.excess * greater
        score[c] -= _BELOW_FLOOR_PENALTY * max(_ZERO, greater - terms.max_open)


@jit_kernel
def _add_rows(table: Float32s, rows: Codes, total: Float32s) -> None:
    for n in rows:
        row = table[n]
        for c in range(len(total)):
            total[c] += row[c]


@jit_kernel
def _exact_score(
    score: np.float32, similarity: np.float32, full: np.float32, minutes: np.int64 | int, terms: ScoreTerms
) -> np.float32:
    """The score with the real common time; 0 if that time or the compatibility is too small."""
    if minutes < terms.min_minutes:
        return _ZERO
    ease = full - terms.time_weight * np.float32(1 - min(1.0, minutes / terms.ample_minutes))
    if similarity * ease < terms.min_compatibility:
        return _ZERO
    return score - terms.compatibility * similarity * (full - ease)


@jit_kernel
def _is_named(senior: np.int32, by_senior: Codes, junior: np.int32, by_junior: Codes) -> bool:
    """Whether the two are the same person, or either names the other."""
    is_named: bool = senior == junior
    for name in by_senior:
        is_named |= name == junior
    for name in by_junior:
        is_named |= name == senior
    return is_named


@jit_kernel
def _contains(person: int, people: Int64s, begin: int, end: int) -> bool:
    contains = False
    for n in range(begin, end):
        contains |= people[n] == person
    return contains


@jit_kernel
def _common_slots(mine: Bits, r: int, theirs: Bits, c: int) -> np.int64:
    """The number of common bits: summed in pairs, in fours, in eights, then into the top byte (Warren 2012,
    5-1)."""
    count = np.uint64(0)
    for n in range(mine.shape[1]):
        bits = mine[r, n] & theirs[c, n]
        bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
        bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
        bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        count += (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return np.int64(count)


@jit_kernel
def _key(score: np.float32, partner: int, owner: int) -> np.int64:
    return (np.int64(score * _SCORE_STEPS) << 32) | ((partner + 1) * _odd_multiplier(owner) & _LOW_32_BITS)


@jit_kernel
def _odd_multiplier(owner: IntOrArray) -> IntOrArray:
    return (owner + 1) * _KNUTH_MULTIPLIER & _LOW_32_BITS | 1


@jit_kernel
def _score_of(key: np.int64) -> np.float32:
    return np.float32(key >> 32) / _SCORE_STEPS


@jit_kernel
def _push(heaps: Int64s, person: int, key: np.int64) -> None:
    """Replace the least key of this person's heap by ``key``, if that is greater. O(log size)."""
    if key <= heaps[person, 0]:
        return
    node, size = 0, heaps.shape[1]
    while 2 * node + 1 < size:
        child = 2 * node + 1
        if child + 1 < size and heaps[person, child + 1] < heaps[person, child]:
            child += 1
        if heaps[person, child] >= key:
            break
        heaps[person, node] = heaps[person, child]
        node = child
    heaps[person, node] = key
