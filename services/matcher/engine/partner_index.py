"""The members of one programme in memory, so that the best partners of one person are found at once.

The index is only as recent as the last update. Before a partner from it is proposed, ledgers and profiles must be
checked again.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from contracts.profiles import Absence, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.calendar import get_utc_offset
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.pairings.seat_ledger import SeatLimits
from services.matcher.engine.arrays import Bools, Int64s
from services.matcher.engine.member_columns import MemberColumns, Vocabulary
from services.matcher.engine.vectorised_fit import PairwiseFit

INITIAL_ROWS = 256
WRITE_BATCH = 256  # members that are written into the columns at once
SIDE_BITS = {"senior": 1, "junior": 2, "either": 3}
PARTNER_SIDES: dict[str, Sequence[Side]] = {
    "senior": ["junior"],
    "junior": ["senior"],
    "either": ["junior", "senior"],
}


@dataclass(frozen=True)
class PartnerCandidate:
    """A member who fits, and the side that the member would have."""

    id: str
    side: Side
    score: float


@dataclass(frozen=True)
class WaitState:
    """``since``: start of the wait as a timestamp, NaN if unknown. ``failed``: the last pairing came to nothing."""

    since: float = float("nan")
    failed: bool = False


def wait_state(waiting_since: datetime | None, over: datetime | None, *, failed: bool) -> WaitState:
    """The wait starts at the request to be matched, or at the end of the last pairing, whichever is later."""
    times = [at.timestamp() for at in (waiting_since, over) if at is not None]
    return WaitState(max(times, default=float("nan")), failed)


class _Availability:
    """The availability of members; rows are those of the columns.

    ``seats`` and ``reserved_seats`` (rows, 2): over all programmes, and in this one. ``since`` and ``failed``: as in
    ``WaitState``.
    """

    def __init__(self) -> None:
        self.sides = np.zeros(INITIAL_ROWS, dtype=np.int8)
        self.is_ready = np.zeros(INITIAL_ROWS, dtype=np.bool_)
        self.organisation = np.zeros(INITIAL_ROWS, dtype=np.int32)
        self.seats = np.zeros((INITIAL_ROWS, 2), dtype=np.int16)
        self.reserved_seats = np.zeros((INITIAL_ROWS, 2), dtype=np.int16)
        self.since = np.full(INITIAL_ROWS, np.nan)
        self.failed = np.zeros(INITIAL_ROWS, dtype=np.bool_)

    def grow(self, rows: int) -> None:
        """Make room for at least so many rows."""
        if rows > len(self.sides):
            every_row = np.arange(len(self.sides))
            self.move(every_row, every_row, max(rows, 2 * len(self.sides)))

    def move(self, rows: Int64s, targets: Int64s, size: int) -> None:
        """Move these rows to the rows ``targets`` of tables with ``size`` rows, and drop all others."""
        for name, old in list(vars(self).items()):
            new = np.full((size, *old.shape[1:]), np.nan if name == "since" else 0, dtype=old.dtype)
            new[targets] = old[rows]
            setattr(self, name, new)

    def clear(self, row: int) -> None:
        self.is_ready[row] = False
        self.reserved_seats[row] = 0
        self.since[row], self.failed[row] = np.nan, False


class PartnerIndex:
    """An index of members that is updated one member at a time.

    Call ``flush`` before a search, and do not update the index during a search.
    """

    def __init__(self, taxonomy: Taxonomy, settings: ProgrammeSettings, on: date) -> None:
        self._taxonomy = taxonomy
        self._columns = MemberColumns(Vocabulary(settings, taxonomy, on))
        self._availability = _Availability()
        self._organisations: dict[str, int] = {}
        self._absences: dict[str, tuple[date | None, tuple[Absence, ...]]] = {}  # (employed until, absences)
        self._time_zones: set[str] = set()
        self._rebuilding: MemberColumns | None = None  # columns under construction, which receive updates too
        self._unwritten: dict[str, Member] = {}  # members whose latest state is not in the columns yet

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> Iterator[str]:
        """The ids of all members."""
        return iter(self._columns.row_of)

    def __contains__(self, id: object) -> bool:
        return id in self._columns.row_of

    def upsert(self, member: Member, room: SeatLimits) -> None:
        """Insert or replace the member. Reserved seats and the wait state stay as they are."""
        profile, enrolment = member.profile, member.enrolment
        if profile.time_zone is not None:
            self._time_zones.add(profile.time_zone)
        row = self._columns.allocate_row(member.id)
        self._unwritten[member.id] = member
        if len(self._unwritten) >= WRITE_BATCH:
            self.flush()
        self._availability.grow(self._columns.rows)
        self._availability.sides[row] = SIDE_BITS[enrolment.side]
        self._availability.is_ready[row] = enrolment.state == "ready" and profile.employment == "active"
        organisation = self._organisations.setdefault(profile.organisation_id, len(self._organisations))
        self._availability.organisation[row] = organisation
        self._availability.seats[row] = room.total, room.programme
        self._absences.pop(member.id, None)
        if profile.employed_until is not None or profile.away:
            self._absences[member.id] = profile.employed_until, profile.away

    def flush(self) -> None:
        """Write all updates since the last flush into the columns, in one batch."""
        members = list(self._unwritten.values())
        for columns in (self._columns, self._rebuilding):
            if columns is not None:
                columns.write(members)
        self._unwritten.clear()

    def remove(self, id: str) -> None:
        for columns in (self._columns, self._rebuilding):
            row = columns.row_of.get(id) if columns is not None else None
            if columns is None or row is None:
                continue
            columns.remove(row)
            if columns is self._columns:
                self._availability.clear(row)
        self._unwritten.pop(id, None)
        self._absences.pop(id, None)

    def set_reserved_seats(self, id: str, total: int, here: int) -> None:
        """Set the member's reserved seats, over all programmes and in this one. Unknown ids are ignored."""
        if (row := self._columns.row_of.get(id)) is not None:
            self._availability.reserved_seats[row] = total, here

    def set_wait(self, id: str, wait: WaitState) -> None:
        """Set since when the member waits. Unknown ids are ignored."""
        if (row := self._columns.row_of.get(id)) is not None:
            self._availability.since[row], self._availability.failed[row] = wait.since, wait.failed

    def wait_of(self, id: str) -> WaitState:
        row = self._columns.row_of[id]
        return WaitState(float(self._availability.since[row]), bool(self._availability.failed[row]))

    def order_by_wait(
        self,
        ids: Collection[str],
        settings: ProgrammeSettings,
        on: date,
        promised_seats: Mapping[str, int] | None = None,
    ) -> list[str]:
        """Those of ``ids`` who are available, in the order of their turn. ``promised_seats``: free seats not to count.

        Members whose last pairing came to nothing come first, then those who have waited longest, then those who were
        indexed first.
        """
        row_of = self._columns.row_of
        rows = np.array(sorted(row_of[id] for id in ids if id in row_of), dtype=np.int64)
        rows = rows[self._is_available(settings, on, promised_seats or {})[rows]]
        since = np.nan_to_num(self._availability.since[rows], nan=np.inf)
        order = rows[np.lexsort((since, ~self._availability.failed[rows]))]
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
    ) -> list[PartnerCandidate]:
        """The best partners who are available on this day, the best first; ties are ordered by id. O(members).

        ``sides``: the sides that a partner may have.
        """
        others = self._is_available(settings, on, promised_seats or {})
        for id in (*excluded, me.id):
            if (row := self._columns.row_of.get(id)) is not None:
                others[row] = False
        best: dict[str, PartnerCandidate] = {}
        mine = MemberColumns(self._columns.vocabulary, [me])
        for side in PARTNER_SIDES[me.enrolment.side] if sides is None else sides:
            rows = np.flatnonzero(others & ((self._availability.sides[: len(others)] & SIDE_BITS[side]) > 0))
            for candidate in self._best_of_side(mine, side, rows, settings, limit):
                earlier = best.get(candidate.id)
                if earlier is None or earlier.score < candidate.score:
                    best[candidate.id] = candidate
        return _ranked(best.values(), limit)

    def _best_of_side(
        self, mine: MemberColumns, side: Side, rows: Int64s, settings: ProgrammeSettings, limit: int
    ) -> list[PartnerCandidate]:
        """The best of these rows, who have this side. ``mine`` holds the one member to compare them with."""
        me = np.zeros(1, dtype=np.int64)
        if side == "senior":
            block = PairwiseFit(self._columns, mine, settings).evaluate(rows, me)
        else:
            block = PairwiseFit(mine, self._columns, settings).evaluate(me, rows)
        scores = np.where(block.feasible(), block.score, 0.0)
        positions = np.flatnonzero(scores > 0)
        if len(positions) > limit:
            least = -np.partition(-scores[positions], limit - 1)[limit - 1]
            positions = positions[scores[positions] >= least]
        candidates = [
            PartnerCandidate(id, side, float(scores[n]))
            for n in positions
            if (id := self._columns.id_of(int(rows[n]))) is not None
        ]
        return _ranked(candidates, limit)

    def _is_available(self, settings: ProgrammeSettings, on: date, promised_seats: Mapping[str, int]) -> Bools:
        """(rows): the same as ``find_absence_reason``, and the member has a free seat."""
        size, row_of, table = self._columns.rows, self._columns.row_of, self._availability
        organisations = [self._organisations[id] for id in settings.organisations if id in self._organisations]
        free = np.minimum(*(table.seats[:size] - table.reserved_seats[:size]).T)
        for id, promised in promised_seats.items():
            if id in row_of:
                free[row_of[id]] -= promised
        is_member = np.isin(table.organisation[:size], organisations)
        is_available: Bools = table.is_ready[:size] & is_member & (free > 0)
        for id, (until, away) in self._absences.items():
            if _is_absent(until, away, on):
                is_available[row_of[id]] = False
        return is_available

    def is_outdated(self, settings: ProgrammeSettings, on: date) -> bool:
        """Whether settings for benefit, or the UTC offset of a time zone, have changed since the columns were made."""
        vocabulary = self._columns.vocabulary
        if settings.matching.benefit != vocabulary.benefit_settings:
            return True
        return any(get_utc_offset(zone, vocabulary.on) != get_utc_offset(zone, on) for zone in self._time_zones)

    def begin_rebuild(self, settings: ProgrammeSettings, on: date) -> None:
        """Start new columns for these settings and this day. The old ones stay in use until ``finish_rebuild``."""
        self._rebuilding = MemberColumns(Vocabulary(settings, self._taxonomy, on))

    def add_to_rebuild(self, members: Sequence[Member]) -> None:
        """Add indexed members to the new columns. Members updated since ``begin_rebuild`` are there already."""
        rebuilding = self._rebuilding
        assert rebuilding is not None, "begin_rebuild was called"
        present = self._columns.row_of
        rebuilding.extend([m for m in members if m.id in present and m.id not in rebuilding.row_of])

    def finish_rebuild(self) -> list[str]:
        """Use the new columns from now on; returns the ids of indexed members that they lack."""
        self.flush()
        new, old = self._rebuilding, self._columns
        assert new is not None, "begin_rebuild was called"
        moves = [(old.row_of[id], row) for id, row in new.row_of.items()]
        rows = np.array(moves, dtype=np.int64).reshape(-1, 2)
        self._availability.move(rows[:, 0], rows[:, 1], max(INITIAL_ROWS, new.rows))
        missing = [id for id in old.row_of if id not in new.row_of]
        self._columns, self._rebuilding = new, None
        for id in missing:
            self._absences.pop(id, None)
        return missing


def _ranked(candidates: Collection[PartnerCandidate], limit: int) -> list[PartnerCandidate]:
    return sorted(candidates, key=lambda candidate: (-candidate.score, candidate.id))[:limit]


def _is_absent(until: date | None, away: tuple[Absence, ...], on: date) -> bool:
    if until is not None and until <= on:
        return True
    return any(absence.since <= on and (absence.until is None or on <= absence.until) for absence in away)
