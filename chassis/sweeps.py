"""Sweeps: whatever must happen after a save, and is no reaction to an event, has its time in the document itself.

``due`` (business time) and ``lease`` (machine time) are indexed scalars of an aggregate; a sweep finds those that have
passed and calls the service, which must move them on by an update. There are no timers that a crash could forget.

A sweep slows itself down so that it takes no more than a few per cent of the time: a server without secondary indexes
scans the collection.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from chassis import metrics
from chassis.aggregates import Aggregates, Kept, Stored
from chassis.clocks import Clock
from chassis.mongo import PyMongoError
from chassis.relay import Relay

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Kept)

SHORTEST = 0.25  # seconds between two sweeps
RATIO = 30  # times its own duration that a sweep rests
LIMIT = 500  # documents in one go
AT_ONCE = 16


@dataclass(frozen=True)
class Sweep(Generic[S]):
    """Calls ``act`` for each aggregate whose ``on`` has passed.

    ``act`` must be safe to repeat and must move ``on`` on, by an update whose operation is named after the slot. An
    ``act`` that raises is tried again in the next sweep; it never keeps others from their turn.
    """

    aggregates: Aggregates[S]
    act: Callable[[Stored[S]], Awaitable[None]]
    on: Literal["due", "lease"] = "due"

    async def once(self, clock: Clock) -> int:
        """Act on what has passed; returns how many there were."""
        now = clock.now() if self.on == "due" else clock.machine()
        cursor = self.aggregates.collection.find({self.on: {"$lte": now}}).sort(self.on, 1).limit(LIMIT)
        passed = [self.aggregates.stored(document) async for document in cursor]
        metrics.overdue(self.aggregates.name, self.on, len(passed))
        places = asyncio.Semaphore(AT_ONCE)

        async def act(stored: Stored[S]) -> None:
            async with places:
                try:
                    await self.act(stored)
                except Exception:
                    log.exception(
                        "a follow-up failed; it is tried again",
                        extra={"collection": self.aggregates.name, "on": self.on},
                    )

        await asyncio.gather(*(act(stored) for stored in passed))
        return len(passed)


async def drive(sweep: Sweep[Any], clock: Clock) -> None:
    """Sweep again and again until cancelled."""
    await _again(lambda: sweep.once(clock), LIMIT)


async def drive_relay(relay: Relay, aggregates: Aggregates[Any]) -> None:
    """Let the relay pick up, again and again, what a crash left in the outboxes."""
    await _again(lambda: relay.sweep(aggregates), None)


async def _again(once: Callable[[], Awaitable[int]], full: int | None) -> None:
    while True:
        started = time.monotonic()
        found = 0
        try:
            found = await once()
        except PyMongoError:
            log.exception("a sweep failed; it is tried again")
        took = time.monotonic() - started
        await asyncio.sleep(SHORTEST if found == full else max(SHORTEST, took * RATIO))
