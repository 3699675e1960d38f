"""The access policy for pairings and programmes: one table, which a test reads cell by cell.

A *conflicted* coordinator coordinates the programme, but takes part in the pairing or has a participant in their own
line. A participant of a pairing counts as participant, whatever other roles they have.
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
    """Whether somebody in this relation may do this. Everything that the table does not allow is denied."""
    return relation in ALLOWED_RELATIONS[action]


def relation_to_pairing(
    member_id: str | None,
    roles: Collection[str],
    *,
    coordinates: bool,
    participants: Collection[str],
    conflicted: bool,
) -> Relation:
    """The relation of a caller to a pairing. ``coordinates``: the caller coordinates its programme."""
    if member_id is not None and member_id in participants:
        return "participant"
    if "coordinator" in roles and coordinates:
        return "conflicted" if conflicted else "coordinator"
    return "admin" if "admin" in roles and not conflicted else "stranger"


def relation_to_programme(roles: Collection[str], *, coordinates: bool) -> Relation:
    """The relation of a caller to a programme."""
    if "coordinator" in roles and coordinates:
        return "coordinator"
    if "admin" in roles:
        return "admin"
    return "service" if "service" in roles else "stranger"


def has_conflict_of_interest(
    member_id: str | None, own: ProfileChanged | None, others: Collection[ProfileChanged]
) -> bool:
    """Whether one of ``others`` is the member, or stands above or below them in the line or as evaluator."""
    if member_id is None:
        return False
    own_line = {member_id, *(own.line if own else ()), *(own.evaluators if own else ())}
    return any(
        other.member_id in own_line or member_id in other.line or member_id in other.evaluators for other in others
    )
