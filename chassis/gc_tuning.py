"""Keeps Python's full garbage collections short, however many objects a service holds.

A full collection visits every living object and blocks everything else: with a hundred thousand people in memory it
takes half a second, again and again. Objects that survive one are frozen, so the next one visits only newer objects.
Reference counting frees frozen objects as before. Once an hour, and when the tuning ends, all objects are visited
again, to free reference cycles that nothing refers to any longer.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

FULL_COLLECTION_INTERVAL_S = 3600.0  # seconds between two collections of all objects


@contextmanager
def set_collected_aside() -> Iterator[None]:
    """Freeze the survivors of each full collection while this context is open."""
    gc.callbacks.append(_set_aside)
    try:
        yield
    finally:
        gc.callbacks.remove(_set_aside)
        gc.unfreeze()


async def run_gc_tuning() -> None:
    """Keep full collections short until this task is cancelled."""
    with set_collected_aside():
        while True:
            gc.unfreeze()
            gc.collect()
            await asyncio.sleep(FULL_COLLECTION_INTERVAL_S)


def _set_aside(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
