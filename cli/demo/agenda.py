"""The intentions of the simulated people, by business time."""

from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Agenda(Generic[T]):
    """Intentions in the order of their times. Intentions for the same time keep the order in which they were added."""

    _heap: list[tuple[datetime, int, T]] = field(default_factory=list)
    _added: int = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: datetime, intention: T) -> None:
        heappush(self._heap, (at, self._added, intention))
        self._added += 1

    def pop_due(self, now: datetime) -> list[T]:
        """Remove and return all intentions whose time has come."""
        intentions = []
        while self._heap and self._heap[0][0] <= now:
            intentions.append(heappop(self._heap)[2])
        return intentions

    def next_at(self) -> datetime | None:
        """The time of the first intention, which may be in the past; None when there is none."""
        return self._heap[0][0] if self._heap else None
