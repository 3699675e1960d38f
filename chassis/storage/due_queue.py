"""The follow-ups of the near future, by id: those that this process saved, and those that its last search saw ahead.

The queue only saves searches. An entry that is missing, or is lost with the process, is found by the next search.
"""

import asyncio
from contextlib import suppress
from datetime import datetime
from heapq import heappop, heappush


class DueQueue:
    """A queue for one kind of follow-up. ``push`` accepts times up to ``horizon``; a later search finds later ones."""

    def __init__(self) -> None:
        self.horizon: datetime | None = None
        self._heap: list[tuple[datetime, str]] = []
        self._more = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, id: str, at: datetime | None) -> None:
        if at is not None and self.horizon is not None and at <= self.horizon:
            heappush(self._heap, (at, id))
            self._more.set()

    def pop_due(self, now: datetime, most: int) -> list[str]:
        """Remove up to ``most`` ids whose time has come, each once, the earliest first."""
        ids: dict[str, None] = {}
        while self._heap and self._heap[0][0] <= now and len(ids) < most:
            ids[heappop(self._heap)[1]] = None
        return list(ids)

    async def wait(self, seconds: float) -> None:
        """Wait until an entry is pushed, but no longer than this."""
        self._more.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._more.wait()
