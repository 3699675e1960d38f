"""Conditions with deadlines, in place of sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.patience import patience

T = TypeVar("T")

QUIET_MACHINE_S = 20.0
_PAUSE_S = 0.03
_LONGEST_PAUSE_S = 0.5
"""A long pause leaves the processor to the work that is waited for."""


def wait_until(condition: Callable[[], T | None], what: str, seconds: float = QUIET_MACHINE_S) -> T:
    """Return the first true value of ``condition``.

    ``seconds`` is the time that an idle machine needs; the limit is ``patience(seconds)``. Raises ``TimeoutError``.
    """
    limit = patience(seconds)
    until = time.monotonic() + limit
    pause = _PAUSE_S
    while True:
        if value := condition():
            return value
        if time.monotonic() > until:
            raise TimeoutError(f"after {limit:.0f} s still not: {what} (last: {value!r})")
        time.sleep(pause)
        pause = min(1.3 * pause, _LONGEST_PAUSE_S)
