"""(a) A projection consumer: validate, write in bulk, commit.

Ours (`chassis.messaging.consumer` with a `chassis.storage.projections.Projection`) against

* the floor: bare aiokafka with the same validation and the same guarded bulk write, written by hand;
* the peer: a FastStream handler for each message with `AckPolicy.ACK`, one `replace_one` each, the plain way.

Each record is a `profile.changed` of about 700 bytes; every member comes twice, so half of the writes are inserts and
half are replacements. The three take turns, and ratios are taken within a turn.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReplaceOne

from benchmarks.environment import Ground, database, producing, spread
from chassis.core.clocks import Clock
from chassis.core.ids import new_id
from chassis.messaging.consumer import Consumer
from chassis.messaging.dead_letters import DeadLetters
from chassis.messaging.provisioning import provision_topics
from chassis.messaging.records import KafkaRecord
from chassis.messaging.subscriptions import HandlerRegistry
from chassis.observability.health import Health
from chassis.storage.indexes import provision_indexes
from chassis.storage.projections import Projection
from contracts.envelope import Envelope, dead_letters_of, retries_of, source_of
from contracts.profiles import PROFILES, Enrolment, Offer, ProfileChanged, Seek, Style

GOAL_FLOOR, GOAL_PEER = 0.8, 10.0
RECORDS = 20_000
PEER_RECORDS = 1_000  # the peer is some hundred times slower
TURNS = 3


@dataclass
class Context:
    members: Projection[ProfileChanged]


def profile(number: int) -> ProfileChanged:
    """A believable member; about 700 bytes as JSON."""
    return ProfileChanged(
        member_id=f"member-{number:08d}",
        organisation_id="northwind",
        department_id=f"department-{number % 12}",
        site_id=f"site-{number % 5}",
        discipline_id=f"discipline-{number % 9}",
        level=1 + number % 20,
        line=(f"member-{number // 8:08d}", f"member-{number // 64:08d}"),
        offers=(Offer(topic="machine-learning", level="teach"), Offer(topic="negotiation", level="use")),
        seeks=(Seek(topic="public-speaking", priority=3), Seek(topic="budgeting", priority=1)),
        languages=("en", "de"),
        time_zone="Europe/Berlin",
        style=Style(candour=0.5, pace=-1, change=1.5, debate=0),
        enrolments=(Enrolment(programme_id="programme-1", side="either", capacity=1, state="ready"),),
    )


def records(count: int) -> list[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
    made = []
    for sequence in (1, 3):  # like profiles: the first save publishes the profile and the contact
        for number in range(count // 2):
            data = profile(number)
            envelope = Envelope(
                id=new_id(),
                type=ProfileChanged.TYPE,
                source=source_of("profiles"),
                subject=data.member_id,
                time=datetime.now(UTC),
                sequence=sequence,
                correlationid=data.member_id,
            )
            made.append((data.member_id.encode(), data.model_dump_json().encode(), envelope.headers()))
    return made


async def ours(ground: Ground, count: int) -> float:
    """Seconds until all records are projected and committed."""
    async with database(ground, "ours") as mongo, producing(ground.connection) as producer:
        await provision_indexes(mongo, [], ["members"])
        hearing: HandlerRegistry[Context] = HandlerRegistry()
        hearing.project(ProfileChanged, lambda context: context.members)
        context = Context(Projection(mongo.collection("members"), ProfileChanged, mongo.profile))
        clock = Clock()
        letters = DeadLetters(producer, ground.connection, "matcher", ground.prefix, [PROFILES], clock)
        consumer = Consumer(
            "matcher",
            hearing,
            context,
            letters,
            Health(clock.machine_now),
            connection=ground.connection,
            prefix=ground.prefix,
            group=new_id(),
            instance="benchmark",
        )
        done = Countdown(count)
        process = consumer.process

        async def counted(records: Sequence[KafkaRecord]) -> None:
            done.begins()
            await process(records)
            done.handled(len(records))

        consumer.process = counted  # type: ignore[method-assign]
        await consumer.start()
        seconds = await done.seconds()
        await consumer.stop()
        return seconds


async def bare(ground: Ground, count: int) -> float:
    """The floor: the same work by hand."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(ground.endpoints.mongo)
    collection = client[ground.database("bare")]["members"]
    await collection.create_index([("_id", 1), ("sequence", 1)], unique=True)
    consumer = AIOKafkaConsumer(
        PROFILES.full_name(ground.prefix),
        bootstrap_servers=ground.endpoints.kafka,
        group_id=new_id(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    done = Countdown(count)
    while not done.finished():
        fetched = await consumer.getmany(timeout_ms=20, max_records=1000)
        batch = [record for part in fetched.values() for record in part]
        if not batch:
            continue
        done.begins()
        newest: dict[str, dict[str, Any]] = {}
        for record in batch:
            sequence = int(dict(record.headers)["ce_sequence"])
            data = ProfileChanged.model_validate_json(record.value or b"")
            if sequence > newest.get(data.member_id, {"sequence": 0})["sequence"]:
                row = data.model_dump(mode="json")
                newest[data.member_id] = {**row, "_id": data.member_id, "sequence": sequence}
        cursor = collection.find({"_id": {"$in": list(newest)}}, {"sequence": 1})
        before = {document["_id"]: document["sequence"] async for document in cursor}
        new = [row for id, row in newest.items() if id not in before]
        old = [
            ReplaceOne({"_id": id, "sequence": before[id]}, row)
            for id, row in newest.items()
            if id in before and row["sequence"] > before[id]
        ]
        if new:
            await collection.insert_many(new, ordered=False)
        if old:
            await collection.bulk_write(old, ordered=False)
        await consumer.commit()
        done.handled(len(batch))
    await consumer.stop()
    await collection.drop()
    client.close()
    return await done.seconds()


async def per_message(ground: Ground, count: int) -> float:
    """The peer: FastStream the plain way, at least once."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(ground.endpoints.mongo)
    collection = client[ground.database("peer")]["members"]
    broker = KafkaBroker(ground.connection.bootstrap_servers, logger=None)
    done = Countdown(count)

    @broker.subscriber(
        PROFILES.full_name(ground.prefix),
        group_id=new_id(),
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
    )
    async def handle(data: ProfileChanged) -> None:
        done.begins()
        await collection.replace_one({"_id": data.member_id}, data.model_dump(mode="json"), upsert=True)
        done.handled(1)

    await broker.start()
    seconds = await done.seconds()
    await broker.stop()
    await collection.drop()
    client.close()
    return seconds


class Countdown:
    """From the first record in hand to the last one handled."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._start = 0.0
        self._end = 0.0
        self._done = asyncio.Event()

    def begins(self) -> None:
        self._start = self._start or time.perf_counter()

    def handled(self, count: int) -> None:
        self._left -= count
        if self._left <= 0 and not self._done.is_set():
            self._end = time.perf_counter()
            self._done.set()

    def finished(self) -> bool:
        return self._done.is_set()

    async def seconds(self) -> float:
        await asyncio.wait_for(self._done.wait(), 600)
        return self._end - self._start


async def measure(ground: Ground, scale: float = 1.0) -> dict[str, Any]:
    count = max(2000, int(RECORDS * scale))
    topics = [PROFILES, dead_letters_of("matcher"), retries_of("matcher")]
    await provision_topics(ground.connection, topics, ground.prefix, replication=1, min_in_sync=1)
    async with producing(ground.connection) as producer:
        topic = PROFILES.full_name(ground.prefix)
        sent = [await producer.send(topic, key=k, value=v, headers=h) for k, v, h in records(count)]
        await asyncio.gather(*sent)
    rates: dict[str, list[float]] = {"ours": [], "bare": [], "peer": []}
    turn: list[tuple[str, Callable[[Ground, int], Awaitable[float]], int]] = [
        ("bare", bare, count),
        ("ours", ours, count),
        ("peer", per_message, PEER_RECORDS),
    ]
    for number in range(TURNS):
        for name, run, amount in turn if number % 2 == 0 else turn[::-1]:
            rates[name].append(amount / await run(ground, amount))
    to_floor = [mine / floor for mine, floor in zip(rates["ours"], rates["bare"], strict=True)]
    to_peer = [mine / peer for mine, peer in zip(rates["ours"], rates["peer"], strict=True)]
    return {
        "name": "projection",
        "records": count,
        "turns": TURNS,
        "records_per_second": {name: spread(values, 0) for name, values in rates.items()},
        "ratio_to_bare_aiokafka": spread(to_floor),
        "ratio_to_faststream_per_message": spread(to_peer, 1),
        "goals": {"ratio_to_bare_aiokafka": GOAL_FLOOR, "ratio_to_faststream_per_message": GOAL_PEER},
        "met": spread(to_floor)["median"] >= GOAL_FLOOR and spread(to_peer)["median"] >= GOAL_PEER,
    }
