"""The months: business time runs, people live their lives, and the picture moves."""

import asyncio
import time
from collections import Counter
from datetime import datetime

from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

from chassis.core.clocks import Clock
from cli.console import bar, say
from cli.demo.event_ticker import Stream
from cli.demo.http_client import Web
from cli.demo.simulated_members import Lives
from cli.demo.speed_control import pace
from cli.demo.subscriber import Subscriber, Witness
from cli.installation import SERVICES

_TICK_S = 0.1
_LOOK_S = 0.7
"""Between two looks at what waits in the services."""
_WAITING = {"viceversa_due", "viceversa_consumer_lag", "viceversa_outbox_waiting"}
_STEPS = (
    ("asked", "pairing.proposed"),
    ("lapsed", "pairing.lapsed"),
    ("formed", "pairing.formed"),
    ("agreed", "pairing.chartered"),
    ("meetings", "session.held"),
    ("check-ins", "checkin.completed"),
    ("new partner wished", "partner.change.requested"),
    ("finished", "pairing.ended"),
    ("told", "notification.sent"),
)


class Months:
    """Runs business time no faster than people and services keep up."""

    def __init__(self, web: Web, clock: Clock, subscriber: Subscriber, stream: Stream, lives: Lives) -> None:
        self._web, self._clock, self._subscriber, self._stream, self._lives = web, clock, subscriber, stream, lives
        self._waiting = 0.0
        self._looked = 0.0
        self._looked_at = clock.now()
        self._month = 0

    async def run_until(self, end: datetime) -> None:
        """Lets time run until then, and stops it. Everybody has done by then what they had intended."""
        begin = self._clock.now()
        columns = (SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn())
        with bar(*columns) as progress:
            task = progress.add_task("", total=(end - begin).total_seconds())
            while self._clock.now() < end:
                await self._once(end)
                now = self._clock.now()
                said = f"{now:%d %B %Y}  {picture(self._subscriber.witness)}"
                progress.update(task, completed=(now - begin).total_seconds(), description=said)
                self._tell_of_the_month(now)
        self._clock.set_speed(0)
        while await self._lives.go_on():
            await self._look()

    async def at_rest(self) -> bool:
        """Whether nobody and no service has anything left to do, while time stands still."""
        self._looked = 0.0
        await self._look()
        return not await self._lives.go_on() and not self._waiting

    async def _once(self, end: datetime) -> None:
        await asyncio.to_thread(self._subscriber.check)
        await self._look()
        self._let_time_run(end)
        if not await self._lives.go_on():
            await asyncio.sleep(_TICK_S)

    def _let_time_run(self, end: datetime) -> None:
        now, oldest = self._clock.now(), self._lives.oldest()
        speed, until = pace(self._lives.people, now, self._looked_at, self._waiting, oldest)
        if speed or self._clock.timeline().segments[-1].speed:
            self._clock.set_speed(speed, until=min(until, end))

    async def _look(self) -> None:
        if time.monotonic() - self._looked < _LOOK_S:
            return
        looked_at = self._clock.now()
        pages = await asyncio.gather(*(self._web.figures(name) for name in SERVICES))
        self._waiting = sum(sample.value for page in pages for sample in page if sample.name in _WAITING)
        self._looked, self._looked_at = time.monotonic(), looked_at

    def _tell_of_the_month(self, now: datetime) -> None:
        if now.month != self._month:
            if self._month:
                self._stream.pause()
            say(f"\n[bold]{now:%B %Y}[/]  [dim]{picture(self._subscriber.witness)}[/]")
            self._month = now.month


def picture(witness: Witness) -> str:
    """How far everybody has come, in a line."""
    seen: Counter[str] = witness.types
    return ", ".join(f"{seen[f'mentoring.{kind}.v1']} {name}" for name, kind in _STEPS if seen[f"mentoring.{kind}.v1"])
