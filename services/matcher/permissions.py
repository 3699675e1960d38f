"""Applies the access policy of the domain to the caller of an endpoint.

Whatever tells of single pairings passes ``pairing_for`` or ``not_in_conflict``. Both refuse an account of which nobody
knows who is behind it.
"""

from chassis.storage.aggregates import Stored
from chassis.storage.projections import Projection
from chassis.web.http import Principal, forbidden, not_found, require_known_person
from contracts.errors import NotFound
from contracts.profiles import ProfileChanged
from services.matcher.context import Matcher
from services.matcher.domain.access_policy import (
    Action,
    Relation,
    has_conflict_of_interest,
    is_allowed,
    relation_to_pairing,
    relation_to_programme,
)
from services.matcher.domain.pairings.pairing import UNPUBLISHED_STATES, Pairing
from services.matcher.domain.programmes.programme import Programme
from services.matcher.stores.programmes import ProgrammeStore


def coordinates(principal: Principal, programme_id: str, programme: Programme | None) -> bool:
    """Whether the caller coordinates the programme, by their token or by its settings."""
    named = programme is not None and principal.member_id in programme.settings.coordinators
    return "coordinator" in principal.roles and (programme_id in principal.programmes or named)


async def programme_for(
    principal: Principal, programme_id: str, action: Action, programmes: ProgrammeStore
) -> Programme:
    """The programme, if the caller may do this with it. Raises a problem."""
    programme = (await programmes.load(programme_id)).state
    relation = relation_to_programme(principal.roles, coordinates=coordinates(principal, programme_id, programme))
    if not is_allowed(relation, action):
        raise forbidden("This is for the coordinators of the programme.")
    return programme


async def pairing_for(
    principal: Principal, pairing_id: str, action: Action, matcher: Matcher
) -> tuple[Stored[Pairing], Relation]:
    """The pairing and the caller's relation to it, if the caller may do this with it.

    Raises a problem: 404 for a caller who may not see the pairing, so that they do not learn that it exists; 403 for an
    undeclared account.
    """
    require_known_person(principal)
    stored = await matcher.pairings.get(pairing_id)
    if stored is None or stored.state.gone or stored.state.state in UNPUBLISHED_STATES:
        raise not_found("pairing")
    relation = await relation_to(principal, stored.state, matcher)
    if not is_allowed(relation, "see_pairing"):
        raise not_found("pairing")
    if not is_allowed(relation, action):
        coordinating = is_allowed("coordinator", action)
        raise forbidden(f"This is for {'coordinators' if coordinating else 'the two of the pairing'}.")
    return stored, relation


async def relation_to(principal: Principal, pairing: Pairing, matcher: Matcher) -> Relation:
    plan = pairing.plan
    both = {plan.senior.member_id, plan.junior.member_id}
    if principal.member_id in both:
        return "participant"
    programme = await matcher.programmes.get(plan.programme_id)
    is_coordinator = coordinates(principal, plan.programme_id, programme.state if programme else None)
    conflicted = (is_coordinator or "admin" in principal.roles) and await is_in_conflict(
        principal, both, matcher.members
    )
    return relation_to_pairing(
        principal.member_id, principal.roles, coordinates=is_coordinator, participants=both, conflicted=conflicted
    )


async def is_in_conflict(principal: Principal, members: set[str], stored_profiles: Projection[ProfileChanged]) -> bool:
    """Whether one of ``members`` is in the caller's line."""
    if principal.member_id is None:
        return False
    profiles = await stored_profiles.get_many([*members, principal.member_id])
    others = [profile for id, profile in profiles.items() if id in members]
    return has_conflict_of_interest(principal.member_id, profiles.get(principal.member_id), others)


async def not_in_conflict(
    principal: Principal, pairs: list[set[str]], stored_profiles: Projection[ProfileChanged]
) -> list[bool]:
    """For each pair of members, whether the caller is in no conflict with both. Raises a problem: see above."""
    require_known_person(principal)
    if principal.member_id is None:
        return [True for _ in pairs]
    me = principal.member_id
    profiles = await stored_profiles.get_many(sorted({me}.union(*pairs)))
    own = profiles.get(me)
    return [
        me not in pair and not has_conflict_of_interest(me, own, [profiles[id] for id in pair if id in profiles])
        for pair in pairs
    ]


def require_member(principal: Principal) -> str:
    """The caller's member id. Raises ``NotFound`` for a caller who is no member."""
    if principal.member_id is None:
        raise NotFound("member")
    return principal.member_id
