"""All chance of the sample, from `Random.random()` alone: its sequence never changes between versions of Python."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class SeededRandom:
    """Draws, all from `random()` alone."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def uniform(self) -> float:
        return self._random.random()

    def is_true(self, probability: float) -> bool:
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.uniform() * (high - low + 1))

    def choose(self, items: Sequence[T]) -> T:
        return items[int(self.uniform() * len(items))]

    def choose_weighted(self, items: Sequence[tuple[T, int]]) -> T:
        left = self.uniform() * sum(weight for _, weight in items)
        for item, weight in items:
            left -= weight
            if left < 0:
                return item
        return items[-1][0]

    def sample(self, items: Sequence[T], number: int) -> list[T]:
        """`number` different ones, or all there are."""
        left = list(items)
        return [left.pop(int(self.uniform() * len(left))) for _ in range(min(number, len(left)))]
