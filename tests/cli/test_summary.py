"""The demo's own check: it agrees when all is well, and says what differs when it is not."""

from dataclasses import replace
from typing import Any

import pytest

from cli.demo.subscriber import Seen, Witness
from cli.demo.summary import Counted, disagreements, furthest

COUNTED = Counted(
    members=2, enrolled=2, rounds=1, proposed=0, lapsed=1, formed=1, erased=0, dead_letters=0,
    states={"lapsed": 1, "formed": 1},
)  # fmt: skip


@pytest.fixture
def witness() -> Witness:
    """Two people, a round, two pairings proposed: one lapsed and one formed."""
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
        ]
    ):
        seen.note(Seen(topic, f"mentoring.{kind}.v1", f"e{number}", subject, data))
    return seen


def test_they_agree_when_the_subscriber_saw_what_the_services_say(witness: Witness) -> None:
    assert disagreements(COUNTED, witness) == []


def test_a_pairing_that_went_with_an_erased_person_is_counted_by_nobody(witness: Witness) -> None:
    witness.note(Seen("pairing-states.v1", "mentoring.pairing.state.v1", "tomb", "q", None))
    assert disagreements(replace(COUNTED, formed=0, states={"lapsed": 1}), witness) == []


@pytest.mark.parametrize("figure", ["members", "rounds", "proposed", "lapsed", "formed", "erased", "dead_letters"])
def test_any_figure_that_differs_is_named(witness: Witness, figure: str) -> None:
    wrong: dict[str, Any] = {figure: getattr(COUNTED, figure) + 1}
    assert disagreements(replace(COUNTED, **wrong), witness)


def test_a_lost_event_is_noticed(witness: Witness) -> None:
    witness.reached["mentoring.pairing.formed.v1"].clear()
    assert any("formed" in line for line in disagreements(COUNTED, witness))


def test_a_stale_state_on_the_compacted_topic_is_noticed(witness: Witness) -> None:
    witness.states["q"] = "proposed"
    assert any("compacted" in line for line in disagreements(COUNTED, witness))


def test_an_event_that_arrives_twice_counts_once(witness: Witness) -> None:
    assert not witness.note(Seen("rounds.v1", "mentoring.round.published.v1", "e2", "r", {}))
    assert disagreements(COUNTED, witness) == []


def test_pairings_count_by_the_furthest_that_they_reached() -> None:
    pairings: list[dict[str, Any]] = [
        {"state": "proposed", "formed_at": None},
        {"state": "lapsed", "formed_at": None},
        {"state": "formed", "formed_at": "2026-03-05T10:00:00.000Z"},
        {"state": "ended", "formed_at": "2026-03-05T10:00:00.000Z"},
    ]
    assert furthest(pairings) == {"proposed": 1, "lapsed": 1, "formed": 2}
