"""Which tokens of an issuer count: the shapes of well-known providers, and tokens made to mislead a service."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from chassis.core.settings import Settings, load_settings
from chassis.web.authentication import Principal, TokenVerifier
from tests.chassis.web.issuer import RSA, RSA_JWK, rejection_code
from tests.chassis.web.providers import KEYCLOAK, PROVIDERS, Provider

ISSUER = "https://issuer.example.com"
FAR = 4102444800  # a time far in the future


def verifier(folder: Path, **more: Any) -> TokenVerifier:
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [RSA_JWK]}))
    return TokenVerifier(Settings(**({"issuer": ISSUER} | more | {"jwks_url": keys.as_uri()})))


def token_of(claims: Mapping[str, Any], typ: str | None = "at+jwt", **header: Any) -> str:
    whole: dict[str, Any] = {"iss": ISSUER, "aud": "viceversa", "sub": "u-1", "exp": FAR, **claims}
    return jwt.encode(whole, RSA, algorithm="RS256", headers={"typ": typ, "kid": "r1"} | header)


def raw_token(claims: str, header: str = '{"alg":"RS256","typ":"at+jwt","kid":"r1"}') -> str:
    """A token of texts that a JSON library would not write, with a right signature."""
    parts = [_encode(text.encode("utf-8", "surrogatepass")) for text in (header, claims)]
    signature = RSA.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
    return ".".join((*parts, _encode(signature)))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def raw_claims(extra: str) -> str:
    return f'{{"iss":"{ISSUER}","aud":"viceversa",{extra}}}'


class TestProviders:
    @pytest.mark.parametrize("provider", PROVIDERS, ids=str)
    async def test_access_token_is_accepted(self, tmp_path: Path, provider: Provider) -> None:
        token = token_of(provider.access, provider.typ)
        principal = await verifier(tmp_path, **provider.settings()).verify(token)
        coordinates = "programmes" in provider.access
        assert principal == Principal(
            provider.access["sub"],
            "m-1",
            frozenset({"member", "coordinator"} if coordinates else {"member"}),
            frozenset({"p-1"} if coordinates else ()),
        )

    @pytest.mark.parametrize("audience", ["own", "of the services", "both"])
    @pytest.mark.parametrize("provider", PROVIDERS, ids=str)
    async def test_id_token_is_refused(self, tmp_path: Path, provider: Provider, audience: str) -> None:
        """Also when its audience is that of the services, since one client id was used for both."""
        settings = provider.settings()
        own, services = provider.identity["aud"], settings["audience"]
        chosen = {"own": own, "of the services": services, "both": [services, own]}[audience]
        token = token_of({**provider.identity, "aud": chosen, "iss": provider.access["iss"]}, provider.identity_typ)
        code = await rejection_code(verifier(tmp_path, **settings), token)
        assert code == ("token_for_others" if audience == "own" else "not_an_access_token")

    @pytest.mark.parametrize("hint", ["nonce", "at_hash", "c_hash", "s_hash"])
    @pytest.mark.parametrize("provider", PROVIDERS, ids=str)
    async def test_one_hint_is_enough(self, tmp_path: Path, provider: Provider, hint: str) -> None:
        token = token_of({**provider.access, hint: "x"}, provider.typ)
        assert await rejection_code(verifier(tmp_path, **provider.settings()), token) == "not_an_access_token"

    @pytest.mark.parametrize("provider", PROVIDERS, ids=str)
    async def test_bare_id_token_is_refused(self, tmp_path: Path, provider: Provider) -> None:
        """Some providers leave out everything that OpenID Connect makes optional."""
        settings = provider.settings()
        bare = {name: provider.identity[name] for name in ("sub", "auth_time") if name in provider.identity}
        token = token_of(bare | {"iss": provider.access["iss"], "aud": settings["audience"]}, provider.identity_typ)
        assert await rejection_code(verifier(tmp_path, **settings), token) == "not_an_access_token"

    @pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"])
    async def test_type_of_rfc_9068_is_a_media_type(self, tmp_path: Path, typ: str) -> None:
        assert (await verifier(tmp_path).verify(token_of({}, typ))).subject == "u-1"

    @pytest.mark.parametrize(
        "typ", ["JWT", "jwt", None, "", "id+jwt", "logout+jwt", "secevent+jwt", "at+jwt ", "text/at+jwt", "dpop+jwt"]
    )
    async def test_defaults_accept_at_jwt_alone(self, tmp_path: Path, typ: str | None) -> None:
        assert await rejection_code(verifier(tmp_path), token_of({}, typ)) == "not_an_access_token"

    @pytest.mark.parametrize("typ", [1, ["at+jwt"], {"at+jwt": 1}, True, None])
    async def test_type_that_is_no_text_is_refused(self, tmp_path: Path, typ: object) -> None:
        header = json.dumps({"alg": "RS256", "kid": "r1", "typ": typ})
        token = raw_token(raw_claims(f'"sub":"u","exp":{FAR}'), header)
        settings = {"token_types": "none,at+jwt", "access_token_claims": "sub"}
        assert await rejection_code(verifier(tmp_path, **settings), token) == "not_an_access_token"

    @pytest.mark.parametrize("kind", ["ID", "Refresh", "Offline", "Logout", "DPoP", "id", ["Bearer"], 1])
    async def test_claim_typ_of_another_kind_is_refused(self, tmp_path: Path, kind: object) -> None:
        for typ in ("at+jwt", "JWT"):
            token = token_of({**KEYCLOAK.access, "typ": kind}, typ)
            settings = KEYCLOAK.settings() | {"token_types": "at+jwt,JWT", "access_token_claims": "azp"}
            assert await rejection_code(verifier(tmp_path, **settings), token) == "not_an_access_token"

    async def test_token_for_its_own_client_is_refused(self, tmp_path: Path) -> None:
        settings = {"token_types": "JWT", "access_token_claims": "scope"}
        for name in ("azp", "client_id", "cid", "appid"):
            token = token_of({name: "viceversa", "scope": "openid"}, "JWT")
            assert await rejection_code(verifier(tmp_path, **settings), token) == "not_an_access_token"

    async def test_logout_token_is_refused(self, tmp_path: Path) -> None:
        events: dict[str, Any] = {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}
        assert await rejection_code(verifier(tmp_path), token_of(events)) == "not_an_access_token"

    @pytest.mark.parametrize("proof", [{"jkt": "x"}, {"x5t#S256": "x"}])
    async def test_token_that_is_bound_to_a_key_is_refused(self, tmp_path: Path, proof: dict[str, str]) -> None:
        """Taken as a bearer token, it would serve whoever has stolen it."""
        assert await rejection_code(verifier(tmp_path), token_of({"cnf": proof})) == "not_an_access_token"

    def test_other_types_need_a_telling_claim(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_TOKEN_TYPES", "at+jwt,JWT")
        with pytest.raises(Exception, match="VICEVERSA_ACCESS_TOKEN_CLAIMS"):
            load_settings()
        monkeypatch.setenv("VICEVERSA_ACCESS_TOKEN_CLAIMS", "typ=Bearer")
        assert load_settings().token_types == ("at+jwt", "jwt")


class TestStrictTokens:
    @pytest.mark.parametrize(
        "claims",
        [
            f'"sub":"u","sub":"v","exp":{FAR}',
            f'"sub":"u","exp":1,"exp":{FAR}',
            f'"sub":"u","exp":{FAR},"realm_access":{{"roles":[],"roles":["admin"]}}',
            '"sub":"u","exp":NaN',
            '"sub":"u","exp":Infinity',
            '"sub":"u","exp":1e999',
            '"sub":"u","exp":1' + "0" * 400,
            '"sub":"u","exp":1' + "0" * 5000,
            '"sub":"u","exp":true',
            f'"sub":"u","exp":"{FAR}"',
            f'"sub":"u","exp":[{FAR}]',
            f'"sub":"u","exp":{FAR},"nbf":-1e999',
            f'"sub":"u","exp":{FAR},"iat":NaN',
            f'"sub":"u","exp":{FAR},"other":NaN',
            f'"sub":"u","exp":{FAR},"deep":' + "[" * 9000,
            f'"sub":"u","exp":{FAR},"deep":' + "[" * 3000 + "]" * 3000,
            f'"sub":1,"exp":{FAR}',
            f'"sub":["u"],"exp":{FAR}',
            f'"sub":"\\ud800","exp":{FAR}',
            f'"sub":"a\\u001fb","exp":{FAR}',
            f'"sub":"a\\u0000","exp":{FAR}',
            f'"sub":"a\\u009b","exp":{FAR}',
            f'"sub":"a\\u202e","exp":{FAR}',
            f'"sub":"a\\nb","exp":{FAR}',
            f'"sub":"{"x" * 256}","exp":{FAR}',
            f'"sub":"u","exp":{FAR},"member_id":""',
            f'"sub":"u","exp":{FAR},"member_id":7',
            f'"sub":"u","exp":{FAR},"member_id":["m-1"]',
            f'"sub":"u","exp":{FAR},"member_id":"m\\u001f"',
            f'"sub":"u","exp":{FAR},"member_id":"\\udfff"',
            f'"sub":"u","exp":{FAR},"jti":7',
        ],
    )
    async def test_misleading_claims_are_refused(self, tmp_path: Path, claims: str) -> None:
        assert await rejection_code(verifier(tmp_path), raw_token(raw_claims(claims))) == "token_invalid"

    @pytest.mark.parametrize(
        "header",
        [
            '"crit":["b64"],"b64":true',
            '"crit":["exp"]',
            '"crit":[]',
            '"b64":false',
            '"b64":true',
            '"cty":"JWT"',
            '"cty":"jwt"',
            '"alg":"RS256"',
            '"kid":"r2"',
            '"x":NaN',
            '"x":' + "[" * 3000 + "]" * 3000,
        ],
    )
    async def test_misleading_headers_are_refused(self, tmp_path: Path, header: str) -> None:
        token = raw_token(raw_claims(f'"sub":"u","exp":{FAR}'), f'{{"alg":"RS256","typ":"at+jwt","kid":"r1",{header}}}')
        assert await rejection_code(verifier(tmp_path), token) == "token_invalid"

    @pytest.mark.parametrize("header", ['{"typ":"at+jwt","kid":"r1"}', '{"alg":7,"kid":"r1"}', "[]", "7", '"x"', "{"])
    async def test_header_without_algorithm_is_refused(self, tmp_path: Path, header: str) -> None:
        token = raw_token(raw_claims(f'"sub":"u","exp":{FAR}'), header)
        assert await rejection_code(verifier(tmp_path), token) == "token_invalid"

    async def test_claims_in_utf_16_are_refused(self, tmp_path: Path) -> None:
        claims = _encode(raw_claims(f'"sub":"u","exp":{FAR}').encode("utf-16"))
        header = _encode(b'{"alg":"RS256","typ":"at+jwt","kid":"r1"}')
        signature = RSA.sign(f"{header}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        token = f"{header}.{claims}.{_encode(signature)}"
        assert await rejection_code(verifier(tmp_path), token) == "token_invalid"

    async def test_other_writing_of_a_token_is_refused(self, tmp_path: Path) -> None:
        token = token_of({})
        head, claims, signature = token.split(".")
        for other in (f"{head}=.{claims}.{signature}", f"{head}.{claims}.{signature}\n", f" {token}", f"{token}.x"):
            assert await rejection_code(verifier(tmp_path), other) == "token_invalid"
        assert (await verifier(tmp_path).verify(token)).subject == "u-1"

    async def test_expired_token_has_its_own_code(self, tmp_path: Path) -> None:
        token = token_of({"exp": int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())})
        assert await rejection_code(verifier(tmp_path), token) == "token_expired"


class TestRoleNames:
    async def _roles(self, folder: Path, claims: Mapping[str, Any], **more: Any) -> set[str]:
        return set((await verifier(folder, **more).verify(token_of({"member_id": "m-1", **claims}))).roles)

    async def test_map_takes_names_and_group_paths(self, tmp_path: Path) -> None:
        role_map = "viceversa-admins=admin,/groups/hr=coordinator,ROLE_MEMBER=member"
        for names, roles in (
            (["viceversa-admins"], {"admin"}),
            (["/groups/hr", "ROLE_MEMBER"], {"coordinator", "member"}),
            ("viceversa-admins ROLE_MEMBER", {"admin", "member"}),
            (["/groups/hr/berlin", "/groups", "hr", "VICEVERSA-ADMINS"], set()),
            (["admin", "service", "coordinator"], set()),
        ):
            assert await self._roles(tmp_path, {"roles": names}, role_map=role_map) == roles

    async def test_json_map_takes_names_with_commas(self, tmp_path: Path) -> None:
        role_map = '{"CN=HR,OU=Groups": "coordinator", "All People": "member"}'
        assert await self._roles(tmp_path, {"roles": ["CN=HR,OU=Groups"]}, role_map=role_map) == {"coordinator"}
        assert await self._roles(tmp_path, {"roles": "All People"}, role_map=role_map) == {"member"}

    async def test_prefix_is_removed_and_required(self, tmp_path: Path) -> None:
        assert await self._roles(tmp_path, {"roles": ["ROLE_admin", "member", "ROLE_"]}, role_prefix="ROLE_") == {
            "admin"
        }

    async def test_map_and_prefix_go_together(self, tmp_path: Path) -> None:
        names = {"roles": ["ROLE_member", "hr", "admin"]}
        assert await self._roles(tmp_path, names, role_prefix="ROLE_", role_map="hr=coordinator") == {
            "member",
            "coordinator",
        }

    @pytest.mark.parametrize(
        "path",
        [
            r"resource_access.my\.client.roles",
            "/resource_access/my.client/roles",
            r"resource_access.my\.client.a\/b\.c\\d",
            r"/resource_access/my.client/a~1b.c\d",
        ],
    )
    async def test_path_takes_a_client_id_with_a_dot(self, tmp_path: Path, path: str) -> None:
        claims = {"resource_access": {"my.client": {"roles": ["admin"], "a/b.c\\d": ["admin"]}, "my": {}}}
        assert await self._roles(tmp_path, claims, roles_claim=path) == {"admin"}

    @pytest.mark.parametrize("value", ["a..b", ".a", "a.", "a.b\\", "/a//b", "/a/~2", "/"])
    def test_wrong_path_stops_the_start(self, value: str) -> None:
        with pytest.raises(ValueError, match="roles_claim"):
            Settings(roles_claim=value)

    @pytest.mark.parametrize("value", ["a", "a=boss", "=admin", "a=admin,a=member", "{", '{"a": 1}', "[]"])
    def test_wrong_map_stops_the_start(self, value: str) -> None:
        with pytest.raises(ValueError, match="role_map"):
            Settings(role_map=value)

    @pytest.mark.parametrize("value", ["HS256", "none", "RS256,none", "ES256K", ",", "rs256"])
    def test_weak_algorithm_stops_the_start(self, value: str) -> None:
        with pytest.raises(ValueError, match="token_algorithms"):
            Settings.model_validate({"token_algorithms": value})

    async def test_account_without_member_is_declared(self, tmp_path: Path) -> None:
        """By a claim or by a setting. A member id is stronger than both."""
        subjects = {"no_member_subjects": "u-0, u-1"}
        for claims, more, declared in (
            ({}, {}, False),
            ({"no_member": True}, {}, True),
            ({"no_member": "true"}, {}, True),
            ({"no_member": 1}, {}, False),
            ({"no_member": "yes"}, {}, False),
            ({"no_member": [True]}, {}, False),
            ({}, subjects, True),
            ({"sub": "u-2"}, subjects, False),
            ({"apart": {"is.robot": True}}, {"no_member_claim": "/apart/is.robot"}, True),
            ({"no_member": True, "member_id": "m-1"}, subjects, False),
        ):
            principal = await verifier(tmp_path, **more).verify(token_of(claims))
            assert principal.no_member == declared
            assert principal.is_known_person == (declared or "member_id" in claims)

    async def test_too_many_groups_are_an_error(self, tmp_path: Path) -> None:
        overage = {
            "_claim_names": {"groups": "src1"},
            "_claim_sources": {"src1": {"endpoint": "https://graph.example.com"}},
        }
        for claims in (overage, {"hasgroups": True}, {"hasgroups": "true"}):
            for role_map in ("", "hr=admin"):
                checked = verifier(tmp_path, roles_claim="groups", role_map=role_map)
                assert await rejection_code(checked, token_of(claims)) == "token_incomplete"
            assert await self._roles(tmp_path, {**claims, "roles": ["member"]}) == {"member"}
