"""Partners for one person: the pool names the best, the ledgers and the profiles have the last word."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from contracts.pairings import Focus
from contracts.profiles import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.context import Matcher
from services.matcher.domain.fit import rules
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.fit.score import Fit, compute_fit, select_focus
from services.matcher.domain.programmes.programme import Programme

MORE = 10  # looked up beyond those that are wanted, since some may be taken or away by now


@dataclass(frozen=True)
class Couple:
    """Two members with the sides that they would have, and how they fit."""

    senior: Member
    junior: Member
    fit: Fit


@dataclass(frozen=True)
class Choice:
    """One partner on a shortlist, with the reasons for the one who asks."""

    partner: ProfileChanged
    side: Side
    couple: Couple
    reasons: Sequence[str]
    focus: tuple[Focus, ...]

    @property
    def score(self) -> float:
        return self.couple.fit.score


async def partners(
    programme: Programme,
    me: Member,
    limit: int,
    matcher: Matcher,
    *,
    promised: Mapping[str, int] | None = None,
    but: Collection[str] = (),
) -> list[Choice]:
    """The best who are free now, the best first; nobody who was ever proposed to them, and none of ``but``.

    ``promised``: places that are not to be counted as free. Raises a problem while not everybody is known.
    """
    settings, today = programme.settings, matcher.clock.now().date()
    promised = promised or {}
    earlier = matcher.partners.earlier(me.id)
    looked_at = {*but, *earlier}
    found: list[Choice] = []
    while len(found) < limit:
        wanted = limit - len(found) + MORE
        async with matcher.partners.lock:
            index = matcher.partners.index(programme)
            candidates = await asyncio.to_thread(
                index.best_partners, me, settings, today, wanted, promised_seats=promised, excluded=looked_at
            )
        profiles = await matcher.members.get_many([one.id for one in candidates])
        places = await matcher.ledgers.free_seats(list(profiles.values()), programme.programme_id)
        for one in candidates:
            looked_at.add(one.id)
            other = rules.find_enrolled_member(profiles[one.id], programme.programme_id) if one.id in profiles else None
            if other is None or places.get(one.id, 0) <= promised.get(one.id, 0):
                continue
            if rules.find_absence_reason(other.profile, programme.programme_id, settings, today) is not None:
                continue
            senior, junior = (other, me) if one.side == "senior" else (me, other)
            couple = possible(senior, junior, settings, matcher.taxonomy, today)
            if couple is not None:
                found.append(_choice(couple, one.side, settings, matcher.taxonomy, today))
        if len(candidates) < wanted:
            break
    return sorted(found, key=lambda choice: (-choice.score, choice.partner.member_id))[:limit]


def possible(
    senior: Member,
    junior: Member,
    settings: ProgrammeSettings,
    taxonomy: Taxonomy,
    on: date,
    earlier: Collection[str] = (),
) -> Couple | None:
    """The two on these sides, if the rules, private ones too, and the floors allow it.

    ``earlier``: whom the senior was ever proposed to.
    """
    if senior.enrolment.side == "junior" or junior.enrolment.side == "senior":
        return None
    if rules.find_broken_rules(senior, junior, settings, on, earlier):
        return None
    parts = compute_fit(senior, junior, settings, taxonomy, on)
    return None if parts.find_shortfalls(settings) else Couple(senior, junior, parts)


def _choice(couple: Couple, side: Side, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date) -> Choice:
    """``side``: of the partner."""
    senior, junior = couple.senior.profile, couple.junior.profile
    why = build_reasons(senior, junior, settings, taxonomy, on)["junior" if side == "senior" else "senior"]
    about = select_focus(senior, junior, settings.matching.benefit, taxonomy)
    return Choice(senior if side == "senior" else junior, side, couple, why, about)


async def runner_up(
    programme: Programme, me: Member, side: Side, but: str, matcher: Matcher
) -> tuple[str, float] | None:
    """Whom ``me`` could have had as ``side`` instead of ``but``, of those who are free, and with which score.

    It is as if nobody had private wishes, so it tells nothing of them. None also while not everybody is known.
    """
    if not matcher.partners.complete:
        return None
    settings, today = programme.settings, matcher.clock.now().date()
    passed_over = {but, *matcher.partners.earlier(me.id)}
    async with matcher.partners.lock:
        index = matcher.partners.index(programme)
        candidates = await asyncio.to_thread(
            index.best_partners,
            me,
            settings,
            today,
            MORE,
            excluded=passed_over,
            sides=[side],
            with_private_wishes=False,
        )
    profiles = await matcher.members.get_many([one.id for one in candidates])
    places = await matcher.ledgers.free_seats(list(profiles.values()), programme.programme_id)
    return next(((one.id, one.score) for one in candidates if one.id in places), None)
