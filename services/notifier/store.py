"""What notifier keeps: how to reach people, the programmes, and who is being forgotten."""

from dataclasses import dataclass

from chassis.aggregates import Aggregates
from chassis.clocks import Clock
from chassis.projections import Projection
from contracts.people import ContactChanged
from contracts.programmes import ProgrammeChanged
from services.notifier.domain import Erasure


@dataclass(frozen=True)
class Notifier:
    """The service's context: its collections and clock."""

    contacts: Projection[ContactChanged]
    programmes: Projection[ProgrammeChanged]
    erasures: Aggregates[Erasure]
    clock: Clock

    async def holds(self, member_id: str) -> bool:
        """Whether an address or a name of this member is still kept, also as somebody's assistant."""
        if await self.contacts.get(member_id) is not None:
            return True
        return await self.contacts.count({"delegates": member_id}) > 0
