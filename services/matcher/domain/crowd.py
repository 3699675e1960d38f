"""Everybody of one programme, held in memory so that the best partners of one person are found at once.

A crowd is only as new as what it was told last; whoever offers a partner that it names looks at the ledgers and the
profiles once more.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from contracts.people import Absence, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.candidates import Pairs
from services.matcher.domain.ledger import Room
from services.matcher.domain.rules import Member

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIRST_ROWS = 256
SIDES = {"senior": 1, "junior": 2, "either": 3}  # bits


@dataclass(frozen=True)
class Candidate:
    """Somebody who fits, and the side that they would have."""

    id: str
    side: Side
    score: float


@dataclass(frozen=True)
class Waiting:
    """Since when somebody waits (a timestamp; NaN: nobody knows), and whether their last pairing came to nothing."""

    since: float = float("nan")
    failed: bool = False


class Crowd:
    """Rows are reused; ``_rows`` says which is whose."""

    def __init__(self, taxonomy: Taxonomy, settings: ProgrammeSettings, on: date) -> None:
        self._taxonomy = taxonomy
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._free_rows: list[int] = []
        self._members: list[Member | None] = []
        self._organisations: dict[str, int] = {}
        self._dated: dict[int, tuple[date | None, tuple[Absence, ...]]] = {}
        self._sides = np.zeros(FIRST_ROWS, dtype=np.int8)
        self._ready = np.zeros(FIRST_ROWS, dtype=np.bool_)
        self._organisation = np.zeros(FIRST_ROWS, dtype=np.int32)
        self._room = np.zeros((FIRST_ROWS, 2), dtype=np.int16)  # places over all programmes, and in this one
        self._held = np.zeros((FIRST_ROWS, 2), dtype=np.int16)  # seats taken of each
        self._since = np.full(FIRST_ROWS, np.nan)
        self._failed = np.zeros(FIRST_ROWS, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        """Everybody's id."""
        return iter(self._rows)

    def __contains__(self, id: object) -> bool:
        return id in self._rows

    def put(self, member: Member, room: Room) -> None:
        """Insert, or replace what was known of the member; what is held and waited for stays."""
        profile, enrolment = member.profile, member.enrolment
        row = self._row(member.id)
        self._members[row] = member
        self._sides[row] = SIDES[enrolment.side]
        self._ready[row] = enrolment.state == "ready" and profile.employment == "active"
        self._organisation[row] = self._organisations.setdefault(profile.organisation_id, len(self._organisations))
        self._room[row] = room.total, room.programme
        self._dated.pop(row, None)
        if profile.employed_until is not None or profile.away:
            self._dated[row] = profile.employed_until, profile.away

    def drop(self, id: str) -> None:
        """Forget the member."""
        row = self._rows.pop(id, None)
        if row is None:
            return
        self._ids[row] = ""
        self._members[row] = None
        self._ready[row] = False
        self._dated.pop(row, None)
        self._held[row] = 0
        self._since[row], self._failed[row] = np.nan, False
        self._free_rows.append(row)

    def hold(self, id: str, total: int, here: int) -> None:
        """So many seats are taken, over all programmes and in this one."""
        if (row := self._rows.get(id)) is not None:
            self._held[row] = total, here

    def waits(self, id: str, waiting: Waiting) -> None:
        if (row := self._rows.get(id)) is not None:
            self._since[row], self._failed[row] = waiting.since, waiting.failed

    def waiting(self, id: str) -> Waiting:
        row = self._rows[id]
        return Waiting(float(self._since[row]), bool(self._failed[row]))

    def turns(
        self, ids: Collection[str], settings: ProgrammeSettings, on: date, promised: Mapping[str, int] | None = None
    ) -> list[str]:
        """Those of ``ids`` who are free, in the order of their turn.

        Whose last pairing came to nothing comes first, then who has waited longest, then who is longest known.
        """
        rows = np.array(sorted(self._rows[id] for id in ids if id in self._rows), dtype=np.int64)
        rows = rows[self._available(settings, on, promised or {})[rows]]
        since = np.nan_to_num(self._since[rows], nan=np.inf)
        return [self._ids[row] for row in rows[np.lexsort((since, ~self._failed[rows]))]]

    def best(
        self,
        me: Member,
        settings: ProgrammeSettings,
        on: date,
        limit: int,
        *,
        promised: Mapping[str, int] | None = None,
        but: Collection[str] = (),
    ) -> list[Candidate]:
        """The best partners who are free on this day, the best first, none of ``but``.

        Ties go by id, so that the same crowd gives the same answer.
        """
        others = self._available(settings, on, promised or {})
        for id in (*but, me.id):
            if id in self._rows:
                others[self._rows[id]] = False
        found: dict[str, Candidate] = {}
        for side in _partner_sides(me):
            rows = np.flatnonzero(others & ((self._sides[: len(others)] & SIDES[side]) > 0))
            for candidate in self._best_of(me, side, rows, settings, on, limit):
                known = found.get(candidate.id)
                if known is None or known.score < candidate.score:
                    found[candidate.id] = candidate
        return sorted(found.values(), key=lambda one: (-one.score, one.id))[:limit]

    def _best_of(
        self, me: Member, side: Side, rows: Ints, settings: ProgrammeSettings, on: date, limit: int
    ) -> list[Candidate]:
        others = [member for row in rows if (member := self._members[row]) is not None]
        if not others:
            return []
        seniors, juniors = (others, [me]) if side == "senior" else ([me], others)
        pairs = Pairs(seniors, juniors, settings, self._taxonomy, on)
        block = pairs.block(np.arange(len(seniors)), np.arange(len(juniors)))
        scores = np.where(block.possible(), block.score, 0.0).ravel()
        order = sorted(np.flatnonzero(scores > 0), key=lambda n: (-scores[n], others[n].id))[:limit]
        return [Candidate(others[n].id, side, float(scores[n])) for n in order]

    def _available(self, settings: ProgrammeSettings, on: date, promised: Mapping[str, int]) -> Bools:
        """Like ``rules.absent``, and with a place free."""
        size = len(self._ids)
        included = [self._organisations[id] for id in settings.organisations if id in self._organisations]
        left = (self._room[:size] - self._held[:size]).min(axis=1)
        for id, places in promised.items():
            if id in self._rows:
                left[self._rows[id]] -= places
        there: Bools = self._ready[:size] & np.isin(self._organisation[:size], included) & (left > 0)
        for row, (until, away) in self._dated.items():
            if _gone(until, away, on):
                there[row] = False
        return there

    def _row(self, id: str) -> int:
        if id in self._rows:
            return self._rows[id]
        if self._free_rows:
            row = self._free_rows.pop()
            self._ids[row] = id
        else:
            row = len(self._ids)
            self._ids.append(id)
            self._members.append(None)
            if row == len(self._sides):
                self._grow()
        self._rows[id] = row
        return row

    def _grow(self) -> None:
        size = len(self._sides)
        for name in ("_sides", "_ready", "_organisation", "_room", "_held", "_since", "_failed"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        self._since[size:] = np.nan


def _partner_sides(me: Member) -> Sequence[Side]:
    """The sides that a partner of this member may have."""
    sides: dict[str, Sequence[Side]] = {"senior": ["junior"], "junior": ["senior"], "either": ["junior", "senior"]}
    return sides[me.enrolment.side]


def _gone(until: date | None, away: tuple[Absence, ...], on: date) -> bool:
    if until is not None and until <= on:
        return True
    return any(absence.since <= on and (absence.until is None or on <= absence.until) for absence in away)


def when(waiting_since: datetime | None, over: datetime | None, *, failed: bool) -> Waiting:
    """From when the wait counts: since they asked to be matched, or since the last pairing was over."""
    times = [at.timestamp() for at in (waiting_since, over) if at is not None]
    return Waiting(max(times, default=float("nan")), failed)
