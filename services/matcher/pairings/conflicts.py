"""Running pairings are checked again when the organisation changes."""

from chassis.core.commands import Op
from contracts.envelope import Envelope
from services.matcher.context import Matcher
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.hard_rules import Rule
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.conflict import ConflictPolicy, find_structural_conflicts
from services.matcher.domain.pairings.pairing import Pairing


async def check_pairings_of(member_id: str, matcher: Matcher, cause: Envelope) -> None:
    """Check every pairing that holds a seat of this member."""
    stored = await matcher.ledgers.get(member_id)
    for pairing_id in stored.state.held if stored else ():
        await check_pairing(pairing_id, matcher, cause)


async def check_pairing(pairing_id: str, matcher: Matcher, cause: Envelope | None = None) -> None:
    """Save which rules the two break today.

    Re-check after every write. Two writers may race on stale reads; repeating until nothing changes guarantees that the
    last write used the latest data.
    """
    while await _save_broken_rules(pairing_id, matcher, cause):
        pass


async def _save_broken_rules(pairing_id: str, matcher: Matcher, cause: Envelope | None) -> bool:
    """Returns whether anything has changed."""
    stored = await matcher.pairings.get(pairing_id)
    result = await _find_broken_rules(stored.state, matcher) if stored else None
    if result is None:
        return False
    broken, course = result
    now = matcher.clock.now()
    saved = await matcher.pairings.update(
        pairing_id,
        Op.once(),
        lambda state: pairings.update_conflict(state, broken, course, now) if state else None,
        cause=cause,
    )
    return saved.changed


async def _find_broken_rules(pairing: Pairing, matcher: Matcher) -> tuple[tuple[Rule, ...], ConflictPolicy] | None:
    """The rules that the two break by today's settings, and what these say about conflicts.

    None where one of the two no longer takes part: that ends the pairing in its own way.
    """
    plan = pairing.plan
    programme = await matcher.programmes.get(plan.programme_id)
    profiles = await matcher.members.get_many([plan.senior.member_id, plan.junior.member_id])
    senior, junior = (
        hard_rules.find_enrolled_member(profiles[id], plan.programme_id) if id in profiles else None
        for id in (plan.senior.member_id, plan.junior.member_id)
    )
    if programme is None or senior is None or junior is None:
        return None
    settings = programme.state.settings
    return find_structural_conflicts(senior, junior, settings, matcher.clock.now().date()), settings.rules.on_conflict
