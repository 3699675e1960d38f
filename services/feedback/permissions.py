"""Applies the table of ``domain.access`` to whoever asks."""

from chassis.storage.aggregates import Stored
from chassis.web.http import Principal, forbidden, not_found
from contracts.profiles import Side
from contracts.programmes import ProgrammeChanged
from services.feedback.domain.access_policy import Action, Relation, has_conflict, is_allowed, relation_to_pairing
from services.feedback.domain.followup import PairingFollowup
from services.feedback.store import Feedback


def is_coordinator_of(principal: Principal, programme_id: str, programme: ProgrammeChanged | None) -> bool:
    """Whether the programme is one of theirs, by their token or by its settings."""
    named = programme is not None and principal.member_id in programme.settings.coordinators
    return "coordinator" in principal.roles and (programme_id in principal.programmes or named)


async def programme_for(principal: Principal, programme_id: str, feedback: Feedback) -> ProgrammeChanged:
    """The programme, for its coordinators and for admins. Raises a problem."""
    programme = await feedback.programmes.get(programme_id)
    if "admin" not in principal.roles and not is_coordinator_of(principal, programme_id, programme):
        raise forbidden("This is for the coordinators of the programme.")
    if programme is None:
        raise not_found("programme")
    return programme


async def programme_of_contact(principal: Principal, programme_id: str, feedback: Feedback) -> ProgrammeChanged:
    """The programme, for whoever signs in as its confidential contact, and nobody who runs it. Raises a problem."""
    programme = await feedback.programmes.get(programme_id)
    if programme is None or principal.subject != programme.settings.confidential_contact:
        raise forbidden("This is for the confidential contact alone.")
    if principal.roles & {"coordinator", "admin"} or principal.member_id in programme.settings.coordinators:
        raise forbidden("Who runs a programme cannot be its confidential contact.")
    return programme


async def followup_for(
    principal: Principal, pairing_id: str, action: Action, feedback: Feedback
) -> tuple[Stored[PairingFollowup], Side | None]:
    """The course and the side of whoever asks, if they may do this; others do not learn that it exists."""
    stored = await feedback.followups.get(pairing_id)
    if stored is None or stored.state.gone:
        raise not_found("pairing")
    relation = await _relation_to(principal, stored.state, feedback)
    if not is_allowed(relation, "see_facts"):
        raise not_found("pairing")
    if not is_allowed(relation, action):
        raise forbidden("This is for the two of the pairing.")
    return stored, stored.state.side_of(principal.member_id)


async def exclude_conflicts(
    principal: Principal, courses: list[PairingFollowup], feedback: Feedback
) -> list[PairingFollowup]:
    """Those in which neither whoever asks nor their line takes part."""
    if principal.member_id is None:
        return courses
    people = {member for course in courses for member in course.members.values()}
    profiles = await feedback.members.get_many(sorted({principal.member_id, *people}))
    own = profiles.get(principal.member_id)
    return [
        course
        for course in courses
        if principal.member_id not in course.members.values()
        and not has_conflict(
            principal.member_id, own, [profiles[one] for one in course.members.values() if one in profiles]
        )
    ]


async def _relation_to(principal: Principal, course: PairingFollowup, feedback: Feedback) -> Relation:
    programme = await feedback.programmes.get(course.programme_id)
    members = list(course.members.values())
    conflicted = not await exclude_conflicts(principal, [course], feedback)
    return relation_to_pairing(
        principal.member_id,
        principal.roles,
        coordinates=is_coordinator_of(principal, course.programme_id, programme),
        participants=members,
        conflicted=conflicted,
    )
