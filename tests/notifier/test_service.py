"""Notifier on a real store and a real SMTP server: who is notified, when, once, and with which outcome."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from chassis.observability import metrics
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
from contracts.requests import RequestAccepted, RequestEvent, RequestLapsed, RequestWithdrawn
from contracts.unmatched import MemberUnmatched
from services.matcher.engine.unmatched_texts import MEMBER_TEXTS
from services.notifier.domain.notification import CLAIM_LEASE
from services.notifier.rendering import load_languages
from services.notifier.sending import send_due_notification
from tests.notifier.harness import NOON, NotifierHarness, checkin, feedback_fields, meeting, pairing, programme, request
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
    return {note.member_id: (note.state, note.reason) for note in await world.notifications(purpose)}


class TestProposal:
    async def test_notifies_both_once_for_repeated_events(self, notifier: NotifierHarness) -> None:
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

    async def test_only_the_side_without_an_answer_is_reminded(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.deliver(answer("senior"))  # its topic may be ahead of the pairings
        await notifier.deliver(pairing())
        await notifier.pass_time(12 * DAY)
        assert await states(notifier, "answer_reminder") == {"m1": ("suppressed", "not_needed"), "m2": ("sent", None)}
        assert [note.member_id for note in await notifier.notifications("answer_reminder") if note.shown_at] == ["m2"]
        assert sorted(str(mail["To"]) for mail in notifier.server.received)[1:] == ["Name of m2 <m2@example.com>"] * 2

    async def test_reminder_to_answer_is_in_no_count(self, notifier: NotifierHarness) -> None:
        """Otherwise the number of reminders tells how many sides had answered."""
        await notifier.add_members("m1", "m2")
        await notifier.deliver(pairing())
        await notifier.deliver(answer("senior"))
        await notifier.pass_time(12 * DAY)
        assert ("sent", None) in (await states(notifier, "answer_reminder")).values()
        async with notifier.client("admin") as admin:
            counts = (await admin.get("/notifications/counts")).json()
        assert counts == {"later": 0, "under_way": 0, "sent": 2, "failed": 0, "suppressed": 0}
        assert "answer_reminder" not in metrics.render_metrics().decode()

    @pytest.mark.parametrize("cap", [1, 2, 3])
    @pytest.mark.parametrize("hour", [0, 12])
    async def test_public_events_do_not_show_who_was_reminded(
        self, notifier: NotifierHarness, cap: int, hour: int
    ) -> None:
        """The two differ in their answer only, so their public events must be alike.

        That holds too where a reminder took the weekly slot of another mail, or waited for the morning or for a slot.
        """
        await notifier.deliver(programme(messages_per_week=cap))
        await notifier.add_members("m1", "m2")
        notifier.clock.move(timedelta(hours=hour))
        begun = notifier.clock.now()

        def pairing_event(id: str, kind: type[PairingEvent] = PairingProposed) -> PairingEvent:
            at = notifier.clock.now()
            return pairing(kind, id, happened_at=at, proposed_at=begun, answer_by=begun + 14 * DAY)

        for id in ("p1", "p2"):
            await notifier.deliver(pairing_event(id))
        await notifier.deliver(answer("senior"))
        await notifier.pass_time(14 * DAY)
        for id in ("p1", "p2"):
            await notifier.deliver(pairing_event(id, PairingLapsed))
        await notifier.pass_time(8 * DAY)
        events_by_member: dict[str, list[tuple[str, str, str]]] = {"m1": [], "m2": []}
        for entry in await notifier.published_events():
            event = json.loads(str(entry["data"]))
            assert event["purpose"] != "answer_reminder"
            events_by_member[event["member_id"]].append((str(entry["type"]), event["purpose"], event["happened_at"]))
        assert sorted(events_by_member["m1"]) == sorted(events_by_member["m2"])
        assert len(events_by_member["m1"]) >= 4
        reminded = {
            note.member_id for note in await notifier.notifications("answer_reminder") if note.about.pairing_id == "p1"
        }
        assert reminded == {"m1", "m2"}

    @pytest.mark.parametrize("together", [True, False])
    async def test_a_pairing_by_request_asks_nobody_again(self, notifier: NotifierHarness, together: bool) -> None:
        """A pairing by request is proposed and formed in one save. Its two events may arrive in two batches."""
        await notifier.add_members("m1", "m2")
        await notifier.deliver(pairing(origin="request"))
        if not together:
            await notifier.settle()
        await notifier.deliver(pairing(PairingFormed, origin="request"))
        await notifier.pass_time(12 * DAY)
        for purpose in ("proposal", "answer_reminder"):
            assert set((await states(notifier, purpose)).values()) == {("suppressed", "not_needed")}
        assert set((await states(notifier, "partners")).values()) == {("sent", None)}


class TestLateData:
    async def test_a_late_contact_is_still_notified(self, notifier: NotifierHarness) -> None:
        await notifier.deliver(pairing())
        await notifier.settle()
        assert notifier.server.received == []
        await notifier.add_members("m1", "m2")
        notifier.clock.move(timedelta(minutes=5))
        await notifier.settle()
        assert len(notifier.server.received) == 2

    async def test_an_event_waits_for_its_pairing_and_programme(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.deliver(checkin())
        await notifier.settle()
        assert await notifier.notifications() == []
        await notifier.deliver(pairing(PairingFormed))
        notifier.clock.move(timedelta(minutes=5))
        await notifier.settle()
        assert await states(notifier, "checkin") == {"m2": ("sent", None)}


class TestDelivery:
    async def test_a_faulty_server_gets_each_mail_once_or_it_fails(
        self,
        notifier: NotifierHarness,
    ) -> None:
        """The server rejects, defers and drops connections."""
        await notifier.add_members("m1", "m2")
        notifier.server.recipient_replies.extend(["450 later", "550 never", VANISH])
        notifier.server.data_replies.extend(["451 greylisted", DROP])
        await notifier.deliver(pairing())
        for _ in range(12):
            notifier.clock.machine_time += timedelta(hours=1)
            await notifier.settle()
        ended = await notifier.notifications("proposal")
        assert sorted(note.state for note in ended) == ["failed", "sent"]
        assert [note.reason for note in ended if note.state == "failed"] == ["address_refused"]
        assert set(notifier.server.message_ids()) == {
            f"<{note.notification_id}@localhost>" for note in ended if note.state == "sent"
        }
        assert len(notifier.server.message_ids()) <= 2

    async def test_a_silent_server_gets_a_mail_twice_at_most(self, notifier: NotifierHarness) -> None:
        """The server accepts the mail and drops the connection before its reply."""
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

    async def test_two_replicas_send_a_due_notification_once(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.deliver(pairing())
        stored = [note async for note in notifier.notifier.notifications.find({"purpose": "proposal"})]
        await asyncio.gather(*(send_due_notification(note, notifier.notifier) for note in stored * 3))
        assert len(notifier.server.received) == 2

    async def test_a_crash_after_sending_repeats_the_message_id(
        self, notifier: NotifierHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await notifier.add_members("m1", email=None, channels=("inbox",))
        await notifier.add_members("m2")
        await notifier.deliver(pairing())
        with monkeypatch.context() as patched:

            async def crash(*_: object) -> None:
                raise SystemExit

            real = type(notifier.notifier.mailer).send

            async def send_and_crash(mailer: object, mail: object) -> None:
                await real(mailer, mail)  # type: ignore[arg-type]
                await crash()

            patched.setattr(type(notifier.notifier.mailer), "send", send_and_crash)
            stored = [
                note async for note in notifier.notifier.notifications.find({"member_id": "m2", "purpose": "proposal"})
            ]
            with pytest.raises(SystemExit):
                await send_due_notification(stored[0], notifier.notifier)
        await notifier.settle()
        assert len(notifier.server.received) == 1
        notifier.clock.move(CLAIM_LEASE)
        await notifier.settle()
        assert len(notifier.server.message_ids()) == 2
        assert len(set(notifier.server.message_ids())) == 1
        assert (await states(notifier, "proposal"))["m2"] == ("sent", None)


class TestRequest:
    async def test_the_asked_is_told_who_asks(self, notifier: NotifierHarness) -> None:
        await notifier.deliver(programme())
        await notifier.add_members("m1", "m2")
        await notifier.deliver(request())
        await notifier.settle()
        [mail] = notifier.server.received
        assert str(mail["To"]) == "Name of m2 <m2@example.com>"
        assert mail["Subject"] == "Name of m1 would like to learn with you"
        assert "Monday, 16 March 2026" in mail.get_payload()

    @pytest.mark.parametrize("kind", [RequestLapsed, RequestWithdrawn, RequestAccepted])
    async def test_a_closed_request_is_not_announced(self, notifier: NotifierHarness, kind: type[RequestEvent]) -> None:
        """The asked answers, or the asker withdraws, before the morning of the asked."""
        await notifier.deliver(programme())
        await notifier.add_members("m1", "m2")
        await notifier.deliver(request())
        await notifier.deliver(request(kind))
        await notifier.settle()
        assert await states(notifier, "request") == {"m2": ("suppressed", "not_needed")}

    async def test_the_asker_is_told_when_it_lapses(self, notifier: NotifierHarness) -> None:
        await notifier.deliver(programme())
        await notifier.add_members("m1", "m2")
        await notifier.deliver(request(RequestLapsed))
        await notifier.settle()
        [mail] = notifier.server.received
        assert str(mail["To"]) == "Name of m1 <m1@example.com>"
        assert "Name of m2" in mail.get_payload()
        assert await states(notifier, "request_closed") == {"m2": ("sent", None)}, "in the inbox alone"

    async def test_a_wish_hides_the_request_from_its_owner_alone(self, notifier: NotifierHarness) -> None:
        """For the asker, and for what else is sent and when, it is as if there were no wish."""
        worlds = []
        for avoid in ((), ("m1",)):
            await notifier.add_members("m1")
            await notifier.add_members("m2", avoid=avoid)
            id = f"q{len(avoid)}"
            await notifier.deliver(request(request_id=id))
            await notifier.settle()
            await notifier.deliver(request(RequestLapsed, request_id=id))
            await notifier.settle()
            notes = [note for note in await notifier.notifications() if note.about.request_id == id]
            worlds.append({(note.member_id, note.purpose): note.shown_at is not None for note in notes})
            stored = await notifier.notifier.recipients.get("m2")
            assert stored is not None
            assert len(stored.state.places) == len(worlds), "it takes a weekly slot all the same"
        plain, hidden = worlds
        assert plain == dict.fromkeys(plain, True)
        assert hidden == {key: key[0] == "m1" for key in plain}
        assert [str(mail["To"])[:10] for mail in notifier.server.received].count("Name of m2") == 1

    async def test_is_in_no_event_and_no_count(self, notifier: NotifierHarness) -> None:
        await notifier.deliver(programme())
        await notifier.add_members("m1", "m2")
        await notifier.deliver(request())
        await notifier.settle()
        await notifier.deliver(request(RequestLapsed))
        await notifier.settle()
        assert await notifier.published_events() == []
        async with notifier.client("admin") as admin:
            counts = (await admin.get("/notifications/counts")).json()
        assert set(counts.values()) == {0}
        assert 'purpose="request' not in metrics.render_metrics().decode()

    async def test_an_erasure_removes_who_asked(self, notifier: NotifierHarness) -> None:
        await notifier.deliver(programme())
        await notifier.add_members("m1", "m2")
        await notifier.deliver(request())
        await notifier.settle()
        await notifier.deliver(ErasureRequested(member_id="m1", requested_at=NOON))
        await notifier.notifier.contacts.apply([ProjectionRow("m1", 10_000, None)])
        notifier.clock.move(timedelta(minutes=1))
        await notifier.settle()
        await notifier.deliver(request(RequestLapsed))  # it was under way when the erasure began
        await notifier.settle()
        assert not await notifier.notifier.holds("m1")
        async with notifier.client("member", member="m2") as member:
            items = (await member.get("/inbox")).json()["items"]
        assert "Name of m1" not in str(items)
        assert "Somebody would like to learn with you" in str(items)


class TestUnmatched:
    async def test_a_member_is_told_why_and_what_helps(self, notifier: NotifierHarness) -> None:
        await notifier.deliver(programme())
        await notifier.add_members("m1", locale="de-AT")
        fields = {"programme_id": "g1", "round_id": "r1", "happened_at": NOON, "recorded_at": NOON}
        await notifier.deliver(MemberUnmatched.model_validate({"member_id": "m1", "code": "no_common_time", **fields}))
        await notifier.settle()
        [mail] = notifier.server.received
        text = mail.get_payload(decode=True)
        assert isinstance(text, bytes)
        assert "zu wenig gemeinsame freie Zeit" in text.decode()
        assert await notifier.published_events() == []

    def test_every_reason_has_a_text_in_every_language(self) -> None:
        for language in load_languages().values():
            assert language.unmatched.keys() == MEMBER_TEXTS.keys()


class TestTiming:
    async def test_mail_waits_for_each_recipients_own_morning(
        self,
        notifier: NotifierHarness,
    ) -> None:
        await notifier.add_members("m1", time_zone="Asia/Tokyo")
        await notifier.add_members("m2", time_zone="America/New_York")
        notifier.clock.move(timedelta(hours=-2))  # 10:00 UTC: 19:00 in Tokyo, 05:00 in New York
        await notifier.deliver(pairing(happened_at=notifier.clock.now()))
        await notifier.settle()
        assert notifier.server.received == []
        await notifier.pass_time(timedelta(hours=3), timedelta(hours=1))
        assert [note.member_id for note in await notifier.notifications("proposal") if note.state == "sent"] == ["m2"]
        await notifier.pass_time(timedelta(hours=10), timedelta(hours=1))
        sent = {note.member_id: note.said_at for note in await notifier.notifications("proposal")}
        assert sent["m1"] == datetime(2026, 3, 2, 23, tzinfo=UTC)
        assert sent["m2"] == datetime(2026, 3, 2, 13, tzinfo=UTC)

    async def test_the_weekly_cap_delays_essential_mail_only(self, notifier: NotifierHarness) -> None:
        """A nudge over the cap is suppressed."""
        await notifier.deliver(programme(messages_per_week=2))
        await notifier.add_members("m1", "m2")
        for number in range(4):
            await notifier.deliver(pairing(id=f"p{number}"))
            await notifier.settle()
        by_m1 = [note for note in await notifier.notifications("proposal") if note.member_id == "m1"]
        assert sorted(note.state for note in by_m1) == ["held", "held", "sent", "sent"]
        assert all(note.shown_at is not None for note in by_m1)
        await notifier.deliver(pairing(PairingEnded, id="p0", end_kind="ended_early"))
        await notifier.pass_time(7 * DAY, timedelta(hours=12))
        assert sum(str(mail["To"]).endswith("<m1@example.com>") for mail in notifier.server.received) <= 4

    async def test_a_moved_meeting_is_reminded_at_its_new_time(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.deliver(pairing(PairingFormed))
        await notifier.deliver(meeting(NOON + 3 * DAY))
        await notifier.deliver(meeting(NOON + 5 * DAY))
        await notifier.pass_time(6 * DAY)
        sent = [note.about.starts_at for note in await notifier.notifications("meeting_soon") if note.state == "sent"]
        assert sent == [NOON + 5 * DAY] * 2

    async def test_half_way_is_sent_once_after_the_end_moved(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.deliver(pairing(PairingFormed, planned_end=date(2026, 4, 2)))
        await notifier.settle()
        end, now = date(2026, 4, 12), notifier.clock.now()
        await notifier.deliver(
            pairing(PairingResumed, state="formed", formed_at=NOON, planned_end=end, happened_at=now)
        )
        await notifier.pass_time(30 * DAY, timedelta(hours=12))
        planned_ends = [
            note.about.planned_end for note in await notifier.notifications("half_way") if note.state == "sent"
        ]
        assert planned_ends == ["2026-04-12"] * 2

    async def test_half_way_is_not_repeated_after_a_later_pause(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.deliver(pairing(PairingFormed, planned_end=date(2026, 4, 2)))
        await notifier.pass_time(24 * DAY, timedelta(hours=12))
        moved = pairing(PairingResumed, planned_end=date(2026, 4, 12), happened_at=notifier.clock.now())
        await notifier.deliver(moved)
        await notifier.pass_time(5 * DAY, timedelta(hours=12))
        planned_ends = [
            note.about.planned_end for note in await notifier.notifications("half_way") if note.state == "sent"
        ]
        assert planned_ends == ["2026-04-02"] * 2

    async def test_a_completed_checkin_is_not_asked_for_again(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.deliver(pairing(PairingFormed))
        due = checkin()
        await notifier.deliver(due)
        await notifier.settle()
        await notifier.deliver(CheckinCompleted.model_validate(due.model_dump()))
        await notifier.pass_time(8 * DAY)
        assert await states(notifier, "checkin_reminder") == {"m2": ("suppressed", "not_needed")}


class TestAudience:
    async def test_members_who_left_get_nothing(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", employment="left")
        await notifier.add_members("m2")
        await notifier.deliver(pairing())
        await notifier.settle()
        assert (await states(notifier, "proposal"))["m1"] == ("suppressed", "left")
        assert len(notifier.server.received) == 1

    async def test_an_invitation_is_sent_once_the_programme_is_open(self, notifier: NotifierHarness) -> None:
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
        assert await notifier.published_events() == []  # only the matcher and feedback may learn who takes part

    async def test_members_are_told_once_of_another_contact(self, notifier: NotifierHarness) -> None:
        """Those who had joined before, and those who have left: they may wait for a call."""
        times = {"ready": NOON - DAY, "left": NOON - DAY, "invited": NOON - DAY, "enrolled": NOON + DAY}
        for state, since in times.items():
            part = TakingPart(programme_id="g1", state=state, since=since)  # type: ignore[arg-type]
            await notifier.add_members(state, taking_part=(part,))
        changed = programme().model_copy(update={"contact_since": NOON})
        for version in (2, 3):
            await notifier.deliver(changed.model_copy(update={"version": version}))
            await notifier.settle()
        assert await states(notifier, "contact_changed") == {"ready": ("sent", None), "left": ("sent", None)}
        assert await notifier.published_events() == []

    async def test_assistants_see_times_and_nothing_else(self, notifier: NotifierHarness) -> None:
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

    async def test_coordinators_learn_of_pairs_that_need_help(
        self,
        notifier: NotifierHarness,
    ) -> None:
        """Except for pairs in which they take part."""
        await notifier.add_members("m1", "m2", "c1")
        await notifier.deliver(pairing(PairingFormed))
        await notifier.deliver(ContactNeeded.model_validate(feedback_fields(facts=("two_missed_in_a_row",))))
        await notifier.settle()
        assert list(await states(notifier, "pair_needs_a_person")) == ["c1"]
        [mail] = [mail for mail in notifier.server.received if "c1@" in str(mail["To"])]
        assert not any(name in mail.get_payload() for name in ("Name of m1", "Name of m2"))

    async def test_an_erased_member_leaves_nothing_and_gets_nothing(self, notifier: NotifierHarness) -> None:
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
        assert [event.state.is_pending async for event in notifier.notifier.postponed_events.find({})] == []
        stored = [
            {**document, "outbox": None}
            for name in ("notifications", "readers", "contacts", "waiting", "pairings")
            async for document in notifier.chassis.mongo.collection(name).find({})
            if document["_id"] != "m1"
        ]
        assert "'m1'" not in str([{**document, "recent": None} for document in stored])
        assert "Name of m1" not in str(stored)

    async def test_a_notification_written_during_an_erasure_is_erased(
        self, notifier: NotifierHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The erasure begins and completes after the lookup of erased members, and before the write."""
        await notifier.add_members("m1", "m2")
        notifications = notifier.notifier.notifications
        write = notifications.update_many

        async def erase_first(*arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(notifications, "update_many", write)
            await notifier.deliver(ErasureRequested(member_id="m1", requested_at=NOON))
            await notifier.notifier.contacts.apply([ProjectionRow("m1", 10_000, None)])
            await notifier.settle()
            return await write(*arguments, **options)

        monkeypatch.setattr(notifications, "update_many", erase_first)
        await notifier.deliver(pairing())
        erasure = await notifier.notifier.erasures.get("m1")
        assert erasure is not None
        assert erasure.state.completed_at is not None
        assert [note async for note in notifier.notifier.notifications_about("m1")] == []
        assert [note async for note in notifier.notifier.notifications_about("m2")] != []


class TestRecords:
    async def test_have_one_cause_recipient_and_purpose(self, notifier: NotifierHarness) -> None:
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
        keys = [(note.about.pairing_id, note.about.starts_at, note.member_id, note.purpose) for note in notes]
        assert len(set(keys)) == len(keys)
        assert all(note.is_finished or note.due for note in notes)
        assert all(note.reason for note in notes if note.state in ("suppressed", "failed"))
        assert len(set(notifier.server.message_ids())) == len(notifier.server.message_ids())
