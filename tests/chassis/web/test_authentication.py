"""Who a token belongs to, with real issuers behind real HTTP."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from fastapi import FastAPI
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from chassis.core.settings import Settings
from chassis.web import dev_issuer
from chassis.web import dev_tokens as local
from chassis.web.authentication import (
    FIRST_READ_RETRY_S,
    MAX_KEY_AGE_S,
    REREAD_INTERVAL_S,
    KeysUnavailable,
    Principal,
    SigningKeys,
    TokenVerifier,
    Unauthenticated,
    key_algorithm,
)
from deploy.local import ports


class Watch:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Provider:
    """An identity provider that counts how often its keys are read."""

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
async def serving(app: FastAPI, port: int) -> AsyncIterator[None]:
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
    import contextlib

    return contextlib.nullcontext()


@pytest.fixture
def port() -> int:
    return ports.any_free()


@pytest.fixture
def watch() -> Watch:
    return Watch()


def settings_for(port: int, **more: Any) -> Settings:
    return Settings(issuer=f"http://127.0.0.1:{port}", **more)


def verifier_for(port: int, watch: Watch, **more: Any) -> TokenVerifier:
    settings = settings_for(port, **more)
    return TokenVerifier(settings, SigningKeys(settings, watch))


def claims(port: int, **more: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    usual = {
        "iss": f"http://127.0.0.1:{port}",
        "aud": "viceversa",
        "sub": "u-1",
        "exp": now + timedelta(minutes=5),
        "member_id": "m-1",
        "roles": ["member"],
    }
    return {name: value for name, value in (usual | more).items() if value is not None}


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_JWK = {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "r1", "use": "sig", "alg": "RS256"}
RSA_PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signed(content: dict[str, Any], kid: str = "r1", algorithm: str = "RS256", key: Any = RSA) -> str:
    return jwt.encode(content, key, algorithm=algorithm, headers={"kid": kid})


async def refused(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    return caught.value.code


class TestLocalIssuer:
    async def test_token_gives_the_principal(self, tmp_path: Path, port: int, watch: Watch) -> None:
        url = f"http://127.0.0.1:{port}"
        token = local.issue_token(tmp_path, "m-7", ["member", "coordinator"], ["p-1"], issuer=url)
        async with serving(dev_issuer.create_issuer(tmp_path, url), port):
            found = await verifier_for(port, watch).verify(token)
        assert found == Principal("m-7", "m-7", frozenset({"member", "coordinator"}), frozenset({"p-1"}))

    async def test_keys_may_come_from_a_file(self, tmp_path: Path, port: int, watch: Watch) -> None:
        file = tmp_path / "jwks.json"
        file.write_text(json.dumps(local.public_jwks(tmp_path)))
        verifier = verifier_for(port, watch, jwks_url=file.as_uri())
        token = local.issue_token(tmp_path, "m-7", ["member"], issuer=f"http://127.0.0.1:{port}")
        assert (await verifier.verify(token)).member_id == "m-7"

    async def test_rotated_key_replaces_the_old_one(self, tmp_path: Path, port: int, watch: Watch) -> None:
        url = f"http://127.0.0.1:{port}"
        verifier = verifier_for(port, watch)
        async with serving(dev_issuer.create_issuer(tmp_path, url), port):
            old = local.issue_token(tmp_path, "m-7", ["member"], issuer=url)
            await verifier.verify(old)
            (tmp_path / "issuer" / "key.pem").unlink()
            new = local.issue_token(tmp_path, "m-7", ["member"], issuer=url)
            assert await refused(verifier, new) == "token_invalid", "looked a moment ago"
            watch.time += REREAD_INTERVAL_S
            await verifier.verify(new)
            assert await refused(verifier, old) == "token_invalid"

    def test_only_the_owner_may_read_the_key(self, tmp_path: Path) -> None:
        local.load_signing_key(tmp_path)
        assert stat.S_IMODE((tmp_path / "issuer" / "key.pem").stat().st_mode) == 0o600
        assert [one.name for one in (tmp_path / "issuer").iterdir()] == ["key.pem"]

    def test_key_is_created_once(self, tmp_path: Path) -> None:
        assert local.public_jwks(tmp_path) == local.public_jwks(tmp_path)

    def test_published_key_is_public(self, tmp_path: Path) -> None:
        assert key_algorithm(local.public_jwk(local.load_signing_key(tmp_path))) == "ES256"
        assert "d" not in local.public_jwk(local.load_signing_key(tmp_path))

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104
    def test_listens_on_loopback_only(self, tmp_path: Path, host: str) -> None:
        with pytest.raises(dev_issuer.NotLoopback):
            dev_issuer.serve_issuer(tmp_path, host, 1, local.ISSUER)


@pytest.fixture
async def provider(port: int) -> AsyncIterator[Provider]:
    made = Provider(f"http://127.0.0.1:{port}")
    made.keys = [RSA_JWK]
    async with serving(made.app, port):
        yield made


@pytest.mark.usefixtures("provider")
class TestRejectedTokens:
    async def test_token_without_a_signature(self, port: int, watch: Watch) -> None:
        token = jwt.encode(claims(port), "", algorithm="none", headers={"kid": "r1"})
        assert await refused(verifier_for(port, watch), token) == "token_invalid"

    async def test_public_key_used_as_a_shared_secret(self, port: int, watch: Watch) -> None:
        import base64
        import hashlib
        import hmac

        def part(content: bytes) -> bytes:
            return base64.urlsafe_b64encode(content).rstrip(b"=")

        content = claims(port) | {"exp": int(datetime.now(UTC).timestamp()) + 300}
        text = part(b'{"alg":"HS256","typ":"JWT","kid":"r1"}') + b"." + part(json.dumps(content).encode())
        token = text + b"." + part(hmac.new(RSA_PEM, text, hashlib.sha256).digest())
        assert await refused(verifier_for(port, watch), token.decode()) == "token_invalid"

    async def test_other_algorithm_of_the_same_key(self, port: int, watch: Watch) -> None:
        for algorithm in ("RS512", "PS256"):
            token = signed(claims(port), algorithm=algorithm)
            assert await refused(verifier_for(port, watch), token) == "token_invalid"

    async def test_signature_by_another_key(self, port: int, watch: Watch) -> None:
        token = signed(claims(port), key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
        assert await refused(verifier_for(port, watch), token) == "token_invalid"

    @pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "e30.e30.", "x" * 20_000])
    async def test_text_that_is_not_a_token(self, port: int, watch: Watch, token: str) -> None:
        assert await refused(verifier_for(port, watch), token) == "token_invalid"

    @pytest.mark.parametrize(
        ("wrong", "code"),
        [
            ({"exp": datetime(2020, 1, 1, tzinfo=UTC)}, "token_expired"),
            ({"exp": None}, "token_invalid"),
            ({"nbf": datetime(2100, 1, 1, tzinfo=UTC)}, "token_not_yet_valid"),
            ({"aud": "another"}, "token_for_others"),
            ({"aud": None}, "token_invalid"),
            ({"iss": "http://127.0.0.1:1"}, "token_for_others"),
            ({"iss": None}, "token_invalid"),
            ({"sub": None}, "token_invalid"),
            ({"sub": ""}, "token_invalid"),
        ],
    )
    async def test_invalid_claims(self, port: int, watch: Watch, wrong: dict[str, Any], code: str) -> None:
        assert await refused(verifier_for(port, watch), signed(claims(port, **wrong))) == code


class TestSigningKeys:
    async def test_all_three_algorithms_are_accepted(self, provider: Provider, port: int, watch: Watch) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        provider.keys.append({**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "e1"})
        verifier = verifier_for(port, watch)
        await verifier.verify(signed(claims(port)))
        await verifier.verify(signed(claims(port), "e1", "EdDSA", key))

    async def test_keys_for_other_uses_are_ignored(self, provider: Provider, port: int, watch: Watch) -> None:
        provider.keys = [
            {**RSA_JWK, "kid": "enc", "use": "enc"},
            {**RSA_JWK, "kid": "other", "alg": "RS512"},
            {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
            {"kty": "RSA", "kid": "broken", "n": "?", "e": "AQAB"},
            RSA_JWK,
        ]
        verifier = verifier_for(port, watch)
        await verifier.verify(signed(claims(port)))
        for kid in ("enc", "other", "broken"):
            assert await refused(verifier, signed(claims(port), kid)) == "token_invalid"

    async def test_unknown_keys_do_not_flood_the_issuer(self, provider: Provider, port: int, watch: Watch) -> None:
        verifier = verifier_for(port, watch)
        await verifier.verify(signed(claims(port)))
        tokens = [signed(claims(port), f"made-up-{n}") for n in range(10)]
        assert set(await asyncio.gather(*(refused(verifier, token) for token in tokens))) == {"token_invalid"}
        assert provider.reads == 1
        watch.time += REREAD_INTERVAL_S
        await asyncio.gather(*(refused(verifier, token) for token in tokens))
        assert provider.reads == 2

    async def test_concurrent_requests_read_the_keys_once(self, provider: Provider, port: int, watch: Watch) -> None:
        verifier = verifier_for(port, watch)
        await asyncio.gather(*(verifier.verify(signed(claims(port))) for _ in range(10)))
        assert provider.reads == 1

    async def test_withdrawn_key_is_rejected(self, provider: Provider, port: int, watch: Watch) -> None:
        verifier = verifier_for(port, watch)
        await verifier.verify(signed(claims(port)))
        provider.keys = []
        watch.time += MAX_KEY_AGE_S + 1
        assert await refused(verifier, signed(claims(port))) == "token_invalid"

    async def test_cached_keys_outlast_the_issuer(self, port: int, watch: Watch) -> None:
        made = Provider(f"http://127.0.0.1:{port}")
        made.keys = [RSA_JWK]
        verifier = verifier_for(port, watch)
        async with serving(made.app, port):
            await verifier.verify(signed(claims(port)))
        watch.time += MAX_KEY_AGE_S + 1
        await verifier.verify(signed(claims(port)))

    async def test_without_any_keys_no_token_is_verified(self, port: int, watch: Watch) -> None:
        made = Provider(f"http://127.0.0.1:{port}")
        made.keys = [RSA_JWK]
        verifier = verifier_for(port, watch)
        with pytest.raises(KeysUnavailable):
            await verifier.verify(signed(claims(port)))
        async with serving(made.app, port):
            watch.time += FIRST_READ_RETRY_S
            await verifier.verify(signed(claims(port)))

    async def test_keys_of_another_issuer_are_rejected(self, port: int, watch: Watch) -> None:
        made = Provider("http://127.0.0.1:1")
        made.keys = [RSA_JWK]
        async with serving(made.app, port):
            with pytest.raises(KeysUnavailable):
                await verifier_for(port, watch).verify(signed(claims(port)))


@pytest.mark.usefixtures("provider")
class TestTokenClaims:
    async def test_roles_may_be_nested_or_a_string(self, port: int, watch: Watch) -> None:
        verifier = verifier_for(port, watch, roles_claim="realm_access.roles", programmes_claim="https://x.example/p")
        token = signed(claims(port, realm_access={"roles": ["admin", "offline"]}, **{"https://x.example/p": "p-1 p-2"}))
        found = await verifier.verify(token)
        assert found.roles == {"admin"}
        assert found.programmes == {"p-1", "p-2"}

    async def test_role_member_needs_a_member_id(self, port: int, watch: Watch) -> None:
        found = await verifier_for(port, watch).verify(signed(claims(port, member_id=None, roles=["member", "admin"])))
        assert found.roles == {"admin"}
