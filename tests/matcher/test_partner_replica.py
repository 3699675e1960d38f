"""What the pool tells whoever looks after a programme: about whom, in which order, and whether there are others."""

from chassis.core.clocks import Clock
from services.matcher.partner_replica import Pool
from tests.matcher.builders import PROGRAMME, TAXONOMY, person


def test_the_newest_are_told_first_each_once_whatever_came_before() -> None:
    pool = Pool(TAXONOMY, Clock())
    pool.listen(PROGRAMME)
    for sequence, id in enumerate(("a", "b", "c", "a"), start=1):
        pool.put(person(id), sequence)
    assert pool.told(PROGRAMME, 2) == ["a", "c"]
    assert pool.has_news(PROGRAMME)
    pool.tell(PROGRAMME, ["c"])
    assert pool.told(PROGRAMME, 5) == ["c", "b"]
    assert not pool.has_news(PROGRAMME)
