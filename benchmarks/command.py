"""(b) From sending an HTTP command to a subscriber's read of its event.

The command is a member's `PUT /members/me/away`, which ends in a `profile.changed`. The floor does the same steps with
nothing around them: an authenticated POST that does nothing, one `replace_one` by id and version, one idempotent send
that waits for its acknowledgement, one read by a consumer. The two take turns, request by request.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from motor.motor_asyncio import AsyncIOMotorClient

from benchmarks.environment import quantile
from benchmarks.stack import Estate, people
from chassis.core.connection import Connection
from chassis.messaging.provisioning import provision_topics
from chassis.web.dev_tokens import public_jwks
from contracts.envelope import Topic
from contracts.profiles import PROFILES
from deploy.local import ports

GOAL_P50 = 1.5
COMMANDS = 400
WARM_UP = 50
PEOPLE = 40
FLOOR_TOPIC = Topic("floor.v1", "time")


async def measure(estate: Estate, scale: float = 1.0) -> dict[str, Any]:
    commands = max(100, int(COMMANDS * scale))
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        members = await import_people(client, estate, PEOPLE)
        async with (
            _reading(estate, PROFILES) as events,
            _floor(estate, members[0], client) as floor,
        ):
            ours, theirs = [], []
            for number in range(WARM_UP + commands):
                member = members[number % len(members)]
                theirs.append(await floor(number))
                ours.append(await _command(client, estate, events, member, number))
    ours, theirs = ours[WARM_UP:], theirs[WARM_UP:]
    ratio = quantile(ours, 0.5) / quantile(theirs, 0.5)
    return {
        "name": "command",
        "commands": commands,
        "milliseconds": {
            "ours": {"p50": _ms(ours, 0.5), "p99": _ms(ours, 0.99)},
            "floor": {"p50": _ms(theirs, 0.5), "p99": _ms(theirs, 0.99)},
        },
        "ratio_p50": round(ratio, 2),
        "ratio_p99": round(quantile(ours, 0.99) / quantile(theirs, 0.99), 2),
        "goals": {"ratio_p50": GOAL_P50},
        "met": ratio <= GOAL_P50,
    }


async def import_people(client: httpx.AsyncClient, estate: Estate, count: int) -> list[str]:
    """Import so many people over HTTP and wait until they are there; their member ids."""
    headers = {"Authorization": f"Bearer {estate.token(None, 'admin')}", "Content-Type": "text/csv"}
    url = estate.url("profiles")
    answer = await client.post(f"{url}/imports", content=people(count), headers=headers)
    answer.raise_for_status()
    await finished(client, url, answer.json()["import_id"], headers)
    result = await client.get(f"{url}/members", params={"limit": min(count, 200)}, headers=headers)
    result.raise_for_status()
    return [member["member_id"] for member in result.json()["items"]]


async def finished(client: httpx.AsyncClient, url: str, import_id: str, headers: dict[str, str]) -> dict[str, Any]:
    """Wait until an import is done. Raises ``RuntimeError`` when it ended otherwise."""
    while True:
        answer = await client.get(f"{url}/imports/{import_id}", headers=headers)
        if answer.is_error:
            raise RuntimeError(f"the import cannot be asked after: {answer.status_code} {answer.text}")
        state: dict[str, Any] = answer.json()
        if state["state"] == "done":
            return state
        if state["state"] not in ("received", "running"):
            raise RuntimeError(f"the import ended as {state['state']}")
        await asyncio.sleep(0.2)


async def _command(
    client: httpx.AsyncClient, estate: Estate, events: AIOKafkaConsumer, member: str, number: int
) -> float:
    since = date(2027, 1, 1) + timedelta(days=number)
    body = {"away": [{"since": since.isoformat(), "until": None}]}
    headers = {"Authorization": f"Bearer {estate.token(member, 'member')}"}
    start = time.perf_counter()
    answering = asyncio.create_task(client.put(f"{estate.url('profiles')}/members/me/away", json=body, headers=headers))
    while True:
        record = await asyncio.wait_for(events.getone(), 30)
        if record.key == member.encode() and since.isoformat().encode() in (record.value or b""):
            break
    seconds = time.perf_counter() - start
    (await answering).raise_for_status()
    return seconds


@asynccontextmanager
async def _reading(estate: Estate, topic: Topic) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        topic.full_name(estate.addresses.prefix),
        bootstrap_servers=estate.addresses.kafka,
        auto_offset_reset="latest",
    )
    await consumer.start()
    await consumer.seek_to_end()
    for position in consumer.assignment():
        await consumer.position(position)
    try:
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def _floor(estate: Estate, member: str, client: httpx.AsyncClient) -> AsyncIterator[Any]:
    """Yields ``one(number) -> seconds``."""
    keys = estate.data / "floor-keys.json"
    keys.write_text(json.dumps(public_jwks(estate.data)), encoding="utf-8")
    port = ports.any_free()
    command = [sys.executable, "-m", "benchmarks.baseline", str(port), str(keys), estate.addresses.urls["issuer"]]
    server = subprocess.Popen([*command, "viceversa"])  # noqa: ASYNC220 - started once, before anything is timed
    prefix, kafka = estate.addresses.prefix, estate.addresses.kafka
    await provision_topics(Connection(kafka), [FLOOR_TOPIC], prefix, replication=1, min_in_sync=1)
    mongo: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(f"{estate.addresses.mongo}/?w=majority&journal=true")
    collection = mongo[estate.database("floor")]["documents"]
    await collection.create_index([("_id", 1), ("version", 1)], unique=True)
    document = {"_id": "a", "version": 0, "state": "x" * 1000}
    await collection.insert_one(document)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    await producer.start()
    url, headers = f"http://127.0.0.1:{port}/nothing", {"Authorization": f"Bearer {estate.token(member, 'member')}"}
    await _answers(client, url)
    try:
        async with _reading(estate, FLOOR_TOPIC) as consumer:

            async def item(number: int) -> float:
                start = time.perf_counter()
                (await client.post(url, json={"away": [{"since": "2027-01-01"}]}, headers=headers)).raise_for_status()
                where = {"_id": "a", "version": number}
                await collection.replace_one(where, {**document, "version": number + 1})
                await producer.send_and_wait(FLOOR_TOPIC.full_name(prefix), b"x" * 700, key=b"k%d" % (number % 40))
                await consumer.getone()
                return time.perf_counter() - start

            yield item
    finally:
        await producer.stop()
        mongo.close()
        server.terminate()
        server.wait()


async def _answers(client: httpx.AsyncClient, url: str) -> None:
    """Wait until the floor's server listens."""
    for _ in range(200):
        try:
            await client.get(url)
        except httpx.ConnectError:
            await asyncio.sleep(0.05)
        else:
            return
    raise RuntimeError("the floor's server did not start")


def _ms(values: list[float], share: float) -> float:
    return round(quantile(values, share) * 1000, 2)
