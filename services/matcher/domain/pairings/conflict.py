"""Structural conflicts: the organisation changes, and a pairing breaks rules that held when it was formed.

Only the structure of the organisation counts: line, managers, evaluators, organisations. A person decides, or the
conflict ends the pairing after a delay if the programme says so. The two are not notified, since one could learn of the
other's new manager before it is announced.
"""

from datetime import date, datetime, timedelta
from typing import Literal

from contracts.base import FrozenModel
from contracts.envelope import Instant
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit.hard_rules import Member, Rule, find_broken_rules

STRUCTURAL_RULES: frozenset[Rule] = frozenset(
    {"reporting_line", "same_manager", "evaluator", "other_organisation", "not_acknowledged"}
)
CONFLICT_GRACE = timedelta(days=1)
"""Business time until a conflict ends a pairing, if the programme says so. When two people move on the same night, the
records arrive one after the other; the state between them must end nothing."""

ConflictPolicy = Literal["flag", "end"]


class StructuralConflict(FrozenModel):
    """The broken rules, since when (business time), and the consequence.

    ``ends_at``: when the conflict ends the pairing by itself; None if a person decides or has decided. ``kept``: a
    coordinator decided that the two continue; a further broken rule raises the question again.
    """

    rules: tuple[Rule, ...]
    since: Instant
    ends_at: Instant | None = None
    kept: bool = False


def find_structural_conflicts(
    senior: Member, junior: Member, settings: ProgrammeSettings, on: date
) -> tuple[Rule, ...]:
    """The structural rules that the two break today."""
    return tuple(rule for rule in find_broken_rules(senior, junior, settings, on) if rule in STRUCTURAL_RULES)


def update_conflict(
    previous: StructuralConflict | None, rules: tuple[Rule, ...], course: ConflictPolicy, now: datetime
) -> StructuralConflict | None:
    """The conflict that follows from the rules broken now; None if no rule is broken."""
    if not rules:
        return None
    is_known = previous is not None and set(rules) <= set(previous.rules)
    is_kept = previous is not None and is_known and previous.kept
    ends_at = None if is_kept or course == "flag" else (previous and previous.ends_at) or now + CONFLICT_GRACE
    return StructuralConflict(
        rules=rules, since=previous.since if previous and is_known else now, ends_at=ends_at, kept=is_kept
    )


def keep_pairing(conflict: StructuralConflict) -> StructuralConflict:
    """The conflict after a person decided that the two continue."""
    return conflict.model_copy(update={"kept": True, "ends_at": None})
