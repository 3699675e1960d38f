"""Mail to a real SMTP server that fails: each failure becomes a rejection, a deferral or a doubt."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.text import find_fault
from deploy.local import mail as catcher
from deploy.local import ports
from services.notifier.mail import DeliveryInDoubt, MailDeferred, Mailer, MailRejected, OutgoingMail
from services.notifier.settings import MailSettings
from tests.notifier.smtp_server import DROP, STALL, VANISH, ScriptedSmtpHandler, scripted_smtp_server


def outgoing_mail(
    to: str = "al@example.com", name: str = "Ål Ek", subject: str = "Grüße", id: str = "n1"
) -> OutgoingMail:
    at = datetime(2026, 3, 2, 12, tzinfo=UTC)
    return OutgoingMail(id=id, to=to, name=name, subject=subject, text="Hello Ål,\n\nword\n", language="en", at=at)


@pytest.fixture
def server() -> Iterator[tuple[ScriptedSmtpHandler, Mailer]]:
    with scripted_smtp_server() as (handler, port):
        yield handler, Mailer(MailSettings(smtp_port=port, smtp_timeout=1.0))


class TestServerReplies:
    @pytest.mark.parametrize(
        ("recipient", "text", "expected"),
        [
            ("550 no such user", None, MailRejected("address_refused")),
            ("450 try later", None, MailDeferred()),
            (VANISH, None, MailDeferred()),
            (STALL, None, MailDeferred()),
            (None, "554 spam", MailRejected("message_refused")),
            (None, "451 greylisted", MailDeferred()),
            (None, DROP, DeliveryInDoubt()),
            (None, STALL, DeliveryInDoubt()),
        ],
    )
    async def test_become_one_of_three_errors(
        self, server: tuple[ScriptedSmtpHandler, Mailer], recipient: str | None, text: str | None, expected: Exception
    ) -> None:
        handler, mailer = server
        handler.recipient_replies.extend([recipient] if recipient else [])
        handler.data_replies.extend([text] if text else [])
        with pytest.raises(type(expected)) as raised:
            await mailer.send(outgoing_mail())
        if isinstance(expected, MailRejected):
            assert isinstance(raised.value, MailRejected)
            assert raised.value.reason == expected.reason
        assert "example.com" not in repr(raised.value)
        assert raised.value.__cause__ is None

    async def test_unreachable_server_defers_the_mail(self) -> None:
        with pytest.raises(MailDeferred):
            await Mailer(MailSettings(smtp_port=ports.any_free())).send(outgoing_mail())


class TestAddress:
    @pytest.mark.parametrize(
        "address", ["al", "al@", "a l@example.com", "al@example.com\r\nRCPT TO:<x@y>", "<al@x>", "@@", "al@[", ""]
    )
    async def test_invalid_address_is_rejected_before_connecting(self, address: str) -> None:
        with pytest.raises(MailRejected) as refused:
            await Mailer(MailSettings(smtp_port=ports.any_free())).send(outgoing_mail(to=address))
        assert refused.value.reason == "address_malformed"

    async def test_unsupported_characters_are_rejected(self, server: tuple[ScriptedSmtpHandler, Mailer]) -> None:
        with pytest.raises(MailRejected):
            await server[1].send(outgoing_mail(to="ål@example.com"))


class TestMessage:
    async def test_has_its_headers_and_the_notification_id(
        self,
        server: tuple[ScriptedSmtpHandler, Mailer],
    ) -> None:
        handler, mailer = server
        await mailer.send(outgoing_mail())
        [mail] = handler.received
        assert mail["Message-ID"] == "<n1@localhost>"
        assert mail["To"] == "Ål Ek <al@example.com>"
        assert mail["Subject"] == "Grüße"
        assert mail["Date"] == "Mon, 02 Mar 2026 12:00:00 +0000"
        assert mail["Auto-Submitted"] == "auto-generated"
        assert "word" in mail.get_payload()

    async def test_names_and_subjects_cannot_add_a_header(self, server: tuple[ScriptedSmtpHandler, Mailer]) -> None:
        handler, mailer = server
        await mailer.send(outgoing_mail(name="Al\r\nBcc: all@example.com", subject="a\nX-Evil: 1"))
        [mail] = handler.received
        assert mail["Bcc"] is None
        assert mail["X-Evil"] is None


class TestMailCatcher:
    async def test_keeps_each_message_id_once_in_a_maildir(self, tmp_path: Path) -> None:
        port = ports.any_free()
        controller = catcher.controller(tmp_path / "mail", port)
        controller.start()
        try:
            assert catcher.answers(port)
            mailer = Mailer(MailSettings(smtp_port=port))
            for id in ("n1", "n2", "n1"):
                await mailer.send(outgoing_mail(id=id))
        finally:
            controller.stop()
        stored = sorted((tmp_path / "mail" / "new").iterdir())
        assert len(stored) == 2
        assert list((tmp_path / "mail" / "tmp").iterdir()) == []
        assert {line for file in stored for line in file.read_text().splitlines() if line.startswith("Message-ID")} == {
            "Message-ID: <n1@localhost>",
            "Message-ID: <n2@localhost>",
        }


class TestSettings:
    def test_unencrypted_mail_to_other_machines_is_explicit(self) -> None:
        with pytest.raises(ValueError, match="SMTP_SECURITY"):
            MailSettings(smtp_host="mail.example.com")
        assert MailSettings(smtp_host="mail", smtp_security="plain").smtp_host == "mail"
        with pytest.raises(ValueError, match="SMTP_PASSWORD"):
            MailSettings(smtp_username="viceversa")


class TestTextBorder:
    @pytest.mark.parametrize(
        "text", ["\x9b2J", "\u202egnp.exe", "a\r\nBcc: x@y.example", "a\u2028b", "a\x85b", "\x00", "\ufffe"]
    )
    async def test_no_header_carries_unsafe_text(self, server: tuple[ScriptedSmtpHandler, Mailer], text: str) -> None:
        await server[1].send(outgoing_mail(name=f"Al {text} Ek", subject=f"For {text} you"))
        headers = dict(server[0].received[-1].items())
        assert not any(find_fault(str(value)) for value in headers.values())
        assert "Bcc" not in headers

    @pytest.mark.parametrize("address", ["al\u202e@example.com", "al\x9b@example.com", "al@exam\x00ple.com"])
    async def test_unsafe_address_is_rejected(self, address: str) -> None:
        with pytest.raises(MailRejected) as refused:
            await Mailer(MailSettings(smtp_port=ports.any_free())).send(outgoing_mail(to=address))
        assert refused.value.reason == "address_malformed"
