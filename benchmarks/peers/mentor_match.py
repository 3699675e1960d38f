"""One round of mentor-match: reads ``{mentors, mentees, rules}`` as JSON, writes ``{pairs, points, seconds}``.

It runs in mentor-match's own environment. A rule is ``[kind, ...]``, see ``RULES``. The time is that of its entry point
``process_data`` alone: the score of every pair by the rules, and the assignment.
"""

import json
import operator
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from matching import process  # type: ignore[import-not-found]
from matching.mentee import Mentee  # type: ignore[import-not-found]
from matching.mentor import Mentor  # type: ignore[import-not-found]
from matching.rules import rule as rl  # type: ignore[import-not-found]

RULES: dict[str, Callable[..., Any]] = {
    "gap above is disqualified": lambda gap: rl.Disqualify(rl.Grade(gap, operator.gt).evaluate),
    "gap up to is disqualified": lambda gap: rl.Disqualify(rl.Grade(gap, operator.le).evaluate),
    "same is disqualified": lambda what: rl.Disqualify(
        lambda match: getattr(match.mentor, what) == getattr(match.mentee, what)
    ),
    "excluded is disqualified": lambda: rl.Disqualify(lambda match: match.mentee.number in match.mentor.excluded),
    "gap": lambda gap, points: rl.Grade(gap, operator.eq, {True: points, False: 0}),
    "same": lambda what, points: rl.Equivalent(what, {True: points, False: 0}),
    "differs": lambda what, points: rl.Equivalent(what, {True: 0, False: points}),
    "mentee's among mentor's": lambda item, many, points: rl.Generic(
        {True: points, False: 0}, lambda match: getattr(match.mentee, item) in getattr(match.mentor, many)
    ),
    "mentor's among mentee's": lambda item, many, points: rl.Generic(
        {True: points, False: 0}, lambda match: getattr(match.mentor, item) in getattr(match.mentee, many)
    ),
    "unmatched": rl.UnmatchedBonus,
}


def person(kind: type, number: int, answer: dict[str, Any]) -> Any:
    made = kind(email=f"{kind.__name__}-{number}", grade=answer["grade"])
    made.number = number
    for name, value in answer.items():
        setattr(made, name, frozenset(value) if isinstance(value, list) else value)
    return made


def main() -> None:
    question = json.load(sys.stdin)
    mentors = [person(Mentor, n, answer) for n, answer in enumerate(question["mentors"])]
    mentees = [person(Mentee, n, answer) for n, answer in enumerate(question["mentees"])]
    rules = [RULES[kind](*rest) for kind, *rest in question["rules"]]
    start = perf_counter()
    process.process_data(mentors, mentees, [rules])
    seconds = perf_counter() - start
    pairs = [(mentor.number, mentee.number) for mentor in mentors for mentee in mentor.mentees]
    alone = [(person(Mentor, s, question["mentors"][s]), person(Mentee, j, question["mentees"][j])) for s, j in pairs]
    points = sum(process.Match(mentor, mentee, rules).calculate_match().score for mentor, mentee in alone)
    json.dump({"pairs": pairs, "points": points, "seconds": seconds}, sys.stdout)


main()
