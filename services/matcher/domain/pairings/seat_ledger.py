"""Seats: one ledger for each member says which pairings hold a place of theirs.

A pairing takes a seat in both ledgers before it is proposed, each under the number of its attempt, and gives both back
under the same number. Since attempts only grow and a seat is matched by (pairing, attempt), a late or repeated step
can neither take twice nor free what a newer attempt holds. Lowering a capacity ends nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import CommandRejected
from contracts.moment import Moment
from contracts.privacy import ErasureCompleted
from contracts.profiles import ProfileChanged
from services.matcher.domain.fit.rules import capacity

AUDIT = timedelta(minutes=2)  # machine time after a take until the ledger is compared with the pairings that hold it
RETRY = timedelta(seconds=15)  # machine time until an unfinished erasure is taken up again


class Seat(FrozenModel):
    """A place held by one attempt of a pairing."""

    attempt: int
    partner: str
    programme_id: str


class Room(FrozenModel):
    """How many places a member has: over all programmes, and in the one that is asked for."""

    total: int
    programme: int


class Ledger(FrozenModel):
    """Invariant: ``held`` grows only while it is below the room known at that moment, and never when closed."""

    member_id: str
    capacity: int = 0
    closed: bool = False
    held: dict[str, Seat] = Field(default_factory=dict)
    erasing: bool = False
    erased_at: Instant | None = None
    due: Instant | None = None
    lease: Instant | None = None

    def free(self, room: Room, programme_id: str) -> int:
        """Places still free in the programme."""
        if self.closed:
            return 0
        here = sum(seat.programme_id == programme_id for seat in self.held.values())
        return max(0, min(room.total - len(self.held), room.programme - here))


Decision = tuple[Ledger, Sequence[OutgoingEvent]]


def room(profile: ProfileChanged | None, programme_id: str) -> Room:
    """The places that a profile grants; none without one."""
    if profile is None:
        return Room(total=0, programme=0)
    total = sum(capacity(profile, id) for id in {enrolment.programme_id for enrolment in profile.enrolments})
    if profile.personal_cap is not None:
        total = min(total, profile.personal_cap)
    return Room(total=total, programme=min(total, capacity(profile, programme_id)))


def free_places(ledgers: Mapping[str, Ledger], profiles: Iterable[ProfileChanged], programme_id: str) -> dict[str, int]:
    """Places that are free in the programme, of those who have any."""
    places: dict[str, int] = {}
    for profile in profiles:
        ledger = ledgers.get(profile.member_id) or Ledger(member_id=profile.member_id)
        if (free := ledger.free(room(profile, programme_id), programme_id)) > 0:
            places[profile.member_id] = free
    return places


def take(
    ledger: Ledger | None, member_id: str, pairing_id: str, seat: Seat, places: Room, recorded_at: datetime
) -> Decision | None:
    """Hold a place for a pairing's attempt; None where it is held already. Raises ``CommandRejected``."""
    ledger = ledger or Ledger(member_id=member_id)
    mine = ledger.held.get(pairing_id)
    if mine is not None and mine.attempt == seat.attempt:
        return None
    if mine is not None and mine.attempt > seat.attempt:
        raise CommandRejected("overtaken", "A newer attempt at this pairing is under way.")
    if ledger.closed:
        raise CommandRejected("closed", "This member takes part no longer.")
    others = {id: other for id, other in ledger.held.items() if id != pairing_id}
    if any(other.partner == seat.partner for other in others.values()):
        raise CommandRejected("already_partners", "These two are partners, or suggested to each other, already.")
    if mine is None and ledger.free(places, seat.programme_id) <= 0:
        raise CommandRejected("no_seat", "All places of this member are taken.")
    after = ledger.model_copy(
        update={
            "capacity": places.total,
            "held": {**others, pairing_id: seat},
            "lease": ledger.lease or recorded_at + AUDIT,
        }
    )
    return after, []


def release(ledger: Ledger | None, pairing_id: str, attempt: int) -> Decision | None:
    """Give back what this attempt holds; None where it holds nothing."""
    if ledger is None or pairing_id not in ledger.held or ledger.held[pairing_id].attempt != attempt:
        return None
    held = {id: seat for id, seat in ledger.held.items() if id != pairing_id}
    return ledger.model_copy(update={"held": held}), []


def audited(
    ledger: Ledger | None, seen: Mapping[str, int], dead: Mapping[str, int], unsettled: bool, recorded_at: datetime
) -> Decision | None:
    """Free the seats of ``dead`` attempts (by pairing). The next audit follows while any reservation is unsettled.

    ``seen``: the attempts that were looked at; a seat taken since then calls for another audit.
    """
    if ledger is None:
        return None
    held = {id: seat for id, seat in ledger.held.items() if dead.get(id) != seat.attempt}
    again = unsettled or any(seen.get(id) != seat.attempt for id, seat in held.items())
    lease = recorded_at + AUDIT if again else None
    return ledger.model_copy(update={"held": held, "lease": lease}), []


def close(ledger: Ledger | None, member_id: str, recorded_at: datetime) -> Decision | None:
    """Begin an erasure: nothing is taken from now on. None where it had begun or is done."""
    if ledger is not None and ledger.erasing:
        return None
    ledger = ledger or Ledger(member_id=member_id)
    after = ledger.model_copy(
        update={"closed": True, "erasing": True, "capacity": 0, "lease": recorded_at + RETRY, "erased_at": None}
    )
    return after, []


def forgotten(ledger: Ledger | None, clean: bool, moment: Moment) -> Decision | None:
    """Complete an erasure when nothing is left (``clean``) and no seat is held; otherwise it is tried again later."""
    if ledger is None or not ledger.erasing or ledger.erased_at is not None:
        return None
    if not clean or ledger.held:
        return ledger.model_copy(update={"lease": moment.recorded_at + RETRY}), []
    done = ErasureCompleted(member_id=ledger.member_id, service="matcher", completed_at=moment.now)
    return ledger.model_copy(update={"erased_at": moment.now, "lease": None}), [done]
