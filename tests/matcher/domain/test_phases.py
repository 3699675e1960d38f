"""The phases of a pairing's life, from the events that close them."""

from datetime import date, datetime, timedelta

from contracts.feedback import Session, SessionHeld
from contracts.pairings import PairingEvent, PairingPaused
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.domain.pairings.phases import PairingPhase, find_closed_phases, find_first_meeting_phase
from tests.matcher.builders import MOMENT, NOW, moment_at
from tests.matcher.domain.test_pairing import CHARTER, done, formed, proposed

DAY = timedelta(days=1)


def phases(decision: pairings.Decision | None, before: Pairing) -> list[PairingPhase]:
    """Return the phases that the events of a decision close."""
    assert decision is not None
    events = [event for event in decision[1] if isinstance(event, PairingEvent) and ".state" not in event.TYPE]
    return [phase for event in events for phase in find_closed_phases(event, before.paused_at)]


def later(days: int) -> datetime:
    return NOW + days * DAY


class TestPairingPhases:
    def test_pairing_up_to_its_planned_end(self) -> None:
        answered = done(pairings.record_answer(proposed(), "senior", "accepted", None, MOMENT))
        formed_decision = pairings.record_answer(answered, "junior", "accepted", None, moment_at(later(2)))
        assert phases(formed_decision, answered) == [PairingPhase("proposed", NOW, later(2))]
        signed = done(pairings.sign_charter(done(formed_decision), "senior", CHARTER, moment_at(later(3))))
        agreed = pairings.sign_charter(signed, "junior", None, moment_at(later(5)))
        assert phases(agreed, signed) == [PairingPhase("formed", later(2), later(5))]
        paused = pairings.pause_pairing(done(agreed), None, moment_at(later(9)))
        assert phases(paused, done(agreed)) == []
        resumed = pairings.resume_pairing(done(paused), moment_at(later(20)))
        assert phases(resumed, done(resumed)) == [PairingPhase("paused", later(9), later(20))]
        assert phases(pairings.end_pairing(done(resumed), moment_at(later(200))), done(resumed)) == [
            PairingPhase("chartered", later(5), later(200)),
            PairingPhase("pairing", NOW, later(200), whole=True),
        ]

    def test_pairing_that_ends_early_or_never_forms(self) -> None:
        assert phases(pairings.end_pairing(proposed(), moment_at(later(1))), proposed()) == [
            PairingPhase("proposed", NOW, later(1)),
            PairingPhase("pairing", NOW, later(1), whole=True),
        ]
        paused = done(pairings.pause_pairing(formed(), date(2100, 1, 1), moment_at(later(3))))
        assert phases(pairings.end_pairing(paused, moment_at(later(4))), paused) == [
            PairingPhase("paused", later(3), later(4)),
            PairingPhase("formed", NOW, later(4)),
            PairingPhase("pairing", NOW, later(4), whole=True),
        ]

    def test_pause_restarted_before_its_end_was_seen_is_omitted(self) -> None:
        paused = done(pairings.pause_pairing(formed(), None, moment_at(later(3))))
        resumed = pairings.resume_pairing(paused, moment_at(later(5)))
        again = pairings.pause_pairing(done(resumed), None, moment_at(later(6)))
        assert phases(resumed, done(again)) == []
        assert isinstance(done(again).paused_at, datetime)
        assert again is not None
        assert isinstance(again[1][0], PairingPaused)

    def test_only_the_first_meeting_ends_the_wait_for_it(self) -> None:
        def held(number: int) -> SessionHeld:
            return SessionHeld(
                pairing_id="p",
                programme_id="g",
                happened_at=later(9),
                recorded_at=NOW,
                sessions_held=number,
                first_held_at=later(8),
                session=Session(session_id="s", state="held", starts_at=later(8)),
            )

        assert find_first_meeting_phase(held(1), later(2)) == [PairingPhase("until they met", later(2), later(8))]
        assert find_first_meeting_phase(held(2), later(2)) == []
        assert find_first_meeting_phase(held(1), None) == []
