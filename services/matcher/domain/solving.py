"""A round from end to end: who takes part, who is paired with whom and why, who is left over and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from contracts.pairings import Focus
from contracts.people import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain import rules
from services.matcher.domain.assignment import assign, split
from services.matcher.domain.candidates import candidates
from services.matcher.domain.columns import Bools
from services.matcher.domain.fit import Fit, focus
from services.matcher.domain.pairs import Block, Pairs, Step
from services.matcher.domain.reasons import reasons
from services.matcher.domain.rules import Member

STEPS: tuple[Step, ...] = (
    "level_gap",
    "level_gap_too_great",
    "reporting_line",
    "same_manager",
    "evaluator",
    "earlier_partner",
    "other_organisation",
    "not_acknowledged",
    "no_common_language",
    "no_common_time",
)

NOBODY: dict[str, str] = {
    "level_gap": "nobody has the gap in seniority that the programme asks for",
    "level_gap_too_great": "the rest are further apart in seniority than the programme asks for",
    "reporting_line": "the rest are in the same reporting line",
    "same_manager": "the rest report to the same manager",
    "evaluator": "the rest judge this person's work or are judged by them",
    "earlier_partner": "the rest have been suggested before",
    "other_organisation": "the rest belong to other organisations",
    "not_acknowledged": "the rest belong to other organisations, and not both have acknowledged the notice for that",
    "no_common_language": "the rest have no language in common with this person",
    "no_common_time": "the rest have too little free time in common with this person",
    "nothing_to_learn": "none of the rest offers enough of what this person wants to learn",
    "nothing_to_give": "none of the rest wants to learn enough of what this person offers",
    "too_different": "the rest like to work too differently",
}


@dataclass(frozen=True)
class Question:
    """All that a round's result depends on."""

    programme_id: str
    settings: ProgrammeSettings
    profiles: Sequence[ProfileChanged]
    places: Mapping[str, int]  # free places of each member who has any
    earlier: Sequence[tuple[str, str]]
    on: date
    seed: int
    locked: Sequence[tuple[str, str]] = ()  # (senior, junior) that a coordinator holds together
    forbidden: Sequence[tuple[str, str]] = ()  # members that a coordinator keeps apart, either way round
    waiting: Mapping[str, float] = field(default_factory=dict)  # priority of each member who has one, from 0 to 1


@dataclass(frozen=True)
class RunnerUp:
    """The best partner that a side could have had instead, and how well they fit."""

    member_id: str
    score: float


@dataclass(frozen=True)
class Match:
    """One proposed pair.

    ``probability``: with which the draw among near-equals chose it, given the assignment before the draw.
    """

    senior: Member
    junior: Member
    fit: Fit
    reasons: Mapping[Side, Sequence[str]]
    focus: tuple[Focus, ...]
    probability: float = 1.0
    runner_up: Mapping[Side, RunnerUp] = field(default_factory=dict)
    locked: bool = False


@dataclass(frozen=True)
class Relaxation:
    """One change of a rule that gives somebody who is left over a partner: ``by`` in the rule's own unit."""

    rule: str
    by: float
    text: str


@dataclass(frozen=True)
class LeftOver:
    """Somebody without a partner, with the reason: ``numbers`` tells how many remained after each step."""

    member: Member
    side: Side
    code: str
    text: str
    numbers: Mapping[str, int]
    relaxation: Relaxation | None = None


@dataclass(frozen=True)
class Answer:
    """A round's result, the best pairs first.

    ``total``: fit of all pairs; ``optimum``: the same before fairness and the draw; ``bound``: what no assignment
    exceeds, None where nothing was assigned.
    """

    seniors: int
    juniors: int
    matches: Sequence[Match] = ()
    left_over: Sequence[LeftOver] = ()
    why_empty: str | None = None
    total: float = 0.0
    optimum: float = 0.0
    bound: float | None = None


def solve(
    question: Question, taxonomy: Taxonomy, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Answer:
    """Who is to be paired with whom. ``progress`` hears the stage, what is done of it and how much there is."""
    seniors, juniors = sides(question)
    if not seniors or not juniors:
        return _one_sided(seniors, juniors)
    pairs = Pairs(seniors, juniors, question.settings, taxonomy, question.on, question.earlier)
    found = candidates(pairs, question.seed, lambda done: progress("scoring", done, len(seniors)))
    edges = found.allowed()
    progress("solving", 0, len(edges.scores))
    places = question.places
    chosen = assign([places[m.id] for m in seniors], [places[m.id] for m in juniors], edges, question.seed)
    matches = [
        _match(seniors[s], juniors[j], pairs.block(np.array([s]), np.array([j])), question, taxonomy)
        for s, j in zip(edges.seniors[chosen].tolist(), edges.juniors[chosen].tolist(), strict=True)
    ]
    matches.sort(key=lambda match: (-match.fit.score, match.senior.id, match.junior.id))
    left = _left_over(pairs, {match.senior.id for match in matches}, {match.junior.id for match in matches})
    return Answer(
        seniors=len(seniors),
        juniors=len(juniors),
        matches=matches,
        left_over=left,
        why_empty=None if matches else "No two of them can be paired; the reason of each is given.",
        total=sum(match.fit.score for match in matches),
        optimum=sum(match.fit.score for match in matches),
    )


def sides(question: Question) -> tuple[list[Member], list[Member]]:
    """Seniors and juniors who can be proposed today and have a place free, in the order of their ids."""
    found: dict[str, list[Member]] = {"senior": [], "junior": [], "either": []}
    for profile in question.profiles:
        member = rules.enrolled(profile, question.programme_id)
        if member is None or question.places.get(member.id, 0) <= 0:
            continue
        if rules.absent(profile, question.programme_id, question.settings, question.on) is None:
            found[member.enrolment.side].append(member)
    places = [question.places[m.id] for side in ("senior", "junior", "either") for m in found[side]]
    return split(found["senior"], found["junior"], found["either"], places)


def _one_sided(seniors: Sequence[Member], juniors: Sequence[Member]) -> Answer:
    sides_: list[tuple[Side, Member]] = [("senior", m) for m in seniors] + [("junior", m) for m in juniors]
    if not sides_:
        why = "Nobody is ready and has a place free."
    else:
        why = f"There is no {'junior' if seniors else 'senior'} who is ready and has a place free."
    left = [LeftOver(member, side, "nobody_on_the_other_side", why, {"people": 0}) for side, member in sides_]
    return Answer(len(seniors), len(juniors), (), left, why)


def _match(senior: Member, junior: Member, block: Block, question: Question, taxonomy: Taxonomy) -> Match:
    parts = Fit(
        score=float(block.score[0, 0]),
        senior_benefit=float(block.senior_benefit[0, 0]),
        junior_benefit=float(block.junior_benefit[0, 0]),
        compatibility=float(block.compatibility[0, 0]),
        perspective=float(block.perspective[0, 0]),
    )
    settings = question.settings
    why = reasons(senior.profile, junior.profile, settings, taxonomy, question.on)
    return Match(senior, junior, parts, why, focus(senior.profile, junior.profile, settings.matching.benefit, taxonomy))


def _left_over(pairs: Pairs, seniors: set[str], juniors: set[str]) -> list[LeftOver]:
    n, m = pairs.shape
    left: list[LeftOver] = []
    for s, member in enumerate(pairs.seniors):
        if member.id not in seniors:
            block = pairs.block(np.array([s]), np.arange(m))
            left.append(_why(member, "senior", block))
    for j, member in enumerate(pairs.juniors):
        if member.id not in juniors:
            block = pairs.block(np.arange(n), np.array([j]))
            left.append(_why(member, "junior", block))
    return left


def _why(member: Member, side: Side, block: Block) -> LeftOver:
    """The first step after which nobody remains; private rules take no part, so that nothing tells of them."""
    learn, give = "nothing_for_senior", "nothing_for_junior"
    if side == "junior":
        learn, give = give, learn
    broken: dict[str, Bools] = {str(step): mask for step, mask in [*block.broken.items(), *block.short.items()]}
    steps: list[tuple[str, Bools]] = [(step, broken[step]) for step in STEPS if step in broken]
    steps += [("nothing_to_learn", broken[learn]), ("nothing_to_give", broken[give])]
    steps += [("too_different", broken["too_different"])]
    remaining = ~broken["same_person"]
    numbers = {"people": int(remaining.sum())}
    told = f"{numbers['people']} on the other side"
    for code, mask in steps:
        before = int(remaining.sum())
        remaining = remaining & ~mask
        after = int(remaining.sum())
        if after == before and code in STEPS:
            continue
        numbers[f"after_{code}"] = after
        if after == 0:
            known = f"Of {told}, {before} remained" if before != numbers["people"] else f"Of {told}"
            return LeftOver(member, side, code, f"{known}: {NOBODY[code]}.", numbers)
    text = f"Of {told}, {int(remaining.sum())} would suit, but their places went to pairs with a higher total fit."
    return LeftOver(member, side, "places_taken", text, numbers)
