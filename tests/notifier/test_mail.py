"""Mail to a real SMTP server that fails: each failure becomes a rejection, a deferral or a doubt."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, message_from_string
from email.header import decode_header, make_header
from email.policy import compat32, default
from email.utils import getaddresses
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from contracts.email_address import InvalidAddress, parse_address
from contracts.text import find_fault, plain_line
from deploy.local import mail as catcher
from deploy.local import ports
from services.notifier.mail import DeliveryInDoubt, MailDeferred, Mailer, MailRejected, OutgoingMail
from services.notifier.mail_message import mailbox, message_bytes, unstructured
from services.notifier.settings import MailSettings
from tests.notifier.smtp_server import DROP, STALL, VANISH, ScriptedSmtpHandler, scripted_smtp_server

NAMES = [
    {
        "name": "Papadopoulos-Konstantinidou, Maria-Alexandra Evangelia (Customer Services Northern Region)",
        "email": "m1@corp.example",
    },
    {"name": "ශ්‍රියානි පෙරේරා", "email": "m2@corp.example"},
    {"name": "Nguyễn Thị Minh Khai Trần Đặng Phương Thảo Lê", "email": "m3@corp.example"},
    {"name": f"Eve of evil, {'x' * 70}", "email": "m4@corp.example"},
]


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

    async def test_a_server_without_smtputf8_is_named(self, server: tuple[ScriptedSmtpHandler, Mailer]) -> None:
        with pytest.raises(MailRejected) as refused:
            await server[1].send(outgoing_mail(to="ål@example.com"))
        assert refused.value.reason == "server_lacks_smtputf8"

    async def test_a_server_with_smtputf8_gets_the_address_as_it_is(self) -> None:
        with scripted_smtp_server(smtputf8=True) as (handler, port):
            await Mailer(MailSettings(smtp_port=port, smtp_timeout=1.0)).send(outgoing_mail(to="ål@bücher.example"))
        assert handler.recipients == [["ål@xn--bcher-kva.example"]]
        assert "ål@xn--bcher-kva.example" in handler.raw[0].decode()

    @pytest.mark.parametrize(
        ("address", "sent"),
        [
            ("anna@bücher.example", "anna@xn--bcher-kva.example"),
            ("anna@straße.example", "anna@xn--strae-oqa.example"),  # and not strasse.example, as in IDNA 2003
            ("anna@xn--bcher-kva.example", "anna@xn--bcher-kva.example"),
        ],
    )
    async def test_a_domain_is_sent_in_its_ascii_form(
        self, server: tuple[ScriptedSmtpHandler, Mailer], address: str, sent: str
    ) -> None:
        await server[1].send(outgoing_mail(to=address))
        assert server[0].recipients == [[sent]]
        assert getaddresses([server[0].received[0]["To"]])[0][1] == sent
        assert server[0].raw[0].isascii()


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


class TestRecipients:
    """Whatever the name and the address: one recipient, by two parsers of RFC 5322 that share no code."""

    @example("Papadopoulos-Konstantinidou, Maria-Alexandra Evangelia (Customer Services Northern Region)", "m1")
    @example("ශ්‍රියානි පෙරේරා", "m2")
    @example("Nguyễn Thị Minh Khai Trần Đặng Phương Thảo Lê", "m3")
    @example(f"Eve <eve@evil.example>, {'x' * 70}", "m4")
    @example(f'"{"a" * 60}", \\" <eve@evil.example>,', "m5")
    @example("=?utf-8?Q?Eve_=3Ceve=40evil.example=3E=2C?=", "m6")
    @example("a" * 500, "m7")
    @example("", "m8")
    @given(st.text(max_size=200), st.text(min_size=1, max_size=20))
    @settings(max_examples=300)
    def test_any_name_and_address_make_one_recipient(self, name: str, local: str) -> None:
        try:
            address = parse_address(f"{local}@corp.example")
        except InvalidAddress:
            assume(False)
        head = message_bytes([("To", mailbox(name, address)), ("Subject", unstructured(name))], "text").decode()
        assert all(len(line) <= 78 for line in head.split("\r\n"))
        mail = message_from_string(head, policy=default)
        [recipient] = mail["To"].addresses
        assert recipient.addr_spec == str(address)
        assert [line.split(":")[0] for line in head.split("\r\n\r\n")[0].split("\r\n") if line[:1] != " "] == [
            "To", "Subject", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
        ]  # fmt: skip
        raw = message_from_string(head, policy=compat32)
        [(read_name, read_address)] = getaddresses([unfolded(raw["To"])])
        assert read_address == str(address)
        assert decoded(read_name) == decoded(raw["Subject"]) == plain_line(name)

    @pytest.mark.parametrize("row", NAMES)
    async def test_a_server_gets_long_names_whole(
        self, server: tuple[ScriptedSmtpHandler, Mailer], row: dict[str, str]
    ) -> None:
        await server[1].send(outgoing_mail(to=row["email"], name=row["name"], subject=f"For {row['name']}"))
        [mail], [raw] = server[0].received, server[0].raw
        assert server[0].recipients == [[row["email"]]]
        [recipient] = mail["To"].addresses  # type: ignore[union-attr]
        assert recipient.addr_spec == row["email"]
        [header] = [value for name, value in message_from_bytes(raw, policy=compat32).items() if name == "To"]
        assert decoded(getaddresses([unfolded(header)])[0][0]) == row["name"]
        assert mail["Subject"] == f"For {row['name']}"
        assert raw.isascii()
        assert max(map(len, raw.splitlines())) <= 78

    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c"), max_size=300))
    def test_any_text_arrives_whole_in_seven_bits(self, text: str) -> None:
        content = message_bytes([], text)
        assert content.isascii()
        assert max(map(len, content.split(b"\r\n"))) <= 78
        body = message_from_bytes(content, policy=default).get_payload(decode=True)
        assert isinstance(body, bytes)
        assert body.replace(b"\r\n", b"\n").decode().rstrip("\n") == text.rstrip("\n")


def decoded(value: str) -> str:
    """The text of encoded words, by the decoder of Python's former e-mail package."""
    return str(make_header(decode_header(unfolded(value))))


def unfolded(value: str) -> str:
    """The value of a header on one line (RFC 5322, 2.2.3)."""
    return value.replace("\r\n", "")


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
