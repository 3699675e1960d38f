"""Who is free, with whom they might go on, and what becomes of a suggestion that waits for a coordinator.

Nobody is told of a suggestion, and none forms anything: a coordinator releases it, and only then are the two asked.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import Stored
from contracts.errors import CommandRejected, NotFound
from contracts.pairings import Focus
from contracts.profiles import ProfileChanged, Side
from services.matcher.context import Matcher
from services.matcher.domain.fit import rules
from services.matcher.domain.fit.eligibility import EligiblePair, assess
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.fit.score import select_focus
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rolling import programme_claim as watches
from services.matcher.domain.rolling import suggestion as suggested
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.pairings import proposals
from services.matcher.pairings.partner_search import find_partners

PAGE = 200  # people looked up together
LOOKED_AT = 400  # of those who wait, for one answer


@dataclass(frozen=True)
class Free:
    """Somebody with a free place; ``since``: for how long they have been waiting, None where nobody knows."""

    member: Member
    places: int
    since: datetime | None

    def days(self, now: datetime) -> int:
        return max(0, (now - self.since).days) if self.since is not None else 0


@dataclass(frozen=True)
class Pair:
    """Two who would fit, with the reasons for each."""

    senior: ProfileChanged
    junior: ProfileChanged
    reasons: Mapping[Side, Sequence[str]]
    focus: tuple[Focus, ...]


@dataclass(frozen=True)
class Standing:
    """Suggestions of a programme that are open, and those on which a coordinator has decided."""

    open: dict[str, Suggestion]
    partners: dict[str, set[str]]

    @classmethod
    def of(cls, all: Sequence[Suggestion]) -> Self:
        standing = cls({}, {})
        for one in all:
            standing.add(one)
        return standing

    def add(self, one: Suggestion) -> None:
        if one.state == "open":
            self.open[one.suggestion_id] = one
        for me, other in (one.members, one.members[::-1]):
            self.partners.setdefault(me, set()).add(other)

    def drop(self, one: Suggestion) -> None:
        """It lapsed: the two may be suggested to each other again."""
        self.open.pop(one.suggestion_id, None)
        for me, other in (one.members, one.members[::-1]):
            self.partners.get(me, set()).discard(other)

    def promised(self) -> Counter[str]:
        """How many places of each are spoken for by open suggestions."""
        return Counter(id for one in self.open.values() for id in one.members)

    def named(self, member_id: str) -> Collection[str]:
        """With whom the member was put together already, or not to be."""
        return self.partners.get(member_id, ())


def suggestion_id(programme_id: str, senior: str, junior: str) -> str:
    """A pair of a programme has one suggestion, whoever makes it."""
    return derived_id("suggestion", programme_id, senior, junior)


def pairing_of(programme_id: str, senior: str, junior: str) -> str:
    """The id of the pairing that a suggestion may become, and that an automatic proposal is."""
    return derived_id("pairing", "rolling", programme_id, senior, junior)


async def free_again(programme: Programme, limit: int, matcher: Matcher) -> list[Free]:
    """Who could be proposed to somebody today: whose last pairing came to nothing first, then who waits longest."""
    today = matcher.clock.now().date()
    async with matcher.partners.lock:
        index = matcher.partners.index(programme)
        turns = await asyncio.to_thread(index.order_by_wait, list(index), programme.settings, today)
        since = {id: index.wait_of(id).since for id in turns[: limit + LOOKED_AT]}
    found: list[Free] = []
    for start in range(0, len(since), PAGE):
        ids = list(since)[start : start + PAGE]
        profiles = await matcher.members.get_many(ids)
        places = await matcher.ledgers.free_seats(list(profiles.values()), programme.programme_id)
        for id in ids:
            member = rules.find_enrolled_member(profiles[id], programme.programme_id) if id in places else None
            if member is None or rules.find_absence_reason(
                member.profile, programme.programme_id, programme.settings, today
            ):
                continue
            at = since[id]
            found.append(Free(member, places[id], None if at != at else datetime.fromtimestamp(at, UTC)))
        if len(found) >= limit:
            break
    return found[:limit]


async def suggestions(programme: Programme, limit: int, matcher: Matcher) -> list[Pair]:
    """Partners for those whose turn it is; nobody gets more suggestions than they have places."""
    free = await free_again(programme, LOOKED_AT, matcher)
    standing = Standing.of(await matcher.suggestions.standing_in(programme.programme_id))
    promised = standing.promised()
    found: list[Pair] = []
    for one in free:
        me = one.member
        if len(found) == limit:
            break
        if one.places <= promised[me.id]:
            continue  # was suggested to somebody whose turn came before
        best = await find_partners(programme, me, 1, matcher, promised=promised, excluded=standing.named(me.id))
        if best:
            found.append(pair_of(best[0].couple, programme, matcher))
            promised.update([me.id, best[0].partner.member_id])
    return found


def pair_of(couple: EligiblePair, programme: Programme, matcher: Matcher) -> Pair:
    senior, junior, settings = couple.senior.profile, couple.junior.profile, programme.settings
    why = build_reasons(senior, junior, settings, matcher.taxonomy, matcher.clock.now().date())
    about = select_focus(senior, junior, settings.matching.benefit, matcher.taxonomy)
    return Pair(senior, junior, {side: tuple(texts) for side, texts in why.items()}, about)


async def shown(waiting: Sequence[Suggestion], programme: Programme, matcher: Matcher) -> list[Pair | None]:
    """Each with its reasons as they are today; None where it is no longer possible and is about to lapse."""
    profiles = await matcher.members.get_many([id for one in waiting for id in one.members])
    couples = [couple_of(one, profiles, programme, matcher) for one in waiting]
    return [pair_of(couple, programme, matcher) if couple is not None else None for couple in couples]


def couple_of(
    one: Suggestion, profiles: Mapping[str, ProfileChanged], programme: Programme, matcher: Matcher
) -> EligiblePair | None:
    """The two of a suggestion as they are now; None where they can no longer be brought together."""
    earlier = matcher.partners.earlier(one.senior)
    eligibility = assess(profiles.get(one.senior), profiles.get(one.junior), matcher.current_terms(programme), earlier)
    return eligibility.find_pair()


async def release(id: str, op: Op, matcher: Matcher) -> tuple[Suggestion, Pairing]:
    """Ask the two. Raises ``CommandRejected`` where it is no longer possible; it stays open, and lapses by itself."""
    one = await found(id, matcher)
    suggested.require_releasable(one)
    programme = (await matcher.programmes.load(one.programme_id)).state
    if programme.state != "open":
        raise CommandRejected("programme_not_open", "People are paired in open programmes only.")
    pairing = await proposals.propose(
        programme, one.members, pairing_of(one.programme_id, *one.members), "rolling", matcher
    )
    machine = matcher.clock.machine_now()
    saved = await matcher.suggestions.update(
        id, op, lambda state: suggested.release_suggestion(state, pairing.id, machine) if state else None
    )
    await notify_worker(Stored(id, saved.require_state(), saved.version), matcher)
    return saved.require_state(), pairing


async def dismiss(id: str, op: Op, matcher: Matcher) -> Suggestion:
    """The two are never suggested to each other again. Raises ``CommandRejected``."""
    machine = matcher.clock.machine_now()

    def decide(state: Suggestion | None) -> suggested.Decision | None:
        if state is None or state.state == "erased":
            raise NotFound("suggestion")
        return suggested.dismiss_suggestion(state, machine)

    saved = await matcher.suggestions.update(id, op, decide)
    await notify_worker(Stored(id, saved.require_state(), saved.version), matcher)
    return saved.require_state()


async def found(id: str, matcher: Matcher) -> Suggestion:
    """Raises ``NotFound``."""
    stored = await matcher.suggestions.get(id)
    if stored is None or stored.state.state == "erased":
        raise NotFound("suggestion")
    return stored.state


async def notify_worker(stored: Stored[Suggestion], matcher: Matcher) -> None:
    """Whoever looks after the programme is to look at the two again; after a crash the lease brings it here."""
    if stored.state.lease is None:
        return
    id = stored.state.programme_id
    await matcher.claims.update(id, Op.once(), lambda state: watches.mark_changed(state, id))
    await matcher.suggestions.update(
        stored.id, Op.once(), lambda state: suggested.acknowledge_decision(state) if state else None
    )


async def forget_the_erased(id: str, people: tuple[str, str], matcher: Matcher) -> None:
    """Whoever writes about people looks afterwards who is gone: their erasure may have looked before."""
    for member, stored in (await matcher.ledgers.get_many(people)).items():
        if stored.state.erasing:
            await matcher.suggestions.update(
                id,
                Op.once(),
                lambda state: suggested.erase_member(state, member) if state else None,  # noqa: B023 - used at once
            )
