"""A bounce: the report that a mail did not arrive, and what it says about the address.

A *hard* bounce says that there is no such mailbox. It marks the address, and no more mail goes there until it changes.
A *soft* bounce says that this mail did not arrive now, or that its content was refused; the address may be good. Only
status codes (RFC 3463) are read, never the text that comes with them.

The Message-ID of a mail carries a code that only we can make: an HMAC over the notification and the address. So a
report counts only for a mail that we sent, and for the address to which we sent it. Nobody can silence somebody else by
a report that they write themselves, unless they have read a mail to that person.
"""

import hashlib
import hmac
import re
from base64 import b32encode
from dataclasses import dataclass
from typing import Final, Literal

HARD_STATUSES: Final = frozenset(
    {
        "5.0.0",  # failed for good, and the server does not say why
        "5.1.0", "5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10",  # no such mailbox or domain, or it has moved
        "5.2.0", "5.2.1",  # the mailbox is disabled; 5.2.2 is a full one
        "5.4.4",  # no server for the domain
    }
)  # fmt: skip
CODE_BYTES: Final = 16
_MESSAGE_ID = re.compile(r"<?(?P<id>[A-Za-z0-9-]{1,64})\.(?P<code>[a-z2-7]{26})@[^\s<>@]+>?")

Severity = Literal["hard", "soft"]


@dataclass(frozen=True)
class BounceReport:
    """One failed recipient of one mail. ``message_ids``: the mails that the report may be about, best guess first."""

    message_ids: tuple[str, ...]
    status: str


@dataclass(frozen=True)
class BounceCode:
    """The parts of one of our Message-IDs."""

    notification_id: str
    code: str

    def is_of(self, key: bytes, address: str) -> bool:
        """Whether we sent this notification to this address."""
        return hmac.compare_digest(self.code, make_code(key, self.notification_id, address))


def severity_of(status: str) -> Severity:
    """What an enhanced status code says about the address. An unknown code is soft: no address is lost by mistake."""
    return "hard" if status in HARD_STATUSES else "soft"


def make_code(key: bytes, notification_id: str, address: str) -> str:
    digest = hmac.new(key, f"{notification_id}\n{address}".encode(), hashlib.sha256).digest()
    return b32encode(digest[:CODE_BYTES]).decode("ascii").rstrip("=").lower()


def read_message_id(message_id: str) -> BounceCode | None:
    """The notification and the code of one of our Message-IDs; None for any other."""
    match = _MESSAGE_ID.fullmatch(message_id.strip())
    return BounceCode(match["id"], match["code"]) if match else None


def address_mark(member_id: str, address: str) -> str:
    """Stands for the address in the mark of a bounce, so that the address itself is stored in the contacts only."""
    return hashlib.sha256(f"{member_id}\n{address}".encode()).hexdigest()
