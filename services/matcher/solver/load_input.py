"""What a round's computation reads of the store: everybody who can be proposed, as lean as possible.

Ids first, then pages of whole documents by id: each request is short, so the store answers others in between, and only
keys are ever listed over everybody.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from chassis.storage.mongo import Collection, chunks
from contracts.profiles import ProfileChanged
from services.matcher.domain.fit import rules
from services.matcher.domain.pairings.pairing import UNPUBLISHED_STATES
from services.matcher.domain.pairings.seat_ledger import SeatLedger, compute_seat_limits
from services.matcher.domain.rounds.round import Round
from services.matcher.domain.rounds.waiting_priority import LastPairing, classify_result, compute_waiting_priority
from services.matcher.engine.solve import MatchingProblem

MEMBERS_PER_PAGE = 500  # people in one request
V = TypeVar("V")

ReadCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class InputCollections:
    """The collections that are read."""

    members: Collection
    ledgers: Collection
    pairings: Collection


async def load_problem(round: Round, now: datetime, books: InputCollections, heard: ReadCallback) -> MatchingProblem:
    """All that the round's result depends on, as of ``now`` (business time). ``heard``: how many have been read."""
    programme, on = round.programme_id, now.date()
    wanted = {"enrolments.programme_id": programme, "grave": False}
    ids = sorted([str(document["_id"]) async for document in books.members.find(wanted, {"_id": 1})])
    history = await _history(programme, books.pairings)
    share = ProfileInterner()
    profiles: list[ProfileChanged] = []
    places: dict[str, int] = {}
    waiting: dict[str, float] = {}
    for page in chunks(ids, MEMBERS_PER_PAGE):
        ledgers = await _ledgers(page, books.ledgers)
        async for document in books.members.find({"_id": {"$in": list(page)}}):
            if document["grave"]:
                continue
            profile = share.interned(ProfileChanged.model_validate(document))
            free = ledgers.get(profile.member_id, SeatLedger(member_id=profile.member_id)).count_free(
                compute_seat_limits(profile, programme), programme
            )
            member = rules.find_enrolled_member(profile, programme)
            if (
                free <= 0
                or member is None
                or rules.find_absence_reason(profile, programme, round.settings, on) is not None
            ):
                continue
            profiles.append(profile)
            places[profile.member_id] = free
            urgent = compute_waiting_priority(member.enrolment.waiting_since, history.last.get(profile.member_id), now)
            if urgent > 0:
                waiting[profile.member_id] = urgent
        heard(min(len(places), len(ids)), len(ids))
    return MatchingProblem(
        programme_id=programme,
        settings=round.settings,
        profiles=sorted(profiles, key=lambda one: one.member_id),
        free_seats=places,
        earlier_pairs=sorted(pair for pair in history.earlier if pair[0] in places and pair[1] in places),
        on=on,
        seed=round.seed,
        waiting_priority=waiting,
    )


class ProfileInterner:
    """Keeps what many profiles have in common once: a hundred thousand of them take a quarter of the memory."""

    def __init__(self) -> None:
        self._known: dict[object, object] = {}
        self._set = set(ProfileChanged.model_fields)

    def interned(self, profile: ProfileChanged) -> ProfileChanged:
        """An equal profile."""
        values = dict(profile.__dict__)
        for name in ("offers", "seeks", "enrolments", "away"):
            values[name] = tuple([self._one(value) for value in values[name]])
        for name in ("availability", "organisation_id", "department_id", "site_id", "discipline_id", "time_zone"):
            values[name] = self._one(values[name])
        for name in ("languages", "line", "enrolments"):
            values[name] = self._one(values[name])
        return ProfileChanged.model_construct(_fields_set=self._set, **values)

    def _one(self, value: V) -> V:
        return self._known.setdefault(value, value)  # type: ignore[return-value]


@dataclass(frozen=True)
class _History:
    """Pairs that were ever proposed, in any programme, and how each member's last one in this programme came out."""

    earlier: set[tuple[str, str]]
    last: dict[str, LastPairing]


async def _history(programme_id: str, pairings: Collection) -> _History:
    shown = {
        "plan.senior.member_id": 1,
        "plan.junior.member_id": 1,
        "plan.programme_id": 1,
        "state": 1,
        "end_kind": 1,
        "happened_at": 1,
    }
    found = _History(set(), {})
    async for document in pairings.find({"state": {"$nin": list(UNPUBLISHED_STATES)}, "gone": False}, shown):
        plan = document["plan"]
        both = (str(plan["senior"]["member_id"]), str(plan["junior"]["member_id"]))
        found.earlier.add(both)
        if plan["programme_id"] == programme_id and document["state"] in ("ended", "lapsed"):
            last = LastPairing(
                datetime.fromisoformat(document["happened_at"]),
                classify_result(document["state"], document.get("end_kind")),
            )
            for member in both:
                if member not in found.last or found.last[member].at < last.at:
                    found.last[member] = last
    return found


async def _ledgers(ids: Iterable[str], ledgers: Collection) -> dict[str, SeatLedger]:
    shown = {"member_id": 1, "closed": 1, "held": 1}
    found = ledgers.find({"_id": {"$in": list(ids)}}, shown)
    return {document["_id"]: SeatLedger.model_validate(document) async for document in found}
