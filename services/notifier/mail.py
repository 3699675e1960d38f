"""E-mail by SMTP. Each way it can go wrong becomes one of three: refused for good, better later, or in doubt.

In doubt is a connection that broke after the text was sent and before the server's last word: it may have taken the
mail over. Whoever tries again uses the same Message-ID, by which servers and mail programs know a second copy.

aiosmtplib's errors derive from OSError and quote addresses: none of them leaves this file.
"""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime

import aiosmtplib

from services.notifier.domain.notification import Reason
from services.notifier.settings import MailSettings

# What the standard library's parser raises over what is no address: its own errors, and slips of its own ("al@[").
NO_ADDRESS = (MessageError, ValueError, IndexError, AttributeError)
PERMANENT = 500  # SMTP codes from here on are final
ATTEMPT_TIMEOUT_S = (
    120  # seconds for one attempt with all its steps; less than the domain's CLAIM, or another would begin
)


class MailRejected(Exception):
    """The server will never take this; ``reason`` is one of the domain's."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class MailDeferred(Exception):
    """It was not taken over; another time it may be."""


class DeliveryInDoubt(Exception):
    """Nobody knows whether it was taken over."""


@dataclass(frozen=True)
class OutgoingMail:
    """One mail. ``id`` makes its Message-ID: the same for each attempt."""

    id: str
    to: str
    name: str
    subject: str
    text: str
    language: str
    at: datetime


class Mailer:
    """Hands letters over to one SMTP server."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        self._domain = settings.smtp_sender.rpartition("@")[2]

    async def send(self, letter: OutgoingMail) -> None:
        """Returns when the server has it. Raises ``Refused``, ``Later`` or ``InDoubt``."""
        content = self._written(letter)
        client = self._client()
        text_began = False
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                await self._introduced(client, letter)
                text_began = True
                await _data(client, content)
        except TimeoutError:
            raise (DeliveryInDoubt if text_began else MailDeferred)("the time for one attempt is over") from None
        finally:
            await _closed(client)

    async def _introduced(self, client: aiosmtplib.SMTP, letter: OutgoingMail) -> None:
        """Everything before the text: nothing was taken over yet."""
        settings = self._settings
        try:
            await client.connect()
            if settings.smtp_username is not None and settings.smtp_password is not None:
                await client.login(settings.smtp_username, settings.smtp_password.get_secret_value())
            await self._addressed(client, letter)
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

    async def _addressed(self, client: aiosmtplib.SMTP, letter: OutgoingMail) -> None:
        options = []
        if not letter.to.isascii():
            await client.ehlo()
            if not client.supports_extension("smtputf8"):
                raise MailRejected("address_refused")
            options = ["SMTPUTF8", "BODY=8BITMIME"]
        encoding = "utf-8" if options else "ascii"
        try:
            await client.mail(self._settings.smtp_sender, options=options, encoding=encoding)
        except aiosmtplib.SMTPSenderRefused as error:
            raise _final_or_later(error.code, "sender_refused") from None
        try:
            await client.rcpt(letter.to, encoding=encoding)
        except aiosmtplib.SMTPRecipientRefused as error:
            raise _final_or_later(error.code, "address_refused") from None

    def _written(self, letter: OutgoingMail) -> bytes:
        message = EmailMessage(policy=SMTP_POLICY.clone(utf8=not letter.to.isascii()))
        try:
            message["From"] = Address("Viceversa", addr_spec=self._settings.smtp_sender)
            message["To"] = Address(_on_one_line(letter.name), addr_spec=letter.to)
        except NO_ADDRESS:
            raise MailRejected("address_malformed") from None
        message["Subject"] = _on_one_line(letter.subject)
        message["Date"] = format_datetime(letter.at)
        message["Message-ID"] = f"<{letter.id}@{self._domain}>"
        message["Content-Language"] = letter.language
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        return message.as_bytes()


async def _data(client: aiosmtplib.SMTP, content: bytes) -> None:
    try:
        await client.data(content)
    except aiosmtplib.SMTPDataError as error:
        raise _final_or_later(error.code, "message_refused") from None
    except aiosmtplib.SMTPResponseException as error:
        if error.code < 0:  # the server's answer could not be read
            raise DeliveryInDoubt(type(error).__name__) from None
        raise _final_or_later(error.code, "message_refused") from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise DeliveryInDoubt(type(error).__name__) from None


async def _closed(client: aiosmtplib.SMTP) -> None:
    """Say good-bye where somebody listens; the letter's fate is known by then."""
    with suppress(aiosmtplib.SMTPException, OSError):
        if client.is_connected:
            await client.quit(timeout=1)
    client.close()


def _final_or_later(code: int, reason: Reason) -> MailRejected | MailDeferred:
    return MailRejected(reason) if code >= PERMANENT else MailDeferred(f"answer {code}")


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
