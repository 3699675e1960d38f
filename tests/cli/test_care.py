"""The coordinator's Monday list: facts in words, names as far as they may be seen, on one screen."""

import httpx
import pytest

from cli.care import print_care
from cli.member_names import MemberNames
from tests.cli.conftest import fake_service

PAIR = {
    "pairing_id": "p1",
    "members": {"senior": "anouk", "junior": "selin"},
    "facts": ["no_first_meeting_booked", "two_cancellations_in_a_row"],
    "sessions_held": 0,
}
CLASH = {
    "pairing_id": "p3",
    "members": {"senior": "anouk", "junior": "selin"},
    "words": ["Both report to the same manager."],
    "since": "2026-03-02T09:00:00.000Z",
    "ends_at": None,
}
ASKED = {
    "pairing_id": "p2",
    "answer_by": "2026-03-16T09:00:00.000Z",
    "participants": [{"member_id": "anouk", "side": "senior"}, {"member_id": "gone", "side": "junior"}],
}


@pytest.fixture
def names() -> MemberNames:
    """Profiles in which one person may not be seen."""

    def answer(request: httpx.Request) -> httpx.Response:
        member = request.url.path.rpartition("/")[2]
        return httpx.Response(404) if member == "gone" else httpx.Response(200, json={"name": member.title()})

    return MemberNames(fake_service("profiles", answer))


def free(number: int) -> list[dict[str, object]]:
    return [
        {"member_id": f"m{one}", "side": "junior", "department_id": "sales", "places": 1, "days_waiting": 40 - one}
        for one in range(number)
    ]


def test_facts_stand_there_in_words_and_names_as_far_as_they_may_be_seen(
    names: MemberNames, capsys: pytest.CaptureFixture[str]
) -> None:
    print_care([PAIR], [CLASH], [ASKED], free(2), 10, names)
    shown = capsys.readouterr().out
    assert "Anouk and Selin" in shown
    assert "no first meeting was planned in time and two meetings in a row were called off" in shown
    assert "Anouk and gone" in shown
    assert "Both report to the same manager." in shown
    assert "when somebody decides" in shown
    assert "Mon 16 March 2026" in shown
    assert "People who wait for a partner, the longest first: 2" in shown


def test_it_stays_on_one_screen_and_says_what_it_leaves_out(
    names: MemberNames, capsys: pytest.CaptureFixture[str]
) -> None:
    print_care([PAIR] * 30, [CLASH] * 30, [ASKED] * 30, free(200), 5, names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 40
    assert any("200 or more" in line and "the first 5 are shown" in line for line in lines)


def test_nothing_to_do_is_said_in_a_few_lines(names: MemberNames, capsys: pytest.CaptureFixture[str]) -> None:
    print_care([], [], [], [], 10, names)
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [
        "Pairs that would like some help: 0",
        "Pairs that break a rule since the organisation has changed: 0",
        "Pairs that were asked and may still answer: 0",
        "People who wait for a partner, the longest first: 0",
    ]
