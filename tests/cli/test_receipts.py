"""The explanation of a match on the command line: words for the pair, figures for a coordinator."""

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
    "how": "In a round: all members who were ready were matched together.",
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
        body = answers.get(request.url.path)
        return httpx.Response(404) if body is None else httpx.Response(200, json=body)

    return fake_service("matcher", answer)


@pytest.fixture
def names() -> MemberNames:
    return MemberNames(matcher({"/members/third": {"name": "Third Person"}}))


class TestReceiptTexts:
    def test_a_member_of_the_pair_sees_no_figures(self, names: MemberNames, capsys: pytest.CaptureFixture[str]) -> None:
        print_explanation(OWN, names)
        print_details(OWN)
        output = capsys.readouterr().out
        for text in (OWN["how"], *OWN["reasons"], *OWN["parts"]):
            assert text in output
        assert "Fit" not in output
        assert "sha" not in output

    def test_a_coordinator_sees_figures_and_second_choices(self, names: MemberNames) -> None:
        first, *others = describe_figures(FULL, names)
        assert first.startswith("Fit 0.61: benefit of the senior 0.50, benefit of the junior 0.55,")
        assert others == [
            "The seed 7 decided between pairs of about equal fit.",
            "Second choice of the senior: Third Person, with 0.60.",
            "Second choice of the junior: a person of your own reporting line, with 0.58.",
            "Cost of choosing this pair by hand: 0.02.",
        ]

    def test_lines_that_do_not_apply_are_left_out(self, names: MemberNames) -> None:
        plain = {**FULL, "seed": None, "runner_up": {}, "override_cost": None}
        assert len(describe_figures(plain, names)) == 1
        changed = {**plain, "chosen_with": {**FULL["fit"], "score": 0.55}}
        assert describe_figures(changed, names)[1].startswith("The round chose it with a fit of 0.55;")

    def test_reasons_weights_and_hashes_are_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_details(FULL)
        output = capsys.readouterr().out
        assert "Reasons for the junior:\n  You want to know." in output
        assert "version 3 of the settings of fresh-eyes" in output
        assert "the side that gains less" in output
        assert "abc" in output


class TestReceiptVerification:
    @pytest.mark.parametrize(("verified", "code"), [(True, 0), (False, 1)])
    def test_a_failed_verification_ends_with_1(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, verified: bool, code: int
    ) -> None:
        verification = {
            "verified": verified,
            "words": ["Not the same is the reasons."],
            "changed_since": {"senior": True},
        }
        monkeypatch.setattr(
            connections, "open_service", lambda *_: matcher({"/receipts/r1/verification": verification})
        )
        result = run("receipt", "verify", "r1")
        assert result.exit_code == code
        assert ("It verifies." in result.stdout) is verified
        assert "Not the same is the reasons." in result.stdout
        assert "The senior's profile has changed since." in result.stdout

    def test_members_do_not_see_each_others_changes(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_verification({"verified": True, "words": [], "changed_since": None})
        assert capsys.readouterr().out == "It verifies.\n"
