"""Checks of a coordinator's change to a computed round, and the explanation for an unmatched member."""

from collections.abc import Sequence

from chassis.web.http import Principal
from contracts.errors import CommandRejected, NotFound
from services.matcher.context import Matcher
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.eligibility import assess
from services.matcher.domain.rounds.adjustment import Adjustment, Pair
from services.matcher.domain.rounds.round import Round
from services.matcher.engine.unmatched_texts import member_text
from services.matcher.permissions import not_in_conflict

OWN_LINE = CommandRejected("own_line", "You or your own line would take part; another coordinator may do it.")
NO_ROUND = "No round of this programme has been published yet."
NOT_UNMATCHED = (
    "You are not among those whom the last round left over: you were proposed to somebody, or you were not ready or "
    "had no place free when it was computed, or what was found was no longer possible when it was published."
)
POOR_FIT = "At least one of them would gain too little, or they like to work too differently."


async def check_adjustment(
    round: Round, adjustment: Adjustment, replaced: Sequence[Pair], principal: Principal, matcher: Matcher
) -> None:
    """Raises ``CommandRejected`` where a rule forbids the change, or the caller may not make it.

    ``replaced``: the pairs that a swap takes apart.
    """
    pairs = [*adjustment.pairs, *replaced]
    if not all(await not_in_conflict(principal, [set(pair) for pair in pairs], matcher.members)):
        raise OWN_LINE
    for pair in replaced:
        if not await matcher.proposals.contains(round, pair):
            raise CommandRejected("not_paired", "Both pairs that are swapped must stand in this round.")
    if adjustment.is_wanted:
        earlier = await matcher.pairings.earlier_pairs(of=adjustment.members)
        for pair in adjustment.pairs:
            await _check_pair(round, pair, earlier, matcher)


async def _check_pair(round: Round, pair: Pair, earlier: set[Pair], matcher: Matcher) -> None:
    senior_id, junior_id = pair
    profiles = await matcher.members.get_many(pair)
    again = [junior_id] if {pair, pair[::-1]} & earlier else []
    eligibility = assess(profiles.get(senior_id), profiles.get(junior_id), matcher.current_terms(round), again)
    for candidate in (eligibility.senior, eligibility.junior):
        if candidate.absence is not None:
            raise CommandRejected(candidate.absence, hard_rules.REASON_TEXTS[candidate.absence])
        if not candidate.takes_side:
            raise CommandRejected("other_side", f"The {candidate.side} of this pair takes part on the other side.")
    if broken := eligibility.broken_rules:
        raise CommandRejected(broken[0], " ".join(hard_rules.REASON_TEXTS[rule] for rule in broken))
    if eligibility.shortfalls:
        raise CommandRejected("too_little", POOR_FIT)


async def explain_to_member(programme_id: str, me: str, matcher: Matcher) -> tuple[Round | None, dict[str, object]]:
    """The last published round of the programme, and why this member has no partner in it: a code and a text.

    Raises ``NotFound`` for a programme in which the member does not take part.
    """
    profile = await matcher.members.get(me)
    if profile is None or hard_rules.find_enrolled_member(profile, programme_id) is None:
        raise NotFound("programme")
    round = await matcher.rounds.last_published(programme_id)
    if round is None:
        return None, {"code": "no_round", "text": NO_ROUND}
    entry = await matcher.unmatched.entry(round, me)
    if entry is None:
        return round, {"code": "not_left_over", "text": NOT_UNMATCHED}
    return round, {"code": entry["code"], "text": member_text(entry["code"])}
