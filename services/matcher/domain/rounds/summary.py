"""The review of a round before its release: a summary, and the comparison of two rounds."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from contracts.base import FrozenModel
from contracts.profiles import Side
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit.score import Fit, combine_parts

MAX_WORST_PAIRS = 20  # pairs with the lowest fit in a summary


K = TypeVar("K")


class DepartmentCoverage(FrozenModel):
    """The people of a department on one side, and how many of them have a partner."""

    department_id: str
    side: Side
    people: int
    matched: int


class UnmatchedReasonCount(FrozenModel):
    """The number of unmatched people with one reason."""

    side: Side
    code: str
    people: int


class RuleRelaxation(FrozenModel):
    """One relaxation of a rule, and how many unmatched people it would help, each considered alone."""

    rule: str
    by: float
    text: str
    people: int


class RoundSummary(FrozenModel):
    """``worst``: the numbers of the proposals with the lowest fit, lowest first."""

    coverage: tuple[DepartmentCoverage, ...] = ()
    reasons: tuple[UnmatchedReasonCount, ...] = ()
    relaxations: tuple[RuleRelaxation, ...] = ()
    worst: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoundParticipant:
    """A participant of a round, reduced to the summary's needs. ``relaxation``: rule, amount and text."""

    side: Side
    department_id: str
    matched: bool
    code: str | None = None
    relaxation: tuple[str, float, str] | None = None


def summarise_round(participants: Iterable[RoundParticipant], scores: Mapping[str, float]) -> RoundSummary:
    """Summarise a round. ``scores``: the fit of each proposal by its number."""
    people: Counter[tuple[str, Side]] = Counter()
    matched: Counter[tuple[str, Side]] = Counter()
    reasons: Counter[tuple[Side, str]] = Counter()
    relaxations: Counter[tuple[str, float, str]] = Counter()
    for participant in participants:
        group = (participant.department_id, participant.side)
        people[group] += 1
        matched[group] += participant.matched
        if not participant.matched and participant.code is not None:
            reasons[participant.side, participant.code] += 1
        if not participant.matched and participant.relaxation is not None:
            relaxations[participant.relaxation] += 1
    return RoundSummary(
        coverage=tuple(
            DepartmentCoverage(
                department_id=department, side=side, people=people[department, side], matched=matched[department, side]
            )
            for department, side in sorted(people)
        ),
        reasons=tuple(
            UnmatchedReasonCount(side=side, code=code, people=count) for (side, code), count in _sort_by_count(reasons)
        ),
        relaxations=tuple(
            RuleRelaxation(rule=rule, by=by, text=text, people=count)
            for (rule, by, text), count in _sort_by_count(relaxations)
        ),
        worst=tuple(sorted(scores, key=lambda number: (scores[number], number))[:MAX_WORST_PAIRS]),
    )


@dataclass(frozen=True)
class RoundPair:
    """One pair of a round."""

    senior: str
    junior: str
    fit: Fit


@dataclass(frozen=True)
class MemberDifference:
    """The difference between two rounds for one person.

    ``before`` and ``after``: the sum of the fits of their pairs in the first and in the second round, both by the
    settings of the first; 0 without a partner.
    """

    member_id: str
    side: Side
    before: float
    after: float
    partners_before: tuple[str, ...]
    partners_after: tuple[str, ...]

    @property
    def gain(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class RoundComparison:
    """The people whose partners differ between two rounds, largest loss first.

    ``totals``: the sum of the fits of each round, by the settings of the first.
    """

    differences: Sequence[MemberDifference]
    totals: tuple[float, float]
    pairs: tuple[int, int]
    in_common: int
    lowest: tuple[float | None, float | None]


def compare_rounds(
    first: Sequence[RoundPair], other: Sequence[RoundPair], settings: ProgrammeSettings
) -> RoundComparison:
    """Compare two rounds by the same ``settings``, those of the first."""
    pairs_before, pairs_after = _group_by_member(first, settings), _group_by_member(other, settings)
    differences = []
    for side, member in sorted(pairs_before.keys() | pairs_after.keys()):
        before, after = pairs_before.get((side, member), {}), pairs_after.get((side, member), {})
        difference = MemberDifference(
            member, side, sum(before.values()), sum(after.values()), tuple(sorted(before)), tuple(sorted(after))
        )
        if difference.partners_before != difference.partners_after:
            differences.append(difference)
    differences.sort(key=lambda difference: (difference.gain, difference.side, difference.member_id))
    scores = tuple([rescore(pair.fit, settings) for pair in pairs] for pairs in (first, other))
    return RoundComparison(
        differences=differences,
        totals=(sum(scores[0]), sum(scores[1])),
        pairs=(len(first), len(other)),
        in_common=len({(p.senior, p.junior) for p in first} & {(p.senior, p.junior) for p in other}),
        lowest=(min(scores[0], default=None), min(scores[1], default=None)),
    )


def rescore(fit: Fit, settings: ProgrammeSettings) -> float:
    """The score of the same parts under other settings."""
    benefits = (fit.senior_benefit, fit.junior_benefit)
    return combine_parts(min(benefits), max(benefits), fit.compatibility, fit.perspective, settings)


def _group_by_member(
    pairs: Sequence[RoundPair], settings: ProgrammeSettings
) -> dict[tuple[Side, str], dict[str, float]]:
    fits: dict[tuple[Side, str], dict[str, float]] = defaultdict(dict)
    for pair in pairs:
        fit = rescore(pair.fit, settings)
        fits["senior", pair.senior][pair.junior] = fit
        fits["junior", pair.junior][pair.senior] = fit
    return fits


def _sort_by_count(counts: Counter[K]) -> list[tuple[K, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
