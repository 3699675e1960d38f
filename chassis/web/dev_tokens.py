"""Tokens for one machine, and the key that signs them: for development, tests and the demo.

Every process that can read the key file can issue tokens for any person, so access to the data folder is access to
every account. ``chassis.web.dev_issuer`` publishes the public key.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from chassis.core.ids import new_id
from chassis.core.token_settings import ACCESS_TOKEN_TYPE

ISSUER = "http://127.0.0.1:8100"
AUDIENCE = "viceversa"
DEFAULT_LIFETIME = timedelta(hours=1)
ALGORITHM = "ES256"
CLIENT = "viceversa-local"


def issue_token(
    data_folder: Path,
    member_id: str | None,
    roles: Iterable[str],
    programmes: Iterable[str] = (),
    lifetime: timedelta = DEFAULT_LIFETIME,
    *,
    subject: str | None = None,
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
    no_member: bool = True,
) -> str:
    """An access token (RFC 9068) signed with the key in the data folder. Without ``subject``, the member is it.

    ``no_member``: a token without member declares that no member is behind it.
    """
    key = load_signing_key(data_folder)
    issued_at = datetime.now(UTC)
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject or member_id or "local",
        "client_id": CLIENT,
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + lifetime,
        "jti": new_id(),
        "roles": sorted(set(roles)),
        "programmes": sorted(set(programmes)),
    }
    if member_id is not None:
        claims["member_id"] = member_id
    elif no_member:
        claims["no_member"] = True
    header = {"typ": ACCESS_TOKEN_TYPE, "kid": public_jwk(key)["kid"]}
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers=header)


def load_signing_key(data_folder: Path) -> ec.EllipticCurvePrivateKey:
    """The key in the data folder, created at the first call; only its owner may read the file."""
    file = data_folder / "issuer" / "key.pem"
    if not file.exists():
        _create_key(file)
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{file} holds another kind of key; remove it")
    return key


def _create_key(file: Path) -> None:
    file.parents[1].mkdir(parents=True, exist_ok=True, mode=0o700)  # of missing folders, only the last gets the mode
    file.parent.mkdir(exist_ok=True, mode=0o700)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = file.with_name(f"{file.name}.{new_id()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(pem)
    try:
        os.link(temporary, file)  # atomic, and never over the key of another process that was faster
    except FileExistsError:
        return
    finally:
        temporary.unlink()


def public_jwks(data_folder: Path) -> dict[str, object]:
    """The public keys, as ``/jwks`` returns them; also the content of a file for ``VICEVERSA_JWKS_URL``."""
    return {"keys": [public_jwk(load_signing_key(data_folder))]}


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The public key as a JWK, with its thumbprint (RFC 7638) as ``kid``."""
    public: dict[str, str] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    members = {name: public[name] for name in ("crv", "kty", "x", "y")}
    thumbprint = hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()
    kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
    return members | {"kid": kid, "use": "sig", "alg": ALGORITHM}
