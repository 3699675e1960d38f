"""The best partners for one member. The replica names candidates; the ledgers and the profiles decide."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from contracts.pairings import Focus
from contracts.profiles import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.context import Matcher
from services.matcher.domain.fit.eligibility import EligiblePair, assess
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.score import select_focus
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.receipts.receipt import RunnerUp, Selection

SPARE_CANDIDATES = 10  # looked up beyond the limit, since some may be taken or absent by now


@dataclass(frozen=True)
class Choice:
    """One possible partner, with the reasons for the member who searches. ``side``: of the partner."""

    partner: ProfileChanged
    side: Side
    couple: EligiblePair
    reasons: Sequence[str]
    focus: tuple[Focus, ...]

    @property
    def score(self) -> float:
        return self.couple.fit.score


async def find_partners(
    programme: Programme,
    me: Member,
    limit: int,
    matcher: Matcher,
    *,
    promised: Mapping[str, int] | None = None,
    excluded: Collection[str] = (),
) -> list[Choice]:
    """The best partners who are free now, best first, without anybody who was ever proposed to the member.

    ``promised``: seats by member that do not count as free. Raises a problem (503) while the replica is incomplete.
    """
    settings, today = programme.settings, matcher.clock.now().date()
    terms = matcher.current_terms(programme)
    promised = promised or {}
    checked = {*excluded, *matcher.partners.earlier(me.id)}
    choices: list[Choice] = []
    while len(choices) < limit:
        batch = limit - len(choices) + SPARE_CANDIDATES
        async with matcher.partners.lock:
            index = matcher.partners.index(programme)
            candidates = await asyncio.to_thread(
                index.best_partners, me, settings, today, batch, promised_seats=promised, excluded=checked
            )
        profiles = await matcher.members.get_many([candidate.id for candidate in candidates])
        seats = await matcher.ledgers.free_seats(list(profiles.values()), programme.programme_id)
        for candidate in candidates:
            checked.add(candidate.id)
            other = profiles.get(candidate.id)
            if other is None or seats.get(candidate.id, 0) <= promised.get(candidate.id, 0):
                continue
            senior, junior = (other, me.profile) if candidate.side == "senior" else (me.profile, other)
            couple = assess(senior, junior, terms).find_pair()
            if couple is not None:
                choices.append(_build_choice(couple, candidate.side, settings, matcher.taxonomy, today))
        if len(candidates) < batch:
            break
    return sorted(choices, key=lambda choice: (-choice.score, choice.partner.member_id))[:limit]


def _build_choice(
    couple: EligiblePair, side: Side, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date
) -> Choice:
    senior, junior = couple.senior.profile, couple.junior.profile
    texts = build_reasons(senior, junior, settings, taxonomy, on)["junior" if side == "senior" else "senior"]
    topics = select_focus(senior, junior, settings.matching.benefit, taxonomy)
    return Choice(senior if side == "senior" else junior, side, couple, texts, topics)


async def find_runners_up(
    programme: Programme, couple: EligiblePair, matcher: Matcher, *, overridden: bool
) -> Selection:
    """The best free alternative of each side when somebody chose this couple.

    ``overridden``: a coordinator chose; the cost is then the loss of the side that could have done better.
    """
    senior, junior, score = couple.senior, couple.junior, couple.fit.score
    best = {
        "senior": await _find_runner_up(programme, senior, "junior", junior.id, matcher),
        "junior": await _find_runner_up(programme, junior, "senior", senior.id, matcher),
    }
    runners_up = {side: runner_up for side, runner_up in best.items() if runner_up is not None}
    highest = max((runner_up.score for runner_up in runners_up.values()), default=score)
    cost = max(0.0, highest - score) if overridden else None
    return Selection.model_validate({"runner_up": runners_up, "override_cost": cost})


async def _find_runner_up(
    programme: Programme, me: Member, side: Side, chosen: str, matcher: Matcher
) -> RunnerUp | None:
    """The best free partner of ``me`` on ``side`` other than ``chosen``. None while the replica is incomplete."""
    if not matcher.partners.complete:
        return None
    settings, today = programme.settings, matcher.clock.now().date()
    excluded = {chosen, *matcher.partners.earlier(me.id)}
    async with matcher.partners.lock:
        index = matcher.partners.index(programme)
        candidates = await asyncio.to_thread(
            index.best_partners,
            me,
            settings,
            today,
            SPARE_CANDIDATES,
            excluded=excluded,
            sides=[side],
        )
    profiles = await matcher.members.get_many([candidate.id for candidate in candidates])
    seats = await matcher.ledgers.free_seats(list(profiles.values()), programme.programme_id)
    best = next((candidate for candidate in candidates if candidate.id in seats), None)
    return RunnerUp(member_id=best.id, score=best.score) if best is not None else None
