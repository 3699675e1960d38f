"""A reader without a group tells every replica everything, and goes on where it was."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from chassis.messaging.topic_replica import TopicReplica
from tests.chassis.harness import COUNTERS, ChassisHarness, CounterChanged, add, erase, eventually, op

Told = list[tuple[str, int | None]]
hearing: HandlerRegistry[Told] = HandlerRegistry()


@hearing.on(CounterChanged)
async def when_a_counter_changes_note_it(event: ReceivedEvent[CounterChanged], told: Told) -> None:
    told.append((event.data.counter_id, event.data.value))


@hearing.on_tombstone(CounterChanged)
async def when_a_counter_is_gone_note_it(event: ReceivedTombstone, told: Told) -> None:
    told.append((event.key, None))


@asynccontextmanager
async def following(follower: TopicReplica[Told]) -> AsyncIterator[None]:
    task = asyncio.create_task(follower.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def follower(toys: ChassisHarness, told: Told, after: TopicReplica[Told] | None = None) -> TopicReplica[Told]:
    return TopicReplica(COUNTERS, hearing, told, connection=toys.connection, prefix=toys.prefix, after=after)


class TestTopicReplica:
    async def test_each_replica_receives_all_records_and_tombstones(self, toys: ChassisHarness) -> None:
        replica = await toys.replica()
        await replica.counters.update("a", op("1"), add("a", 1))
        await replica.counters.update("a", op("2"), erase("a"))
        await replica.relay.wait_until_idle()
        first: Told = []
        second: Told = []
        one, two = follower(toys, first), follower(toys, second)
        async with following(one), following(two):
            await one.caught_up.wait()
            await two.caught_up.wait()
        assert first == second == [("a", 1), ("a", None)]

    async def test_second_run_continues_where_the_first_ended(self, toys: ChassisHarness) -> None:
        replica = await toys.replica()
        await replica.counters.update("a", op("1"), add("a", 1))
        await replica.relay.wait_until_idle()
        told: Told = []
        one = follower(toys, told)
        async with following(one):
            await one.caught_up.wait()
        await replica.counters.update("b", op("2"), add("b", 2))
        await replica.relay.wait_until_idle()
        async with following(one):
            await eventually(lambda: len(told) == 2, "the new record is told")
        assert told == [("a", 1), ("b", 2)]

    async def test_replica_waits_until_its_predecessor_has_caught_up(self, toys: ChassisHarness) -> None:
        replica = await toys.replica()
        await replica.counters.update("a", op("1"), add("a", 1))
        await replica.relay.wait_until_idle()
        told: Told = []
        one = follower(toys, [])
        two = follower(toys, told, after=one)
        async with following(two):
            async with following(one):
                await two.caught_up.wait()
            assert one.caught_up.is_set()
        assert told == [("a", 1)]
