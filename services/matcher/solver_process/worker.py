"""The process that computes rounds: ``python -m services.matcher.solver_process.worker``, started by ``client`` alone.

It reads jobs from its standard input, one a line, and writes progress and totals to its standard output. It leaves
resources to the service: its priority is low, its requests to the store are small, and numeric libraries have one
thread each. The input ends when the parent process is gone; then this process exits too.
"""

import asyncio
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from chassis.core.error_redaction import safe_message
from chassis.gc_tuning import set_collected_aside
from chassis.observability import logs
from chassis.storage.mongo import Mongo, is_transient
from contracts.taxonomy import load
from services.matcher.domain.rounds.round import RoundProgress
from services.matcher.solver_process.client import SolverJob, SolverReport
from services.matcher.solver_process.compute import SolverCache, SolverCollections, compute_round

log = logging.getLogger(__name__)

# Added to the process's nice value. Services that want the processor too leave it a third of their share; with 10 it
# would be a tenth, and on a busy machine a round stood still.
NICENESS = 5

JobQueue = queue.SimpleQueue[str]


def main() -> None:
    output = _reserve_stdout()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    os.nice(NICENESS)
    jobs: JobQueue = queue.SimpleQueue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    cache = SolverCache(load())
    while True:
        job = SolverJob.model_validate_json(jobs.get())
        logs.configure("matcher", job.instance, "INFO")

        def send(report: SolverReport) -> None:
            output.write(report.model_dump_json() + "\n")
            output.flush()

        with set_collected_aside():
            asyncio.run(_run_job(job, cache, send))


async def _run_job(job: SolverJob, cache: SolverCache, send: Callable[[SolverReport], None]) -> None:
    """Compute the job's round. A transient error of the store ends the process, and the round is claimed again."""
    mongo = Mongo(job.mongo, job.database)

    def send_progress(stage: str, done: int, total: int) -> None:
        progress = RoundProgress.model_validate({"stage": stage, "done": done, "total": total})
        send(SolverReport(progress=progress))

    try:
        collections = SolverCollections.of(mongo.collection)
        totals = await compute_round(job.round, job.now, collections, cache, send_progress)
    except Exception as error:
        if is_transient(error):
            raise
        log.exception("a round cannot be computed", extra={"round": job.round.round_id})
        send(SolverReport(failed=safe_message(error)))
    else:
        send(SolverReport(totals=totals))
    finally:
        mongo.close()


def _read_jobs(jobs: JobQueue) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


def _reserve_stdout() -> TextIO:
    """The pipe to the parent. Whatever a library prints goes to standard error instead."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


if __name__ == "__main__":
    main()
