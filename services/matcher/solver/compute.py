"""A round from the store to the store: read, solve or repair, write. It runs in the worker's process.

Proposals are numbered, the best first, and kept under the number of the run that solved them. A repair leaves what was
solved where it is, hides what it replaces (``shown``), and adds what it makes under further numbers; so
whatever is undone comes back as it was.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chassis.core.ids import derived_id
from chassis.storage.mongo import Collection, Document, Documents, chunks
from contracts.pairings import Focus
from contracts.profiles import Side
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.rules import Member, find_enrolled_member
from services.matcher.domain.fit.score import Fit, compute_fit, select_focus
from services.matcher.domain.receipts.receipt import SIDES
from services.matcher.domain.rounds.adjustment import AdjustmentEffect, Pair
from services.matcher.domain.rounds.round import Round, RoundTotals, number, result_id
from services.matcher.domain.rounds.summary import RoundParticipant, summarise_round
from services.matcher.engine.local_repair import LocalRepair, StandingPairs
from services.matcher.engine.solve import Match, MatchingProblem, MatchingResult, solve
from services.matcher.engine.unmatched import UnmatchedMember
from services.matcher.solver.load_input import InputCollections, load_problem

WRITE_BATCH = 500  # documents in one request
CHANGED_BY_HAND_TEXT = (
    "When single pairs of this round were changed by hand, nobody who suits was left with a place free."
)

ProgressCallback = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class SolverCollections:
    """The collections that a computation touches."""

    input: InputCollections
    proposals: Documents
    unmatched: Documents
    summaries: Documents

    @classmethod
    def of(cls, collection: Callable[[str], Collection]) -> "SolverCollections":
        return cls(
            InputCollections(collection("members"), collection("ledgers"), collection("pairings")),
            Documents(collection("proposals")),
            Documents(collection("left_over")),
            Documents(collection("summaries")),
        )


@dataclass(frozen=True)
class NumberedPair:
    """A pair's number among the proposals, and its fit."""

    place: int
    score: float


@dataclass(frozen=True)
class UnmatchedReason:
    """Why somebody is left over; ``relaxation``: rule, by how much, in words."""

    code: str
    relaxation: tuple[str, float, str] | None = None


@dataclass
class CachedResult:
    """A result as it was solved (``pairs``, ``left``), and what repairs have made of it in the store.

    ``made`` and ``hidden`` are about pairs; ``late`` are people left over by a repair, ``helped`` those who were
    before it and are no longer.
    """

    result: str
    problem: MatchingProblem
    why_empty: str | None
    optimum: float
    bound: float | None
    seniors: Mapping[str, Member]
    juniors: Mapping[str, Member]
    pairs: Mapping[Pair, NumberedPair]
    left: Mapping[str, UnmatchedReason]
    places: int
    made: dict[Pair, NumberedPair] = field(default_factory=dict)
    hidden: set[Pair] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    helped: set[str] = field(default_factory=set)

    def people(self) -> Iterable[tuple[Side, Member]]:
        yield from (("senior", member) for member in self.seniors.values())
        yield from (("junior", member) for member in self.juniors.values())

    def shown(self) -> dict[Pair, NumberedPair]:
        return {pair: placed for pair, placed in self.pairs.items() if pair not in self.hidden} | self.made


@dataclass
class SolverCache:
    """What the process remembers between two jobs: the round's people and result, as they were read."""

    taxonomy: Taxonomy
    cached: CachedResult | None = None


async def compute_round(
    round: Round, now: datetime, shelves: SolverCollections, memory: SolverCache, hear: ProgressCallback
) -> RoundTotals:
    """Do what the round asks for, and return its totals once everything is stored."""
    known, memory.cached = memory.cached, None  # what is cut off half way is not to be trusted
    if round.whole:
        known = None  # the people of two rounds at once would take twice the memory
        known = await _solved(round, now, shelves, memory.taxonomy, hear)
    elif known is None or known.result != result_id(round.round_id, round.result):
        known = await _read_again(round, now, shelves, hear)
    effects = await _repaired(round, known, shelves, memory.taxonomy, hear)
    memory.cached = known
    shown = known.shown()
    await _summarise(known, shown, shelves)
    scores = [placed.score for placed in shown.values()]
    matched = {member for pair in shown for member in pair}
    return RoundTotals(
        seniors=len(known.seniors),
        juniors=len(known.juniors),
        pairs=len(shown),
        unmatched_seniors=len(known.seniors.keys() - matched),
        unmatched_juniors=len(known.juniors.keys() - matched),
        total_fit=sum(scores),
        lowest_fit=min(scores, default=None),
        why=None if shown else known.why_empty,
        places=known.places,
        optimum=known.optimum,
        bound=known.bound,
        effects=effects,
    )


async def _solved(
    round: Round, now: datetime, shelves: SolverCollections, taxonomy: Taxonomy, hear: ProgressCallback
) -> CachedResult:
    """A new result under the number of this run; what earlier runs have left stays until this one counts."""
    asked = await load_problem(round, now, shelves.input, lambda done, total: hear("reading", done, total))
    answer = solve(asked, taxonomy, hear)
    result = result_id(round.round_id, round.run)
    proposals = [
        _proposal(round, result, n, (one.senior, one.junior), one.fit, one.reasons, one.focus) | _chosen(one)
        for n, one in enumerate(answer.matches)
    ]
    await _written(shelves.proposals, proposals, lambda done: hear("writing", done, len(proposals)))
    await _written(shelves.unmatched, [_left_over(round, result, left) for left in answer.unmatched], _nobody)
    known = _known(result, asked, answer)
    await _drop_the_erased(result, [member.id for _, member in known.people()], shelves)
    return known


def _known(result: str, asked: MatchingProblem, answer: MatchingResult) -> CachedResult:
    of: dict[Side, list[Member]] = {
        "senior": [one.senior for one in answer.matches],
        "junior": [one.junior for one in answer.matches],
    }
    for left in answer.unmatched:
        of[left.side].append(left.member)
    return CachedResult(
        result=result,
        problem=asked,
        why_empty=answer.empty_reason,
        optimum=answer.optimal_fit,
        bound=answer.upper_bound,
        seniors={member.id: member for member in of["senior"]},
        juniors={member.id: member for member in of["junior"]},
        pairs={(one.senior.id, one.junior.id): NumberedPair(n, one.fit.score) for n, one in enumerate(answer.matches)},
        left={one.member.id: UnmatchedReason(one.code, _relaxation(_relaxed(one))) for one in answer.unmatched},
        places=len(answer.matches),
    )


async def _read_again(round: Round, now: datetime, shelves: SolverCollections, hear: ProgressCallback) -> CachedResult:
    """The result as it is stored, where another process has solved it, and everybody in it as they are now."""
    asked = await load_problem(round, now, shelves.input, lambda done, total: hear("reading", done, total))
    everybody = {profile.member_id: find_enrolled_member(profile, round.programme_id) for profile in asked.profiles}
    people = {id: member for id, member in everybody.items() if member is not None}
    result = result_id(round.round_id, round.result)
    pairs: dict[Pair, NumberedPair] = {}
    left: dict[str, UnmatchedReason] = {}
    made, hidden, late, helped = dict[Pair, NumberedPair](), set[Pair](), set[str](), set[str]()
    sides: dict[Side, set[str]] = {"senior": set(), "junior": set()}
    for page in chunks([f"{result}/{number(n)}" for n in range(round.places)], WRITE_BATCH):
        for found in (await shelves.proposals.get_many(page)).values():
            pair = (found["senior"], found["junior"])
            sides["senior"].add(pair[0])
            sides["junior"].add(pair[1])
            (pairs if found["solved"] else made)[pair] = NumberedPair(int(found["place"]), found["fit"]["score"])
            if not found["shown"]:
                hidden.add(pair)
    async for found in shelves.unmatched.find({"result": result}):
        id = found["member_id"]
        sides[found["side"]].add(id)
        if not found["solved"]:
            late.add(id)
            continue
        left[id] = UnmatchedReason(found["code"], _relaxation(found["relaxation"]))
        if not found["shown"]:
            helped.add(id)
    return CachedResult(
        result=result,
        problem=asked,
        why_empty=round.why,
        optimum=round.optimum,
        bound=round.bound,
        seniors={id: people[id] for id in sorted(sides["senior"] & people.keys())},
        juniors={id: people[id] for id in sorted(sides["junior"] & people.keys())},
        pairs=pairs,
        left=left,
        places=round.places,
        made=made,
        hidden=hidden,
        late=late,
        helped=helped,
    )


async def _repaired(
    round: Round, known: CachedResult, shelves: SolverCollections, taxonomy: Taxonomy, hear: ProgressCallback
) -> tuple[AdjustmentEffect, ...]:
    """Apply the adjustments to what was solved, and bring the store up to date with the outcome."""
    wanted = [one for one in round.adjustments if one.state != "undone"]
    if not wanted and not known.made and not known.hidden:
        return ()
    start = StandingPairs(known.seniors, known.juniors, {pair: placed.score for pair, placed in known.pairs.items()})
    repairs = LocalRepair(known.problem, start, taxonomy)
    effects = []
    for n, one in enumerate(wanted):
        hear("repairing", n, len(wanted))
        effects.append(repairs.apply(one))
    await _bring_pairs_up_to_date(round, known, repairs.pairs.keys(), shelves, taxonomy)
    await _bring_people_up_to_date(round, known, repairs.pairs.keys(), shelves)
    return tuple(effects)


async def _bring_pairs_up_to_date(
    round: Round, known: CachedResult, wanted: Iterable[Pair], shelves: SolverCollections, taxonomy: Taxonomy
) -> None:
    pairs = set(wanted)
    ids = {pair: f"{known.result}/{number(placed.place)}" for pair, placed in {**known.pairs, **known.made}.items()}
    hidden = known.pairs.keys() - pairs
    await _show(shelves.proposals, [ids[pair] for pair in sorted(known.hidden - hidden)], shown=True)
    await _show(shelves.proposals, [ids[pair] for pair in sorted(hidden - known.hidden)], shown=False)
    gone = sorted(known.made.keys() - pairs)
    await _deleted(shelves.proposals, [ids[pair] for pair in gone])
    documents = []
    for pair in gone:
        del known.made[pair]
    for senior, junior in sorted(pairs - known.pairs.keys() - known.made.keys()):
        s, j = known.seniors[senior], known.juniors[junior]
        settings, on = known.problem.settings, known.problem.on
        parts = compute_fit(s, j, settings, taxonomy, on)
        why = build_reasons(s.profile, j.profile, settings, taxonomy, on)
        about = select_focus(s.profile, j.profile, settings.matching.benefit, taxonomy)
        documents.append(_proposal(round, known.result, known.places, (s, j), parts, why, about, solved=False))
        known.made[senior, junior] = NumberedPair(known.places, parts.score)
        known.places += 1
    await _written(shelves.proposals, documents, _nobody)
    known.hidden = set(hidden)
    named = [found[side] for found in documents for side in ("senior", "junior")]
    await _drop_the_erased(known.result, named, shelves)


async def _bring_people_up_to_date(
    round: Round, known: CachedResult, wanted: Iterable[Pair], shelves: SolverCollections
) -> None:
    matched = {member for pair in wanted for member in pair}
    helped = known.left.keys() & matched
    told = matched | known.left.keys()
    late = {member.id: (side, member) for side, member in known.people() if member.id not in told}
    prefix = known.result
    await _show(shelves.unmatched, [f"{prefix}/{id}" for id in sorted(known.helped - helped)], shown=True)
    await _show(shelves.unmatched, [f"{prefix}/{id}" for id in sorted(helped - known.helped)], shown=False)
    await _deleted(shelves.unmatched, [f"{prefix}/{id}" for id in sorted(known.late - late.keys())])
    documents = [
        _left_over(
            round, prefix, UnmatchedMember(member, side, "changed_by_hand", CHANGED_BY_HAND_TEXT, {}), solved=False
        )
        for id, (side, member) in late.items()
        if id not in known.late
    ]
    await _written(shelves.unmatched, documents, _nobody)
    known.helped, known.late = set(helped), set(late)
    await _drop_the_erased(known.result, [found["member_id"] for found in documents], shelves)


async def _summarise(known: CachedResult, shown: Mapping[Pair, NumberedPair], shelves: SolverCollections) -> None:
    matched = {member for pair in shown for member in pair}
    left = {**dict.fromkeys(known.late, UnmatchedReason("changed_by_hand")), **known.left}
    seats = (
        RoundParticipant(
            side=side,
            department_id=member.profile.department_id,
            matched=member.id in matched,
            code=left[member.id].code if member.id in left else None,
            relaxation=left[member.id].relaxation if member.id in left else None,
        )
        for side, member in known.people()
    )
    found = summarise_round(seats, {number(placed.place): placed.score for placed in shown.values()})
    await shelves.summaries.put({**found.model_dump(mode="json"), "_id": known.result})


def _proposal(
    round: Round,
    result: str,
    place: int,
    pair: tuple[Member, Member],
    parts: Fit,
    why: Mapping[Side, Sequence[str]],
    about: Sequence[Focus],
    *,
    solved: bool = True,
) -> Document:
    senior, junior = pair
    return {
        "_id": f"{result}/{number(place)}",
        "result": result,
        "round_id": round.round_id,
        "run": round.run if round.whole else round.result,
        "place": number(place),
        "pairing_id": derived_id("pairing", round.round_id, senior.id, junior.id),
        "senior": senior.id,
        "junior": junior.id,
        "fit": parts.model_dump(),
        "reasons": {side: list(texts) for side, texts in why.items()},
        "focus": [one.model_dump() for one in about],
        "solved": solved,
        "shown": True,
        "state": "waiting",
        "why": None,
    }


def _left_over(round: Round, result: str, left: UnmatchedMember, *, solved: bool = True) -> Document:
    return {
        "_id": f"{result}/{left.member.id}",
        "result": result,
        "round_id": round.round_id,
        "run": round.run if round.whole else round.result,
        "member_id": left.member.id,
        "side": left.side,
        "department_id": left.member.profile.department_id,
        "code": left.code,
        "text": left.text,
        "numbers": dict(left.counts),
        "relaxation": _relaxed(left),
        "solved": solved,
        "shown": True,
    }


def _chosen(match: Match) -> Document:
    """How the solver came to it, for the receipt."""
    found: Document = {"probability": match.probability}
    for side in SIDES:
        up = match.runners_up.get(side)
        found[f"runner_up_of_{side}"] = {"member_id": up.member_id, "score": up.score} if up else None
    return found


def _relaxed(left: UnmatchedMember) -> Document | None:
    one = left.relaxation
    if one is None:
        return None
    also = None if one.second is None else {"rule": one.second[0], "by": one.second[1]}
    return {"rule": one.rule, "by": one.amount, "change": one.change, "text": one.text, "also": also}


def _relaxation(document: Document | None) -> tuple[str, float, str] | None:
    return None if document is None else (document["rule"], document["by"], document["change"])


async def _written(documents: Documents, all_of_them: Sequence[Document], heard: Callable[[int], None]) -> None:
    done = 0
    for chunk in chunks(all_of_them, WRITE_BATCH):
        heard(done)
        await documents.put_many(chunk)
        done += len(chunk)


async def _show(documents: Documents, ids: Sequence[str], *, shown: bool) -> None:
    for chunk in chunks(ids, WRITE_BATCH):
        await documents.collection.update_many({"_id": {"$in": list(chunk)}}, {"$set": {"shown": shown}})


async def _deleted(documents: Documents, ids: Sequence[str]) -> None:
    for chunk in chunks(ids, WRITE_BATCH):
        await documents.delete({"_id": {"$in": list(chunk)}})


async def _drop_the_erased(result: str, members: Sequence[str], shelves: SolverCollections) -> None:
    """Whoever writes about people looks afterwards who is gone: their erasure may have looked before."""
    gone: list[str] = []
    for chunk in chunks(members, WRITE_BATCH):
        found = shelves.input.members.find({"_id": {"$in": list(chunk)}}, {"grave": 1})
        there = {document["_id"] async for document in found if not document["grave"]}
        gone += [id for id in chunk if id not in there]
    for chunk in chunks(gone, WRITE_BATCH):
        theirs = [{"senior": {"$in": list(chunk)}}, {"junior": {"$in": list(chunk)}}]
        await shelves.proposals.delete({"result": result, "$or": theirs})
        await shelves.unmatched.delete({"result": result, "member_id": {"$in": list(chunk)}})


def _nobody(_: int) -> None:
    """Nobody is told."""
