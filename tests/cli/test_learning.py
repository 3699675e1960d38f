"""`viceversa learning`: its output about weights and versions, and its requests to the matcher."""

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
LEARNING = {
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
COMPARISON = {"pairs_in_common": 7, "people_with_other_partners": 10}


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A matcher with learned weights; returns its requests. The preview is ready at the second request."""
    requests: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append((request.method, request.url.path))
        if request.method == "GET" and request.url.path.endswith("/preview"):
            state = "computed" if requests.count(requests[-1]) > 1 else "computing"
            return httpx.Response(200, json={**PREVIEW, "state": state})
        if request.url.path.startswith("/rounds"):
            return httpx.Response(200, json=COMPARISON)
        return httpx.Response(200, json=LEARNING)

    monkeypatch.setattr(connections, "open_service", lambda *_: fake_service("matcher", answer))
    return requests


class TestLearningCommands:
    def test_show_prints_weights_and_the_next_step(self, run: Run, requests: list[tuple[str, str]]) -> None:
        output = run("learning", "show", "fresh-eyes").stdout
        assert "64 outcomes are available; 30 are needed" in output
        assert "how different their views are" in output
        assert "0.15 to 0.35" in output
        assert "viceversa learning preview fresh-eyes 1" in output
        assert requests == [("GET", "/programmes/fresh-eyes/learning")]
        assert parse_json(run("learning", "show", "fresh-eyes", "--json")) == LEARNING

    def test_preview_waits_and_prints_the_differences(self, run: Run, requests: list[tuple[str, str]]) -> None:
        output = run("learning", "preview", "fresh-eyes", "1").stdout
        assert "12 pairs with the weights in use, 12 with these, 7 the same" in output
        assert "10 people would have another partner" in output
        assert "+0.018 ± 0.007" in output
        assert "viceversa round compare r1 r2" in output
        assert requests[0] == ("POST", "/programmes/fresh-eyes/learning/1/preview")
        assert requests[-1] == ("GET", "/rounds/r1/compare/r2")
        assert parse_json(run("learning", "preview", "fresh-eyes", "1", "--json"))["gain"] == PREVIEW["gain"]

    @pytest.mark.parametrize(
        ("arguments", "path"),
        [
            (("propose", "fresh-eyes"), "proposals"),
            (("release", "fresh-eyes", "1"), "1/release"),
            (("release", "fresh-eyes", "0"), "0/release"),
            (("dismiss", "fresh-eyes", "1"), "1/dismiss"),
        ],
        ids=" ".join,
    )
    def test_a_decision_is_one_request(
        self, run: Run, requests: list[tuple[str, str]], arguments: tuple[str, ...], path: str
    ) -> None:
        assert run("learning", *arguments).exit_code == 0
        assert requests == [("POST", f"/programmes/fresh-eyes/learning/{path}")]
