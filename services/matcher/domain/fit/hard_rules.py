"""Conditions for taking part, and hard rules for pairs. Missing data excludes nobody.

Every rule has a stable code. A person's private wishes (``avoid``) are no rule: a rule shows in lists, counts, refusals
and times, and a wish must not. What a wish does stands in ``domain.fit.private_wish``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from contracts.language_codes import get_language
from contracts.profiles import Enrolment, ProfileChanged
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit.calendar import count_shared_minutes, get_free_time

Rule = Literal[
    "same_person",
    "level_gap",
    "level_gap_too_great",
    "reporting_line",
    "same_manager",
    "evaluator",
    "earlier_partner",
    "other_organisation",
    "not_acknowledged",
    "no_common_language",
    "no_common_time",
]

AbsenceReason = Literal[
    "not_enrolled",
    "not_ready",
    "organisation_not_included",
    "leaving",
    "on_leave",
    "away",
    "no_capacity",
]

REASON_TEXTS: dict[str, str] = {
    "same_person": "It would be the same person twice.",
    "level_gap": "The programme asks for a greater gap in seniority.",
    "level_gap_too_great": "The programme asks for a smaller gap in seniority.",
    "reporting_line": "One is in the other's reporting line.",
    "same_manager": "Both report to the same manager.",
    "evaluator": "One of them judges the other's work.",
    "earlier_partner": "They have been suggested to each other before.",
    "other_organisation": "They belong to different organisations.",
    "not_acknowledged": "They belong to different organisations, and not both have acknowledged the notice for that.",
    "no_common_language": "They have no language in common.",
    "no_common_time": "They have too little free time in common.",
    "not_enrolled": "Does not take part in this programme.",
    "not_ready": "Has not finished signing up.",
    "organisation_not_included": "The organisation does not take part in this programme.",
    "leaving": "Is leaving the company.",
    "on_leave": "Is on leave.",
    "away": "Is away at the moment.",
    "no_capacity": "Has no place free.",
}


@dataclass(frozen=True)
class Member:
    """A profile as one programme sees it."""

    profile: ProfileChanged
    enrolment: Enrolment

    @property
    def id(self) -> str:
        return self.profile.member_id


def find_enrolled_member(profile: ProfileChanged, programme_id: str) -> Member | None:
    """The member with the enrolment in this programme; with several enrolments, the last one counts."""
    enrolments = [enrolment for enrolment in profile.enrolments if enrolment.programme_id == programme_id]
    return Member(profile, enrolments[-1]) if enrolments else None


def get_capacity(profile: ProfileChanged, programme_id: str) -> int:
    """The number of pairings that the member takes on in this programme; 0 unless ready and employed."""
    member = find_enrolled_member(profile, programme_id)
    if member is None or member.enrolment.state != "ready" or profile.employment != "active":
        return 0
    return member.enrolment.capacity


def find_absence_reason(
    profile: ProfileChanged, programme_id: str, settings: ProgrammeSettings, today: date
) -> AbsenceReason | None:
    """Why the member cannot be proposed today; None if they can."""
    return find_member_absence_reason(find_enrolled_member(profile, programme_id), settings, today)


def find_member_absence_reason(member: Member | None, settings: ProgrammeSettings, today: date) -> AbsenceReason | None:
    """``find_absence_reason`` for a result of ``find_enrolled_member``."""
    if member is None or member.enrolment.state == "left":
        return "not_enrolled"
    profile = member.profile
    if member.enrolment.state != "ready":
        return "not_ready"
    if profile.organisation_id not in settings.organisations:
        return "organisation_not_included"
    if profile.employment == "on_leave":
        return "on_leave"
    if profile.employment != "active" or (profile.employed_until is not None and profile.employed_until <= today):
        return "leaving"
    if any(absence.since <= today and (absence.until is None or today <= absence.until) for absence in profile.away):
        return "away"
    if member.enrolment.capacity == 0 or profile.personal_cap == 0:
        return "no_capacity"
    return None


def find_broken_rules(
    senior: Member, junior: Member, settings: ProgrammeSettings, on: date, earlier: Iterable[str] = ()
) -> tuple[Rule, ...]:
    """The hard rules that this pair breaks; empty if the pair may be proposed.

    ``earlier``: everybody to whom the senior was proposed before.
    """
    s, j, rules = senior.profile, junior.profile, settings.rules
    broken: list[Rule] = []
    if s.member_id == j.member_id:
        broken.append("same_person")
    broken += _find_level_rules(s, j, settings)
    if s.member_id in j.line[: rules.line_depth] or j.member_id in s.line[: rules.line_depth]:
        broken.append("reporting_line")
    if rules.exclude_same_manager and s.line[:1] and s.line[:1] == j.line[:1]:
        broken.append("same_manager")
    if s.member_id in j.evaluators or j.member_id in s.evaluators:
        broken.append("evaluator")
    if j.member_id in set(earlier):
        broken.append("earlier_partner")
    broken += _find_organisation_rules(senior, junior, settings)
    senior_languages, junior_languages = get_spoken_languages(s), get_spoken_languages(j)
    if senior_languages and junior_languages and not senior_languages & junior_languages:
        broken.append("no_common_language")
    minutes = count_common_minutes(s, j, on)
    if minutes is not None and minutes < rules.min_overlap_minutes:
        broken.append("no_common_time")
    return tuple(broken)


def get_spoken_languages(profile: ProfileChanged) -> frozenset[str]:
    """Languages without region, since ``en-GB`` and ``en-US`` understand each other; one code for each language."""
    return frozenset(get_language(tag) for tag in profile.languages)


def count_common_minutes(senior: ProfileChanged, junior: ProfileChanged, on: date) -> int | None:
    """The free minutes that they share in a week; None if either did not enter theirs."""
    senior_time, junior_time = get_free_time(senior, on), get_free_time(junior, on)
    return None if senior_time is None or junior_time is None else count_shared_minutes(senior_time, junior_time)


def _find_level_rules(senior: ProfileChanged, junior: ProfileChanged, settings: ProgrammeSettings) -> list[Rule]:
    if senior.level is None or junior.level is None:
        return []
    gap, max_gap = senior.level - junior.level, settings.rules.max_level_gap
    if gap < settings.rules.min_level_gap:
        return ["level_gap"]
    return ["level_gap_too_great"] if max_gap is not None and gap > max_gap else []


def _find_organisation_rules(senior: Member, junior: Member, settings: ProgrammeSettings) -> list[Rule]:
    if senior.profile.organisation_id == junior.profile.organisation_id:
        return []
    if not settings.rules.cross_organisation:
        return ["other_organisation"]
    both_acknowledged = senior.enrolment.confidentiality_acknowledged and junior.enrolment.confidentiality_acknowledged
    return [] if both_acknowledged else ["not_acknowledged"]
