"""One notification from its record to its end, decided purely."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.moment import Moment
from contracts.notifications import NotificationFailed, NotificationSent, NotificationSuppressed
from contracts.pairings import PairingProposed
from contracts.profiles import Absence, ContactChanged
from contracts.programmes import Care
from services.notifier.domain import notification as notes
from services.notifier.domain.catalogue import CATALOGUE, ROW_BY_PURPOSE, SendingFacts
from services.notifier.domain.notification import (
    CLAIM_LEASE,
    CONTACT_PATIENCE,
    MAX_ATTEMPTS,
    Deliver,
    DeliveryContext,
    Fail,
    Notification,
    NotificationDetails,
    Suppress,
    WaitForContact,
    WaitUntil,
)
from services.notifier.domain.recipient import ChannelPreference, QuietHoursPreference

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MACHINE = datetime(2026, 7, 1, 8, tzinfo=UTC)
MOMENT = Moment(now=NOON, recorded_at=MACHINE)
AL = ContactChanged(member_id="m1", display_name="Al Ek", email="al@example.com", channels=("email", "inbox"))
OK = DeliveryContext(
    contact=AL, is_erased=False, care=Care(), channels=ChannelPreference(), hours=None, facts=SendingFacts()
)


def note(purpose: str = "ended", **changes: object) -> Notification:
    made = Notification(
        notification_id="n1",
        member_id="m1",
        purpose=purpose,
        cause_id="e1",
        about=NotificationDetails(pairing_id="p1", programme_id="g1", side="senior"),
        happened_at=NOON,
        created_at=MACHINE,
        useful_until=NOON + ROW_BY_PURPOSE[purpose].relevant_for,
        lease=MACHINE,
    )
    return made.model_copy(update=changes)


def proposed() -> PairingProposed:
    return PairingProposed.model_validate(
        {
            "pairing_id": "p1",
            "state": "proposed",
            "happened_at": NOON,
            "recorded_at": NOON,
            "programme_id": "g1",
            "programme_version": 1,
            "origin": "round",
            "participants": [
                {"member_id": id, "side": side, "organisation_id": "o", "department_id": "d"}
                for id, side in (("m1", "senior"), ("m2", "junior"))
            ],
            "proposed_at": NOON,
            "answer_by": NOON + timedelta(days=14),
        }
    )


def judged(one: Notification, found: DeliveryContext = OK, at: datetime = NOON) -> notes.Verdict:
    return notes.decide_delivery(one, found, Moment(at, MACHINE))


def claimed(one: Notification) -> Notification:
    done = notes.apply_verdict(one, one, Deliver("email"), MOMENT)
    assert done is not None
    return done[0]


def test_the_same_cause_reader_and_purpose_are_recorded_once() -> None:
    opened = notes.open_notification(None, note(), NOON)
    assert opened == (note(), [])
    assert notes.open_notification(opened[0], note(), NOON) is None


def test_what_a_rebuilt_notifier_hears_again_is_recorded_and_not_said() -> None:
    done = notes.open_notification(None, note(), NOON + timedelta(days=365))
    assert done is not None
    assert (done[0].state, done[0].reason, done[0].lease, done[1]) == ("suppressed", "outdated", None, [])


@pytest.mark.parametrize(
    ("changes", "contact", "verdict"),
    [
        ({}, {}, Deliver("email")),
        ({}, {"email": None, "channels": ("inbox",)}, Deliver("inbox")),
        ({}, {"email": None, "channels": ("email",)}, Fail("no_address")),
        ({}, {"employment": "left"}, Suppress("left")),
        ({}, {"employment": "leaving"}, Deliver("email")),
        ({"channels": ChannelPreference(email=False)}, {}, Deliver("inbox")),
        ({"is_erased": True}, {}, Suppress("gone", is_published=False)),
    ],
)
def test_the_channel_follows_from_the_contact_and_the_wishes(
    changes: dict[str, object], contact: dict[str, object], verdict: notes.Verdict
) -> None:
    found = replace(OK, contact=AL.model_copy(update=contact), **changes)  # type: ignore[arg-type]
    assert judged(note(), found) == verdict


def test_who_is_away_is_told_what_needs_them_and_spared_the_rest() -> None:
    away = AL.model_copy(update={"away": (Absence(since=date(2026, 3, 1), until=date(2026, 3, 2)),)})
    assert judged(note("ended"), replace(OK, contact=away)) == Deliver("email")
    assert judged(note("renewed"), replace(OK, contact=away)) == Suppress("away")
    assert judged(note("renewed"), replace(OK, contact=away), NOON + timedelta(days=1)) == Deliver("email")


def test_a_wish_against_both_channels_silences_what_asks_nothing() -> None:
    assert judged(note("renewed"), replace(OK, channels=ChannelPreference(email=False, inbox=False))) == Suppress(
        "wish"
    )


def test_a_note_is_never_pushed() -> None:
    assert judged(note("agreed")) == Deliver("inbox")


def test_a_contact_may_come_later_than_the_pairing_but_not_for_ever() -> None:
    nobody = replace(OK, contact=None)
    assert judged(note(), nobody) == WaitForContact()
    machine = MACHINE
    one = note()
    while (verdict := notes.decide_delivery(one, nobody, Moment(NOON, machine))) == WaitForContact():
        done = notes.apply_verdict(one, one, verdict, Moment(NOON, machine))
        assert done is not None
        one, said = done
        assert said == []
        assert one.lease is not None
        assert one.lease > machine
        machine = one.lease
    assert verdict == Suppress("no_contact")
    assert machine - MACHINE < CONTACT_PATIENCE + timedelta(minutes=6)


def test_at_night_it_waits_for_the_readers_own_morning() -> None:
    tokyo = replace(OK, contact=AL.model_copy(update={"time_zone": "Asia/Tokyo"}))
    assert judged(note(), tokyo) == WaitUntil(datetime(2026, 3, 2, 23, tzinfo=UTC))
    assert judged(note(), replace(tokyo, hours=QuietHoursPreference(from_hour=23, until_hour=5))) == Deliver("email")


def test_an_attempt_is_claimed_before_it_is_made_and_by_one_alone() -> None:
    begun = claimed(note())
    assert (begun.state, begun.attempts, begun.in_doubt, begun.lease) == ("sending", 1, True, MACHINE + CLAIM_LEASE)
    assert notes.apply_verdict(begun, note(), Deliver("email"), MOMENT) is None


def test_accepted_is_sent_once() -> None:
    begun = claimed(note())
    done = notes.record_acceptance(begun, 1, MACHINE)
    assert done is not None
    sent, said = done
    assert (sent.state, sent.due, sent.lease) == ("sent", None, None)
    assert [type(one) for one in said] == [NotificationSent]
    assert notes.record_acceptance(sent, 1, MACHINE) is None


def test_an_attempt_in_doubt_is_made_once_more_and_never_a_third_time() -> None:
    first = claimed(note())
    second = claimed(first)
    assert (second.attempts, second.state) == (2, "sending")
    third = notes.apply_verdict(second, second, Deliver("email"), MOMENT)
    assert third is not None
    assert (third[0].state, third[0].reason, third[0].attempts) == ("failed", "outcome_unknown", 2)
    assert [type(one) for one in third[1]] == [NotificationFailed]


def test_a_server_that_says_later_for_ever_ends_in_failed() -> None:
    one = note()
    machine = MACHINE
    for attempt in range(1, MAX_ATTEMPTS + 1):
        one = claimed(one)
        done = notes.record_deferral(one, attempt, in_doubt=False, moment=Moment(NOON, machine))
        assert done is not None
        assert done[0].lease is None or done[0].lease > machine
        one = done[0]
    assert (one.state, one.reason) == ("failed", "undelivered")


def test_an_outcome_of_an_older_attempt_changes_nothing() -> None:
    second = claimed(claimed(note()))
    assert notes.record_deferral(second, 1, in_doubt=False, moment=MOMENT) is None
    assert notes.record_rejection(second, 1, "address_refused", MOMENT) is None
    done = notes.record_rejection(second, 2, "address_refused", MOMENT)
    assert done is not None
    assert (done[0].state, done[0].reason) == ("failed", "address_refused")


def test_a_doubt_outlives_a_night_of_waiting() -> None:
    begun = claimed(note())
    night = notes.apply_verdict(begun, begun, WaitUntil(NOON + timedelta(hours=9)), MOMENT)
    assert night is not None
    assert claimed(night[0]).doubts == 1


def test_of_a_reminder_to_answer_nothing_is_said_in_public_whatever_becomes_of_it() -> None:
    one = note("answer_reminder")
    for verdict in (Deliver("inbox"), Suppress("left"), Suppress("no_contact"), Fail("no_address")):
        done = notes.apply_verdict(one, one, verdict, MOMENT)
        assert done is not None
        assert (done[0].is_finished, done[1]) == (True, [])
    sent = notes.record_acceptance(claimed(one), 1, MACHINE)
    refused = notes.record_rejection(claimed(one), 1, "address_refused", MOMENT)
    assert sent is not None
    assert refused is not None
    assert [*sent[1], *refused[1]] == []


def test_whether_somebody_answered_changes_only_what_reaches_them() -> None:
    one = note("answer_reminder")
    facts = [SendingFacts(pairing=proposed(), is_answered=answered) for answered in (False, True)]
    for at in (NOON, NOON + timedelta(hours=10)):  # by day and by night
        assert len({judged(one, replace(OK, facts=known), at) for known in facts}) == 1
    assert notes.apply_private_fact(one, Deliver("email"), facts[0]) == Deliver("email")
    assert notes.apply_private_fact(one, Deliver("email"), facts[1]) == Suppress("not_needed", is_published=False)
    night = notes.apply_private_fact(one, WaitUntil(NOON), facts[1])
    done = notes.apply_verdict(one, one, night, MOMENT)
    assert done is not None
    assert (done[0].due, done[0].shown_at) == (NOON, None)


def test_every_other_reminder_is_of_what_everybody_may_know() -> None:
    """Only where a line says so does a private fact count, and then no event tells of it."""
    assert [row.purpose for row in CATALOGUE if row.unless] == ["answer_reminder"]
    untold = {row.purpose for row in CATALOGUE if not row.is_public}
    assert untold == {"answer_reminder", "invitation", "welcome", "meeting_time", "meeting_time_off"}
    for row in CATALOGUE:
        if row.is_public:
            for known in (SendingFacts(), SendingFacts(pairing=proposed())):
                assert row.only_if(known) == row.only_if(replace(known, is_answered=True)), row.purpose


def test_why_something_was_suppressed_is_in_the_record_and_in_no_event() -> None:
    done = notes.apply_verdict(note(), note(), Suppress("left"), MOMENT)
    assert done is not None
    assert done[0].reason == "left"
    [event] = done[1]
    assert isinstance(event, NotificationSuppressed)
    assert "left" not in event.model_dump_json()


def test_what_is_forgotten_names_nobody_and_nothing_and_is_not_said() -> None:
    done = notes.forget(claimed(note()))
    assert done is not None
    gone = done[0]
    assert (gone.member_id, gone.about, gone.state, gone.lease) == (None, NotificationDetails(), "suppressed", None)
    assert "m1" not in gone.model_dump_json()
    assert notes.forget(gone) is None
    assert notes.record_acceptance(gone, 1, MACHINE) is None


def test_an_inbox_is_sorted_newest_first() -> None:
    older = notes.apply_verdict(note("agreed"), note("agreed"), Deliver("inbox"), MOMENT)
    newer = notes.apply_verdict(
        note("agreed"), note("agreed"), Deliver("inbox"), Moment(NOON + timedelta(seconds=1), MACHINE)
    )
    assert older is not None
    assert newer is not None
    assert str(newer[0].order) < str(older[0].order)


steps = st.lists(st.sampled_from(["say", "accept", "refuse", "later", "doubt", "crash", "night"]), max_size=30)


@given(steps)
def test_whatever_the_server_does_it_is_handed_over_at_most_twice_after_it_may_have_arrived(taken: list[str]) -> None:
    """``arrivals``: attempts after which the mail may lie with the server."""
    one, arrivals, ends = note(), 0, 0
    for step in taken:
        if step == "say":
            done = notes.apply_verdict(one, one, Deliver("email"), MOMENT)
        elif step == "night":
            done = notes.apply_verdict(one, one, WaitUntil(NOON), MOMENT)
        elif step in ("crash", "accept", "doubt") and one.state == "sending" and one.in_doubt:
            arrivals += one.lease == MACHINE + CLAIM_LEASE
            if step == "accept":
                done = notes.record_acceptance(one, one.attempts, MACHINE)
            elif step == "doubt":
                done = notes.record_deferral(one, one.attempts, in_doubt=True, moment=MOMENT)
            else:
                done = notes.apply_verdict(one, one, Deliver("email"), MOMENT)
        elif step == "refuse":
            done = notes.record_rejection(one, one.attempts, "message_refused", MOMENT)
        elif step == "later":
            done = notes.record_deferral(one, one.attempts, in_doubt=False, moment=MOMENT)
        else:
            continue
        if done is not None:
            ends += len(done[1])
            one = done[0]
    assert one.doubts <= 1
    assert ends == one.is_finished


def test_every_line_of_the_table_is_said_in_one_way() -> None:
    assert len({row.purpose for row in CATALOGUE}) == len(CATALOGUE)
    assert all(row.relevant_for > timedelta() for row in CATALOGUE)
    assert not any(row.kind == "essential" and row.audience in ("assistants", "coordinators") for row in CATALOGUE)
