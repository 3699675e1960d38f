"""What counts as an access token: its header, its claims, and how strictly both are read.

An ID token has the same issuer, key and often the same audience. But it tells a client who signed in, and gives no
right to call a service. docs/architecture/tokens.md describes the rules, and the settings for each provider.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from chassis.core.settings import Settings
from chassis.core.token_settings import (
    ACCESS_TOKEN_TYPE,
    NO_TYPE,
    parse_claim_path,
    parse_claim_values,
    parse_token_type,
)

CLIENT_CLAIMS = ("azp", "client_id", "cid", "appid")  # in which providers name the client that got the token
ACCESS_TOKEN_KINDS = frozenset({"bearer", ACCESS_TOKEN_TYPE})  # of the claim `typ`, where a provider sets it
SCOPE_CLAIMS = ("scope", "scp")
TIME_CLAIMS = ("exp", "nbf", "iat")
MAX_TIME_S = 253402300799  # the end of the year 9999

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class NotAnAccessToken(ValueError):
    """A token of the issuer that is not meant for calling a service. The message says why; it quotes no claim."""


class StrictJwt(jwt.PyJWT):
    """Reads the claims of a token strictly: a name twice, NaN, or a time that is no plain number is refused."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        try:
            claims = parse_strict_json(decoded["payload"])
        except (ValueError, RecursionError):
            raise jwt.DecodeError("the claims cannot be read") from None
        for name in TIME_CLAIMS:
            if name in claims and not _is_time(claims[name]):
                raise jwt.DecodeError(f"the claim {name} is not a time")
        return claims


def _is_time(value: object) -> bool:
    """Whether this is a number of seconds until the year 9999; NaN and infinity are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_TIME_S


def read_header(token: str) -> Mapping[str, Any]:
    """The header of a token. No other part is read before the signature is verified.

    Raises ``ValueError`` for a header that cannot be read or that asks for something unknown, and ``RecursionError``
    when it is nested too deeply. Keys and addresses in a header (``jwk``, ``jku``, ``x5u``) are never used.
    """
    if not _COMPACT.fullmatch(token):
        raise ValueError("it does not have three parts")
    part = token.partition(".")[0]
    header = parse_strict_json(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if "crit" in header or "b64" in header:
        raise ValueError("its header needs an extension")
    if "cty" in header:
        raise ValueError("it holds another token")
    if not (isinstance(header.get("alg"), str) and isinstance(header.get("kid", ""), str)):
        raise ValueError("its header has no algorithm, or a wrong key id")  # noqa: TRY004 - the token is wrong
    return header


def parse_strict_json(text: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8. Raises ``ValueError`` for a name that occurs twice, NaN and Infinity."""
    document = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - the text is wrong, not a type
    return document


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name occurs twice")
    return document


def _refuse_constant(_: str) -> Any:
    raise ValueError("it holds a number that JSON does not have")


def check_access_token(settings: Settings, header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
    """Raises ``NotAnAccessToken`` for every token that is not known to be an access token."""
    given = header.get("typ", NO_TYPE)
    kind = parse_token_type(given) if isinstance(given, str) else None
    if kind not in settings.token_types:
        raise NotAnAccessToken("the type in its header is not one of VICEVERSA_TOKEN_TYPES")
    if any(name in claims for name in settings.id_token_claims):
        raise NotAnAccessToken("it has a claim that only ID tokens have")
    if "events" in claims:
        raise NotAnAccessToken("it tells of an event, such as a logout")
    if "cnf" in claims:
        raise NotAnAccessToken("it is bound to a key (DPoP or mutual TLS), and no service checks the proof")
    for name, values in parse_claim_values(settings.access_token_claims).items():
        if not _has_value(find_claim(claims, name), values):
            raise NotAnAccessToken("a claim is not as VICEVERSA_ACCESS_TOKEN_CLAIMS says")
    marked = claims.get("typ")
    if marked is not None and str(marked).lower() not in ACCESS_TOKEN_KINDS:
        raise NotAnAccessToken("its claim typ says that it is another kind of token")
    if kind != ACCESS_TOKEN_TYPE:
        _check_untyped(claims)


def _check_untyped(claims: Mapping[str, Any]) -> None:
    """The signs of an ID token, for a token whose header does not tell. Raises ``NotAnAccessToken``."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if any(claims.get(name) in audiences for name in CLIENT_CLAIMS if claims.get(name) is not None):
        raise NotAnAccessToken("it is for the client itself; give the services an audience of their own")
    if "auth_time" in claims and not any(name in claims for name in SCOPE_CLAIMS):
        raise NotAnAccessToken("it tells when a person signed in, and has no scope")


def _has_value(claim: object, values: frozenset[str]) -> bool:
    """Whether the claim has one of the values; with no values, whether it says anything."""
    items = claim if isinstance(claim, list) else [claim]
    texts = {item for item in items if isinstance(item, str) and item}
    return bool(texts & values if values else texts)


def find_claim(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, which may contain dots, or else by a path into nested objects."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in parse_claim_path(name):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
