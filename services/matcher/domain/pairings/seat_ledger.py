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
from services.matcher.domain.fit.rules import get_capacity

AUDIT_DELAY = timedelta(
    minutes=2
)  # machine time after a take until the ledger is compared with the pairings that hold it
ERASURE_RETRY = timedelta(seconds=15)  # machine time until an unfinished erasure is taken up again


class Seat(FrozenModel):
    """A place held by one attempt of a pairing."""

    attempt: int
    partner: str
    programme_id: str


class SeatLimits(FrozenModel):
    """How many places a member has: over all programmes, and in the one that is asked for."""

    total: int
    programme: int


class SeatLedger(FrozenModel):
    """Invariant: ``held`` grows only while it is below the room known at that moment, and never when closed."""

    member_id: str
    capacity: int = 0
    closed: bool = False
    held: dict[str, Seat] = Field(default_factory=dict)
    erasing: bool = False
    erased_at: Instant | None = None
    due: Instant | None = None
    lease: Instant | None = None

    def count_free(self, limits: SeatLimits, programme_id: str) -> int:
        """Places still free in the programme."""
        if self.closed:
            return 0
        held_here = sum(seat.programme_id == programme_id for seat in self.held.values())
        return max(0, min(limits.total - len(self.held), limits.programme - held_here))


Decision = tuple[SeatLedger, Sequence[OutgoingEvent]]


def compute_seat_limits(profile: ProfileChanged | None, programme_id: str) -> SeatLimits:
    """The places that a profile grants; none without one."""
    if profile is None:
        return SeatLimits(total=0, programme=0)
    total = sum(get_capacity(profile, id) for id in {enrolment.programme_id for enrolment in profile.enrolments})
    if profile.personal_cap is not None:
        total = min(total, profile.personal_cap)
    return SeatLimits(total=total, programme=min(total, get_capacity(profile, programme_id)))


def count_free_seats(
    ledgers: Mapping[str, SeatLedger], profiles: Iterable[ProfileChanged], programme_id: str
) -> dict[str, int]:
    """Places that are free in the programme, of those who have any."""
    free_by_member: dict[str, int] = {}
    for profile in profiles:
        ledger = ledgers.get(profile.member_id) or SeatLedger(member_id=profile.member_id)
        if (free := ledger.count_free(compute_seat_limits(profile, programme_id), programme_id)) > 0:
            free_by_member[profile.member_id] = free
    return free_by_member


def take_seat(
    ledger: SeatLedger | None, member_id: str, pairing_id: str, seat: Seat, limits: SeatLimits, recorded_at: datetime
) -> Decision | None:
    """Hold a place for a pairing's attempt; None where it is held already. Raises ``CommandRejected``."""
    ledger = ledger or SeatLedger(member_id=member_id)
    own_seat = ledger.held.get(pairing_id)
    if own_seat is not None and own_seat.attempt == seat.attempt:
        return None
    if own_seat is not None and own_seat.attempt > seat.attempt:
        raise CommandRejected("overtaken", "A newer attempt at this pairing is under way.")
    if ledger.closed:
        raise CommandRejected("closed", "This member takes part no longer.")
    others = {id: other for id, other in ledger.held.items() if id != pairing_id}
    if any(other.partner == seat.partner for other in others.values()):
        raise CommandRejected("already_partners", "These two are partners, or suggested to each other, already.")
    if own_seat is None and ledger.count_free(limits, seat.programme_id) <= 0:
        raise CommandRejected("no_seat", "All places of this member are taken.")
    after = ledger.model_copy(
        update={
            "capacity": limits.total,
            "held": {**others, pairing_id: seat},
            "lease": ledger.lease or recorded_at + AUDIT_DELAY,
        }
    )
    return after, []


def release_seat(ledger: SeatLedger | None, pairing_id: str, attempt: int) -> Decision | None:
    """Give back what this attempt holds; None where it holds nothing."""
    if ledger is None or pairing_id not in ledger.held or ledger.held[pairing_id].attempt != attempt:
        return None
    held = {id: seat for id, seat in ledger.held.items() if id != pairing_id}
    return ledger.model_copy(update={"held": held}), []


def apply_audit(
    ledger: SeatLedger | None,
    checked: Mapping[str, int],
    dead_attempts: Mapping[str, int],
    has_unsettled: bool,
    recorded_at: datetime,
) -> Decision | None:
    """Free the seats of ``dead`` attempts (by pairing). The next audit follows while any reservation is unsettled.

    ``seen``: the attempts that were looked at; a seat taken since then calls for another audit.
    """
    if ledger is None:
        return None
    held = {id: seat for id, seat in ledger.held.items() if dead_attempts.get(id) != seat.attempt}
    needs_audit = has_unsettled or any(checked.get(id) != seat.attempt for id, seat in held.items())
    lease = recorded_at + AUDIT_DELAY if needs_audit else None
    return ledger.model_copy(update={"held": held, "lease": lease}), []


def close_ledger(ledger: SeatLedger | None, member_id: str, recorded_at: datetime) -> Decision | None:
    """Begin an erasure: nothing is taken from now on. None where it had begun or is done."""
    if ledger is not None and ledger.erasing:
        return None
    ledger = ledger or SeatLedger(member_id=member_id)
    after = ledger.model_copy(
        update={"closed": True, "erasing": True, "capacity": 0, "lease": recorded_at + ERASURE_RETRY, "erased_at": None}
    )
    return after, []


def complete_erasure(ledger: SeatLedger | None, is_clean: bool, moment: Moment) -> Decision | None:
    """Complete an erasure when nothing is left (``clean``) and no seat is held; otherwise it is tried again later."""
    if ledger is None or not ledger.erasing or ledger.erased_at is not None:
        return None
    if not is_clean or ledger.held:
        return ledger.model_copy(update={"lease": moment.recorded_at + ERASURE_RETRY}), []
    completed = ErasureCompleted(member_id=ledger.member_id, service="matcher", completed_at=moment.now)
    return ledger.model_copy(update={"erased_at": moment.now, "lease": None}), [completed]
