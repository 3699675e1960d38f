"""Stored programmes."""

from collections.abc import Callable

from chassis.core.commands import Op
from chassis.storage.aggregates import Aggregates, SaveResult, Stored
from contracts.errors import NotFound
from services.matcher.domain.programmes.programme import Decision, Programme


class ProgrammeStore(Aggregates[Programme]):
    async def load(self, id: str) -> Stored[Programme]:
        """Raises ``NotFound``."""
        stored = await self.get(id)
        if stored is None:
            raise NotFound("programme")
        return stored

    async def update_existing(
        self, id: str, op: Op, decide: Callable[[Programme], Decision | None], *, expect: int | None = None
    ) -> SaveResult[Programme]:
        """Like ``update``, for a programme that must exist. Raises ``NotFound`` and what ``decide`` raises."""

        def decide_existing(programme: Programme | None) -> Decision | None:
            if programme is None:
                raise NotFound("programme")
            return decide(programme)

        return await self.update(id, op, decide_existing, expect=expect)
