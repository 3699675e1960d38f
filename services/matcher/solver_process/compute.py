"""Computes a round from the store to the store: read, solve or repair, write. It runs in the worker's process.

Proposals are numbered, the best first, and stored under the number of the run that solved them. A repair never changes
what was solved: it hides the pairs that it replaces (``shown``) and stores new pairs under further numbers. So undoing
an adjustment restores everything as it was.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chassis.core.ids import derived_id
from chassis.storage.mongo import Collection, Document, Documents, chunks
from contracts.pairings import Focus
from contracts.profiles import Side
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.hard_rules import Member, find_enrolled_member
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.score import Fit, compute_fit, select_focus
from services.matcher.domain.receipts.receipt import SIDES
from services.matcher.domain.rounds.adjustment import AdjustmentEffect, Pair
from services.matcher.domain.rounds.round import Round, RoundTotals, number, result_id
from services.matcher.domain.rounds.summary import RoundParticipant, summarise_round
from services.matcher.engine.local_repair import LocalRepair, StandingPairs
from services.matcher.engine.solve import Match, MatchingProblem, MatchingResult, solve
from services.matcher.engine.unmatched import UnmatchedMember
from services.matcher.solver_process.load_input import InputCollections, load_problem

WRITE_BATCH = 500  # documents in one request
CHANGED_BY_HAND_TEXT = (
    "When single pairs of this round were changed by hand, nobody who suits was left with a place free."
)

ProgressCallback = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class SolverCollections:
    """The collections that a computation reads (``input``) and writes."""

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

    number: int
    score: float


@dataclass(frozen=True)
class UnmatchedReason:
    """Why a member is unmatched; ``relaxation``: rule, amount, and the change in words."""

    code: str
    relaxation: tuple[str, float, str] | None = None


@dataclass
class CachedResult:
    """A result as it was solved (``pairs``, ``unmatched``), and what repairs have made of it in the store.

    ``new_pairs`` and ``hidden_pairs`` are the repairs' changes of pairs. ``newly_unmatched``: members who lost their
    partner by a repair. ``newly_matched``: members of ``unmatched`` who got one. ``proposals``: numbers in use.
    """

    result: str
    problem: MatchingProblem
    empty_reason: str | None
    optimal_fit: float
    upper_bound: float | None
    seniors: Mapping[str, Member]
    juniors: Mapping[str, Member]
    pairs: Mapping[Pair, NumberedPair]
    unmatched: Mapping[str, UnmatchedReason]
    proposals: int
    new_pairs: dict[Pair, NumberedPair] = field(default_factory=dict)
    hidden_pairs: set[Pair] = field(default_factory=set)
    newly_unmatched: set[str] = field(default_factory=set)
    newly_matched: set[str] = field(default_factory=set)

    def participants(self) -> Iterable[tuple[Side, Member]]:
        yield from (("senior", member) for member in self.seniors.values())
        yield from (("junior", member) for member in self.juniors.values())

    def current_pairs(self) -> dict[Pair, NumberedPair]:
        solved = {pair: numbered for pair, numbered in self.pairs.items() if pair not in self.hidden_pairs}
        return solved | self.new_pairs


@dataclass
class SolverCache:
    """The data that the process keeps between two jobs: the members and the result of one round, as they were read."""

    taxonomy: Taxonomy
    cached: CachedResult | None = None


async def compute_round(
    round: Round,
    now: datetime,
    collections: SolverCollections,
    cache: SolverCache,
    report_progress: ProgressCallback,
) -> RoundTotals:
    """Solve or repair the round, and return its totals once everything is stored. ``now`` is business time.

    The cache is empty during the computation: an interrupted computation must leave nothing in it.
    """
    cached, cache.cached = cache.cached, None
    if round.whole:
        cached = None  # frees the memory first: the members of two rounds would take twice as much
        cached = await _solve_anew(round, now, collections, cache.taxonomy, report_progress)
    elif cached is None or cached.result != result_id(round.round_id, round.result):
        cached = await _load_result(round, now, collections, report_progress)
    effects = await _apply_adjustments(round, cached, collections, cache.taxonomy, report_progress)
    cache.cached = cached
    pairs = cached.current_pairs()
    await _store_summary(cached, pairs, collections)
    scores = [numbered.score for numbered in pairs.values()]
    matched = {member for pair in pairs for member in pair}
    return RoundTotals(
        seniors=len(cached.seniors),
        juniors=len(cached.juniors),
        pairs=len(pairs),
        unmatched_seniors=len(cached.seniors.keys() - matched),
        unmatched_juniors=len(cached.juniors.keys() - matched),
        total_fit=sum(scores),
        lowest_fit=min(scores, default=None),
        why=None if pairs else cached.empty_reason,
        places=cached.proposals,
        optimum=cached.optimal_fit,
        bound=cached.upper_bound,
        effects=effects,
    )


async def _solve_anew(
    round: Round,
    now: datetime,
    collections: SolverCollections,
    taxonomy: Taxonomy,
    report_progress: ProgressCallback,
) -> CachedResult:
    """A new result under the number of this run. Results of earlier runs stay until this one becomes the round's."""
    problem = await load_problem(
        round, now, collections.input, lambda done, total: report_progress("reading", done, total)
    )
    solution = solve(problem, taxonomy, report_progress)
    result = result_id(round.round_id, round.run)
    proposals = [
        _proposal_document(round, result, n, (match.senior, match.junior), match.fit, match.reasons, match.focus)
        | _lottery_fields(match)
        for n, match in enumerate(solution.matches)
    ]
    await _put_in_batches(
        collections.proposals, proposals, lambda done: report_progress("writing", done, len(proposals))
    )
    unmatched = [_unmatched_document(round, result, member) for member in solution.unmatched]
    await _put_in_batches(collections.unmatched, unmatched)
    cached = _cache_solution(result, problem, solution)
    await _delete_erased(result, [member.id for _, member in cached.participants()], collections)
    return cached


def _cache_solution(result: str, problem: MatchingProblem, solution: MatchingResult) -> CachedResult:
    members: dict[Side, list[Member]] = {
        "senior": [match.senior for match in solution.matches],
        "junior": [match.junior for match in solution.matches],
    }
    for unmatched in solution.unmatched:
        members[unmatched.side].append(unmatched.member)
    return CachedResult(
        result=result,
        problem=problem,
        empty_reason=solution.empty_reason,
        optimal_fit=solution.optimal_fit,
        upper_bound=solution.upper_bound,
        seniors={member.id: member for member in members["senior"]},
        juniors={member.id: member for member in members["junior"]},
        pairs={
            (match.senior.id, match.junior.id): NumberedPair(n, match.fit.score)
            for n, match in enumerate(solution.matches)
        },
        unmatched={
            unmatched.member.id: UnmatchedReason(
                unmatched.code, _relaxation_of_document(_relaxation_document(unmatched))
            )
            for unmatched in solution.unmatched
        },
        proposals=len(solution.matches),
    )


async def _load_result(
    round: Round, now: datetime, collections: SolverCollections, report_progress: ProgressCallback
) -> CachedResult:
    """The stored result, which another process has solved, with its members as they are now."""
    problem = await load_problem(
        round, now, collections.input, lambda done, total: report_progress("reading", done, total)
    )
    enrolled = {profile.member_id: find_enrolled_member(profile, round.programme_id) for profile in problem.profiles}
    members = {id: member for id, member in enrolled.items() if member is not None}
    result = result_id(round.round_id, round.result)
    pairs, new_pairs = dict[Pair, NumberedPair](), dict[Pair, NumberedPair]()
    unmatched: dict[str, UnmatchedReason] = {}
    hidden_pairs, newly_unmatched, newly_matched = set[Pair](), set[str](), set[str]()
    sides: dict[Side, set[str]] = {"senior": set(), "junior": set()}
    for page in chunks([f"{result}/{number(n)}" for n in range(round.places)], WRITE_BATCH):
        for document in (await collections.proposals.get_many(page)).values():
            pair = (document["senior"], document["junior"])
            sides["senior"].add(pair[0])
            sides["junior"].add(pair[1])
            numbered = NumberedPair(int(document["place"]), document["fit"]["score"])
            (pairs if document["solved"] else new_pairs)[pair] = numbered
            if not document["shown"]:
                hidden_pairs.add(pair)
    async for document in collections.unmatched.find({"result": result}):
        id = document["member_id"]
        sides[document["side"]].add(id)
        if not document["solved"]:
            newly_unmatched.add(id)
            continue
        unmatched[id] = UnmatchedReason(document["code"], _relaxation_of_document(document["relaxation"]))
        if not document["shown"]:
            newly_matched.add(id)
    return CachedResult(
        result=result,
        problem=problem,
        empty_reason=round.why,
        optimal_fit=round.optimum,
        upper_bound=round.bound,
        seniors={id: members[id] for id in sorted(sides["senior"] & members.keys())},
        juniors={id: members[id] for id in sorted(sides["junior"] & members.keys())},
        pairs=pairs,
        unmatched=unmatched,
        proposals=round.places,
        new_pairs=new_pairs,
        hidden_pairs=hidden_pairs,
        newly_unmatched=newly_unmatched,
        newly_matched=newly_matched,
    )


async def _apply_adjustments(
    round: Round,
    cached: CachedResult,
    collections: SolverCollections,
    taxonomy: Taxonomy,
    report_progress: ProgressCallback,
) -> tuple[AdjustmentEffect, ...]:
    """Apply the adjustments to the solved result, and update the store to the outcome."""
    adjustments = [adjustment for adjustment in round.adjustments if adjustment.state != "undone"]
    if not adjustments and not cached.new_pairs and not cached.hidden_pairs:
        return ()
    scores = {pair: numbered.score for pair, numbered in cached.pairs.items()}
    repair = LocalRepair(cached.problem, StandingPairs(cached.seniors, cached.juniors, scores), taxonomy)
    effects = []
    for n, adjustment in enumerate(adjustments):
        report_progress("repairing", n, len(adjustments))
        effects.append(repair.apply(adjustment))
    await _update_proposals(round, cached, repair.pairs.keys(), collections, taxonomy)
    await _update_unmatched(round, cached, repair.pairs.keys(), collections)
    return tuple(effects)


async def _update_proposals(
    round: Round,
    cached: CachedResult,
    repaired: Iterable[Pair],
    collections: SolverCollections,
    taxonomy: Taxonomy,
) -> None:
    """Hide, show, delete and add proposals, so that the store shows the repaired pairs."""
    pairs = set(repaired)
    stored = {**cached.pairs, **cached.new_pairs}
    ids = {pair: f"{cached.result}/{number(numbered.number)}" for pair, numbered in stored.items()}
    hidden = cached.pairs.keys() - pairs
    await _set_shown(collections.proposals, [ids[pair] for pair in sorted(cached.hidden_pairs - hidden)], shown=True)
    await _set_shown(collections.proposals, [ids[pair] for pair in sorted(hidden - cached.hidden_pairs)], shown=False)
    dropped = sorted(cached.new_pairs.keys() - pairs)
    await _delete_in_batches(collections.proposals, [ids[pair] for pair in dropped])
    for pair in dropped:
        del cached.new_pairs[pair]
    documents = []
    settings, on = cached.problem.settings, cached.problem.on
    for senior, junior in sorted(pairs - cached.pairs.keys() - cached.new_pairs.keys()):
        s, j = cached.seniors[senior], cached.juniors[junior]
        fit = compute_fit(s, j, settings, taxonomy, on)
        reasons = build_reasons(s.profile, j.profile, settings, taxonomy, on)
        focus = select_focus(s.profile, j.profile, settings.matching.benefit, taxonomy)
        documents.append(
            _proposal_document(round, cached.result, cached.proposals, (s, j), fit, reasons, focus, solved=False)
        )
        cached.new_pairs[senior, junior] = NumberedPair(cached.proposals, fit.score)
        cached.proposals += 1
    await _put_in_batches(collections.proposals, documents)
    cached.hidden_pairs = set(hidden)
    members = [document[side] for document in documents for side in ("senior", "junior")]
    await _delete_erased(cached.result, members, collections)


async def _update_unmatched(
    round: Round, cached: CachedResult, repaired: Iterable[Pair], collections: SolverCollections
) -> None:
    """Hide, show, delete and add reasons, so that the store shows who is unmatched after the repair."""
    matched = {member for pair in repaired for member in pair}
    newly_matched = cached.unmatched.keys() & matched
    explained = matched | cached.unmatched.keys()
    lost = {member.id: (side, member) for side, member in cached.participants() if member.id not in explained}
    documents, prefix = collections.unmatched, cached.result
    await _set_shown(documents, [f"{prefix}/{id}" for id in sorted(cached.newly_matched - newly_matched)], shown=True)
    await _set_shown(documents, [f"{prefix}/{id}" for id in sorted(newly_matched - cached.newly_matched)], shown=False)
    await _delete_in_batches(documents, [f"{prefix}/{id}" for id in sorted(cached.newly_unmatched - lost.keys())])
    added = [
        UnmatchedMember(member, side, "changed_by_hand", CHANGED_BY_HAND_TEXT, {})
        for id, (side, member) in lost.items()
        if id not in cached.newly_unmatched
    ]
    await _put_in_batches(documents, [_unmatched_document(round, prefix, member, solved=False) for member in added])
    cached.newly_matched, cached.newly_unmatched = set(newly_matched), set(lost)
    await _delete_erased(cached.result, [unmatched.member.id for unmatched in added], collections)


async def _store_summary(
    cached: CachedResult, pairs: Mapping[Pair, NumberedPair], collections: SolverCollections
) -> None:
    matched = {member for pair in pairs for member in pair}
    unmatched = {**dict.fromkeys(cached.newly_unmatched, UnmatchedReason("changed_by_hand")), **cached.unmatched}
    participants = (
        RoundParticipant(
            side=side,
            department_id=member.profile.department_id,
            matched=member.id in matched,
            code=unmatched[member.id].code if member.id in unmatched else None,
            relaxation=unmatched[member.id].relaxation if member.id in unmatched else None,
        )
        for side, member in cached.participants()
    )
    scores = {number(numbered.number): numbered.score for numbered in pairs.values()}
    summary = summarise_round(participants, scores)
    await collections.summaries.put({**summary.model_dump(mode="json"), "_id": cached.result})


def _proposal_document(
    round: Round,
    result: str,
    position: int,
    pair: tuple[Member, Member],
    fit: Fit,
    reasons: Mapping[Side, Sequence[str]],
    focus: Sequence[Focus],
    *,
    solved: bool = True,
) -> Document:
    """``position``: from 0, the best first. ``solved``: by a run of the solver, not by a repair."""
    senior, junior = pair
    return {
        "_id": f"{result}/{number(position)}",
        "result": result,
        "round_id": round.round_id,
        "run": round.run if round.whole else round.result,
        "place": number(position),
        "pairing_id": derived_id("pairing", round.round_id, senior.id, junior.id),
        "senior": senior.id,
        "junior": junior.id,
        "fit": fit.model_dump(),
        "reasons": {side: list(texts) for side, texts in reasons.items()},
        "focus": [topic.model_dump() for topic in focus],
        "solved": solved,
        "shown": True,
        "state": "waiting",
        "why": None,
    }


def _unmatched_document(round: Round, result: str, unmatched: UnmatchedMember, *, solved: bool = True) -> Document:
    return {
        "_id": f"{result}/{unmatched.member.id}",
        "result": result,
        "round_id": round.round_id,
        "run": round.run if round.whole else round.result,
        "member_id": unmatched.member.id,
        "side": unmatched.side,
        "department_id": unmatched.member.profile.department_id,
        "code": unmatched.code,
        "text": unmatched.text,
        "numbers": dict(unmatched.counts),
        "relaxation": _relaxation_document(unmatched),
        "solved": solved,
        "shown": True,
    }


def _lottery_fields(match: Match) -> Document:
    """How the solver chose the pair, for the receipt."""
    document: Document = {"probability": match.probability}
    for side in SIDES:
        runner_up = match.runners_up.get(side)
        document[f"runner_up_of_{side}"] = (
            {"member_id": runner_up.member_id, "score": runner_up.score} if runner_up else None
        )
    return document


def _relaxation_document(unmatched: UnmatchedMember) -> Document | None:
    relaxation = unmatched.relaxation
    if relaxation is None:
        return None
    second = None if relaxation.second is None else {"rule": relaxation.second[0], "by": relaxation.second[1]}
    return {
        "rule": relaxation.rule,
        "by": relaxation.amount,
        "change": relaxation.change,
        "text": relaxation.text,
        "also": second,
    }


def _relaxation_of_document(document: Document | None) -> tuple[str, float, str] | None:
    return None if document is None else (document["rule"], document["by"], document["change"])


async def _put_in_batches(
    documents: Documents, new: Sequence[Document], report_written: Callable[[int], None] = lambda _: None
) -> None:
    written = 0
    for chunk in chunks(new, WRITE_BATCH):
        report_written(written)
        await documents.put_many(chunk)
        written += len(chunk)


async def _set_shown(documents: Documents, ids: Sequence[str], *, shown: bool) -> None:
    for chunk in chunks(ids, WRITE_BATCH):
        await documents.collection.update_many({"_id": {"$in": list(chunk)}}, {"$set": {"shown": shown}})


async def _delete_in_batches(documents: Documents, ids: Sequence[str]) -> None:
    for chunk in chunks(ids, WRITE_BATCH):
        await documents.delete({"_id": {"$in": list(chunk)}})


async def _delete_erased(result: str, members: Sequence[str], collections: SolverCollections) -> None:
    """Delete what was written about members who are erased by now. Their erasure may have run before the writing."""
    erased: list[str] = []
    for chunk in chunks(members, WRITE_BATCH):
        documents = collections.input.members.find({"_id": {"$in": list(chunk)}}, {"grave": 1})
        present = {document["_id"] async for document in documents if not document["grave"]}
        erased += [id for id in chunk if id not in present]
    for chunk in chunks(erased, WRITE_BATCH):
        of_erased = [{"senior": {"$in": list(chunk)}}, {"junior": {"$in": list(chunk)}}]
        await collections.proposals.delete({"result": result, "$or": of_erased})
        await collections.unmatched.delete({"result": result, "member_id": {"$in": list(chunk)}})
