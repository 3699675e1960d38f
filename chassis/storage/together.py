"""Many who each want to know one thing at the same moment, answered by one question.

Reactions to the events of a batch run side by side; what each of them looks up by an id is cheap together and dear one
by one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Together(Generic[T]):
    """``ask`` reads many by their ids. Whatever is answered was read after it was asked for."""

    def __init__(self, ask: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._ask = ask
        self._wanted: set[str] | None = None
        self._answer: asyncio.Future[Mapping[str, T]]

    async def get(self, id: str) -> T | None:
        """None where there is none. Raises what the question raised, for everybody who had a part in it."""
        if self._wanted is None:
            self._wanted = {id}
            self._answer = asyncio.ensure_future(self._answered(self._wanted))
        else:
            self._wanted.add(id)
        answers = await asyncio.shield(self._answer)  # who gives up takes the answer from nobody else
        return answers.get(id)

    async def _answered(self, wanted: set[str]) -> Mapping[str, T]:
        await asyncio.sleep(0)  # whoever is about to ask in this turn of the loop joins
        self._wanted = None
        return await self._ask(sorted(wanted))
