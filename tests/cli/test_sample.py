"""The sample company: always the same, and with the shape of a real company."""

import csv
import json
from collections import Counter
from typing import Any

import pytest

from cli.sample import generate
from contracts import taxonomy

Row = dict[str, str]


@pytest.fixture(scope="module")
def people() -> list[Row]:
    return list(csv.DictReader((generate.FOLDER / "people.csv").read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def wishes() -> dict[str, Any]:
    wishes: dict[str, Any] = json.loads((generate.FOLDER / "wishes.json").read_text(encoding="utf-8"))
    return wishes


class TestSampleFiles:
    def test_the_committed_files_match_the_generator(self) -> None:
        for name, text in generate.generate_files().items():
            assert (generate.FOLDER / name).read_text(encoding="utf-8") == text, f"{name} differs: run the generator"

    def test_two_runs_of_the_generator_agree(self) -> None:
        assert generate.generate_files() == generate.generate_files()


class TestSamplePeople:
    def test_the_company_has_its_size_and_shape(self, people: list[Row]) -> None:
        """About four hundred people in twelve departments on five sites."""
        assert 380 <= len(people) <= 430
        assert len({row["department"] for row in people}) == 12
        assert len({row["site"] for row in people}) == 5
        assert len({row["time_zone"] for row in people}) == 5
        assert len({row["organisation"] for row in people}) == 2

    def test_nobody_is_in_the_file_twice(self, people: list[Row]) -> None:
        for column in ("external_id", "name"):
            assert max(Counter(row[column] for row in people).values()) == 1
        assert max(Counter(row["email"] for row in people if row["email"]).values()) == 1

    def test_reporting_lines_are_a_tree_of_six_levels(self, people: list[Row]) -> None:
        """One tree for each of the two organisations."""
        managers = {row["external_id"]: row["manager"] for row in people}

        def depth(person: str) -> int:
            return 1 + depth(managers[person]) if managers[person] else 1

        assert max(depth(person) for person in managers) == 6
        assert sum(not manager for manager in managers.values()) == 2

    def test_managers_have_a_higher_grade_and_same_organisation(self, people: list[Row]) -> None:
        by_id = {row["external_id"]: row for row in people}
        for row in people:
            if row["manager"]:
                assert int(by_id[row["manager"]]["level"]) > int(row["level"])
                assert by_id[row["manager"]]["organisation"] == row["organisation"]

    def test_some_are_on_leave_leaving_or_without_address(self, people: list[Row]) -> None:
        """About one person in twelve has no address."""
        states = Counter(row["employment"] for row in people)
        assert states["on_leave"] >= 5
        assert states["leaving"] >= 3
        assert all(row["employed_until"] for row in people if row["employment"] == "leaving")
        assert 0.06 <= sum(not row["email"] for row in people) / len(people) <= 0.10
        assert any(row["evaluators"] for row in people)

    def test_every_address_is_one_that_cannot_exist(self, people: list[Row]) -> None:
        assert all(row["email"].endswith(".example") and row["email"].isascii() for row in people if row["email"])


class TestSampleWishes:
    def test_wishes_refer_only_to_people_in_the_file(self, people: list[Row], wishes: dict[str, Any]) -> None:
        ids = [row["external_id"] for row in people]
        assert list(wishes) == ids
        assert all(avoided in wishes for wish in wishes.values() for avoided in wish["avoid"])

    def test_shift_workers_exist_and_wishes_are_consistent(self, wishes: dict[str, Any]) -> None:
        """Nobody seeks a topic that they offer."""
        assert any(wish["availability"]["kind"] == "rotating" for wish in wishes.values())
        for wish in wishes.values():
            offered, sought = ({item["topic"] for item in wish[name]} for name in ("offers", "seeks"))
            assert offered
            assert sought
            assert not offered & sought

    def test_every_topic_is_in_the_taxonomy(self, wishes: dict[str, Any]) -> None:
        topic_ids = {topic.id for topic in taxonomy.load().topics}
        for wish in wishes.values():
            assert {item["topic"] for item in (*wish["offers"], *wish["seeks"])} <= topic_ids
