"""Pairings looked at again when the organisation changes."""

from chassis.core.commands import Op
from contracts.envelope import Envelope
from services.matcher.context import Matcher
from services.matcher.domain.fit import rules
from services.matcher.domain.fit.rules import Rule
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.conflict import ConflictPolicy, find_structural_conflicts
from services.matcher.domain.pairings.pairing import Pairing


async def look_at_all_of(member_id: str, matcher: Matcher, cause: Envelope) -> None:
    """At every pairing that holds a seat of this member's."""
    stored = await matcher.ledgers.get(member_id)
    for pairing_id in stored.state.held if stored else ():
        await look_at(pairing_id, matcher, cause)


async def look_at(pairing_id: str, matcher: Matcher, cause: Envelope | None = None) -> None:
    """Note what its two break today.

    Whoever has noted something looks once more: what was read may have been older than what another had noted
    meanwhile, and whoever notes last has then read last.
    """
    while await _noted(pairing_id, matcher, cause):
        pass


async def _noted(pairing_id: str, matcher: Matcher, cause: Envelope | None) -> bool:
    """Whether there was something to note."""
    stored = await matcher.pairings.get(pairing_id)
    found = await _broken(stored.state, matcher) if stored else None
    if found is None:
        return False
    broken, course = found
    now = matcher.clock.now()
    saved = await matcher.pairings.update(
        pairing_id,
        Op.once(),
        lambda state: pairings.update_conflict(state, broken, course, now) if state else None,
        cause=cause,
    )
    return saved.changed


async def _broken(pairing: Pairing, matcher: Matcher) -> tuple[tuple[Rule, ...], ConflictPolicy] | None:
    """By the programme's rules of today; None where one of the two takes part no longer, which has its own end."""
    plan = pairing.plan
    programme = await matcher.programmes.get(plan.programme_id)
    profiles = await matcher.members.get_many([plan.senior.member_id, plan.junior.member_id])
    senior, junior = (
        rules.find_enrolled_member(profiles[one.member_id], plan.programme_id) if one.member_id in profiles else None
        for one in (plan.senior, plan.junior)
    )
    if programme is None or senior is None or junior is None:
        return None
    settings = programme.state.settings
    return find_structural_conflicts(senior, junior, settings, matcher.clock.now().date()), settings.rules.on_conflict
