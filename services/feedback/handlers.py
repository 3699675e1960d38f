"""What feedback hears, and what follows from it."""

from chassis.aggregates import Op, Stored, instant
from chassis.hearing import Heard, Hearing
from contracts.pairings import PairingState
from contracts.people import ErasureRequested
from contracts.programmes import ProgrammeChanged
from services.feedback.domain import Erasure, looked, requested
from services.feedback.store import Feedback

hearing: Hearing[Feedback] = Hearing()
hearing.projects(PairingState, lambda feedback: feedback.pairings)
hearing.projects(ProgrammeChanged, lambda feedback: feedback.programmes)


@hearing.when(ErasureRequested)
async def when_an_erasure_is_requested_begin_to_forget(event: Heard[ErasureRequested], feedback: Feedback) -> None:
    """The tombstones of their pairings come on another topic, in their own time; a sweep looks for them."""
    machine = feedback.clock.machine()
    await feedback.erasures.update(
        event.data.member_id,
        Op(f"{event.envelope.id}/when_an_erasure_is_requested_begin_to_forget"),
        lambda known: requested(known, event.data.member_id, event.data.requested_at, machine),
        cause=event.envelope,
    )


async def see_whether_all_is_forgotten(stored: Stored[Erasure], feedback: Feedback) -> None:
    """``Sweep`` calls it until nothing is held of the member, and that is reported."""
    gone = not await feedback.holds(stored.id)
    now, machine = feedback.clock.now(), feedback.clock.machine()
    await feedback.erasures.update(
        stored.id,
        Op(f"lease/{instant(stored.state.lease)}"),
        lambda known: looked(known, gone=gone, now=now, machine=machine),
    )
