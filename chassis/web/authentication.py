"""Authentication: access tokens of an OIDC issuer, verified with the issuer's keys, and the caller whom they name.

``signing_keys`` decides which key and algorithm count, ``access_tokens`` what is an access token. A token is refused as
soon as something in it cannot be relied on. It never gives fewer rights in silence.
"""

import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import jwt

from chassis.core.settings import PREFIX, Settings
from chassis.core.token_settings import parse_claim_path, parse_role_map
from chassis.web.access_tokens import NotAnAccessToken, StrictJwt, check_access_token, find_claim, read_header
from chassis.web.signing_keys import SigningKey, SigningKeys
from contracts.text import FAULT_MESSAGES, find_fault, walk_leaves

log = logging.getLogger(__name__)

Role: TypeAlias = Literal["member", "coordinator", "admin", "service"]
ROLES: frozenset[Role] = frozenset(get_args(Role))

CLOCK_LEEWAY_S = 30.0  # by which the clocks of issuer and service may differ
MAX_TOKEN_CHARACTERS = 16 * 1024
MAX_SUBJECT_CHARACTERS = 255  # OpenID Connect Core, section 2
MAX_MEMBER_CHARACTERS = 128
INVISIBLE = "Cf"  # Unicode's category of characters that nobody sees, such as a joiner


@dataclass(frozen=True)
class Principal:
    """The authenticated caller. ``programmes``: the ids of the programmes that a coordinator looks after.

    The role ``member`` is present only with a ``member_id``, so a route for members may rely on it. ``no_member``: the
    operator declares that no member is behind this account.
    """

    subject: str
    member_id: str | None
    roles: frozenset[Role]
    programmes: frozenset[str]
    no_member: bool = False

    @property
    def is_known_person(self) -> bool:
        """Whether it is known which member is behind the account, or that none is.

        Otherwise nobody can tell whether the caller takes part in a pairing, or has one of the two in their line.
        """
        return self.member_id is not None or self.no_member


class Unauthenticated(Exception):
    """The token is missing or not valid. ``code`` gives the reason for programs, the message for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class TokenVerifier:
    """Verifies tokens and returns their principals."""

    def __init__(self, settings: Settings, keys: SigningKeys | None = None) -> None:
        self._settings = settings
        self._keys = keys or SigningKeys(settings)
        self._jwt = StrictJwt()

    async def verify(self, token: str) -> Principal:
        """The principal of a token. Raises ``Unauthenticated`` and ``KeysUnavailable``."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated("token_invalid", "The token is too long.")
        try:
            header = read_header(token)
        except (ValueError, RecursionError):
            raise Unauthenticated("token_invalid", "The token cannot be read.") from None
        key = await self._keys.find_key(header.get("kid"), header["alg"])
        if key is None:
            raise Unauthenticated("token_invalid", "The token is not signed by a key of the issuer.")
        claims = self._verify_claims(token, key)
        try:
            check_access_token(self._settings, header, claims)
        except NotAnAccessToken as error:
            log.warning("a token was rejected, since it is no access token: %s", error)
            raise Unauthenticated(
                "not_an_access_token", f"This is not an access token for this service: {error}."
            ) from None
        return principal_from_claims(self._settings, claims)

    def _verify_claims(self, token: str, key: SigningKey) -> Mapping[str, Any]:
        try:
            return self._jwt.decode(
                token,
                key=key.public_key,
                algorithms=sorted(key.algorithms),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=CLOCK_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("token_expired", "The token has expired.") from None
        except jwt.ImmatureSignatureError:
            raise Unauthenticated("token_not_yet_valid", "The token is not valid yet.") from None
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
            raise Unauthenticated(
                "token_for_others", "The token is from another issuer or for another service."
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.info("a token was rejected: %s", type(error).__name__)
            raise Unauthenticated("token_invalid", "The token is not valid.") from None


def principal_from_claims(settings: Settings, claims: Mapping[str, Any]) -> Principal:
    """The principal of verified claims. Names that mean no role are ignored.

    Raises ``Unauthenticated`` when a claim is wrong, or is not in the token although it exists.
    """
    _check_complete(settings, claims)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _is_id(subject, MAX_SUBJECT_CHARACTERS):
        raise Unauthenticated("token_invalid", "The token's subject is missing, too long, or not printable.")
    member_id = find_claim(claims, settings.member_claim)
    if member_id is not None and not (isinstance(member_id, str) and _is_id(member_id, MAX_MEMBER_CHARACTERS)):
        raise Unauthenticated("token_invalid", f"The claim of {PREFIX}MEMBER_CLAIM is not the id of a member.")
    _require_safe_names(claims, settings)
    roles = find_roles(settings, find_claim(claims, settings.roles_claim))
    return Principal(
        subject,
        member_id,
        roles if member_id is not None else roles - {"member"},
        _to_strings(find_claim(claims, settings.programmes_claim)),
        no_member=member_id is None and _is_declared(settings, subject, claims),
    )


def _is_declared(settings: Settings, subject: str, claims: Mapping[str, Any]) -> bool:
    """Whether the operator says that no member is behind the account. Providers may send the claim as a text."""
    declared = find_claim(claims, settings.no_member_claim)
    return declared is True or declared == "true" or subject in settings.no_member_subjects


def _check_complete(settings: Settings, claims: Mapping[str, Any]) -> None:
    """Refuse a token that leaves out a claim of ours: with many groups, Entra sends the address of a list instead."""
    elsewhere = claims.get("_claim_names")
    for name in (settings.member_claim, settings.roles_claim, settings.programmes_claim):
        first = name if name in claims else parse_claim_path(name)[0]
        is_elsewhere = isinstance(elsewhere, Mapping) and first in elsewhere
        if is_elsewhere or (first == "groups" and claims.get("hasgroups") in (True, "true")):
            log.warning("a token was rejected: its groups are too many, so it does not hold them")
            raise Unauthenticated(
                "token_incomplete",
                "The token does not hold all groups of this person. Let the provider send only the groups of this "
                "application, or application roles.",
            )


def find_roles(settings: Settings, claim: object) -> frozenset[Role]:
    """The roles that the claim gives, by ``VICEVERSA_ROLE_MAP`` and ``VICEVERSA_ROLE_PREFIX``."""
    names = _to_strings(claim) | ({claim} if isinstance(claim, str) else set())
    by_name = parse_role_map(settings.role_map)
    prefix = settings.role_prefix
    roles = {by_name[name] for name in names if name in by_name}
    if prefix or not by_name:
        roles |= {name.removeprefix(prefix) for name in names if name.startswith(prefix)} & ROLES
    return frozenset(cast("set[Role]", roles))


def _is_id(text: str, max_characters: int) -> bool:
    is_visible = not any(unicodedata.category(sign) == INVISIBLE for sign in text)
    return text != "" and find_fault(text, max_characters=max_characters) is None and is_visible


def _require_safe_names(claims: Mapping[str, Any], settings: Settings) -> None:
    """Refuse a token whose roles or programmes hold unsafe text (see ``contracts.text``)."""
    for name in (settings.roles_claim, settings.programmes_claim):
        for _, leaf, _ in walk_leaves(find_claim(claims, name)):
            if isinstance(leaf, str) and (fault := find_fault(leaf)) is not None:
                raise Unauthenticated("token_invalid", f"A claim of the token {FAULT_MESSAGES[fault]}.")


def _to_strings(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(value.split())
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()
