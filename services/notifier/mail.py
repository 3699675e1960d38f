"""E-mail by SMTP. Every failure becomes one of three errors: rejected for good, deferred, or in doubt.

A delivery is in doubt when the connection broke after the text was sent and before the server's last reply: the server
may have accepted the mail. A repeated attempt uses the same Message-ID, so that servers and mail programs recognise a
second copy.

aiosmtplib's errors derive from OSError and quote addresses, so none of them leaves this module.
"""

import asyncio
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import aiosmtplib

from contracts.email_address import EmailAddress, InvalidAddress, parse_address
from contracts.text import without_links
from services.notifier.domain.bounce import make_code
from services.notifier.domain.notification import Reason
from services.notifier.mail_message import date_value, mailbox, message_bytes, unstructured
from services.notifier.settings import MailSettings

_STATUS = re.compile(r"(5\.\d{1,3}\.\d{1,3})\b")
PERMANENT_FAILURE_CODE = 500  # the lowest SMTP reply code that is final
ATTEMPT_TIMEOUT_S = 120  # for all steps of one attempt; shorter than CLAIM_LEASE, or another attempt would begin
QUIT_TIMEOUT_S = 1


class MailRejected(Exception):
    """The server will never accept this mail. ``reason`` is one of the domain's reasons.

    ``status``: what the server says about the address, as an enhanced status code; None where it does not say.
    """

    def __init__(self, reason: Reason, status: str | None = None) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.status = status


class MailDeferred(Exception):
    """The server did not accept the mail now. A later attempt may succeed."""


class DeliveryInDoubt(Exception):
    """It is unknown whether the server accepted the mail."""


@dataclass(frozen=True)
class OutgoingMail:
    """One mail. ``id`` makes its Message-ID, which is the same for each attempt."""

    id: str
    to: str
    name: str
    subject: str
    text: str
    language: str
    at: datetime


class Mailer:
    """Sends mail through one SMTP server."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        self.bounce_key = settings.bounce_key.get_secret_value().encode() if settings.bounce_key else None
        self._sender = parse_address(settings.smtp_sender)
        self._domain = self._sender.domain

    async def send(self, mail: OutgoingMail) -> None:
        """Return when the server has accepted the mail.

        Raises ``MailRejected``, ``MailDeferred`` or ``DeliveryInDoubt``.
        """
        recipient = _parse_recipient(mail.to)
        content = self._message_bytes(mail, recipient)
        client = self._client()
        has_sent_text = False
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                await self._open_transaction(client, recipient)
                has_sent_text = True
                await _send_text(client, content)
        except TimeoutError:
            raise (DeliveryInDoubt if has_sent_text else MailDeferred)("the attempt took too long") from None
        finally:
            await _close(client)

    async def _open_transaction(self, client: aiosmtplib.SMTP, recipient: EmailAddress) -> None:
        """Everything before the text. The server has accepted nothing yet, so a failure is never in doubt."""
        settings = self._settings
        try:
            await client.connect()
            if settings.smtp_username is not None and settings.smtp_password is not None:
                await client.login(settings.smtp_username, settings.smtp_password.get_secret_value())
            await self._send_addresses(client, recipient)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailDeferred(type(error).__name__) from None

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            timeout=settings.smtp_timeout,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            tls_context=ssl.create_default_context() if settings.smtp_security in ("starttls", "tls") else None,
            local_hostname=self._domain,
        )

    async def _send_addresses(self, client: aiosmtplib.SMTP, recipient: EmailAddress) -> None:
        options = []
        if recipient.needs_smtputf8:
            await client.ehlo()
            if not client.supports_extension("smtputf8"):
                raise MailRejected("server_lacks_smtputf8")
            options = ["SMTPUTF8", "BODY=8BITMIME"]  # a server with the one has the other (RFC 6531, 3.1)
        encoding = "utf-8" if options else "ascii"
        try:
            await client.mail(str(self._sender), options=options, encoding=encoding)
        except aiosmtplib.SMTPSenderRefused as error:
            raise _error_for(error.code, "sender_refused") from None
        try:
            await client.rcpt(str(recipient), encoding=encoding)
        except aiosmtplib.SMTPRecipientRefused as error:
            raise _error_for(error.code, "address_refused", _status_in(error.message)) from None

    def _message_bytes(self, mail: OutgoingMail, recipient: EmailAddress) -> bytes:
        headers = [
            ("From", mailbox("Viceversa", self._sender)),
            ("To", mailbox(without_links(mail.name), recipient)),
            ("Subject", unstructured(mail.subject)),
            ("Date", date_value(mail.at)),
            ("Message-ID", self._message_id(mail)),
            ("Content-Language", mail.language),
            ("Auto-Submitted", "auto-generated"),
        ]
        return message_bytes(headers, mail.text)

    def _message_id(self, mail: OutgoingMail) -> str:
        """The same for each attempt to the same address, with a code by which a report proves to be about this mail."""
        code = f".{make_code(self.bounce_key, mail.id, mail.to)}" if self.bounce_key else ""
        return f"<{mail.id}{code}@{self._domain}>"


def _parse_recipient(text: str) -> EmailAddress:
    try:
        return parse_address(text)
    except InvalidAddress:
        raise MailRejected("address_malformed", "5.1.3") from None


async def _send_text(client: aiosmtplib.SMTP, content: bytes) -> None:
    try:
        await client.data(content)
    except aiosmtplib.SMTPDataError as error:
        raise _error_for(error.code, "message_refused") from None
    except aiosmtplib.SMTPResponseException as error:
        if error.code < 0:  # the server's reply could not be read
            raise DeliveryInDoubt(type(error).__name__) from None
        raise _error_for(error.code, "message_refused") from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise DeliveryInDoubt(type(error).__name__) from None


async def _close(client: aiosmtplib.SMTP) -> None:
    """Say QUIT where the server still listens. The outcome of the mail is known by then."""
    with suppress(aiosmtplib.SMTPException, OSError):
        if client.is_connected:
            await client.quit(timeout=QUIT_TIMEOUT_S)
    client.close()


def _status_in(message: str) -> str | None:
    """The enhanced status code (RFC 2034) at the beginning of a reply."""
    match = _STATUS.match(message)
    return match[1] if match else None


def _error_for(code: int, reason: Reason, status: str | None = None) -> MailRejected | MailDeferred:
    return MailRejected(reason, status) if code >= PERMANENT_FAILURE_CODE else MailDeferred(f"reply {code}")
