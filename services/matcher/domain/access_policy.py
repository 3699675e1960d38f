"""Who may do what with a pairing and a programme: one table, read cell by cell in its test.

A *conflicted* coordinator coordinates the programme but takes part in the pairing, or has a participant in their own
line. A participant of a pairing is a participant, whatever else they are.
"""

from collections.abc import Collection
from typing import Literal

from contracts.profiles import ProfileChanged

Relation = Literal["participant", "coordinator", "conflicted", "admin", "service", "stranger"]
Action = Literal[
    "see_pairing",
    "see_own_answer",
    "answer",
    "charter",
    "pause",
    "resume",
    "renew",
    "end",
    "decide_conflict",
    "see_programme",
    "manage_programme",
    "run_rounds",
    "see_ledger",
]

ALLOWED_RELATIONS: dict[Action, frozenset[Relation]] = {
    "see_pairing": frozenset({"participant", "coordinator", "admin"}),
    "see_own_answer": frozenset({"participant"}),
    "answer": frozenset({"participant"}),
    "charter": frozenset({"participant"}),
    "pause": frozenset({"participant", "coordinator", "admin"}),
    "resume": frozenset({"participant", "coordinator", "admin"}),
    "renew": frozenset({"participant"}),
    "end": frozenset({"participant", "coordinator", "admin"}),
    "decide_conflict": frozenset({"coordinator", "admin"}),
    "see_programme": frozenset({"participant", "coordinator", "conflicted", "admin", "service", "stranger"}),
    "manage_programme": frozenset({"coordinator", "admin"}),
    "run_rounds": frozenset({"coordinator", "admin"}),
    "see_ledger": frozenset({"participant", "admin"}),
}


def is_allowed(relation: Relation, action: Action) -> bool:
    """Whether who stands in this relation may do this; everything else is denied."""
    return relation in ALLOWED_RELATIONS[action]


def relation_to_pairing(
    member_id: str | None,
    roles: Collection[str],
    *,
    coordinates: bool,
    participants: Collection[str],
    conflicted: bool,
) -> Relation:
    """How somebody stands to a pairing; ``coordinates``: its programme is one of theirs."""
    if member_id is not None and member_id in participants:
        return "participant"
    if "coordinator" in roles and coordinates:
        return "conflicted" if conflicted else "coordinator"
    return "admin" if "admin" in roles and not conflicted else "stranger"


def relation_to_programme(roles: Collection[str], *, coordinates: bool) -> Relation:
    """How somebody stands to a programme."""
    if "coordinator" in roles and coordinates:
        return "coordinator"
    if "admin" in roles:
        return "admin"
    return "service" if "service" in roles else "stranger"


def has_conflict_of_interest(
    member_id: str | None, own: ProfileChanged | None, others: Collection[ProfileChanged]
) -> bool:
    """Whether one of ``others`` is in the line of ``member_id``, above or below, or is them."""
    if member_id is None:
        return False
    own_line = {member_id, *(own.line if own else ()), *(own.evaluators if own else ())}
    return any(
        other.member_id in own_line or member_id in other.line or member_id in other.evaluators for other in others
    )
