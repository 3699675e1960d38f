"""(d) Rounds of matching, beside other matchers in one run, and as a company grows.

The people are those of ``benchmarks.cohort``, half of them seniors. ``benchmarks.competitors`` says what the
seconds of each matcher include. Our fit judges every result, over the same allowed pairs. A pair blocks where both
would gain more from each other than they do now.

* ``side_by_side``: ours, dense scores with scipy's `linear_sum_assignment`, greedy on our candidates, `mentor-match`
  by such of its rules as come closest, `matching`'s stable marriage by what each person gains.
* ``under_mentor_match_rules``: made-up civil servants by the rules of mentor-match's own author, expressed as a
  programme of ours (``benchmarks.mentor_match_rules``); judged in its points.
* ``against_dense``: the same fit at a size at which scoring every pair hurts. "Best total" is ours without what gives
  up some of the total, the fairness pass and the draw.
* ``fairness``: what that pass gives to the worst 5 % of the pairs, and what it costs of the total.
* ``growth``: a process for each size; `share_of_bound` is the total before fairness and draw over what no assignment
  exceeds, and blocking pairs are counted for some of the seniors.
* ``growth_where_many_are_alike``: the same with the people and rules of ``under_mentor_match_rules``, who have eight
  scores in all, and whose best partners are fewer than they are themselves.

Python's full collections are kept short for everybody here, as in the process that computes rounds. A peer that cannot
be installed is left out, with a word; nothing is claimed of it then.
"""

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import cohort, competitors, mentor_match_rules, peers, quality
from benchmarks.competitors import Result
from chassis.gc_tuning import set_collected_aside
from services.matcher.engine.solve import MatchingProblem

SMALL, LARGE = 800, 10_000  # people on each side
SIZES = (1_000, 3_000, 10_000, 20_000, 50_000, 100_000)  # people in all
SIZES_ALIKE = (10_000, 100_000)
TURNS = 5
PATIENCE = 1200  # limit in seconds for one size
GOALS = {
    "times_faster_than_mentor_match": 300.0,
    "points_over_those_of_mentor_match": 1.0,
    "fit_over_that_of_mentor_match": 1.0,
    "times_faster_than_dense": 20.0,
    "share_of_the_dense_optimum": 0.999,
    "worst_5_percent_rises_by": 0.05,
    "seconds_for_the_largest": 40.0,
    "memory_mb_for_the_largest": 2048.0,
    "growth_exponent": 2.0,
}
AT_MOST = frozenset({"seconds_for_the_largest", "memory_mb_for_the_largest", "growth_exponent"})


def measure(scale: float) -> dict[str, Any]:
    """All parts; ``scale`` shrinks every size."""
    with set_collected_aside():
        parts: dict[str, Any] = {
            "growth": [grown(max(100, int(people * scale))) for people in SIZES],
            "growth_where_many_are_alike": [grown(max(100, int(people * scale)), "alike") for people in SIZES_ALIKE],
            "side_by_side": side_by_side(max(40, int(SMALL * scale))),
            "under_mentor_match_rules": under_their_rules(max(40, int(SMALL * scale))),
            **large(max(100, int(LARGE * scale))),
        }
    reached = figures(parts)
    return {
        "name": "matching",
        **parts,
        "reached": reached,
        "goals": GOALS,
        "met": all(meets(name, value) for name, value in reached.items()),
    }


def meets(name: str, value: float) -> bool:
    return value <= GOALS[name] if name in AT_MOST else value >= GOALS[name]


def figures(parts: dict[str, Any]) -> dict[str, float]:
    """The measured values that have a goal."""
    largest, dense, fairness = parts["growth"][-1], parts["against_dense"], parts["fairness"]
    reached = {
        "times_faster_than_dense": dense["times_faster"],
        "share_of_the_dense_optimum": dense["share_of_the_optimum"],
        "worst_5_percent_rises_by": fairness["worst_5_percent_rises_by"],
        "seconds_for_the_largest": largest["seconds"],
        "memory_mb_for_the_largest": largest["peak_memory_mb"],
        "growth_exponent": exponent(parts["growth"]),
    }
    theirs = parts["under_mentor_match_rules"]
    if "times_faster" in theirs:
        beside = parts["side_by_side"]
        reached |= {
            "times_faster_than_mentor_match": theirs["times_faster"],
            "points_over_those_of_mentor_match": round(theirs["ours"]["points"] / theirs["mentor-match"]["points"], 4),
            "fit_over_that_of_mentor_match": round(
                beside["ours"]["total_fit"] / beside["mentor-match"]["total_fit"], 4
            ),
        }
    return reached


def exponent(growth: list[dict[str, Any]]) -> float:
    """The power of the number of people with which time grew over the last tenfold."""
    last = growth[-1]
    first = next(item for item in growth if 10 * item["people"] >= last["people"])
    return round(math.log(last["seconds"] / first["seconds"]) / math.log(last["people"] / first["people"]), 3)


def side_by_side(each: int) -> dict[str, Any]:
    """Every matcher on the same ``2 x each`` people."""
    question = cohort.question(cohort.cohort(2 * each))
    everything = competitors.judge(question)
    matchers: dict[str, Callable[[], Result]] = {
        "ours": lambda: again(question),
        "ours, best total": lambda: again(competitors.plainly(question)),
        "dense + scipy": lambda: competitors.dense(question),
        "greedy": lambda: competitors.greedy(question),
        "mentor-match": lambda: competitors.mentor_match(question, everything),
        "matching": lambda: competitors.stable_marriage(everything),
    }
    reported: dict[str, Any] = {"seniors": each, "juniors": each}
    for name, matcher in matchers.items():
        say(f"{each} x {each}: {name}")
        try:
            result = matcher()
        except peers.Missing as missing:
            reported[name] = {"left_out": str(missing)}
            continue
        reported[name] = shown(result) | quality.judged(everything, result.pairs)
    return reported


def under_their_rules(each: int) -> dict[str, Any]:
    """mentor-match and the programme that says the same, on the same people, judged by its points."""
    mentors, mentees = mentor_match_rules.servants(each, seed=1)
    question = mentor_match_rules.question(mentors, mentees)
    say(f"{each} x {each} by mentor-match's rules")
    reported: dict[str, Any] = {"mentors": each, "mentees": each}
    problem = {
        "mentors": [item.reported() for item in mentors],
        "mentees": [item.reported() for item in mentees],
        "rules": mentor_match_rules.AS_TOLD,
    }
    mine = again(question)
    reported["ours"] = shown(mine) | in_points(mine, mentors, mentees)
    try:
        answer = peers.ask(peers.MENTOR_MATCH, problem)
    except peers.Missing as missing:
        return reported | {"mentor-match": {"left_out": str(missing)}}
    result = Result(answer.pairs, answer.seconds)
    judged = in_points(result, mentors, mentees)
    if judged["points"] != answer.told["points"]:
        raise RuntimeError(
            f"mentor-match counts {answer.told['points']} points where our reading of its rules has {judged}"
        )
    reported["mentor-match"] = shown(result) | judged
    return reported | {"times_faster": round(result.seconds / mine.seconds, 1)}


def in_points(
    result: Result, mentors: Sequence[mentor_match_rules.Servant], mentees: Sequence[mentor_match_rules.Servant]
) -> dict[str, int]:
    """How many pairs may be by mentor-match's rules, and their points."""
    worth = [mentor_match_rules.points(mentors[s], mentees[j]) for s, j in result.pairs]
    allowed = [points for points in worth if points is not None]
    return {"pairs": len(allowed), "points": sum(allowed)}


def large(each: int) -> dict[str, Any]:
    """``against_dense`` and ``fairness``, on the same people."""
    question = cohort.question(cohort.cohort(2 * each))
    matchers: dict[str, Callable[[], Result]] = {
        "ours": lambda: again(question, 3),
        "ours, best total": lambda: again(competitors.plainly(question), 3),
        "ours, no draw": lambda: again(competitors.undrawn(question), 1),
        "greedy": lambda: competitors.greedy(question),
        "dense + scipy": lambda: competitors.dense(question),
    }
    results = {}
    for name, matcher in matchers.items():
        say(f"{each} x {each}: {name}")
        results[name] = matcher()
    say(f"{each} x {each}: judging")
    everything = competitors.judge(question)
    reported = {name: shown(result) | quality.judged(everything, result.pairs) for name, result in results.items()}
    best, optimum = reported["ours, best total"], reported["dense + scipy"]["total_fit"]
    against = {
        "seniors": each,
        "juniors": each,
        **reported,
        "times_faster": round(results["dense + scipy"].seconds / results["ours"].seconds, 1),
        "share_of_the_optimum": round(best["total_fit"] / optimum, 6),
        "share_of_the_optimum_after_fairness_and_draw": round(reported["ours"]["total_fit"] / optimum, 6),
    }
    return {"against_dense": against, "fairness": fairness(best, reported["ours, no draw"])}


def fairness(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """The changes of the fairness pass."""
    worst = "mean_of_worst_5_percent"
    return {
        "worst_5_percent_before": before[worst],
        "worst_5_percent_after": after[worst],
        "worst_5_percent_rises_by": round(after[worst] / before[worst] - 1, 4),
        "worst_pair_before": before["worst_pair"],
        "worst_pair_after": after["worst_pair"],
        "share_of_the_total_that_it_costs": round(1 - after["total_fit"] / before["total_fit"], 5),
    }


def again(question: MatchingProblem, turns: int = TURNS) -> Result:
    """Ours, so many times: the same pairs each time, and the median of the times."""
    results = [competitors.ours(question) for _ in range(turns)]
    if any(result.pairs != results[0].pairs for result in results):
        raise RuntimeError("the same round had another result")
    seconds = statistics.median(result.seconds for result in results)
    return Result(results[0].pairs, seconds, {"turns": turns})


def grown(people: int, *kind: str) -> dict[str, Any]:
    """One size, in a process of its own."""
    say(" ".join([f"{people} people", *kind]))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", str(people), *kind],
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    reported: dict[str, Any] = json.loads(done.stdout)
    return reported


def shown(result: Result) -> dict[str, Any]:
    return {"seconds": round(result.seconds, 4), **result.told}


def say(what: str) -> None:
    print(f"\r  {what} ...", file=sys.stderr, flush=True)
