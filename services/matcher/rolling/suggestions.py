"""Free members, suggested pairs, and what becomes of a suggestion that waits for a coordinator.

A suggestion notifies nobody and forms nothing. A coordinator releases it; only then are the two asked.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import Stored
from contracts.envelope import Envelope
from contracts.errors import CommandRejected, NotFound
from contracts.pairings import Focus
from contracts.profiles import ProfileChanged, Side
from services.matcher.context import Matcher
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.eligibility import EligiblePair, assess
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.score import select_focus
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rolling import programme_claim as claims
from services.matcher.domain.rolling import suggestion as suggestions
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.pairings import proposals
from services.matcher.pairings.partner_search import find_partners
from services.matcher.stores.rolling import SuggestionStore

PROFILE_BATCH = 200  # members read by one query
MAX_WAITING_CHECKED = 400  # waiting members that are looked at for one answer


@dataclass(frozen=True)
class FreeMember:
    """A member with free seats. ``since``: the beginning of the wait; None where it is unknown."""

    member: Member
    seats: int
    since: datetime | None

    def days_waiting(self, now: datetime) -> int:
        return max(0, (now - self.since).days) if self.since is not None else 0


@dataclass(frozen=True)
class SuggestedPair:
    """Two members who fit, with the reasons for each."""

    senior: ProfileChanged
    junior: ProfileChanged
    reasons: Mapping[Side, Sequence[str]]
    focus: tuple[Focus, ...]


@dataclass(frozen=True)
class StandingSuggestions:
    """Suggestions of a programme that are open, and the pairs that need no other suggestion.

    ``open``: by suggestion id. ``partners``: by member, also those on whom a coordinator has decided.
    """

    open: dict[str, Suggestion]
    partners: dict[str, set[str]]

    @classmethod
    def of(cls, stored: Sequence[Suggestion]) -> Self:
        standing = cls({}, {})
        for suggestion in stored:
            standing.add(suggestion)
        return standing

    def add(self, suggestion: Suggestion) -> None:
        if suggestion.state == "open":
            self.open[suggestion.suggestion_id] = suggestion
        for me, other in (suggestion.members, suggestion.members[::-1]):
            self.partners.setdefault(me, set()).add(other)

    def drop(self, suggestion: Suggestion) -> None:
        """Drop a lapsed suggestion: the two may be suggested to each other again."""
        self.open.pop(suggestion.suggestion_id, None)
        for me, other in (suggestion.members, suggestion.members[::-1]):
            self.partners.get(me, set()).discard(other)

    def count_promised_seats(self) -> Counter[str]:
        """By member, the seats that open suggestions would take."""
        return Counter(id for suggestion in self.open.values() for id in suggestion.members)

    def partners_of(self, member_id: str) -> Collection[str]:
        """Everybody with whom the member needs no other suggestion."""
        return self.partners.get(member_id, ())


def suggestion_id_of(programme_id: str, senior: str, junior: str) -> str:
    """A pair has one suggestion in a programme, no matter which replica makes it."""
    return derived_id("suggestion", programme_id, senior, junior)


def pairing_id_of(programme_id: str, senior: str, junior: str) -> str:
    """The id of the pairing that a suggestion may become. An automatic proposal of the same pair has the same id."""
    return derived_id("pairing", "rolling", programme_id, senior, junior)


async def find_free_members(programme: Programme, limit: int, matcher: Matcher) -> list[FreeMember]:
    """Members who could be proposed today: first those whose last pairing failed, then by the length of the wait."""
    today = matcher.clock.now().date()
    async with matcher.partners.lock:
        index = matcher.partners.index(programme)
        order = await asyncio.to_thread(index.order_by_wait, list(index), programme.settings, today)
        since = {id: index.wait_of(id).since for id in order[: limit + MAX_WAITING_CHECKED]}
    free: list[FreeMember] = []
    for start in range(0, len(since), PROFILE_BATCH):
        ids = list(since)[start : start + PROFILE_BATCH]
        profiles = await matcher.members.get_many(ids)
        seats = await matcher.ledgers.free_seats(list(profiles.values()), programme.programme_id)
        for id in ids:
            member = hard_rules.find_enrolled_member(profiles[id], programme.programme_id) if id in seats else None
            if member is None or hard_rules.find_absence_reason(
                member.profile, programme.programme_id, programme.settings, today
            ):
                continue
            begin = None if math.isnan(since[id]) else datetime.fromtimestamp(since[id], UTC)
            free.append(FreeMember(member, seats[id], begin))
        if len(free) >= limit:
            break
    return free[:limit]


async def suggest_pairs(programme: Programme, limit: int, matcher: Matcher) -> list[SuggestedPair]:
    """Partners for the members who wait longest. Nobody gets more suggestions than free seats."""
    standing = StandingSuggestions.of(await matcher.suggestions.standing_in(programme.programme_id))
    promised = standing.count_promised_seats()
    pairs: list[SuggestedPair] = []
    for free in await find_free_members(programme, MAX_WAITING_CHECKED, matcher):
        me = free.member
        if len(pairs) == limit:
            break
        if free.seats <= promised[me.id]:
            continue  # all seats are promised by suggestions of members who wait longer
        best = await find_partners(programme, me, 1, matcher, promised=promised, excluded=standing.partners_of(me.id))
        if best:
            pairs.append(describe_pair(best[0].couple, programme, matcher))
            promised.update([me.id, best[0].partner.member_id])
    return pairs


def describe_pair(pair: EligiblePair, programme: Programme, matcher: Matcher) -> SuggestedPair:
    senior, junior, settings = pair.senior.profile, pair.junior.profile, programme.settings
    reasons = build_reasons(senior, junior, settings, matcher.taxonomy, matcher.clock.now().date())
    focus = select_focus(senior, junior, settings.matching.benefit, matcher.taxonomy)
    return SuggestedPair(senior, junior, {side: tuple(texts) for side, texts in reasons.items()}, focus)


async def describe_suggestions(
    stored: Sequence[Suggestion], programme: Programme, matcher: Matcher
) -> list[SuggestedPair | None]:
    """Each suggestion with the reasons of today; None where it is no longer possible and is about to lapse."""
    profiles = await matcher.members.get_many([id for suggestion in stored for id in suggestion.members])
    pairs = [assess_suggestion(suggestion, profiles, programme, matcher) for suggestion in stored]
    return [describe_pair(pair, programme, matcher) if pair is not None else None for pair in pairs]


def assess_suggestion(
    suggestion: Suggestion, profiles: Mapping[str, ProfileChanged], programme: Programme, matcher: Matcher
) -> EligiblePair | None:
    """The two as they are today; None where they can no longer be paired."""
    senior, junior = profiles.get(suggestion.senior), profiles.get(suggestion.junior)
    earlier = matcher.partners.earlier(suggestion.senior)
    return assess(senior, junior, matcher.current_terms(programme), earlier).find_pair()


async def release_suggestion(id: str, op: Op, matcher: Matcher) -> Suggestion:
    """Propose the two to each other.

    Raises ``CommandRejected`` where that is no longer possible; the suggestion stays open, and lapses by itself.
    """
    suggestion = await matcher.suggestions.load(id)
    suggestions.require_releasable(suggestion)
    programme = (await matcher.programmes.load(suggestion.programme_id)).state
    if programme.state != "open":
        raise CommandRejected("programme_not_open", "People are paired in open programmes only.")
    pairing_id = pairing_id_of(suggestion.programme_id, *suggestion.members)
    pairing = await proposals.propose(programme, suggestion.members, pairing_id, "rolling", matcher)
    recorded_at = matcher.clock.machine_now()
    saved = await matcher.suggestions.update(
        id, op, lambda state: suggestions.release_suggestion(state, pairing.id, recorded_at) if state else None
    )
    await notify_worker(Stored(id, saved.require_state(), saved.version), matcher)
    return saved.require_state()


async def dismiss_suggestion(id: str, op: Op, matcher: Matcher) -> Suggestion:
    """The two are never suggested to each other again. Raises ``CommandRejected``."""
    recorded_at = matcher.clock.machine_now()

    def decide(suggestion: Suggestion | None) -> suggestions.Decision | None:
        if suggestion is None or suggestion.state == "erased":
            raise NotFound("suggestion")
        return suggestions.dismiss_suggestion(suggestion, recorded_at)

    saved = await matcher.suggestions.update(id, op, decide)
    await notify_worker(Stored(id, saved.require_state(), saved.version), matcher)
    return saved.require_state()


async def notify_worker(stored: Stored[Suggestion], matcher: Matcher) -> None:
    """Make the programme's worker check both members again. After a crash the suggestion's lease repeats this."""
    if stored.state.lease is None:
        return
    id = stored.state.programme_id
    await matcher.claims.update(id, Op.once(), lambda claim: claims.mark_changed(claim, id))
    await matcher.suggestions.update(
        stored.id, Op.once(), lambda state: suggestions.acknowledge_decision(state) if state else None
    )


async def forget_in_suggestion(store: SuggestionStore, id: str, member_id: str, cause: Envelope | None = None) -> None:
    await store.update(
        id, Op.once(), lambda state: suggestions.erase_member(state, member_id) if state else None, cause=cause
    )
