"""Stored learning of programmes, and the examples that it learns from."""

from chassis.storage.aggregates import Aggregates
from services.matcher.domain.learning.weight_versions import ProgrammeLearning


class LearningStore(Aggregates[ProgrammeLearning]):
    async def load(self, programme_id: str) -> ProgrammeLearning:
        """What the programme has learned; an empty state where nothing was learned yet."""
        stored = await self.get(programme_id)
        return stored.state if stored is not None else ProgrammeLearning(programme_id=programme_id)
