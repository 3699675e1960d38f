"""The last record of each key of a compacted topic is the right one, whoever published late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from chassis.messaging.guardian import Guardian
from tests.chassis.harness import (
    COUNTERS,
    ChassisHarness,
    CounterChanged,
    Replica,
    add,
    envelope,
    envelope_of,
    erase,
    eventually,
    op,
)


@asynccontextmanager
async def guarded(replica: Replica) -> AsyncIterator[Guardian]:
    guardian = replica.guardian()
    task = asyncio.create_task(guardian.run())
    try:
        yield guardian
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def last_of(toys: ChassisHarness, key: str) -> bytes | None:
    return (await toys.said(COUNTERS, key))[-1].value


class TestOutdatedRecord:
    async def test_old_state_after_a_tombstone_is_followed_by_tombstone(
        self,
        toys: ChassisHarness,
    ) -> None:
        """A stalled relay publishes the old state late. The tombstone is republished with the same id and sequence."""
        stalled, alive = await toys.replica(running=False), await toys.replica()
        await stalled.counters.update("c", op("1"), add("c", 1))
        old = await stalled.document("c")
        await alive.counters.update("c", op("2"), erase("c"))
        await alive.relay.wait_until_idle()
        assert await last_of(toys, "c") is None
        await stalled.publish(old)
        assert await last_of(toys, "c") is not None

        async with guarded(alive) as guardian:
            await eventually(lambda: guardian.republished == 1, "the guardian says the tombstone again")
        said = await toys.said(COUNTERS, "c")
        assert said[-1].value is None
        first = next(record for record in said if record.value is None)
        assert (envelope_of(said[-1]).id, envelope_of(said[-1]).sequence) == (
            envelope_of(first).id,
            envelope_of(first).sequence,
        )

    async def test_stale_state_is_followed_by_the_current_state(
        self,
        toys: ChassisHarness,
    ) -> None:
        """The stale state arrives while the guardian is reading."""
        stalled, alive = await toys.replica(running=False), await toys.replica()
        await stalled.counters.update("c", op("1"), add("c", 1))
        old = await stalled.document("c")
        await alive.counters.update("c", op("2"), add("c", 10))
        await alive.relay.wait_until_idle()
        async with guarded(alive) as guardian:
            await asyncio.wait_for(guardian.caught_up.wait(), 20)
            assert guardian.republished == 0
            await stalled.publish(old)
            await eventually(lambda: guardian.republished == 1, "the guardian says the current state again")
        assert await last_of(toys, "c") == b'{"counter_id":"c","value":11}'

    async def test_foreign_record_is_followed_by_the_current_state(
        self,
        toys: ChassisHarness,
    ) -> None:
        one = await toys.replica()
        await one.counters.update("c", op("1"), add("c", 1))
        await one.relay.wait_until_idle()
        topic = toys.prefix + COUNTERS.name
        async with guarded(one) as guardian:
            for n, header in enumerate(
                [("x", b"1"), ("ce_sequence", b"one"), ("ce_sequence", None), ("ce_source", b"/x")]
            ):
                await one.producer.deliver(topic, key=b"c", value=b"{not json", headers=[header])  # type: ignore[list-item]
                await eventually(lambda n=n: guardian.republished == n + 1, "the guardian says the state again")
        assert await last_of(toys, "c") == b'{"counter_id":"c","value":1}'

    async def test_waiting_outbox_is_left_to_its_relay_and_checked_again(self, toys: ChassisHarness) -> None:
        silent, watching = await toys.replica(running=False), await toys.replica(running=False)
        await silent.counters.update("c", op("1"), add("c", 1))
        await silent.publish(await silent.document("c"))
        await silent.counters.update("c", op("2"), add("c", 10))
        async with guarded(watching) as guardian:
            await asyncio.wait_for(guardian.caught_up.wait(), 20)
            assert guardian.republished == 0
            document = await silent.document(
                "c"
            )  # its events are lost on the way, and the outbox is emptied all the same
            await toys.collection.update_one({"_id": "c"}, {"$set": {"outbox": [], "outbox_since": None}})
            await eventually(lambda: guardian.republished == 1, "the guardian looks again and says the current state")
        said = await toys.said(COUNTERS, "c")
        assert envelope_of(said[-1]).sequence == document["said"][COUNTERS.name.replace(".", "_")]["sequence"]

    async def test_unreadable_aggregate_does_not_stop_the_guardian(
        self,
        toys: ChassisHarness,
    ) -> None:
        """Nor do foreign records."""
        stalled, alive = await toys.replica(running=False), await toys.replica()
        old = []
        for id in ("a", "b"):
            await stalled.counters.update(id, op("1"), add(id, 1))
            old.append(await stalled.document(id))
            await alive.counters.update(id, op("2"), add(id, 10))
        await alive.relay.wait_until_idle()
        await stalled.publish(*old)
        await toys.collection.update_one({"_id": "a"}, {"$set": {"value": "no number"}})
        topic = toys.prefix + COUNTERS.name
        await alive.producer.deliver(topic, key=b"foreign", value=b"{}", headers=[])
        stranger = envelope(CounterChanged, "stranger", 7, "id").headers()
        await alive.producer.deliver(topic, key=b"stranger", value=b"{}", headers=stranger)
        async with guarded(alive) as guardian:
            await eventually(lambda: guardian.republished == 1, "the readable one is mended")
            await asyncio.wait_for(guardian.caught_up.wait(), 20)
        assert await last_of(toys, "b") == b'{"counter_id":"b","value":11}'


class TestNothingToCorrect:
    async def test_restart_republishes_nothing(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        for n in range(5):
            await one.counters.update(f"c{n}", op("1"), add(f"c{n}", 1))
            await one.counters.update(f"c{n}", op("2"), add(f"c{n}", 1))
        await one.counters.update("c0", op("3"), erase("c0"))
        await one.relay.wait_until_idle()
        before = len(await toys.said(COUNTERS))
        for _ in range(2):
            async with guarded(one) as guardian:
                await asyncio.wait_for(guardian.caught_up.wait(), 20)
                assert guardian.republished == 0
        assert len(await toys.said(COUNTERS)) == before

    async def test_without_doubt_the_end_of_the_topic_is_not_requested(
        self, toys: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = await toys.replica()
        async with guarded(one) as guardian:
            await asyncio.wait_for(guardian.caught_up.wait(), 20)
            asked = []

            async def at_end(*_: object) -> bool:
                asked.append("where the end is")
                return False

            monkeypatch.setattr(guardian, "_at_end", at_end)
            for n in range(3):
                await one.counters.update("c", op(f"{n}"), add("c", 1))
            await one.relay.wait_until_idle()
            newest = envelope_of((await toys.said(COUNTERS, "c"))[-1]).sequence
            await eventually(lambda: guardian._newest.get("c") == newest, "it has read what was said last")
            assert asked == []


class TestConcurrentGuardians:
    async def test_guardian_corrects_its_own_outdated_record(self, toys: ChassisHarness) -> None:
        """A newer save comes between the guardian's read and its publication."""
        stalled, alive = await toys.replica(running=False), await toys.replica()
        await stalled.counters.update("c", op("1"), add("c", 1))
        old = await stalled.document("c")
        await alive.counters.update("c", op("2"), add("c", 10))
        await alive.relay.wait_until_idle()
        await stalled.publish(old)
        guardian = alive.guardian()
        deliver, raced = guardian._producer.deliver, asyncio.Event()

        async def late(*arguments: object, **named: object) -> None:
            if not raced.is_set():
                raced.set()
                await alive.counters.update("c", op("3"), add("c", 100))
                await alive.relay.wait_until_idle()
            await deliver(*arguments, **named)  # type: ignore[arg-type]

        guardian._producer.deliver = late  # type: ignore[method-assign]
        task = asyncio.create_task(guardian.run())
        try:
            await eventually(lambda: guardian.republished == 2, "its own outdated word is mended too")
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert await last_of(toys, "c") == b'{"counter_id":"c","value":111}'

    async def test_two_guardians_come_to_rest(self, toys: ChassisHarness) -> None:
        stalled, one, other = await toys.replica(running=False), await toys.replica(), await toys.replica()
        await stalled.counters.update("c", op("1"), add("c", 1))
        old = await stalled.document("c")
        await one.counters.update("c", op("2"), add("c", 10))
        await one.relay.wait_until_idle()
        await stalled.publish(old)
        async with guarded(one) as first, guarded(other) as second:
            await eventually(lambda: first.republished + second.republished > 0, "one of them speaks")
            for guardian in (first, second):
                guardian.caught_up.clear()
                await asyncio.wait_for(guardian.caught_up.wait(), 20)
            assert first.republished + second.republished <= 2
        assert await last_of(toys, "c") == b'{"counter_id":"c","value":11}'
