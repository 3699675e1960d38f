"""Seats: one ledger for each member records which pairings hold a seat of theirs.

A pairing takes a seat in both ledgers before it is proposed, under the number of its attempt, and gives both back under
the same number. Attempt numbers only grow, and a seat is matched by (pairing, attempt). So a late or repeated step can
neither take a seat twice nor free the seat of a newer attempt. Lowering a capacity ends no pairing.
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
from services.matcher.domain.fit.hard_rules import get_capacity

AUDIT_DELAY = timedelta(minutes=2)  # machine time after a take until the ledger is compared with its pairings
ERASURE_RETRY = timedelta(seconds=15)  # machine time until an unfinished erasure is retried


class Seat(FrozenModel):
    """A seat held by one attempt of a pairing."""

    attempt: int
    partner: str
    programme_id: str


class SeatLimits(FrozenModel):
    """The seats of a member: in all programmes together, and in one programme."""

    total: int
    programme: int


class SeatLedger(FrozenModel):
    """Invariant: ``held`` grows only while it is below the limits known at that moment, and never when closed."""

    member_id: str
    capacity: int = 0
    closed: bool = False
    held: dict[str, Seat] = Field(default_factory=dict)
    erasing: bool = False
    erased_at: Instant | None = None
    due: Instant | None = None
    lease: Instant | None = None

    def count_free(self, limits: SeatLimits, programme_id: str) -> int:
        """The seats that are still free in the programme."""
        if self.closed:
            return 0
        held_here = sum(seat.programme_id == programme_id for seat in self.held.values())
        return max(0, min(limits.total - len(self.held), limits.programme - held_here))


Decision = tuple[SeatLedger, Sequence[OutgoingEvent]]


def compute_seat_limits(profile: ProfileChanged | None, programme_id: str) -> SeatLimits:
    """The seats that a profile grants; none without a profile."""
    if profile is None:
        return SeatLimits(total=0, programme=0)
    total = sum(get_capacity(profile, id) for id in {enrolment.programme_id for enrolment in profile.enrolments})
    if profile.personal_cap is not None:
        total = min(total, profile.personal_cap)
    return SeatLimits(total=total, programme=min(total, get_capacity(profile, programme_id)))


def count_free_seats(
    ledgers: Mapping[str, SeatLedger], profiles: Iterable[ProfileChanged], programme_id: str
) -> dict[str, int]:
    """The free seats in the programme by member, for members with at least one."""
    free_by_member: dict[str, int] = {}
    for profile in profiles:
        ledger = ledgers.get(profile.member_id) or SeatLedger(member_id=profile.member_id)
        if (free := ledger.count_free(compute_seat_limits(profile, programme_id), programme_id)) > 0:
            free_by_member[profile.member_id] = free
    return free_by_member


def take_seat(
    ledger: SeatLedger | None, member_id: str, pairing_id: str, seat: Seat, limits: SeatLimits, recorded_at: datetime
) -> Decision | None:
    """Hold a seat for the attempt of a pairing; None if it is held already. Raises ``CommandRejected``."""
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
    """Give back the seat of this attempt; None if it holds none."""
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
    """Free the seats of dead attempts.

    ``checked``: the audited attempts by pairing. ``dead_attempts``: those of them that hold a seat wrongly. Another
    audit follows if a seat was taken meanwhile, or if ``has_unsettled`` (a reservation is still under way).
    """
    if ledger is None:
        return None
    held = {id: seat for id, seat in ledger.held.items() if dead_attempts.get(id) != seat.attempt}
    needs_audit = has_unsettled or any(checked.get(id) != seat.attempt for id, seat in held.items())
    lease = recorded_at + AUDIT_DELAY if needs_audit else None
    return ledger.model_copy(update={"held": held, "lease": lease}), []


def close_ledger(ledger: SeatLedger | None, member_id: str, recorded_at: datetime) -> Decision | None:
    """Begin an erasure: no seat is taken from now on. None if it has begun or is complete."""
    if ledger is not None and ledger.erasing:
        return None
    ledger = ledger or SeatLedger(member_id=member_id)
    after = ledger.model_copy(
        update={"closed": True, "erasing": True, "capacity": 0, "lease": recorded_at + ERASURE_RETRY, "erased_at": None}
    )
    return after, []


def complete_erasure(ledger: SeatLedger | None, is_clean: bool, moment: Moment) -> Decision | None:
    """Complete an erasure if no data is left (``is_clean``) and no seat is held; otherwise retry it later."""
    if ledger is None or not ledger.erasing or ledger.erased_at is not None:
        return None
    if not is_clean or ledger.held:
        return ledger.model_copy(update={"lease": moment.recorded_at + ERASURE_RETRY}), []
    completed = ErasureCompleted(member_id=ledger.member_id, service="matcher", completed_at=moment.now)
    return ledger.model_copy(update={"erased_at": moment.now, "lease": None}), [completed]
