"""What a coordinator asks of a computed round beside its lists, and what a member asks of a published one."""

from collections.abc import Sequence

from chassis.storage.mongo import chunks
from chassis.web.http import Principal
from contracts.errors import CommandRejected, NotFound
from services.matcher.context import Matcher
from services.matcher.domain.fit import rules
from services.matcher.domain.fit.eligibility import assess
from services.matcher.domain.fit.score import Fit
from services.matcher.domain.rounds.adjustment import Adjustment, Pair
from services.matcher.domain.rounds.round import Round, number, result_id
from services.matcher.domain.rounds.summary import RoundPair
from services.matcher.engine.unmatched import member_text
from services.matcher.permissions import not_in_conflict

PAGE = 1000  # proposals in one request

OWN_LINE = CommandRejected("own_line", "You or your own line would take part; another coordinator may do it.")
NEVER = "No round of this programme has been published yet."
NOT_LEFT_OVER = (
    "You are not among those whom the last round left over: you were proposed to somebody, or you were not ready or "
    "had no place free when it was computed, or what was found was no longer possible when it was published."
)
SHORT = "At least one of them would gain too little, or they like to work too differently."


async def check(round: Round, wanted: Adjustment, instead_of: Sequence[Pair], who: Principal, matcher: Matcher) -> None:
    """Raises ``CommandRejected`` where a rule that everybody may know of is in the way, or it is not theirs to change.

    What only a private rule forbids passes: it will not come about, and nothing tells which rule it was.
    """
    pairs = [*wanted.pairs, *instead_of]
    if not all(await not_in_conflict(who, [set(pair) for pair in pairs], matcher)):
        raise OWN_LINE
    for senior, junior in instead_of:
        of = {"result": result_id(round.round_id, round.result), "senior": senior, "junior": junior, "shown": True}
        if not await matcher.proposals.count(of):
            raise CommandRejected("not_paired", "Both pairs that are swapped must stand in this round.")
    if wanted.is_wanted:
        earlier = await matcher.pairings.earlier_pairs(of=wanted.members)
        for pair in wanted.pairs:
            await _check_pair(round, pair, earlier, matcher)


async def _check_pair(round: Round, pair: Pair, earlier: set[Pair], matcher: Matcher) -> None:
    profiles = await matcher.members.get_many(pair)
    terms = matcher.current_terms(round)
    again = [pair[1]] if {pair, pair[::-1]} & earlier else []
    eligibility = assess(profiles.get(pair[0]), profiles.get(pair[1]), terms, again)
    for candidate in (eligibility.senior, eligibility.junior):
        if candidate.absence is not None:
            raise CommandRejected(candidate.absence, rules.REASON_TEXTS[candidate.absence])
        if not candidate.takes_side:
            raise CommandRejected("other_side", f"Who is to be the {candidate.side} takes part on the other side.")
    if broken := eligibility.broken_rules:
        raise CommandRejected(broken[0], " ".join(rules.REASON_TEXTS[rule] for rule in broken))
    if eligibility.shortfalls:
        raise CommandRejected("too_little", SHORT)


async def why_not(programme_id: str, me: str, matcher: Matcher) -> tuple[Round | None, dict[str, object]]:
    """The last published round of the programme, and why it left this member over, in code and words.

    Raises ``NotFound`` for a programme in which they do not take part.
    """
    profile = await matcher.members.get(me)
    if profile is None or rules.find_enrolled_member(profile, programme_id) is None:
        raise NotFound("programme")
    published = [
        found.state async for found in matcher.rounds.find({"programme_id": programme_id, "state": "published"})
    ]
    round = max(published, key=lambda one: (one.published_at or one.started_at, one.round_id), default=None)
    if round is None:
        return None, {"code": "no_round", "text": NEVER}
    found = await matcher.unmatched.get(f"{result_id(round.round_id, round.result)}/{me}")
    if found is None or not found["shown"]:
        return round, {"code": "not_left_over", "text": NOT_LEFT_OVER}
    return round, {"code": found["code"], "text": member_text(found["code"])}


async def pairs_of(round: Round, matcher: Matcher) -> list[RoundPair]:
    """All pairs of a computed round."""
    found: list[RoundPair] = []
    result = result_id(round.round_id, round.result)
    shown = {"senior": 1, "junior": 1, "fit": 1, "shown": 1}
    for page in chunks([f"{result}/{number(n)}" for n in range(round.places)], PAGE):
        documents = matcher.proposals.collection.find({"_id": {"$in": list(page)}}, shown)
        found += [
            RoundPair(document["senior"], document["junior"], Fit.model_construct(**document["fit"]))
            async for document in documents
            if document["shown"]
        ]
    return found
