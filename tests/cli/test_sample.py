"""The sample company: always the same, and shaped as a real one."""

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
    found: dict[str, Any] = json.loads((generate.FOLDER / "wishes.json").read_text(encoding="utf-8"))
    return found


def test_the_committed_files_are_what_the_generator_writes() -> None:
    for name, text in generate.generate_files().items():
        assert (generate.FOLDER / name).read_text(encoding="utf-8") == text, f"{name} differs: run the generator"


def test_two_runs_of_the_generator_agree() -> None:
    assert generate.generate_files() == generate.generate_files()


def test_about_four_hundred_people_in_twelve_departments_on_five_sites(people: list[Row]) -> None:
    assert 380 <= len(people) <= 430
    assert len({row["department"] for row in people}) == 12
    assert len({row["site"] for row in people}) == 5
    assert len({row["time_zone"] for row in people}) == 5
    assert len({row["organisation"] for row in people}) == 2


def test_nobody_is_twice_in_the_file(people: list[Row]) -> None:
    for column in ("external_id", "name"):
        assert max(Counter(row[column] for row in people).values()) == 1
    assert max(Counter(row["email"] for row in people if row["email"]).values()) == 1


def test_the_reporting_lines_are_a_tree_of_six_levels_for_each_organisation(people: list[Row]) -> None:
    managers = {row["external_id"]: row["manager"] for row in people}

    def depth(person: str) -> int:
        return 1 + depth(managers[person]) if managers[person] else 1

    assert max(depth(person) for person in managers) == 6
    assert sum(not manager for manager in managers.values()) == 2


def test_managers_have_a_higher_grade_and_the_same_organisation(people: list[Row]) -> None:
    by_id = {row["external_id"]: row for row in people}
    for row in people:
        if row["manager"]:
            assert int(by_id[row["manager"]]["level"]) > int(row["level"])
            assert by_id[row["manager"]]["organisation"] == row["organisation"]


def test_some_are_on_leave_some_are_leaving_and_one_in_twelve_has_no_address(people: list[Row]) -> None:
    states = Counter(row["employment"] for row in people)
    assert states["on_leave"] >= 5
    assert states["leaving"] >= 3
    assert all(row["employed_until"] for row in people if row["employment"] == "leaving")
    assert 0.06 <= sum(not row["email"] for row in people) / len(people) <= 0.10
    assert any(row["evaluators"] for row in people)


def test_every_address_is_one_that_cannot_exist(people: list[Row]) -> None:
    assert all(row["email"].endswith(".example") and row["email"].isascii() for row in people if row["email"])


def test_wishes_are_of_the_same_people_and_refer_only_to_them(people: list[Row], wishes: dict[str, Any]) -> None:
    ids = [row["external_id"] for row in people]
    assert list(wishes) == ids
    assert all(avoided in wishes for wish in wishes.values() for avoided in wish["avoid"])


def test_shift_workers_are_there_and_nobody_seeks_what_they_offer(wishes: dict[str, Any]) -> None:
    assert any(wish["availability"]["kind"] == "rotating" for wish in wishes.values())
    for wish in wishes.values():
        offered, sought = ({item["topic"] for item in wish[name]} for name in ("offers", "seeks"))
        assert offered
        assert sought
        assert not offered & sought


def test_every_topic_is_in_the_taxonomy(wishes: dict[str, Any]) -> None:
    known = {topic.id for topic in taxonomy.load().topics}
    for wish in wishes.values():
        assert {item["topic"] for item in (*wish["offers"], *wish["seeks"])} <= known
