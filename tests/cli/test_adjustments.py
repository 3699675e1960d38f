"""`viceversa round lock`, `forbid` and `swap`: who is meant by the end of an id."""

import json
from typing import Any

import httpx
import pytest

from cli import connections
from tests.cli.conftest import Run, fake_service, parse_json

ANOUK, BRAM = "46ec86c3-2f84-48e1-8802-b472d94c40f8", "5f0c7d11-9a62-4c53-bb1e-0d1c8e7740f8"
SELIN, DAAN = "4835e6e8-a76f-4d29-98eb-bfde60747be6", "0e3a9c40-7c1d-4b58-8a55-3d2f1b6c9a01"
LEFT = "a9b1c2d3-1111-4222-8333-444455556666"
PAGES = {
    None: {"items": [{"senior": {"member_id": ANOUK}, "junior": {"member_id": SELIN}}], "next": "1"},
    "1": {"items": [{"senior": {"member_id": BRAM}, "junior": {"member_id": DAAN}}], "next": None},
}


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A matcher with one round of two pages; what it was told to change."""
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            seen.append(json.loads(request.content))
            return httpx.Response(201, json={"adjustment_id": "a1", "text": "Waits."})
        if request.url.path == "/rounds/r1/proposals":
            return httpx.Response(200, json=PAGES[request.url.params.get("after")])
        assert request.url.path == "/rounds/r1/unmatched"
        return httpx.Response(200, json={"items": [{"member_id": LEFT}], "next": None})

    monkeypatch.setattr(connections, "open_service", lambda *_: fake_service("matcher", answer))
    return seen


def test_people_are_meant_by_what_show_prints_of_their_ids(run: Run, noted: list[Any]) -> None:
    parse_json(run("round", "forbid", "r1", ANOUK[-8:], SELIN[-8:], "--json"))
    parse_json(run("round", "lock", "r1", ANOUK, LEFT[-8:], "--json"))
    parse_json(run("round", "swap", "r1", ANOUK[-8:], SELIN[-8:], BRAM[-9:], DAAN[-4:], "--json"))
    assert noted == [
        {"kind": "forbid", "pair": {"senior": ANOUK, "junior": SELIN}},
        {"kind": "lock", "pair": {"senior": ANOUK, "junior": LEFT}},
        {"kind": "swap", "swap": [{"senior": ANOUK, "junior": SELIN}, {"senior": BRAM, "junior": DAAN}]},
    ]


@pytest.mark.parametrize(
    ("end", "why"), [("40f8", "2 people of this round"), ("zzzz", "ends in zzzz"), ("", "5 people of this round")]
)
def test_an_end_that_nobody_has_or_several_changes_nothing(run: Run, noted: list[Any], end: str, why: str) -> None:
    result = run("round", "forbid", "r1", end, SELIN[-8:])
    assert result.exit_code == 1
    assert why in result.stderr
    assert noted == []
