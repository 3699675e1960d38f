"""Everybody of one programme, held in memory so that the best partners of one person are found at once.

A crowd is only as new as what it was told last; whoever offers a partner that it names looks at the ledgers and the
profiles once more.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from contracts.profiles import Absence, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.calendar import get_utc_offset
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.pairings.seat_ledger import SeatLimits
from services.matcher.engine.member_columns import MemberColumns, Vocabulary
from services.matcher.engine.vectorised_fit import PairwiseFit

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

INITIAL_ROWS = 256
WRITE_BATCH = 256  # people who are written into the columns at once
SIDE_BITS = {"senior": 1, "junior": 2, "either": 3}  # bits
PARTNER_SIDES: dict[str, Sequence[Side]] = {"senior": ["junior"], "junior": ["senior"], "either": ["junior", "senior"]}


@dataclass(frozen=True)
class PartnerCandidate:
    """Somebody who fits, and the side that they would have."""

    id: str
    side: Side
    score: float


@dataclass(frozen=True)
class WaitState:
    """Since when somebody waits (a timestamp; NaN: nobody knows), and whether their last pairing came to nothing."""

    since: float = float("nan")
    failed: bool = False


def wait_state(waiting_since: datetime | None, over: datetime | None, *, failed: bool) -> WaitState:
    """From when the wait counts: since they asked to be matched, or since the last pairing was over."""
    times = [at.timestamp() for at in (waiting_since, over) if at is not None]
    return WaitState(max(times, default=float("nan")), failed)


class _Places:
    """What decides whether somebody is there and has a place; rows are those of the columns.

    ``room`` and ``held`` (rows, 2): places and seats taken, over all programmes and in this one.
    """

    def __init__(self) -> None:
        self.sides = np.zeros(INITIAL_ROWS, dtype=np.int8)
        self.ready = np.zeros(INITIAL_ROWS, dtype=np.bool_)
        self.organisation = np.zeros(INITIAL_ROWS, dtype=np.int32)
        self.room = np.zeros((INITIAL_ROWS, 2), dtype=np.int16)
        self.held = np.zeros((INITIAL_ROWS, 2), dtype=np.int16)
        self.since = np.full(INITIAL_ROWS, np.nan)
        self.failed = np.zeros(INITIAL_ROWS, dtype=np.bool_)

    def grow(self, rows: int) -> None:
        """To hold at least so many."""
        if rows > len(self.sides):
            self.take(np.arange(len(self.sides)), np.arange(len(self.sides)), max(rows, 2 * len(self.sides)))

    def take(self, rows: Ints, to: Ints, size: int) -> None:
        """Keep these rows alone, at other places, with room for so many."""
        for name, old in list(vars(self).items()):
            new = np.full((size, *old.shape[1:]), np.nan if name == "since" else 0, dtype=old.dtype)
            new[to] = old[rows]
            setattr(self, name, new)

    def clear(self, row: int) -> None:
        self.ready[row] = False
        self.held[row] = 0
        self.since[row], self.failed[row] = np.nan, False


class PartnerIndex:
    """People come, change and go one by one. Whoever compares them lets it ``settle`` before, and keeps it still
    meanwhile."""

    def __init__(self, taxonomy: Taxonomy, settings: ProgrammeSettings, on: date) -> None:
        self._taxonomy = taxonomy
        self._columns = MemberColumns(Vocabulary(settings, taxonomy, on))
        self._places = _Places()
        self._organisations: dict[str, int] = {}
        self._dated: dict[str, tuple[date | None, tuple[Absence, ...]]] = {}
        self._zones: set[str] = set()
        self._fresh: MemberColumns | None = None  # being made, with what comes meanwhile
        self._unwritten: dict[str, Member] = {}  # whose rows do not hold yet what was said last

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> Iterator[str]:
        """Everybody's id."""
        return iter(self._columns.row_of)

    def __contains__(self, id: object) -> bool:
        return id in self._columns.row_of

    def upsert(self, member: Member, room: SeatLimits) -> None:
        """Insert, or replace what was known of the member; what is held and waited for stays."""
        profile, enrolment = member.profile, member.enrolment
        if profile.time_zone is not None:
            self._zones.add(profile.time_zone)
        row = self._columns.allocate_row(member.id)
        self._unwritten[member.id] = member
        if len(self._unwritten) >= WRITE_BATCH:
            self.flush()
        self._places.grow(self._columns.rows)
        self._places.sides[row] = SIDE_BITS[enrolment.side]
        self._places.ready[row] = enrolment.state == "ready" and profile.employment == "active"
        organisation = self._organisations.setdefault(profile.organisation_id, len(self._organisations))
        self._places.organisation[row] = organisation
        self._places.room[row] = room.total, room.programme
        self._dated.pop(member.id, None)
        if profile.employed_until is not None or profile.away:
            self._dated[member.id] = profile.employed_until, profile.away

    def flush(self) -> None:
        """Write what was said of people since the last time into the columns, all together."""
        members = list(self._unwritten.values())
        for columns in (self._columns, self._fresh):
            if columns is not None:
                columns.write(members)
        self._unwritten.clear()

    def remove(self, id: str) -> None:
        """Forget the member."""
        for columns in (self._columns, self._fresh):
            row = columns.row_of.get(id) if columns is not None else None
            if columns is None or row is None:
                continue
            columns.remove(row)
            if columns is self._columns:
                self._places.clear(row)
        self._unwritten.pop(id, None)
        self._dated.pop(id, None)

    def set_reserved_seats(self, id: str, total: int, here: int) -> None:
        """So many seats are taken, over all programmes and in this one."""
        if (row := self._columns.row_of.get(id)) is not None:
            self._places.held[row] = total, here

    def set_wait(self, id: str, waiting: WaitState) -> None:
        if (row := self._columns.row_of.get(id)) is not None:
            self._places.since[row], self._places.failed[row] = waiting.since, waiting.failed

    def wait_of(self, id: str) -> WaitState:
        row = self._columns.row_of[id]
        return WaitState(float(self._places.since[row]), bool(self._places.failed[row]))

    def order_by_wait(
        self,
        ids: Collection[str],
        settings: ProgrammeSettings,
        on: date,
        promised_seats: Mapping[str, int] | None = None,
    ) -> list[str]:
        """Those of ``ids`` who are free, in the order of their turn; ``promised``: places that are not to be counted.

        Whose last pairing came to nothing comes first, then who has waited longest, then who is longest known.
        """
        row_of = self._columns.row_of
        rows = np.array(sorted(row_of[id] for id in ids if id in row_of), dtype=np.int64)
        rows = rows[self._available(settings, on, promised_seats or {})[rows]]
        since = np.nan_to_num(self._places.since[rows], nan=np.inf)
        order = rows[np.lexsort((since, ~self._places.failed[rows]))]
        return [id for row in order if (id := self._columns.id_of(int(row))) is not None]

    def best_partners(
        self,
        me: Member,
        settings: ProgrammeSettings,
        on: date,
        limit: int,
        *,
        promised_seats: Mapping[str, int] | None = None,
        excluded: Collection[str] = (),
        sides: Sequence[Side] | None = None,
        with_private_wishes: bool = True,
    ) -> list[PartnerCandidate]:
        """The best partners who are free on this day, the best first, none of ``but``; ties go by id.

        ``sides``: those that a partner may have. Without ``wishes`` it is as if nobody had any private ones.
        """
        others = self._available(settings, on, promised_seats or {})
        for id in (*excluded, me.id):
            if (row := self._columns.row_of.get(id)) is not None:
                others[row] = False
        found: dict[str, PartnerCandidate] = {}
        mine = MemberColumns(self._columns.words, [me])
        for side in PARTNER_SIDES[me.enrolment.side] if sides is None else sides:
            rows = np.flatnonzero(others & ((self._places.sides[: len(others)] & SIDE_BITS[side]) > 0))
            for candidate in self._best_of(mine, side, rows, settings, limit, wishes=with_private_wishes):
                known = found.get(candidate.id)
                if known is None or known.score < candidate.score:
                    found[candidate.id] = candidate
        return sorted(found.values(), key=lambda one: (-one.score, one.id))[:limit]

    def _best_of(
        self, mine: MemberColumns, side: Side, rows: Ints, settings: ProgrammeSettings, limit: int, *, wishes: bool
    ) -> list[PartnerCandidate]:
        """``side``: of the others; ``mine`` holds the one whom they are compared with."""
        me = np.zeros(1, dtype=np.int64)
        if side == "senior":
            block = PairwiseFit(self._columns, mine, settings).evaluate(rows, me)
        else:
            block = PairwiseFit(mine, self._columns, settings).evaluate(me, rows)
        scores = np.where(block.feasible() if wishes else block.publicly_feasible(), block.score, 0.0)
        places = np.flatnonzero(scores > 0)
        if len(places) > limit:
            least = -np.partition(-scores[places], limit - 1)[limit - 1]
            places = places[scores[places] >= least]
        found = [
            PartnerCandidate(id, side, float(scores[n]))
            for n in places
            if (id := self._columns.id_of(int(rows[n]))) is not None
        ]
        return sorted(found, key=lambda one: (-one.score, one.id))[:limit]

    def _available(self, settings: ProgrammeSettings, on: date, promised: Mapping[str, int]) -> Bools:
        """(rows): like ``find_absence_reason``, and with a place free."""
        size, row_of, places = self._columns.rows, self._columns.row_of, self._places
        included = [self._organisations[id] for id in settings.organisations if id in self._organisations]
        left = np.minimum(*(places.room[:size] - places.held[:size]).T)
        for id, spoken_for in promised.items():
            if id in row_of:
                left[row_of[id]] -= spoken_for
        there: Bools = places.ready[:size] & np.isin(places.organisation[:size], included) & (left > 0)
        for id, (until, away) in self._dated.items():
            if _gone(until, away, on):
                there[row_of[id]] = False
        return there

    def is_outdated(self, settings: ProgrammeSettings, on: date) -> bool:
        """Whether marks have changed, or clocks were changed somewhere, since the columns were made."""
        words = self._columns.words
        if settings.matching.benefit != words.benefit_settings:
            return True
        return any(get_utc_offset(zone, words.on) != get_utc_offset(zone, on) for zone in self._zones)

    def begin_rebuild(self, settings: ProgrammeSettings, on: date) -> None:
        """Make columns under these marks and on this day, beside those that are in use until they are complete."""
        self._fresh = MemberColumns(Vocabulary(settings, self._taxonomy, on))

    def add_to_rebuild(self, members: Sequence[Member]) -> None:
        """Some of everybody; what has come in meanwhile is newer."""
        fresh = self._fresh
        assert fresh is not None, "it has begun"
        fresh.extend([one for one in members if one.id in self._columns.row_of and one.id not in fresh.row_of])

    def finish_rebuild(self) -> list[str]:
        """The new columns are in use from now on; returns those of whom they know nothing."""
        self.flush()
        fresh, old = self._fresh, self._columns
        assert fresh is not None, "it has begun"
        kept = [(old.row_of[id], row) for id, row in fresh.row_of.items()]
        rows = np.array(kept, dtype=np.int64).reshape(-1, 2)
        self._places.take(rows[:, 0], rows[:, 1], max(INITIAL_ROWS, fresh.rows))
        missing = [id for id in old.row_of if id not in fresh.row_of]
        self._columns, self._fresh = fresh, None
        for id in missing:
            self._dated.pop(id, None)
        return missing


def _gone(until: date | None, away: tuple[Absence, ...], on: date) -> bool:
    if until is not None and until <= on:
        return True
    return any(absence.since <= on and (absence.until is None or on <= absence.until) for absence in away)
