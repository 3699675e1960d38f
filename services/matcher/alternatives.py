"""Whom the two of a pair could have had instead, among those who were free when somebody put them together.

Private wishes play no part in it: who is named here, and by how much they would have fitted better, is the same in a
world in which nobody would rather not be paired with anybody.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from contracts.people import Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain import rules
from services.matcher.domain.candidates import Pairs
from services.matcher.domain.programme import Programme
from services.matcher.domain.receipt import SIDES, Chosen, RunnerUp
from services.matcher.domain.rules import Member
from services.matcher.store import Matcher


@dataclass(frozen=True)
class _Field:
    """Who could be chosen, and how."""

    others: Sequence[Member]
    earlier: set[tuple[str, str]]
    settings: ProgrammeSettings
    taxonomy: Taxonomy
    on: date


async def chosen_among_the_free(
    programme: Programme, senior: Member, junior: Member, score: float, matcher: Matcher, *, overridden: bool
) -> Chosen:
    """The runner-up of each side.

    ``overridden``: a coordinator chose; then the cost is what the side that could have done better lost by it.
    """
    both = {senior.id, junior.id}
    everybody = [one for one in await matcher.enrolled(programme.programme_id) if one.member_id not in both]
    free = await matcher.free_places(everybody, programme.programme_id)
    today = matcher.clock.now().date()
    others = [
        member
        for profile in everybody
        if profile.member_id in free
        and rules.absent(profile, programme.programme_id, programme.settings, today) is None
        and (member := rules.enrolled(profile, programme.programme_id)) is not None
    ]
    earlier = await matcher.earlier(of=sorted(both))
    field = _Field(others, earlier, programme.settings, matcher.taxonomy, today)
    found = await asyncio.to_thread(_runners_up, senior, junior, field)
    best = max((one.score for one in found.values()), default=score)
    return Chosen(runner_up=found, override_cost=max(0.0, best - score) if overridden else None)


def _runners_up(senior: Member, junior: Member, field: _Field) -> dict[Side, RunnerUp]:
    of = {"senior": _best(senior, "senior", field), "junior": _best(junior, "junior", field)}
    return {side: best for side in SIDES if (best := of[side]) is not None}


def _best(me: Member, side: Side, field: _Field) -> RunnerUp | None:
    others = [one for one in field.others if one.enrolment.side != side]
    if not others:
        return None
    seniors, juniors = ([me], others) if side == "senior" else (others, [me])
    pairs = Pairs(seniors, juniors, field.settings, field.taxonomy, field.on, field.earlier)
    block = pairs.block(np.arange(len(seniors)), np.arange(len(juniors)))
    out = [mask for rule, mask in block.broken.items() if rule not in rules.PRIVATE] + list(block.short.values())
    scores = np.where(np.logical_or.reduce(out), -1.0, block.score).ravel()
    place = int(np.argmax(scores))
    return RunnerUp(member_id=others[place].id, score=float(scores[place])) if scores[place] > 0 else None
