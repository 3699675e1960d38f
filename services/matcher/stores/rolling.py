"""Stored suggestions of pairs."""

from chassis.storage.aggregates import Aggregates, Stored
from chassis.storage.mongo import Index
from contracts.errors import NotFound
from services.matcher.domain.rolling.suggestion import Suggestion

SUGGESTION_INDEXES: list[Index] = [("programme_id", "state", "_id"), ("senior",), ("junior",)]


class SuggestionStore(Aggregates[Suggestion]):
    async def load(self, id: str) -> Suggestion:
        """Raises ``NotFound``, also for a suggestion of an erased member."""
        stored = await self.get(id)
        if stored is None or stored.state.state == "erased":
            raise NotFound("suggestion")
        return stored.state

    async def standing_in(self, programme_id: str) -> list[Suggestion]:
        """Suggestions of a programme that are open, or on which a coordinator has decided."""
        filter = {"programme_id": programme_id, "state": {"$in": ["open", "released", "dismissed"]}}
        return [stored.state async for stored in self.find(filter)]

    async def of_member(self, member_id: str) -> list[Stored[Suggestion]]:
        """All suggestions of a member, in every state."""
        return [stored async for stored in self.find({"$or": [{"senior": member_id}, {"junior": member_id}]})]
