"""Who is asking: bearer tokens of an OIDC issuer, checked against its keys.

Each key serves one algorithm, decided by the key and never by the token, so neither ``none`` nor a key taken for
another algorithm's can pass. Keys are cached; a token with an unknown key looks again, at most once per interval.
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

LEEWAY = 30.0  # seconds by which the clocks of issuer and service may differ
INTERVAL = 30.0  # seconds between two looks for a key that is not known
RETRY = 2.0  # seconds before an issuer that could not be reached is asked again
MAX_AGE = 900.0  # seconds after which keys are read anew, so that one that was withdrawn stops counting
TIMEOUT = 5.0
LARGEST_ANSWER = 1024 * 1024
LONGEST_TOKEN = 16 * 1024


@dataclass(frozen=True)
class Principal:
    """Whoever asks. ``programmes`` are those that a coordinator looks after.

    The role ``member`` comes only with a ``member_id``, so a route for members may rely on one.
    """

    subject: str
    member_id: str | None
    roles: frozenset[Role]
    programmes: frozenset[str]


class Unauthenticated(Exception):
    """There is no token, or it does not count. ``code`` says why, the text says it to people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class KeysUnavailable(Exception):
    """The issuer's keys cannot be read, so nothing is known about any token."""


class SigningKeys:
    """The issuer's keys, read when they are first needed."""

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
        known = kid in self._keys
        if self._due(known=known) and not (known and self._lock.locked()):  # a known key waits for nobody
            async with self._lock:
                if self._due(known=kid in self._keys):
                    await self._read()
        if self._read_at is None:
            raise KeysUnavailable
        return self._keys.get(kid)

    def _due(self, *, known: bool) -> bool:
        now = self._monotonic()
        if self._tried_at is not None and now - self._tried_at < (RETRY if self._read_at is None else INTERVAL):
            return False
        return not known or self._read_at is None or now - self._read_at > MAX_AGE

    async def _read(self) -> None:
        try:
            self._keys = usable_keys(await self._document())
            self._read_at = self._monotonic()
        except (httpx.HTTPError, OSError, ValueError) as error:
            log.warning("the issuer's keys cannot be read: %s", error)
        finally:
            self._tried_at = self._monotonic()

    async def _document(self) -> Mapping[str, Any]:
        url = self._url
        if url is None:
            discovery = await _get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
            if discovery.get("issuer") != self._issuer:
                raise _Untrusted("the discovery document is another issuer's")
            url = str(discovery.get("jwks_uri"))
            parts = urlsplit(url)
            if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
                raise _Untrusted("the keys are not offered by https")
        if urlsplit(url).scheme == "file":
            return _document(await asyncio.to_thread(Path(unquote(urlsplit(url).path)).read_bytes))
        return await _get(url)


class _Untrusted(ValueError):
    """What the issuer offers is not to be relied on."""


async def _get(url: str) -> Mapping[str, Any]:
    async with (
        httpx.AsyncClient(timeout=TIMEOUT, trust_env=not is_loopback(urlsplit(url).hostname)) as client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as response,
    ):
        response.raise_for_status()
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > LARGEST_ANSWER:
                raise _Untrusted("the answer is too large")
    return _document(body)


def _document(body: bytes) -> Mapping[str, Any]:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise _Untrusted("the answer is no JSON object")
    return document


def usable_keys(document: Mapping[str, Any]) -> dict[str, tuple[jwt.PyJWK, str]]:
    """Signature keys of a JWKS by their ``kid``, each with its one algorithm; others are passed over."""
    found: dict[str, tuple[jwt.PyJWK, str]] = {}
    for entry in document.get("keys", []):
        algorithm = key_algorithm(entry)
        if algorithm is None or not isinstance(entry.get("kid"), str):
            continue
        try:
            found[entry["kid"]] = (jwt.PyJWK.from_dict(entry, algorithm), algorithm)
        except jwt.PyJWTError as error:
            log.warning("a key of the issuer cannot be used: %s", error)
    return found


def key_algorithm(key: Mapping[str, Any]) -> str | None:
    """The algorithm that a public key serves, if it is one of ours; None for any other key."""
    if key.get("use", "sig") != "sig":
        return None
    by_kind = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
    algorithm = by_kind.get((str(key.get("kty")), key.get("crv")))
    return algorithm if key.get("alg", algorithm) == algorithm else None


class TokenVerifier:
    """Tells a token's principal."""

    def __init__(self, settings: Settings, keys: SigningKeys | None = None) -> None:
        self._settings = settings
        self._keys = keys or SigningKeys(settings)

    async def verify(self, token: str) -> Principal:
        """Raises ``Unauthenticated`` and ``KeysUnavailable``."""
        if len(token) > LONGEST_TOKEN:
            raise Unauthenticated("token_invalid", "The token is too long.")
        try:
            kid = _key_id(token)
        except (ValueError, RecursionError):
            raise Unauthenticated("token_invalid", "The token cannot be read.") from None
        found = await self._keys.find_key(kid) if isinstance(kid, str) else None
        if found is None:
            raise Unauthenticated("token_invalid", "The token is not signed by a key of the issuer.")
        key, algorithm = found
        return principal_from_claims(self._settings, self._claims(token, key, algorithm))

    def _claims(self, token: str, key: jwt.PyJWK, algorithm: str) -> Mapping[str, Any]:
        try:
            return jwt.decode(
                token,
                key=key,
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("token_expired", "The token has expired.") from None
        except jwt.ImmatureSignatureError:
            raise Unauthenticated("token_not_yet_valid", "The token does not count yet.") from None
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
            raise Unauthenticated(
                "token_for_others", "The token is of another issuer or for another service."
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.info("a token was refused: %s", type(error).__name__)
            raise Unauthenticated("token_invalid", "The token does not count.") from None


def _key_id(token: str) -> object:
    """The key that the header names. Nothing else of the token is read before its signature is checked, and then once.

    Raises ``ValueError`` for what is no token, ``RecursionError`` for what is made to exhaust the reader.
    """
    header = token.partition(".")[0]
    named = json.loads(urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    return named.get("kid") if isinstance(named, dict) else None


def principal_from_claims(settings: Settings, claims: Mapping[str, Any]) -> Principal:
    """What the claims say; roles that are not ours are passed over."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise Unauthenticated("token_invalid", "The token names nobody.")
    member = _claim(claims, settings.member_claim)
    member_id = member if isinstance(member, str) and 0 < len(member) <= 128 else None
    said = _texts(_claim(claims, settings.roles_claim))
    roles = frozenset(role for role in ROLES if role in said and (role != "member" or member_id is not None))
    return Principal(subject, member_id, roles, _texts(_claim(claims, settings.programmes_claim)))


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, or else by a dotted path into objects (a name may itself have dots)."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(value.split())
    return frozenset(one for one in value if isinstance(one, str)) if isinstance(value, list) else frozenset()
