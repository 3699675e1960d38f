"""Conditions with deadlines, in place of sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
_PAUSE_S = 0.05


def wait_until(condition: Callable[[], T | None], what: str, seconds: float = PATIENCE_S) -> T:
    """What ``condition`` gives as soon as that is true; raises ``TimeoutError`` naming ``what`` if it never is."""
    until = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > until:
            raise TimeoutError(f"after {seconds:.0f} s still not: {what} (last: {found!r})")
        time.sleep(_PAUSE_S)
