"""The algorithm of large rounds, forced on a small number of people."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.matcher.engine import candidates, optimality_bound


@contextmanager
def large_round(turns: int = 99) -> Iterator[None]:
    """Start with the best candidates of each person; add more by prices for the given number of turns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "MAX_EXHAUSTIVE_PAIRS", 0)
        patch.setattr(candidates, "CANDIDATES_PER_PERSON", 1)
        patch.setattr(candidates, "HARD_TO_SUIT_SHARE", 0)
        patch.setattr(optimality_bound, "CANDIDATES_PER_PERSON", 1)
        patch.setattr(optimality_bound, "MAX_PRICING_ROUNDS", turns)
        yield
