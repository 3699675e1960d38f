"""The demo's comparison of its figures: it names every figure that differs."""

from dataclasses import replace
from typing import Any

import pytest

from cli.demo.audit import Audit
from cli.demo.subscriber import SeenEvent, Witness
from cli.demo.summary import FinalCounts, find_disagreements

COUNTS = FinalCounts(
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
    """Two people, a round and two pairings. One pairing lapsed; the other had a meeting and an answered check-in."""
    witness = Witness()
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
            ("checkins.v1", "checkin.completed", "q", None),
            ("notifications.v1", "notification.sent", "n", {}),
        ]
    ):
        witness.record(SeenEvent(topic, f"mentoring.{kind}.v1", f"e{number}", subject, data))
    return witness


def counts_with(**figures: Any) -> FinalCounts:
    return replace(COUNTS, audit=replace(COUNTS.audit, **figures))


class TestDisagreements:
    def test_equal_figures_agree(self, witness: Witness) -> None:
        assert find_disagreements(COUNTS, witness) == []

    def test_a_pairing_of_an_erased_person_is_not_counted(self, witness: Witness) -> None:
        witness.record(SeenEvent("pairing-states.v1", "mentoring.pairing.state.v1", "tomb", "q", None))
        assert (
            find_disagreements(
                counts_with(proposed=1, formed=0, sessions_held=0, checkins=0, states={"lapsed": 1}), witness
            )
            == []
        )

    @pytest.mark.parametrize(
        "figure",
        [
            "members", "rounds", "proposed", "lapsed", "formed", "chartered", "ended", "sessions_held", "checkins",
            "partner_changes", "published_notifications", "mails_sent", "mails",
        ],
    )  # fmt: skip
    def test_any_different_figure_is_named(self, witness: Witness, figure: str) -> None:
        assert find_disagreements(counts_with(**{figure: getattr(COUNTS.audit, figure) + 1}), witness)

    def test_an_unconfirmed_erasure_and_a_dead_letter_are_named(self, witness: Witness) -> None:
        assert find_disagreements(replace(COUNTS, erased=1), witness)
        assert find_disagreements(replace(COUNTS, dead_letters=1), witness)

    def test_mails_are_not_counted_with_a_configured_server(self, witness: Witness) -> None:
        assert find_disagreements(counts_with(mails=None), witness) == []

    def test_a_lost_event_is_noticed(self, witness: Witness) -> None:
        witness.subjects_by_type["mentoring.pairing.formed.v1"].clear()
        assert any("formed" in line for line in find_disagreements(COUNTS, witness))

    def test_a_stale_state_on_the_compacted_topic_is_noticed(self, witness: Witness) -> None:
        witness.states["q"] = "proposed"
        assert any("compacted" in line for line in find_disagreements(COUNTS, witness))


class TestWitness:
    def test_an_event_that_arrives_twice_counts_once(self, witness: Witness) -> None:
        assert not witness.record(SeenEvent("rounds.v1", "mentoring.round.published.v1", "e2", "r", {}))
        assert find_disagreements(COUNTS, witness) == []

    def test_the_richest_pairing_still_exists(self, witness: Witness) -> None:
        assert witness.find_richest_pairing() == "q"
        witness.record(SeenEvent("pairing-states.v1", "mentoring.pairing.state.v1", "tomb", "q", None))
        assert witness.find_richest_pairing() == "p"
