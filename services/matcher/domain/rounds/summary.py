"""What a coordinator looks at before releasing a round: a summary, and how two rounds differ."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from contracts.base import FrozenModel
from contracts.profiles import Side
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit.score import Fit, combine_parts

MAX_WORST_PAIRS = 20  # pairs with the lowest fit that are shown


K = TypeVar("K")


class DepartmentCoverage(FrozenModel):
    """How many of a department's people on one side have a partner."""

    department_id: str
    side: Side
    people: int
    matched: int


class UnmatchedReason(FrozenModel):
    """How many are left over for one reason."""

    side: Side
    code: str
    people: int


class RuleRelaxation(FrozenModel):
    """One change of a rule that would give somebody a partner, and how many people it would, each by themselves."""

    rule: str
    by: float
    text: str
    people: int


class RoundSummary(FrozenModel):
    """``worst``: the numbers of the proposals with the lowest fit, the lowest first."""

    coverage: tuple[DepartmentCoverage, ...] = ()
    reasons: tuple[UnmatchedReason, ...] = ()
    relaxations: tuple[RuleRelaxation, ...] = ()
    worst: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoundParticipant:
    """Somebody who takes part in a round, as far as a summary needs it. ``relaxation``: rule, by how much, in words."""

    side: Side
    department_id: str
    matched: bool
    code: str | None = None
    relaxation: tuple[str, float, str] | None = None


def summarise_round(seats: Iterable[RoundParticipant], scores: Mapping[str, float]) -> RoundSummary:
    """``scores``: the fit of each proposal by its number."""
    people: Counter[tuple[str, Side]] = Counter()
    matched: Counter[tuple[str, Side]] = Counter()
    reasons: Counter[tuple[Side, str]] = Counter()
    relaxations: Counter[tuple[str, float, str]] = Counter()
    for seat in seats:
        place = (seat.department_id, seat.side)
        people[place] += 1
        matched[place] += seat.matched
        if not seat.matched and seat.code is not None:
            reasons[seat.side, seat.code] += 1
        if not seat.matched and seat.relaxation is not None:
            relaxations[seat.relaxation] += 1
    return RoundSummary(
        coverage=tuple(
            DepartmentCoverage(
                department_id=department, side=side, people=people[department, side], matched=matched[department, side]
            )
            for department, side in sorted(people)
        ),
        reasons=tuple(UnmatchedReason(side=side, code=code, people=n) for (side, code), n in _sort_by_count(reasons)),
        relaxations=tuple(
            RuleRelaxation(rule=rule, by=by, text=text, people=n) for (rule, by, text), n in _sort_by_count(relaxations)
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
    """What another round means for one person.

    ``before`` and ``after``: the fit of all their pairs together in the first and in the other round, both judged by
    the settings of the first; 0 without a partner.
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
    """Everybody who has another partner, or whose pair another fit; who loses most first.

    ``totals``: the fit of all pairs of each round, judged by the settings of the first.
    """

    differences: Sequence[MemberDifference]
    totals: tuple[float, float]
    pairs: tuple[int, int]
    in_common: int
    lowest: tuple[float | None, float | None]


def compare_rounds(
    first: Sequence[RoundPair], other: Sequence[RoundPair], settings: ProgrammeSettings
) -> RoundComparison:
    """Both rounds by one yardstick: ``settings``, those of the first."""
    one, two = _group_by_member(first, settings), _group_by_member(other, settings)
    differences = []
    for side, member in sorted(one.keys() | two.keys()):
        had, has = one.get((side, member), {}), two.get((side, member), {})
        found = MemberDifference(
            member, side, sum(had.values()), sum(has.values()), tuple(sorted(had)), tuple(sorted(has))
        )
        if found.partners_before != found.partners_after:
            differences.append(found)
    differences.sort(key=lambda found: (found.gain, found.side, found.member_id))
    scores = tuple([rescore(pair.fit, settings) for pair in pairs] for pairs in (first, other))
    return RoundComparison(
        differences=differences,
        totals=(sum(scores[0]), sum(scores[1])),
        pairs=(len(first), len(other)),
        in_common=len({(p.senior, p.junior) for p in first} & {(p.senior, p.junior) for p in other}),
        lowest=(min(scores[0], default=None), min(scores[1], default=None)),
    )


def rescore(fit: Fit, settings: ProgrammeSettings) -> float:
    """The same parts, put together by other settings."""
    both = (fit.senior_benefit, fit.junior_benefit)
    return combine_parts(min(both), max(both), fit.compatibility, fit.perspective, settings)


def _group_by_member(
    pairs: Sequence[RoundPair], settings: ProgrammeSettings
) -> dict[tuple[Side, str], dict[str, float]]:
    found: dict[tuple[Side, str], dict[str, float]] = defaultdict(dict)
    for pair in pairs:
        worth = rescore(pair.fit, settings)
        found["senior", pair.senior][pair.junior] = worth
        found["junior", pair.junior][pair.senior] = worth
    return found


def _sort_by_count(counts: Counter[K]) -> list[tuple[K, int]]:
    return sorted(counts.items(), key=lambda found: (-found[1], str(found[0])))
