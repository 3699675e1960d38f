"""A token issuer for one machine: development, tests and the demo. Started as ``python -m chassis.issuer``.

It publishes its key; it hands tokens to nobody. Tokens are made by whoever may read the key file (``issue``), so to be
anybody takes what it takes to read the data folder. It refuses to listen on anything but loopback.
"""

import argparse
import base64
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI
from jwt.algorithms import ECAlgorithm

from chassis import logs
from chassis.ids import new_id
from chassis.settings import SettingsError, is_loopback, load

ISSUER = "http://127.0.0.1:8100"
AUDIENCE = "viceversa"
PORT = 8100
HOUR = timedelta(hours=1)
ALGORITHM = "ES256"


class NotLoopback(ValueError):
    """The local issuer was asked to listen where others could reach it."""


def issue(
    data: Path,
    member_id: str | None,
    roles: Iterable[str],
    programmes: Iterable[str] = (),
    lifetime: timedelta = HOUR,
    *,
    subject: str | None = None,
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
) -> str:
    """A token, signed with the key in the data folder; ``subject`` is the member unless it is said."""
    key = signing_key(data)
    now = datetime.now(UTC)
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject or member_id or "local",
        "iat": now,
        "nbf": now,
        "exp": now + lifetime,
        "jti": new_id(),
        "roles": sorted(set(roles)),
        "programmes": sorted(set(programmes)),
    }
    if member_id is not None:
        claims["member_id"] = member_id
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": public_jwk(key)["kid"]})


def signing_key(data: Path) -> ec.EllipticCurvePrivateKey:
    """The key of the data folder, made at the first call; only its owner may read it."""
    file = data / "issuer" / "key.pem"
    if not file.exists():
        _make(file)
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{file} holds another kind of key; remove it")
    return key


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fresh = file.with_name(f"{file.name}.{new_id()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(pem)
    try:
        os.link(fresh, file)  # whole or not at all, and never over the key of a process that was faster
    except FileExistsError:
        return
    finally:
        fresh.unlink()


def jwks(data: Path) -> dict[str, object]:
    """The public keys, as ``/jwks`` answers them; also fit for a file that ``VICEVERSA_JWKS_URL`` names."""
    return {"keys": [public_jwk(signing_key(data))]}


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The public half, named by its thumbprint (RFC 7638)."""
    public: dict[str, str] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    told = {name: public[name] for name in ("crv", "kty", "x", "y")}
    thumbprint = hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).digest()
    kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
    return told | {"kid": kid, "use": "sig", "alg": ALGORITHM}


def create_issuer(data: Path, issuer: str = ISSUER) -> FastAPI:
    app = FastAPI(title="Local issuer", docs_url=None, redoc_url=None, openapi_url=None)
    signing_key(data)

    @app.get("/.well-known/openid-configuration")
    def configuration() -> dict[str, object]:
        return {
            "issuer": issuer,
            "jwks_uri": f"{issuer.rstrip('/')}/jwks",
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "subject_types_supported": ["public"],
            "response_types_supported": ["none"],
        }

    @app.get("/jwks")
    def keys() -> dict[str, object]:
        return jwks(data)

    @app.get("/health/live")
    @app.get("/health/ready")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def serve(data: Path, host: str, port: int, issuer: str) -> None:
    """Answer until the process is told to stop. Raises ``NotLoopback``."""
    if not is_loopback(host):
        raise NotLoopback("the local issuer listens on this machine's loopback only; use a real one for anything else")
    uvicorn.run(create_issuer(data, issuer), host=host, port=port, log_config=None, access_log=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m chassis.issuer", description="The token issuer of one machine.")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("VICEVERSA_DATA", ".viceversa")))
    parser.add_argument(
        "--write-keys", type=Path, metavar="FILE", help="write the public keys for VICEVERSA_JWKS_URL=file:..., and end"
    )
    chosen = parser.parse_args(arguments)
    if chosen.write_keys:
        chosen.write_keys.write_text(json.dumps(jwks(chosen.data)), encoding="utf-8")
        return
    try:
        settings = load("issuer")
        logs.configure("issuer", settings.instance_of("issuer"), settings.log_level)
        port = settings.http_port or urlsplit(settings.issuer).port or PORT
        serve(chosen.data, settings.http_host, port, settings.issuer)
    except (SettingsError, NotLoopback) as error:
        sys.stderr.write(f"issuer cannot start:\n{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
