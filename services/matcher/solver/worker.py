"""The process that computes rounds: ``python -m services.matcher.solver.worker``, started by ``solver`` alone.

It reads jobs from its input, one a line, and says on its output how far it is and what came out. It is given no less
than it needs and no more than others leave: its priority is low, its requests to the store are small, and libraries for
arithmetic have one thread each. When its input ends its parent is gone, and so is it.
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
from services.matcher.solver.client import SolverJob, SolverReport
from services.matcher.solver.compute import SolverCache, SolverCollections, compute_round

log = logging.getLogger(__name__)

NICE = 10  # what the process gives way by

Jobs = queue.SimpleQueue[str]


def main() -> None:
    output = _output_of_our_own()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.nice(NICE)
    jobs: Jobs = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    memory = SolverCache(load())
    while True:
        job = SolverJob.model_validate_json(jobs.get())
        logs.configure("matcher", job.instance, "INFO")

        def say(report: SolverReport) -> None:
            output.write(report.model_dump_json() + "\n")
            output.flush()

        with set_collected_aside():
            asyncio.run(_done(job, memory, say))


async def _done(job: SolverJob, memory: SolverCache, say: Callable[[SolverReport], None]) -> None:
    mongo = Mongo(job.mongo, job.database)
    try:
        totals = await compute_round(
            job.round,
            job.now,
            SolverCollections.of(mongo.collection),
            memory,
            lambda stage, done, total: say(
                SolverReport(progress=RoundProgress.model_validate({"stage": stage, "done": done, "total": total}))
            ),
        )
    except Exception as error:
        if is_transient(error):
            raise  # the process ends, and the round is taken up again
        log.exception("a round cannot be computed", extra={"round": job.round.round_id})
        say(SolverReport(failed=safe_message(error)))
    else:
        say(SolverReport(totals=totals))
    finally:
        mongo.close()


def _listen(jobs: Jobs) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


def _output_of_our_own() -> TextIO:
    """What is said to the parent, apart from what a library may print."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


if __name__ == "__main__":
    main()
