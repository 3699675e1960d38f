from collections.abc import Sequence
from typing import TypeVar

P = TypeVar("P")

class DefaultPartitioner:
    @classmethod
    def __call__(cls, key: bytes | None, all_partitions: Sequence[P], available: Sequence[P]) -> P: ...
