"""An OIDC issuer for tests, over real HTTP, and tokens that it signs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from jwt.algorithms import RSAAlgorithm

from chassis.core.settings import Settings
from chassis.web.authentication import TokenVerifier, Unauthenticated
from chassis.web.signing_keys import SigningKeys


class ManualMonotonic:
    """A monotonic clock in seconds, which a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class CountingIssuer:
    """An OIDC issuer that counts how often its keys are read."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: list[dict[str, Any]] = []
        self.reads = 0
        self.app = FastAPI()
        self.app.get("/.well-known/openid-configuration")(self._discovery)
        self.app.get("/jwks")(self._jwks)

    def _discovery(self) -> dict[str, Any]:
        return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}

    def _jwks(self) -> dict[str, Any]:
        self.reads += 1
        return {"keys": self.keys}


@asynccontextmanager
async def serve(app: FastAPI, port: int) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.wait({task}, timeout=0.01)
        assert not task.done()
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _no_signals() -> Any:
    return nullcontext()


def settings_for(port: int, **more: Any) -> Settings:
    return Settings(issuer=f"http://127.0.0.1:{port}", **more)


def verifier_for(port: int, monotonic: ManualMonotonic, **more: Any) -> TokenVerifier:
    settings = settings_for(port, **more)
    return TokenVerifier(settings, SigningKeys(settings, monotonic))


def claims(port: int, **more: Any) -> dict[str, Any]:
    issued_at = datetime.now(UTC)
    usual = {
        "iss": f"http://127.0.0.1:{port}",
        "aud": "viceversa",
        "sub": "u-1",
        "exp": issued_at + timedelta(minutes=5),
        "member_id": "m-1",
        "roles": ["member"],
    }
    return {name: value for name, value in (usual | more).items() if value is not None}


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_JWK = {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "r1", "use": "sig", "alg": "RS256"}
RSA_PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(content: dict[str, Any], kid: str = "r1", algorithm: str = "RS256", key: Any = RSA) -> str:
    return jwt.encode(content, key, algorithm=algorithm, headers={"typ": "at+jwt", "kid": kid})


async def rejection_code(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as raised:
        await verifier.verify(token)
    return raised.value.code
