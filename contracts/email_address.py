"""E-mail addresses as mail servers read them: a local part, and a domain in the form of the DNS (IDNA 2008).

The Python standard library encodes domains by IDNA 2003. There ``straße.example`` becomes ``strasse.example``, which
may belong to somebody else. So this module uses the package ``idna``.
"""

import re
from dataclasses import dataclass
from typing import Final

import idna

from contracts.text import find_fault

MAX_LOCAL_BYTES: Final = 64  # RFC 5321, 4.5.3.1.1
MAX_ADDRESS_BYTES: Final = 254  # RFC 5321, 4.5.3.1.3: a path of 256 with its angle brackets

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_ATOM = re.compile(rf"[{_ATEXT}\u0080-\U0010ffff]+(\.[{_ATEXT}\u0080-\U0010ffff]+)*")
_INVISIBLE = re.compile("[\u00a0\u00ad\u180e\u200b-\u200d\u2060\u3000\ufeff\\s]")


class InvalidAddress(ValueError):
    """No mail server takes this address. The message never repeats it."""


@dataclass(frozen=True)
class EmailAddress:
    """One mailbox. ``domain`` is ASCII. ``local`` may be more: then only a server with SMTPUTF8 takes it."""

    local: str
    domain: str

    @property
    def needs_smtputf8(self) -> bool:
        return not self.local.isascii()

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


def parse_address(text: str) -> EmailAddress:
    """The address that ``text`` is, without a display name. Raises ``InvalidAddress``.

    A local part in quotation marks is refused: hardly any server has such a mailbox, and many programs misread it.
    """
    local, at, domain = text.rpartition("@")
    if not at or find_fault(text) is not None or _INVISIBLE.search(text):
        raise InvalidAddress("it is no e-mail address")
    if not _DOT_ATOM.fullmatch(local) or len(local.encode()) > MAX_LOCAL_BYTES:
        raise InvalidAddress("the part before the @ is not valid")
    address = EmailAddress(local, _ascii_domain(domain))
    if len(str(address).encode()) > MAX_ADDRESS_BYTES:
        raise InvalidAddress("it is too long")
    return address


def _ascii_domain(domain: str) -> str:
    """Raises ``InvalidAddress``. A single label such as ``localhost`` is valid."""
    if domain.endswith("."):
        raise InvalidAddress("the domain ends with a dot")
    try:
        return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise InvalidAddress("the domain is not valid") from None
