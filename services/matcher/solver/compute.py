"""A round from the store to the store: read, solve or repair, write. It runs in the worker's process.

Proposals are numbered, the best first, and kept under the number of the run that solved them. A repair leaves what was
solved where it is, hides what it replaces (``shown``), and adds what it makes under further numbers; so whatever is
undone comes back as it was.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chassis.core.ids import derived_id
from chassis.storage.mongo import Collection, Document, Documents, chunks
from contracts.pairings import Focus
from contracts.profiles import Side
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.reasons import reasons
from services.matcher.domain.fit.rules import Member, enrolled
from services.matcher.domain.fit.score import Fit, fit, focus
from services.matcher.domain.receipts.receipt import SIDES
from services.matcher.domain.rounds.adjustment import Effect, Pair
from services.matcher.domain.rounds.round import Round, Totals, number, result_id
from services.matcher.domain.rounds.summary import Seat, summary
from services.matcher.engine.local_repair import Repairs, Result
from services.matcher.engine.solve import Answer, Match, Question, solve
from services.matcher.engine.unmatched import LeftOver
from services.matcher.solver.load_input import Books, question

WRITTEN = 500  # documents in one request
AFTERWARDS = "When single pairs of this round were changed by hand, nobody who suits was left with a place free."

Hear = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class Shelves:
    """The collections that a computation touches."""

    books: Books
    proposals: Documents
    left_over: Documents
    summaries: Documents

    @classmethod
    def of(cls, collection: Callable[[str], Collection]) -> "Shelves":
        return cls(
            Books(collection("members"), collection("ledgers"), collection("pairings")),
            Documents(collection("proposals")),
            Documents(collection("left_over")),
            Documents(collection("summaries")),
        )


@dataclass(frozen=True)
class Placed:
    """A pair's number among the proposals, and its fit."""

    place: int
    score: float


@dataclass(frozen=True)
class Left:
    """Why somebody is left over; ``relaxation``: rule, by how much, in words."""

    code: str
    relaxation: tuple[str, float, str] | None = None


@dataclass
class Known:
    """A result as it was solved (``pairs``, ``left``), and what repairs have made of it in the store.

    ``made`` and ``hidden`` are about pairs; ``late`` are people left over by a repair, ``helped`` those who were
    before it and are no longer.
    """

    result: str
    question: Question
    why_empty: str | None
    optimum: float
    bound: float | None
    seniors: Mapping[str, Member]
    juniors: Mapping[str, Member]
    pairs: Mapping[Pair, Placed]
    left: Mapping[str, Left]
    places: int
    made: dict[Pair, Placed] = field(default_factory=dict)
    hidden: set[Pair] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    helped: set[str] = field(default_factory=set)

    def people(self) -> Iterable[tuple[Side, Member]]:
        yield from (("senior", member) for member in self.seniors.values())
        yield from (("junior", member) for member in self.juniors.values())

    def shown(self) -> dict[Pair, Placed]:
        return {pair: placed for pair, placed in self.pairs.items() if pair not in self.hidden} | self.made


@dataclass
class Memory:
    """What the process remembers between two jobs: the round's people and result, as they were read."""

    taxonomy: Taxonomy
    known: Known | None = None


async def computed(round: Round, now: datetime, shelves: Shelves, memory: Memory, hear: Hear) -> Totals:
    """Do what the round asks for, and return its totals once everything is stored."""
    known, memory.known = memory.known, None  # what is cut off half way is not to be trusted
    if round.whole:
        known = None  # the people of two rounds at once would take twice the memory
        known = await _solved(round, now, shelves, memory.taxonomy, hear)
    elif known is None or known.result != result_id(round.round_id, round.result):
        known = await _read_again(round, now, shelves, hear)
    effects = await _repaired(round, known, shelves, memory.taxonomy, hear)
    memory.known = known
    shown = known.shown()
    await _summarise(known, shown, shelves)
    scores = [placed.score for placed in shown.values()]
    matched = {member for pair in shown for member in pair}
    return Totals(
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


async def _solved(round: Round, now: datetime, shelves: Shelves, taxonomy: Taxonomy, hear: Hear) -> Known:
    """A new result under the number of this run; what earlier runs have left stays until this one counts."""
    asked = await question(round, now, shelves.books, lambda done, total: hear("reading", done, total))
    answer = solve(asked, taxonomy, hear)
    result = result_id(round.round_id, round.run)
    proposals = [
        _proposal(round, result, n, (one.senior, one.junior), one.fit, one.reasons, one.focus) | _chosen(one)
        for n, one in enumerate(answer.matches)
    ]
    await _written(shelves.proposals, proposals, lambda done: hear("writing", done, len(proposals)))
    await _written(shelves.left_over, [_left_over(round, result, left) for left in answer.left_over], _nobody)
    known = _known(result, asked, answer)
    await _drop_the_erased(result, [member.id for _, member in known.people()], shelves)
    return known


def _known(result: str, asked: Question, answer: Answer) -> Known:
    of: dict[Side, list[Member]] = {
        "senior": [one.senior for one in answer.matches],
        "junior": [one.junior for one in answer.matches],
    }
    for left in answer.left_over:
        of[left.side].append(left.member)
    return Known(
        result=result,
        question=asked,
        why_empty=answer.why_empty,
        optimum=answer.optimum,
        bound=answer.bound,
        seniors={member.id: member for member in of["senior"]},
        juniors={member.id: member for member in of["junior"]},
        pairs={(one.senior.id, one.junior.id): Placed(n, one.fit.score) for n, one in enumerate(answer.matches)},
        left={one.member.id: Left(one.code, _relaxation(_relaxed(one))) for one in answer.left_over},
        places=len(answer.matches),
    )


async def _read_again(round: Round, now: datetime, shelves: Shelves, hear: Hear) -> Known:
    """The result as it is stored, where another process has solved it, and everybody in it as they are now."""
    asked = await question(round, now, shelves.books, lambda done, total: hear("reading", done, total))
    everybody = {profile.member_id: enrolled(profile, round.programme_id) for profile in asked.profiles}
    people = {id: member for id, member in everybody.items() if member is not None}
    result = result_id(round.round_id, round.result)
    pairs: dict[Pair, Placed] = {}
    left: dict[str, Left] = {}
    made, hidden, late, helped = dict[Pair, Placed](), set[Pair](), set[str](), set[str]()
    sides: dict[Side, set[str]] = {"senior": set(), "junior": set()}
    for page in chunks([f"{result}/{number(n)}" for n in range(round.places)], WRITTEN):
        for found in (await shelves.proposals.get_many(page)).values():
            pair = (found["senior"], found["junior"])
            sides["senior"].add(pair[0])
            sides["junior"].add(pair[1])
            (pairs if found["solved"] else made)[pair] = Placed(int(found["place"]), found["fit"]["score"])
            if not found["shown"]:
                hidden.add(pair)
    async for found in shelves.left_over.find({"result": result}):
        id = found["member_id"]
        sides[found["side"]].add(id)
        if not found["solved"]:
            late.add(id)
            continue
        left[id] = Left(found["code"], _relaxation(found["relaxation"]))
        if not found["shown"]:
            helped.add(id)
    return Known(
        result=result,
        question=asked,
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


async def _repaired(round: Round, known: Known, shelves: Shelves, taxonomy: Taxonomy, hear: Hear) -> tuple[Effect, ...]:
    """Apply the adjustments to what was solved, and bring the store up to date with the outcome."""
    wanted = [one for one in round.adjustments if one.state != "undone"]
    if not wanted and not known.made and not known.hidden:
        return ()
    start = Result(known.seniors, known.juniors, {pair: placed.score for pair, placed in known.pairs.items()})
    repairs = Repairs(known.question, start, taxonomy)
    effects = []
    for n, one in enumerate(wanted):
        hear("repairing", n, len(wanted))
        effects.append(repairs.apply(one))
    await _bring_pairs_up_to_date(round, known, repairs.pairs.keys(), shelves, taxonomy)
    await _bring_people_up_to_date(round, known, repairs.pairs.keys(), shelves)
    return tuple(effects)


async def _bring_pairs_up_to_date(
    round: Round, known: Known, wanted: Iterable[Pair], shelves: Shelves, taxonomy: Taxonomy
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
        settings, on = known.question.settings, known.question.on
        parts = fit(s, j, settings, taxonomy, on)
        why = reasons(s.profile, j.profile, settings, taxonomy, on)
        about = focus(s.profile, j.profile, settings.matching.benefit, taxonomy)
        documents.append(_proposal(round, known.result, known.places, (s, j), parts, why, about, solved=False))
        known.made[senior, junior] = Placed(known.places, parts.score)
        known.places += 1
    await _written(shelves.proposals, documents, _nobody)
    known.hidden = set(hidden)
    named = [found[side] for found in documents for side in ("senior", "junior")]
    await _drop_the_erased(known.result, named, shelves)


async def _bring_people_up_to_date(round: Round, known: Known, wanted: Iterable[Pair], shelves: Shelves) -> None:
    matched = {member for pair in wanted for member in pair}
    helped = known.left.keys() & matched
    told = matched | known.left.keys()
    late = {member.id: (side, member) for side, member in known.people() if member.id not in told}
    prefix = known.result
    await _show(shelves.left_over, [f"{prefix}/{id}" for id in sorted(known.helped - helped)], shown=True)
    await _show(shelves.left_over, [f"{prefix}/{id}" for id in sorted(helped - known.helped)], shown=False)
    await _deleted(shelves.left_over, [f"{prefix}/{id}" for id in sorted(known.late - late.keys())])
    documents = [
        _left_over(round, prefix, LeftOver(member, side, "changed_by_hand", AFTERWARDS, {}), solved=False)
        for id, (side, member) in late.items()
        if id not in known.late
    ]
    await _written(shelves.left_over, documents, _nobody)
    known.helped, known.late = set(helped), set(late)
    await _drop_the_erased(known.result, [found["member_id"] for found in documents], shelves)


async def _summarise(known: Known, shown: Mapping[Pair, Placed], shelves: Shelves) -> None:
    matched = {member for pair in shown for member in pair}
    left = {**dict.fromkeys(known.late, Left("changed_by_hand")), **known.left}
    seats = (
        Seat(
            side=side,
            department_id=member.profile.department_id,
            matched=member.id in matched,
            code=left[member.id].code if member.id in left else None,
            relaxation=left[member.id].relaxation if member.id in left else None,
        )
        for side, member in known.people()
    )
    found = summary(seats, {number(placed.place): placed.score for placed in shown.values()})
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


def _left_over(round: Round, result: str, left: LeftOver, *, solved: bool = True) -> Document:
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
        "numbers": dict(left.numbers),
        "relaxation": _relaxed(left),
        "solved": solved,
        "shown": True,
    }


def _chosen(match: Match) -> Document:
    """How the solver came to it, for the receipt."""
    found: Document = {"probability": match.probability}
    for side in SIDES:
        up = match.runner_up.get(side)
        found[f"runner_up_of_{side}"] = {"member_id": up.member_id, "score": up.score} if up else None
    return found


def _relaxed(left: LeftOver) -> Document | None:
    one = left.relaxation
    if one is None:
        return None
    also = None if one.also is None else {"rule": one.also[0], "by": one.also[1]}
    return {"rule": one.rule, "by": one.by, "change": one.change, "text": one.text, "also": also}


def _relaxation(document: Document | None) -> tuple[str, float, str] | None:
    return None if document is None else (document["rule"], document["by"], document["change"])


async def _written(documents: Documents, all_of_them: Sequence[Document], heard: Callable[[int], None]) -> None:
    done = 0
    for chunk in chunks(all_of_them, WRITTEN):
        heard(done)
        await documents.put_many(chunk)
        done += len(chunk)


async def _show(documents: Documents, ids: Sequence[str], *, shown: bool) -> None:
    for chunk in chunks(ids, WRITTEN):
        await documents.collection.update_many({"_id": {"$in": list(chunk)}}, {"$set": {"shown": shown}})


async def _deleted(documents: Documents, ids: Sequence[str]) -> None:
    for chunk in chunks(ids, WRITTEN):
        await documents.delete({"_id": {"$in": list(chunk)}})


async def _drop_the_erased(result: str, members: Sequence[str], shelves: Shelves) -> None:
    """Whoever writes about people looks afterwards who is gone: their erasure may have looked before."""
    gone: list[str] = []
    for chunk in chunks(members, WRITTEN):
        found = shelves.books.members.find({"_id": {"$in": list(chunk)}}, {"grave": 1})
        there = {document["_id"] async for document in found if not document["grave"]}
        gone += [id for id in chunk if id not in there]
    for chunk in chunks(gone, WRITTEN):
        theirs = [{"senior": {"$in": list(chunk)}}, {"junior": {"$in": list(chunk)}}]
        await shelves.proposals.delete({"result": result, "$or": theirs})
        await shelves.left_over.delete({"result": result, "member_id": {"$in": list(chunk)}})


def _nobody(_: int) -> None:
    """Nobody is told."""
