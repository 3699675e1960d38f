"""What notifier hears, and what follows from it."""

from chassis.aggregates import Op, Stored, instant
from chassis.hearing import Heard, Hearing
from contracts.people import ContactChanged, ErasureRequested
from contracts.programmes import ProgrammeChanged
from services.notifier.domain import Erasure, looked, requested
from services.notifier.store import Notifier

hearing: Hearing[Notifier] = Hearing()
hearing.projects(ContactChanged, lambda notifier: notifier.contacts)
hearing.projects(ProgrammeChanged, lambda notifier: notifier.programmes)


@hearing.when(ErasureRequested)
async def when_an_erasure_is_requested_begin_to_forget(event: Heard[ErasureRequested], notifier: Notifier) -> None:
    """The tombstone that erases the contact comes on another topic, in its own time; a sweep looks for it."""
    machine = notifier.clock.machine()
    await notifier.erasures.update(
        event.data.member_id,
        Op(f"{event.envelope.id}/when_an_erasure_is_requested_begin_to_forget"),
        lambda known: requested(known, event.data.member_id, event.data.requested_at, machine),
        cause=event.envelope,
    )


async def see_whether_all_is_forgotten(stored: Stored[Erasure], notifier: Notifier) -> None:
    """``Sweep`` calls it until nothing is held of the member, and that is reported."""
    gone = not await notifier.holds(stored.id)
    now, machine = notifier.clock.now(), notifier.clock.machine()
    await notifier.erasures.update(
        stored.id,
        Op(f"lease/{instant(stored.state.lease)}"),
        lambda known: looked(known, gone=gone, now=now, machine=machine),
    )
