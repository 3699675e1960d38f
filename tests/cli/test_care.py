"""The coordinator's Monday list: facts in words, visible names, on one screen."""

import httpx
import pytest

from cli.care import print_care, print_unreachable
from cli.member_names import MemberNames
from tests.cli.conftest import fake_service

PAIR = {
    "pairing_id": "p1",
    "members": {"senior": "anouk", "junior": "selin"},
    "facts": ["no_first_meeting_booked", "two_cancellations_in_a_row"],
    "sessions_held": 0,
}
CONFLICT = {
    "pairing_id": "p3",
    "members": {"senior": "anouk", "junior": "selin"},
    "words": ["Both report to the same manager."],
    "since": "2026-03-02T09:00:00.000Z",
    "ends_at": None,
}
PENDING = {
    "pairing_id": "p2",
    "answer_by": "2026-03-16T09:00:00.000Z",
    "participants": [{"member_id": "anouk", "side": "senior"}, {"member_id": "gone", "side": "junior"}],
}


@pytest.fixture
def names() -> MemberNames:
    """Names from a profiles service that hides one person."""

    def answer(request: httpx.Request) -> httpx.Response:
        member = request.url.path.rpartition("/")[2]
        return httpx.Response(404) if member == "gone" else httpx.Response(200, json={"name": member.title()})

    return MemberNames(fake_service("profiles", answer))


def waiting_people(count: int) -> list[dict[str, object]]:
    return [
        {"member_id": f"m{index}", "side": "junior", "department_id": "sales", "places": 1, "days_waiting": 40 - index}
        for index in range(count)
    ]


class TestCareList:
    def test_facts_and_visible_names_are_shown_in_words(
        self, names: MemberNames, capsys: pytest.CaptureFixture[str]
    ) -> None:
        print_care([PAIR], [CONFLICT], [PENDING], waiting_people(2), 10, names)
        shown = capsys.readouterr().out
        assert "Anouk and Selin" in shown
        assert "no first meeting was planned in time and two meetings in a row were called off" in shown
        assert "Anouk and gone" in shown
        assert "Both report to the same manager." in shown
        assert "when somebody decides" in shown
        assert "Mon 16 March 2026" in shown
        assert "People who wait for a partner, longest wait first: 2" in shown

    def test_the_list_fits_a_screen_and_says_what_it_omits(
        self, names: MemberNames, capsys: pytest.CaptureFixture[str]
    ) -> None:
        print_care([PAIR] * 30, [CONFLICT] * 30, [PENDING] * 30, waiting_people(200), 5, names)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) < 40
        assert any("200 or more" in line and "first 5 shown" in line for line in lines)

    def test_people_whom_no_mail_reaches_are_named(
        self, names: MemberNames, capsys: pytest.CaptureFixture[str]
    ) -> None:
        print_unreachable([{"member_id": "anouk", "since": "2026-03-16T09:00:00.000Z", "status": "5.1.1"}], 10, names)
        shown = capsys.readouterr().out
        assert "People whom no mail reaches: 1" in shown
        assert "Anouk" in shown
        assert "Mon 16 March 2026" in shown

    def test_an_empty_list_takes_a_few_lines(self, names: MemberNames, capsys: pytest.CaptureFixture[str]) -> None:
        print_care([], [], [], [], 10, names)
        assert [line for line in capsys.readouterr().out.splitlines() if line] == [
            "Pairs that may need help: 0",
            "Pairs that break a rule after a change in the organisation: 0",
            "Pairs whose answers are pending: 0",
            "People who wait for a partner, longest wait first: 0",
        ]
