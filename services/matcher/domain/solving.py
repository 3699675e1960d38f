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
from services.matcher.domain.assignment import TIE, UNIT, assign, gains, split
from services.matcher.domain.candidates import candidates
from services.matcher.domain.fit import Fit, focus
from services.matcher.domain.pairs import Block, Pairs
from services.matcher.domain.reasons import reasons
from services.matcher.domain.rules import Member
from services.matcher.domain.unmatched import LeftOver, Optimum, left_over, one_sided


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
        why, left = one_sided(seniors, juniors)
        return Answer(len(seniors), len(juniors), (), left, why)
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
    left = left_over(pairs, Optimum(found, gains(edges, question.seed), UNIT * TIE, chosen, places, question.forbidden))
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
