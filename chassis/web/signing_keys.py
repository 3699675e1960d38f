"""The issuer's keys, read from its JWKS and cached.

The key decides which algorithms count, never the token: an algorithm must fit the key's type and curve, be the key's
own ``alg`` if it names one, and be in ``VICEVERSA_TOKEN_ALGORITHMS``. A key that is passed over is logged once, with
the reason. A token with an unknown key makes the keys be read again, at most once per interval.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from chassis.core.insecure_settings import is_loopback
from chassis.core.settings import PREFIX, Settings
from chassis.core.token_settings import ASYMMETRIC_ALGORITHMS

log = logging.getLogger(__name__)

REREAD_INTERVAL_S = 30.0  # between two reads of the keys because of an unknown key
FIRST_READ_RETRY_S = 2.0  # between two attempts while no key has been read yet
MAX_KEY_AGE_S = 900.0  # after which the keys are read again, so that a withdrawn key stops counting
HTTP_TIMEOUT_S = 5.0
MAX_RESPONSE_BYTES = 1024 * 1024
MAX_KEYS = 100  # of one JWKS; more are passed over
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192  # a larger one would cost too much for each token
MAX_LOGGED_CHARACTERS = 100

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_ALGORITHMS: Mapping[tuple[str, str | None], Sequence[str]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}


class KeysUnavailable(Exception):
    """The issuer's keys cannot be read, so no token can be verified."""


class KeyPassedOver(ValueError):
    """A key of a JWKS cannot be used. The message tells the operator why; it goes to the log."""


class _UntrustedIssuer(ValueError):
    """The issuer's response must not be trusted."""


@dataclass(frozen=True)
class SigningKey:
    """A public key of the issuer. ``kid``: None when the JWKS gives it no id. ``algorithms``: those that count."""

    kid: str | None
    algorithms: frozenset[str]
    public_key: PublicKey


class SigningKeys:
    """The issuer's keys, read at the first use and cached."""

    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._issuer = settings.issuer
        self._url = settings.jwks_url
        self._algorithms = settings.token_algorithms
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._keys: Sequence[SigningKey] = ()
        self._logged: frozenset[str] = frozenset()
        self._read_at: float | None = None
        self._tried_at: float | None = None

    async def find_key(self, kid: str | None, algorithm: str) -> SigningKey | None:
        """The key for a token with this header. Raises ``KeysUnavailable`` when no key has ever been read.

        The only usable key of a JWKS also verifies a token without ``kid``. If this key has no ``kid``, it verifies
        every token.
        """
        # A token for which there is a key does not wait while another request reads the keys.
        if self._must_read(kid) and not (self._with_id(kid) and self._lock.locked()):
            async with self._lock:
                if self._must_read(kid):
                    await self._read_keys()
        if self._read_at is None:
            raise KeysUnavailable
        return next((key for key in self._with_id(kid) if algorithm in key.algorithms), None)

    def _with_id(self, kid: str | None) -> Sequence[SigningKey]:
        if len(self._keys) == 1 and (kid is None or self._keys[0].kid is None):
            return self._keys
        return [key for key in self._keys if key.kid is not None and key.kid == kid]

    def _must_read(self, kid: str | None) -> bool:
        """Whether it is time to read the keys. Without a ``kid`` nothing tells that the key is still the same one."""
        seconds = self._monotonic()
        if self._tried_at is not None and seconds - self._tried_at < (
            FIRST_READ_RETRY_S if self._read_at is None else REREAD_INTERVAL_S
        ):
            return False
        is_cached = any(key.kid is not None and key.kid == kid for key in self._keys)
        return not is_cached or self._read_at is None or seconds - self._read_at > MAX_KEY_AGE_S

    async def _read_keys(self) -> None:
        try:
            self._keys, passed_over = find_usable_keys(await self._fetch_jwks(), self._algorithms)
            self._read_at = self._monotonic()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError) as error:
            log.warning("the issuer's keys cannot be read: %s", error)
            return
        finally:
            self._tried_at = self._monotonic()
        for reason in passed_over:
            if reason not in self._logged:
                log.warning("a key of the issuer is passed over: %s", reason)
        self._logged = frozenset(passed_over)

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


def find_usable_keys(
    document: Mapping[str, Any], accepted: Sequence[str] = ASYMMETRIC_ALGORITHMS
) -> tuple[Sequence[SigningKey], Sequence[str]]:
    """The signature keys of a JWKS, and for each other key its ``kid`` with the reason why it is passed over.

    Raises ``ValueError`` when the document is no JWKS.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise _UntrustedIssuer("the response holds no list of keys")
    keys: list[SigningKey] = []
    passed_over: list[str] = []
    for entry in entries[:MAX_KEYS]:
        try:
            key = read_key(entry, accepted)
            if any(key.kid == other.kid and key.algorithms & other.algorithms for other in keys):
                raise KeyPassedOver("another key has the same kid and algorithm")
            keys.append(key)
        except KeyPassedOver as error:
            kid = entry.get("kid") if isinstance(entry, dict) else None
            passed_over.append(f"kid {kid!r:.{MAX_LOGGED_CHARACTERS}}: {error}")
    if len(entries) > MAX_KEYS:
        passed_over.append(f"{len(entries) - MAX_KEYS} keys beyond the first {MAX_KEYS}")
    if len(keys) > 1:
        passed_over += [f"kid {None!r}: a key without kid must be the only one" for key in keys if key.kid is None]
        keys = [key for key in keys if key.kid is not None]
    return keys, passed_over


def read_key(entry: object, accepted: Sequence[str] = ASYMMETRIC_ALGORITHMS) -> SigningKey:
    """A key of a JWKS. Raises ``KeyPassedOver`` for a key that verifies no signature here, or only a weak one."""
    if not isinstance(entry, dict):
        raise KeyPassedOver("it is not a JSON object")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise KeyPassedOver("its kid is not a text")
    if entry.get("use", "sig") != "sig":
        raise KeyPassedOver("its use is not sig")
    if "key_ops" in entry and not (isinstance(entry["key_ops"], list) and "verify" in entry["key_ops"]):
        raise KeyPassedOver("its key_ops do not contain verify")
    algorithms = _find_algorithms(entry, accepted)
    if "d" in entry:
        raise KeyPassedOver("it is a private key, and everybody has read it")
    try:
        public_key: Any = jwt.PyJWK.from_dict(entry, algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise KeyPassedOver(f"it cannot be read ({type(error).__name__})") from None
    if isinstance(public_key, rsa.RSAPublicKey) and not MIN_RSA_BITS <= public_key.key_size <= MAX_RSA_BITS:
        raise KeyPassedOver(f"it has {public_key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")
    return SigningKey(kid, frozenset(algorithms), public_key)


def _find_algorithms(entry: Mapping[str, Any], accepted: Sequence[str]) -> Sequence[str]:
    """The algorithms that this key may serve. Raises ``KeyPassedOver`` when there are none."""
    curve = None if entry.get("kty") == "RSA" else entry.get("crv")
    fitting = _ALGORITHMS.get((str(entry.get("kty")), curve if curve is None else str(curve)))
    if fitting is None:
        raise KeyPassedOver("its type or curve is none of RSA, P-256, P-384, P-521 and Ed25519")
    own = entry.get("alg")
    if own is not None:
        if own not in fitting:
            raise KeyPassedOver("its alg does not fit its type and curve")
        fitting = (str(own),)
    algorithms = [name for name in fitting if name in accepted]
    if not algorithms:
        raise KeyPassedOver(f"none of its algorithms ({', '.join(fitting)}) is in {PREFIX}TOKEN_ALGORITHMS")
    return algorithms
