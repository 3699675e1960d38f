"""Who is free again, and with whom they might go on: never somebody they were suggested to before.

It suggests and forms nothing: a coordinator releases a suggestion by putting the two together.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from contracts.pairings import Focus
from contracts.people import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from services.matcher.asking import Choice, ranked
from services.matcher.domain import rules
from services.matcher.domain.programme import Programme
from services.matcher.domain.reasons import reasons
from services.matcher.domain.rules import Member
from services.matcher.store import Matcher


@dataclass(frozen=True)
class Free:
    """Somebody with a free place; ``since``: for how long they have been waiting, None where nobody knows."""

    member: Member
    places: int
    since: datetime | None

    def days(self, now: datetime) -> int:
        return max(0, (now - self.since).days) if self.since is not None else 0


@dataclass(frozen=True)
class Suggestion:
    """Two who would fit, with the reasons for each."""

    senior: ProfileChanged
    junior: ProfileChanged
    score: float
    reasons: Mapping[Side, Sequence[str]]
    focus: tuple[Focus, ...]


async def free_again(programme: Programme, matcher: Matcher) -> list[Free]:
    """Everybody who could be proposed to somebody today, who has waited longest first."""
    today = matcher.clock.now().date()
    everybody = await matcher.enrolled(programme.programme_id)
    places = await matcher.free_places(everybody, programme.programme_id)
    ended = await matcher.last_ends(programme.programme_id)
    found = []
    for profile in everybody:
        member = rules.enrolled(profile, programme.programme_id)
        absent = rules.absent(profile, programme.programme_id, programme.settings, today)
        if member is None or absent is not None or profile.member_id not in places:
            continue
        times = [at for at in (member.enrolment.waiting_since, ended.get(profile.member_id)) if at is not None]
        found.append(Free(member, places[profile.member_id], max(times, default=None)))
    now = matcher.clock.now()
    return sorted(found, key=lambda one: (-one.days(now), one.member.id))


async def suggestions(programme: Programme, limit: int, matcher: Matcher) -> list[Suggestion]:
    """Partners for those who have waited longest; nobody gets more suggestions than they have places."""
    free = await free_again(programme, matcher)
    earlier = await matcher.earlier(of=[one.member.id for one in free])
    today = matcher.clock.now().date()
    return await asyncio.to_thread(_suggested, free, programme, matcher, today, earlier, limit)


def _suggested(
    free: Sequence[Free], programme: Programme, matcher: Matcher, on: date, earlier: set[tuple[str, str]], limit: int
) -> list[Suggestion]:
    places = {one.member.id: one.places for one in free}
    found: list[Suggestion] = []
    for one in free:
        me = one.member
        if len(found) == limit:
            break
        if not places[me.id]:
            continue  # was suggested to somebody who has waited longer
        others = [other.member for other in free if places[other.member.id] and other.member.id != me.id]
        best = ranked(me, others, programme.settings, matcher.taxonomy, on, earlier, 1)
        if best:
            found.append(_pair(me.profile, best[0], programme.settings, matcher, on))
            for id in (me.id, best[0].partner.member_id):
                places[id] -= 1
    return found


def _pair(me: ProfileChanged, choice: Choice, settings: ProgrammeSettings, matcher: Matcher, on: date) -> Suggestion:
    senior, junior = (choice.partner, me) if choice.side == "senior" else (me, choice.partner)
    why = {side: tuple(texts) for side, texts in reasons(senior, junior, settings, matcher.taxonomy, on).items()}
    return Suggestion(senior, junior, choice.score, why, choice.focus)
