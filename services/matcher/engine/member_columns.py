"""Members as columns of numbers, so that one member can be compared with a hundred thousand at once.

A ``Vocabulary`` gives every topic, language, attribute value and person a code that never changes. ``MemberColumns``
hold the members of one side, a row each, and any row can be replaced at any time::

    vocabulary = Vocabulary(settings, taxonomy, on)
    seniors, juniors = MemberColumns(vocabulary, all_seniors), MemberColumns(vocabulary, all_juniors)
    row = juniors.add(newcomer)  # also: juniors.write([member]), juniors.remove(row)
    PairwiseFit(seniors, juniors, settings).evaluate(np.array([3]), np.arange(juniors.rows))  # one against all

All columns that are compared share one vocabulary. It depends on the programme's settings for benefit, and on the day
(because of daylight saving time): when either changes, build new columns. Columns hold codes and never names of people.
"""

from collections.abc import Hashable, Iterable, Sequence
from datetime import date
from math import gcd
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from contracts.profiles import Depth, ProfileChanged
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.calendar import DAY_MINUTES, WEEK_MINUTES, get_utc_offset, get_window_length
from services.matcher.domain.fit.hard_rules import Member, get_spoken_languages
from services.matcher.domain.fit.score import POSITION_FIELDS, STYLE_DIMENSIONS, get_depth_share, get_priority_worth
from services.matcher.engine.arrays import Bits, Bools, Codes, Float32s, Int64s

NO_CODE = -1  # stands for an unknown person or attribute value
PRIORITIES = 3  # priorities of a wish, from 1
WORD_BITS = 64
REPORTING_LINE_DEPTH = 3  # managers above a member that a profile names
_UNPACK_BATCH_SLOTS = 64_000_000  # weekly slots that are unpacked at once, a byte each

Cell = TypeVar("Cell", bound=np.generic)
Key = TypeVar("Key", bound=Hashable)


class Interner(dict[Key, int]):
    """``interner[key]`` is the code of the key; a new key gets the next code, from 0 upwards."""

    def __missing__(self, key: Key) -> int:
        self[key] = code = len(self)
        return code


class Vocabulary:
    """A code for every value that is compared, in the order in which the values were first met."""

    def __init__(self, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date) -> None:
        self.on = on
        self.benefit_settings = settings.matching.benefit
        self.people = Interner[str]()
        self.organisations = Interner[str]()
        self.languages = Interner[str]()
        self.attributes = tuple(Interner[str]() for _ in POSITION_FIELDS)
        self.topics = Interner[str]((topic, n) for n, topic in enumerate(sorted(taxonomy.by_id)))
        self.grid_minutes = WEEK_MINUTES
        """Length of a weekly slot: every start and end of free time so far is a multiple of it."""
        self._taxonomy = taxonomy

    def wish_worth(self, priority_number: int) -> float:
        """The share of the remaining benefit that a fully covered wish of this priority gives."""
        wishes = self.benefit_settings.wishes
        return self.benefit_settings.first_wish * get_priority_worth(priority_number, wishes)

    def covered_topics(self, topic: str) -> tuple[list[int], list[float]]:
        """The topics that an offer of this topic helps with, by code, and how much, from 0 to 1.

        An unknown topic helps with itself alone.
        """
        near = self._taxonomy.near.get(topic, {topic: 1.0})
        return [self.topics[other] for other in near], list(near.values())

    def refine_grid(self, minutes: Iterable[int]) -> None:
        """Shorten the weekly slots until these times are multiples of a slot."""
        self.grid_minutes = gcd(self.grid_minutes, *minutes)


class GrowingTable(Generic[Cell]):
    """A matrix (height, rows) that grows in both directions; cells that were never written hold ``empty``."""

    def __init__(self, height: int, dtype: type[Cell], empty: float) -> None:
        self._empty = empty
        self._dtype = dtype
        self._buffer: npt.NDArray[Cell] = np.full((height, 0), empty, dtype=dtype)
        self._rows = 0

    @property
    def cells(self) -> npt.NDArray[Cell]:
        """(height, rows): a view of the buffer."""
        return self._buffer[:, : self._rows]

    @property
    def line(self) -> npt.NDArray[Cell]:
        """(rows): a view of the only line of a table of height 1."""
        line: npt.NDArray[Cell] = self._buffer[0, : self._rows]
        return line

    def grow(self, height: int, rows: int) -> None:
        """Make the table at least so high and so long; it never shrinks."""
        old_height, capacity = self._buffer.shape
        if height > old_height or rows > capacity:
            capacity = rows if capacity == 0 else max(capacity, rows if rows <= capacity else rows + rows // 4)
            larger = np.full((max(height, old_height), capacity), self._empty, dtype=self._dtype)
            larger[:old_height, : self._rows] = self.cells
            self._buffer = larger
        self._rows = max(self._rows, rows)

    def write(self, rows: Int64s, cells: npt.NDArray[Cell]) -> None:
        """Replace these rows. ``cells`` (any height, rows); cells above that height are emptied."""
        self.grow(cells.shape[0], self._rows)
        self._buffer[: cells.shape[0], rows] = cells
        self._buffer[cells.shape[0] :, rows] = self._empty

    def reset(self, cells: npt.NDArray[Cell]) -> None:
        """Replace the cells of all rows, with another height."""
        self._buffer = cells


class MemberColumns:
    """Members of one side, a row each. A row without a member matches nobody.

    ``wish_topics`` and ``wish_worths`` (slots, rows): the topic of each wish, and the share of the remaining benefit
    that full coverage gives, 0 where the slot is empty. ``topic_coverage`` (topics, rows): how much of a wish for each
    topic the member's best offer covers. ``free_slots`` (words, rows): a bit for each slot of the week. NaN and
    ``NO_CODE`` stand for unknown.

    Another side may refine the grid of the shared vocabulary or add topics to it. ``align`` then adapts the tables.
    """

    def __init__(self, vocabulary: Vocabulary, members: Sequence[Member] = ()) -> None:
        self.vocabulary = vocabulary
        self.row_of: dict[str, int] = {}
        self._ids: list[str | None] = []
        self._free_rows: list[int] = []
        self._grid_minutes = vocabulary.grid_minutes
        self._person = GrowingTable(1, np.int32, NO_CODE)
        self._level = GrowingTable(1, np.float32, np.nan)
        self._experience = GrowingTable(1, np.float32, np.nan)
        self._organisation = GrowingTable(1, np.int32, NO_CODE)
        self._has_acknowledged = GrowingTable(1, np.bool_, False)
        self._has_languages = GrowingTable(1, np.bool_, False)
        self._has_hours = GrowingTable(1, np.bool_, False)
        self._languages = GrowingTable(1, np.uint64, 0)
        self._free_slots = GrowingTable(_words_for(WEEK_MINUTES // vocabulary.grid_minutes), np.uint64, 0)
        self._style = GrowingTable(len(STYLE_DIMENSIONS), np.float32, np.nan)
        self._attributes = GrowingTable(len(POSITION_FIELDS), np.int32, NO_CODE)
        self._reporting_line = GrowingTable(REPORTING_LINE_DEPTH, np.int32, NO_CODE)
        self._evaluators = GrowingTable(0, np.int32, NO_CODE)
        self._avoided = GrowingTable(0, np.int32, NO_CODE)
        self._wish_topics = GrowingTable(1, np.int32, 0)
        self._wish_worths = GrowingTable(1, np.float32, 0)
        self._topic_coverage = GrowingTable(len(vocabulary.topics), np.float32, 0)
        self.extend(members)

    def __len__(self) -> int:
        """The number of members."""
        return len(self.row_of)

    @property
    def rows(self) -> int:
        """The number of rows, rows without a member included."""
        return len(self._ids)

    def id_of(self, row: int) -> str | None:
        return self._ids[row]

    @property
    def person(self) -> Codes:
        return self._person.line

    @property
    def level(self) -> Float32s:
        return self._level.line

    @property
    def experience(self) -> Float32s:
        return self._experience.line

    @property
    def organisation(self) -> Codes:
        return self._organisation.line

    @property
    def has_acknowledged(self) -> Bools:
        return self._has_acknowledged.line

    @property
    def has_languages(self) -> Bools:
        return self._has_languages.line

    @property
    def has_hours(self) -> Bools:
        return self._has_hours.line

    @property
    def languages(self) -> Bits:
        return self._languages.cells

    @property
    def free_slots(self) -> Bits:
        return self._free_slots.cells

    @property
    def style(self) -> Float32s:
        return self._style.cells

    @property
    def attributes(self) -> Codes:
        return self._attributes.cells

    @property
    def reporting_line(self) -> Codes:
        return self._reporting_line.cells

    @property
    def evaluators(self) -> Codes:
        return self._evaluators.cells

    @property
    def avoided(self) -> Codes:
        return self._avoided.cells

    @property
    def wish_topics(self) -> Codes:
        return self._wish_topics.cells

    @property
    def wish_worths(self) -> Float32s:
        return self._wish_worths.cells

    @property
    def topic_coverage(self) -> Float32s:
        return self._topic_coverage.cells

    def align(self) -> None:
        """Adapt the tables to the vocabulary: to its grid, and to topics that the taxonomy does not know."""
        if self._grid_minutes != self.vocabulary.grid_minutes:
            self._regrid()
        self._topic_coverage.grow(len(self.vocabulary.topics), self.rows)

    def add(self, member: Member) -> int:
        """Add one member and return the row. Raises ``ValueError`` if the member has a row."""
        return int(self.extend([member])[0])

    def extend(self, members: Sequence[Member]) -> Int64s:
        """Add members and return their rows. Raises ``ValueError``, and changes nothing, if one of them has a row."""
        if len({m.id for m in members}) != len(members) or any(m.id in self.row_of for m in members):
            raise ValueError("a member has a row already")
        return self.write(members)

    def write(self, members: Sequence[Member]) -> Int64s:
        """Insert or replace the rows of these distinct members, and return the rows.

        Writing many members at once costs a tenth of writing them one by one.
        """
        rows = np.array([self.allocate_row(member.id) for member in members], dtype=np.int64)
        if members:
            self._grow()
            self._write(rows, members)
        return rows

    def allocate_row(self, id: str) -> int:
        """The row of the member, existing or new. A new row must be written before it is compared."""
        if id not in self.row_of:
            if not self._free_rows:
                self._free_rows.append(self.rows)
                self._ids.append(None)
            row = self._free_rows.pop()
            self._ids[row] = id
            self.row_of[id] = row
        return self.row_of[id]

    def remove(self, row: int) -> None:
        """Empty the row; the next new member gets it. Raises ``ValueError`` if the row has no member."""
        id = self._ids[row]
        if id is None:
            raise ValueError("the row has no member")
        self._grow()
        del self.row_of[id]
        self._ids[row] = None
        self._free_rows.append(row)
        for table in self._tables():
            table.write(np.array([row]), np.empty((0, 1), dtype=table.cells.dtype))

    def _grow(self) -> None:
        for table in self._tables():
            table.grow(0, self.rows)

    def _tables(
        self,
    ) -> tuple[
        GrowingTable[np.bool_] | GrowingTable[np.int32] | GrowingTable[np.float32] | GrowingTable[np.uint64], ...
    ]:
        return (
            self._person, self._level, self._experience, self._organisation, self._has_acknowledged,
            self._has_languages, self._has_hours, self._languages, self._free_slots, self._style, self._attributes,
            self._reporting_line, self._evaluators, self._avoided, self._wish_topics, self._wish_worths,
            self._topic_coverage,
        )  # fmt: skip

    def _write(self, rows: Int64s, members: Sequence[Member]) -> None:
        profiles = [member.profile for member in members]
        vocabulary = self.vocabulary
        self._person.write(rows, _as_row([vocabulary.people[p.member_id] for p in profiles]))
        self._level.write(rows, _as_floats([[p.level for p in profiles]]))
        self._experience.write(rows, _as_floats([[p.experience_band for p in profiles]]))
        self._organisation.write(rows, _as_row([vocabulary.organisations[p.organisation_id] for p in profiles]))
        acknowledged = [member.enrolment.confidentiality_acknowledged for member in members]
        self._has_acknowledged.write(rows, np.array([acknowledged], dtype=np.bool_))
        styles = [p.style for p in profiles]
        answers = np.array([[getattr(style, d) for style in styles] for d in STYLE_DIMENSIONS], dtype=np.float64)
        self._style.write(
            rows, (np.floor(2 * answers + 0.5) / 2).astype(np.float32)
        )  # halves, as ``round_answer`` says
        self._write_attributes(rows, profiles)
        self._reporting_line.write(rows, _as_code_lists([p.line for p in profiles], vocabulary.people))
        self._evaluators.write(rows, _as_code_lists([p.evaluators for p in profiles], vocabulary.people))
        self._avoided.write(rows, _as_code_lists([p.avoid for p in profiles], vocabulary.people))
        self._write_languages(rows, profiles)
        self._write_hours(rows, profiles)
        self._write_wishes(rows, profiles)
        self._write_offers(rows, profiles)

    def _write_attributes(self, rows: Int64s, profiles: Sequence[ProfileChanged]) -> None:
        values: list[list[str | None]] = [
            [p.department_id for p in profiles],
            [p.site_id for p in profiles],
            [p.discipline_id for p in profiles],
        ]
        codes = [
            [NO_CODE if value is None else interner[value] for value in line]
            for interner, line in zip(self.vocabulary.attributes, values, strict=True)
        ]
        self._attributes.write(rows, np.array(codes, dtype=np.int32))

    def _write_languages(self, rows: Int64s, profiles: Sequence[ProfileChanged]) -> None:
        codes, masks, mask_of = self.vocabulary.languages, list[int](), dict[tuple[str, ...], int]()
        for profile in profiles:
            mask = mask_of.get(profile.languages)
            if mask is None:
                languages = sorted(get_spoken_languages(profile))  # a set has another order in another process
                mask_of[profile.languages] = mask = sum(1 << codes[language] for language in languages)
            masks.append(mask)
        words = max(1, _words_for(len(codes)))
        cut = [[mask >> (WORD_BITS * word) & (2**WORD_BITS - 1) for mask in masks] for word in range(words)]
        self._languages.write(rows, np.array(cut, dtype=np.uint64))
        self._has_languages.write(rows, np.array([[mask > 0 for mask in masks]], dtype=np.bool_))

    def _write_hours(self, rows: Int64s, profiles: Sequence[ProfileChanged]) -> None:
        has_hours = np.zeros((1, len(rows)), dtype=np.bool_)
        windows = Interner[tuple[int, int]]()  # (first minute of the week, length in minutes)
        owners, codes = list[int](), list[int]()
        for n, profile in enumerate(profiles):
            availability = profile.availability
            if availability.kind != "weekly" or not availability.windows or profile.time_zone is None:
                continue
            offset = get_utc_offset(profile.time_zone, self.vocabulary.on)
            if offset is None:
                continue
            has_hours[0, n] = True
            own = [
                windows[
                    (window.weekday * DAY_MINUTES + window.start - offset) % WEEK_MINUTES, get_window_length(window)
                ]
                for window in availability.windows
                if get_window_length(window)
            ]
            codes += own
            owners += [n] * len(own)
        self._has_hours.write(rows, has_hours)
        self.vocabulary.refine_grid(minutes for window in windows for minutes in window)
        if self._grid_minutes != self.vocabulary.grid_minutes:
            self._regrid()
        owner_rows, window_codes = np.array(owners, np.int64), np.array(codes, np.int64)
        self._free_slots.write(rows, _pack_windows(owner_rows, window_codes, windows, len(rows), self._grid_minutes))

    def _regrid(self) -> None:
        """Split every weekly slot of all members into slots of the finer grid."""
        parts, slots = self._grid_minutes // self.vocabulary.grid_minutes, WEEK_MINUTES // self.vocabulary.grid_minutes
        old = self._free_slots.cells
        new = np.zeros((_words_for(slots), old.shape[1]), dtype=np.uint64)
        batch = max(1, _UNPACK_BATCH_SLOTS // slots)
        for start in range(0, old.shape[1], batch):
            packed = np.ascontiguousarray(old[:, start : start + batch].T).view(np.uint8)
            unpacked = np.unpackbits(packed, axis=1, bitorder="little")[:, : WEEK_MINUTES // self._grid_minutes]
            new[:, start : start + batch] = _pack_slots(np.repeat(unpacked, parts, axis=1))
        self._free_slots.reset(new)
        self._grid_minutes = self.vocabulary.grid_minutes

    def _write_wishes(self, rows: Int64s, profiles: Sequence[ProfileChanged]) -> None:
        topics = self.vocabulary.topics
        owner = np.repeat(np.arange(len(rows)), [len(profile.seeks) for profile in profiles])
        codes = [topics[seek.topic] * PRIORITIES + seek.priority - 1 for profile in profiles for seek in profile.seeks]
        wish = np.array(codes, dtype=np.int64)
        order = np.lexsort((wish, owner))  # the strongest wish for a topic comes last
        owner, wish = owner[order], wish[order]
        last = np.ones(len(order), dtype=np.bool_)
        last[:-1] = (owner[1:] != owner[:-1]) | (wish[1:] // PRIORITIES != wish[:-1] // PRIORITIES)
        owner, wish = owner[last], wish[last]
        slot = _rank_within_owner(owner)
        height = int(slot.max(initial=0)) + 1
        topic, worth = np.zeros((height, len(rows)), np.int32), np.zeros((height, len(rows)), np.float32)
        topic[slot, owner] = wish // PRIORITIES
        worths = np.array([self.vocabulary.wish_worth(n + 1) for n in range(PRIORITIES)])
        worth[slot, owner] = worths[wish % PRIORITIES]
        self._wish_topics.write(rows, topic)
        self._wish_worths.write(rows, worth)

    def _write_offers(self, rows: Int64s, profiles: Sequence[ProfileChanged]) -> None:
        kinds = Interner[tuple[str, Depth]]()
        codes = [kinds[offer.topic, offer.level] for profile in profiles for offer in profile.offers]
        owner = np.repeat(np.arange(len(rows)), [len(profile.offers) for profile in profiles])
        slot = _rank_within_owner(owner)
        offers = np.full((int(slot.max(initial=-1)) + 1, len(rows)), len(kinds))  # the last kind covers nothing
        offers[slot, owner] = codes
        covered = [self.vocabulary.covered_topics(topic) for topic, _ in kinds]
        coverage_of_kind = np.zeros((len(kinds) + 1, len(self.vocabulary.topics)), dtype=np.float32)
        for kind, ((_, level), (topics, shares)) in enumerate(zip(kinds, covered, strict=True)):
            factor = get_depth_share(level, self.vocabulary.benefit_settings.depths)
            coverage_of_kind[kind, topics] = np.array(shares, dtype=np.float32) * factor
        coverage = np.zeros((len(rows), len(self.vocabulary.topics)), dtype=np.float32)
        for kind_of in offers:
            np.maximum(coverage, coverage_of_kind[kind_of], out=coverage)
        self._topic_coverage.write(rows, coverage.T)


def _rank_within_owner(owner: Int64s) -> Int64s:
    """The position of each element among those of its owner, from 0; ``owner`` is sorted."""
    return np.arange(len(owner)) - np.searchsorted(owner, owner)


def _as_row(values: Sequence[int]) -> Codes:
    return np.array([values], dtype=np.int32)


def _as_floats(rows: Sequence[Sequence[float | None]]) -> Float32s:
    return np.array(rows, dtype=np.float32)  # None becomes NaN


def _as_code_lists(lists: Sequence[Sequence[str]], people: Interner[str]) -> Codes:
    """(longest list, members): the codes of the people whom each list names."""
    height = max(map(len, lists))
    result = np.full((height, len(lists)), NO_CODE, dtype=np.int32)
    for member, names in enumerate(lists):
        for n, name in enumerate(names):
            result[n, member] = people[name]
    return result


def _words_for(bits: int) -> int:
    return -(-bits // WORD_BITS)


def _pack_windows(
    owners: Int64s, codes: Int64s, windows: Iterable[tuple[int, int]], members: int, grid_minutes: int
) -> Bits:
    """(words, members): a bit for each slot of the week that one of the member's windows covers.

    ``owners`` (sorted) and ``codes``: the member and the window code of each window. ``windows``: the first minute of
    the week and the length in minutes of each code.
    """
    slots = WEEK_MINUTES // grid_minutes
    result = np.zeros((_words_for(slots), members), dtype=np.uint64)
    if len(owners):
        covered = np.zeros((1 + int(codes.max()), slots), dtype=np.uint8)
        for code, (start, length) in enumerate(windows):
            covered[code, np.arange(start // grid_minutes, (start + length) // grid_minutes) % slots] = 1
        masks = _pack_slots(covered)
        first = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
        result[:, owners[first]] = np.bitwise_or.reduceat(masks[:, codes], first, axis=1)
    return result


def _pack_slots(slots: npt.NDArray[np.uint8]) -> Bits:
    """From one byte a slot (members, slots) to one bit a slot (words, members)."""
    width = _words_for(slots.shape[1]) * WORD_BITS
    padded = np.zeros((slots.shape[0], width), dtype=np.uint8)
    padded[:, : slots.shape[1]] = slots
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64).T
