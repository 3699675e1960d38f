"""What only large rounds do, done with a few people."""

import pytest

from services.matcher.domain import candidates, market


def as_in_a_large_round(patch: pytest.MonkeyPatch) -> None:
    """Candidates are the best of each person alone, and more are added one by one, as prices ask for them."""
    patch.setattr(candidates, "ALL_PAIRS", 0)
    patch.setattr(candidates, "BEST", 1)
    patch.setattr(candidates, "HARD_TO_SUIT", 0)
    patch.setattr(market, "BEST", 1)
