"""Follow-ups are driven by times in the documents, each on its own clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from chassis import sweeps
from chassis.core.clocks import Clock
from chassis.core.commands import Op
from chassis.storage.aggregates import Aggregates, Stored
from chassis.storage.due_queue import DueQueue
from chassis.storage.mongo import ConnectionFailure
from chassis.storage.store_profile import EMBEDDED
from chassis.sweeps import SearchStatistics, Sweep, rest_after, run_sweep
from tests.chassis.harness import ChassisHarness, Counter, eventually, fail_once, set_fields

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
DAY_PER_SECOND = 86400.0


class CountingAction:
    """An action that counts its calls for a counter and clears the counter's time; fails for the ids in ``broken``."""

    def __init__(self, counters: Aggregates[Counter], on: str = "due") -> None:
        self.counters = counters
        self.on = on
        self.broken: set[str] = set()
        self.acted_on: list[str] = []

    async def __call__(self, stored: Stored[Counter]) -> None:
        self.acted_on.append(stored.id)
        if stored.id in self.broken:
            raise RuntimeError("this action always fails")
        slot = getattr(stored.state, self.on)
        await self.counters.update(
            stored.id, Op(f"{self.on}/{slot}"), set_fields(stored.id, value=stored.state.value + 1, **{self.on: None})
        )


class ShiftedClock(Clock):
    """A clock whose machine time is moved forward by ``offset``."""

    offset = timedelta()

    def machine_now(self) -> datetime:
        return super().machine_now() + self.offset


def read_metric(name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"collection": "counters", "clock": "due"})


@asynccontextmanager
async def run_in_background(sweep: Sweep[Counter], clock: Clock) -> AsyncIterator[None]:
    """Run the sweep, and wait for its first search."""
    task = asyncio.create_task(run_sweep(sweep, clock))
    try:
        await eventually(lambda: sweep.aggregates.due_queues[sweep.on].horizon is not None, "the sweep has searched")
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def rare_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sweeps search only once an hour."""
    monkeypatch.setattr(sweeps, "rest_after", lambda *_: 3600.0)


class TestSweepTime:
    async def test_due_is_measured_by_business_time(self, harness: ChassisHarness, tmp_path: Path) -> None:
        replica = await harness.start_replica()
        clock = Clock(tmp_path / "clock.jsonl")
        clock.set_speed(0)
        due = clock.now() + timedelta(days=30)
        await replica.counters.update("c", Op("1"), set_fields("c", due=due))
        action = CountingAction(replica.counters)
        sweep = Sweep(replica.counters, action)
        assert await sweep.once(clock) == 0
        clock.set_speed(0, business=due - timedelta(seconds=1))
        assert await sweep.once(clock) == 0
        clock.set_speed(0, business=due)
        assert await sweep.once(clock) == 1
        assert await sweep.once(clock) == 0
        assert (await harness.read_counter("c")).value == 1

    async def test_lease_is_measured_by_machine_time(self, harness: ChassisHarness, tmp_path: Path) -> None:
        replica = await harness.start_replica()
        clock = Clock(tmp_path / "clock.jsonl")
        clock.set_speed(1, business=clock.machine_now() + timedelta(days=1000))
        await replica.counters.update(
            "late", Op("1"), set_fields("late", lease=clock.machine_now() + timedelta(hours=1))
        )
        await replica.counters.update(
            "over", Op("1"), set_fields("over", lease=clock.machine_now() - timedelta(seconds=1))
        )
        action = CountingAction(replica.counters, on="lease")
        assert await Sweep(replica.counters, action, on="lease").once(clock) == 1
        assert action.acted_on == ["over"]

    async def test_overdue_counts_long_waits_only(self, harness: ChassisHarness, tmp_path: Path) -> None:
        """A jump of business time makes many follow-ups due at once, but none overdue."""
        replica = await harness.start_replica()
        clock = ShiftedClock(tmp_path / "clock.jsonl")
        clock.set_speed(0, business=LONG_AGO)
        for id in ("a", "b"):
            await replica.counters.update(id, Op("1"), set_fields(id, due=LONG_AGO + timedelta(days=1)))
        action = CountingAction(replica.counters)
        action.broken = {"a"}
        sweep = Sweep(replica.counters, action)
        clock.set_speed(
            0, business=LONG_AGO + timedelta(days=30)
        )  # business time jumps: both are due, and none is overdue
        await sweep.once(clock)
        assert (read_metric("viceversa_due"), read_metric("viceversa_overdue")) == (2, 0)
        clock.offset = sweeps.OVERDUE_AFTER
        await sweep.once(clock)
        assert (read_metric("viceversa_due"), read_metric("viceversa_overdue")) == (1, 1)
        action.broken.clear()
        await sweep.once(clock)
        await sweep.once(clock)
        assert (read_metric("viceversa_due"), read_metric("viceversa_overdue")) == (0, 0)

    async def test_jump_of_business_time_triggers_a_new_search(self, harness: ChassisHarness, tmp_path: Path) -> None:
        replica, other = await harness.start_replica(), await harness.start_replica()
        clock = Clock(tmp_path / "clock.jsonl")
        clock.set_speed(0, business=LONG_AGO)
        action = CountingAction(replica.counters)
        sweep = Sweep(replica.counters, action)
        assert sweep.behind(clock), "the sweep has never searched"
        async with run_in_background(sweep, clock):
            await other.counters.update("c", Op("1"), set_fields("c", due=LONG_AGO + timedelta(days=30)))
            assert not sweep.behind(clock)
            clock.set_speed(0, business=LONG_AGO + timedelta(days=30))
            await eventually(lambda: action.acted_on == ["c"], "the action has run")


class TestSweepFailure:
    async def test_failed_action_is_retried_and_blocks_no_other(
        self, harness: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweeps, "SEARCH_PAGE", 3)
        replica = await harness.start_replica()
        for n in range(10):
            await replica.counters.update(f"c{n}", Op("1"), set_fields(f"c{n}", due=LONG_AGO + timedelta(days=n // 4)))
        action = CountingAction(replica.counters)
        action.broken = {f"c{n}" for n in range(7)}  # the oldest ones, and more than a page
        sweep = Sweep(replica.counters, action)
        assert await sweep.once(harness.clock) == 10
        assert sorted(action.acted_on) == [f"c{n}" for n in range(10)]
        action.broken.clear()
        assert await sweep.once(harness.clock) == 7
        assert await sweep.once(harness.clock) == 0

    async def test_unreadable_aggregate_blocks_no_other(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        for id in ("a", "b"):
            await replica.counters.update(id, Op("1"), set_fields(id, due=LONG_AGO))
        await harness.collection.update_one({"_id": "a"}, {"$set": {"value": "no number"}})
        action = CountingAction(replica.counters)
        await Sweep(replica.counters, action).once(harness.clock)
        assert action.acted_on == ["b"]

    async def test_concurrent_sweeps_act_once_for_each_slot(self, harness: ChassisHarness) -> None:
        replica, other = await harness.start_replica(), await harness.start_replica()
        for n in range(20):
            await replica.counters.update(f"c{n}", Op("1"), set_fields(f"c{n}", due=LONG_AGO))
        await asyncio.gather(
            *(
                Sweep(replica.counters, CountingAction(replica.counters)).once(harness.clock)
                for replica in (replica, other)
            )
        )
        assert {(await harness.read_counter(f"c{n}")).value for n in range(20)} == {1}

    async def test_leftovers_of_another_process_are_swept(self, harness: ChassisHarness) -> None:
        replica, crashed = await harness.start_replica(), await harness.start_replica()
        action = CountingAction(replica.counters, "lease")
        async with run_in_background(Sweep(replica.counters, action, on="lease"), harness.clock):
            await crashed.counters.update("c", Op("1"), set_fields("c", lease=LONG_AGO))
            await eventually(lambda: action.acted_on == ["c"], "the action has run")

    async def test_sweep_continues_after_the_store_was_unreachable(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("1"), set_fields("c", due=LONG_AGO))
        action = CountingAction(replica.counters)
        failing = Sweep(replica.counters, action)
        search, lost = failing._page, fail_once(ConnectionFailure("lost"))

        async def page(now: datetime, after: object) -> object:
            await lost()
            return await search(now, None)

        object.__setattr__(failing, "_page", page)
        async with run_in_background(failing, harness.clock):
            await eventually(lambda: action.acted_on == ["c"], "the sweep runs again")


class TestDueQueue:
    @pytest.mark.usefixtures("rare_searches")
    async def test_save_is_followed_up_in_time_without_another_search(
        self,
        harness: ChassisHarness,
    ) -> None:
        replica = await harness.start_replica()
        action = CountingAction(replica.counters, "lease")
        async with run_in_background(Sweep(replica.counters, action, on="lease"), harness.clock):
            await replica.counters.update("now", Op("1"), set_fields("now", lease=harness.clock.machine_now()))
            soon = harness.clock.machine_now() + timedelta(seconds=0.5)
            await replica.counters.update("soon", Op("1"), set_fields("soon", lease=soon))
            await eventually(lambda: action.acted_on == ["now", "soon"], "both actions have run")
            assert harness.clock.machine_now() >= soon
            await replica.counters.update(
                "later", Op("1"), set_fields("later", lease=harness.clock.machine_now() + timedelta(hours=1))
            )
            assert not replica.counters.due_queues["lease"], "a later follow-up is not kept in memory"

    @pytest.mark.usefixtures("rare_searches")
    async def test_search_looks_ahead_by_the_speed_of_business_time(
        self, harness: ChassisHarness, tmp_path: Path
    ) -> None:
        replica = await harness.start_replica()
        clock = Clock(tmp_path / "clock.jsonl")
        clock.set_speed(DAY_PER_SECOND, business=LONG_AGO, until=LONG_AGO)
        await replica.counters.update("c", Op("1"), set_fields("c", due=LONG_AGO + timedelta(days=1)))
        await replica.counters.update("far", Op("1"), set_fields("far", due=LONG_AGO + timedelta(days=100)))
        action = CountingAction(replica.counters)
        async with run_in_background(Sweep(replica.counters, action), clock):
            await eventually(
                lambda: len(replica.counters.due_queues["due"]) == 1, "the follow-up of tomorrow is in the queue"
            )
            assert action.acted_on == []
            clock.set_speed(0, business=LONG_AGO + timedelta(days=1))
            await eventually(lambda: action.acted_on == ["c"], "the action has run")

    async def test_follow_up_that_was_moved_is_not_acted_on(self, harness: ChassisHarness) -> None:
        replica, other = await harness.start_replica(), await harness.start_replica()
        action = CountingAction(replica.counters, "lease")
        sweep = Sweep(replica.counters, action, on="lease")
        assert await sweep.once(harness.clock) == 0
        sweep.aggregates.due_queues["lease"].horizon = harness.clock.machine_now() + timedelta(hours=1)
        for id in ("done", "put off", "left"):
            await replica.counters.update(id, Op("1"), set_fields(id, lease=harness.clock.machine_now()))
        await other.counters.update("done", Op("2"), set_fields("done", lease=None))
        await other.counters.update(
            "put off", Op("2"), set_fields("put off", lease=harness.clock.machine_now() + timedelta(hours=1))
        )
        assert await sweep.act_on_queue(harness.clock) == 1
        assert action.acted_on == ["left"]
        assert await sweep.act_on_queue(harness.clock) == 0

    def test_pops_each_id_once_in_order_and_not_before_its_time(self) -> None:
        due_queue = DueQueue()
        due_queue.push("lost", LONG_AGO)  # before the first search, which will find it
        due_queue.horizon = LONG_AGO + timedelta(hours=2)
        for id, hours in (("b", 1), ("a", 0), ("b", 1), ("c", 2), ("d", 3)):
            due_queue.push(id, LONG_AGO + timedelta(hours=hours))
        due_queue.push("never", None)
        assert due_queue.pop_due(LONG_AGO + timedelta(hours=1), 1) == ["a"]
        assert due_queue.pop_due(LONG_AGO + timedelta(hours=1), 9) == ["b"]
        assert due_queue.pop_due(LONG_AGO + timedelta(hours=9), 9) == ["c"]
        assert not due_queue


class TestSweepInterval:
    def test_rest_depends_on_the_search_and_not_on_the_actions(self) -> None:
        assert rest_after(SearchStatistics(found=400, searching=0.001), EMBEDDED) == sweeps.MIN_INTERVAL_S
        assert rest_after(SearchStatistics(found=0, searching=0.1), EMBEDDED) == pytest.approx(3.0)
        assert rest_after(SearchStatistics(found=0, searching=10), EMBEDDED) == EMBEDDED.max_rest_s, (
            "a slow search does not delay others for minutes"
        )
