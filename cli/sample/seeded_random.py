"""All chance of the sample, from `Random.random()` alone: its sequence never changes between versions of Python."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """Draws, all from `random()` alone."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def share(self) -> float:
        return self._random.random()

    def happens(self, probability: float) -> bool:
        return self.share() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.share() * (high - low + 1))

    def one(self, items: Sequence[T]) -> T:
        return items[int(self.share() * len(items))]

    def weighted(self, items: Sequence[tuple[T, int]]) -> T:
        left = self.share() * sum(weight for _, weight in items)
        for item, weight in items:
            left -= weight
            if left < 0:
                return item
        return items[-1][0]

    def some(self, items: Sequence[T], number: int) -> list[T]:
        """`number` different ones, or all there are."""
        left = list(items)
        return [left.pop(int(self.share() * len(left))) for _ in range(min(number, len(left)))]
