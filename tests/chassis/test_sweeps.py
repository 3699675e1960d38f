"""What is due is driven from the document itself, on the clock that it belongs to."""

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
DAY_A_SECOND = 86400.0


class Followed:
    """Acts on a counter by counting it and moving its time on; fails for the ids in ``broken``."""

    def __init__(self, counters: Aggregates[Counter], on: str = "due") -> None:
        self.counters = counters
        self.on = on
        self.broken: set[str] = set()
        self.seen: list[str] = []

    async def __call__(self, stored: Stored[Counter]) -> None:
        self.seen.append(stored.id)
        if stored.id in self.broken:
            raise RuntimeError("this one never works")
        slot = getattr(stored.state, self.on)
        await self.counters.update(
            stored.id, Op(f"{self.on}/{slot}"), set_fields(stored.id, value=stored.state.value + 1, **{self.on: None})
        )


class Ahead(Clock):
    """Its machine time may be moved on."""

    moved = timedelta()

    def machine_now(self) -> datetime:
        return super().machine_now() + self.moved


def figure(name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"collection": "counters", "clock": "due"})


@asynccontextmanager
async def driven(sweep: Sweep[Counter], clock: Clock) -> AsyncIterator[None]:
    """The sweep runs, and has searched once."""
    task = asyncio.create_task(run_sweep(sweep, clock))
    try:
        await eventually(lambda: sweep.aggregates.due_queues[sweep.on].horizon is not None, "it has searched")
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps search once, and then not for an hour."""
    monkeypatch.setattr(sweeps, "rest_after", lambda *_: 3600.0)


class TestSweepTime:
    async def test_due_is_measured_by_business_time(self, harness: ChassisHarness, tmp_path: Path) -> None:
        one = await harness.start_replica()
        clock = Clock(tmp_path / "clock.jsonl")
        clock.set_speed(0)
        due = clock.now() + timedelta(days=30)
        await one.counters.update("c", Op("1"), set_fields("c", due=due))
        follow = Followed(one.counters)
        sweep = Sweep(one.counters, follow)
        assert await sweep.once(clock) == 0
        clock.set_speed(0, business=due - timedelta(seconds=1))
        assert await sweep.once(clock) == 0
        clock.set_speed(0, business=due)
        assert await sweep.once(clock) == 1
        assert await sweep.once(clock) == 0
        assert (await harness.read_counter("c")).value == 1

    async def test_lease_is_measured_by_machine_time(self, harness: ChassisHarness, tmp_path: Path) -> None:
        one = await harness.start_replica()
        clock = Clock(tmp_path / "clock.jsonl")
        clock.set_speed(1, business=clock.machine_now() + timedelta(days=1000))
        await one.counters.update("late", Op("1"), set_fields("late", lease=clock.machine_now() + timedelta(hours=1)))
        await one.counters.update("over", Op("1"), set_fields("over", lease=clock.machine_now() - timedelta(seconds=1)))
        follow = Followed(one.counters, on="lease")
        assert await Sweep(one.counters, follow, on="lease").once(clock) == 1
        assert follow.seen == ["over"]

    async def test_overdue_counts_long_waits_only(self, harness: ChassisHarness, tmp_path: Path) -> None:
        """A jump of business time makes many follow-ups due at once, but none overdue."""
        one = await harness.start_replica()
        clock = Ahead(tmp_path / "clock.jsonl")
        clock.set_speed(0, business=LONG_AGO)
        for id in ("a", "b"):
            await one.counters.update(id, Op("1"), set_fields(id, due=LONG_AGO + timedelta(days=1)))
        follow = Followed(one.counters)
        follow.broken = {"a"}
        sweep = Sweep(one.counters, follow)
        clock.set_speed(
            0, business=LONG_AGO + timedelta(days=30)
        )  # business time jumps: both are due, and nobody is late
        await sweep.once(clock)
        assert (figure("viceversa_due"), figure("viceversa_overdue")) == (2, 0)
        clock.moved = sweeps.OVERDUE_AFTER
        await sweep.once(clock)
        assert (figure("viceversa_due"), figure("viceversa_overdue")) == (1, 1)
        follow.broken.clear()
        await sweep.once(clock)
        await sweep.once(clock)
        assert (figure("viceversa_due"), figure("viceversa_overdue")) == (0, 0)

    async def test_jump_of_business_time_triggers_a_new_search(self, harness: ChassisHarness, tmp_path: Path) -> None:
        one, other = await harness.start_replica(), await harness.start_replica()
        clock = Clock(tmp_path / "clock.jsonl")
        clock.set_speed(0, business=LONG_AGO)
        follow = Followed(one.counters)
        sweep = Sweep(one.counters, follow)
        assert sweep.behind(clock), "it has never searched"
        async with driven(sweep, clock):
            await other.counters.update("c", Op("1"), set_fields("c", due=LONG_AGO + timedelta(days=30)))
            assert not sweep.behind(clock)
            clock.set_speed(0, business=LONG_AGO + timedelta(days=30))
            await eventually(lambda: follow.seen == ["c"], "it is found")


class TestSweepFailure:
    async def test_failed_action_is_retried_and_blocks_no_other(
        self, harness: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweeps, "SEARCH_PAGE", 3)
        one = await harness.start_replica()
        for n in range(10):
            await one.counters.update(f"c{n}", Op("1"), set_fields(f"c{n}", due=LONG_AGO + timedelta(days=n // 4)))
        follow = Followed(one.counters)
        follow.broken = {f"c{n}" for n in range(7)}  # the oldest, and more than a page
        sweep = Sweep(one.counters, follow)
        assert await sweep.once(harness.clock) == 10
        assert sorted(follow.seen) == [f"c{n}" for n in range(10)]
        follow.broken.clear()
        assert await sweep.once(harness.clock) == 7
        assert await sweep.once(harness.clock) == 0

    async def test_unreadable_aggregate_blocks_no_other(self, harness: ChassisHarness) -> None:
        one = await harness.start_replica()
        for id in ("a", "b"):
            await one.counters.update(id, Op("1"), set_fields(id, due=LONG_AGO))
        await harness.collection.update_one({"_id": "a"}, {"$set": {"value": "no number"}})
        follow = Followed(one.counters)
        await Sweep(one.counters, follow).once(harness.clock)
        assert follow.seen == ["b"]

    async def test_concurrent_sweeps_act_once_for_each_slot(self, harness: ChassisHarness) -> None:
        one, other = await harness.start_replica(), await harness.start_replica()
        for n in range(20):
            await one.counters.update(f"c{n}", Op("1"), set_fields(f"c{n}", due=LONG_AGO))
        await asyncio.gather(
            *(Sweep(replica.counters, Followed(replica.counters)).once(harness.clock) for replica in (one, other))
        )
        assert {(await harness.read_counter(f"c{n}")).value for n in range(20)} == {1}

    async def test_leftovers_of_another_process_are_swept(self, harness: ChassisHarness) -> None:
        one, gone = await harness.start_replica(), await harness.start_replica()
        follow = Followed(one.counters, "lease")
        async with driven(Sweep(one.counters, follow, on="lease"), harness.clock):
            await gone.counters.update("c", Op("1"), set_fields("c", lease=LONG_AGO))
            await eventually(lambda: follow.seen == ["c"], "it is done")

    async def test_sweep_continues_after_the_store_was_unreachable(self, harness: ChassisHarness) -> None:
        one = await harness.start_replica()
        await one.counters.update("c", Op("1"), set_fields("c", due=LONG_AGO))
        follow = Followed(one.counters)
        failing = Sweep(one.counters, follow)
        search, lost = failing._page, fail_once(ConnectionFailure("lost"))

        async def page(now: datetime, after: object) -> object:
            await lost()
            return await search(now, None)

        object.__setattr__(failing, "_page", page)
        async with driven(failing, harness.clock):
            await eventually(lambda: follow.seen == ["c"], "the sweep comes round again")


class TestDueQueue:
    @pytest.mark.usefixtures("seldom")
    async def test_save_is_followed_up_in_time_without_another_search(
        self,
        harness: ChassisHarness,
    ) -> None:
        one = await harness.start_replica()
        follow = Followed(one.counters, "lease")
        async with driven(Sweep(one.counters, follow, on="lease"), harness.clock):
            await one.counters.update("now", Op("1"), set_fields("now", lease=harness.clock.machine_now()))
            soon = harness.clock.machine_now() + timedelta(seconds=0.5)
            await one.counters.update("soon", Op("1"), set_fields("soon", lease=soon))
            await eventually(lambda: follow.seen == ["now", "soon"], "both are done")
            assert harness.clock.machine_now() >= soon
            await one.counters.update(
                "later", Op("1"), set_fields("later", lease=harness.clock.machine_now() + timedelta(hours=1))
            )
            assert not one.counters.due_queues["lease"], "it is not kept in memory until then"

    @pytest.mark.usefixtures("seldom")
    async def test_search_looks_ahead_by_the_speed_of_business_time(
        self, harness: ChassisHarness, tmp_path: Path
    ) -> None:
        one = await harness.start_replica()
        clock = Clock(tmp_path / "clock.jsonl")
        clock.set_speed(DAY_A_SECOND, business=LONG_AGO, until=LONG_AGO)
        await one.counters.update("c", Op("1"), set_fields("c", due=LONG_AGO + timedelta(days=1)))
        await one.counters.update("far", Op("1"), set_fields("far", due=LONG_AGO + timedelta(days=100)))
        follow = Followed(one.counters)
        async with driven(Sweep(one.counters, follow), clock):
            await eventually(lambda: len(one.counters.due_queues["due"]) == 1, "the one of tomorrow is at hand")
            assert follow.seen == []
            clock.set_speed(0, business=LONG_AGO + timedelta(days=1))
            await eventually(lambda: follow.seen == ["c"], "it has its turn")

    async def test_follow_up_that_was_moved_is_not_acted_on(self, harness: ChassisHarness) -> None:
        one, other = await harness.start_replica(), await harness.start_replica()
        follow = Followed(one.counters, "lease")
        sweep = Sweep(one.counters, follow, on="lease")
        assert await sweep.once(harness.clock) == 0
        sweep.aggregates.due_queues["lease"].horizon = harness.clock.machine_now() + timedelta(hours=1)
        for id in ("done", "put off", "left"):
            await one.counters.update(id, Op("1"), set_fields(id, lease=harness.clock.machine_now()))
        await other.counters.update("done", Op("2"), set_fields("done", lease=None))
        await other.counters.update(
            "put off", Op("2"), set_fields("put off", lease=harness.clock.machine_now() + timedelta(hours=1))
        )
        assert await sweep.act_on_queue(harness.clock) == 1
        assert follow.seen == ["left"]
        assert await sweep.act_on_queue(harness.clock) == 0

    def test_pops_each_id_once_in_order_and_not_before_its_time(self) -> None:
        at_hand = DueQueue()
        at_hand.push("lost", LONG_AGO)  # nobody has searched yet, so a search will see it
        at_hand.horizon = LONG_AGO + timedelta(hours=2)
        for id, hours in (("b", 1), ("a", 0), ("b", 1), ("c", 2), ("d", 3)):
            at_hand.push(id, LONG_AGO + timedelta(hours=hours))
        at_hand.push("never", None)
        assert at_hand.pop_due(LONG_AGO + timedelta(hours=1), 1) == ["a"]
        assert at_hand.pop_due(LONG_AGO + timedelta(hours=1), 9) == ["b"]
        assert at_hand.pop_due(LONG_AGO + timedelta(hours=9), 9) == ["c"]
        assert not at_hand


class TestSweepInterval:
    def test_rest_depends_on_the_search_and_not_on_the_actions(self) -> None:
        assert rest_after(SearchStatistics(found=400, searching=0.001), EMBEDDED) == sweeps.MIN_INTERVAL_S
        assert rest_after(SearchStatistics(found=0, searching=0.1), EMBEDDED) == pytest.approx(3.0)
        assert rest_after(SearchStatistics(found=0, searching=10), EMBEDDED) == EMBEDDED.max_rest_s, (
            "one slow search holds nothing up for minutes"
        )
