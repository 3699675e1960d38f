"""What only large rounds do, done with a few people."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.matcher.engine import candidates, optimality_bound


@contextmanager
def large_round(turns: int = 99) -> Iterator[None]:
    """Candidates are the best of each person alone, and more are added in so many turns, as prices ask for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "MAX_EXHAUSTIVE_PAIRS", 0)
        patch.setattr(candidates, "CANDIDATES_PER_PERSON", 1)
        patch.setattr(candidates, "HARD_TO_SUIT_SHARE", 0)
        patch.setattr(optimality_bound, "CANDIDATES_PER_PERSON", 1)
        patch.setattr(optimality_bound, "MAX_PRICING_ROUNDS", turns)
        yield
