"""The rights on the follow-up of a pairing, by role, in one table.

Only the person who answered may see an answer. A *conflicted* coordinator or admin takes part in the pairing, or has
one of the two in their own line.
"""

from collections.abc import Collection
from typing import Literal

from services.feedback.domain.colleague import Colleague

Relation = Literal["participant", "coordinator", "conflicted", "admin", "stranger"]
Action = Literal["see_facts", "meet", "answer", "see_own_answers", "ask_for_another_partner", "record_idea"]

ALLOWED: dict[Action, frozenset[Relation]] = {
    "see_facts": frozenset({"participant", "coordinator", "admin"}),
    "meet": frozenset({"participant"}),
    "answer": frozenset({"participant"}),
    "see_own_answers": frozenset({"participant"}),
    "ask_for_another_partner": frozenset({"participant"}),
    "record_idea": frozenset({"participant"}),
}


def is_allowed(relation: Relation, action: Action) -> bool:
    """Whether somebody in this relation may do this. Everything that the table does not name is denied."""
    return relation in ALLOWED[action]


def relation_to_pairing(
    member_id: str | None,
    roles: Collection[str],
    *,
    coordinates: bool,
    participants: Collection[str],
    conflicted: bool,
) -> Relation:
    """The relation of a person to a pairing. ``coordinates``: they coordinate its programme."""
    if member_id is not None and member_id in participants:
        return "participant"
    if "coordinator" in roles and coordinates:
        return "conflicted" if conflicted else "coordinator"
    return "admin" if "admin" in roles and not conflicted else "stranger"


def has_conflict(member_id: str | None, profile: Colleague | None, others: Collection[Colleague]) -> bool:
    """Whether one of ``others`` is the member, or is in the member's line, above or below."""
    if member_id is None:
        return False
    own_line = {member_id, *(profile.line if profile else ()), *(profile.evaluators if profile else ())}
    return any(
        other.member_id in own_line or member_id in other.line or member_id in other.evaluators for other in others
    )
