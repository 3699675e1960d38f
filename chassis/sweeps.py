"""Sweeps: whatever must happen after a save, and is no reaction to an event, has its time in the document itself.

``due`` (business time) and ``lease`` (machine time) are indexed scalars of an aggregate; a sweep finds those that have
passed and calls the service, which must move them on by an update. There are no timers that a crash could forget.

A sweep slows itself down so that it takes no more than a few per cent of the time: a server without secondary indexes
scans the collection. By machine time it comes more seldom as long as it finds nothing: what a save of the same process
leaves to be done at once wakes it, and the rest is what others left behind.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar

from chassis import metrics
from chassis.aggregates import Aggregates, Kept, Stored
from chassis.clocks import Clock
from chassis.mongo import Document, Filter, PyMongoError
from chassis.relay import Relay
from chassis.telemetry import attached, span

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Kept)

SHORTEST = 0.25  # seconds between two sweeps
UNLESS_WOKEN = 1.0  # the same for leases, after a sweep that found none
AFTER_A_CRASH = 2.0  # the same for the outboxes: only a crash leaves something there, and its lease runs for longer
FAILED = 1.0  # seconds of rest after a sweep that failed
RATIO = 30  # times the duration of its search that a sweep rests ...
LONGEST = 15.0  # ... but no longer: one search on a server that was busy must not hold up what a crash left behind
LIMIT = 500  # documents in one page
AT_ONCE = 16
OVERDUE = timedelta(seconds=30)  # of machine time: a sweep comes round long before, unless it fails or falls behind


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
        """Act on all that has passed; returns how many there were."""
        return (await self.round(clock)).found

    async def round(self, clock: Clock) -> "Round":
        """Act on all that has passed, page by page, each once: what fails is passed over until the next time."""
        now = clock.now() if self.on == "due" else clock.machine()
        found, overdue, searching = 0, 0, 0.0
        after: Document | None = None
        while True:
            started = time.monotonic()
            page = await self._page(now, after)
            searching += time.monotonic() - started
            found += len(page)
            overdue += self._overdue(page, now, clock)
            metrics.due(self.aggregates.name, self.on, found)
            metrics.overdue(self.aggregates.name, self.on, overdue)
            places = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self._act(document, places) for document in page))
            if len(page) < LIMIT:
                return Round(found, searching)
            after = page[-1]

    async def _page(self, now: datetime, after: Document | None) -> list[Document]:
        passed: Filter = {self.on: {"$lte": now}}
        if after is not None:
            last = after[self.on]
            later = {self.on: {"$gt": last, "$lte": now}}
            passed = {"$or": [later, {self.on: last, "_id": {"$gt": after["_id"]}}]}
        cursor = self.aggregates.collection.find(passed).sort([(self.on, 1), ("_id", 1)]).limit(LIMIT)
        return [document async for document in cursor]

    def _overdue(self, page: list[Document], now: datetime, clock: Clock) -> int:
        """How many have waited for long since their time, by machine time: business time may run fast, or jump."""
        then = clock.machine() - OVERDUE
        passed = clock.timeline().at(then) if self.on == "due" else then
        # Where a file of business time began within that while, it was machine time before, which may be later.
        return 0 if passed > now else sum(document[self.on] <= passed for document in page)

    async def _act(self, document: Document, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                with self._trace_of(document):
                    await self.act(self.aggregates.stored(document))
            except Exception:
                log.exception(
                    "a follow-up failed; it is tried again",
                    extra={"collection": self.aggregates.name, "on": self.on},
                )

    def _trace_of(self, document: Document) -> AbstractContextManager[object]:
        """Unfinished work goes on in the trace that began it; a deadline begins one, which points back."""
        if self.on == "lease":
            return attached(document.get("leg"))
        return span(f"due {self.aggregates.name}", links=[document.get("leg")])


@dataclass(frozen=True)
class Round:
    """What one round of a sweep found, and the seconds that searching for it took, without acting on it."""

    found: int
    searching: float


async def drive(sweep: Sweep[Any], clock: Clock) -> None:
    """Sweep again and again until cancelled."""
    await _again(lambda: sweep.round(clock), woken=sweep.aggregates.at_hand if sweep.on == "lease" else None)


async def drive_relay(relay: Relay, aggregates: Aggregates[Any]) -> None:
    """Let the relay pick up, again and again, what a crash left in the outboxes."""

    async def once() -> Round:
        started = time.monotonic()
        return Round(await relay.sweep(aggregates), time.monotonic() - started)

    await _again(once, AFTER_A_CRASH)


async def _again(
    once: Callable[[], Awaitable[Round]], shortest: float = SHORTEST, woken: asyncio.Event | None = None
) -> None:
    while True:
        idle = False
        if woken is not None:
            woken.clear()  # before the search, which may miss what is saved meanwhile
        try:
            done = await once()
            rest, idle = max(shortest, rest_after(done)), done.found == 0
        except PyMongoError:
            log.exception("a sweep failed; it is tried again")
            rest = FAILED
        await asyncio.sleep(rest)
        if woken is not None and idle:
            with suppress(TimeoutError):
                async with asyncio.timeout(UNLESS_WOKEN - rest):
                    await woken.wait()


def rest_after(round: Round) -> float:
    """Seconds to rest, so that searching, and not acting, takes no more than a few per cent of the time."""
    return min(max(SHORTEST, round.searching * RATIO), LONGEST)
