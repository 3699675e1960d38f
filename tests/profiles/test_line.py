"""Reporting lines, including people who manage each other in circles."""

from hypothesis import given
from hypothesis import strategies as st

from services.profiles.domain.line import MAX_LINE_LENGTH, find_circles, reporting_line

people = st.integers(0, 9)
hierarchies = st.dictionaries(people, st.one_of(st.none(), people))


class TestReportingLine:
    def test_the_line_is_three_managers_nearest_first(self) -> None:
        manager_of = {"a": "b", "b": "c", "c": "d", "d": "e", "e": None}
        assert reporting_line("a", manager_of) == ("b", "c", "d")
        assert reporting_line("d", manager_of) == ("e",)
        assert reporting_line("e", manager_of) == ()
        assert reporting_line("nobody", manager_of) == ()

    @given(hierarchies)
    def test_a_line_never_repeats_a_person(self, manager_of: dict[int, int | None]) -> None:
        for person in manager_of:
            line = reporting_line(person, manager_of)
            assert len(line) <= MAX_LINE_LENGTH
            assert person not in line
            assert len(set(line)) == len(line)


class TestManagerCircles:
    def test_a_person_reporting_into_a_circle_is_not_on_it(self) -> None:
        assert find_circles({"a": "b", "b": "c", "c": "b"}) == {"b": ("b", "c"), "c": ("b", "c")}
        assert find_circles({"a": "a"}) == {"a": ("a",)}

    @given(hierarchies)
    def test_the_people_on_a_circle_are_found_exactly(self, manager_of: dict[int, int | None]) -> None:
        def returns(person: int) -> bool:
            current = manager_of.get(person)
            for _ in range(len(manager_of)):
                if current is None or current == person:
                    break
                current = manager_of.get(current)
            return current == person

        assert set(find_circles(manager_of)) == {person for person in manager_of if returns(person)}
