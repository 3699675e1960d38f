"""Reads the input of a round's computation from the store: all members who can be proposed, in little memory.

Ids are listed first, then whole documents are read in pages by id. Each request is short, so that the store can answer
others in between, and only keys are ever listed over all members.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from chassis.storage.mongo import Collection, chunks
from contracts.profiles import ProfileChanged
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.pairings.pairing import UNPUBLISHED_STATES
from services.matcher.domain.pairings.seat_ledger import SeatLedger, compute_seat_limits
from services.matcher.domain.rounds.round import Round
from services.matcher.domain.rounds.waiting_priority import LastPairing, classify_result, compute_waiting_priority
from services.matcher.engine.solve import MatchingProblem

MEMBERS_PER_PAGE = 500  # members read in one request
ValueT = TypeVar("ValueT")

ReadCallback = Callable[[int, int], None]  # members read, members in all


@dataclass(frozen=True)
class InputCollections:
    """The collections that are read."""

    members: Collection
    ledgers: Collection
    pairings: Collection


async def load_problem(
    round: Round, now: datetime, collections: InputCollections, report_read: ReadCallback
) -> MatchingProblem:
    """All that the round's result depends on, as of ``now`` (business time)."""
    programme, on = round.programme_id, now.date()
    enrolled = {"enrolments.programme_id": programme, "grave": False}
    ids = sorted([str(document["_id"]) async for document in collections.members.find(enrolled, {"_id": 1})])
    history = await _load_history(programme, collections.pairings)
    interner = ProfileInterner()
    profiles: list[ProfileChanged] = []
    free_seats: dict[str, int] = {}
    waiting_priority: dict[str, float] = {}
    for page in chunks(ids, MEMBERS_PER_PAGE):
        ledgers = await _load_ledgers(page, collections.ledgers)
        async for document in collections.members.find({"_id": {"$in": list(page)}}):
            if document["grave"]:
                continue
            profile = interner.intern(ProfileChanged.model_validate(document))
            id, limits = profile.member_id, compute_seat_limits(profile, programme)
            free = ledgers.get(id, SeatLedger(member_id=id)).count_free(limits, programme)
            member = hard_rules.find_enrolled_member(profile, programme)
            if free <= 0 or member is None:
                continue
            if hard_rules.find_absence_reason(profile, programme, round.settings, on) is not None:
                continue
            profiles.append(profile)
            free_seats[id] = free
            priority = compute_waiting_priority(member.enrolment.waiting_since, history.last.get(id), now)
            if priority > 0:
                waiting_priority[id] = priority
        report_read(min(len(free_seats), len(ids)), len(ids))
    return MatchingProblem(
        programme_id=programme,
        settings=round.settings,
        profiles=sorted(profiles, key=lambda profile: profile.member_id),
        free_seats=free_seats,
        earlier_pairs=sorted(pair for pair in history.earlier if pair[0] in free_seats and pair[1] in free_seats),
        on=on,
        seed=round.seed,
        waiting_priority=waiting_priority,
        lottery_seed=_lottery_seed(round),
    )


def _lottery_seed(round: Round) -> int | None:
    """A number that nobody can guess who does not read the store; None for a trial."""
    if round.trial:
        return None
    return int.from_bytes(hashlib.sha256(round.lottery.encode()).digest()[:8]) if round.lottery else round.seed


class ProfileInterner:
    """Shares equal values between profiles: a hundred thousand of them then take a quarter of the memory."""

    def __init__(self) -> None:
        self._values: dict[object, object] = {}
        self._fields = set(ProfileChanged.model_fields)

    def intern(self, profile: ProfileChanged) -> ProfileChanged:
        """An equal profile, whose values are shared with earlier profiles."""
        values = dict(profile.__dict__)
        for name in ("offers", "seeks", "enrolments", "away"):
            values[name] = tuple([self._share(value) for value in values[name]])
        for name in ("availability", "organisation_id", "department_id", "site_id", "discipline_id", "time_zone"):
            values[name] = self._share(values[name])
        for name in ("languages", "line", "enrolments"):
            values[name] = self._share(values[name])
        return ProfileChanged.model_construct(_fields_set=self._fields, **values)

    def _share(self, value: ValueT) -> ValueT:
        return self._values.setdefault(value, value)  # type: ignore[return-value]


@dataclass(frozen=True)
class _History:
    """Pairs that were ever proposed in any programme, and each member's last finished pairing in this one."""

    earlier: set[tuple[str, str]]
    last: dict[str, LastPairing]


async def _load_history(programme_id: str, pairings: Collection) -> _History:
    fields = {
        "plan.senior.member_id": 1,
        "plan.junior.member_id": 1,
        "plan.programme_id": 1,
        "state": 1,
        "end_kind": 1,
        "happened_at": 1,
    }
    history = _History(set(), {})
    proposed = {"state": {"$nin": list(UNPUBLISHED_STATES)}, "gone": False}
    async for document in pairings.find(proposed, fields):
        plan, state = document["plan"], document["state"]
        pair = (str(plan["senior"]["member_id"]), str(plan["junior"]["member_id"]))
        history.earlier.add(pair)
        if plan["programme_id"] == programme_id and state in ("ended", "lapsed"):
            at = datetime.fromisoformat(document["happened_at"])
            pairing = LastPairing(at, classify_result(state, document.get("end_kind")))
            for member in pair:
                if member not in history.last or history.last[member].at < pairing.at:
                    history.last[member] = pairing
    return history


async def _load_ledgers(ids: Iterable[str], ledgers: Collection) -> dict[str, SeatLedger]:
    fields = {"member_id": 1, "closed": 1, "held": 1}
    documents = ledgers.find({"_id": {"$in": list(ids)}}, fields)
    return {document["_id"]: SeatLedger.model_validate(document) async for document in documents}
