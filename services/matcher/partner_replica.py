"""Who takes part in which programme, and with whom they were together, in the memory of every replica.

Readers without a group fill it from ``profiles.v1``, ``pairing-states.v1`` and ``programmes.v1``, so each replica knows
everybody, not only those of its own partitions. It may be a moment ahead of the database or behind it. So nothing is
decided by it alone: it names the few that are worth looking at, and those are looked up in the ledgers and among the
profiles.

Only what matching needs of a member is kept, and it goes with the tombstone.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chassis.core.clocks import Clock
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from chassis.storage.projections import Projection
from chassis.web.problems import RETRY_AFTER_S, Problem
from contracts.pairings import PairingState
from contracts.profiles import ProfileChanged
from contracts.programmes import ProgrammeChanged, ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit import rules
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.pairings.pairing import LIVE
from services.matcher.domain.pairings.seat_ledger import room
from services.matcher.domain.programmes.programme import Programme
from services.matcher.engine.partner_index import PartnerIndex, wait_state

REST = 1.0  # seconds between two looks whether the crowds are up to date
STRETCH = 500  # people read from the database together

following: HandlerRegistry["Pool"] = HandlerRegistry()


@dataclass
class _Known:
    """``sequence``: of the newest that was said of the profile.

    ``last``, by programme: when their latest pairing moved on, and whether it came to nothing.
    """

    sequence: int = -1
    waiting_since: dict[str, datetime | None] = field(default_factory=dict)  # by programme that they take part in
    held: Counter[str] = field(default_factory=Counter)
    last: dict[str, tuple[datetime, bool]] = field(default_factory=dict)
    earlier: frozenset[str] = frozenset()


class Pool:
    """``still`` is held by whoever changes it or lets a thread read it. ``waits_for``: what must have been read first.

    Who looks after a programme ``listens`` to it, and is ``told`` of everybody about whom anything has changed.
    """

    def __init__(self, taxonomy: Taxonomy, clock: Clock) -> None:
        self.still = asyncio.Lock()
        self.waits_for: Sequence[asyncio.Event] = ()
        self.changed = asyncio.Event()
        self._taxonomy = taxonomy
        self._clock = clock
        self._rules: dict[str, ProgrammeSettings] = {}
        self._missed: dict[str, set[str]] = {}  # whom a crowd still has to be told of
        self._crowds: dict[str, PartnerIndex] = {}
        self._known: dict[str, _Known] = {}
        self._live: dict[str, tuple[str, str, str]] = {}  # by pairing: senior, junior, programme
        self._news: dict[str, dict[str, None]] = {}  # the newest last

    @property
    def complete(self) -> bool:
        return all(event.is_set() for event in self.waits_for)

    def crowd(self, programme: Programme) -> PartnerIndex:
        """Everybody in a programme, for whoever holds ``still``. Raises a problem (503) while topics are still read."""
        if not self.complete:
            raise Problem(
                503,
                "This service has just started and does not know everybody yet; try again in a moment.",
                code="not_everybody_known",
                headers={"Retry-After": RETRY_AFTER_S},
            )
        self._rules.setdefault(programme.programme_id, programme.settings)
        found = self._crowd(programme.programme_id)
        assert found is not None, "its rules are known"
        found.flush()
        return found

    def earlier(self, member_id: str) -> frozenset[str]:
        """Whom the member was ever proposed to, in any programme."""
        known = self._known.get(member_id)
        return known.earlier if known else frozenset()

    def sequence(self, member_id: str) -> int:
        """Of the newest that was heard of the member's profile; -1: nothing."""
        known = self._known.get(member_id)
        return known.sequence if known else -1

    def is_live(self, pairing_id: str) -> bool:
        """Whether the pairing holds its seats, as far as has been heard."""
        return pairing_id in self._live

    def listen(self, programme_id: str) -> None:
        self._news.setdefault(programme_id, {})

    def leave(self, programme_id: str) -> None:
        self._news.pop(programme_id, None)

    def told(self, programme_id: str, limit: int) -> list[str]:
        """Some of those about whom something has changed, each once, the newest first: who comes by themselves does not
        stand behind all whom a file has changed."""
        news = self._news[programme_id]
        return [news.popitem()[0] for _ in range(min(limit, len(news)))]

    def has_news(self, programme_id: str) -> bool:
        """Whether something has changed about others than those who were told."""
        return bool(self._news[programme_id])

    def tell(self, programme_id: str, members: Iterable[str]) -> None:
        """These are to be looked at (again)."""
        if (news := self._news.get(programme_id)) is not None:
            for member_id in members:
                news.pop(member_id, None)
                news[member_id] = None

    async def keep_fresh(self, members: Projection[ProfileChanged]) -> None:
        """See to it that crowds compare by today's rules and clocks, and know everybody; never ends."""
        while True:
            for programme_id, crowd in list(self._crowds.items()):
                if crowd.is_outdated(self._rules[programme_id], self._clock.now().date()):
                    await self._begin_anew(programme_id, crowd, members)
            for programme_id in [id for id in self._missed if self._crowd(id) is not None]:
                await self._catch_up(programme_id, members)
            await asyncio.sleep(REST)

    async def _begin_anew(self, programme_id: str, crowd: PartnerIndex, members: Projection[ProfileChanged]) -> None:
        """From the database, in stretches; the crowd answers as before until it is done."""
        async with self.still:
            crowd.begin_rebuild(self._rules[programme_id], self._clock.now().date())
        page: list[Member] = []
        async for profile in members.find({"enrolments.programme_id": programme_id}):
            if (member := rules.enrolled(profile, programme_id)) is not None:
                page.append(member)
            if len(page) == STRETCH:
                async with self.still:
                    crowd.add_to_rebuild(page)
                page = []
        async with self.still:
            crowd.add_to_rebuild(page)
            self._missed.setdefault(programme_id, set()).update(crowd.finish_rebuild())

    async def _catch_up(self, programme_id: str, members: Projection[ProfileChanged]) -> None:
        """Of those who were passed over: whoever the database knows by now, and whoever still takes part."""
        missed = self._missed.pop(programme_id)
        found = await members.get_many(sorted(missed)[:STRETCH])
        for id in missed:
            known = self._known.get(id)
            if known is None or programme_id not in known.waiting_since:
                continue
            if id in found:
                async with self.still:
                    self.put(found[id], known.sequence)
            else:
                self._missed.setdefault(programme_id, set()).add(id)

    def forget_everything(self) -> None:
        self._crowds.clear()
        self._known.clear()
        self._live.clear()
        for news in self._news.values():
            news.clear()

    def rule(self, programme: ProgrammeChanged) -> None:
        """By which rules a programme compares people."""
        self._rules[programme.programme_id] = programme.settings

    def put(self, profile: ProfileChanged, sequence: int) -> None:
        """What is said of a member now."""
        known = self._known.setdefault(profile.member_id, _Known())
        known.sequence = sequence
        before = set(known.waiting_since)
        known.waiting_since = {one.programme_id: one.waiting_since for one in profile.enrolments}
        for programme_id in before - known.waiting_since.keys():
            if (crowd := self._crowd(programme_id)) is not None:
                crowd.remove(profile.member_id)
        for programme_id in known.waiting_since:
            member = rules.enrolled(profile, programme_id)
            crowd = self._crowd(programme_id)
            if member is not None and crowd is not None:
                crowd.upsert(member, room(profile, programme_id))
            else:
                self._missed.setdefault(programme_id, set()).add(profile.member_id)
        self._show(profile.member_id, known)
        self._tell_all(profile.member_id, before | known.waiting_since.keys())

    def drop(self, member_id: str, sequence: int) -> None:
        """The member is gone; of what was known stays that it was said."""
        known = self._known.get(member_id, _Known())
        self._known[member_id] = _Known(sequence, held=known.held)
        for programme_id in known.waiting_since:
            if (crowd := self._crowd(programme_id)) is not None:
                crowd.remove(member_id)
        for other in known.earlier:
            if other in self._known:
                self._known[other].earlier -= {member_id}
        self._tell_all(member_id, known.waiting_since.keys())

    def pair(self, state: PairingState) -> None:
        """What has become of a pairing: who holds a seat, and who has met whom."""
        sides = {one.side: one.member_id for one in state.participants}
        senior, junior, programme_id = sides["senior"], sides["junior"], state.programme_id
        for me, other in ((senior, junior), (junior, senior)):
            known = self._known.setdefault(me, _Known())
            known.earlier |= {other}
            if state.state != "proposed":
                failed = state.state in ("lapsed", "ended") and state.end_kind != "completed"
                moved = state.happened_at, failed
                known.last[programme_id] = max(known.last.get(programme_id, moved), moved)
        if state.state in LIVE:
            self._seat(state.pairing_id, (senior, junior, programme_id))
        else:
            self._unseat(state.pairing_id)
        for me in (senior, junior):
            self._show(me, self._known[me])
            self._tell_all(me, self._known[me].waiting_since.keys())

    def unpair(self, pairing_id: str) -> None:
        """One of the two was forgotten."""
        freed = self._unseat(pairing_id)
        for me in freed:
            self._show(me, self._known[me])
            self._tell_all(me, self._known[me].waiting_since.keys())

    def _seat(self, pairing_id: str, pair: tuple[str, str, str]) -> None:
        if pairing_id not in self._live:
            self._live[pairing_id] = pair
            for me in pair[:2]:
                self._known[me].held[pair[2]] += 1

    def _unseat(self, pairing_id: str) -> Sequence[str]:
        pair = self._live.pop(pairing_id, None)
        if pair is None:
            return ()
        for me in pair[:2]:
            self._known[me].held[pair[2]] -= 1
        return pair[:2]

    def _show(self, member_id: str, known: _Known) -> None:
        """Tell the crowds what is held and waited for."""
        for programme_id, since in known.waiting_since.items():
            if (crowd := self._crowd(programme_id)) is not None:
                over, failed = known.last.get(programme_id, (None, False))
                crowd.set_reserved_seats(member_id, known.held.total(), known.held[programme_id])
                crowd.set_wait(member_id, wait_state(since, over, failed=failed))

    def _tell_all(self, member_id: str, programmes: Iterable[str]) -> None:
        for programme_id in programmes:
            if programme_id in self._news:
                self.tell(programme_id, [member_id])
                self.changed.set()

    def _crowd(self, programme_id: str) -> PartnerIndex | None:
        """None where the programme is not known yet."""
        if programme_id not in self._crowds and programme_id in self._rules:
            today = self._clock.now().date()
            self._crowds[programme_id] = PartnerIndex(self._taxonomy, self._rules[programme_id], today)
        return self._crowds.get(programme_id)


@following.on(ProgrammeChanged)
async def when_a_programme_changes_know_its_rules(event: ReceivedEvent[ProgrammeChanged], pool: Pool) -> None:
    async with pool.still:
        pool.rule(event.data)


@following.on(ProfileChanged)
async def when_a_profile_changes_know_them_anew(event: ReceivedEvent[ProfileChanged], pool: Pool) -> None:
    async with pool.still:
        pool.put(event.data, event.envelope.sequence)


@following.on_tombstone(ProfileChanged)
async def when_a_profile_is_gone_know_them_no_longer(event: ReceivedTombstone, pool: Pool) -> None:
    async with pool.still:
        pool.drop(event.key, event.envelope.sequence)


@following.on(PairingState)
async def when_a_pairing_moves_on_know_who_is_taken(event: ReceivedEvent[PairingState], pool: Pool) -> None:
    async with pool.still:
        pool.pair(event.data)


@following.on_tombstone(PairingState)
async def when_a_pairing_is_gone_know_of_it_no_longer(event: ReceivedTombstone, pool: Pool) -> None:
    async with pool.still:
        pool.unpair(event.key)
