"""Conditions with deadlines, in place of sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
_PAUSE_S = 0.03
_LONGEST_PAUSE_S = 0.5
"""What is waited for needs the processor more than the one who waits."""


def wait_until(condition: Callable[[], T | None], what: str, seconds: float = PATIENCE_S) -> T:
    """What ``condition`` gives as soon as that is true; raises ``TimeoutError`` naming ``what`` if it never is."""
    until = time.monotonic() + seconds
    pause = _PAUSE_S
    while True:
        if value := condition():
            return value
        if time.monotonic() > until:
            raise TimeoutError(f"after {seconds:.0f} s still not: {what} (last: {value!r})")
        time.sleep(pause)
        pause = min(1.3 * pause, _LONGEST_PAUSE_S)
