"""The shapes of the tokens that well-known identity providers issue, as their documents and servers show them.

The settings for each are in docs/architecture/tokens.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chassis.core.settings import PREFIX

PAGE = Path("docs/architecture/tokens.md")
TENANT, API, PORTAL = (f"{digit * 8}-{digit * 4}-{digit * 4}-{digit * 4}-{digit * 12}" for digit in "123")
ADFS_CLIENT = "55555555-5555-5555-5555-555555555555"


@dataclass(frozen=True)
class Provider:
    """``heading``: of its section in the document. ``typ``: in the header of both tokens; None for no type.

    ``access`` and ``identity`` are the claims of both tokens, without times.
    """

    heading: str
    typ: str | None
    access: Mapping[str, Any]
    identity: Mapping[str, Any]
    identity_typ: str | None = "JWT"

    def settings(self) -> dict[str, str]:
        """The environment variables that the document names for this provider."""
        section = PAGE.read_text(encoding="utf-8").partition(f"### {self.heading}\n")[2].partition("\n###")[0]
        lines = section.partition("```\n")[2].partition("```")[0].splitlines()
        pairs = [line.partition("=") for line in lines]
        assert pairs, f"{PAGE} has no settings for {self.heading}"
        return {name.removeprefix(PREFIX).lower(): value for name, _, value in pairs}

    def __str__(self) -> str:
        return self.heading


KEYCLOAK = Provider(
    "Keycloak",
    "JWT",
    {
        "jti": "onrtac:6e1c", "iss": "https://id.example.com/realms/company", "aud": ["viceversa", "account"],
        "sub": "8f5c", "typ": "Bearer", "azp": "portal", "sid": "d41d", "acr": "1", "auth_time": 1790000000,
        "allowed-origins": ["https://portal.example.com"], "realm_access": {"roles": ["offline_access", "admin"]},
        "resource_access": {
            "viceversa.api": {"roles": ["viceversa-coordinator", "viceversa-member"]},
            "account": {"roles": ["manage-account"]},
        },
        "scope": "openid profile", "member_id": "m-1", "programmes": ["p-1"],
    },
    {
        "jti": "6e1c", "iss": "https://id.example.com/realms/company", "aud": "portal", "sub": "8f5c", "typ": "ID",
        "azp": "portal", "sid": "d41d", "acr": "1", "auth_time": 1790000000, "at_hash": "x", "nonce": "n",
        "member_id": "m-1",
        "resource_access": {"viceversa.api": {"roles": ["viceversa-coordinator", "viceversa-member"]}},
    },
)  # fmt: skip
ENTRA = Provider(
    "Microsoft Entra ID",
    "JWT",
    {
        "aud": API, "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0", "aio": "AWQ", "azp": PORTAL,
        "azpacr": "1", "name": "A Person", "oid": "0e1f", "preferred_username": "a@example.com", "rh": "0.AX",
        "roles": ["Viceversa.coordinator", "Viceversa.member", "admin"], "scp": "access_as_user", "sub": "jP-x",
        "tid": TENANT, "uti": "u", "ver": "2.0", "extn.viceversa_member": "m-1", "programmes": "p-1",
    },
    {
        "aud": PORTAL, "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0", "aio": "AWQ", "name": "A Person",
        "nonce": "n", "oid": "0e1f", "preferred_username": "a@example.com", "rh": "0.AX", "sub": "jP-x", "tid": TENANT,
        "uti": "u", "ver": "2.0", "roles": ["Viceversa.coordinator", "Viceversa.member"],
        "extn.viceversa_member": "m-1",
    },
)  # fmt: skip
OKTA = Provider(
    "Okta",
    None,
    {
        "ver": 1, "jti": "AT.x", "iss": "https://company.okta.com/oauth2/default", "aud": "api://viceversa",
        "cid": "0oaPORTAL", "uid": "00u1", "scp": ["openid", "viceversa"], "auth_time": 1790000000,
        "sub": "a@example.com", "groups": ["Viceversa Coordinators", "Everyone", "admin"], "member_id": "m-1",
        "programmes": ["p-1"],
    },
    {
        "ver": 1, "jti": "ID.x", "iss": "https://company.okta.com/oauth2/default", "aud": "0oaPORTAL", "sub": "00u1",
        "idp": "00o1", "amr": ["pwd"], "auth_time": 1790000000, "at_hash": "x", "nonce": "n", "name": "A Person",
        "groups": ["Viceversa Coordinators", "Everyone"], "member_id": "m-1",
    },
    identity_typ=None,
)  # fmt: skip
_AUTH0 = {
    "iss": "https://company.eu.auth0.com/", "sub": "auth0|1",
    "aud": ["https://viceversa.example.com", "https://company.eu.auth0.com/userinfo"], "scope": "openid",
    "https://viceversa.example.com/roles": ["coordinator", "member"], "https://viceversa.example.com/member": "m-1",
    "programmes": ["p-1"],
}  # fmt: skip
_AUTH0_ID = {
    "iss": "https://company.eu.auth0.com/", "sub": "auth0|1", "aud": "PORTALCLIENT", "nickname": "a", "sid": "s",
    "nonce": "n", "https://viceversa.example.com/roles": ["coordinator", "member"],
    "https://viceversa.example.com/member": "m-1",
}  # fmt: skip
AUTH0 = Provider("Auth0", "at+jwt", _AUTH0 | {"client_id": "PORTALCLIENT", "jti": "j"}, _AUTH0_ID)
AUTH0_OWN = Provider("Auth0 with its own profile", "JWT", _AUTH0 | {"azp": "PORTALCLIENT"}, _AUTH0_ID)
ADFS = Provider(
    "AD FS",
    "JWT",
    {
        "aud": "urn:viceversa", "iss": "http://adfs.example.com/adfs/services/trust", "apptype": "Confidential",
        "appid": ADFS_CLIENT, "authmethod": "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport",
        "auth_time": "2026-12-01T08:00:00.000Z", "ver": "1.0", "scp": "openid", "sub": "uZx", "member_id": "m-1",
        "role": ["Viceversa Members", "admin"],
    },
    {
        "aud": ADFS_CLIENT, "iss": "https://adfs.example.com/adfs", "auth_time": 1790000000, "sub": "uZx",
        "upn": "a@example.com", "unique_name": "EXAMPLE\\a", "sid": "S-1-5", "nonce": "n", "member_id": "m-1",
        "role": ["Viceversa Members"],
    },
)  # fmt: skip
PROVIDERS = (KEYCLOAK, ENTRA, OKTA, AUTH0, AUTH0_OWN, ADFS)
