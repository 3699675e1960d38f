"""The last record of each key of a compacted topic is right, whichever replica published late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from chassis.core.commands import Op
from chassis.messaging.guardian import Guardian
from tests.chassis.harness import (
    COUNTERS,
    ChassisHarness,
    CounterChanged,
    ServiceReplica,
    add,
    build_envelope,
    erase,
    eventually,
    read_envelope,
)


@asynccontextmanager
async def run_guardian(replica: ServiceReplica) -> AsyncIterator[Guardian]:
    guardian = replica.create_guardian()
    task = asyncio.create_task(guardian.run())
    try:
        yield guardian
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def read_last_value(harness: ChassisHarness, key: str) -> bytes | None:
    return (await harness.read_records(COUNTERS, key))[-1].value


class TestForgedNewest:
    @pytest.mark.parametrize("sequence", [2**63 - 2, 2**40 + 7, 20_000])
    async def test_sequence_that_was_never_published_is_corrected(self, harness: ChassisHarness, sequence: int) -> None:
        """Somebody writes in the name of the owner: the owner's state stands last again, so compaction keeps it."""
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("1"), add("c", 1))
        await replica.relay.wait_until_idle()
        right = await read_last_value(harness, "c")
        async with run_guardian(replica) as guardian:
            await guardian.caught_up.wait()
            forged = build_envelope(CounterChanged, "c", sequence, "forged")
            await replica.producer.deliver(
                COUNTERS.full_name(harness.prefix),
                key=b"c",
                value=b'{"counter_id":"c","value":666}',
                headers=forged.headers(),
            )
            await eventually(lambda: guardian.republished == 1, "the guardian publishes the state again")
        assert await read_last_value(harness, "c") == right

    async def test_invented_keys_do_not_fill_the_memory(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        for n in range(20):
            await replica.producer.deliver(COUNTERS.full_name(harness.prefix), key=b"x%d" % n, value=b"{", headers=[])
        async with run_guardian(replica) as guardian:
            await guardian.caught_up.wait()
            assert guardian.remembered_keys == 0


class TestOutdatedRecord:
    async def test_old_state_after_a_tombstone_is_followed_by_tombstone(
        self,
        harness: ChassisHarness,
    ) -> None:
        """A stalled relay publishes the old state late. The tombstone is republished with the same id and sequence."""
        stalled, alive = await harness.start_replica(running=False), await harness.start_replica()
        await stalled.counters.update("c", Op("1"), add("c", 1))
        old = await stalled.read_document("c")
        await alive.counters.update("c", Op("2"), erase("c"))
        await alive.relay.wait_until_idle()
        assert await read_last_value(harness, "c") is None
        await stalled.publish(old)
        assert await read_last_value(harness, "c") is not None

        async with run_guardian(alive) as guardian:
            await eventually(lambda: guardian.republished == 1, "the guardian republishes the tombstone")
        records = await harness.read_records(COUNTERS, "c")
        assert records[-1].value is None
        first = next(record for record in records if record.value is None)
        assert (read_envelope(records[-1]).id, read_envelope(records[-1]).sequence) == (
            read_envelope(first).id,
            read_envelope(first).sequence,
        )

    async def test_stale_state_is_followed_by_the_current_state(
        self,
        harness: ChassisHarness,
    ) -> None:
        """The stale state arrives while the guardian is reading."""
        stalled, alive = await harness.start_replica(running=False), await harness.start_replica()
        await stalled.counters.update("c", Op("1"), add("c", 1))
        old = await stalled.read_document("c")
        await alive.counters.update("c", Op("2"), add("c", 10))
        await alive.relay.wait_until_idle()
        async with run_guardian(alive) as guardian:
            await asyncio.wait_for(guardian.caught_up.wait(), 20)
            assert guardian.republished == 0
            await stalled.publish(old)
            await eventually(lambda: guardian.republished == 1, "the guardian republishes the current state")
        assert await read_last_value(harness, "c") == b'{"counter_id":"c","value":11}'

    async def test_foreign_record_is_followed_by_the_current_state(
        self,
        harness: ChassisHarness,
    ) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("1"), add("c", 1))
        await replica.relay.wait_until_idle()
        topic = harness.prefix + COUNTERS.name
        async with run_guardian(replica) as guardian:
            for n, header in enumerate(
                [("x", b"1"), ("ce_sequence", b"one"), ("ce_sequence", None), ("ce_source", b"/x")]
            ):
                await replica.producer.deliver(topic, key=b"c", value=b"{not json", headers=[header])  # type: ignore[list-item]
                await eventually(lambda n=n: guardian.republished == n + 1, "the guardian republishes the state")
        assert await read_last_value(harness, "c") == b'{"counter_id":"c","value":1}'

    async def test_waiting_outbox_is_left_to_its_relay_and_checked_again(self, harness: ChassisHarness) -> None:
        silent, watching = await harness.start_replica(running=False), await harness.start_replica(running=False)
        await silent.counters.update("c", Op("1"), add("c", 1))
        await silent.publish(await silent.read_document("c"))
        await silent.counters.update("c", Op("2"), add("c", 10))
        async with run_guardian(watching) as guardian:
            await asyncio.wait_for(guardian.caught_up.wait(), 20)
            assert guardian.republished == 0
            document = await silent.read_document("c")  # its events are lost, and the outbox is emptied nevertheless
            await harness.collection.update_one({"_id": "c"}, {"$set": {"outbox": [], "outbox_since": None}})
            await eventually(
                lambda: guardian.republished == 1, "the guardian checks again and publishes the current state"
            )
        records = await harness.read_records(COUNTERS, "c")
        assert read_envelope(records[-1]).sequence == document["said"][COUNTERS.name.replace(".", "_")]["sequence"]

    async def test_unreadable_aggregate_does_not_stop_the_guardian(
        self,
        harness: ChassisHarness,
    ) -> None:
        """Nor do foreign records."""
        stalled, alive = await harness.start_replica(running=False), await harness.start_replica()
        old = []
        for id in ("a", "b"):
            await stalled.counters.update(id, Op("1"), add(id, 1))
            old.append(await stalled.read_document(id))
            await alive.counters.update(id, Op("2"), add(id, 10))
        await alive.relay.wait_until_idle()
        await stalled.publish(*old)
        await harness.collection.update_one({"_id": "a"}, {"$set": {"value": "no number"}})
        topic = harness.prefix + COUNTERS.name
        await alive.producer.deliver(topic, key=b"foreign", value=b"{}", headers=[])
        stranger = build_envelope(CounterChanged, "stranger", 7, "id").headers()
        await alive.producer.deliver(topic, key=b"stranger", value=b"{}", headers=stranger)
        async with run_guardian(alive) as guardian:
            await eventually(lambda: guardian.republished == 1, "the readable one is corrected")
            await asyncio.wait_for(guardian.caught_up.wait(), 20)
        assert await read_last_value(harness, "b") == b'{"counter_id":"b","value":11}'


class TestNothingToCorrect:
    async def test_restart_republishes_nothing(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        for n in range(5):
            await replica.counters.update(f"c{n}", Op("1"), add(f"c{n}", 1))
            await replica.counters.update(f"c{n}", Op("2"), add(f"c{n}", 1))
        await replica.counters.update("c0", Op("3"), erase("c0"))
        await replica.relay.wait_until_idle()
        before = len(await harness.read_records(COUNTERS))
        for _ in range(2):
            async with run_guardian(replica) as guardian:
                await asyncio.wait_for(guardian.caught_up.wait(), 20)
                assert guardian.republished == 0
        assert len(await harness.read_records(COUNTERS)) == before

    async def test_without_doubt_the_end_of_the_topic_is_not_requested(
        self, harness: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replica = await harness.start_replica()
        async with run_guardian(replica) as guardian:
            await asyncio.wait_for(guardian.caught_up.wait(), 20)
            end_checks = []

            async def at_end(*_: object) -> bool:
                end_checks.append("end check")
                return False

            monkeypatch.setattr("chassis.messaging.guardian.is_at_end", at_end)
            for n in range(3):
                await replica.counters.update("c", Op(f"{n}"), add("c", 1))
            await replica.relay.wait_until_idle()
            newest = read_envelope((await harness.read_records(COUNTERS, "c"))[-1]).sequence
            await eventually(lambda: guardian._newest.get("c") == newest, "the guardian has read the newest record")
            assert end_checks == []


class TestConcurrentGuardians:
    async def test_guardian_corrects_its_own_outdated_record(self, harness: ChassisHarness) -> None:
        """A newer save comes between the guardian's read and its publication."""
        stalled, alive = await harness.start_replica(running=False), await harness.start_replica()
        await stalled.counters.update("c", Op("1"), add("c", 1))
        old = await stalled.read_document("c")
        await alive.counters.update("c", Op("2"), add("c", 10))
        await alive.relay.wait_until_idle()
        await stalled.publish(old)
        guardian = alive.create_guardian()
        deliver, raced = guardian._producer.deliver, asyncio.Event()

        async def deliver_late(*arguments: object, **named: object) -> None:
            if not raced.is_set():
                raced.set()
                await alive.counters.update("c", Op("3"), add("c", 100))
                await alive.relay.wait_until_idle()
            await deliver(*arguments, **named)  # type: ignore[arg-type]

        guardian._producer.deliver = deliver_late  # type: ignore[method-assign]
        task = asyncio.create_task(guardian.run())
        try:
            await eventually(lambda: guardian.republished == 2, "its own outdated record is corrected too")
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert await read_last_value(harness, "c") == b'{"counter_id":"c","value":111}'

    async def test_two_guardians_come_to_rest(self, harness: ChassisHarness) -> None:
        stalled, replica, other = (
            await harness.start_replica(running=False),
            await harness.start_replica(),
            await harness.start_replica(),
        )
        await stalled.counters.update("c", Op("1"), add("c", 1))
        old = await stalled.read_document("c")
        await replica.counters.update("c", Op("2"), add("c", 10))
        await replica.relay.wait_until_idle()
        await stalled.publish(old)
        async with run_guardian(replica) as first, run_guardian(other) as second:
            await eventually(lambda: first.republished + second.republished > 0, "one of them republishes")
            for guardian in (first, second):
                guardian.caught_up.clear()
                await asyncio.wait_for(guardian.caught_up.wait(), 20)
            assert first.republished + second.republished <= 2
        assert await read_last_value(harness, "c") == b'{"counter_id":"c","value":11}'
