"""What is soon to be followed up, by id: what this process saved, and what its last search saw ahead.

It saves a search, and nothing depends on it: what is not here, or is lost with the process, the next search finds.
"""

import asyncio
from contextlib import suppress
from datetime import datetime
from heapq import heappop, heappush


class DueQueue:
    """Of one kind of follow-up. ``note`` keeps what falls due by ``until``; what comes later, a later search sees."""

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
        """Those whose time has come, each once, the earliest first; some of them stay when they are too many."""
        found: dict[str, None] = {}
        while self._heap and self._heap[0][0] <= now and len(found) < most:
            found[heappop(self._heap)[1]] = None
        return list(found)

    async def wait(self, seconds: float) -> None:
        """Until something is noted, but no longer than this."""
        self._more.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._more.wait()
