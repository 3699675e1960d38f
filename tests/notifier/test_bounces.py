"""Mail that comes back: which reports count, and what follows. Mails go over a real SMTP server, reports as files."""

from collections.abc import AsyncIterator
from datetime import timedelta
from email.message import Message
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from chassis.observability import metrics
from contracts.pairings import PairingFormed
from contracts.privacy import ErasureRequested
from contracts.profiles import TakingPart
from deploy.local import stack
from services.notifier.bounce_report import read_report
from services.notifier.bounces import read_maildir
from services.notifier.domain.bounce import BounceReport, make_code, severity_of
from services.notifier.settings import MailSettings
from tests.notifier.harness import NOON, NotifierHarness, notifier_harness, pairing, programme

KEY = "a key of tests, and of nothing else"
REPORT = """\
From: MAILER-DAEMON@mx.example
To: viceversa@localhost
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b1"

--b1
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example. I'm sorry to have to inform you.

--b1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
Arrival-Date: Mon, 02 Mar 2026 12:00:00 +0000

Final-Recipient: rfc822; m1@example.com
Original-Recipient: rfc822;m1@example.com
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 {diagnostic}

--b1
Content-Type: {part}

{head}
--b1--
"""


def report(
    mail: Message | str,
    status: str = "5.1.1",
    *,
    action: str = "failed",
    diagnostic: str = "no such user",
    part: str = "text/rfc822-headers",
) -> bytes:
    """A report as Postfix and Exchange write it, about this mail."""
    message_id = mail if isinstance(mail, str) else mail["Message-ID"]
    head = f"From: viceversa@localhost\nTo: m1@example.com\nMessage-ID: {message_id}\nSubject: x\n"
    text = REPORT.format(action=action, status=status, diagnostic=diagnostic, part=part, head=head)
    return text.encode()


@pytest_asyncio.fixture
async def notifier(
    servers: stack.Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[NotifierHarness]:
    monkeypatch.setenv("VICEVERSA_NOTIFIER_BOUNCE_KEY", KEY)
    with notifier_harness(servers, prefix) as world:
        await world.chassis.prepare_database()
        yield world


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    for name in ("new", "cur", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


async def send_first_mail(world: NotifierHarness) -> Message:
    """The proposal to ``m1``, who reads mail alone of the two."""
    part = TakingPart(programme_id="g1", state="ready", since=NOON - timedelta(days=40))
    await world.deliver(programme())
    await world.add_members("m1", taking_part=(part,))
    await world.add_members("m2", email=None, channels=("inbox",))
    await world.deliver(pairing())
    await world.settle()
    [mail] = world.server.received
    return mail


async def send_second_mail(world: NotifierHarness) -> tuple[int, list[str]]:
    """The number of mails so far, and the channel of the next message to ``m1``."""
    await world.deliver(pairing(PairingFormed))
    await world.settle()
    notes = [note for note in await world.notifications("partners") if note.member_id == "m1"]
    return len(world.server.received), [note.channel for note in notes]


async def deliver_report(world: NotifierHarness, maildir: Path, content: bytes) -> None:
    (maildir / "new" / "1.host").write_bytes(content)
    await read_maildir(maildir, world.notifier)


class TestHardBounce:
    @pytest.mark.parametrize("part", ["text/rfc822-headers", "message/rfc822", "message/global-headers"])
    async def test_stops_mail_and_uses_the_inbox(self, notifier: NotifierHarness, maildir: Path, part: str) -> None:
        mail = await send_first_mail(notifier)
        await deliver_report(notifier, maildir, report(mail, part=part))
        assert await send_second_mail(notifier) == (1, ["inbox"])

    async def test_mail_goes_out_again_to_another_address(self, notifier: NotifierHarness, maildir: Path) -> None:
        mail = await send_first_mail(notifier)
        await deliver_report(notifier, maildir, report(mail))
        await notifier.add_members("m1", email="anna@example.com")
        assert await send_second_mail(notifier) == (2, ["email"])

    async def test_a_report_deletes_itself_and_leaves_no_address(
        self, notifier: NotifierHarness, maildir: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        mail = await send_first_mail(notifier)
        await deliver_report(notifier, maildir, report(mail))
        await send_second_mail(notifier)
        assert list((maildir / "new").iterdir()) == []
        stored = [doc async for doc in notifier.chassis.mongo.collection("readers").find({})]
        for text in (str(stored), str(await notifier.published_events()), caplog.text):
            assert "example.com" not in text
        assert "example.com" not in metrics.render_metrics().decode()
        assert 'viceversa_mail_reports_total{result="hard"}' in metrics.render_metrics().decode()

    async def test_the_servers_own_refusal_counts_too(self, notifier: NotifierHarness) -> None:
        notifier.server.recipient_replies.append("550 5.1.1 no such user")
        await notifier.deliver(programme())
        await notifier.add_members("m1")
        await notifier.add_members("m2", email=None, channels=("inbox",))
        await notifier.deliver(pairing())
        await notifier.settle()
        assert await send_second_mail(notifier) == (0, ["inbox"])

    @pytest.mark.parametrize("reply", ["550 relaying denied", "550 5.7.1 blocked", "552 5.2.2 mailbox full"])
    async def test_an_unclear_refusal_loses_no_address(self, notifier: NotifierHarness, reply: str) -> None:
        """A wrongly set up server refuses everybody; then no address may be lost."""
        notifier.server.recipient_replies.append(reply)
        await notifier.deliver(programme())
        await notifier.add_members("m1")
        await notifier.add_members("m2", email=None, channels=("inbox",))
        await notifier.deliver(pairing())
        await notifier.settle()
        assert await send_second_mail(notifier) == (1, ["email"])

    async def test_an_erasure_forgets_the_mark(self, notifier: NotifierHarness, maildir: Path) -> None:
        mail = await send_first_mail(notifier)
        await deliver_report(notifier, maildir, report(mail))
        await notifier.deliver(ErasureRequested(member_id="m1", requested_at=NOON))
        await notifier.settle()
        await deliver_report(notifier, maildir, report(mail))
        stored = await notifier.notifier.recipients.get("m1")
        assert stored is not None
        assert (stored.state.member_id, stored.state.bounced) == ("", None)


class TestReport:
    def test_reads_both_types_of_status_parts(self) -> None:
        """RFC 3464, and RFC 6533 for addresses beyond ASCII."""
        old = report("<n1.code@localhost>")
        new = old.replace(b"message/delivery-status", b"message/global-delivery-status")
        expected = [BounceReport(("<n1.code@localhost>",), "5.1.1")]
        assert read_report(old) == read_report(new) == expected

    def test_the_answer_of_the_server_is_more_exact(self) -> None:
        [failure] = read_report(report("<n1.code@localhost>", "5.0.0", diagnostic="5.7.1 blocked"))
        assert failure.status == "5.7.1"

    @given(st.binary(max_size=300), st.integers(0, 900))
    def test_no_bytes_are_an_error(self, noise: bytes, position: int) -> None:
        whole = report("<n1.code@localhost>")
        read_report(noise)
        read_report(whole[:position] + noise + whole[position:])


class TestOtherReports:
    @pytest.mark.parametrize(
        ("status", "action", "diagnostic"),
        [
            ("4.4.1", "delayed", "timed out"),
            ("4.4.7", "failed", "timed out"),
            ("5.1.1", "delayed", "no such user"),
            ("5.2.2", "failed", "mailbox full"),
            ("5.7.1", "failed", "blocked as spam"),
            ("5.0.0", "failed", "5.7.1 blocked as spam"),
        ],
    )
    async def test_a_soft_bounce_changes_nothing(
        self, notifier: NotifierHarness, maildir: Path, status: str, action: str, diagnostic: str
    ) -> None:
        mail = await send_first_mail(notifier)
        await deliver_report(notifier, maildir, report(mail, status, action=action, diagnostic=diagnostic))
        assert await send_second_mail(notifier) == (2, ["email"])

    async def test_a_forged_report_silences_nobody(self, notifier: NotifierHarness, maildir: Path) -> None:
        """The writer knows the notification, as its event is public, and the address; but not the key."""
        mail = await send_first_mail(notifier)
        id = str(mail["Message-ID"]).strip("<>").split(".")[0]
        code = str(mail["Message-ID"]).split(".")[1].split("@")[0]
        forged = [
            f"<{id}@localhost>",
            f"<{id}.{'a' * 26}@localhost>",
            f"<{id}.{make_code(b'another key', id, 'm1@example.com')}@localhost>",
            f"<another-id.{code}@localhost>",
            f"<{id}.{make_code(KEY.encode(), id, 'm2@example.com')}@localhost>",
        ]
        for message_id in forged:
            await deliver_report(notifier, maildir, report(message_id))
        assert await send_second_mail(notifier) == (2, ["email"])

    async def test_a_report_about_a_former_address_changes_nothing(
        self, notifier: NotifierHarness, maildir: Path
    ) -> None:
        mail = await send_first_mail(notifier)
        await notifier.add_members("m1", email="anna@example.com")
        await deliver_report(notifier, maildir, report(mail))
        assert await send_second_mail(notifier) == (2, ["email"])

    async def test_other_mail_is_kept_for_people(self, notifier: NotifierHarness, maildir: Path) -> None:
        """An answer from a holiday, for example."""
        await send_first_mail(notifier)
        await deliver_report(notifier, maildir, b"From: m1@example.com\nSubject: I am away\n\nBack on Monday.\n")
        assert list((maildir / "new").iterdir()) == []
        assert [path.name for path in (maildir / "cur").iterdir()] == ["1.host:2,"]

    @pytest.mark.parametrize(
        "content", [b"", b"\x00\xff" * 1000, b"Content-Type: multipart/report\n\n", REPORT.encode()]
    )
    def test_bytes_that_are_no_report_say_nothing(self, content: bytes) -> None:
        assert [failure for failure in read_report(content) if severity_of(failure.status) == "hard"] == []

    async def test_links_are_not_followed(self, notifier: NotifierHarness, maildir: Path, tmp_path: Path) -> None:
        mail = await send_first_mail(notifier)
        outside = tmp_path / "outside"
        outside.write_bytes(report(mail))
        (maildir / "new" / "1.link").symlink_to(outside)
        await read_maildir(maildir, notifier.notifier)
        assert outside.exists()
        assert await send_second_mail(notifier) == (2, ["email"])


class TestRoutes:
    async def test_a_provider_reports_by_http(self, notifier: NotifierHarness) -> None:
        mail = await send_first_mail(notifier)
        async with notifier.client("service") as provider:
            for message_id in ("<x@y>", str(mail["Message-ID"])):
                answer = await provider.post("/mail-reports", json={"message_id": message_id, "status": "5.1.1"})
                assert (answer.status_code, answer.json()) == (202, {"taken": True})
        assert await send_second_mail(notifier) == (1, ["inbox"])

    async def test_coordinators_see_whom_no_mail_reaches(self, notifier: NotifierHarness, maildir: Path) -> None:
        mail = await send_first_mail(notifier)
        await deliver_report(notifier, maildir, report(mail))
        async with notifier.client("coordinator", member="c1") as coordinator:
            answer = await coordinator.get("/programmes/g1/unreachable")
            [item] = answer.json()["items"]
        assert (item["member_id"], item["status"]) == ("m1", "5.1.1")
        assert "example.com" not in answer.text
        async with notifier.client("coordinator", member="c2") as stranger:
            assert (await stranger.get("/programmes/g1/unreachable")).status_code == 403
        await notifier.add_members("m1", email="anna@example.com")
        async with notifier.client("admin") as admin:
            assert (await admin.get("/programmes/g1/unreachable")).json()["items"] == []


class TestSettings:
    def test_a_maildir_needs_a_key(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="BOUNCE_KEY"):
            MailSettings(bounce_maildir=tmp_path)
