"""Requests and rounds tell the notifier what members must hear, and nothing that a private wish could change."""

from datetime import timedelta

import pytest

from contracts.envelope import EventData
from contracts.moment import Moment
from contracts.requests import RequestAccepted, RequestLapsed, RequestOpened, RequestWithdrawn
from contracts.unmatched import MemberUnmatched
from services.matcher.domain.pairings import request as requests
from services.matcher.domain.pairings.request import PartnerRequest
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.round import Round
from tests.matcher.builders import MOMENT, NOW, PROGRAMME, settings

LATER = Moment(NOW + timedelta(days=30), NOW + timedelta(days=30))


def opened() -> tuple[PartnerRequest, EventData]:
    decision = requests.open_request(None, "q1", PROGRAMME, ("s", "j"), "senior", LATER.now, MOMENT)
    assert decision is not None
    [event] = decision[1]
    assert isinstance(event, EventData)
    return decision[0], event


class TestRequestEvents:
    def test_an_opened_request_says_who_asks_whom(self) -> None:
        request, event = opened()
        assert isinstance(event, RequestOpened)
        assert (event.asker, event.asked, event.state) == ("s", "j", "open")
        assert event.answer_by == request.answer_by
        assert requests.open_request(request, "q1", PROGRAMME, ("s", "j"), "senior", LATER.now, MOMENT) is None

    def test_a_refusal_and_an_expiry_give_the_same_event(self) -> None:
        request, _ = opened()
        refused = requests.decline_request(request, LATER)
        expired = requests.lapse_if_due(request, LATER)
        impossible = requests.reassess_request(request, LATER, is_possible=False)
        assert refused == expired == impossible
        assert refused is not None
        assert [type(event) for event in refused[1]] == [RequestLapsed]

    @pytest.mark.parametrize(
        ("decision", "kind"),
        [
            (requests.withdraw_request(opened()[0], MOMENT), RequestWithdrawn),
            (requests.accept_request(opened()[0], "p1", MOMENT), RequestAccepted),
        ],
    )
    def test_each_end_is_said_once(self, decision: requests.Decision, kind: type[EventData]) -> None:
        after, events = decision
        assert [type(event) for event in events] == [kind]
        assert requests.lapse_if_due(after, LATER) is None
        assert requests.decline_request(after, LATER) is None

    def test_an_erasure_says_nothing(self) -> None:
        decision = requests.erase_member(opened()[0], "s")
        assert decision is not None
        assert (decision[0].state, decision[0].asker, decision[1]) == ("erased", "erased", [])


class TestUnmatchedMembers:
    def publishing(self) -> Round:
        decision = rounds.start_round(None, "r1", (PROGRAMME, 1, "open", settings()), 7, MOMENT)
        assert decision is not None
        return decision[0].model_copy(update={"state": "publishing", "run": 2})

    def test_each_batch_is_told_once(self) -> None:
        first = rounds.tell_unmatched(self.publishing(), 2, "b", {"a": "level_gap", "b": "places_taken"}, MOMENT)
        assert first is not None
        round, events = first
        assert [(type(event), event.key()) for event in events if isinstance(event, EventData)] == [
            (MemberUnmatched, "a"),
            (MemberUnmatched, "b"),
        ]
        assert rounds.tell_unmatched(round, 2, "b", {"b": "places_taken"}, MOMENT) is None, "told by an earlier run"
        assert rounds.tell_unmatched(round, 1, "c", {"c": "level_gap"}, MOMENT) is None, "overtaken by another run"
        assert rounds.tell_unmatched(round, 2, "c", {}, MOMENT) is not None
