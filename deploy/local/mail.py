"""The mail catcher of this machine: an SMTP server that accepts every mail and forwards none.

Each mail becomes one file of a Maildir. A mail with a known Message-ID is acknowledged and not written again. So a
sender that retries after a lost acknowledgement creates no second file.

    python -m deploy.local.mail --maildir .viceversa/mail --port 1025
"""

import argparse
import hashlib
import os
import signal
import socket
import threading
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local import private_files

if TYPE_CHECKING:  # In a container the commands import this module, but aiosmtpd is not installed.
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"
MAX_MAIL_BYTES = 10 * 1024 * 1024


class Catcher:
    """Writes mails into a Maildir: each one is complete in ``new/``, or not there at all."""

    def __init__(self, maildir: Path) -> None:
        self._maildir = maildir
        private_files.make_folder(maildir)
        for part in ("tmp", "new", "cur"):
            private_files.make_folder(maildir / part)

    async def handle_DATA(self, server: "SMTP", session: "Session", envelope: "Envelope") -> str:  # noqa: N802, ARG002
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        self._keep(content, envelope.rcpt_tos)
        return "250 2.0.0 Kept on this machine"

    def _keep(self, content: bytes, recipients: list[str]) -> None:
        id = BytesHeaderParser().parsebytes(content).get("Message-ID")
        text = f"{id}\n{sorted(recipients)}".encode() if id else content
        name = hashlib.sha256(text).hexdigest()[:40]
        if (self._maildir / "new" / name).exists():
            return
        draft = self._maildir / "tmp" / name
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, private_files.FILE_MODE), "wb") as file:
            file.write(content.replace(b"\r\n", b"\n"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._maildir / "new" / name)


def controller(maildir: Path, port: int) -> "Controller":
    """The server, which is not started yet. It listens only on the loopback interface."""
    from aiosmtpd.controller import Controller

    return Controller(
        Catcher(maildir), hostname=HOST, port=port, data_size_limit=MAX_MAIL_BYTES, ident="Viceversa catcher"
    )


def answers(port: int) -> bool:
    """Whether an SMTP server answers on this port."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.mail", description="Catch mail on this machine.")
    parser.add_argument("--maildir", type=Path, required=True, help="the folder for the mails")
    parser.add_argument("--port", type=int, default=1025, help="the port to listen on")
    arguments = parser.parse_args()
    os.umask(private_files.UMASK)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    catcher = controller(arguments.maildir, arguments.port)
    catcher.start()
    stop.wait()
    catcher.stop()


if __name__ == "__main__":
    main()
