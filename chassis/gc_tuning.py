"""Python's full collections, kept short however much a service remembers.

A full collection looks at every object that lives, while nothing else can be done: with a hundred thousand people in
memory that is half a second, again and again. Whatever has survived one is set aside, so that the next looks at what
came since; what is freed by its last reference going away is freed as ever. Once an hour, and when it ends, everything
is looked at again, for the sake of circles that nobody refers to any longer.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

FULL_COLLECTION_INTERVAL_S = 3600.0  # seconds from one look at everything to the next


@contextmanager
def set_collected_aside() -> Iterator[None]:
    """For as long as this lasts."""
    gc.callbacks.append(_set_aside)
    try:
        yield
    finally:
        gc.callbacks.remove(_set_aside)
        gc.unfreeze()


async def run_gc_tuning() -> None:
    """For as long as a service runs; ends by being cancelled."""
    with set_collected_aside():
        while True:
            gc.unfreeze()
            gc.collect()
            await asyncio.sleep(FULL_COLLECTION_INTERVAL_S)


def _set_aside(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
