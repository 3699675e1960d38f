"""Erasure: the protocol by which a service forgets a member and reports it, once for all services.

    request -> forget, step by step -> is anything still held? -> completed event

The request begins an ``Erasure``, an aggregate whose lease has already passed. A sweep calls ``advance``, which forgets
and then asks whether anything is still held. Other topics bring their tombstones in their own time, so it asks again a
second later, until nothing is held; the save that notes it carries ``erasure.completed``. A service gives two
functions: ``forget``, whose steps can be repeated, and ``holds_anything``.

The erasure is saved before the search for what to forget begins. Data about a member may be written while that search
runs, or after it. ``write_about`` therefore looks after every such write whether an erasure has begun: either the
erasure's search finds the write, or the writer finds the erasure.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias, TypeVar

from chassis.core.clocks import Clock
from chassis.core.commands import Op
from chassis.messaging.subscriptions import ReceivedEvent
from chassis.storage.aggregates import Aggregates, State, Stored, stored_instant
from contracts.envelope import Instant, OutgoingEvent
from contracts.moment import Moment
from contracts.privacy import ErasureCompleted, ErasureRequested

RECHECK_INTERVAL = timedelta(seconds=1)  # of machine time, between two looks at what is still held

T = TypeVar("T")
FindErased: TypeAlias = Callable[[Sequence[str]], Awaitable[Collection[str]]]


class Erasure(State):
    """The erasure of one member in one service. ``lease``: when to check again whether anything is still held."""

    member_id: str
    requested_at: Instant
    completed_at: Instant | None = None


Decision: TypeAlias = tuple[Erasure, list[OutgoingEvent]] | None


async def begin(event: ReceivedEvent[ErasureRequested], op: Op, erasures: Aggregates[Erasure], clock: Clock) -> None:
    """Begin the erasure that was requested; the sweep does the rest."""
    request, recorded_at = event.data, clock.machine_now()
    await erasures.update(
        request.member_id, op, lambda erasure: open_erasure(erasure, request, recorded_at), cause=event.envelope
    )


async def advance(
    stored: Stored[Erasure],
    erasures: Aggregates[Erasure],
    clock: Clock,
    *,
    forget: Callable[[str], Awaitable[None]],
    holds_anything: Callable[[str], Awaitable[bool]],
) -> None:
    """Forget, and complete the erasure if nothing is held. An exception of ``forget`` makes the sweep come back."""
    await forget(stored.id)
    is_forgotten = not await holds_anything(stored.id)
    moment = clock.moment()
    await erasures.update(
        stored.id,
        Op(f"lease/{stored_instant(stored.state.lease)}"),
        lambda erasure: complete_or_recheck(erasure, erasures.service, moment, is_forgotten=is_forgotten),
    )


async def write_about(
    members: Callable[[T], Iterable[str]],
    write: Awaitable[T],
    *,
    find_erased: FindErased,
    forget: Callable[[str], Awaitable[object]],
) -> T:
    """Write data that names members, then forget those whose erasure began before the write was there.

    ``members`` names the members in the result of ``write``. ``find_erased`` gives those of them who are erased or are
    being erased. ``forget`` is called for each of these, in the order of their ids; it may be repeated.
    """
    result = await write
    named = sorted(set(members(result)))
    if named:
        for member_id in sorted(await find_erased(named)):
            await forget(member_id)
    return result


def open_erasure(erasure: Erasure | None, request: ErasureRequested, recorded_at: datetime) -> Decision:
    """A new erasure, to be worked on at once. None: it was requested before."""
    if erasure is not None:
        return None
    return Erasure(member_id=request.member_id, requested_at=request.requested_at, lease=recorded_at), []


def complete_or_recheck(erasure: Erasure | None, service: str, moment: Moment, *, is_forgotten: bool) -> Decision:
    """Complete the erasure and report it, or check again soon. None: it is completed already."""
    if erasure is None or erasure.completed_at is not None:
        return None
    if not is_forgotten:
        return erasure.model_copy(update={"lease": moment.recorded_at + RECHECK_INTERVAL}), []
    completed = {"member_id": erasure.member_id, "service": service, "completed_at": moment.now}
    after = erasure.model_copy(update={"completed_at": moment.now, "lease": None})
    return after, [ErasureCompleted.model_validate(completed)]
