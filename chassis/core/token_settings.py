"""The notations of the settings about tokens: lists, claim paths, conditions on claims, and the map of roles.

Each ``parse_`` function raises ``ValueError`` with the remedy. It never repeats the value.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

ASYMMETRIC_ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""The signature algorithms that a service can verify. HMAC and ``none`` are not among them."""
ACCESS_TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - the media type of RFC 9068, not a secret
NO_TYPE: Final = "none"  # in the setting: a token whose header has no type
TOKEN_ROLES: Final = ("member", "coordinator", "admin", "service")

_BACKSLASH_OR_DOT = re.compile(r"\\(.)|(\.)", re.DOTALL)


def parse_names(value: object) -> object:
    """A text with commas as a tuple of names; another value as it is."""
    if not isinstance(value, str):
        return value
    return tuple(name for name in (part.strip() for part in value.split(",")) if name)


def parse_token_type(value: str) -> str:
    """The type of a token's header in its short form: ``application/at+jwt`` and ``AT+JWT`` are ``at+jwt``."""
    name = value.lower()
    short = name.removeprefix("application/")
    return name if "/" in short else short


def parse_claim_path(text: str) -> tuple[str, ...]:
    r"""The names on the way to a claim: ``realm_access.roles``, ``resource_access.my\.client.roles``, or the JSON
    pointer ``/resource_access/my.client/roles`` (RFC 6901)."""
    if text.startswith("/"):
        if re.search(r"~(?![01])", text):
            raise ValueError("in a JSON pointer, write ~0 for ~ and ~1 for /")
        names = [name.replace("~1", "/").replace("~0", "~") for name in text[1:].split("/")]
    else:
        names, position = [""], 0
        for match in _BACKSLASH_OR_DOT.finditer(text):
            names[-1] += text[position : match.start()] + (match[1] or "")
            position = match.end()
            if match[2]:
                names.append("")
        names[-1] += text[position:]
        if text.endswith("\\") and not text.endswith("\\\\"):
            raise ValueError("a claim path must not end with a backslash; write \\. for a dot within a name")
    if not all(names):
        raise ValueError("a claim path must not have an empty name")
    return tuple(names)


def parse_claim_values(text: str) -> Mapping[str, frozenset[str]]:
    """Conditions on claims: ``typ=Bearer,azp=portal|app,scp``. Without values, any value but an empty one counts."""
    conditions: dict[str, frozenset[str]] = {}
    for part in (part.strip() for part in text.split(",")):
        name, separator, values = part.partition("=")
        allowed = frozenset(value.strip() for value in values.split("|"))
        if part and (not name.strip() or (separator and "" in allowed)):
            raise ValueError("must have the form claim=value, claim=value|value or claim, separated by commas")
        if part:
            parse_claim_path(name.strip())
            conditions[name.strip()] = allowed if separator else frozenset()
    return conditions


def parse_role_map(text: str) -> Mapping[str, str]:
    """The provider's names with our roles: ``viceversa-admins=admin,/groups/hr=coordinator``, or a JSON object."""
    if text.lstrip().startswith("{"):
        pairs = list(_parse_json_object(text).items())
    else:
        pairs = [(name.strip(), role.strip()) for name, _, role in (part.rpartition("=") for part in _parts(text))]
    roles: dict[str, str] = {}
    for name, role in pairs:
        if not name or role not in TOKEN_ROLES:
            raise ValueError(f"must have the form name=role, separated by commas; a role is {', '.join(TOKEN_ROLES)}")
        if roles.setdefault(name, role) != role:
            raise ValueError("gives one name two roles")
    return roles


def _parts(text: str) -> list[str]:
    return [part for part in text.split(",") if part.strip()]


def _parse_json_object(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ValueError("begins like a JSON object, and is none")  # noqa: TRY004 - pydantic reports ValueError alone
    return document
