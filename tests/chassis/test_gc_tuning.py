"""A full collection examines only objects created since the last one; once an hour, all objects."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chassis import gc_tuning
from chassis.gc_tuning import run_gc_tuning, set_collected_aside


class SelfReference:
    """An object that refers to itself, so that only a collection can free it."""

    def __init__(self) -> None:
        self.reference = self


@contextmanager
def run_tuning() -> Iterator["asyncio.Task[None]"]:
    task = asyncio.create_task(run_gc_tuning())
    try:
        yield task
    finally:
        task.cancel()


async def wait_for_start() -> None:
    """Wait until the task has taken its first step."""
    await asyncio.sleep(0)


class TestSetAside:
    async def test_survivors_are_skipped_by_the_next_full_collection(self) -> None:
        with run_tuning():
            await wait_for_start()
            cycle = SelfReference()
            assert any(tracked is cycle for tracked in gc.get_objects())
            gc.collect()
            assert not any(tracked is cycle for tracked in gc.get_objects())

    def test_afterwards_all_objects_are_collected_again(self) -> None:
        cycle = SelfReference()
        with set_collected_aside():
            gc.collect()
        assert any(tracked is cycle for tracked in gc.get_objects())

    async def test_unreachable_cycle_is_freed_by_the_hourly_collection(
        self,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with run_tuning() as task:
            await wait_for_start()
            cycle = SelfReference()
            reference = weakref.ref(cycle)
            gc.collect()
            del cycle
            gc.collect()
            assert reference() is not None
            task.cancel()
            await asyncio.wait({task})
        monkeypatch.setattr(gc_tuning, "FULL_COLLECTION_INTERVAL_S", 0)
        with run_tuning():
            await wait_for_start()
            await wait_for_start()
            assert reference() is None

    async def test_nothing_stays_set_aside_after_the_end(self) -> None:
        with run_tuning() as task:
            await wait_for_start()
            assert gc.get_freeze_count() > 0
        await asyncio.wait({task})
        assert gc.get_freeze_count() == 0
