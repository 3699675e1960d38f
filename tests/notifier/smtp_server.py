"""A real SMTP server that fails as its script says."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.local import ports

OK = "250 Ok"
DROP = "drop"  # accept the mail, and break the connection before the reply
VANISH = "vanish"  # break the connection when a recipient is named
STALL = "stall"  # never reply


class ScriptedSmtpHandler:
    """Replies to each recipient and each text with the next scripted reply, and with OK when no reply is left."""

    def __init__(self) -> None:
        self.recipient_replies: deque[str] = deque()
        self.data_replies: deque[str] = deque()
        self.received: list[Message] = []
        self.raw: list[bytes] = []
        self.recipients: list[list[str]] = []

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        reply = await self._next(self.recipient_replies, server)
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if not self.data_replies or self.data_replies[0] in (OK, DROP):
            assert isinstance(envelope.content, bytes)
            self.raw.append(envelope.content)
            self.recipients.append(list(envelope.rcpt_tos))
            self.received.append(message_from_bytes(envelope.content, policy=default))
        return await self._next(self.data_replies, server)

    async def _next(self, script: deque[str], server: SMTP) -> str:
        reply = script.popleft() if script else OK
        if reply == STALL:
            await asyncio.Event().wait()
        if reply in (DROP, VANISH):
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
            return "421 gone"
        return reply

    def message_ids(self) -> list[str]:
        return [str(mail["Message-ID"]) for mail in self.received]


@contextmanager
def scripted_smtp_server(
    handler: ScriptedSmtpHandler | None = None, *, smtputf8: bool = False
) -> Iterator[tuple[ScriptedSmtpHandler, int]]:
    """The handler of the server and its port. The server listens until the end of the block."""
    handler, port = handler or ScriptedSmtpHandler(), ports.any_free()
    controller = Controller(handler, hostname="127.0.0.1", port=port, enable_SMTPUTF8=smtputf8)
    controller.start()
    try:
        yield handler, port
    finally:
        controller.stop()
