"""A round from end to end: who takes part, who is paired with whom and why, who is left over and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import numpy as np

from contracts.pairings import Focus
from contracts.people import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain import rules
from services.matcher.domain.assignment import split
from services.matcher.domain.candidates import Candidates, Edges, best_two, candidates, scan_of
from services.matcher.domain.columns import Bools, Ints
from services.matcher.domain.drawing import Drawn, drawn
from services.matcher.domain.fairness import fairer
from services.matcher.domain.fit import Fit, focus
from services.matcher.domain.market import Market, optimum
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
class Background:
    """What the words about a pair depend on beside the two."""

    settings: ProgrammeSettings
    taxonomy: Taxonomy
    on: date


@dataclass(frozen=True)
class Match:
    """One proposed pair; its words are made when they are asked for.

    ``probability``: with which the draw among near-equals chose it, given the assignment before the draw.
    ``runner_up``: of each side, whether their place was taken or not; private rules play no part in it.
    """

    senior: Member
    junior: Member
    fit: Fit
    background: Background
    probability: float = 1.0
    runner_up: Mapping[Side, RunnerUp] = field(default_factory=dict)
    locked: bool = False

    @cached_property
    def reasons(self) -> Mapping[Side, Sequence[str]]:
        known = self.background
        return reasons(self.senior.profile, self.junior.profile, known.settings, known.taxonomy, known.on)

    @cached_property
    def focus(self) -> tuple[Focus, ...]:
        marks = self.background.settings.matching.benefit
        return focus(self.senior.profile, self.junior.profile, marks, self.background.taxonomy)


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

    ``total``: fit of all pairs; ``optimum``: the same before fairness and the draw; ``bound``: what that of no
    assignment exceeds (priority counted), None where nothing was assigned; ``fairness``: what that pass reached.
    """

    seniors: int
    juniors: int
    matches: Sequence[Match] = ()
    left_over: Sequence[LeftOver] = ()
    why_empty: str | None = None
    total: float = 0.0
    optimum: float = 0.0
    bound: float | None = None
    fairness: str = ""


def solve(
    question: Question, taxonomy: Taxonomy, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Answer:
    """Who is to be paired with whom. ``progress`` hears the stage, what is done of it and how much there is."""
    seniors, juniors = sides(question)
    if not seniors or not juniors:
        return _one_sided(seniors, juniors)
    pairs = Pairs(seniors, juniors, question.settings, taxonomy, question.on, question.earlier)
    scan = scan_of(pairs, question.seed)
    found = candidates(pairs, scan, lambda done: progress("scoring", done, len(seniors)))
    locked = _locked(question, pairs)
    market = _market(question, pairs, locked)
    progress("solving", 0, len(found.edges))
    best = optimum(market, found, scan)
    before, chosen = best.edges.scores[best.assignment.chosen], best.assignment.chosen
    matching = question.settings.matching
    fair = fairer(best.edges, chosen, len(seniors), len(juniors), matching.fairness, question.seed)
    lot = drawn(best.edges, fair.chosen, len(juniors), float(before.sum()), matching.draw, question.seed)
    matches = _matches(question, taxonomy, pairs, found, locked, best.edges.take(lot.chosen), lot)
    left = _left_over(pairs, {match.senior.id for match in matches}, {match.junior.id for match in matches})
    held = sum(match.fit.score for match in matches if match.locked)
    return Answer(
        seniors=len(seniors),
        juniors=len(juniors),
        matches=matches,
        left_over=left,
        why_empty=None if matches else "No two of them can be paired; the reason of each is given.",
        total=sum(match.fit.score for match in matches),
        optimum=float(before.sum()) + held,
        bound=float(before.sum()) + held + best.open if matches else None,
        fairness=fair.words,
    )


def _locked(question: Question, pairs: Pairs) -> tuple[tuple[int, int], ...]:
    """The rows of the held pairs that no rule is in the way of and both have a place for, in the order of their ids."""
    row, column = pairs.s.row_of, pairs.j.row_of
    places = dict(question.places)
    kept = []
    for senior, junior in sorted(set(question.locked)):
        if senior not in row or junior not in column or min(places[senior], places[junior]) <= 0:
            continue
        block = pairs.at(np.array([row[senior]]), np.array([column[junior]]))
        if not any(mask[0] for mask in block.broken.values()):
            kept.append((row[senior], column[junior]))
            places[senior] -= 1
            places[junior] -= 1
    return tuple(kept)


def _market(question: Question, pairs: Pairs, locked: Sequence[tuple[int, int]]) -> Market:
    row, column = pairs.s.row_of, pairs.j.row_of
    places = [np.array([question.places[m.id] for m in side]) for side in (pairs.seniors, pairs.juniors)]
    for s, j in locked:
        places[0][s] -= 1
        places[1][j] -= 1
    weight = question.settings.matching.waiting
    bonus = [
        np.array([weight * question.waiting.get(m.id, 0.0) for m in side]) for side in (pairs.seniors, pairs.juniors)
    ]
    apart = {(row[a], column[b]) for a, b in _either_way(question.forbidden) if a in row and b in column}
    keys = np.array(sorted(s * len(pairs.juniors) + j for s, j in {*locked, *apart}), dtype=np.int64)
    return Market(pairs, places[0], places[1], bonus[0], bonus[1], keys, question.seed)


def _either_way(pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    return {way for one, other in pairs for way in ((one, other), (other, one))}


def sides(question: Question) -> tuple[list[Member], list[Member]]:
    """Seniors and juniors who can be proposed today and have a place free, in the order of their ids."""
    held = {senior: "senior" for senior, _ in question.locked} | {junior: "junior" for _, junior in question.locked}
    found: dict[str, list[Member]] = {"senior": [], "junior": [], "either": []}
    for profile in question.profiles:
        member = rules.enrolled(profile, question.programme_id)
        if member is None or question.places.get(member.id, 0) <= 0:
            continue
        if rules.absent(profile, question.programme_id, question.settings, question.on) is None:
            found[held.get(member.id, "either") if member.enrolment.side == "either" else member.enrolment.side].append(
                member
            )
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


def _matches(
    question: Question,
    taxonomy: Taxonomy,
    pairs: Pairs,
    found: Candidates,
    locked: Sequence[tuple[int, int]],
    chosen: Edges,
    lot: Drawn,
) -> list[Match]:
    """The pairs in words' reach, the best first."""
    held = np.array(locked, dtype=np.int64).reshape(-1, 2)
    rows, columns = np.concatenate([held[:, 0], chosen.seniors]), np.concatenate([held[:, 1], chosen.juniors])
    probability = np.concatenate([np.ones(len(held)), lot.probability])
    block = pairs.at(rows, columns)
    ups_of_seniors = _runners_up(found.edges, found.edges.seniors, found.edges.juniors, rows, columns, pairs.juniors)
    ups_of_juniors = _runners_up(found.edges, found.edges.juniors, found.edges.seniors, columns, rows, pairs.seniors)
    background = Background(question.settings, taxonomy, question.on)
    matches = []
    for n, (s, j) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        ups: dict[Side, RunnerUp | None] = {"senior": ups_of_seniors[n], "junior": ups_of_juniors[n]}
        matches.append(
            Match(
                pairs.seniors[s],
                pairs.juniors[j],
                _parts(block, n),
                background,
                float(probability[n]),
                {side: up for side, up in ups.items() if up is not None},
                locked=n < len(held),
            )
        )
    return sorted(matches, key=lambda match: (-match.fit.score, match.senior.id, match.junior.id))


def _parts(block: Block, n: int) -> Fit:
    return Fit(
        score=float(block.score[n]),
        senior_benefit=float(block.senior_benefit[n]),
        junior_benefit=float(block.junior_benefit[n]),
        compatibility=float(block.compatibility[n]),
        perspective=float(block.perspective[n]),
    )


def _runners_up(
    edges: Edges, mine: Ints, theirs: Ints, who: Ints, partners: Ints, others: Sequence[Member]
) -> list[RunnerUp | None]:
    """The best candidate of each beside the partner; ``mine`` and ``theirs`` are both ends of each edge."""
    first, second = best_two(mine, edges.scores)
    found: list[RunnerUp | None] = []
    for person, partner in zip(who.tolist(), partners.tolist(), strict=True):
        best = int(first[person]) if person < len(first) else -1
        if best >= 0 and theirs[best] == partner:
            best = int(second[person])
        found.append(None if best < 0 else RunnerUp(others[theirs[best]].id, float(edges.scores[best])))
    return found


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
