"""`viceversa round lock`, `forbid` and `swap`, with full and shortened member ids."""

import json
from typing import Any

import httpx
import pytest

from cli import connections
from tests.cli.conftest import Run, fake_service, parse_json

ANOUK, BRAM = "46ec86c3-2f84-48e1-8802-b472d94c40f8", "5f0c7d11-9a62-4c53-bb1e-0d1c8e7740f8"
SELIN, DAAN = "4835e6e8-a76f-4d29-98eb-bfde60747be6", "0e3a9c40-7c1d-4b58-8a55-3d2f1b6c9a01"
UNMATCHED = "a9b1c2d3-1111-4222-8333-444455556666"
PAGES = {
    None: {"items": [{"senior": {"member_id": ANOUK}, "junior": {"member_id": SELIN}}], "next": "1"},
    "1": {"items": [{"senior": {"member_id": BRAM}, "junior": {"member_id": DAAN}}], "next": None},
}


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A matcher with a round of two pages; returns the bodies that were posted to it."""
    bodies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            bodies.append(json.loads(request.content))
            return httpx.Response(201, json={"adjustment_id": "a1", "text": "Waits."})
        if request.url.path == "/rounds/r1/proposals":
            return httpx.Response(200, json=PAGES[request.url.params.get("after")])
        assert request.url.path == "/rounds/r1/unmatched"
        return httpx.Response(200, json={"items": [{"member_id": UNMATCHED}], "next": None})

    monkeypatch.setattr(connections, "open_service", lambda *_: fake_service("matcher", answer))
    return bodies


class TestMemberIds:
    """Arguments that are the last characters of a member id."""

    def test_the_end_of_an_id_names_a_member(self, run: Run, posted: list[Any]) -> None:
        parse_json(run("round", "forbid", "r1", ANOUK[-8:], SELIN[-8:], "--json"))
        parse_json(run("round", "lock", "r1", ANOUK, UNMATCHED[-8:], "--json"))
        parse_json(run("round", "swap", "r1", ANOUK[-8:], SELIN[-8:], BRAM[-9:], DAAN[-4:], "--json"))
        assert posted == [
            {"kind": "forbid", "pair": {"senior": ANOUK, "junior": SELIN}},
            {"kind": "lock", "pair": {"senior": ANOUK, "junior": UNMATCHED}},
            {"kind": "swap", "swap": [{"senior": ANOUK, "junior": SELIN}, {"senior": BRAM, "junior": DAAN}]},
        ]

    @pytest.mark.parametrize(
        ("end", "reason"),
        [("40f8", "2 people of this round"), ("zzzz", "ends in zzzz"), ("", "5 people of this round")],
    )
    def test_an_unknown_or_ambiguous_end_changes_nothing(
        self, run: Run, posted: list[Any], end: str, reason: str
    ) -> None:
        result = run("round", "forbid", "r1", end, SELIN[-8:])
        assert result.exit_code == 1
        assert reason in result.stderr
        assert posted == []
