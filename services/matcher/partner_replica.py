"""Members of every programme and their earlier partners, in the memory of each replica of the service.

Readers without a consumer group fill it from ``profiles.v1``, ``pairing-states.v1`` and ``programmes.v1``. So each
replica knows all members, not only those of its own partitions. The replica may be ahead of the database or behind
it. It never decides alone: it names a few candidates, which are then checked against the ledgers and the profiles.

It holds only what matching needs of a member, and drops that with the member's tombstone.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chassis.core.clocks import Clock
from chassis.core.settings import Settings
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from chassis.messaging.topic_replica import TopicReplica
from chassis.storage.projections import Projection
from chassis.web.problems import RETRY_AFTER_S, Problem
from contracts.pairings import PAIRING_STATES, PairingState
from contracts.profiles import PROFILES, ProfileChanged
from contracts.programmes import PROGRAMMES, ProgrammeChanged, ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.pairings.pairing import LIVE_STATES
from services.matcher.domain.pairings.seat_ledger import compute_seat_limits
from services.matcher.domain.programmes.programme import Programme
from services.matcher.engine.partner_index import PartnerIndex, wait_state

REFRESH_PAUSE_S = 1.0  # between two checks whether the indexes are up to date
PROFILE_BATCH = 500  # members read from the database by one query

replica_handlers: HandlerRegistry["PartnerReplica"] = HandlerRegistry()


@dataclass
class _MemberRecord:
    """``sequence``: of the newest event about the profile; -1 before the first.

    ``waiting_since``: by programme in which the member takes part. ``held``: seats taken, by programme.
    ``last``: by programme, when the latest pairing changed, and whether it failed.
    ``earlier``: everybody to whom the member was ever proposed.
    """

    sequence: int = -1
    waiting_since: dict[str, datetime | None] = field(default_factory=dict)
    held: Counter[str] = field(default_factory=Counter)
    last: dict[str, tuple[datetime, bool]] = field(default_factory=dict)
    earlier: frozenset[str] = frozenset()


class PartnerReplica:
    """Hold ``lock`` to change the replica, or while a thread reads it. ``sources``: set once their topic is read.

    A worker ``subscribe``s to a programme and then pops its changed members.
    """

    def __init__(self, taxonomy: Taxonomy, clock: Clock) -> None:
        self.lock = asyncio.Lock()
        self.sources: Sequence[asyncio.Event] = ()
        self.changed = asyncio.Event()
        self.taxonomy = taxonomy
        self._clock = clock
        self._settings: dict[str, ProgrammeSettings] = {}
        self._missed: dict[str, set[str]] = {}  # by programme: members that its index does not have yet
        self._indexes: dict[str, PartnerIndex] = {}
        self._records: dict[str, _MemberRecord] = {}
        self._live: dict[str, tuple[str, str, str]] = {}  # by pairing: senior, junior, programme
        self._changed_members: dict[str, dict[str, None]] = {}  # by programme, the newest last

    @property
    def complete(self) -> bool:
        """Whether all topics were read up to their end at the start."""
        return all(event.is_set() for event in self.sources)

    async def wait_until_complete(self) -> None:
        for event in self.sources:
            await event.wait()

    def index(self, programme: Programme) -> PartnerIndex:
        """All members of a programme; hold ``lock``. Raises a problem (503) while topics are still read."""
        if not self.complete:
            raise Problem(
                503,
                "This service has just started and does not know everybody yet; try again in a moment.",
                code="not_everybody_known",
                headers={"Retry-After": RETRY_AFTER_S},
            )
        self._settings.setdefault(programme.programme_id, programme.settings)
        index = self._index_of(programme.programme_id)
        assert index is not None, "the settings are known"
        index.flush()
        return index

    def earlier(self, member_id: str) -> frozenset[str]:
        """Everybody to whom the member was ever proposed, in any programme."""
        record = self._records.get(member_id)
        return record.earlier if record else frozenset()

    def sequence(self, member_id: str) -> int:
        """The number of the newest event about the member's profile; -1 where there was none."""
        record = self._records.get(member_id)
        return record.sequence if record else -1

    async def ahead_of(self, members: Projection[ProfileChanged], ids: Sequence[str]) -> set[str]:
        """Members of whom the replica has read something that the service's database does not have yet."""
        stored = await members.sequences(ids)
        return {id for id in ids if stored.get(id, -1) < self.sequence(id)}

    def is_live(self, pairing_id: str) -> bool:
        """Whether the pairing holds its seats, as far as the replica has read."""
        return pairing_id in self._live

    def subscribe(self, programme_id: str) -> None:
        """Collect the changed members of a programme from now on."""
        self._changed_members.setdefault(programme_id, {})

    def unsubscribe(self, programme_id: str) -> None:
        self._changed_members.pop(programme_id, None)

    def subscribed(self, programme_id: str) -> bool:
        return programme_id in self._changed_members

    def pop_changed(self, programme_id: str, limit: int) -> list[str]:
        """Pop up to ``limit`` changed members, newest first, so that a single change is not queued behind an import."""
        members = self._changed_members[programme_id]
        return [members.popitem()[0] for _ in range(min(limit, len(members)))]

    def has_changed(self, programme_id: str) -> bool:
        """Whether changed members are left to pop."""
        return bool(self._changed_members[programme_id])

    def mark_changed(self, programme_id: str, members: Iterable[str]) -> None:
        """Queue these members of a programme, if somebody subscribes to it."""
        if (queue := self._changed_members.get(programme_id)) is not None:
            for member_id in members:
                queue.pop(member_id, None)
                queue[member_id] = None

    async def keep_fresh(self, members: Projection[ProfileChanged]) -> None:
        """Keep every index complete and computed with today's settings and date; never ends."""
        while True:
            for programme_id, index in list(self._indexes.items()):
                if index.is_outdated(self._settings[programme_id], self._clock.now().date()):
                    await self._rebuild(programme_id, index, members)
            for programme_id in [id for id in self._missed if self._index_of(id) is not None]:
                await self._add_missed(programme_id, members)
            await asyncio.sleep(REFRESH_PAUSE_S)

    async def _rebuild(self, programme_id: str, index: PartnerIndex, members: Projection[ProfileChanged]) -> None:
        """Rebuild an index from the database, batch by batch. The index answers from the old data until the end."""
        async with self.lock:
            index.begin_rebuild(self._settings[programme_id], self._clock.now().date())
        batch: list[Member] = []
        async for profile in members.find({"enrolments.programme_id": programme_id}):
            if (member := hard_rules.find_enrolled_member(profile, programme_id)) is not None:
                batch.append(member)
            if len(batch) == PROFILE_BATCH:
                async with self.lock:
                    index.add_to_rebuild(batch)
                batch = []
        async with self.lock:
            index.add_to_rebuild(batch)
            self._missed.setdefault(programme_id, set()).update(index.finish_rebuild())

    async def _add_missed(self, programme_id: str, members: Projection[ProfileChanged]) -> None:
        """Add missed members that the database has by now. Keep the others that still take part for the next time."""
        missed = self._missed.pop(programme_id)
        profiles = await members.get_many(sorted(missed)[:PROFILE_BATCH])
        for id in missed:
            record = self._records.get(id)
            if record is None or programme_id not in record.waiting_since:
                continue
            if id in profiles:
                async with self.lock:
                    self.put(profiles[id], record.sequence)
            else:
                self._missed.setdefault(programme_id, set()).add(id)

    def clear(self) -> None:
        """Drop all members and pairings; settings and subscriptions stay."""
        self._indexes.clear()
        self._records.clear()
        self._live.clear()
        for members in self._changed_members.values():
            members.clear()

    def put_programme(self, programme: ProgrammeChanged) -> None:
        self._settings[programme.programme_id] = programme.settings

    def put(self, profile: ProfileChanged, sequence: int) -> None:
        """Replace what is known of a member. ``sequence``: of the event that carried the profile."""
        record = self._records.setdefault(profile.member_id, _MemberRecord())
        record.sequence = sequence
        before = set(record.waiting_since)
        record.waiting_since = {enrolment.programme_id: enrolment.waiting_since for enrolment in profile.enrolments}
        for programme_id in before - record.waiting_since.keys():
            if (index := self._index_of(programme_id)) is not None:
                index.remove(profile.member_id)
        for programme_id in record.waiting_since:
            member = hard_rules.find_enrolled_member(profile, programme_id)
            index = self._index_of(programme_id)
            if member is not None and index is not None:
                index.upsert(member, compute_seat_limits(profile, programme_id))
            else:
                self._missed.setdefault(programme_id, set()).add(profile.member_id)
        self._update_indexes(profile.member_id, record)
        self._mark_in(before | record.waiting_since.keys(), profile.member_id)

    def drop(self, member_id: str, sequence: int) -> None:
        """Remove an erased member. The sequence stays, and so do held seats, until their pairings are dropped."""
        record = self._records.get(member_id, _MemberRecord())
        self._records[member_id] = _MemberRecord(sequence, held=record.held)
        for programme_id in record.waiting_since:
            if (index := self._index_of(programme_id)) is not None:
                index.remove(member_id)
        for other in record.earlier:
            if other in self._records:
                self._records[other].earlier -= {member_id}
        self._mark_in(record.waiting_since.keys(), member_id)

    def put_pairing(self, state: PairingState) -> None:
        """Record the state of a pairing: the seats that it holds, and that the two were proposed to each other."""
        sides = {participant.side: participant.member_id for participant in state.participants}
        senior, junior, programme_id = sides["senior"], sides["junior"], state.programme_id
        for me, other in ((senior, junior), (junior, senior)):
            record = self._records.setdefault(me, _MemberRecord())
            record.earlier |= {other}
            if state.state != "proposed":
                failed = state.state in ("lapsed", "ended") and state.end_kind != "completed"
                change = state.happened_at, failed
                record.last[programme_id] = max(record.last.get(programme_id, change), change)
        if state.state in LIVE_STATES:
            self._take_seats(state.pairing_id, (senior, junior, programme_id))
        else:
            self._free_seats(state.pairing_id)
        self._refresh((senior, junior))

    def drop_pairing(self, pairing_id: str) -> None:
        """Free the seats of a pairing of which one member was erased."""
        self._refresh(self._free_seats(pairing_id))

    def _take_seats(self, pairing_id: str, pair: tuple[str, str, str]) -> None:
        if pairing_id not in self._live:
            self._live[pairing_id] = pair
            for me in pair[:2]:
                self._records[me].held[pair[2]] += 1

    def _free_seats(self, pairing_id: str) -> Sequence[str]:
        """Returns the two members; nobody where the pairing held no seats."""
        pair = self._live.pop(pairing_id, None)
        if pair is None:
            return ()
        for me in pair[:2]:
            self._records[me].held[pair[2]] -= 1
        return pair[:2]

    def _refresh(self, members: Iterable[str]) -> None:
        for me in members:
            self._update_indexes(me, self._records[me])
            self._mark_in(self._records[me].waiting_since.keys(), me)

    def _update_indexes(self, member_id: str, record: _MemberRecord) -> None:
        """Set the member's held seats and waiting time in the index of every programme."""
        for programme_id, since in record.waiting_since.items():
            if (index := self._index_of(programme_id)) is not None:
                over, failed = record.last.get(programme_id, (None, False))
                index.set_reserved_seats(member_id, record.held.total(), record.held[programme_id])
                index.set_wait(member_id, wait_state(since, over, failed=failed))

    def _mark_in(self, programmes: Iterable[str], member_id: str) -> None:
        for programme_id in programmes:
            if self.subscribed(programme_id):
                self.mark_changed(programme_id, [member_id])
                self.changed.set()

    def _index_of(self, programme_id: str) -> PartnerIndex | None:
        """None while the programme's settings are unknown."""
        if programme_id not in self._indexes and programme_id in self._settings:
            today = self._clock.now().date()
            self._indexes[programme_id] = PartnerIndex(self.taxonomy, self._settings[programme_id], today)
        return self._indexes.get(programme_id)


def topic_replicas(partners: PartnerReplica, settings: Settings) -> list[TopicReplica[PartnerReplica]]:
    """The readers that fill the replica. Programmes come first, since members are compared by their settings."""
    connection, prefix = settings.connection(), settings.topic_prefix
    programmes = TopicReplica(
        PROGRAMMES, replica_handlers, partners, connection=connection, prefix=prefix, service="matcher"
    )
    others = [
        TopicReplica(
            topic, replica_handlers, partners, connection=connection, prefix=prefix, service="matcher", after=programmes
        )
        for topic in (PROFILES, PAIRING_STATES)
    ]
    return [programmes, *others]


@replica_handlers.on(ProgrammeChanged)
async def when_a_programme_changes_store_its_settings(
    event: ReceivedEvent[ProgrammeChanged], partners: PartnerReplica
) -> None:
    async with partners.lock:
        partners.put_programme(event.data)


@replica_handlers.on(ProfileChanged)
async def when_a_profile_changes_update_the_member(
    event: ReceivedEvent[ProfileChanged], partners: PartnerReplica
) -> None:
    async with partners.lock:
        partners.put(event.data, event.envelope.sequence)


@replica_handlers.on_tombstone(ProfileChanged)
async def when_a_profile_is_deleted_drop_the_member(event: ReceivedTombstone, partners: PartnerReplica) -> None:
    async with partners.lock:
        partners.drop(event.key, event.envelope.sequence)


@replica_handlers.on(PairingState)
async def when_a_pairing_changes_update_its_seats(event: ReceivedEvent[PairingState], partners: PartnerReplica) -> None:
    async with partners.lock:
        partners.put_pairing(event.data)


@replica_handlers.on_tombstone(PairingState)
async def when_a_pairing_is_deleted_free_its_seats(event: ReceivedTombstone, partners: PartnerReplica) -> None:
    async with partners.lock:
        partners.drop_pairing(event.key)
