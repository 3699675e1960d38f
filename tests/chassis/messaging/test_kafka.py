"""Reading without a consumer group."""

from datetime import UTC, datetime, timedelta

from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer, read_key
from tests.chassis.harness import COUNTS, ChassisHarness


class TestReadKey:
    async def test_reads_all_records_of_one_key_in_order(self, harness: ChassisHarness) -> None:
        keys = [f"c{number}" for number in range(20)]
        producer = Producer(harness.connection)
        await producer.start()
        try:
            for value in (b"1", b"2"):
                for key in keys:
                    await producer.deliver(COUNTS.full_name(harness.prefix), key=key.encode(), value=value, headers=[])
        finally:
            await producer.stop()

        async def values(connection: Connection, key: str, since: datetime | None = None) -> list[bytes | None]:
            return [record.value async for record in read_key(connection, harness.prefix, COUNTS.name, key, since)]

        for key in keys:
            assert await values(harness.connection, key) == [b"1", b"2"]
        assert await values(harness.connection, "nobody") == []
        written_at = datetime.now(UTC)
        assert await values(harness.connection, "c7", written_at - timedelta(hours=1)) == [b"1", b"2"]
        assert await values(harness.connection, "c7", written_at + timedelta(hours=1)) == []
