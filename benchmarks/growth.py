"""`python -m benchmarks.growth PEOPLE [alike]`: one round of so many people in a process of its own, as JSON.

``alike``: instead of our people those of ``benchmarks.mentor_match_rules``, of whom many score the same with many.

``seconds`` and ``cpu_seconds`` are those of ``solve``. ``peak_memory_mb`` is the highest that the kernel counted for
the whole process until the round was solved, with Python, the libraries and the people in it; ``before_mb`` what
these took by themselves.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks import cohort, competitors, mentor_match_rules, quality
from chassis.gc_tuning import set_collected_aside
from contracts.taxonomy import load
from services.matcher.engine.solve import solve

WARM = 2400  # people of the round before, enough for a scan
LOOKED_AT = 300  # seniors, evenly spread, of whom everybody else's blocking pairs are counted


def main() -> None:
    people = int(sys.argv[1])
    if sys.argv[2:] == ["alike"]:
        question = mentor_match_rules.question(*mentor_match_rules.servants(people // 2, seed=1))
    else:
        question = cohort.question(cohort.cohort(people))
    selection = replace(question, profiles=question.profiles[:: max(1, people // WARM)])
    solve(selection, load())  # libraries, and what numba has compiled, are loaded once
    before = _memory("VmRSS")
    start, cpu = perf_counter(), process_time()
    with set_collected_aside():  # as in the process that computes rounds
        answer = solve(question, load(), lambda stage, done, of: _progress(people, stage, done, of))
    seconds, cpu_seconds = perf_counter() - start, process_time() - cpu
    peak = _memory("VmHWM")
    reported: dict[str, Any] = {
        "people": people,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_memory_mb": peak,
        "before_mb": before,
        "share_matched": round(2 * len(answer.matches) / people, 4),
        **quality.of_fits(np.array([match.fit.score for match in answer.matches])),
        "total_before_fairness_and_draw": round(answer.optimal_fit, 4),
        "share_of_bound": round(answer.optimal_fit / answer.upper_bound, 6) if answer.upper_bound else None,
        "left_over": len(answer.unmatched),
        "blocking_pairs_per_person": round(competitors.blocking_of_some(question, answer, LOOKED_AT), 3),
    }
    json.dump(reported, sys.stdout)


def _progress(people: int, stage: str, done: int, of: int) -> None:
    print(f"\r  {people} people: {stage} {done}/{of}   ", end="", file=sys.stderr, flush=True)


def _memory(what: str) -> float:
    """Of this process, in MB; Linux counts it since this program was loaded, not since its parent was."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
    return round(kib / 1024, 1)


if __name__ == "__main__":
    main()
