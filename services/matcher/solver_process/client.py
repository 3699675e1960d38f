"""Runs the computation of rounds in a child process, so that events and requests keep flowing.

The child reads, solves and writes by itself (see ``worker``). The pipe carries a job, then progress, then totals. The
child runs at a low priority, one round at a time in each replica, and ends when its parent does. After a result it
stays alive for a while. It keeps what it read, so that the same round is solved again at once, and another round does
not wait a second for its start.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.envelope import Instant
from services.matcher.domain.rounds.round import Round, RoundProgress, RoundTotals

HEARTBEAT_INTERVAL_S = 2.0
STALLED_AFTER_S = 60.0  # without a report: the longest stage of a large round takes about half of that
KEEP_WARM_S = 600.0  # how long an idle process keeps what it read
MAX_MESSAGE_BYTES = 1_000_000
PROJECT_ROOT = Path(__file__).parents[3]
# One thread for each library of linear algebra.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

log = logging.getLogger(__name__)

Heartbeat = Callable[[RoundProgress], Awaitable[bool]]  # False: the round is not wanted any longer


class SolverDied(Exception):
    """The worker process ended without an answer."""


class UnsolvableRound(Exception):
    """The worker raised an error; trying again would not help."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class SolverJob(_Message):
    """The worker's task: a round as it was claimed, at ``now`` of business time."""

    mongo: str
    database: str
    instance: str
    round: Round
    now: Instant


class SolverReport(_Message):
    """The worker's message: its progress, or the totals, or the reason of its failure."""

    progress: RoundProgress | None = None
    totals: RoundTotals | None = None
    failed: str | None = None


class Solver:
    """Computes rounds one at a time in a child process. ``mongo`` and ``database``: where the child finds the store."""

    def __init__(self, mongo: str, database: str, instance: str) -> None:
        self._mongo, self._database, self._instance = mongo, database, instance
        self._lock = asyncio.Lock()
        self._worker: _WorkerProcess | None = None
        self._warm_timer: asyncio.TimerHandle | None = None

    async def run(self, round: Round, now: Instant, heartbeat: Heartbeat) -> RoundTotals | None:
        """The totals once everything is stored; None when ``heartbeat`` returned False.

        ``heartbeat`` is called at every stage and every few seconds. Raises ``SolverDied`` and ``UnsolvableRound``.
        """
        while not await _acquire_within(self._lock, HEARTBEAT_INTERVAL_S):
            if not await heartbeat(RoundProgress(stage="waiting")):
                return None
        try:
            worker = await self._worker_for(round)
            worker.send(
                SolverJob(mongo=self._mongo, database=self._database, instance=self._instance, round=round, now=now)
            )
            totals = await self._follow(worker, heartbeat)
            self._keep_warm()
            return totals
        except BaseException:
            await self.stop()
            raise
        finally:
            self._lock.release()

    def cancel(self, round_id: str) -> None:
        """Stop at once if this replica computes the round. In another replica its next heartbeat stops it."""
        if self._worker is not None and self._worker.round_id == round_id:
            self._worker.kill()

    async def stop(self) -> None:
        """End the process, whatever it does."""
        worker, self._worker = self._worker, None
        if self._warm_timer is not None:
            self._warm_timer.cancel()
        if worker is not None:
            worker.kill()
            await worker.wait_until_ended()

    async def run_until_stopped(self) -> None:
        """A background task of the service: the worker stops together with it."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop()

    async def _worker_for(self, round: Round) -> "_WorkerProcess":
        """The running process, which may have the round in its cache, or a new one."""
        if self._warm_timer is not None:
            self._warm_timer.cancel()
        if self._worker is not None and not self._worker.is_alive():
            await self.stop()
        if self._worker is None:
            self._worker = await _start_worker()
        self._worker.round_id = round.round_id
        return self._worker

    async def _follow(self, worker: "_WorkerProcess", heartbeat: Heartbeat) -> RoundTotals | None:
        """Read the worker's reports until its totals, and call ``heartbeat`` meanwhile."""
        newest, last_heartbeat = RoundProgress(), 0.0
        clock = asyncio.get_running_loop().time
        reported_at = clock()
        reading = asyncio.create_task(worker.receive())
        try:
            while True:
                done, _ = await asyncio.wait({reading}, timeout=HEARTBEAT_INTERVAL_S)
                report = reading.result() if done else SolverReport(progress=newest)
                if report is None:
                    if await heartbeat(newest):
                        raise SolverDied("the solver's process ended without an answer")
                    return None
                if report.failed is not None:
                    raise UnsolvableRound(report.failed)
                if report.totals is not None:
                    return report.totals
                progress = report.progress or newest
                if done:
                    reported_at = clock()
                    reading = asyncio.create_task(worker.receive())
                elif clock() - reported_at >= STALLED_AFTER_S and not progress.stalled:
                    log.warning(
                        "the solver has reported nothing for %.0f s; has the machine time for it?", STALLED_AFTER_S
                    )
                    progress = progress.model_copy(update={"stalled": True})
                if progress.stage != newest.stage or clock() - last_heartbeat >= HEARTBEAT_INTERVAL_S:
                    if not await heartbeat(progress):
                        await self.stop()
                        return None
                    last_heartbeat = clock()
                newest = progress
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    def _keep_warm(self) -> None:
        if self._worker is not None:
            self._warm_timer = asyncio.get_running_loop().call_later(KEEP_WARM_S, self._worker.kill)


class _WorkerProcess:
    """One child process and both of its pipes. ``round_id``: the round that it computes, or computed last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None, "started with a pipe"
        assert process.stdout is not None, "started with a pipe"
        self.round_id = ""
        self._process, self._input, self._output = process, process.stdin, process.stdout

    def send(self, job: SolverJob) -> None:
        self._input.write(job.model_dump_json().encode() + b"\n")

    async def receive(self) -> SolverReport | None:
        """The next report; None once the process has ended. Raises ``SolverDied`` if the message is no report."""
        line = await self._output.readline()
        if not line.endswith(b"\n"):
            return None
        try:
            return SolverReport.model_validate_json(line)
        except ValidationError as error:
            raise SolverDied("the solver's process sent something else than a report") from error

    def is_alive(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        if self.is_alive():
            self._process.kill()

    async def wait_until_ended(self) -> None:
        self._input.close()
        await self._process.wait()


async def _start_worker() -> _WorkerProcess:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.matcher.solver_process.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_MESSAGE_BYTES,
        cwd=PROJECT_ROOT,
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
    )
    return _WorkerProcess(process)


async def _acquire_within(lock: asyncio.Lock, seconds: float) -> bool:
    """Whether the lock was acquired in time."""
    try:
        async with asyncio.timeout(seconds):
            await lock.acquire()
    except TimeoutError:
        return False
    return True
