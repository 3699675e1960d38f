"""A year of three hundred people: who forgets to meet is noticed in time, and nobody else is bothered."""

import random
from datetime import timedelta

from services.feedback.domain.facts import first_booked_by, first_held_by
from tests.feedback.lives import MONDAY, Life

PAIRS = 150
PLACES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")


def year_of(seed: int) -> Life:
    """One pairing that meets when it thinks of it, is away now and then, and ends after half a year."""
    chance = random.Random(seed)
    began = MONDAY + timedelta(days=chance.uniform(0, 60))
    life = Life(began, {"senior": chance.choice(PLACES), "junior": chance.choice(PLACES)})
    diligence = chance.choice([0.0, 0.2, 0.6, 0.9])
    while life.now < MONDAY + timedelta(days=365):
        life.on(chance.uniform(2, 14))
        if not life.course.running:
            continue
        if chance.random() < diligence:
            life.met()
        elif chance.random() < 0.03:
            life.pause()
            life.on(chance.uniform(3, 30))
            life.resume()
        if life.now - began > timedelta(days=183):
            life.end("completed" if life.course.held() else "not_started")
    return life


def test_every_pairing_without_a_first_meeting_is_noticed_on_the_day_and_not_before() -> None:
    silent = 0
    for seed in range(PAIRS):
        life = year_of(seed)
        course, met = life.course, life.when("session.held")
        for fact, deadline in (
            ("no_first_meeting_booked", first_booked_by(course)),
            ("no_first_meeting_held", first_held_by(course)),
        ):
            told = [event.happened_at for event in life.told("contact.needed") if fact in event.facts]
            if met and met[0] < deadline:
                assert told == [], f"{seed}: {fact}"
            else:
                silent += 1
                assert told, f"{seed}: {fact}"
                assert told[0] >= deadline
                assert told[0] == deadline or told[0] in [stop.until for stop in course.pauses]
        asked = [(event.milestone, event.side) for event in life.told("checkin.due")]
        assert len(asked) == len(set(asked))
        assert {"day_0", "day_30", "day_90"} <= {milestone for milestone, _ in asked}
        assert len(life.told("outcome.recorded")) == 1
        assert course.answers == {}
    assert silent > PAIRS / 3
