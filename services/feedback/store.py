"""What feedback keeps: pairings and programmes as it heard of them, and who is being forgotten."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from chassis.aggregates import Aggregates
from chassis.clocks import Clock
from chassis.projections import Projection
from contracts.pairings import PairingState
from contracts.programmes import ProgrammeChanged
from services.feedback.domain import Erasure


@dataclass(frozen=True)
class Feedback:
    """The service's context: its collections and clock."""

    pairings: Projection[PairingState]
    programmes: Projection[ProgrammeChanged]
    erasures: Aggregates[Erasure]
    clock: Clock

    async def holds(self, member_id: str) -> bool:
        """Whether a pairing of this member is still kept."""
        return await self.pairings.count({"participants.member_id": member_id}) > 0

    def pairings_of(self, member_id: str, *, limit: int, after: str | None) -> AsyncIterator[PairingState]:
        return self.pairings.find({"participants.member_id": member_id}, limit=limit, after=after)
