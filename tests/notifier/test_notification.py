"""The decisions about current notification, from its record to its end. Pure; no server."""

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
from services.notifier.domain import notification as notifications
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
from services.notifier.domain.notification_schedule import ROW_BY_PURPOSE, SCHEDULE, SendingFacts
from services.notifier.domain.recipient import ChannelPreference, QuietHoursPreference

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MACHINE = datetime(2026, 7, 1, 8, tzinfo=UTC)
MOMENT = Moment(now=NOON, recorded_at=MACHINE)
AL = ContactChanged(member_id="m1", display_name="Al Ek", email="al@example.com", channels=("email", "inbox"))
OK = DeliveryContext(
    contact=AL, is_erased=False, care=Care(), channels=ChannelPreference(), hours=None, facts=SendingFacts()
)


def notification(purpose: str = "ended", **changes: object) -> Notification:
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


def decide(current: Notification, context: DeliveryContext = OK, at: datetime = NOON) -> notifications.Verdict:
    return notifications.decide_delivery(current, context, Moment(at, MACHINE))


def claim(current: Notification) -> Notification:
    done = notifications.apply_verdict(current, current, Deliver("email"), MOMENT)
    assert done is not None
    return done[0]


class TestOpen:
    def test_same_cause_recipient_and_purpose_is_recorded_once(self) -> None:
        opened = notifications.open_notification(None, notification(), NOON)
        assert opened == (notification(), [])
        assert notifications.open_notification(opened[0], notification(), NOON) is None

    def test_outdated_event_is_recorded_and_not_sent(self) -> None:
        """A rebuilt notifier receives every event again."""
        done = notifications.open_notification(None, notification(), NOON + timedelta(days=365))
        assert done is not None
        assert (done[0].state, done[0].reason, done[0].lease, done[1]) == ("suppressed", "outdated", None, [])


class TestDecideDelivery:
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
    def test_channel_follows_from_contact_and_preferences(
        self, changes: dict[str, object], contact: dict[str, object], verdict: notifications.Verdict
    ) -> None:
        context = replace(OK, contact=AL.model_copy(update=contact), **changes)  # type: ignore[arg-type]
        assert decide(notification(), context) == verdict

    def test_absent_members_get_only_essential_notifications(self) -> None:
        away = AL.model_copy(update={"away": (Absence(since=date(2026, 3, 1), until=date(2026, 3, 2)),)})
        assert decide(notification("ended"), replace(OK, contact=away)) == Deliver("email")
        assert decide(notification("renewed"), replace(OK, contact=away)) == Suppress("away")
        assert decide(notification("renewed"), replace(OK, contact=away), NOON + timedelta(days=1)) == Deliver("email")

    def test_without_channels_a_nudge_is_suppressed(self) -> None:
        assert decide(
            notification("renewed"), replace(OK, channels=ChannelPreference(email=False, inbox=False))
        ) == Suppress("wish")

    def test_a_note_goes_to_the_inbox_only(self) -> None:
        assert decide(notification("agreed")) == Deliver("inbox")

    def test_waits_a_limited_time_for_the_contact(self) -> None:
        nobody = replace(OK, contact=None)
        assert decide(notification(), nobody) == WaitForContact()
        machine = MACHINE
        current = notification()
        while (verdict := notifications.decide_delivery(current, nobody, Moment(NOON, machine))) == WaitForContact():
            done = notifications.apply_verdict(current, current, verdict, Moment(NOON, machine))
            assert done is not None
            current, events = done
            assert events == []
            assert current.lease is not None
            assert current.lease > machine
            machine = current.lease
        assert verdict == Suppress("no_contact")
        assert machine - MACHINE < CONTACT_PATIENCE + timedelta(minutes=6)

    def test_at_night_waits_for_the_recipients_morning(self) -> None:
        tokyo = replace(OK, contact=AL.model_copy(update={"time_zone": "Asia/Tokyo"}))
        assert decide(notification(), tokyo) == WaitUntil(datetime(2026, 3, 2, 23, tzinfo=UTC))
        assert decide(
            notification(), replace(tokyo, hours=QuietHoursPreference(from_hour=23, until_hour=5))
        ) == Deliver("email")


class TestPrivateFacts:
    def test_an_answer_reminder_publishes_nothing(self) -> None:
        """No event mentions it, whatever its outcome."""
        current = notification("answer_reminder")
        for verdict in (Deliver("inbox"), Suppress("left"), Suppress("no_contact"), Fail("no_address")):
            done = notifications.apply_verdict(current, current, verdict, MOMENT)
            assert done is not None
            assert (done[0].is_finished, done[1]) == (True, [])
        sent = notifications.record_acceptance(claim(current), 1, MACHINE)
        refused = notifications.record_rejection(claim(current), 1, "address_refused", MOMENT)
        assert sent is not None
        assert refused is not None
        assert [*sent[1], *refused[1]] == []

    @pytest.mark.parametrize("fact", [SendingFacts(is_answered=True), SendingFacts(is_unwanted=True)])
    def test_a_private_fact_changes_only_what_reaches_the_member(self, fact: SendingFacts) -> None:
        current = notification("answer_reminder")
        both_facts = [replace(facts, pairing=proposed()) for facts in (SendingFacts(), fact)]
        for at in (NOON, NOON + timedelta(hours=10)):  # by day and by night
            assert len({decide(current, replace(OK, facts=facts), at) for facts in both_facts}) == 1
        assert notifications.apply_private_fact(current, Deliver("email"), both_facts[0]) == Deliver("email")
        assert notifications.apply_private_fact(current, Deliver("email"), both_facts[1]) == Suppress(
            "not_needed", is_published=False
        )
        night = notifications.apply_private_fact(current, WaitUntil(NOON), both_facts[1])
        done = notifications.apply_verdict(current, current, night, MOMENT)
        assert done is not None
        assert (done[0].due, done[0].shown_at) == (NOON, None)

    def test_all_other_reminders_depend_on_public_facts(self) -> None:
        """A private fact counts only where a row says so, and then no event mentions the notification."""
        assert [row.purpose for row in SCHEDULE if row.unless] == [
            "answer_reminder",
            "request",
            "request_closed",
            "checkin",
            "checkin_reminder",
        ]
        untold = {row.purpose for row in SCHEDULE if not row.is_public}
        joining = {"invitation", "welcome", "contact_changed"}
        checkins, assistants = {"checkin", "checkin_reminder"}, {"meeting_time", "meeting_time_off"}
        choosing = {"request", "request_closed", "request_lapsed", "no_partner"}
        assert untold == {"answer_reminder"} | choosing | joining | checkins | assistants
        for row in SCHEDULE:
            if row.is_public:
                for facts in (SendingFacts(), SendingFacts(pairing=proposed())):
                    private = replace(facts, is_answered=True, is_completed=True, is_unwanted=True)
                    assert row.only_if(facts) == row.only_if(private), row.purpose

    def test_reason_of_suppression_is_in_no_event(self) -> None:
        done = notifications.apply_verdict(notification(), notification(), Suppress("left"), MOMENT)
        assert done is not None
        assert done[0].reason == "left"
        [event] = done[1]
        assert isinstance(event, NotificationSuppressed)
        assert "left" not in event.model_dump_json()

    def test_an_erased_notification_names_nobody(self) -> None:
        done = notifications.erase_notification(claim(notification()))
        assert done is not None
        gone = done[0]
        assert (gone.member_id, gone.about, gone.state, gone.lease) == (None, NotificationDetails(), "suppressed", None)
        assert "m1" not in gone.model_dump_json()
        assert notifications.erase_notification(gone) is None
        assert notifications.record_acceptance(gone, 1, MACHINE) is None


class TestInboxOrder:
    def test_is_sorted_newest_first(self) -> None:
        older = notifications.apply_verdict(notification("agreed"), notification("agreed"), Deliver("inbox"), MOMENT)
        newer = notifications.apply_verdict(
            notification("agreed"),
            notification("agreed"),
            Deliver("inbox"),
            Moment(NOON + timedelta(seconds=1), MACHINE),
        )
        assert older is not None
        assert newer is not None
        assert str(newer[0].order) < str(older[0].order)


steps = st.lists(st.sampled_from(["say", "accept", "refuse", "later", "doubt", "crash", "night"]), max_size=30)


class TestAttempts:
    def test_an_attempt_is_claimed_once_before_it_is_made(self) -> None:
        begun = claim(notification())
        assert (begun.state, begun.attempts, begun.in_doubt, begun.lease) == ("sending", 1, True, MACHINE + CLAIM_LEASE)
        assert notifications.apply_verdict(begun, notification(), Deliver("email"), MOMENT) is None

    def test_acceptance_is_published_once(self) -> None:
        begun = claim(notification())
        done = notifications.record_acceptance(begun, 1, MACHINE)
        assert done is not None
        sent, events = done
        assert (sent.state, sent.due, sent.lease) == ("sent", None, None)
        assert [type(event) for event in events] == [NotificationSent]
        assert notifications.record_acceptance(sent, 1, MACHINE) is None

    def test_an_attempt_in_doubt_is_repeated_once(self) -> None:
        first = claim(notification())
        second = claim(first)
        assert (second.attempts, second.state) == (2, "sending")
        third = notifications.apply_verdict(second, second, Deliver("email"), MOMENT)
        assert third is not None
        assert (third[0].state, third[0].reason, third[0].attempts) == ("failed", "outcome_unknown", 2)
        assert [type(event) for event in third[1]] == [NotificationFailed]

    def test_endless_deferrals_end_as_failed(self) -> None:
        current = notification()
        machine = MACHINE
        for attempt in range(1, MAX_ATTEMPTS + 1):
            current = claim(current)
            done = notifications.record_deferral(current, attempt, in_doubt=False, moment=Moment(NOON, machine))
            assert done is not None
            assert done[0].lease is None or done[0].lease > machine
            current = done[0]
        assert (current.state, current.reason) == ("failed", "undelivered")

    def test_outcome_of_an_older_attempt_changes_nothing(self) -> None:
        second = claim(claim(notification()))
        assert notifications.record_deferral(second, 1, in_doubt=False, moment=MOMENT) is None
        assert notifications.record_rejection(second, 1, "address_refused", MOMENT) is None
        done = notifications.record_rejection(second, 2, "address_refused", MOMENT)
        assert done is not None
        assert (done[0].state, done[0].reason) == ("failed", "address_refused")

    def test_doubt_survives_a_night_of_waiting(self) -> None:
        begun = claim(notification())
        night = notifications.apply_verdict(begun, begun, WaitUntil(NOON + timedelta(hours=9)), MOMENT)
        assert night is not None
        assert claim(night[0]).doubts == 1

    @given(steps)
    def test_a_mail_that_may_have_arrived_is_repeated_once(self, taken: list[str]) -> None:
        """``arrivals``: attempts after which the server may have the mail. At most one more follows such an attempt."""
        current, arrivals, ends = notification(), 0, 0
        for step in taken:
            if step == "say":
                done = notifications.apply_verdict(current, current, Deliver("email"), MOMENT)
            elif step == "night":
                done = notifications.apply_verdict(current, current, WaitUntil(NOON), MOMENT)
            elif step in ("crash", "accept", "doubt") and current.state == "sending" and current.in_doubt:
                arrivals += current.lease == MACHINE + CLAIM_LEASE
                if step == "accept":
                    done = notifications.record_acceptance(current, current.attempts, MACHINE)
                elif step == "doubt":
                    done = notifications.record_deferral(current, current.attempts, in_doubt=True, moment=MOMENT)
                else:
                    done = notifications.apply_verdict(current, current, Deliver("email"), MOMENT)
            elif step == "refuse":
                done = notifications.record_rejection(current, current.attempts, "message_refused", MOMENT)
            elif step == "later":
                done = notifications.record_deferral(current, current.attempts, in_doubt=False, moment=MOMENT)
            else:
                continue
            if done is not None:
                ends += len(done[1])
                current = done[0]
        assert current.doubts <= 1
        assert ends == current.is_finished


class TestScheduleRows:
    def test_are_unique_and_consistent(self) -> None:
        assert len({row.purpose for row in SCHEDULE}) == len(SCHEDULE)
        assert all(row.relevant_for > timedelta() for row in SCHEDULE)
        assert not any(row.kind == "essential" and row.audience in ("assistants", "coordinators") for row in SCHEDULE)
