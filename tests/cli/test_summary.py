"""The demo's own check: it agrees when all is well, and says what differs when it is not."""

from dataclasses import replace
from typing import Any

import pytest

from cli.demo.audit import Audit
from cli.demo.subscriber import SeenEvent, Witness
from cli.demo.summary import FinalCounts, find_disagreements

COUNTED = FinalCounts(
    Audit(
        members=2, enrolled=2, rounds=1, proposed=2, lapsed=1, formed=1, chartered=0, ended=0, sessions_held=1,
        checkins=1, partner_changes=0, notifications_sent=1, states={"lapsed": 1, "formed": 1},
        published_notifications=1, mails_sent=1, mails=1,
    ),
    erased=0,
    dead_letters=0,
)  # fmt: skip
MEETING = {"session": {"session_id": "s", "state": "held"}}


@pytest.fixture
def witness() -> Witness:
    """Two people, a round, two pairings: one lapsed; of the other they met and one answered a check-in."""
    seen = Witness()
    for number, (topic, kind, subject, data) in enumerate(
        [
            ("profiles.v1", "profile.changed", "anna", None),
            ("profiles.v1", "profile.changed", "bram", None),
            ("rounds.v1", "round.published", "r", {}),
            ("pairings.v1", "pairing.proposed", "p", {}),
            ("pairings.v1", "pairing.proposed", "q", {}),
            ("pairings.v1", "pairing.lapsed", "p", {}),
            ("pairings.v1", "pairing.formed", "q", {}),
            ("pairing-states.v1", "pairing.state", "p", {"state": "lapsed"}),
            ("pairing-states.v1", "pairing.state", "q", {"state": "formed"}),
            ("feedback.v1", "session.missed", "q", {"session": {"session_id": "s", "state": "missed"}}),
            ("feedback.v1", "session.held", "q", MEETING),
            ("feedback.v1", "checkin.completed", "q", {"checkin_id": "c"}),
            ("notifications.v1", "notification.sent", "n", {}),
        ]
    ):
        seen.record(SeenEvent(topic, f"mentoring.{kind}.v1", f"e{number}", subject, data))
    return seen


def but(**figures: Any) -> FinalCounts:
    return replace(COUNTED, audit=replace(COUNTED.audit, **figures))


def test_they_agree_when_the_subscriber_saw_what_the_services_say(witness: Witness) -> None:
    assert find_disagreements(COUNTED, witness) == []


def test_a_pairing_that_went_with_an_erased_person_is_counted_by_nobody(witness: Witness) -> None:
    witness.record(SeenEvent("pairing-states.v1", "mentoring.pairing.state.v1", "tomb", "q", None))
    assert (
        find_disagreements(but(proposed=1, formed=0, sessions_held=0, checkins=0, states={"lapsed": 1}), witness) == []
    )


@pytest.mark.parametrize(
    "figure",
    [
        "members", "rounds", "proposed", "lapsed", "formed", "chartered", "ended", "sessions_held", "checkins",
        "partner_changes", "published_notifications", "mails_sent", "mails",
    ],
)  # fmt: skip
def test_any_figure_that_differs_is_named(witness: Witness, figure: str) -> None:
    assert find_disagreements(but(**{figure: getattr(COUNTED.audit, figure) + 1}), witness)


def test_an_erasure_that_not_every_service_confirmed_and_a_dead_letter_are_named(witness: Witness) -> None:
    assert find_disagreements(replace(COUNTED, erased=1), witness)
    assert find_disagreements(replace(COUNTED, dead_letters=1), witness)


def test_where_mail_goes_to_a_named_server_nobody_looks_for_it_here(witness: Witness) -> None:
    assert find_disagreements(but(mails=None), witness) == []


def test_a_lost_event_is_noticed(witness: Witness) -> None:
    witness.subjects_by_type["mentoring.pairing.formed.v1"].clear()
    assert any("formed" in line for line in find_disagreements(COUNTED, witness))


def test_a_stale_state_on_the_compacted_topic_is_noticed(witness: Witness) -> None:
    witness.states["q"] = "proposed"
    assert any("compacted" in line for line in find_disagreements(COUNTED, witness))


def test_an_event_that_arrives_twice_counts_once(witness: Witness) -> None:
    assert not witness.record(SeenEvent("rounds.v1", "mentoring.round.published.v1", "e2", "r", {}))
    assert find_disagreements(COUNTED, witness) == []


def test_the_pairing_with_most_to_tell_is_one_that_is_still_known(witness: Witness) -> None:
    assert witness.find_richest_pairing() == "q"
    witness.record(SeenEvent("pairing-states.v1", "mentoring.pairing.state.v1", "tomb", "q", None))
    assert witness.find_richest_pairing() == "p"
