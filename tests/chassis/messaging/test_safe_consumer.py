"""A record that the client cannot decode stops no reader, and takes no other record with it."""

import asyncio
import os
import subprocess
import sys

from chassis.messaging.kafka import read_topic
from tests.chassis.fake_consumer import run_fake_consumer
from tests.chassis.harness import COUNTS, ChassisHarness, eventually
from tests.chassis.messaging.test_consumer import publish_count
from tests.patience import patience

# aiokafka's own producer writes header names as UTF-8. Its version in Python lets a text choose its bytes.
PRODUCER = """
import asyncio, sys
from aiokafka import AIOKafkaProducer

class NoText(str):
    def encode(self, *_): return b"\\xff\\xfe"

async def main():
    producer = AIOKafkaProducer(bootstrap_servers=sys.argv[1])
    await producer.start()
    topic = sys.argv[2]
    await producer.send_and_wait(topic, b"alone", key=b"a", headers=[(NoText("x"), b"")])
    batch = producer.create_batch()
    for name in ("x", NoText("x"), "x"):
        batch.append(key=b"a", value=b"in a batch", timestamp=None, headers=[(name, b"")])
    batch.close()
    for partition in await producer.partitions_for(topic):
        await (await producer.send_batch(batch, topic, partition=partition))
    await producer.stop()

asyncio.run(main())
"""


async def send_undecodable(harness: ChassisHarness) -> None:
    """Records with a header name that is not UTF-8, in every partition of the topic."""
    arguments = [sys.executable, "-c", PRODUCER, harness.connection.servers, COUNTS.full_name(harness.prefix)]
    await asyncio.to_thread(
        subprocess.run,
        arguments,
        env={**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"},
        check=True,
        timeout=patience(10),
    )


class TestUndecodableRecords:
    async def test_consumer_handles_what_comes_before_and_after(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            await publish_count(harness, fake, "a", 1)
            await send_undecodable(harness)
            await publish_count(harness, fake, "a", 2)
            await eventually(lambda: {"a-1", "a-2"} <= set(fake.service.event_ids), "both events are handled", 10)
            assert fake.health.check_liveness().ok

    async def test_records_of_one_fetch_are_not_lost(self, harness: ChassisHarness) -> None:
        """All of them are there when the consumer starts, so they come in one fetch."""
        async with run_fake_consumer(harness, started=False) as sender:
            for number in (1, 2, 3):
                await publish_count(harness, sender, "a", number)
            await send_undecodable(harness)
            await publish_count(harness, sender, "a", 4)
        async with run_fake_consumer(harness) as fake:
            await eventually(lambda: len(set(fake.service.event_ids)) >= 4, "all four events are handled", 10)

    async def test_reader_without_a_group_reads_the_rest(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness, started=False) as sender:
            await publish_count(harness, sender, "a", 1)
            await send_undecodable(harness)
            await publish_count(harness, sender, "a", 2)
        values = [record.value async for record in read_topic(harness.connection, harness.prefix, COUNTS.name)]
        assert b"alone" not in values
        assert len([value for value in values if value != b"in a batch"]) == 2
