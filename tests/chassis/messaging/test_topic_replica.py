"""Every replica of a topic receives all records, and continues where it stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from chassis.core.commands import Op
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent, ReceivedTombstone
from chassis.messaging.topic_replica import TopicReplica
from tests.chassis.harness import COUNTERS, ChassisHarness, CounterChanged, add, erase, eventually

ReceivedStates = list[tuple[str, int | None]]
handlers: HandlerRegistry[ReceivedStates] = HandlerRegistry()


@handlers.on(CounterChanged)
async def when_a_counter_changes_note_it(event: ReceivedEvent[CounterChanged], states: ReceivedStates) -> None:
    states.append((event.data.counter_id, event.data.value))


@handlers.on_tombstone(CounterChanged)
async def when_a_counter_is_gone_note_it(event: ReceivedTombstone, states: ReceivedStates) -> None:
    states.append((event.key, None))


@asynccontextmanager
async def run_replica(topic_replica: TopicReplica[ReceivedStates]) -> AsyncIterator[None]:
    task = asyncio.create_task(topic_replica.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def create_replica(
    harness: ChassisHarness, states: ReceivedStates, after: TopicReplica[ReceivedStates] | None = None
) -> TopicReplica[ReceivedStates]:
    return TopicReplica(
        COUNTERS, handlers, states, connection=harness.connection, prefix=harness.prefix, service="toys", after=after
    )


class TestTopicReplica:
    async def test_each_replica_receives_all_records_and_tombstones(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("a", Op("1"), add("a", 1))
        await replica.counters.update("a", Op("2"), erase("a"))
        await replica.relay.wait_until_idle()
        first_states: ReceivedStates = []
        second_states: ReceivedStates = []
        first, second = create_replica(harness, first_states), create_replica(harness, second_states)
        async with run_replica(first), run_replica(second):
            await first.caught_up.wait()
            await second.caught_up.wait()
        assert first_states == second_states == [("a", 1), ("a", None)]

    async def test_second_run_continues_where_the_first_ended(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("a", Op("1"), add("a", 1))
        await replica.relay.wait_until_idle()
        states: ReceivedStates = []
        first = create_replica(harness, states)
        async with run_replica(first):
            await first.caught_up.wait()
        await replica.counters.update("b", Op("2"), add("b", 2))
        await replica.relay.wait_until_idle()
        async with run_replica(first):
            await eventually(lambda: len(states) == 2, "the new record is received")
        assert states == [("a", 1), ("b", 2)]

    async def test_replica_waits_until_its_predecessor_has_caught_up(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("a", Op("1"), add("a", 1))
        await replica.relay.wait_until_idle()
        states: ReceivedStates = []
        first = create_replica(harness, [])
        second = create_replica(harness, states, after=first)
        async with run_replica(second):
            async with run_replica(first):
                await second.caught_up.wait()
            assert first.caught_up.is_set()
        assert states == [("a", 1)]
