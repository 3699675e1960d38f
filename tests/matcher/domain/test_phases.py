"""The phases of a pairing's life, from the events that close them."""

from datetime import date, datetime, timedelta

from contracts.feedback import Session, SessionHeld
from contracts.pairings import PairingEvent, PairingPaused
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.domain.pairings.phases import Phase, closed_by, met
from tests.matcher.builders import MOMENT, NOW, moment_at
from tests.matcher.domain.test_pairing import CHARTER, done, formed, proposed

DAY = timedelta(days=1)


def phases(decision: pairings.Decision | None, before: Pairing) -> list[Phase]:
    """What the events of a decision close."""
    assert decision is not None
    events = [event for event in decision[1] if isinstance(event, PairingEvent) and ".state" not in event.TYPE]
    return [phase for event in events for phase in closed_by(event, before.paused_at)]


def later(days: int) -> datetime:
    return NOW + days * DAY


def test_a_life_to_its_planned_end() -> None:
    asked = done(pairings.answer(proposed(), "senior", "accepted", None, MOMENT))
    begun = pairings.answer(asked, "junior", "accepted", None, moment_at(later(2)))
    assert phases(begun, asked) == [Phase("proposed", NOW, later(2))]
    signed = done(pairings.sign(done(begun), "senior", CHARTER, moment_at(later(3))))
    agreed = pairings.sign(signed, "junior", None, moment_at(later(5)))
    assert phases(agreed, signed) == [Phase("formed", later(2), later(5))]
    paused = pairings.pause(done(agreed), None, moment_at(later(9)))
    assert phases(paused, done(agreed)) == []
    resumed = pairings.resume(done(paused), moment_at(later(20)))
    assert phases(resumed, done(resumed)) == [Phase("paused", later(9), later(20))]
    assert phases(pairings.end(done(resumed), moment_at(later(200))), done(resumed)) == [
        Phase("chartered", later(5), later(200)),
        Phase("pairing", NOW, later(200), whole=True),
    ]


def test_a_life_that_ends_early_or_never_begins() -> None:
    assert phases(pairings.end(proposed(), moment_at(later(1))), proposed()) == [
        Phase("proposed", NOW, later(1)),
        Phase("pairing", NOW, later(1), whole=True),
    ]
    paused = done(pairings.pause(formed(), date(2100, 1, 1), moment_at(later(3))))
    assert phases(pairings.end(paused, moment_at(later(4))), paused) == [
        Phase("paused", later(3), later(4)),
        Phase("formed", NOW, later(4)),
        Phase("pairing", NOW, later(4), whole=True),
    ]


def test_of_a_break_that_began_again_before_its_end_was_heard_nothing_is_said() -> None:
    paused = done(pairings.pause(formed(), None, moment_at(later(3))))
    resumed = pairings.resume(paused, moment_at(later(5)))
    again = pairings.pause(done(resumed), None, moment_at(later(6)))
    assert phases(resumed, done(again)) == []
    assert isinstance(done(again).paused_at, datetime)
    assert again is not None
    assert isinstance(again[1][0], PairingPaused)


def test_the_first_meeting_ends_the_wait_for_it_and_later_ones_end_nothing() -> None:
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

    assert met(held(1), later(2)) == [Phase("until they met", later(2), later(8))]
    assert met(held(2), later(2)) == []
    assert met(held(1), None) == []
