"""How a match was made, as it is told on the command line: words for the two, figures for whoever coordinates."""

from typing import Any

import httpx
import pytest

from cli import connections
from cli.api import ServiceClient
from cli.member_names import MemberNames
from cli.receipts import describe_figures, print_details, print_explanation, print_verification
from tests.cli.conftest import Run, fake_service

OWN: dict[str, Any] = {
    "receipt_id": "r1",
    "pairing_id": "p1",
    "made_at": "2026-03-02T09:00:00.000Z",
    "how": "One of you asked the other by name.",
    "reasons": ["You want to learn about Negotiation; your partner can teach it."],
    "parts": ["Your partner can give you a great deal of what you want to learn."],
}
WEIGHTS = {"lower_benefit": 4.0, "higher_benefit": 2.0, "compatibility": 2.0, "perspective": 2.0}
FULL: dict[str, Any] = {
    **{name: OWN[name] for name in ("receipt_id", "pairing_id", "made_at")},
    "programme_id": "fresh-eyes",
    "programme_version": 3,
    "algorithm": "1",
    "how": "In a round: everybody who was ready was looked at together.",
    "weights": WEIGHTS,
    "fit": {
        "score": 0.61,
        "senior_benefit": 0.5,
        "junior_benefit": 0.55,
        "compatibility": 0.75,
        "perspective": 0.4,
    },
    "chosen_with": None,
    "reasons": {"senior": ["You want to learn."], "junior": ["You want to know."]},
    "seed": 7,
    "runner_up": {"senior": {"member_id": "third", "score": 0.6}, "junior": {"member_id": None, "score": 0.58}},
    "override_cost": 0.021,
    "hashes": {"inputs": "abc"},
}


def matcher(answers: dict[str, Any]) -> ServiceClient:
    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path)
        return httpx.Response(404) if found is None else httpx.Response(200, json=found)

    return fake_service("matcher", answer)


@pytest.fixture
def names() -> MemberNames:
    return MemberNames(matcher({"/members/third": {"name": "Third Person"}}))


def test_one_of_the_two_reads_words_and_no_figure(names: MemberNames, capsys: pytest.CaptureFixture[str]) -> None:
    print_explanation(OWN, names)
    print_details(OWN)
    shown = capsys.readouterr().out
    for words in (OWN["how"], *OWN["reasons"], *OWN["parts"]):
        assert words in shown
    assert "Fit" not in shown
    assert "sha" not in shown


def test_whoever_coordinates_reads_what_counted_and_whom_each_could_have_had(names: MemberNames) -> None:
    first, *others = describe_figures(FULL, names)
    assert first.startswith("Fit 0.61: what the senior gains 0.50, what the junior gains 0.55,")
    assert others == [
        "Between pairs that fit about equally well the seed 7 decided.",
        "Second choice of the senior: Third Person, with 0.60.",
        "Second choice of the junior: somebody of your own line, with 0.58.",
        "What was given up by choosing this pair by hand: 0.02.",
    ]


def test_what_does_not_apply_is_not_told(names: MemberNames) -> None:
    plain = {**FULL, "seed": None, "runner_up": {}, "override_cost": None}
    assert len(describe_figures(plain, names)) == 1
    changed = {**plain, "chosen_with": {**FULL["fit"], "score": 0.55}}
    assert describe_figures(changed, names)[1].startswith("The round chose it with a fit of 0.55;")


def test_reasons_weights_and_hashes_are_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    print_details(FULL)
    shown = capsys.readouterr().out
    assert "Reasons for the junior:\n  You want to know." in shown
    assert "version 3 of the settings of fresh-eyes" in shown
    assert "the side that gains less" in shown
    assert "abc" in shown


@pytest.mark.parametrize(("verified", "code"), [(True, 0), (False, 1)])
def test_verify_ends_with_1_where_it_does_not(
    run: Run, monkeypatch: pytest.MonkeyPatch, verified: bool, code: int
) -> None:
    found = {"verified": verified, "words": ["Not the same is the reasons."], "changed_since": {"senior": True}}
    monkeypatch.setattr(connections, "open_service", lambda *_: matcher({"/receipts/r1/verification": found}))
    result = run("receipt", "verify", "r1")
    assert result.exit_code == code
    assert ("It verifies." in result.stdout) is verified
    assert "Not the same is the reasons." in result.stdout
    assert "The senior's profile is another today." in result.stdout


def test_the_two_are_not_told_of_each_others_changes(capsys: pytest.CaptureFixture[str]) -> None:
    print_verification({"verified": True, "words": [], "changed_since": None})
    assert capsys.readouterr().out == "It verifies.\n"
