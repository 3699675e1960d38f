"""Which keys of a JWKS count, for which algorithms, and what the operator reads about the others."""

import base64
import hashlib
import hmac
import json
import logging
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from chassis.core.settings import Settings
from chassis.web.authentication import TokenVerifier, Unauthenticated
from chassis.web.signing_keys import MAX_KEYS, REREAD_INTERVAL_S, KeysUnavailable, SigningKeys, find_usable_keys
from tests.chassis.web.issuer import RSA, RSA_JWK, RSA_PEM, CountingIssuer, ManualMonotonic, rejection_code, serve

ISSUER = "https://issuer.example.com"
FAR = 4102444800  # a time far in the future
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
BARE_RSA = {name: value for name, value in RSA_JWK.items() if name not in ("alg", "kid", "use")}


def verifier(folder: Path, *keys: object, **more: Any) -> TokenVerifier:
    file = folder / "jwks.json"
    file.write_text(json.dumps({"keys": keys}))
    return TokenVerifier(Settings.model_validate({"issuer": ISSUER, "jwks_url": file.as_uri()} | more))


def token_of(key: Any, algorithm: str, kid: str | None = "k", issuer: str = ISSUER, **header: Any) -> str:
    claims = {"iss": issuer, "aud": "viceversa", "sub": "u-1", "exp": FAR}
    named = {} if kid is None else {"kid": kid}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"typ": "at+jwt"} | named | header)


def ec_jwk(key: ec.EllipticCurvePrivateKey, **more: Any) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k"} | more


class TestKeyAlgorithms:
    @pytest.mark.parametrize("algorithm", RSA_ALGORITHMS)
    async def test_rsa_key_without_alg_serves_each(self, tmp_path: Path, algorithm: str) -> None:
        key = {**BARE_RSA, "kid": "k"}
        token = token_of(RSA, algorithm)
        assert (await verifier(tmp_path, key).verify(token)).subject == "u-1"
        assert (await verifier(tmp_path, key, token_algorithms=algorithm).verify(token)).subject == "u-1"
        others = ",".join(name for name in RSA_ALGORITHMS if name != algorithm)
        assert await rejection_code(verifier(tmp_path, key, token_algorithms=others), token) == "token_invalid"

    @pytest.mark.parametrize("algorithm", RSA_ALGORITHMS)
    async def test_rsa_key_with_alg_serves_this_one(self, tmp_path: Path, algorithm: str) -> None:
        checked = verifier(tmp_path, {**BARE_RSA, "kid": "k", "alg": algorithm})
        for other in RSA_ALGORITHMS:
            token = token_of(RSA, other)
            if other == algorithm:
                assert (await checked.verify(token)).subject == "u-1"
            else:
                assert await rejection_code(checked, token) == "token_invalid"

    @pytest.mark.parametrize("algorithm", CURVES)
    async def test_curve_decides_the_algorithm(self, tmp_path: Path, algorithm: str) -> None:
        key = ec.generate_private_key(CURVES[algorithm])
        checked = verifier(tmp_path, ec_jwk(key))
        assert (await checked.verify(token_of(key, algorithm))).subject == "u-1"
        for other in set(CURVES) - {algorithm}:
            forged = _with_algorithm(token_of(key, algorithm), other)
            assert await rejection_code(checked, forged) == "token_invalid"

    async def test_ed25519_key_serves_eddsa(self, tmp_path: Path) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        checked = verifier(tmp_path, {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k"})
        assert (await checked.verify(token_of(key, "EdDSA"))).subject == "u-1"

    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "none"])
    async def test_public_key_is_no_shared_secret(self, tmp_path: Path, algorithm: str) -> None:
        checked = verifier(tmp_path, {**BARE_RSA, "kid": "k"}, {"kty": "oct", "kid": "o", "k": "c2VjcmV0"})
        for kid in ("k", "o", None):
            unsigned = _with_algorithm(token_of(RSA, "RS256", kid), algorithm)
            assert await rejection_code(checked, unsigned) == "token_invalid"
        if algorithm.startswith("HS"):
            digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
            text = _with_algorithm(token_of(RSA, "RS256"), algorithm).rpartition(".")[0]
            for secret in (RSA_PEM, b"secret", b""):
                signature = base64.urlsafe_b64encode(hmac.new(secret, text.encode(), digest).digest())
                token = f"{text}.{signature.rstrip(b'=').decode()}"
                assert await rejection_code(checked, token) == "token_invalid"


def _with_algorithm(token: str, algorithm: str) -> str:
    head, _, rest = token.partition(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))) | {"alg": algorithm}
    return base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode() + "." + rest


class TestKeyIds:
    @pytest.mark.parametrize("kid", [None, "any"])
    async def test_only_key_without_kid_verifies(self, tmp_path: Path, kid: str | None) -> None:
        assert (await verifier(tmp_path, BARE_RSA).verify(token_of(RSA, "RS256", kid))).subject == "u-1"

    async def test_token_without_kid_takes_the_only_key(self, tmp_path: Path) -> None:
        checked = verifier(tmp_path, {**BARE_RSA, "kid": "k"}, {**BARE_RSA, "kid": "e", "use": "enc"})
        assert (await checked.verify(token_of(RSA, "RS256", None))).subject == "u-1"
        assert await rejection_code(checked, token_of(RSA, "RS256", "other")) == "token_invalid"

    async def test_with_two_keys_a_kid_is_needed(self, tmp_path: Path) -> None:
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
        second = {**RSAAlgorithm.to_jwk(other, as_dict=True), "kid": "s"}
        checked = verifier(tmp_path, {**BARE_RSA, "kid": "k"}, second)
        assert await rejection_code(checked, token_of(RSA, "RS256", None)) == "token_invalid"
        assert await rejection_code(checked, token_of(RSA, "RS256", "s")) == "token_invalid"
        assert (await checked.verify(token_of(RSA, "RS256", "k"))).subject == "u-1"

    async def test_one_kid_may_name_keys_of_two_kinds(self, tmp_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        checked = verifier(tmp_path, {**BARE_RSA, "kid": "k"}, ec_jwk(key))
        assert (await checked.verify(token_of(RSA, "PS256"))).subject == "u-1"
        assert (await checked.verify(token_of(key, "ES256"))).subject == "u-1"

    async def test_new_key_without_kid_is_read_soon(self, port: int, monotonic: ManualMonotonic) -> None:
        provider = CountingIssuer(f"http://127.0.0.1:{port}")
        provider.keys = [BARE_RSA]
        settings = Settings(issuer=provider.url)
        checked = TokenVerifier(settings, SigningKeys(settings, monotonic))
        new = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        async with serve(provider.app, port):
            await checked.verify(token_of(RSA, "RS256", None, provider.url))
            provider.keys = [dict(RSAAlgorithm.to_jwk(new.public_key(), as_dict=True))]
            await rejection_code(checked, token_of(new, "RS256", None, provider.url))
            monotonic.seconds += REREAD_INTERVAL_S
            await checked.verify(token_of(new, "RS256", None, provider.url))
            assert provider.reads == 2

    async def test_keys_in_a_header_are_never_used(self, port: int, tmp_path: Path) -> None:
        attacker = CountingIssuer(f"http://127.0.0.1:{port}")
        own = ec.generate_private_key(ec.SECP256R1())
        attacker.keys = [ec_jwk(own)]
        jwks_url = f"{attacker.url}/jwks"
        async with serve(attacker.app, port):
            for header in ({"jku": jwks_url}, {"x5u": jwks_url}, {"jwk": ec_jwk(own)}, {"x5c": ["AAAA"]}):
                forged = token_of(own, "ES256", **header)
                assert await rejection_code(verifier(tmp_path, {**BARE_RSA, "kid": "k"}), forged) == "token_invalid"
        assert attacker.reads == 0


WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - it must be refused
UNUSABLE: dict[str, tuple[object, str]] = {
    "weak": ({**RSAAlgorithm.to_jwk(WEAK_RSA.public_key(), as_dict=True), "kid": "k"}, "1024 bits"),
    "exponent 1": ({**BARE_RSA, "kid": "k", "e": "AQ"}, "cannot be read"),
    "encryption": ({**BARE_RSA, "kid": "k", "use": "enc"}, "use is not sig"),
    "signing only": ({**BARE_RSA, "kid": "k", "key_ops": ["sign"]}, "key_ops"),
    "key_ops of another type": ({**BARE_RSA, "kid": "k", "key_ops": "verify"}, "key_ops"),
    "shared secret": ({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}, "type or curve"),
    "HMAC": ({**BARE_RSA, "kid": "k", "alg": "HS256"}, "alg does not fit"),
    "no algorithm": ({**BARE_RSA, "kid": "k", "alg": "none"}, "alg does not fit"),
    "algorithm of another curve": (ec_jwk(ec.generate_private_key(ec.SECP256R1()), alg="ES384"), "alg does not fit"),
    "algorithm of another type": ({**BARE_RSA, "kid": "k", "alg": ["RS256"]}, "alg does not fit"),
    "other curve": (ec_jwk(ec.generate_private_key(ec.SECP256K1())), "type or curve"),
    "Ed448": (
        {**OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True), "kid": "k"},
        "type or curve",
    ),
    "private": ({**RSAAlgorithm.to_jwk(RSA, as_dict=True), "kid": "k", "key_ops": ["verify"]}, "private key"),
    "broken": ({"kty": "RSA", "kid": "k", "n": "?", "e": "AQAB"}, "cannot be read"),
    "numbers for texts": ({"kty": "RSA", "kid": "k", "n": 7, "e": 7}, "cannot be read"),
    "no number": ({"kty": "RSA", "kid": "k"}, "cannot be read"),
    "point off the curve": ({"kty": "EC", "crv": "P-256", "kid": "k", "x": "AA", "y": "AA"}, "cannot be read"),
    "kid of another type": ({**BARE_RSA, "kid": 7}, "kid is not a text"),
    "no object": ("key", "not a JSON object"),
    "nothing": (None, "not a JSON object"),
}


class TestUnusableKeys:
    @pytest.mark.parametrize("kind", UNUSABLE)
    def test_key_is_passed_over_with_the_reason(self, kind: str) -> None:
        entry, reason = UNUSABLE[kind]
        keys, passed_over = find_usable_keys({"keys": [entry, RSA_JWK]})
        assert [key.kid for key in keys] == ["r1"]
        assert len(passed_over) == 1
        assert reason in passed_over[0]

    def test_weak_curve_of_the_settings_is_named(self) -> None:
        keys, passed_over = find_usable_keys({"keys": [RSA_JWK]}, ["ES256"])
        assert not keys
        assert "RS256" in passed_over[0]
        assert "VICEVERSA_TOKEN_ALGORITHMS" in passed_over[0]

    def test_two_keys_of_one_name_do_not_both_count(self) -> None:
        keys, passed_over = find_usable_keys({"keys": [RSA_JWK, {**RSA_JWK, "alg": "RS256"}]})
        assert (len(keys), len(passed_over)) == (1, 1)

    def test_endless_list_is_cut(self) -> None:
        keys, passed_over = find_usable_keys({"keys": [{**RSA_JWK, "kid": str(n)} for n in range(MAX_KEYS + 1)]})
        assert len(keys) == MAX_KEYS
        assert len(passed_over) == 1

    @pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}])
    def test_document_without_keys_is_an_error(self, document: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="keys"):
            find_usable_keys(document)

    async def test_passed_over_key_is_logged_once(
        self, port: int, monotonic: ManualMonotonic, caplog: pytest.LogCaptureFixture
    ) -> None:
        provider = CountingIssuer(f"http://127.0.0.1:{port}")
        provider.keys = [RSA_JWK, {**RSA_JWK, "kid": "old\n", "alg": "RSA1_5"}]
        settings = Settings(issuer=provider.url)
        checked = TokenVerifier(settings, SigningKeys(settings, monotonic))
        caplog.set_level(logging.WARNING)
        async with serve(provider.app, port):
            for _ in range(3):
                await rejection_code(checked, token_of(RSA, "RS256", "unknown", provider.url))
                monotonic.seconds += REREAD_INTERVAL_S
        assert provider.reads == 3
        logged = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
        assert logged == [r"a key of the issuer is passed over: kid 'old\n': its alg does not fit its type and curve"]

    @pytest.mark.parametrize("body", ["[" * 100_000, '{"keys": 1}', "[]", "", "{", '{"keys": [{"kid": "a"}]}'])
    async def test_odd_document_is_no_failure(self, tmp_path: Path, body: str) -> None:
        checked = verifier(tmp_path)
        (tmp_path / "jwks.json").write_text(body)
        with pytest.raises((KeysUnavailable, Unauthenticated)):
            await checked.verify(token_of(RSA, "RS256"))
