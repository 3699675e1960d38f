"""Sweeps: follow-ups at a given time, which is stored in the document itself.

``due`` (business time) and ``lease`` (machine time) are indexed fields of an aggregate. A sweep finds the documents
whose time has passed and calls the service, which must move the time on by an update. There are no timers that a crash
could lose.

A sweep searches seldom, since a store without secondary indexes scans the collection (see
``chassis.storage.store_profile``). Each search looks ahead until the next one. Its finds, and the times that this
process saves meanwhile, wait in the queue of the aggregates, so that each is followed up at its own time. The searches
themselves find what other processes left behind.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from chassis.core.clocks import Clock
from chassis.messaging.relay import Relay
from chassis.observability import metrics
from chassis.observability.telemetry import span, use_context
from chassis.storage.aggregates import Aggregates, AggregateState, Follow, Stored
from chassis.storage.mongo import Document, Filter, PyMongoError
from chassis.storage.store_profile import StoreProfile

log = logging.getLogger(__name__)

S = TypeVar("S", bound=AggregateState)

MIN_INTERVAL_S = 0.25  # seconds between two searches, at least
USUAL_INTERVAL_S = 1.0  # the same, while business time has not passed the horizon of the last search
RELAY_INTERVAL_S = 2.0  # the same for outboxes: only a crash leaves events there, and their lease is longer
FAILURE_PAUSE_S = 1.0  # seconds after a sweep that failed
CLOCK_TICK_S = 0.05  # seconds between two looks at the clock while the queue is not empty
SPEED_CHANGES = 20  # latest segments of business time whose highest speed decides how far a search looks ahead
SEARCH_PAGE = 500  # documents in one page of a search
CONCURRENT_ACTIONS = 16  # follow-ups of one sweep that run side by side
OVERDUE_AFTER = timedelta(seconds=30)  # of machine time; later only if a sweep fails or falls behind


@dataclass(frozen=True)
class Sweep(Generic[S]):
    """Calls ``act`` for each aggregate whose time in field ``on`` has passed.

    ``act`` must be repeatable. It must move that time on by an update whose operation key contains the old time. If
    ``act`` raises, the next search tries again; the follow-ups of other aggregates are not affected.
    """

    aggregates: Aggregates[S]
    act: Callable[[Stored[S]], Awaitable[None]]
    on: Follow = "due"

    async def once(self, clock: Clock) -> int:
        """Search once and act on every time that has passed; returns their number."""
        return (await self.search(clock)).found

    async def search(self, clock: Clock, ahead: float = 0.0) -> "SearchStatistics":
        """Act on every time that has passed, page by page, each once; a failed one waits for the next search.

        Times within the next ``ahead`` seconds, at the highest recent speed of business time, are queued.
        """
        now = self._now(clock)
        until = now + timedelta(seconds=ahead * (_highest_speed(clock) if self.on == "due" else 1.0))
        queue = self.aggregates.due_queues[self.on]
        queue.horizon = until  # before the search, which may miss what is saved meanwhile
        result, overdue, searching = 0, 0, 0.0
        after: Document | None = None
        while True:
            started = time.monotonic()
            page = await self._page(until, after)
            searching += time.monotonic() - started
            passed = [document for document in page if document[self.on] <= now]
            for document in page[len(passed) :]:
                queue.push(document["_id"], document[self.on])
            result += len(passed)
            overdue += self._overdue(passed, now, clock)
            metrics.set_due(self.aggregates.name, self.on, result)
            metrics.set_overdue(self.aggregates.name, self.on, overdue)
            await self._act_on(passed)
            if len(page) < SEARCH_PAGE:
                return SearchStatistics(result, searching)
            after = page[-1]

    async def act_on_queue(self, clock: Clock) -> int:
        """Act on the queued times that have passed, the earliest first; returns their number."""
        now = self._now(clock)
        if not (ids := self.aggregates.due_queues[self.on].pop_due(now, SEARCH_PAGE)):
            return 0
        result = (await self.aggregates.documents(ids)).values()
        passed = [document for document in result if document[self.on] is not None and document[self.on] <= now]
        metrics.set_due(self.aggregates.name, self.on, len(passed))
        await self._act_on(sorted(passed, key=lambda document: document[self.on]))
        return len(passed)

    def behind(self, clock: Clock) -> bool:
        """Whether time has passed the horizon of the last search."""
        until = self.aggregates.due_queues[self.on].horizon
        return until is None or self._now(clock) > until

    def _now(self, clock: Clock) -> datetime:
        return clock.now() if self.on == "due" else clock.machine_now()

    async def _page(self, now: datetime, after: Document | None) -> list[Document]:
        passed: Filter = {self.on: {"$lte": now}}
        if after is not None:
            last = after[self.on]
            later = {self.on: {"$gt": last, "$lte": now}}
            passed = {"$or": [later, {self.on: last, "_id": {"$gt": after["_id"]}}]}
        cursor = self.aggregates.collection.find(passed).sort([(self.on, 1), ("_id", 1)]).limit(SEARCH_PAGE)
        return [document async for document in cursor]

    def _overdue(self, page: list[Document], now: datetime, clock: Clock) -> int:
        """The number of documents that have waited long, by machine time: business time may run fast, or jump."""
        then = clock.machine_now() - OVERDUE_AFTER
        passed = clock.timeline().business_time(then) if self.on == "due" else then
        # If business time began to differ only within this interval, the earlier instant may lie after ``now``.
        return 0 if passed > now else sum(document[self.on] <= passed for document in page)

    async def _act_on(self, documents: list[Document]) -> None:
        slots = asyncio.Semaphore(CONCURRENT_ACTIONS)
        await asyncio.gather(*(self._act(document, slots) for document in documents))

    async def _act(self, document: Document, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                with self._trace_of(document):
                    await self.act(self.aggregates.stored(document))
            except Exception:
                log.exception(
                    "a follow-up failed; it is repeated",
                    extra={"collection": self.aggregates.name, "on": self.on},
                )

    def _trace_of(self, document: Document) -> AbstractContextManager[object]:
        """Unfinished work continues its trace; a deadline begins a new trace, which links back to it."""
        if self.on == "lease":
            return use_context(document.get("leg"))
        return span(f"due {self.aggregates.name}", links=[document.get("leg")])


@dataclass(frozen=True)
class SearchStatistics:
    """``found``: times that had passed. ``searching``: seconds that the search took, without the actions."""

    found: int
    searching: float


async def run_sweep(sweep: Sweep[Any], clock: Clock) -> None:
    """Sweep until cancelled."""
    queue, rest = sweep.aggregates.due_queues[sweep.on], MIN_INTERVAL_S
    while True:
        try:
            rest = rest_after(await sweep.search(clock, 2 * max(rest, USUAL_INTERVAL_S)), sweep.aggregates.profile)
            ended = time.monotonic()
            while (rested := time.monotonic() - ended) < rest or (
                rested < USUAL_INTERVAL_S and not sweep.behind(clock)
            ):
                if not await sweep.act_on_queue(clock):
                    await queue.wait(CLOCK_TICK_S if queue else MIN_INTERVAL_S)
        except PyMongoError:
            log.exception("a sweep failed; it is repeated")
            await asyncio.sleep(FAILURE_PAUSE_S)


async def run_relay_sweep(relay: Relay, aggregates: Aggregates[Any]) -> None:
    """Let the relay publish, until cancelled, the events that a crash left in the outboxes."""
    while True:
        try:
            started = time.monotonic()
            result = await relay.sweep(aggregates)
            rest = max(
                RELAY_INTERVAL_S, rest_after(SearchStatistics(result, time.monotonic() - started), aggregates.profile)
            )
        except PyMongoError:
            log.exception("a sweep failed; it is repeated")
            rest = FAILURE_PAUSE_S
        await asyncio.sleep(rest)


def rest_after(search: SearchStatistics, profile: StoreProfile) -> float:
    """Seconds to rest, so that searching, without acting, takes no more of the time than the store can spare."""
    return min(max(MIN_INTERVAL_S, search.searching * profile.rest_ratio), profile.max_rest_s)


def _highest_speed(clock: Clock) -> float:
    """The highest recent speed of business time."""
    return max((segment.speed for segment in clock.timeline().segments[-SPEED_CHANGES:]), default=1.0)
