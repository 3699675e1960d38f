"""Recent comparisons of two rounds, so that the pages of a long one are computed once."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from services.matcher.domain.rounds.round import Round
from services.matcher.domain.rounds.summary import Comparison, Paired, compare

MAX_COMPARISONS = 2


class ComparisonCache:
    def __init__(self) -> None:
        self._comparisons: OrderedDict[tuple[object, ...], Comparison] = OrderedDict()

    async def get(
        self, first: Round, other: Round, load_pairs: Callable[[Round], Awaitable[list[Paired]]]
    ) -> Comparison:
        key = (_version_of(first), _version_of(other))
        if key not in self._comparisons:
            pairs = await load_pairs(first), await load_pairs(other)
            self._comparisons[key] = await asyncio.to_thread(compare, *pairs, first.settings)
            while len(self._comparisons) > MAX_COMPARISONS:
                self._comparisons.popitem(last=False)
        return self._comparisons[key]


def _version_of(round: Round) -> tuple[object, ...]:
    return round.round_id, round.result, round.computed_at
