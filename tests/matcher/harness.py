"""The matcher on real servers, with one or two replicas. The events of other services are published by hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from chassis.core.connection import Connection
from chassis.core.settings import Settings
from chassis.messaging.kafka import Producer, read_topic
from chassis.messaging.records import KafkaRecord
from chassis.service import Chassis, ServiceDefinition, _run
from contracts.envelope import EventData, Tombstone, Topic, iso
from contracts.feedback import FeedbackEvent, OutcomeRecorded
from contracts.privacy import ERASURE_REQUESTS, ErasureRequested
from contracts.profiles import PROFILES, ProfileChanged
from contracts.programmes import ProgrammeSettings
from deploy.local import stack
from services.matcher.__main__ import build
from services.matcher.context import Matcher
from tests.matcher.builders import PROGRAMME, settings
from tests.processes import Asking, app_of, client_of, say, until, until_ready


@dataclass
class Replica(Asking):
    """One process of the matcher."""

    chassis: Chassis
    parts: ServiceDefinition[Matcher]
    client: httpx.AsyncClient
    living: "asyncio.Task[None] | None" = None

    @property
    def matcher(self) -> Matcher:
        return self.parts.context

    async def do(
        self, who: str, path: str, body: object = None, *, method: str = "POST", key: str | None = None
    ) -> Any:
        answer = await self.ask(who, method, path, {} if body is None else body, key=key)
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json()

    async def stop(self) -> None:
        if self.living is not None:
            self.living.cancel()
            await asyncio.gather(self.living, return_exceptions=True)
        await self.client.aclose()


@dataclass
class World:
    servers: stack.Endpoints
    prefix: str
    folder: Path
    producer: Producer
    reader: AIOKafkaConsumer
    admin: AIOKafkaAdminClient
    replicas: list[Replica] = field(default_factory=list)
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _sequence: int = 0

    async def at_rest(self) -> None:
        """Wait until all published events, and all that follow from them, are handled."""

        async def nothing_new() -> bool:
            before = await self._ends()
            for replica in self.replicas:
                await replica.matcher.tasks.idle()
                await replica.chassis.relay.wait_until_idle()
            committed = await self.admin.list_consumer_group_offsets(f"{self.prefix}matcher")
            handled = {partition: offset.offset for partition, offset in committed.items() if partition in before}
            return handled == before == await self._ends()

        await until(nothing_new)

    async def _ends(self) -> Mapping[TopicPartition, int]:
        """The end offset of every partition that is not empty."""
        topics = self.replicas[0].parts.handlers.topics()
        offsets = await self.reader.end_offsets(
            [
                TopicPartition(topic.full_name(self.prefix), number)
                for topic in topics
                for number in range(topic.partitions)
            ]
        )
        return {partition: end for partition, end in offsets.items() if end}

    async def forget_everything(self) -> None:
        """Start anew: wait until idle, empty all collections, and ignore all earlier events."""
        await self.at_rest()
        matcher = self.replicas[0].matcher
        for store in (
            matcher.programmes,
            matcher.rounds,
            matcher.pairings,
            matcher.ledgers,
            matcher.requests,
            matcher.learning,
        ):
            await store.collection.delete_many({})
        for rolling_store in (matcher.suggestions, matcher.claims):
            await rolling_store.collection.delete_many({})
        for replica in self.replicas:
            replica.matcher.partners.clear()
        for documents in (
            matcher.members,
            matcher.proposals,
            matcher.unmatched,
            matcher.summaries,
            matcher.receipts,
            matcher.examples,
        ):
            await documents.collection.delete_many({})
        self.since = datetime.now(UTC)

    async def second(self) -> Replica:
        """The second replica, started on first use."""
        return self.replicas[1] if len(self.replicas) > 1 else await self.replica()

    async def replica(self) -> Replica:
        """Start one more replica, and wait until it consumes events."""
        name = f"matcher-{len(self.replicas)}"
        chassis = Chassis("matcher", self._settings(name))
        parts = build(chassis)
        client = client_of(app_of(chassis, parts))
        replica = Replica(chassis, parts, client)
        replica.living = asyncio.create_task(_run(chassis, parts))
        self.replicas.append(replica)
        await until_ready(chassis)
        for event in replica.matcher.partners.sources:
            await event.wait()
        return replica

    async def people(self, *profiles: ProfileChanged) -> None:
        """Publish these profiles, and wait until every replica and the database have them."""
        last: dict[str, int] = {}
        for profile in profiles:
            await self.say(profile)
            last[profile.member_id] = self._sequence
        members = self.replicas[0].matcher.members
        expected = {profile.member_id: profile for profile in profiles}

        async def there() -> bool:
            pools = [replica.matcher.partners for replica in self.replicas]
            are_seen = all(pool.sequence(id) == last[id] for pool in pools for id in expected)
            return are_seen and await members.get_many(list(expected)) == expected

        await until(there)

    async def gone(self, member_id: str) -> None:
        """Publish the events of profiles for the erasure of a member."""
        await self.say(ErasureRequested(member_id=member_id, requested_at=datetime.now(UTC)))
        await self.say(Tombstone(ProfileChanged, member_id))

    async def say(self, event: EventData | Tombstone) -> None:
        self._sequence += 1
        kind = event.type if isinstance(event, Tombstone) else type(event)
        service = "profiles" if kind.TOPIC in (PROFILES, ERASURE_REQUESTS) else "feedback"
        assert service == "profiles" or issubclass(kind, FeedbackEvent | OutcomeRecorded)
        await say(self.producer, self.prefix, event, service, self._sequence)

    async def read_topic(self, topic: Topic) -> list[KafkaRecord]:
        """All records of a topic since the start of this test, by partition and offset."""
        connection, since = Connection(self.servers.kafka), iso(self.since)
        records = [record async for record in read_topic(connection, self.prefix, topic.name)]
        return [record for record in records if str(record.header("ce_time")) >= since]

    async def pass_time(self, by: timedelta) -> None:
        """Move business time forward."""
        clock = self.replicas[0].chassis.clock
        clock.set_speed(1.0, clock.now() + by)

    async def open_programme(self, with_settings: ProgrammeSettings | None = None, id: str = PROGRAMME) -> str:
        first = self.replicas[0]
        body = {"programme_id": id, "settings": (with_settings or settings()).model_dump(mode="json")}
        await first.do("admin", "/programmes", body)
        await first.do("admin", f"/programmes/{id}/open")
        return id

    async def round(self, *, publish: bool = True, programme_id: str = PROGRAMME) -> Mapping[str, Any]:
        """Run a round to its end."""
        first = self.replicas[0]
        started = await first.do("admin", f"/programmes/{programme_id}/rounds", {"seed": 1})
        path = f"/rounds/{started['round_id']}"
        computed = await self.round_in(path, "computed", "failed")
        if not publish:
            return computed
        await first.do("admin", f"{path}/publish")
        return await self.round_in(path, "published")

    async def round_in(self, path: str, *states: str) -> Mapping[str, Any]:
        rounds: list[Mapping[str, Any]] = []

        async def there() -> bool:
            rounds.append(await self.replicas[0].get("admin", path))
            return rounds[-1]["state"] in states

        await until(there)
        return rounds[-1]

    def _settings(self, instance: str) -> Settings:
        return Settings(
            kafka=self.servers.kafka,
            mongo=SecretStr(self.servers.mongo),
            topic_prefix=self.prefix,
            instance=instance,
            clock=self.folder / "clock.jsonl",
            http_port=1,
        )


@asynccontextmanager
async def world(servers: stack.Endpoints, prefix: str, folder: Path) -> AsyncIterator[World]:
    connection = Connection(servers.kafka)
    producer = Producer(connection)
    reader, admin = (
        AIOKafkaConsumer(**connection.client_arguments()),
        AIOKafkaAdminClient(**connection.client_arguments()),
    )
    await asyncio.gather(producer.start(), reader.start(), admin.start())
    world = World(servers, prefix, folder, producer, reader, admin)
    try:
        await world.replica()
        yield world
    finally:
        await asyncio.gather(*(replica.stop() for replica in world.replicas))
        await asyncio.gather(producer.stop(), reader.stop(), admin.close())
