"""Identifiers: new ones are ordered by time, derived ones are reproducible."""

import uuid_utils

_NAMESPACE = uuid_utils.UUID("6f1d5a0e-52c1-5f0b-9a63-0d7a5c1be0f4")
_SEPARATOR = "\x1f"  # ASCII unit separator: occurs in no id, name or topic


def new_id() -> str:
    """A new UUIDv7: unique, and roughly ordered by time."""
    return str(uuid_utils.uuid7())


def derived_id(*parts: str) -> str:
    """The UUIDv5 of ``parts``: the same parts always give the same id.

    ``parts`` must never hold a value that a second decision could choose differently. Raises ``ValueError`` when a part
    contains the separator, since two different lists of parts could then give the same id.
    """
    if any(_SEPARATOR in part for part in parts):
        raise ValueError("a part of a derived id contains the separator")
    return str(uuid_utils.uuid5(_NAMESPACE, _SEPARATOR.join(parts)))
