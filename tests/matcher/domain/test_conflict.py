"""When the organisation changes under a pairing: what is noted, what goes away, and what ends it."""

from datetime import date, timedelta

import pytest

from contracts.errors import CommandRejected
from services.matcher.domain.fit.rules import Rule
from services.matcher.domain.pairings import conflict as conflicts
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.conflict import GRACE, Conflict, structural
from services.matcher.domain.pairings.pairing import Pairing
from tests.matcher.builders import MOMENT, NOW, TODAY, member, moment_at, person, settings, weekly
from tests.matcher.domain.test_pairing import done, formed, proposed, types
from tests.matcher.domain.test_seat_ledger import plan, receipt_for

MANAGER: tuple[Rule, ...] = ("same_manager",)
JUDGE: tuple[Rule, ...] = ("evaluator",)
LATER = NOW + timedelta(days=3)


def flagged(pairing: Pairing | None = None, course: conflicts.Course = "flag") -> Pairing:
    return done(pairings.look_again(pairing or formed(), MANAGER, course, NOW))


def test_only_rules_about_the_organisation_are_looked_at_again() -> None:
    senior = person("s", level=3, languages=("fr",), avoid=("j",), availability=weekly((0, 0, 60)), time_zone="UTC")
    junior = person(
        "j", "junior", line=("s", "boss"), languages=("de",), availability=weekly((1, 0, 60)), time_zone="UTC"
    )
    assert structural(member(senior), member(junior), settings(), TODAY) == ("reporting_line",)
    elsewhere = junior.model_copy(update={"organisation_id": "daughter", "evaluators": ("s",)})
    found = structural(member(senior), member(elsewhere), settings(rules__cross_organisation=True), TODAY)
    assert found == ("reporting_line", "evaluator", "not_acknowledged")


def test_a_conflict_is_noted_once_and_said_to_nobody() -> None:
    noted = pairings.look_again(formed(), MANAGER, "flag", NOW)
    assert types(noted) == []
    assert done(noted).conflict == Conflict(rules=MANAGER, since=NOW)
    assert done(noted).state == "formed"
    assert pairings.look_again(done(noted), MANAGER, "flag", LATER) is None


def test_what_goes_away_is_forgotten_and_what_is_added_asks_anew() -> None:
    assert done(pairings.look_again(flagged(), (), "flag", LATER)).conflict is None
    more = done(pairings.look_again(flagged(), (*MANAGER, *JUDGE), "flag", LATER)).conflict
    assert more == Conflict(rules=(*MANAGER, *JUDGE), since=LATER)
    assert conflicts.after(more, JUDGE, "flag", NOW) == Conflict(rules=JUDGE, since=LATER)


def test_what_a_person_decided_stands_until_another_rule_is_broken() -> None:
    kept = done(pairings.decide_conflict(flagged(), "keep", moment_at(LATER)))
    assert kept.conflict == Conflict(rules=MANAGER, since=NOW, kept=True)
    assert pairings.decide_conflict(kept, "keep", moment_at(LATER)) is None
    assert pairings.look_again(kept, MANAGER, "end", LATER) is None
    again = done(pairings.look_again(kept, (*MANAGER, *JUDGE), "flag", LATER)).conflict
    assert again is not None
    assert not again.kept
    gone = done(pairings.look_again(kept, (), "flag", LATER))
    assert done(pairings.look_again(gone, MANAGER, "flag", LATER)).conflict == Conflict(rules=MANAGER, since=LATER)


def test_the_end_that_a_person_decides_is_like_any_other() -> None:
    ended = pairings.decide_conflict(flagged(), "end", moment_at(LATER))
    plain = pairings.end(formed(), moment_at(LATER))
    assert ended == plain
    lapsed = pairings.decide_conflict(flagged(proposed()), "end", moment_at(LATER))
    assert types(lapsed) == ["pairing.lapsed.v1", "pairing.state.v1"]
    for over in (done(ended), done(lapsed)):
        assert over.conflict is None
        assert pairings.look_again(over, MANAGER, "end", LATER) is None
        with pytest.raises(CommandRejected, match="no rule"):
            pairings.decide_conflict(over, "end", moment_at(LATER))
    with pytest.raises(CommandRejected, match="no rule"):
        pairings.decide_conflict(formed(), "keep", moment_at(LATER))


def test_where_the_programme_says_so_it_ends_after_a_day_unless_somebody_decides_otherwise() -> None:
    ending = flagged(course="end")
    assert ending.conflict is not None
    assert ending.conflict.ends_at == ending.due == NOW + GRACE
    assert pairings.due(ending, moment_at(NOW + GRACE - timedelta(seconds=1))) is None
    assert types(pairings.due(ending, moment_at(NOW + GRACE))) == ["pairing.ended.v1", "pairing.state.v1"]
    for spared in (
        pairings.decide_conflict(ending, "keep", MOMENT),
        pairings.look_again(ending, (), "end", NOW),
        pairings.look_again(ending, MANAGER, "flag", NOW),
    ):
        assert done(spared).due == formed().due
        assert pairings.due(done(spared), moment_at(NOW + GRACE)) is None
    more = done(pairings.look_again(ending, (*MANAGER, *JUDGE), "end", NOW + GRACE / 2))
    assert more.due == ending.due, "another rule does not put it off"


def test_a_pause_keeps_its_own_end_beside_that_of_a_conflict() -> None:
    paused = done(pairings.pause(formed(), date(2026, 3, 20), MOMENT))
    ending = flagged(paused, "end")
    assert ending.due == NOW + GRACE
    assert done(pairings.look_again(ending, (), "end", NOW)).due == paused.due
    resumed = done(pairings.resume(ending, moment_at(NOW + timedelta(hours=1))))
    assert resumed.due == NOW + GRACE


def test_a_reservation_that_the_organisation_overtakes_is_not_proposed() -> None:
    begun = done(pairings.begin(None, plan("p", "s", "j"), MOMENT))
    overtaken = done(pairings.look_again(begun, MANAGER, "flag", NOW))
    assert overtaken.due is None
    assert pairings.propose(overtaken, receipt_for(begun), MOMENT) is None
    given_up = done(pairings.abandon(overtaken, 1, NOW))
    assert done(pairings.begin(given_up, plan("p", "s", "j"), MOMENT)).conflict is None


def test_nothing_of_it_is_left_when_one_of_the_two_is_forgotten() -> None:
    assert done(pairings.forget(flagged(), "s", MOMENT)).conflict is None
