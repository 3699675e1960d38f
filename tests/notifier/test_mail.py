"""Mail against a real SMTP server that refuses, delays and drops: each way becomes refused, later or in doubt."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.local import mail as catcher
from deploy.local import ports
from services.notifier.mail import DeliveryInDoubt, MailDeferred, Mailer, MailRejected, OutgoingMail
from services.notifier.settings import MailSettings
from tests.notifier.smtp_server import DROP, STALL, VANISH, ScriptedSmtpHandler, scripted_smtp_server


def letter(to: str = "al@example.com", name: str = "Ål Ek", subject: str = "Grüße", id: str = "n1") -> OutgoingMail:
    at = datetime(2026, 3, 2, 12, tzinfo=UTC)
    return OutgoingMail(id=id, to=to, name=name, subject=subject, text="Hello Ål,\n\nword\n", language="en", at=at)


@pytest.fixture
def server() -> Iterator[tuple[ScriptedSmtpHandler, Mailer]]:
    with scripted_smtp_server() as (behaviour, port):
        yield behaviour, Mailer(MailSettings(smtp_port=port, smtp_timeout=1.0))


async def test_a_mail_says_what_it_should_and_its_id_is_that_of_the_notification(
    server: tuple[ScriptedSmtpHandler, Mailer],
) -> None:
    behaviour, mailer = server
    await mailer.send(letter())
    [mail] = behaviour.received
    assert mail["Message-ID"] == "<n1@localhost>"
    assert mail["To"] == "Ål Ek <al@example.com>"
    assert mail["Subject"] == "Grüße"
    assert mail["Date"] == "Mon, 02 Mar 2026 12:00:00 +0000"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "word" in mail.get_payload()


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
async def test_what_a_server_does_becomes_one_of_three(
    server: tuple[ScriptedSmtpHandler, Mailer], recipient: str | None, text: str | None, expected: Exception
) -> None:
    behaviour, mailer = server
    behaviour.recipient_replies.extend([recipient] if recipient else [])
    behaviour.data_replies.extend([text] if text else [])
    with pytest.raises(type(expected)) as raised:
        await mailer.send(letter())
    if isinstance(expected, MailRejected):
        assert isinstance(raised.value, MailRejected)
        assert raised.value.reason == expected.reason
    assert "example.com" not in repr(raised.value)
    assert raised.value.__cause__ is None


async def test_nobody_there_is_later() -> None:
    with pytest.raises(MailDeferred):
        await Mailer(MailSettings(smtp_port=ports.any_free())).send(letter())


@pytest.mark.parametrize(
    "address", ["al", "al@", "a l@example.com", "al@example.com\r\nRCPT TO:<x@y>", "<al@x>", "@@", "al@[", ""]
)
async def test_what_is_no_address_is_refused_before_anybody_is_asked(address: str) -> None:
    with pytest.raises(MailRejected) as refused:
        await Mailer(MailSettings(smtp_port=ports.any_free())).send(letter(to=address))
    assert refused.value.reason == "address_malformed"


async def test_an_address_that_the_server_cannot_write_is_refused(server: tuple[ScriptedSmtpHandler, Mailer]) -> None:
    with pytest.raises(MailRejected):
        await server[1].send(letter(to="ål@example.com"))


async def test_neither_a_name_nor_a_subject_can_add_a_header(server: tuple[ScriptedSmtpHandler, Mailer]) -> None:
    behaviour, mailer = server
    await mailer.send(letter(name="Al\r\nBcc: all@example.com", subject="a\nX-Evil: 1"))
    [mail] = behaviour.received
    assert mail["Bcc"] is None
    assert mail["X-Evil"] is None


async def test_the_catcher_keeps_each_message_id_once_in_a_maildir(tmp_path: Path) -> None:
    port = ports.any_free()
    controller = catcher.controller(tmp_path / "mail", port)
    controller.start()
    try:
        assert catcher.answers(port)
        mailer = Mailer(MailSettings(smtp_port=port))
        for id in ("n1", "n2", "n1"):
            await mailer.send(letter(id=id))
    finally:
        controller.stop()
    kept = sorted((tmp_path / "mail" / "new").iterdir())
    assert len(kept) == 2
    assert list((tmp_path / "mail" / "tmp").iterdir()) == []
    assert {line for file in kept for line in file.read_text().splitlines() if line.startswith("Message-ID")} == {
        "Message-ID: <n1@localhost>",
        "Message-ID: <n2@localhost>",
    }


def test_mail_to_another_machine_goes_unprotected_only_on_purpose() -> None:
    with pytest.raises(ValueError, match="SMTP_SECURITY"):
        MailSettings(smtp_host="mail.example.com")
    assert MailSettings(smtp_host="mail", smtp_security="plain").smtp_host == "mail"
    with pytest.raises(ValueError, match="SMTP_PASSWORD"):
        MailSettings(smtp_username="viceversa")
