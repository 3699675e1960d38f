"""Verification of tokens, with real issuers over real HTTP."""

import asyncio
import base64
import hashlib
import hmac
import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from jwt.algorithms import OKPAlgorithm

from chassis.web import dev_issuer, dev_tokens
from chassis.web.authentication import Principal
from chassis.web.signing_keys import (
    FIRST_READ_RETRY_S,
    MAX_KEY_AGE_S,
    REREAD_INTERVAL_S,
    KeysUnavailable,
    read_key,
)
from tests.chassis.web.issuer import (
    RSA_JWK,
    RSA_PEM,
    CountingIssuer,
    ManualMonotonic,
    claims,
    rejection_code,
    serve,
    sign,
    verifier_for,
)


class TestLocalIssuer:
    async def test_token_gives_the_principal(self, tmp_path: Path, port: int, monotonic: ManualMonotonic) -> None:
        url = f"http://127.0.0.1:{port}"
        token = dev_tokens.issue_token(tmp_path, "m-7", ["member", "coordinator"], ["p-1"], issuer=url)
        async with serve(dev_issuer.create_issuer(tmp_path, url), port):
            principal = await verifier_for(port, monotonic).verify(token)
        assert principal == Principal("m-7", "m-7", frozenset({"member", "coordinator"}), frozenset({"p-1"}))

    async def test_keys_may_come_from_a_file(self, tmp_path: Path, port: int, monotonic: ManualMonotonic) -> None:
        file = tmp_path / "jwks.json"
        file.write_text(json.dumps(dev_tokens.public_jwks(tmp_path)))
        verifier = verifier_for(port, monotonic, jwks_url=file.as_uri())
        token = dev_tokens.issue_token(tmp_path, "m-7", ["member"], issuer=f"http://127.0.0.1:{port}")
        assert (await verifier.verify(token)).member_id == "m-7"

    async def test_rotated_key_replaces_the_old_one(
        self, tmp_path: Path, port: int, monotonic: ManualMonotonic
    ) -> None:
        url = f"http://127.0.0.1:{port}"
        verifier = verifier_for(port, monotonic)
        async with serve(dev_issuer.create_issuer(tmp_path, url), port):
            old = dev_tokens.issue_token(tmp_path, "m-7", ["member"], issuer=url)
            await verifier.verify(old)
            (tmp_path / "issuer" / "key.pem").unlink()
            new = dev_tokens.issue_token(tmp_path, "m-7", ["member"], issuer=url)
            assert await rejection_code(verifier, new) == "token_invalid", "the keys were read a moment ago"
            monotonic.seconds += REREAD_INTERVAL_S
            await verifier.verify(new)
            assert await rejection_code(verifier, old) == "token_invalid"

    def test_only_the_owner_may_read_the_key(self, tmp_path: Path) -> None:
        dev_tokens.load_signing_key(tmp_path)
        assert stat.S_IMODE((tmp_path / "issuer" / "key.pem").stat().st_mode) == 0o600
        assert [entry.name for entry in (tmp_path / "issuer").iterdir()] == ["key.pem"]

    def test_key_is_created_once(self, tmp_path: Path) -> None:
        assert dev_tokens.public_jwks(tmp_path) == dev_tokens.public_jwks(tmp_path)

    def test_published_key_is_public(self, tmp_path: Path) -> None:
        assert read_key(dev_tokens.public_jwk(dev_tokens.load_signing_key(tmp_path))).algorithms == {"ES256"}
        assert "d" not in dev_tokens.public_jwk(dev_tokens.load_signing_key(tmp_path))

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104
    def test_listens_on_loopback_only(self, tmp_path: Path, host: str) -> None:
        with pytest.raises(dev_issuer.NotLoopback):
            dev_issuer.serve_issuer(tmp_path, host, 1, dev_tokens.ISSUER)


@pytest.mark.usefixtures("provider")
class TestRejectedTokens:
    async def test_token_without_a_signature(self, port: int, monotonic: ManualMonotonic) -> None:
        token = jwt.encode(claims(port), "", algorithm="none", headers={"kid": "r1"})
        assert await rejection_code(verifier_for(port, monotonic), token) == "token_invalid"

    async def test_public_key_used_as_a_shared_secret(self, port: int, monotonic: ManualMonotonic) -> None:
        def part(content: bytes) -> bytes:
            return base64.urlsafe_b64encode(content).rstrip(b"=")

        content = claims(port) | {"exp": int(datetime.now(UTC).timestamp()) + 300}
        text = part(b'{"alg":"HS256","typ":"JWT","kid":"r1"}') + b"." + part(json.dumps(content).encode())
        token = text + b"." + part(hmac.new(RSA_PEM, text, hashlib.sha256).digest())
        assert await rejection_code(verifier_for(port, monotonic), token.decode()) == "token_invalid"

    async def test_other_algorithm_of_the_same_key(self, port: int, monotonic: ManualMonotonic) -> None:
        for algorithm in ("RS512", "PS256"):
            token = sign(claims(port), algorithm=algorithm)
            assert await rejection_code(verifier_for(port, monotonic), token) == "token_invalid"

    async def test_signature_by_another_key(self, port: int, monotonic: ManualMonotonic) -> None:
        token = sign(claims(port), key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
        assert await rejection_code(verifier_for(port, monotonic), token) == "token_invalid"

    @pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "e30.e30.", "x" * 20_000])
    async def test_text_that_is_not_a_token(self, port: int, monotonic: ManualMonotonic, token: str) -> None:
        assert await rejection_code(verifier_for(port, monotonic), token) == "token_invalid"

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
    async def test_invalid_claims(
        self, port: int, monotonic: ManualMonotonic, wrong: dict[str, Any], code: str
    ) -> None:
        assert await rejection_code(verifier_for(port, monotonic), sign(claims(port, **wrong))) == code


class TestSigningKeys:
    async def test_all_three_algorithms_are_accepted(
        self, provider: CountingIssuer, port: int, monotonic: ManualMonotonic
    ) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        provider.keys.append({**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "e1"})
        verifier = verifier_for(port, monotonic)
        await verifier.verify(sign(claims(port)))
        await verifier.verify(sign(claims(port), "e1", "EdDSA", key))

    async def test_keys_for_other_uses_are_ignored(
        self, provider: CountingIssuer, port: int, monotonic: ManualMonotonic
    ) -> None:
        provider.keys = [
            {**RSA_JWK, "kid": "enc", "use": "enc"},
            {**RSA_JWK, "kid": "other", "alg": "RS512"},
            {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
            {"kty": "RSA", "kid": "broken", "n": "?", "e": "AQAB"},
            RSA_JWK,
        ]
        verifier = verifier_for(port, monotonic)
        await verifier.verify(sign(claims(port)))
        for kid in ("enc", "other", "broken"):
            assert await rejection_code(verifier, sign(claims(port), kid)) == "token_invalid"

    async def test_unknown_keys_do_not_flood_the_issuer(
        self, provider: CountingIssuer, port: int, monotonic: ManualMonotonic
    ) -> None:
        verifier = verifier_for(port, monotonic)
        await verifier.verify(sign(claims(port)))
        tokens = [sign(claims(port), f"issuer-up-{n}") for n in range(10)]
        assert set(await asyncio.gather(*(rejection_code(verifier, token) for token in tokens))) == {"token_invalid"}
        assert provider.reads == 1
        monotonic.seconds += REREAD_INTERVAL_S
        await asyncio.gather(*(rejection_code(verifier, token) for token in tokens))
        assert provider.reads == 2

    async def test_concurrent_requests_read_the_keys_once(
        self, provider: CountingIssuer, port: int, monotonic: ManualMonotonic
    ) -> None:
        verifier = verifier_for(port, monotonic)
        await asyncio.gather(*(verifier.verify(sign(claims(port))) for _ in range(10)))
        assert provider.reads == 1

    async def test_withdrawn_key_is_rejected(
        self, provider: CountingIssuer, port: int, monotonic: ManualMonotonic
    ) -> None:
        verifier = verifier_for(port, monotonic)
        await verifier.verify(sign(claims(port)))
        provider.keys = []
        monotonic.seconds += MAX_KEY_AGE_S + 1
        assert await rejection_code(verifier, sign(claims(port))) == "token_invalid"

    async def test_cached_keys_outlast_the_issuer(self, port: int, monotonic: ManualMonotonic) -> None:
        issuer = CountingIssuer(f"http://127.0.0.1:{port}")
        issuer.keys = [RSA_JWK]
        verifier = verifier_for(port, monotonic)
        async with serve(issuer.app, port):
            await verifier.verify(sign(claims(port)))
        monotonic.seconds += MAX_KEY_AGE_S + 1
        await verifier.verify(sign(claims(port)))

    async def test_without_any_keys_no_token_is_verified(self, port: int, monotonic: ManualMonotonic) -> None:
        issuer = CountingIssuer(f"http://127.0.0.1:{port}")
        issuer.keys = [RSA_JWK]
        verifier = verifier_for(port, monotonic)
        with pytest.raises(KeysUnavailable):
            await verifier.verify(sign(claims(port)))
        async with serve(issuer.app, port):
            monotonic.seconds += FIRST_READ_RETRY_S
            await verifier.verify(sign(claims(port)))

    async def test_keys_of_another_issuer_are_rejected(self, port: int, monotonic: ManualMonotonic) -> None:
        issuer = CountingIssuer("http://127.0.0.1:1")
        issuer.keys = [RSA_JWK]
        async with serve(issuer.app, port):
            with pytest.raises(KeysUnavailable):
                await verifier_for(port, monotonic).verify(sign(claims(port)))


@pytest.mark.usefixtures("provider")
class TestTokenClaims:
    async def test_roles_may_be_nested_or_a_string(self, port: int, monotonic: ManualMonotonic) -> None:
        verifier = verifier_for(
            port, monotonic, roles_claim="realm_access.roles", programmes_claim="https://x.example/p"
        )
        token = sign(claims(port, realm_access={"roles": ["admin", "offline"]}, **{"https://x.example/p": "p-1 p-2"}))
        principal = await verifier.verify(token)
        assert principal.roles == {"admin"}
        assert principal.programmes == {"p-1", "p-2"}

    async def test_role_member_needs_a_member_id(self, port: int, monotonic: ManualMonotonic) -> None:
        principal = await verifier_for(port, monotonic).verify(
            sign(claims(port, member_id=None, roles=["member", "admin"]))
        )
        assert principal.roles == {"admin"}
