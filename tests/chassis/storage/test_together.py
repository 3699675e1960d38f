"""Who asks for one thing each at the same moment is answered by one question."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from chassis.storage.together import Together


class Answers:
    """What is there by id, and every question that was asked."""

    def __init__(self) -> None:
        self.there = {"a": 1, "b": 2}
        self.asked: list[list[str]] = []
        self.breaks = False

    async def ask(self, ids: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(list(ids))
        await asyncio.sleep(0)
        if self.breaks:
            raise ConnectionError
        return {id: self.there[id] for id in ids if id in self.there}


class TestTogether:
    async def test_concurrent_lookups_share_one_query(self) -> None:
        answers = Answers()
        together = Together(answers.ask)
        assert await asyncio.gather(*(together.get(id) for id in ("b", "a", "nobody", "a"))) == [2, 1, None, 1]
        assert answers.asked == [["a", "b", "nobody"]]
        assert await together.get("a") == 1
        assert len(answers.asked) == 2

    async def test_later_lookup_gets_a_query_of_its_own(self) -> None:
        """An answer is never older than the question."""
        answers = Answers()
        together = Together(answers.ask)
        first = asyncio.create_task(together.get("a"))
        while not answers.asked:  # noqa: ASYNC110 - one turn of the loop after the other
            await asyncio.sleep(0)
        answers.there["a"] = 7
        assert await together.get("a") == 7
        await first

    async def test_failure_reaches_every_caller_but_not_the_next(self) -> None:
        answers = Answers()
        together = Together(answers.ask)
        answers.breaks = True
        found = await asyncio.gather(together.get("a"), together.get("b"), return_exceptions=True)
        assert [type(one) for one in found] == [ConnectionError, ConnectionError]
        answers.breaks = False
        assert await together.get("a") == 1

    async def test_cancelled_caller_does_not_affect_the_others(self) -> None:
        together = Together(Answers().ask)
        leaving, staying = asyncio.create_task(together.get("a")), asyncio.create_task(together.get("b"))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == 2
        with pytest.raises(asyncio.CancelledError):
            await leaving
