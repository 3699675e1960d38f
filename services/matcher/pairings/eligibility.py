"""Whether members can be paired: they take part, they are present, and rules and fit allow the pair."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from contracts.profiles import ProfileChanged
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit import rules
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.fit.score import Fit, compute_fit


@dataclass(frozen=True)
class Couple:
    """Two members with the sides that they would have, and how they fit."""

    senior: Member
    junior: Member
    fit: Fit


def present_member(
    profile: ProfileChanged | None, programme_id: str, settings: ProgrammeSettings, on: date
) -> Member | None:
    """The member as they take part in the programme; None where they are not enrolled, or absent on that day."""
    member = rules.find_enrolled_member(profile, programme_id) if profile is not None else None
    if member is None or rules.find_absence_reason(member.profile, programme_id, settings, on) is not None:
        return None
    return member


def assess(
    senior: Member,
    junior: Member,
    settings: ProgrammeSettings,
    taxonomy: Taxonomy,
    on: date,
    earlier: Collection[str] = (),
) -> Couple | None:
    """The two on these sides; None where a rule, also a private one, or a floor forbids the pair.

    ``earlier``: everybody to whom the senior was ever proposed.
    """
    if senior.enrolment.side == "junior" or junior.enrolment.side == "senior":
        return None
    if rules.find_broken_rules(senior, junior, settings, on, earlier):
        return None
    pair_fit = compute_fit(senior, junior, settings, taxonomy, on)
    return None if pair_fit.find_shortfalls(settings) else Couple(senior, junior, pair_fit)


def assess_either_way(
    one: Member,
    other: Member,
    settings: ProgrammeSettings,
    taxonomy: Taxonomy,
    on: date,
    earlier: set[tuple[str, str]],
) -> Couple | None:
    """The better of both assignments of sides; None if neither is allowed. Private rules do not count here.

    ``earlier``: pairs that were ever proposed.
    """
    couples: list[Couple] = []
    for senior, junior in ((one, other), (other, one)):
        if senior.enrolment.side == "junior" or junior.enrolment.side == "senior":
            continue
        pair_fit = compute_fit(senior, junior, settings, taxonomy, on)
        broken = rules.find_broken_rules(senior, junior, settings, on, earlier_partners(earlier, senior.id))
        if not rules.drop_private_rules(broken) and not pair_fit.find_shortfalls(settings):
            couples.append(Couple(senior, junior, pair_fit))
    return max(couples, key=lambda couple: couple.fit.score, default=None)


def earlier_partners(pairs: set[tuple[str, str]], member_id: str) -> list[str]:
    """The other member of every pair that contains this member."""
    return [id for pair in pairs if member_id in pair for id in pair if id != member_id]
