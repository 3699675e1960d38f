"""What the pool tells whoever looks after a programme: about whom, in which order, and whether there are others."""

from chassis.core.clocks import Clock
from services.matcher.partner_replica import PartnerReplica
from tests.matcher.builders import PROGRAMME, TAXONOMY, person


class TestChangedMembers:
    def test_newest_members_are_popped_first_and_once(self) -> None:
        pool = PartnerReplica(TAXONOMY, Clock())
        pool.subscribe(PROGRAMME)
        for sequence, id in enumerate(("a", "b", "c", "a"), start=1):
            pool.put(person(id), sequence)
        assert pool.pop_changed(PROGRAMME, 2) == ["a", "c"]
        assert pool.has_changed(PROGRAMME)
        pool.mark_changed(PROGRAMME, ["c"])
        assert pool.pop_changed(PROGRAMME, 5) == ["c", "b"]
        assert not pool.has_changed(PROGRAMME)
