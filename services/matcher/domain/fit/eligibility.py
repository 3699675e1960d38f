"""Whether two people may be paired in a programme today: the one assessment behind every proposal and request.

A caller decides what to tell about it. Private wishes play no part in it (see ``private_wish``).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from contracts.profiles import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.hard_rules import (
    AbsenceReason,
    Member,
    Rule,
    find_broken_rules,
    find_enrolled_member,
    find_member_absence_reason,
)
from services.matcher.domain.fit.score import Fit, Shortfall, compute_fit


@dataclass(frozen=True)
class MatchingTerms:
    """The terms by which pairs of one programme are assessed on one day."""

    programme_id: str
    settings: ProgrammeSettings
    taxonomy: Taxonomy
    on: date


@dataclass(frozen=True)
class EligiblePair:
    """Two people who may be paired, and their fit."""

    senior: Member
    junior: Member
    fit: Fit


@dataclass(frozen=True)
class Candidate:
    """One person of a pair, on the side they would take.

    ``member`` is None when the person is unknown or not enrolled. ``absence`` is None when the person can be proposed
    today. ``takes_side``: the enrolment is for this side, or for either.
    """

    side: Side
    member: Member | None
    absence: AbsenceReason | None
    takes_side: bool


@dataclass(frozen=True)
class Eligibility:
    """The result of an assessment. Rules and fit are assessed only when both people are present.

    ``fit`` is None, and ``shortfalls`` is empty, when one of the two is absent.
    """

    senior: Candidate
    junior: Candidate
    broken_rules: tuple[Rule, ...] = ()
    fit: Fit | None = None
    shortfalls: tuple[Shortfall, ...] = ()

    @property
    def members(self) -> tuple[Member, Member] | None:
        """Senior and junior, if both can be proposed today."""
        if self.senior.member is None or self.junior.member is None or self.absence is not None:
            return None
        return self.senior.member, self.junior.member

    @property
    def absence(self) -> AbsenceReason | None:
        """Why one of the two cannot be proposed today; that of the senior first."""
        return self.senior.absence or self.junior.absence

    def find_pair(self) -> EligiblePair | None:
        """The pair, if both are present on their sides, no rule forbids it and the fit clears the floors."""
        if self.members is None or self.fit is None or not (self.senior.takes_side and self.junior.takes_side):
            return None
        return None if self.broken_rules or self.shortfalls else EligiblePair(*self.members, self.fit)


def assess(
    senior: ProfileChanged | None, junior: ProfileChanged | None, terms: MatchingTerms, earlier: Collection[str] = ()
) -> Eligibility:
    """Assess a pair by the profiles of today; a missing profile counts as not enrolled.

    ``earlier``: everybody whom the senior was proposed to before.
    """
    senior_candidate, junior_candidate = (
        _assess_person(senior, "senior", terms),
        _assess_person(junior, "junior", terms),
    )
    if (
        senior_candidate.member is None
        or junior_candidate.member is None
        or senior_candidate.absence
        or junior_candidate.absence
    ):
        return Eligibility(senior_candidate, junior_candidate)
    return assess_present(senior_candidate.member, junior_candidate.member, terms, earlier)


def assess_present(senior: Member, junior: Member, terms: MatchingTerms, earlier: Collection[str] = ()) -> Eligibility:
    """Assess two members of whom the caller knows that they can be proposed today."""
    fit = compute_fit(senior, junior, terms.settings, terms.taxonomy, terms.on)
    return Eligibility(
        senior=Candidate("senior", senior, None, _takes_side(senior, "senior")),
        junior=Candidate("junior", junior, None, _takes_side(junior, "junior")),
        broken_rules=find_broken_rules(senior, junior, terms.settings, terms.on, earlier),
        fit=fit,
        shortfalls=fit.find_shortfalls(terms.settings),
    )


def assess_either_way(
    first: ProfileChanged, second: ProfileChanged, terms: MatchingTerms, earlier: Collection[tuple[str, str]]
) -> EligiblePair | None:
    """The better of both assignments of sides; None if neither is eligible.

    ``earlier``: pairs that were ever proposed.
    """
    eligible = (
        assess(senior, junior, terms, list_earlier_partners(earlier, senior.member_id)).find_pair()
        for senior, junior in ((first, second), (second, first))
    )
    return max((pair for pair in eligible if pair is not None), key=lambda pair: pair.fit.score, default=None)


def list_earlier_partners(pairs: Collection[tuple[str, str]], member_id: str) -> list[str]:
    """The other member of every pair that contains this member."""
    return [id for pair in pairs if member_id in pair for id in pair if id != member_id]


def _assess_person(profile: ProfileChanged | None, side: Side, terms: MatchingTerms) -> Candidate:
    member = find_enrolled_member(profile, terms.programme_id) if profile is not None else None
    return Candidate(
        side=side,
        member=member,
        absence=find_member_absence_reason(member, terms.settings, terms.on),
        takes_side=member is not None and _takes_side(member, side),
    )


def _takes_side(member: Member, side: Side) -> bool:
    return member.enrolment.side in (side, "either")
