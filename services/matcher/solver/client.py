"""Rounds are computed in a process of their own, so that events and requests keep flowing.

The process reads, solves and writes by itself (see ``worker``); what crosses the pipe is a job, then signs of progress,
then totals. It runs at a low priority, one at a time in each replica, and ends when its parent does. After a result it
stays for a while: it remembers what it read, so that the same round is solved again in a moment, and another round need
not wait for its start, which takes a second.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.envelope import Instant
from services.matcher.domain.rounds.round import Round, RoundProgress, RoundTotals

HEARTBEAT_INTERVAL_S = 2.0  # seconds between two signs of life
KEEP_WARM_S = 600.0  # seconds for which a process remembers what it read
MAX_MESSAGE_BYTES = 1_000_000  # bytes of one message
PROJECT_ROOT = Path(__file__).parents[3]
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

Heartbeat = Callable[[RoundProgress], Awaitable[bool]]


class SolverDied(Exception):
    """The worker process ended without an answer."""


class UnsolvableRound(Exception):
    """The worker raised; trying again would not help."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class SolverJob(_Message):
    """What the worker is to do: a round as it was claimed, at ``now`` of business time."""

    mongo: str
    database: str
    instance: str
    round: Round
    now: Instant


class SolverReport(_Message):
    """What the worker says: how far it is, or its totals, or why it cannot."""

    progress: RoundProgress | None = None
    totals: RoundTotals | None = None
    failed: str | None = None


class Solver:
    """Each round in its own process, one at a time. ``mongo`` and ``database``: where the worker finds the store."""

    def __init__(self, mongo: str, database: str, instance: str) -> None:
        self._mongo, self._database, self._instance = mongo, database, instance
        self._free = asyncio.Lock()
        self._worker: _Worker | None = None
        self._cooling: asyncio.TimerHandle | None = None

    async def run(self, round: Round, now: Instant, alive: Heartbeat) -> RoundTotals | None:
        """The totals once all is written; None when ``alive`` said by False that it is not wanted any longer.

        ``alive`` is called at every stage and every few seconds. Raises ``SolverDied`` and ``Unanswerable``.
        """
        while not await _within(self._free, HEARTBEAT_INTERVAL_S):
            if not await alive(RoundProgress(stage="waiting")):
                return None
        try:
            worker = await self._at_work(round)
            worker.say(
                SolverJob(mongo=self._mongo, database=self._database, instance=self._instance, round=round, now=now)
            )
            totals = await self._followed(worker, alive)
            self._keep_warm()
            return totals
        except BaseException:
            await self.stop()
            raise
        finally:
            self._free.release()

    def cancel(self, round_id: str) -> None:
        """Stop at once where this replica computes the round; elsewhere its next sign of life ends it."""
        if self._worker is not None and self._worker.round_id == round_id:
            self._worker.kill()

    async def stop(self) -> None:
        """End the process, whatever it does."""
        worker, self._worker = self._worker, None
        if self._cooling is not None:
            self._cooling.cancel()
        if worker is not None:
            worker.kill()
            await worker.ended()

    async def run_until_stopped(self) -> None:
        """Part of the service: when it stops, so does the worker."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop()

    async def _at_work(self, round: Round) -> "_Worker":
        """The process that is there, which may remember this round, or a new one."""
        if self._cooling is not None:
            self._cooling.cancel()
        if self._worker is not None and not self._worker.lives():
            await self.stop()
        if self._worker is None:
            self._worker = await _started()
        self._worker.round_id = round.round_id
        return self._worker

    async def _followed(self, worker: "_Worker", alive: Heartbeat) -> RoundTotals | None:
        newest, told = RoundProgress(), 0.0
        now = asyncio.get_running_loop().time
        reading = asyncio.create_task(worker.heard())
        try:
            while True:
                done, _ = await asyncio.wait({reading}, timeout=HEARTBEAT_INTERVAL_S)
                report = reading.result() if done else SolverReport(progress=newest)
                if report is None:
                    if await alive(newest):
                        raise SolverDied("the solver's process ended without an answer")
                    return None
                if report.failed is not None:
                    raise UnsolvableRound(report.failed)
                if report.totals is not None:
                    return report.totals
                progress = report.progress or newest
                if done:
                    reading = asyncio.create_task(worker.heard())
                if progress.stage != newest.stage or now() - told >= HEARTBEAT_INTERVAL_S:
                    if not await alive(progress):
                        await self.stop()
                        return None
                    told = now()
                newest = progress
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    def _keep_warm(self) -> None:
        if self._worker is not None:
            self._cooling = asyncio.get_running_loop().call_later(KEEP_WARM_S, self._worker.kill)


class _Worker:
    """One process, and the two ends of its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None, "it was asked for"
        assert process.stdout is not None, "it was asked for"
        self.round_id = ""  # that it computes, or computed last
        self._process, self._to, self._from = process, process.stdin, process.stdout

    def say(self, job: SolverJob) -> None:
        self._to.write(job.model_dump_json().encode() + b"\n")

    async def heard(self) -> SolverReport | None:
        """The next report; None once the process has ended."""
        line = await self._from.readline()
        if not line.endswith(b"\n"):
            return None
        try:
            return SolverReport.model_validate_json(line)
        except ValidationError as error:
            raise SolverDied("the solver's process said something else") from error

    def lives(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        if self.lives():
            self._process.kill()

    async def ended(self) -> None:
        self._to.close()
        await self._process.wait()


async def _started() -> _Worker:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.matcher.solver.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_MESSAGE_BYTES,
        cwd=PROJECT_ROOT,
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
    )
    return _Worker(process)


async def _within(lock: asyncio.Lock, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await lock.acquire()
    except TimeoutError:
        return False
    return True
