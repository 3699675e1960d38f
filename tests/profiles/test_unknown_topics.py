"""The weekly list of unknown topics tells of groups only."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.profiles.domain.unknown_topics import MAX_TEXTS, UnknownTopics, make_list, plan_list, rank_topics

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
MONDAY = datetime(2026, 3, 9, tzinfo=UTC)


class TestList:
    def test_it_is_made_once_a_week_by_one_replica(self) -> None:
        planned = plan_list(None, NOW)
        assert planned is not None
        assert planned[0] == UnknownTopics(due=MONDAY)
        assert plan_list(planned[0], NOW) is None
        made = make_list(planned[0], MONDAY, {"llamas": 7, "alpacas": 4}, MONDAY)
        assert made is not None
        assert [(item.words, item.people) for item in made[0].items] == [("llamas", 5)]
        assert made[0].due == MONDAY + timedelta(days=7)
        assert make_list(made[0], MONDAY, {"llamas": 12}, MONDAY) is None

    @given(st.dictionaries(st.text(max_size=3), st.integers(1, 40), max_size=9))
    def test_numbers_tell_of_whole_groups(self, people: dict[str, int]) -> None:
        listed = rank_topics(people, 5, step=5)
        assert all(item.people >= 5 and item.people % 5 == 0 for item in listed)
        assert {item.words for item in listed} == {words for words, count in people.items() if count >= 5}
        assert sorted(listed, key=lambda item: (-item.people, item.words)) == list(listed), "the order adds nothing"

    def test_it_is_bounded(self) -> None:
        assert len(rank_topics({f"t{n}": 9 for n in range(MAX_TEXTS + 5)}, 5)) == MAX_TEXTS
