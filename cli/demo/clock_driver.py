"""Runs business time through the months while the simulated people act, and shows the progress."""

import asyncio
import time
from collections import Counter
from datetime import datetime

from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

from chassis.core.clocks import Clock
from cli.console import print_line, progress_bar
from cli.demo.event_ticker import EventTicker
from cli.demo.http_client import DemoServices
from cli.demo.simulated_members import SimulatedMembers
from cli.demo.speed_control import choose_speed
from cli.demo.subscriber import Subscriber, Witness
from contracts.catalogue import SERVICES

_TICK_S = 0.1
_CHECK_EVERY_S = 0.7
"""Seconds between two checks of the services' backlog."""
_BACKLOG_METRICS = {"viceversa_due", "viceversa_consumer_lag", "viceversa_outbox_waiting"}
_COUNTED_EVENTS = (
    ("asked", "pairing.proposed"),
    ("lapsed", "pairing.lapsed"),
    ("formed", "pairing.formed"),
    ("agreed", "pairing.chartered"),
    ("meetings", "session.held"),
    ("check-ins", "checkin.completed"),
    ("partner changes", "partner.change.requested"),
    ("ended", "pairing.ended"),
    ("messages", "notification.sent"),
)


class ClockDriver:
    """Runs business time only as fast as people and services keep up."""

    def __init__(
        self,
        services: DemoServices,
        clock: Clock,
        subscriber: Subscriber,
        ticker: EventTicker,
        members: SimulatedMembers,
    ) -> None:
        self._services, self._clock, self._subscriber, self._ticker, self._members = (
            services,
            clock,
            subscriber,
            ticker,
            members,
        )
        self._backlog = 0.0
        self._checked_monotonic = 0.0
        self._checked_at = clock.now()
        self._month = 0

    async def run_until(self, end: datetime) -> None:
        """Run time until ``end`` and stop it. Afterwards everybody has done what they intended until then."""
        begin = self._clock.now()
        columns = (SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn())
        with progress_bar(*columns) as progress:
            task = progress.add_task("", total=(end - begin).total_seconds())
            while self._clock.now() < end:
                await self._run_tick(end)
                now = self._clock.now()
                description = f"{now:%d %B %Y}  {format_progress(self._subscriber.witness)}"
                progress.update(task, completed=(now - begin).total_seconds(), description=description)
                self._print_month(now)
        self._clock.set_speed(0)
        while await self._members.perform_due():
            await self._check_backlog()

    async def is_idle(self) -> bool:
        """Whether no person and no service has any work left, while time stands still."""
        self._checked_monotonic = 0.0
        await self._check_backlog()
        return not await self._members.perform_due() and not self._backlog

    async def _run_tick(self, end: datetime) -> None:
        await asyncio.to_thread(self._subscriber.raise_if_failed)
        await self._check_backlog()
        self._set_speed(end)
        if not await self._members.perform_due():
            await asyncio.sleep(_TICK_S)

    def _set_speed(self, end: datetime) -> None:
        now, oldest = self._clock.now(), self._members.next_action_at()
        speed, until = choose_speed(self._members.member_count, now, self._checked_at, self._backlog, oldest)
        if speed or self._clock.timeline().segments[-1].speed:
            self._clock.set_speed(speed, until=min(until, end))

    async def _check_backlog(self) -> None:
        if time.monotonic() - self._checked_monotonic < _CHECK_EVERY_S:
            return
        looked_at = self._clock.now()
        pages = await asyncio.gather(*(self._services.read_metrics(name) for name in SERVICES))
        self._backlog = sum(sample.value for page in pages for sample in page if sample.name in _BACKLOG_METRICS)
        self._checked_monotonic, self._checked_at = time.monotonic(), looked_at

    def _print_month(self, now: datetime) -> None:
        if now.month != self._month:
            if self._month:
                self._ticker.pause()
            print_line(f"\n[bold]{now:%B %Y}[/]  [dim]{format_progress(self._subscriber.witness)}[/]")
            self._month = now.month


def format_progress(witness: Witness) -> str:
    """The numbers of events so far, in one line."""
    counts: Counter[str] = witness.event_counts
    return ", ".join(
        f"{counts[f'mentoring.{kind}.v1']} {name}" for name, kind in _COUNTED_EVENTS if counts[f"mentoring.{kind}.v1"]
    )
