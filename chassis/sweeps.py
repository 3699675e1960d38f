"""Sweeps: whatever must happen after a save, and is no reaction to an event, has its time in the document itself.

``due`` (business time) and ``lease`` (machine time) are indexed scalars of an aggregate; a sweep finds those that have
passed and calls the service, which must move them on by an update. There are no timers that a crash could forget.

A sweep searches seldom, so that it takes no more than a few per cent of the time: a server without secondary indexes
scans the collection. Each search looks ahead until the next one, and what this process saves meanwhile is at hand too,
so that all of it has its turn in its own time. The rest is what others left behind.
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

MIN_INTERVAL_S = 0.25  # seconds between two searches
USUAL_INTERVAL_S = 1.0  # the same as long as business time goes no further than the last one looked ahead
RELAY_INTERVAL_S = 2.0  # the same for the outboxes: only a crash leaves something there, and its lease runs for longer
FAILURE_PAUSE_S = 1.0  # seconds of rest after a sweep that failed
CLOCK_TICK_S = 0.05  # seconds between two looks at the clock while something is at hand
SPEED_CHANGES = 20  # changes of the speed of business time, by which a search looks ahead
SEARCH_PAGE = 500  # documents in one page
CONCURRENT_ACTIONS = 16
OVERDUE_AFTER = timedelta(
    seconds=30
)  # of machine time: a sweep comes round long before, unless it fails or falls behind


@dataclass(frozen=True)
class Sweep(Generic[S]):
    """Calls ``act`` for each aggregate whose ``on`` has passed.

    ``act`` must be safe to repeat and must move ``on`` on, by an update whose operation is named after the slot. An
    ``act`` that raises is tried again in the next sweep; it never keeps others from their turn.
    """

    aggregates: Aggregates[S]
    act: Callable[[Stored[S]], Awaitable[None]]
    on: Follow = "due"

    async def once(self, clock: Clock) -> int:
        """Act on all that has passed; returns how many there were."""
        return (await self.search(clock)).found

    async def search(self, clock: Clock, ahead: float = 0.0) -> "SearchStatistics":
        """Act on all that has passed, page by page, each once: what fails is passed over until the next time.

        What passes within the next ``ahead`` seconds, as fast as business time has run lately, is then at hand.
        """
        now = self._now(clock)
        until = now + timedelta(seconds=ahead * (_fastest(clock) if self.on == "due" else 1.0))
        at_hand = self.aggregates.due_queues[self.on]
        at_hand.horizon = until  # before the search, which may miss what is saved meanwhile
        found, overdue, searching = 0, 0, 0.0
        after: Document | None = None
        while True:
            started = time.monotonic()
            page = await self._page(until, after)
            searching += time.monotonic() - started
            passed = [document for document in page if document[self.on] <= now]
            for document in page[len(passed) :]:
                at_hand.push(document["_id"], document[self.on])
            found += len(passed)
            overdue += self._overdue(passed, now, clock)
            metrics.set_due(self.aggregates.name, self.on, found)
            metrics.set_overdue(self.aggregates.name, self.on, overdue)
            await self._act_on(passed)
            if len(page) < SEARCH_PAGE:
                return SearchStatistics(found, searching)
            after = page[-1]

    async def act_on_queue(self, clock: Clock) -> int:
        """Act on what is at hand and has passed, the earliest first; returns how many there were."""
        now = self._now(clock)
        if not (ids := self.aggregates.due_queues[self.on].pop_due(now, SEARCH_PAGE)):
            return 0
        found = (await self.aggregates.documents(ids)).values()
        passed = [document for document in found if document[self.on] is not None and document[self.on] <= now]
        metrics.set_due(self.aggregates.name, self.on, len(passed))
        await self._act_on(sorted(passed, key=lambda document: document[self.on]))
        return len(passed)

    def behind(self, clock: Clock) -> bool:
        """Whether time has gone further than the last search looked ahead."""
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
        """How many have waited for long since their time, by machine time: business time may run fast, or jump."""
        then = clock.machine_now() - OVERDUE_AFTER
        passed = clock.timeline().business_time(then) if self.on == "due" else then
        # Where a file of business time began within that while, it was machine time before, which may be later.
        return 0 if passed > now else sum(document[self.on] <= passed for document in page)

    async def _act_on(self, documents: list[Document]) -> None:
        places = asyncio.Semaphore(CONCURRENT_ACTIONS)
        await asyncio.gather(*(self._act(document, places) for document in documents))

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
            return use_context(document.get("leg"))
        return span(f"due {self.aggregates.name}", links=[document.get("leg")])


@dataclass(frozen=True)
class SearchStatistics:
    """What a search found to have passed, and the seconds that it took, without acting on it."""

    found: int
    searching: float


async def run_sweep(sweep: Sweep[Any], clock: Clock) -> None:
    """Sweep again and again until cancelled."""
    at_hand, rest = sweep.aggregates.due_queues[sweep.on], MIN_INTERVAL_S
    while True:
        try:
            rest = rest_after(await sweep.search(clock, 2 * max(rest, USUAL_INTERVAL_S)), sweep.aggregates.profile)
            ended = time.monotonic()
            while (rested := time.monotonic() - ended) < rest or (
                rested < USUAL_INTERVAL_S and not sweep.behind(clock)
            ):
                if not await sweep.act_on_queue(clock):
                    await at_hand.wait(CLOCK_TICK_S if at_hand else MIN_INTERVAL_S)
        except PyMongoError:
            log.exception("a sweep failed; it is tried again")
            await asyncio.sleep(FAILURE_PAUSE_S)


async def run_relay_sweep(relay: Relay, aggregates: Aggregates[Any]) -> None:
    """Let the relay pick up, again and again, what a crash left in the outboxes."""
    while True:
        try:
            started = time.monotonic()
            found = await relay.sweep(aggregates)
            rest = max(
                RELAY_INTERVAL_S, rest_after(SearchStatistics(found, time.monotonic() - started), aggregates.profile)
            )
        except PyMongoError:
            log.exception("a sweep failed; it is tried again")
            rest = FAILURE_PAUSE_S
        await asyncio.sleep(rest)


def rest_after(search: SearchStatistics, profile: StoreProfile) -> float:
    """Seconds to rest, so that searching, without acting, takes no more of the time than the store can spare."""
    return min(max(MIN_INTERVAL_S, search.searching * profile.rest_ratio), profile.max_rest_s)


def _fastest(clock: Clock) -> float:
    """How fast business time has run lately, at most."""
    return max((segment.speed for segment in clock.timeline().segments[-SPEED_CHANGES:]), default=1.0)
