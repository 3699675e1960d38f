"""`viceversa learning`: what it shows of weights and versions, and what it asks of the matcher."""

import httpx
import pytest

from cli import connections
from tests.cli.conftest import Run, fake_service, parse_json

WEIGHTS = {"lower_benefit": 4.0, "higher_benefit": 2.0, "compatibility": 2.0, "perspective": 2.0}
ESTIMATE = {
    "outcomes": 64,
    "points_to": {part: {"share": 0.25, "low": 0.15, "high": 0.35} for part in WEIGHTS},
    "weights": {**WEIGHTS, "perspective": 3.0},
    "gain": {"by": 0.021, "noise": 0.006},
    "clear": True,
}
SEEN = {
    "programme_id": "fresh-eyes",
    "learning": True,
    "weights": WEIGHTS,
    "in_use": 0,
    "before_learning": WEIGHTS,
    "enough": 30,
    "batch": 5,
    "outcomes": 64,
    "latest": ESTIMATE,
    "versions": [{"version": 1, "state": "proposed", "estimate": ESTIMATE, "made_at": "2026-09-01T00:00:00.000Z"}],
}
PREVIEW = {
    "version": 1,
    "now": "r1",
    "then": "r2",
    "pairs_now": 12,
    "pairs_then": 12,
    "gain": {"by": 0.018, "noise": 0.007},
    "compare": "/rounds/r1/compare/r2",
}
COMPARED = {"pairs_in_common": 7, "people_with_other_partners": 10}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A matcher that has learned; what it was asked. Its preview is there at the second look."""
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path))
        if request.method == "GET" and request.url.path.endswith("/preview"):
            state = "computed" if seen.count(seen[-1]) > 1 else "computing"
            return httpx.Response(200, json={**PREVIEW, "state": state})
        if request.url.path.startswith("/rounds"):
            return httpx.Response(200, json=COMPARED)
        return httpx.Response(200, json=SEEN)

    monkeypatch.setattr(connections, "open_service", lambda *_: fake_service("matcher", answer))
    return seen


def test_show_tells_weights_where_outcomes_point_and_what_to_do_next(run: Run, asked: list[tuple[str, str]]) -> None:
    shown = run("learning", "show", "fresh-eyes").stdout
    assert "64 outcomes are in, of 30 that it needs" in shown
    assert "how different their views are" in shown
    assert "0.15 to 0.35" in shown
    assert "viceversa learning preview fresh-eyes 1" in shown
    assert asked == [("GET", "/programmes/fresh-eyes/learning")]
    assert parse_json(run("learning", "show", "fresh-eyes", "--json")) == SEEN


def test_preview_waits_and_shows_who_would_be_matched_differently(run: Run, asked: list[tuple[str, str]]) -> None:
    shown = run("learning", "preview", "fresh-eyes", "1").stdout
    assert "12 pairs with the weights in use, 12 with these, 7 the same" in shown
    assert "10 people would have somebody else" in shown
    assert "+0.018 ± 0.007" in shown
    assert "viceversa round compare r1 r2" in shown
    assert asked[0] == ("POST", "/programmes/fresh-eyes/learning/1/preview")
    assert asked[-1] == ("GET", "/rounds/r1/compare/r2")
    assert parse_json(run("learning", "preview", "fresh-eyes", "1", "--json"))["gain"] == PREVIEW["gain"]


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("propose", "fresh-eyes"), "proposals"),
        (("release", "fresh-eyes", "1"), "1/release"),
        (("release", "fresh-eyes", "0"), "0/release"),
        (("dismiss", "fresh-eyes", "1"), "1/dismiss"),
    ],
    ids=" ".join,
)
def test_a_decision_is_one_request(run: Run, asked: list[tuple[str, str]], words: tuple[str, ...], path: str) -> None:
    assert run("learning", *words).exit_code == 0
    assert asked == [("POST", f"/programmes/fresh-eyes/learning/{path}")]
