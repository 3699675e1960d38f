"""Stored learning of programmes, and the examples that it learns from."""

from collections.abc import AsyncIterator

from chassis.storage.aggregates import Aggregates, Stored
from chassis.storage.mongo import Document, Documents, Index
from services.matcher.domain.learning.weight_versions import ProgrammeLearning

LEARNING_INDEXES: list[Index] = [("versions.decided_by",), ("releasing.by",)]
EXAMPLE_INDEXES: list[Index] = [("programme_id",)]


class LearningStore(Aggregates[ProgrammeLearning]):
    async def load(self, programme_id: str) -> ProgrammeLearning:
        """The learning state of the programme; empty before the first outcome."""
        stored = await self.get(programme_id)
        return stored.state if stored is not None else ProgrammeLearning(programme_id=programme_id)

    def decided_by(self, member_id: str) -> AsyncIterator[Stored[ProgrammeLearning]]:
        """The learning states in which the member has decided on a version, or releases one."""
        return self.find({"$or": [{"versions.decided_by": member_id}, {"releasing.by": member_id}]})


class ExampleStore(Documents):
    """Examples under the ids of their pairings."""

    async def of_programme(self, programme_id: str) -> list[Document]:
        return [document async for document in self.find({"programme_id": programme_id})]

    async def delete_pairing(self, pairing_id: str) -> None:
        await self.delete({"_id": pairing_id})
