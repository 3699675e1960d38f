"""Mail against a real SMTP server that refuses, delays and drops: each way becomes refused, later or in doubt."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.local import mail as catcher
from deploy.local import ports
from services.notifier.mail import InDoubt, Later, Letter, Mailer, Refused
from services.notifier.settings import MailSettings
from tests.notifier.smtp_server import DROP, STALL, VANISH, Wayward, wayward


def letter(to: str = "al@example.com", name: str = "Ål Ek", subject: str = "Grüße", id: str = "n1") -> Letter:
    at = datetime(2026, 3, 2, 12, tzinfo=UTC)
    return Letter(id=id, to=to, name=name, subject=subject, text="Hello Ål,\n\nword\n", language="en", at=at)


@pytest.fixture
def server() -> Iterator[tuple[Wayward, Mailer]]:
    with wayward() as (behaviour, port):
        yield behaviour, Mailer(MailSettings(smtp_port=port, smtp_timeout=1.0))


async def test_a_mail_says_what_it_should_and_its_id_is_that_of_the_notification(
    server: tuple[Wayward, Mailer],
) -> None:
    behaviour, mailer = server
    await mailer.hand_over(letter())
    [mail] = behaviour.taken
    assert mail["Message-ID"] == "<n1@localhost>"
    assert mail["To"] == "Ål Ek <al@example.com>"
    assert mail["Subject"] == "Grüße"
    assert mail["Date"] == "Mon, 02 Mar 2026 12:00:00 +0000"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "word" in mail.get_payload()


@pytest.mark.parametrize(
    ("recipient", "text", "expected"),
    [
        ("550 no such user", None, Refused("address_refused")),
        ("450 try later", None, Later()),
        (VANISH, None, Later()),
        (STALL, None, Later()),
        (None, "554 spam", Refused("message_refused")),
        (None, "451 greylisted", Later()),
        (None, DROP, InDoubt()),
        (None, STALL, InDoubt()),
    ],
)
async def test_what_a_server_does_becomes_one_of_three(
    server: tuple[Wayward, Mailer], recipient: str | None, text: str | None, expected: Exception
) -> None:
    behaviour, mailer = server
    behaviour.to_recipients.extend([recipient] if recipient else [])
    behaviour.to_texts.extend([text] if text else [])
    with pytest.raises(type(expected)) as raised:
        await mailer.hand_over(letter())
    if isinstance(expected, Refused):
        assert isinstance(raised.value, Refused)
        assert raised.value.reason == expected.reason
    assert "example.com" not in repr(raised.value)
    assert raised.value.__cause__ is None


async def test_nobody_there_is_later() -> None:
    with pytest.raises(Later):
        await Mailer(MailSettings(smtp_port=ports.any_free())).hand_over(letter())


@pytest.mark.parametrize(
    "address", ["al", "al@", "a l@example.com", "al@example.com\r\nRCPT TO:<x@y>", "<al@x>", "@@", "al@[", ""]
)
async def test_what_is_no_address_is_refused_before_anybody_is_asked(address: str) -> None:
    with pytest.raises(Refused) as refused:
        await Mailer(MailSettings(smtp_port=ports.any_free())).hand_over(letter(to=address))
    assert refused.value.reason == "address_malformed"


async def test_an_address_that_the_server_cannot_write_is_refused(server: tuple[Wayward, Mailer]) -> None:
    with pytest.raises(Refused):
        await server[1].hand_over(letter(to="ål@example.com"))


async def test_neither_a_name_nor_a_subject_can_add_a_header(server: tuple[Wayward, Mailer]) -> None:
    behaviour, mailer = server
    await mailer.hand_over(letter(name="Al\r\nBcc: all@example.com", subject="a\nX-Evil: 1"))
    [mail] = behaviour.taken
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
            await mailer.hand_over(letter(id=id))
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
