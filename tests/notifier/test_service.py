"""Notifier at work on a real store and a real SMTP server: who is told, once, when, and what becomes of it."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta

import pytest

from chassis.storage.projections import ProjectionRow
from contracts.feedback import CheckinCompleted, ContactNeeded, SessionCancelled
from contracts.notifications import NotificationSent
from contracts.pairings import (
    AnswerGiven,
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingLapsed,
    PairingProposed,
    PairingResumed,
)
from contracts.privacy import ErasureRequested
from contracts.profiles import TakingPart
from services.notifier.domain.notification import CLAIM_LEASE
from services.notifier.sending import send_due_notification
from tests.notifier.harness import NOON, NotifierHarness, checkin, feedback_fields, meeting, pairing, programme
from tests.notifier.smtp_server import DROP, VANISH

DAY = timedelta(days=1)


def answer(side: str) -> AnswerGiven:
    return AnswerGiven.model_validate(
        {
            "pairing_id": "p1",
            "programme_id": "g1",
            "side": side,
            "answer": "declined",
            "happened_at": NOON,
            "recorded_at": NOON,
        }
    )


async def states(world: NotifierHarness, purpose: str) -> dict[str | None, tuple[str, str | None]]:
    return {one.member_id: (one.state, one.reason) for one in await world.notifications(purpose)}


async def test_both_are_told_of_a_proposal_once_however_often_it_is_heard(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    envelope = await notifier.deliver(pairing())
    for _ in range(3):
        await notifier.settle()
        await notifier.deliver(pairing(), envelope=envelope)
    assert sorted(str(mail["To"]) for mail in notifier.server.received) == [
        "Name of m1 <m1@example.com>",
        "Name of m2 <m2@example.com>",
    ]
    assert await states(notifier, "proposal") == {"m1": ("sent", None), "m2": ("sent", None)}
    events = [entry for entry in await notifier.published_events() if entry["type"] == NotificationSent.TYPE]
    assert len(events) == 2
    assert not any("example.com" in str(entry) or "Name of" in str(entry) for entry in events)


async def test_who_has_not_answered_is_reminded_once_and_nobody_else(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    await notifier.deliver(answer("senior"))  # its topic may be ahead of the other
    await notifier.deliver(pairing())
    await notifier.pass_time(12 * DAY)
    assert await states(notifier, "answer_reminder") == {"m1": ("suppressed", "not_needed"), "m2": ("sent", None)}
    assert [one.member_id for one in await notifier.notifications("answer_reminder") if one.shown_at] == ["m2"]
    assert sorted(str(mail["To"]) for mail in notifier.server.received)[1:] == ["Name of m2 <m2@example.com>"] * 2


@pytest.mark.parametrize("cap", [1, 2, 3])
@pytest.mark.parametrize("hour", [0, 12])
async def test_nothing_that_is_said_in_public_tells_who_was_reminded_to_answer(
    notifier: NotifierHarness, cap: int, hour: int
) -> None:
    """The two are alike but for their answer: so must be what is said of them, also where a reminder took the place of
    something else in the week, or waited for the morning or for a place."""
    await notifier.deliver(programme(messages_per_week=cap))
    await notifier.add_members("m1", "m2")
    notifier.clock.move(timedelta(hours=hour))
    begun = notifier.clock.now()

    def one(id: str, kind: type[PairingEvent] = PairingProposed) -> PairingEvent:
        at = notifier.clock.now()
        return pairing(kind, id, happened_at=at, proposed_at=begun, answer_by=begun + 14 * DAY)

    for id in ("p1", "p2"):
        await notifier.deliver(one(id))
    await notifier.deliver(answer("senior"))
    await notifier.pass_time(14 * DAY)
    for id in ("p1", "p2"):
        await notifier.deliver(one(id, PairingLapsed))
    await notifier.pass_time(8 * DAY)
    said: dict[str, list[tuple[str, str, str]]] = {"m1": [], "m2": []}
    for entry in await notifier.published_events():
        event = json.loads(str(entry["data"]))
        assert event["purpose"] != "answer_reminder"
        said[event["member_id"]].append((str(entry["type"]), event["purpose"], event["happened_at"]))
    assert sorted(said["m1"]) == sorted(said["m2"])
    assert len(said["m1"]) >= 4
    reminded = {
        one.member_id for one in await notifier.notifications("answer_reminder") if one.about.pairing_id == "p1"
    }
    assert reminded == {"m1", "m2"}


@pytest.mark.parametrize("together", [True, False])
async def test_who_asked_for_somebody_or_said_yes_to_them_is_not_asked_again(
    notifier: NotifierHarness, together: bool
) -> None:
    """A pairing by request is proposed and formed in one save; its two events may come in two batches."""
    await notifier.add_members("m1", "m2")
    await notifier.deliver(pairing(origin="request"))
    if not together:
        await notifier.settle()
    await notifier.deliver(pairing(PairingFormed, origin="request"))
    await notifier.pass_time(12 * DAY)
    for purpose in ("proposal", "answer_reminder"):
        assert set((await states(notifier, purpose)).values()) == {("suppressed", "not_needed")}
    assert set((await states(notifier, "partners")).values()) == {("sent", None)}


async def test_a_contact_that_comes_later_than_the_pairing_is_still_told(notifier: NotifierHarness) -> None:
    await notifier.deliver(pairing())
    await notifier.settle()
    assert notifier.server.received == []
    await notifier.add_members("m1", "m2")
    notifier.clock.move(timedelta(minutes=5))
    await notifier.settle()
    assert len(notifier.server.received) == 2


async def test_what_is_about_a_pairing_or_programme_not_heard_of_yet_waits_for_it(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    await notifier.deliver(checkin())
    await notifier.settle()
    assert await notifier.notifications() == []
    await notifier.deliver(pairing(PairingFormed))
    notifier.clock.move(timedelta(minutes=5))
    await notifier.settle()
    assert await states(notifier, "checkin") == {"m2": ("sent", None)}


async def test_nobody_is_written_to_at_night_and_everybody_in_the_morning_of_their_own(
    notifier: NotifierHarness,
) -> None:
    await notifier.add_members("m1", time_zone="Asia/Tokyo")
    await notifier.add_members("m2", time_zone="America/New_York")
    notifier.clock.move(timedelta(hours=-2))  # 10:00 UTC: 19:00 in Tokyo, 05:00 in New York
    await notifier.deliver(pairing(happened_at=notifier.clock.now()))
    await notifier.settle()
    assert notifier.server.received == []
    await notifier.pass_time(timedelta(hours=3), timedelta(hours=1))
    assert [one.member_id for one in await notifier.notifications("proposal") if one.state == "sent"] == ["m2"]
    await notifier.pass_time(timedelta(hours=10), timedelta(hours=1))
    sent = {one.member_id: one.said_at for one in await notifier.notifications("proposal")}
    assert sent["m1"] == datetime(2026, 3, 2, 23, tzinfo=UTC)
    assert sent["m2"] == datetime(2026, 3, 2, 13, tzinfo=UTC)


async def test_the_weeks_cap_holds_back_what_asks_and_drops_what_does_not(notifier: NotifierHarness) -> None:
    await notifier.deliver(programme(messages_per_week=2))
    await notifier.add_members("m1", "m2")
    for number in range(4):
        await notifier.deliver(pairing(id=f"p{number}"))
        await notifier.settle()
    by_m1 = [one for one in await notifier.notifications("proposal") if one.member_id == "m1"]
    assert sorted(one.state for one in by_m1) == ["held", "held", "sent", "sent"]
    assert all(one.shown_at is not None for one in by_m1)
    await notifier.deliver(pairing(PairingEnded, id="p0", end_kind="ended_early"))
    await notifier.pass_time(7 * DAY, timedelta(hours=12))
    assert sum(str(mail["To"]).endswith("<m1@example.com>") for mail in notifier.server.received) <= 4


async def test_a_server_that_refuses_delays_and_drops_gets_each_message_once_or_it_is_failed(
    notifier: NotifierHarness,
) -> None:
    await notifier.add_members("m1", "m2")
    notifier.server.recipient_replies.extend(["450 later", "550 never", VANISH])
    notifier.server.data_replies.extend(["451 greylisted", DROP])
    await notifier.deliver(pairing())
    for _ in range(12):
        notifier.clock.machine_time += timedelta(hours=1)
        await notifier.settle()
    ended = await notifier.notifications("proposal")
    assert sorted(one.state for one in ended) == ["failed", "sent"]
    assert [one.reason for one in ended if one.state == "failed"] == ["address_refused"]
    assert set(notifier.server.message_ids()) == {
        f"<{one.notification_id}@localhost>" for one in ended if one.state == "sent"
    }
    assert len(notifier.server.message_ids()) <= 2


async def test_a_server_that_takes_the_mail_and_never_says_so_gets_it_twice_at_most(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    notifier.server.data_replies.extend([DROP] * 20)
    await notifier.deliver(pairing())
    for _ in range(8):
        notifier.clock.machine_time += timedelta(hours=2)
        await notifier.settle()
    assert await states(notifier, "proposal") == {
        "m1": ("failed", "outcome_unknown"),
        "m2": ("failed", "outcome_unknown"),
    }
    ids = notifier.server.message_ids()
    assert len(ids) == 4
    assert len(set(ids)) == 2


async def test_two_replicas_that_find_the_same_message_due_send_it_once(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    await notifier.deliver(pairing())
    stored = [one async for one in notifier.notifier.notifications.find({"purpose": "proposal"})]
    await asyncio.gather(*(send_due_notification(one, notifier.notifier) for one in stored * 3))
    assert len(notifier.server.received) == 2


async def test_a_crash_after_the_hand_over_sends_the_same_message_id_once_more(
    notifier: NotifierHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notifier.add_members("m1", email=None, channels=("inbox",))
    await notifier.add_members("m2")
    await notifier.deliver(pairing())
    with monkeypatch.context() as patched:

        async def dies(*_: object) -> None:
            raise SystemExit

        real = type(notifier.notifier.mailer).send

        async def handed_over_and_dead(mailer: object, letter: object) -> None:
            await real(mailer, letter)  # type: ignore[arg-type]
            await dies()

        patched.setattr(type(notifier.notifier.mailer), "send", handed_over_and_dead)
        stored = [one async for one in notifier.notifier.notifications.find({"member_id": "m2", "purpose": "proposal"})]
        with pytest.raises(SystemExit):
            await send_due_notification(stored[0], notifier.notifier)
    await notifier.settle()
    assert len(notifier.server.received) == 1
    notifier.clock.move(CLAIM_LEASE)
    await notifier.settle()
    assert len(notifier.server.message_ids()) == 2
    assert len(set(notifier.server.message_ids())) == 1
    assert (await states(notifier, "proposal"))["m2"] == ("sent", None)


async def test_who_has_left_hears_nothing(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", employment="left")
    await notifier.add_members("m2")
    await notifier.deliver(pairing())
    await notifier.settle()
    assert (await states(notifier, "proposal"))["m1"] == ("suppressed", "left")
    assert len(notifier.server.received) == 1


async def test_an_invitation_goes_out_once_when_the_programme_is_open(notifier: NotifierHarness) -> None:
    invited = TakingPart(programme_id="g2", state="invited", since=NOON)
    await notifier.add_members("m1", taking_part=(invited,))
    await notifier.settle()
    assert await notifier.notifications() == []
    opened = programme().model_copy(update={"programme_id": "g2"})
    for version in (1, 2):
        await notifier.deliver(opened.model_copy(update={"version": version}))
        await notifier.add_members("m1", taking_part=(invited,), display_name="Another")
        await notifier.settle()
    assert await states(notifier, "invitation") == {"m1": ("sent", None)}
    assert len(notifier.server.received) == 1
    assert await notifier.published_events() == []  # who takes part is for matcher and feedback


async def test_assistants_see_times_and_nothing_else(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", delegates=("a1",))
    await notifier.add_members("m2", "a1")
    await notifier.deliver(pairing(PairingFormed))
    await notifier.deliver(meeting(NOON + 3 * DAY))
    await notifier.settle()
    [note] = await notifier.notifications("meeting_time")
    assert (note.member_id, note.about.pairing_id, note.about.programme_id) == ("a1", None, None)
    [mail] = [mail for mail in notifier.server.received if "a1@" in str(mail["To"])]
    assert "Name of m1" in mail.get_payload()
    assert "Name of m2" not in str(mail)
    assert "pairings" not in mail.get_payload()
    assert not any("a1" in str(entry["data"]) for entry in await notifier.published_events())


async def test_a_meeting_that_was_moved_is_reminded_of_at_its_new_time(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    await notifier.deliver(pairing(PairingFormed))
    await notifier.deliver(meeting(NOON + 3 * DAY))
    await notifier.deliver(meeting(NOON + 5 * DAY))
    await notifier.pass_time(6 * DAY)
    sent = [one.about.starts_at for one in await notifier.notifications("meeting_soon") if one.state == "sent"]
    assert sent == [NOON + 5 * DAY] * 2


async def test_half_way_is_said_once_also_where_a_break_has_moved_the_end(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    await notifier.deliver(pairing(PairingFormed, planned_end=date(2026, 4, 2)))
    await notifier.settle()
    end, now = date(2026, 4, 12), notifier.clock.now()
    await notifier.deliver(pairing(PairingResumed, state="formed", formed_at=NOON, planned_end=end, happened_at=now))
    await notifier.pass_time(30 * DAY, timedelta(hours=12))
    told = [one.about.planned_end for one in await notifier.notifications("half_way") if one.state == "sent"]
    assert told == ["2026-04-12"] * 2


async def test_half_way_is_not_said_again_when_a_break_comes_after_it(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    await notifier.deliver(pairing(PairingFormed, planned_end=date(2026, 4, 2)))
    await notifier.pass_time(24 * DAY, timedelta(hours=12))
    moved = pairing(PairingResumed, planned_end=date(2026, 4, 12), happened_at=notifier.clock.now())
    await notifier.deliver(moved)
    await notifier.pass_time(5 * DAY, timedelta(hours=12))
    told = [one.about.planned_end for one in await notifier.notifications("half_way") if one.state == "sent"]
    assert told == ["2026-04-02"] * 2


async def test_a_completed_checkin_is_not_asked_for_again(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    await notifier.deliver(pairing(PairingFormed))
    due = checkin()
    await notifier.deliver(due)
    await notifier.settle()
    await notifier.deliver(CheckinCompleted.model_validate(due.model_dump()))
    await notifier.pass_time(8 * DAY)
    assert await states(notifier, "checkin_reminder") == {"m2": ("suppressed", "not_needed")}


async def test_a_coordinator_hears_of_a_pair_that_needs_a_person_unless_it_is_their_own(
    notifier: NotifierHarness,
) -> None:
    await notifier.add_members("m1", "m2", "c1")
    await notifier.deliver(pairing(PairingFormed))
    await notifier.deliver(ContactNeeded.model_validate(feedback_fields(facts=("two_missed_in_a_row",))))
    await notifier.settle()
    assert list(await states(notifier, "pair_needs_a_person")) == ["c1"]
    [mail] = [mail for mail in notifier.server.received if "c1@" in str(mail["To"])]
    assert not any(name in mail.get_payload() for name in ("Name of m1", "Name of m2"))


async def test_an_erased_member_leaves_nothing_and_hears_nothing_more(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2")
    await notifier.deliver(pairing())
    await notifier.settle()
    before = len(notifier.server.received)
    await notifier.deliver(ErasureRequested(member_id="m1", requested_at=NOON))
    await notifier.notifier.contacts.apply([ProjectionRow("m1", 10_000, None)])
    notifier.clock.move(timedelta(minutes=1))
    await notifier.settle()
    await notifier.deliver(pairing(PairingEnded, end_kind="not_started"))
    await notifier.settle()
    erasure = await notifier.notifier.erasures.get("m1")
    assert erasure is not None
    assert erasure.state.completed_at is not None
    assert not await notifier.notifier.holds("m1")
    assert all("<m2@" in str(mail["To"]) for mail in notifier.server.received[before:])
    assert await states(notifier, "ended") == {"m2": ("sent", None)}
    await notifier.deliver(SessionCancelled.model_validate(meeting(NOON + 3 * DAY).model_dump()))
    assert [one.state.is_pending async for one in notifier.notifier.postponed_events.find({})] == []
    kept = [
        {**document, "outbox": None}
        for name in ("notifications", "readers", "contacts", "waiting", "pairings")
        async for document in notifier.chassis.mongo.collection(name).find({})
        if document["_id"] != "m1"
    ]
    assert "'m1'" not in str([{**one, "recent": None} for one in kept])
    assert "Name of m1" not in str(kept)


async def test_every_record_has_one_cause_reader_and_purpose(notifier: NotifierHarness) -> None:
    await notifier.add_members("m1", "m2", "c1", delegates=("a1",))
    await notifier.add_members("a1")
    for event in (
        pairing(),
        pairing(PairingFormed),
        meeting(NOON + 3 * DAY),
        checkin(),
        pairing(PairingEnded, end_kind="completed"),
    ):
        envelope = await notifier.deliver(event)
        await notifier.deliver(event, envelope=envelope)
        await notifier.settle()
    await notifier.pass_time(30 * DAY, timedelta(hours=6))
    notes = await notifier.notifications()
    keys = [(one.about.pairing_id, one.about.starts_at, one.member_id, one.purpose) for one in notes]
    assert len(set(keys)) == len(keys)
    assert all(one.is_finished or one.due for one in notes)
    assert all(one.reason for one in notes if one.state in ("suppressed", "failed"))
    assert len(set(notifier.server.message_ids())) == len(notifier.server.message_ids())
