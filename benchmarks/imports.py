"""(c) Import of 100,000 people over HTTP until all of them are in the matcher's projection.

Ours ends when also the notifier and feedback have all of them. The floor: the very documents that this leaves in each
database, bulk-inserted into fresh collections with the same indexes, and the very records that it leaves on the topics,
produced again with nothing around it, one after the other. Peak memory of each service is what the kernel counted.
"""

import asyncio
import time
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer
from motor.motor_asyncio import AsyncIOMotorClient

from benchmarks.command import finished
from benchmarks.stack import Estate, people
from chassis.core.connection import Connection
from chassis.messaging.kafka import read_topic
from contracts.profiles import CONTACTS, PROFILES

GOAL_RATIO, GOAL_MEMORY_MB = 0.35, 400.0
PEOPLE = 100_000
CHUNK = 1000
OWNED = (("profiles", "persons"), ("profiles", "keys"))
PROJECTED = (("matcher", "members"), ("notifier", "contacts"), ("feedback", "members"))
COLLECTIONS = (*OWNED, *PROJECTED)


async def measure(estate: Estate, scale: float = 1.0) -> dict[str, Any]:
    count = max(2000, int(PEOPLE * scale))
    mongo: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(estate.addresses.mongo)
    start = time.perf_counter()
    state = await _import(estate, people(count))
    imported = time.perf_counter() - start
    for service, name in PROJECTED:
        while await mongo[estate.database(service)][name].estimated_document_count() < count:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    projected = time.perf_counter() - start
    memory = estate.peak_memory()
    inserting = {
        f"{service}.{name}": await _insert_again(mongo, estate, service, name) for service, name in COLLECTIONS
    }
    producing = await _produce_again(estate)
    mongo.close()
    floor = sum(inserting.values()) + producing
    ratio = floor / projected
    return {
        "name": "import",
        "people": count,
        "created": state["created"],
        "seconds": {
            "ours": round(projected, 1),
            "of which until the import was done": round(imported, 1),
            "floor": round(floor, 1),
            "floor by part": {
                **{name: round(took, 1) for name, took in inserting.items()},
                "kafka": round(producing, 1),
            },
        },
        "ratio_to_bare_bulk": round(ratio, 3),
        "peak_memory_mb": memory,
        "goals": {"ratio_to_bare_bulk": GOAL_RATIO, "peak_memory_mb": GOAL_MEMORY_MB},
        "met": ratio >= GOAL_RATIO and max(memory.values()) <= GOAL_MEMORY_MB,
    }


async def _import(estate: Estate, file: bytes) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {estate.token(None, 'admin')}", "Content-Type": "text/csv"}
    async with httpx.AsyncClient(trust_env=False, timeout=600) as client:
        answer = await client.post(f"{estate.url('profiles')}/imports", content=file, headers=headers)
        answer.raise_for_status()
        return await finished(client, estate.url("profiles"), answer.json()["import_id"], headers)


async def _insert_again(mongo: AsyncIOMotorClient[dict[str, Any]], estate: Estate, service: str, name: str) -> float:
    """Seconds to insert what the service keeps; reading it first does not count."""
    database = mongo[estate.database(service)]
    documents = [document async for document in database[name].find({}, batch_size=CHUNK)]
    fresh = database["floor"]
    for index in (await database[name].index_information()).values():
        if index["key"] != [("_id", 1)]:
            await fresh.create_index(index["key"], unique=index.get("unique", False))
    start = time.perf_counter()
    for first in range(0, len(documents), CHUNK):
        await fresh.insert_many(documents[first : first + CHUNK], ordered=False)
    seconds = time.perf_counter() - start
    await fresh.drop()
    return seconds


async def _produce_again(estate: Estate) -> float:
    """Seconds to produce once more, key by key, what the import left on the topics of profiles."""
    connection, prefix = Connection(estate.addresses.kafka), estate.addresses.prefix
    records = [
        (topic, record) for topic in (PROFILES, CONTACTS) async for record in read_topic(connection, prefix, topic.name)
    ]
    producer = AIOKafkaProducer(
        bootstrap_servers=estate.addresses.kafka, acks="all", enable_idempotence=True, max_batch_size=128 * 1024
    )
    await producer.start()
    start = time.perf_counter()
    sent = [
        await producer.send(topic.full_name(prefix), record.value, record.key, headers=list(record.headers))
        for topic, record in records
    ]
    await asyncio.gather(*sent)
    seconds = time.perf_counter() - start
    await producer.stop()
    return seconds
