"""A full collection looks at what came since the last one; once in a while, at everything."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chassis import gc_tuning
from chassis.gc_tuning import run_gc_tuning, set_collected_aside


class Somebody:
    """In a circle of one, so that no last reference to it ever goes away."""

    def __init__(self) -> None:
        self.me = self


@contextmanager
def running() -> Iterator["asyncio.Task[None]"]:
    task = asyncio.create_task(run_gc_tuning())
    try:
        yield task
    finally:
        task.cancel()


async def begun() -> None:
    """Until the task has taken its first step."""
    await asyncio.sleep(0)


class TestSetAside:
    async def test_survivors_are_skipped_by_the_next_full_collection(self) -> None:
        with running():
            await begun()
            somebody = Somebody()
            assert any(one is somebody for one in gc.get_objects())
            gc.collect()
            assert not any(one is somebody for one in gc.get_objects())

    def test_afterwards_all_objects_are_collected_again(self) -> None:
        somebody = Somebody()
        with set_collected_aside():
            gc.collect()
        assert any(one is somebody for one in gc.get_objects())

    async def test_unreachable_cycle_is_freed_by_the_hourly_collection(
        self,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with running() as task:
            await begun()
            somebody = Somebody()
            known = weakref.ref(somebody)
            gc.collect()
            del somebody
            gc.collect()
            assert known() is not None
            task.cancel()
            await asyncio.wait({task})
        monkeypatch.setattr(gc_tuning, "FULL_COLLECTION_INTERVAL_S", 0)
        with running():
            await begun()
            await begun()
            assert known() is None

    async def test_nothing_stays_set_aside_after_the_end(self) -> None:
        with running() as task:
            await begun()
            assert gc.get_freeze_count() > 0
        await asyncio.wait({task})
        assert gc.get_freeze_count() == 0
