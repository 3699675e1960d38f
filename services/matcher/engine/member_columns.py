"""Members as columns of numbers, so that one can be compared with a hundred thousand at once.

``Words`` gives every topic, language, place and person a number that never changes; ``Columns`` keep the members of one
side, a row each, and any row can be replaced at any time::

    words = Words(settings, taxonomy, on)
    seniors, juniors = Columns(words, all_seniors), Columns(words, all_juniors)
    row = juniors.add(newcomer)  # also: juniors.write([member]), juniors.remove(row)
    Comparison(seniors, juniors, settings).at(np.array([3]), np.arange(juniors.rows))  # of ``pairs``: one against all

All columns that are compared stand on the same words. Words depend on the programme's marks for benefit and on the day
(for where the clocks stand): when either changes, begin anew. Numbers and never names are kept of people.
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
from services.matcher.domain.fit.calendar import WEEK_MINUTES, get_utc_offset
from services.matcher.domain.fit.rules import Member, get_spoken_languages
from services.matcher.domain.fit.score import POSITION_FIELDS, STYLE_DIMENSIONS, get_depth_share, get_priority_worth

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Bits = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

NO_CODE = -1  # where a number of a person or a place would stand
PRIORITIES = 3
WORD = 64
_UNPACKED = 64_000_000  # slots of free time that are unpacked together, a byte each

Cell = TypeVar("Cell", bound=np.generic)


Key = TypeVar("Key", bound=Hashable)


class Interner(dict[Key, int]):
    """``numbers[word]`` is the word's number; a new word gets the next one."""

    def __missing__(self, word: Key) -> int:
        self[word] = found = len(self)
        return found


class Vocabulary:
    """A number for whatever is compared, from 0 upwards in the order in which it was first met."""

    def __init__(self, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date) -> None:
        self.on = on
        self.benefit_settings = settings.matching.benefit
        self.people = Interner[str]()
        self.organisations = Interner[str]()
        self.languages = Interner[str]()
        self.attributes = tuple(Interner[str]() for _ in POSITION_FIELDS)
        self.topics = Interner[str]((topic, n) for n, topic in enumerate(sorted(taxonomy.by_id)))
        self.grid_minutes = WEEK_MINUTES
        """Minutes of a slot of the week: every beginning and end of free time so far is a multiple of it."""
        self._taxonomy = taxonomy

    def wish_worth(self, number: int) -> float:
        """What a covered wish of this priority takes of what is left."""
        return self.benefit_settings.first_wish * get_priority_worth(number, self.benefit_settings.wishes)

    def covered_topics(self, topic: str) -> tuple[list[int], list[float]]:
        """The topics that an offer of this one helps with, by number, and how much."""
        near = self._taxonomy.near.get(topic, {topic: 1.0})  # an unknown topic helps with itself alone
        return [self.topics[other] for other in near], list(near.values())

    def refine_grid(self, minutes: Iterable[int]) -> None:
        """Make the slots of the week as fine as these minutes need."""
        self.grid_minutes = gcd(self.grid_minutes, *minutes)


class Table(Generic[Cell]):
    """A matrix (height, rows) that grows both ways; what nobody has written holds ``empty``."""

    def __init__(self, height: int, kind: type[Cell], empty: float) -> None:
        self._empty = empty
        self._kind = kind
        self._all: npt.NDArray[Cell] = np.full((height, 0), empty, dtype=kind)
        self._rows = 0

    @property
    def cells(self) -> npt.NDArray[Cell]:
        return self._all[:, : self._rows]

    @property
    def first(self) -> npt.NDArray[Cell]:
        """The only line of a table of height 1."""
        line: npt.NDArray[Cell] = self._all[0, : self._rows]
        return line

    def grow(self, height: int, rows: int) -> None:
        """At least so high, exactly so many rows; never smaller than before."""
        had, room = self._all.shape
        if height > had or rows > room:
            room = rows if room == 0 else max(room, rows if rows <= room else rows + rows // 4)
            larger = np.full((max(height, had), room), self._empty, dtype=self._kind)
            larger[:had, : self._rows] = self.cells
            self._all = larger
        self._rows = max(self._rows, rows)

    def write(self, rows: Ints, cells: npt.NDArray[Cell]) -> None:
        """Replace these rows; ``cells`` (any height, rows), the rest of the height is emptied."""
        self.grow(cells.shape[0], self._rows)
        self._all[: cells.shape[0], rows] = cells
        self._all[cells.shape[0] :, rows] = self._empty

    def reset(self, cells: npt.NDArray[Cell]) -> None:
        """Other cells for all rows, of another height."""
        self._all = cells


class MemberColumns:
    """Members of one side, a row each; a row that holds nobody matches nobody.

    ``wishes`` and ``worth`` (slots, rows): each wish's topic, and what a full cover takes of what is left, 0 where the
    slot is free. ``covers`` (topics, rows): how much of a wish for each topic the member's best offer covers. ``free``
    (words, rows): a bit for each slot of the week. NaN and ``NOBODY`` stand for unknown.
    """

    def __init__(self, vocabulary: Vocabulary, members: Sequence[Member] = ()) -> None:
        self.words = vocabulary
        self.row_of: dict[str, int] = {}
        self._ids: list[str | None] = []
        self._holes: list[int] = []
        self._grid = vocabulary.grid_minutes
        self._person = Table(1, np.int32, NO_CODE)
        self._level = Table(1, np.float32, np.nan)
        self._experience = Table(1, np.float32, np.nan)
        self._organisation = Table(1, np.int32, NO_CODE)
        self._acknowledged = Table(1, np.bool_, False)
        self._speaks = Table(1, np.bool_, False)
        self._hours = Table(1, np.bool_, False)
        self._languages = Table(1, np.uint64, 0)
        self._free = Table(-(-(WEEK_MINUTES // vocabulary.grid_minutes) // WORD), np.uint64, 0)
        self._style = Table(len(STYLE_DIMENSIONS), np.float32, np.nan)
        self._places = Table(len(POSITION_FIELDS), np.int32, NO_CODE)
        self._line = Table(3, np.int32, NO_CODE)
        self._evaluators = Table(0, np.int32, NO_CODE)
        self._avoid = Table(0, np.int32, NO_CODE)
        self._wishes = Table(1, np.int32, 0)
        self._worth = Table(1, np.float32, 0)
        self._covers = Table(len(vocabulary.topics), np.float32, 0)
        self.extend(members)

    def __len__(self) -> int:
        """How many members there are."""
        return len(self.row_of)

    @property
    def rows(self) -> int:
        """How many rows, with those that hold nobody any longer."""
        return len(self._ids)

    def id_of(self, row: int) -> str | None:
        return self._ids[row]

    @property
    def person(self) -> Codes:
        return self._person.first

    @property
    def level(self) -> Floats:
        return self._level.first

    @property
    def experience(self) -> Floats:
        return self._experience.first

    @property
    def organisation(self) -> Codes:
        return self._organisation.first

    @property
    def has_acknowledged(self) -> Bools:
        return self._acknowledged.first

    @property
    def has_languages(self) -> Bools:
        return self._speaks.first

    @property
    def has_hours(self) -> Bools:
        return self._hours.first

    @property
    def languages(self) -> Bits:
        return self._languages.cells

    @property
    def free_slots(self) -> Bits:
        if self._grid != self.words.grid_minutes:
            self._regrid()
        return self._free.cells

    @property
    def style(self) -> Floats:
        return self._style.cells

    @property
    def attributes(self) -> Codes:
        return self._places.cells

    @property
    def reporting_line(self) -> Codes:
        return self._line.cells

    @property
    def evaluators(self) -> Codes:
        return self._evaluators.cells

    @property
    def avoided(self) -> Codes:
        return self._avoid.cells

    @property
    def wish_topics(self) -> Codes:
        return self._wishes.cells

    @property
    def wish_worths(self) -> Floats:
        return self._worth.cells

    @property
    def topic_coverage(self) -> Floats:
        """Grows when a topic is met that the taxonomy does not know, on whichever side."""
        self._covers.grow(len(self.words.topics), self.rows)
        return self._covers.cells

    def add(self, member: Member) -> int:
        """The row that the member got. Raises ``ValueError`` where they have one."""
        return int(self.extend([member])[0])

    def extend(self, members: Sequence[Member]) -> Ints:
        """The rows that these members got. Raises ``ValueError`` where one of them has a row, and changes nothing."""
        if len({m.id for m in members}) != len(members) or any(m.id in self.row_of for m in members):
            raise ValueError("a member has a row already")
        return self.write(members)

    def write(self, members: Sequence[Member]) -> Ints:
        """The rows of these members, which hold from now on what is known of them; each member comes once.

        Many together cost a tenth of what they do one by one.
        """
        rows = np.array([self.allocate_row(member.id) for member in members], dtype=np.int64)
        if members:
            self._grow()
            self._write(rows, members)
        return rows

    def allocate_row(self, id: str) -> int:
        """The row that somebody has, or gets; a new one is to be compared with nobody before it is written."""
        if id not in self.row_of:
            if not self._holes:
                self._holes.append(self.rows)
                self._ids.append(None)
            row = self._holes.pop()
            self._ids[row] = id
            self.row_of[id] = row
        return self.row_of[id]

    def remove(self, row: int) -> None:
        """The row holds nobody from now on; its place is given to the next who comes."""
        id = self._ids[row]
        if id is None:
            raise ValueError("the row holds nobody")
        self._grow()
        del self.row_of[id]
        self._ids[row] = None
        self._holes.append(row)
        for table in self._tables():
            table.write(np.array([row]), np.empty((0, 1), dtype=table.cells.dtype))

    def _grow(self) -> None:
        for table in self._tables():
            table.grow(0, self.rows)

    def _tables(self) -> tuple[Table[np.bool_] | Table[np.int32] | Table[np.float32] | Table[np.uint64], ...]:
        return (
            self._person, self._level, self._experience, self._organisation, self._acknowledged,
            self._speaks, self._hours, self._languages, self._free, self._style, self._places, self._line,
            self._evaluators, self._avoid, self._wishes, self._worth, self._covers,
        )  # fmt: skip

    def _write(self, rows: Ints, members: Sequence[Member]) -> None:
        profiles = [member.profile for member in members]
        words = self.words
        self._person.write(rows, _row([words.people[p.member_id] for p in profiles]))
        self._level.write(rows, _floats([[p.level for p in profiles]]))
        self._experience.write(rows, _floats([[p.experience_band for p in profiles]]))
        self._organisation.write(rows, _row([words.organisations[p.organisation_id] for p in profiles]))
        acknowledged = [member.enrolment.confidentiality_acknowledged for member in members]
        self._acknowledged.write(rows, np.array([acknowledged], dtype=np.bool_))
        styles = [p.style for p in profiles]
        self._style.write(rows, _floats([[getattr(style, d) for style in styles] for d in STYLE_DIMENSIONS]))
        at: list[list[str | None]] = [
            [p.department_id for p in profiles],
            [p.site_id for p in profiles],
            [p.discipline_id for p in profiles],
        ]
        coded = [
            [NO_CODE if place is None else known[place] for place in found]
            for known, found in zip(words.attributes, at, strict=True)
        ]
        self._places.write(rows, np.array(coded, dtype=np.int32))
        self._line.write(rows, _lists([p.line for p in profiles], words.people))
        self._evaluators.write(rows, _lists([p.evaluators for p in profiles], words.people))
        self._avoid.write(rows, _lists([p.avoid for p in profiles], words.people))
        self._write_languages(rows, profiles)
        self._write_hours(rows, profiles)
        self._write_wishes(rows, profiles)
        self._write_offers(rows, profiles)

    def _write_languages(self, rows: Ints, profiles: Sequence[ProfileChanged]) -> None:
        known, masks, met = self.words.languages, list[int](), dict[tuple[str, ...], int]()
        for profile in profiles:
            mask = met.get(profile.languages)
            if mask is None:
                spoken_here = sorted(get_spoken_languages(profile))  # a set has another order in another process
                met[profile.languages] = mask = sum(1 << known[language] for language in spoken_here)
            masks.append(mask)
        height = max(1, -(-len(known) // WORD))
        cut = [[mask >> (WORD * word) & (2**WORD - 1) for mask in masks] for word in range(height)]
        self._languages.write(rows, np.array(cut, dtype=np.uint64))
        self._speaks.write(rows, np.array([[mask > 0 for mask in masks]], dtype=np.bool_))

    def _write_hours(self, rows: Ints, profiles: Sequence[ProfileChanged]) -> None:
        told = np.zeros((1, len(rows)), dtype=np.bool_)
        kinds = Interner[tuple[int, int]]()  # from which minute of the week on, and for how long
        who, what = list[int](), list[int]()
        for place, profile in enumerate(profiles):
            said = profile.availability
            if said.kind != "weekly" or not said.windows or profile.time_zone is None:
                continue
            offset = get_utc_offset(profile.time_zone, self.words.on)
            if offset is None:
                continue
            told[0, place] = True
            found = [
                kinds[(window.weekday * 1440 + window.start - offset) % WEEK_MINUTES, window.end - window.start]
                for window in said.windows
                if window.end > window.start
            ]
            what += found
            who += [place] * len(found)
        self._hours.write(rows, told)
        self.words.refine_grid(minutes for kind in kinds for minutes in kind)
        if self._grid != self.words.grid_minutes:
            self._regrid()
        self._free.write(rows, _packed(np.array(who, np.int64), np.array(what, np.int64), kinds, len(rows), self._grid))

    def _regrid(self) -> None:
        """Cut every slot of all members into as many as the finer grid has in it."""
        parts, bits = self._grid // self.words.grid_minutes, WEEK_MINUTES // self.words.grid_minutes
        old = self._free.cells
        new = np.zeros((-(-bits // WORD), old.shape[1]), dtype=np.uint64)
        together = max(1, _UNPACKED // bits)
        for start in range(0, old.shape[1], together):
            some = np.ascontiguousarray(old[:, start : start + together].T).view(np.uint8)
            slots = np.unpackbits(some, axis=1, bitorder="little")[:, : WEEK_MINUTES // self._grid]
            new[:, start : start + together] = _words_of(np.repeat(slots, parts, axis=1))
        self._free.reset(new)
        self._grid = self.words.grid_minutes

    def _write_wishes(self, rows: Ints, profiles: Sequence[ProfileChanged]) -> None:
        topics = self.words.topics
        owner = np.repeat(np.arange(len(rows)), [len(profile.seeks) for profile in profiles])
        codes = [topics[seek.topic] * PRIORITIES + seek.priority - 1 for profile in profiles for seek in profile.seeks]
        wish = np.array(codes, dtype=np.int64)
        order = np.lexsort((wish, owner))  # the strongest wish for a topic comes last
        owner, wish = owner[order], wish[order]
        last = np.ones(len(order), dtype=np.bool_)
        last[:-1] = (owner[1:] != owner[:-1]) | (wish[1:] // PRIORITIES != wish[:-1] // PRIORITIES)
        owner, wish = owner[last], wish[last]
        slot = _nth(owner)
        height = int(slot.max(initial=0)) + 1
        topic, worth = np.zeros((height, len(rows)), np.int32), np.zeros((height, len(rows)), np.float32)
        topic[slot, owner] = wish // PRIORITIES
        worth[slot, owner] = np.array([self.words.wish_worth(n + 1) for n in range(PRIORITIES)])[wish % PRIORITIES]
        self._wishes.write(rows, topic)
        self._worth.write(rows, worth)

    def _write_offers(self, rows: Ints, profiles: Sequence[ProfileChanged]) -> None:
        kinds = Interner[tuple[str, Depth]]()
        what = [kinds[offer.topic, offer.level] for profile in profiles for offer in profile.offers]
        owner = np.repeat(np.arange(len(rows)), [len(profile.offers) for profile in profiles])
        slot = _nth(owner)
        offers = np.full((int(slot.max(initial=-1)) + 1, len(rows)), len(kinds))  # the last kind helps with nothing
        offers[slot, owner] = what
        near = [self.words.covered_topics(topic) for topic, _ in kinds]
        helps = np.zeros((len(kinds) + 1, len(self.words.topics)), dtype=np.float32)
        for kind, ((_, level), (topics, shares)) in enumerate(zip(kinds, near, strict=True)):
            helps[kind, topics] = np.array(shares, dtype=np.float32) * get_depth_share(
                level, self.words.benefit_settings.depths
            )
        covers = np.zeros((len(rows), len(self.words.topics)), dtype=np.float32)
        for kind_of in offers:
            np.maximum(covers, helps[kind_of], out=covers)
        self._covers.write(rows, covers.T)


def _nth(owner: Ints) -> Ints:
    """Which one of its owner's each is, from 0 upwards; owners in order."""
    return np.arange(len(owner)) - np.searchsorted(owner, owner)


def _row(values: Sequence[int]) -> Codes:
    return np.array([values], dtype=np.int32)


def _floats(rows: Sequence[Sequence[float | None]]) -> Floats:
    return np.array(rows, dtype=np.float32)  # None becomes NaN


def _lists(lists: Sequence[Sequence[str]], people: Interner[str]) -> Codes:
    """(longest list, members): the numbers of those whom each list names."""
    height = max(map(len, lists))
    result = np.full((height, len(lists)), NO_CODE, dtype=np.int32)
    for place, names in enumerate(lists):
        for n, name in enumerate(names):
            result[n, place] = people[name]
    return result


def _packed(who: Ints, what: Ints, kinds: Iterable[tuple[int, int]], members: int, grid: int) -> Bits:
    """(words, members): a bit for each slot of the week that one of the stretches covers.

    ``who`` (in order) and ``what``: each stretch's member and kind; ``kinds``: where it begins, and its length.
    """
    bits = WEEK_MINUTES // grid
    result = np.zeros((-(-bits // WORD), members), dtype=np.uint64)
    if len(who):
        slots = np.zeros((1 + int(what.max()), bits), dtype=np.uint8)
        for kind, (start, length) in enumerate(kinds):
            slots[kind, np.arange(start // grid, (start + length) // grid) % bits] = 1
        masks = _words_of(slots)
        first = np.flatnonzero(np.append(True, who[1:] != who[:-1]))
        result[:, who[first]] = np.bitwise_or.reduceat(masks[:, what], first, axis=1)
    return result


def _words_of(slots: npt.NDArray[np.uint8]) -> Bits:
    """From (members, slots) to (words, members)."""
    wide = -(-slots.shape[1] // WORD) * WORD
    padded = np.zeros((slots.shape[0], wide), dtype=np.uint8)
    padded[:, : slots.shape[1]] = slots
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64).T
