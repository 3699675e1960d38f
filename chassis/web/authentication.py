"""Authentication: bearer tokens of an OIDC issuer, verified with the issuer's keys.

Each key serves exactly one algorithm. The key decides which, never the token. So neither ``none`` nor a public key used
as a shared secret can pass. Keys are cached. A token with an unknown key makes the keys be read again, at most once per
interval.
"""

import asyncio
import json
import logging
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import unquote, urlsplit

import httpx
import jwt

from chassis.core.settings import Settings, is_loopback

log = logging.getLogger(__name__)

Role: TypeAlias = Literal["member", "coordinator", "admin", "service"]
ROLES: frozenset[Role] = frozenset(get_args(Role))

CLOCK_LEEWAY_S = 30.0  # by which the clocks of issuer and service may differ
REREAD_INTERVAL_S = 30.0  # between two reads of the keys because of an unknown key
FIRST_READ_RETRY_S = 2.0  # between two attempts while no key has been read yet
MAX_KEY_AGE_S = 900.0  # after which the keys are read again, so that a withdrawn key stops counting
HTTP_TIMEOUT_S = 5.0
MAX_RESPONSE_BYTES = 1024 * 1024
MAX_TOKEN_CHARACTERS = 16 * 1024


@dataclass(frozen=True)
class Principal:
    """The authenticated caller. ``programmes``: the ids of the programmes that a coordinator looks after.

    The role ``member`` is present only with a ``member_id``, so a route for members may rely on it.
    """

    subject: str
    member_id: str | None
    roles: frozenset[Role]
    programmes: frozenset[str]


class Unauthenticated(Exception):
    """The token is missing or not valid. ``code`` gives the reason for programs, the message for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class KeysUnavailable(Exception):
    """The issuer's keys cannot be read, so no token can be verified."""


class SigningKeys:
    """The issuer's keys, read at the first use and cached."""

    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._issuer = settings.issuer
        self._url = settings.jwks_url
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._keys: dict[str, tuple[jwt.PyJWK, str]] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None

    async def find_key(self, kid: str) -> tuple[jwt.PyJWK, str] | None:
        """The key and its algorithm. Raises ``KeysUnavailable`` when no key has ever been read."""
        is_cached = kid in self._keys
        # A token with a cached key does not wait while another request reads the keys.
        if self._must_read(is_cached=is_cached) and not (is_cached and self._lock.locked()):
            async with self._lock:
                if self._must_read(is_cached=kid in self._keys):
                    await self._read_keys()
        if self._read_at is None:
            raise KeysUnavailable
        return self._keys.get(kid)

    def _must_read(self, *, is_cached: bool) -> bool:
        seconds = self._monotonic()
        if self._tried_at is not None and seconds - self._tried_at < (
            FIRST_READ_RETRY_S if self._read_at is None else REREAD_INTERVAL_S
        ):
            return False
        return not is_cached or self._read_at is None or seconds - self._read_at > MAX_KEY_AGE_S

    async def _read_keys(self) -> None:
        try:
            self._keys = find_usable_keys(await self._fetch_jwks())
            self._read_at = self._monotonic()
        except (httpx.HTTPError, OSError, ValueError) as error:
            log.warning("the issuer's keys cannot be read: %s", error)
        finally:
            self._tried_at = self._monotonic()

    async def _fetch_jwks(self) -> Mapping[str, Any]:
        url = self._url
        if url is None:
            discovery = await _fetch_json(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
            if discovery.get("issuer") != self._issuer:
                raise _UntrustedIssuer("the discovery document belongs to another issuer")
            url = str(discovery.get("jwks_uri"))
            parts = urlsplit(url)
            if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
                raise _UntrustedIssuer("the keys are not served over https")
        if urlsplit(url).scheme == "file":
            return _parse_json_object(await asyncio.to_thread(Path(unquote(urlsplit(url).path)).read_bytes))
        return await _fetch_json(url)


class _UntrustedIssuer(ValueError):
    """The issuer's response must not be trusted."""


async def _fetch_json(url: str) -> Mapping[str, Any]:
    async with (
        httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, trust_env=not is_loopback(urlsplit(url).hostname)) as client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as response,
    ):
        response.raise_for_status()
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MAX_RESPONSE_BYTES:
                raise _UntrustedIssuer("the response is too large")
    return _parse_json_object(body)


def _parse_json_object(body: bytes) -> Mapping[str, Any]:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise _UntrustedIssuer("the response is not a JSON object")
    return document


def find_usable_keys(document: Mapping[str, Any]) -> dict[str, tuple[jwt.PyJWK, str]]:
    """The signature keys of a JWKS by their ``kid``, each with its algorithm. Other keys are skipped."""
    keys: dict[str, tuple[jwt.PyJWK, str]] = {}
    for entry in document.get("keys", []):
        algorithm = find_algorithm(entry)
        if algorithm is None or not isinstance(entry.get("kid"), str):
            continue
        try:
            keys[entry["kid"]] = (jwt.PyJWK.from_dict(entry, algorithm), algorithm)
        except jwt.PyJWTError as error:
            log.warning("a key of the issuer cannot be used: %s", error)
    return keys


def find_algorithm(key: Mapping[str, Any]) -> str | None:
    """The algorithm of a public signature key: RS256, ES256 or EdDSA; None for any other key."""
    if key.get("use", "sig") != "sig":
        return None
    by_type_and_curve = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
    algorithm = by_type_and_curve.get((str(key.get("kty")), key.get("crv")))
    return algorithm if key.get("alg", algorithm) == algorithm else None


class TokenVerifier:
    """Verifies tokens and returns their principals."""

    def __init__(self, settings: Settings, keys: SigningKeys | None = None) -> None:
        self._settings = settings
        self._keys = keys or SigningKeys(settings)

    async def verify(self, token: str) -> Principal:
        """The principal of a token. Raises ``Unauthenticated`` and ``KeysUnavailable``."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated("token_invalid", "The token is too long.")
        try:
            kid = _read_key_id(token)
        except (ValueError, RecursionError):
            raise Unauthenticated("token_invalid", "The token cannot be read.") from None
        key_and_algorithm = await self._keys.find_key(kid) if isinstance(kid, str) else None
        if key_and_algorithm is None:
            raise Unauthenticated("token_invalid", "The token is not signed by a key of the issuer.")
        key, algorithm = key_and_algorithm
        return principal_from_claims(self._settings, self._verify_claims(token, key, algorithm))

    def _verify_claims(self, token: str, key: jwt.PyJWK, algorithm: str) -> Mapping[str, Any]:
        try:
            return jwt.decode(
                token,
                key=key,
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=CLOCK_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("token_expired", "The token has expired.") from None
        except jwt.ImmatureSignatureError:
            raise Unauthenticated("token_not_yet_valid", "The token is not valid yet.") from None
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
            raise Unauthenticated(
                "token_for_others", "The token is from another issuer or for another service."
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.info("a token was rejected: %s", type(error).__name__)
            raise Unauthenticated("token_invalid", "The token is not valid.") from None


def _read_key_id(token: str) -> object:
    """The ``kid`` in the token's header. No other part of the token is read before its signature is verified.

    Raises ``ValueError`` when the header cannot be parsed, and ``RecursionError`` when it is nested too deeply.
    """
    header = token.partition(".")[0]
    fields = json.loads(urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    return fields.get("kid") if isinstance(fields, dict) else None


def principal_from_claims(settings: Settings, claims: Mapping[str, Any]) -> Principal:
    """The principal of verified claims. Unknown roles are ignored. Raises ``Unauthenticated`` without a subject."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise Unauthenticated("token_invalid", "The token has no subject.")
    member = _find_claim(claims, settings.member_claim)
    member_id = member if isinstance(member, str) and 0 < len(member) <= 128 else None
    names = _to_strings(_find_claim(claims, settings.roles_claim))
    roles = frozenset(role for role in ROLES if role in names and (role != "member" or member_id is not None))
    return Principal(subject, member_id, roles, _to_strings(_find_claim(claims, settings.programmes_claim)))


def _find_claim(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, which may contain dots, or else by a dotted path into nested objects."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _to_strings(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(value.split())
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()
