"""The random source of the sample. It uses only `Random.random()`, which is the same in every Python version."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class SeededRandom:
    """Random draws that use only `random()`."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def uniform(self) -> float:
        return self._random.random()

    def is_true(self, probability: float) -> bool:
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
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
        """`number` different items, or all when there are fewer."""
        left = list(items)
        return [left.pop(int(self.uniform() * len(left))) for _ in range(min(number, len(left)))]
