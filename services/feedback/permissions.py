"""Applies the table of ``domain.access_policy`` to the caller of an endpoint.

Whatever tells of single pairings passes ``followup_for`` or ``exclude_conflicts``: they refuse an account of which
nobody knows who is behind it.
"""

from collections.abc import Sequence

from chassis.storage.aggregates import Stored
from chassis.web.http import Principal, forbidden, not_found, require_known_person
from contracts.profiles import Side
from contracts.programmes import ProgrammeChanged
from services.feedback.domain.access_policy import Action, Relation, has_conflict, is_allowed, relation_to_pairing
from services.feedback.domain.calls import contact_of_call
from services.feedback.domain.followup import SIDES, PairingFollowup
from services.feedback.store import Feedback

FOR_THE_CONTACT = "Only the confidential contact can see this."


def is_coordinator_of(principal: Principal, programme_id: str, programme: ProgrammeChanged | None) -> bool:
    """Whether the caller coordinates the programme, by their token or by its settings."""
    is_named = programme is not None and principal.member_id in programme.settings.coordinators
    return "coordinator" in principal.roles and (programme_id in principal.programmes or is_named)


async def programme_for(principal: Principal, programme_id: str, feedback: Feedback) -> ProgrammeChanged:
    """The programme, for its coordinators and for admins. Raises a problem for anybody else."""
    programme = await feedback.programmes.get(programme_id)
    if "admin" not in principal.roles and not is_coordinator_of(principal, programme_id, programme):
        raise forbidden("Only the coordinators of the programme can see this.")
    if programme is None:
        raise not_found("programme")
    return programme


async def calls_for(
    principal: Principal, programme_id: str, feedback: Feedback
) -> tuple[ProgrammeChanged, list[PairingFollowup]]:
    """The programme, and the follow-ups with calls to the caller in which the caller has no conflict.

    For the confidential contact whom the programme names, and for one whom it named when an open call was made. Raises
    a problem for anybody else, and for whoever runs programmes.
    """
    require_known_person(principal)
    programme = await feedback.programmes.get(programme_id)
    if programme is None:
        raise forbidden(FOR_THE_CONTACT)
    if principal.roles & {"coordinator", "admin"} or principal.member_id in programme.settings.coordinators:
        raise forbidden("A person who runs a programme cannot be its confidential contact.")
    followups = await calls_to(principal, programme, feedback)
    if principal.subject != programme.settings.confidential_contact and not followups:
        raise forbidden(FOR_THE_CONTACT)
    return programme, followups


async def calls_to(principal: Principal, programme: ProgrammeChanged, feedback: Feedback) -> list[PairingFollowup]:
    """The follow-ups with calls that belong to the caller, and in which the caller has no conflict."""
    named = programme.settings.confidential_contact
    followups = [
        stored.state
        async for stored in feedback.followups_with_calls(programme.programme_id)
        if any(contact_of_call(stored.state, side, named) == principal.subject for side in SIDES)
    ]
    return await exclude_conflicts(principal, followups, feedback)


async def followup_for(
    principal: Principal, pairing_id: str, action: Action, feedback: Feedback
) -> tuple[Stored[PairingFollowup], Side | None]:
    """The follow-up and the caller's side, if the caller may do this.

    Raises ``not_found`` for callers who may not know that the pairing exists, and otherwise ``forbidden``.
    """
    require_known_person(principal)
    stored = await feedback.followups.get(pairing_id)
    if stored is None or stored.state.gone:
        raise not_found("pairing")
    relation = await _relation_to(principal, stored.state, feedback)
    if not is_allowed(relation, "see_facts"):
        raise not_found("pairing")
    if not is_allowed(relation, action):
        raise forbidden("Only the two people in this pairing can do this.")
    return stored, stored.state.side_of(principal.member_id)


async def exclude_conflicts(
    principal: Principal, followups: Sequence[PairingFollowup], feedback: Feedback
) -> list[PairingFollowup]:
    """The follow-ups in which neither the caller nor anybody in the caller's line takes part. Raises a problem."""
    allowed = await not_in_conflict(principal, [set(followup.members.values()) for followup in followups], feedback)
    return [followup for followup, is_allowed in zip(followups, allowed, strict=True) if is_allowed]


async def not_in_conflict(principal: Principal, pairs: Sequence[set[str]], feedback: Feedback) -> list[bool]:
    """For each pair of members, whether the caller is in no conflict with both. Raises a problem."""
    require_known_person(principal)
    me = principal.member_id
    if me is None:
        return [True for _ in pairs]
    profiles = await feedback.members.get_many(sorted({me}.union(*pairs)))
    own = profiles.get(me)
    return [
        me not in pair and not has_conflict(me, own, [profiles[member] for member in pair if member in profiles])
        for pair in pairs
    ]


async def _relation_to(principal: Principal, followup: PairingFollowup, feedback: Feedback) -> Relation:
    programme = await feedback.programmes.get(followup.programme_id)
    is_conflicted = not await exclude_conflicts(principal, [followup], feedback)
    return relation_to_pairing(
        principal.member_id,
        principal.roles,
        coordinates=is_coordinator_of(principal, followup.programme_id, programme),
        participants=list(followup.members.values()),
        conflicted=is_conflicted,
    )
