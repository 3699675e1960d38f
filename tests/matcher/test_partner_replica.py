"""Changed members of a programme: their order, and whether more are left."""

from chassis.core.clocks import Clock
from services.matcher.partner_replica import PartnerReplica
from tests.matcher.builders import PROGRAMME, TAXONOMY, person


class TestChangedMembers:
    def test_newest_members_are_popped_first_and_once(self) -> None:
        partners = PartnerReplica(TAXONOMY, Clock())
        partners.subscribe(PROGRAMME)
        for sequence, id in enumerate(("a", "b", "c", "a"), start=1):
            partners.put(person(id), sequence)
        assert partners.pop_changed(PROGRAMME, 2) == ["a", "c"]
        assert partners.has_changed(PROGRAMME)
        partners.mark_changed(PROGRAMME, ["c"])
        assert partners.pop_changed(PROGRAMME, 5) == ["c", "b"]
        assert not partners.has_changed(PROGRAMME)
