"""`kill -9` in the months after the first acceptance: no data is lost, and no message is sent twice.

Each service is killed at several moments of its work. An independent consumer counts exactly the facts that were
acknowledged over HTTP. Each member holds only their own seat, each message is sent once, and later deadlines are kept.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from email import message_from_bytes
from email.policy import default
from itertools import pairwise
from pathlib import Path
from time import monotonic

import httpx
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.local import mail, ports
from services.notifier.domain.notification import CLAIM_LEASE
from services.notifier.domain.notification_schedule import ROW_BY_PURPOSE
from tests.journey.conditions import wait_until
from tests.journey.people import Json, Members, a_programme, cohort, ok, partners
from tests.journey.stack import Stack
from tests.journey.subscriber import OtherSystem, SubscriberEvent
from tests.notifier.smtp_server import DROP, OK, VANISH, ScriptedSmtpHandler, scripted_smtp_server
from tests.patience import patience

PROGRAMME = "killmonths"
PAIRS = 6
ACTS = 8
"""The number of acts of each pair while services die."""

LONG_S = 30.0
DAY = timedelta(days=1)
Act = Callable[[], object]


class Wavering(mail.Catcher):
    """A mail server that stores each mail in the stack's Maildir.

    While ``wavers`` is set, it does not confirm mail to the members of this test.
    """

    def __init__(self, maildir: Path) -> None:
        super().__init__(maildir)
        self.wavers = False
        self.unsaid = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        if self.wavers and is_ours(envelope):
            self.unsaid += 1
            await asyncio.Event().wait()
        return answer


class TowardsUs(ScriptedSmtpHandler):
    """A mail server with scripted errors for the members of this test. For all others it is a normal catcher."""

    def __init__(self, maildir: Path) -> None:
        super().__init__()
        self._catcher = mail.Catcher(maildir)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith(PROGRAMME):
            return await super().handle_RCPT(server, session, envelope, address, options)
        envelope.rcpt_tos.append(address)
        return OK

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if is_ours(envelope):
            return await super().handle_DATA(server, session, envelope)
        return await self._catcher.handle_DATA(server, session, envelope)


def is_ours(envelope: Envelope) -> bool:
    return any(address.startswith(PROGRAMME) for address in envelope.rcpt_tos)


def served_at(port: int) -> dict[str, str]:
    """Settings for notifier: the mail server on this port, and a long timeout."""
    return {
        "VICEVERSA_NOTIFIER_SMTP_HOST": mail.HOST,
        "VICEVERSA_NOTIFIER_SMTP_PORT": str(port),
        "VICEVERSA_NOTIFIER_SMTP_TIMEOUT": "30",
    }


@pytest.fixture(scope="module")
def wavering(stack: Stack) -> Iterator[tuple[Wavering, dict[str, str]]]:
    """A mail server beside the catcher, and the settings with which notifier uses it."""
    catcher, port = Wavering(stack.maildir().parent), ports.any_free()
    controller = Controller(catcher, hostname=mail.HOST, port=port)
    controller.start()
    yield catcher, served_at(port)
    controller.stop()


@pytest.fixture(scope="module")
def witness(stack: Stack) -> Iterator[OtherSystem]:
    with OtherSystem(stack.endpoints.kafka, stack.prefix) as watching:
        yield watching


@pytest.fixture(scope="module")
def members(stack: Stack) -> Members:
    company = a_programme(stack, PROGRAMME, cohort(PROGRAMME, PAIRS, PAIRS), care={"messages_per_week": 21})
    now = stack.clock.now()
    stack.until(datetime.combine(now.date() + (7 - now.weekday()) * DAY, time(9), now.tzinfo))
    return company


@pytest.fixture(scope="module")
def pairs(members: Members) -> list[Json]:
    """Pairings that formed while feedback died between reading their events and reacting to them."""
    members.publish(members.round()["round_id"])
    stack = members.stack
    first, *others = members.pairings(state="proposed")
    formed = [members.accept_both(first)]
    courses = stack.database("feedback")["courses"]
    wait_until(lambda: courses.find_one({"_id": first["pairing_id"]}), "the first pairing read by feedback")
    die(stack, "feedback")
    formed += [members.accept_both(pairing) for pairing in others]
    stack.start()
    stack.rest(LONG_S)
    assert len(formed) == PAIRS
    return formed


@pytest.fixture(scope="module")
def lived(
    members: Members, pairs: list[Json], wavering: tuple[Wavering, dict[str, str]], witness: OtherSystem
) -> list[Json]:
    """The pairings after every service has died during their meetings, answers and mails."""
    stack = members.stack
    catcher, settings = wavering
    with acting(members, pairs) as go:
        for names, more in ((["feedback"], {}), (["notifier"], settings), (["profiles", "matcher"], {})):
            go()
            die(stack, *names)
            stack.start(**more)
    stack.rest(LONG_S)
    a_month_later(members, pairs, catcher)
    return pairs


def a_month_later(members: Members, pairs: list[Json], catcher: Wavering) -> None:
    """The matcher dies before it reads a request, feedback while it sends questions, notifier during a delivery."""
    stack = members.stack
    die(stack, "matcher")
    ok(members.feedback(partners(pairs[-1])[1]).post(f"/pairings/{pairs[-1]['pairing_id']}/partner-change", json={}))
    stack.advance(31 * DAY)
    courses = stack.database("feedback")["courses"]
    query = {"_id": pairs[-1]["pairing_id"], "asked_for": "day_30:senior"}
    wait_until(lambda: courses.find_one(query), "the check-in questions sent")
    die(stack, "feedback")
    catcher.wavers = True
    stack.start()
    wait_until(lambda: catcher.unsaid >= 3, "three mails without a confirmation")
    die(stack, "notifier")
    stack.start()
    stack.rest(LONG_S)


def die(stack: Stack, *names: str) -> None:
    for name in names:
        stack.kill(name)
        stack.release_claims(name)


@contextmanager
def acting(members: Members, pairs: list[Json]) -> Iterator[Callable[[], None]]:
    """All members act, and repeat each act until it succeeds.

    Each call of ``go`` starts the next part, and returns when some of its acts are done. All acts are done at the end
    of the block.
    """
    begin, done = threading.Semaphore(0), threading.Semaphore(0)
    parts = 3

    def live(pairing: Json) -> None:
        for act in acts(members, pairing):
            begin.acquire()
            act()
            done.release()

    def go() -> None:
        while done.acquire(blocking=False):
            """Acts that were done earlier do not count."""
        begin.release(PAIRS * ACTS // parts)
        until = monotonic() + patience(2 * LONG_S)
        while not done.acquire(timeout=1):
            assert monotonic() < until
            for life in lives:
                if life.done():
                    life.result()  # raises the error that stopped the acts

    with ThreadPoolExecutor(PAIRS) as pool:
        lives = [pool.submit(live, pairing) for pairing in pairs]
        try:
            yield go
            for life in lives:
                life.result(patience(LONG_S))
        finally:
            begin.release(PAIRS * ACTS)  # for threads that still wait for the next part


def acts(members: Members, pairing: Json) -> Iterator[Act]:
    """Two meetings with a date, one of them cancelled; one meeting without a date; a charter; two check-ins."""
    id, (senior, junior) = pairing["pairing_id"], partners(pairing)
    now = members.stack.clock.now()
    booking, other = members.feedback(senior), members.feedback(junior)
    sessions_path = f"/pairings/{id}/sessions"

    def does(api: httpx.Client, method: str, path: str, body: Json, name: str) -> Act:
        return lambda: insist(api, method, path, body, f"{name}-{id}")

    def call_off_the_second() -> None:
        seen = insist(other, "GET", f"/pairings/{id}/care")["sessions"]
        dated = [session["session_id"] for session in seen if session["state"] == "scheduled"]
        insist(other, "POST", f"{sessions_path}/{dated[1]}/cancel", {}, f"off-{id}")

    text = {"goals": ["to listen"], "meeting_rhythm": "monthly"}
    yield does(booking, "POST", sessions_path, {"starts_at": (now + 10 * DAY).isoformat()}, "book")
    yield does(other, "PUT", f"/pairings/{id}/checkins/day_0", {"answers": {"1": 3}}, "answer")
    yield does(members.matcher(senior), "POST", f"/pairings/{id}/charter", text, "charter")
    yield does(booking, "POST", sessions_path, {"starts_at": (now + 20 * DAY).isoformat()}, "book-again")
    yield does(other, "POST", sessions_path, {"starts_at": now.isoformat(), "held": True}, "met")
    yield does(booking, "PUT", f"/pairings/{id}/checkins/day_0", {"answers": {"1": 4}}, "answer-too")
    yield does(members.matcher(junior), "POST", f"/pairings/{id}/charter", {"agree": True}, "agree")
    yield call_off_the_second


def insist(api: httpx.Client, method: str, path: str, body: Json | None = None, key: str | None = None) -> Json:
    """Repeat the request with the same key until there is a response."""
    last_answer = ""

    def answered() -> Json | None:
        nonlocal last_answer
        try:
            answer = api.request(method, path, json=body, headers={"Idempotency-Key": key} if key else {})
        except httpx.TransportError as error:
            last_answer = repr(error)
            return None
        last_answer = answer.text
        return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else dict(ok(answer))

    try:
        return wait_until(answered, f"{method} {path}", LONG_S)
    except TimeoutError as error:
        error.add_note(f"heard last: {last_answer}")
        raise


def short(event: SubscriberEvent) -> str:
    return event.type.removeprefix("mentoring.").removesuffix(".v1")


@pytest.fixture(scope="module")
def over(members: Members, lived: list[Json], witness: OtherSystem) -> ScriptedSmtpHandler:
    """The mail server after the end of all pairings: it has rejected, deferred, disconnected and dropped mail."""
    stack = members.stack
    end = date.fromisoformat(members.pairing(lived[0]["pairing_id"])["planned_end"])
    stack.stop("notifier")
    with scripted_smtp_server(TowardsUs(stack.maildir().parent)) as (server, port):
        server.recipient_replies.extend(["450 later", "550 never", VANISH])
        server.data_replies.extend(["451 greylisted", DROP])
        stack.restart("notifier", **served_at(port))
        stack.until(datetime.combine(end + DAY, time(10), stack.clock.now().tzinfo))
        stack.settle(LONG_S)
        wait_until(lambda: hurried(stack), "no deferred message left", LONG_S)
        stack.rest(LONG_S)
        stack.stop("notifier")
    stack.restart("notifier")
    witness.caught_up()
    return server


def hurried(stack: Stack) -> bool:
    """Retry all deferred messages now, and return whether none is left. A message in delivery has a longer claim."""
    notes, now = stack.database("notifier")["notifications"], stack.clock.machine_now()
    put_off = {"state": "sending", "lease": {"$gt": now, "$lte": now + CLAIM_LEASE / 2}}
    notes.update_many(put_off, {"$set": {"lease": now - timedelta(seconds=1)}})
    return not notes.find_one({"state": "sending"})


class TestKilledMonths:
    def test_acknowledged_facts_are_told_once(self, members: Members, lived: list[Json], witness: OtherSystem) -> None:
        witness.caught_up(LONG_S)
        for pairing in lived:
            id, last = pairing["pairing_id"], pairing is lived[-1]
            happened = Counter(short(event) for event in witness.distinct("feedback.v1") if event.subject == id)
            needed = happened.pop("contact.needed", 0)
            assert needed <= 2
            assert happened == {
                "session.scheduled": 2,
                "session.held": 1,
                "session.cancelled": 1,
            }
            life = [short(event) for event in witness.history(id)]
            assert life == [
                f"pairing.{what}" for what in ("proposed", "formed", "chartered", *(["ended"] if last else []))
            ]

    def test_no_event_is_missing_between_first_and_last(
        self, members: Members, lived: list[Json], witness: OtherSystem
    ) -> None:
        sequences = witness.sequences("feedback.v1")
        for pairing in lived:
            id = pairing["pairing_id"]
            stored = members.stack.database("feedback")["courses"].find_one({"_id": id})
            seen = list(dict.fromkeys(sequences["/viceversa/feedback", id]))
            answered = [checkin for checkin in stored["checkins"] if checkin["completed_at"]]
            asked_for_change = stored["partner_change_at"] is not None
            restricted = len(stored["checkins"]) + len(answered) + asked_for_change + (stored["outcome_at"] is not None)
            assert len(seen) == stored["sequence"] - restricted
            assert all(before < after for before, after in pairwise(seen))

    def test_members_hold_the_seat_of_their_own_pairing_alone(self, members: Members, lived: list[Json]) -> None:
        for pairing in lived:
            mine = [] if pairing is lived[-1] else [pairing["pairing_id"]]
            for member in partners(pairing):
                assert [seat["pairing_id"] for seat in members.ledger(member)["held"]] == mine

    def test_no_message_left_twice_and_none_was_lost(
        self, members: Members, lived: list[Json], witness: OtherSystem, wavering: tuple[Wavering, dict[str, str]]
    ) -> None:
        stack, ours = members.stack, set(members.ids.values())
        records = {
            record["_id"]: record
            for record in stack.database("notifier")["notifications"].find({"member_id": {"$in": [*ours]}})
        }
        sent = {id: record for id, record in records.items() if record["state"] == "sent"}
        unclear = {id: record for id, record in records.items() if record["state"] == "failed"}
        assert [record for record in unclear.values() if not is_answered_in_doubt(stack, record)] == []
        assert {record["state"] for record in records.values()} <= {"sent", "suppressed", "held", "failed"}
        assert sum(record["doubts"] for record in sent.values()) >= wavering[0].unsaid >= 3
        left = Counter(id for id, to in letters(stack) if PROGRAMME in to)
        assert all(left.pop(id, 0) <= 1 for id in unclear)
        assert left == Counter(id for id, record in sent.items() if record["channel"] == "email")
        witness.caught_up()
        notifications = [
            event.data for event in witness.distinct("notifications.v1") if short(event) == "notification.sent"
        ]
        events = [data for data in notifications if data and data["member_id"] in ours]
        told_of = Counter(data["notification_id"] for data in events)
        assert max(told_of.values()) == 1
        assert set(told_of) >= {id for id, record in sent.items() if record["purpose"] in ("partners", "ended")}
        causes = Counter((data["member_id"], data["purpose"], data["cause_id"]) for data in events)
        assert max(causes.values()) == 1
        purposes = Counter(record["purpose"] for record in sent.values())
        assert (purposes["partners"], purposes["checkin"]) == (2 * PAIRS, 4 * PAIRS + 2)

    def test_the_months_go_on(
        self, members: Members, lived: list[Json], over: ScriptedSmtpHandler, witness: OtherSystem
    ) -> None:
        for pairing in lived[:-1]:
            assert members.pairing(pairing["pairing_id"])["end_kind"] == "completed"
            assert short(witness.history(pairing["pairing_id"])[-1]) == "pairing.ended"
        followups = members.stack.database("feedback")["courses"].find({"programme_id": PROGRAMME})
        counts = Counter(checkin["milestone"] for followup in followups for checkin in followup["checkins"])
        assert counts["end"] == 2 * PAIRS

    def test_a_bad_mail_server_gets_each_message_once(
        self, members: Members, over: ScriptedSmtpHandler, witness: OtherSystem
    ) -> None:
        """The server refuses, delays and drops. A message that it never accepts is failed."""
        ours = list(members.ids.values())
        records = list(members.stack.database("notifier")["notifications"].find({"member_id": {"$in": ours}}))
        unsuccessful = [record for record in records if record["state"] == "failed"]
        [failed] = [record for record in unsuccessful if not is_answered_in_doubt(members.stack, record)]
        assert failed["reason"] == "address_refused"
        failures = [
            event.data for event in witness.distinct("notifications.v1") if short(event) == "notification.failed"
        ]
        assert {(data["notification_id"], data["channel"]) for data in failures if data} == {
            (record["_id"], "email") for record in unsuccessful if ROW_BY_PURPOSE[record["purpose"]].is_public
        }
        here = {record["_id"] for record in records if record["state"] == "sent" and record["channel"] == "email"}
        taken = Counter(id.strip("<>").partition("@")[0] for id in over.message_ids())
        assert set(taken) == here - {id for id, _ in letters(members.stack)}
        assert sorted(taken.values())[-2:] == [1, 2], "the mail without a confirmation was sent again, once"
        assert sum(
            record["purpose"] == "ended" for record in records if record["_id"] in taken or record is failed
        ) == 2 * (PAIRS - 1)


def is_answered_in_doubt(stack: Stack, record: Json) -> bool:
    """The notifier died while it sent a question, and the member answered it before the second attempt."""
    courses, checkin = stack.database("feedback")["courses"], record["about"]["checkin_id"]
    if (record["purpose"], record["reason"]) != ("checkin", "outcome_unknown"):
        return False
    [course] = courses.find({"checkins.checkin_id": checkin})
    return any(stored["checkin_id"] == checkin and stored["completed_at"] for stored in course["checkins"])


def letters(stack: Stack) -> list[tuple[str, str]]:
    """For each mail in the Maildir: the part of the Message-ID that notifier chose, and the recipient."""
    read = [message_from_bytes(file.read_bytes(), policy=default) for file in stack.maildir().iterdir()]
    return [(str(mail["Message-ID"]).strip("<>").partition("@")[0], str(mail["To"])) for mail in read]
