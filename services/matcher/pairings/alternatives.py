"""Whom the two of a pair could have had instead, among those who were free when somebody put them together.

Private wishes play no part in it: who is named here, and by how much they would have fitted better, is the same in a
world in which nobody would rather not be paired with anybody.
"""

from services.matcher.context import Matcher
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.receipts.receipt import RunnerUp, Selection
from services.matcher.pairings.partner_search import runner_up


async def chosen_among_the_free(
    programme: Programme, senior: Member, junior: Member, score: float, matcher: Matcher, *, overridden: bool
) -> Selection:
    """The runner-up of each side.

    ``overridden``: a coordinator chose; then the cost is what the side that could have done better lost by it.
    """
    for_senior = await runner_up(programme, senior, "junior", junior.id, matcher)
    for_junior = await runner_up(programme, junior, "senior", senior.id, matcher)
    found = {
        side: RunnerUp(member_id=best[0], score=best[1])
        for side, best in (("senior", for_senior), ("junior", for_junior))
        if best is not None
    }
    best = max((one.score for one in found.values()), default=score)
    return Selection.model_validate(
        {"runner_up": found, "override_cost": max(0.0, best - score) if overridden else None}
    )
