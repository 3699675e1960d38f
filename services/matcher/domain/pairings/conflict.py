"""When the organisation changes under a pairing: rules that held when it was made, and no longer do.

Only what the organisation itself is made of counts: the line, managers, evaluators, organisations. It is a matter for
a person, or for time where the programme says so. The two are told nothing of it: one might learn of the other's new
manager before those who are concerned have said so.
"""

from datetime import date, datetime, timedelta
from typing import Literal

from contracts.base import FrozenModel
from contracts.envelope import Instant
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit.rules import Member, Rule, find_broken_rules

STRUCTURAL_RULES: frozenset[Rule] = frozenset(
    {"reporting_line", "same_manager", "evaluator", "other_organisation", "not_acknowledged"}
)
CONFLICT_GRACE = timedelta(days=1)
"""Business time until a conflict ends a pairing where the programme says so. Two who move on the same night arrive one
after the other, and what stands between the two records must end nothing."""

ConflictPolicy = Literal["flag", "end"]


class StructuralConflict(FrozenModel):
    """The rules that a pairing is in conflict with, since when (business time), and what is to come of it.

    ``ends_at``: when it ends the pairing by itself; None where a person is to decide, or has decided. ``kept``: whoever
    coordinates has decided that the two go on; another rule that is broken later asks anew.
    """

    rules: tuple[Rule, ...]
    since: Instant
    ends_at: Instant | None = None
    kept: bool = False


def find_structural_conflicts(
    senior: Member, junior: Member, settings: ProgrammeSettings, on: date
) -> tuple[Rule, ...]:
    """The rules about the organisation that these two break today."""
    return tuple(rule for rule in find_broken_rules(senior, junior, settings, on) if rule in STRUCTURAL_RULES)


def update_conflict(
    previous: StructuralConflict | None, rules: tuple[Rule, ...], course: ConflictPolicy, now: datetime
) -> StructuralConflict | None:
    """What stands once it is known which rules are broken now."""
    if not rules:
        return None
    is_known = previous is not None and set(rules) <= set(previous.rules)
    kept = previous is not None and is_known and previous.kept
    ends_at = None if kept or course == "flag" else (previous and previous.ends_at) or now + CONFLICT_GRACE
    return StructuralConflict(
        rules=rules, since=previous.since if previous and is_known else now, ends_at=ends_at, kept=kept
    )


def keep_pairing(conflict: StructuralConflict) -> StructuralConflict:
    """The two go on, by the decision of a person."""
    return conflict.model_copy(update={"kept": True, "ends_at": None})
