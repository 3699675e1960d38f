"""HTTP representations of rounds, proposals and members without a partner."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal, Self

from pydantic import BaseModel

from chassis.storage.mongo import Document
from contracts.envelope import Instant
from contracts.profiles import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit.score import Fit
from services.matcher.domain.rounds.adjustment import Adjustment
from services.matcher.domain.rounds.round import Round, RoundProgress
from services.matcher.domain.rounds.summary import (
    DepartmentCoverage,
    MemberDifference,
    RoundComparison,
    RoundSummary,
    RuleRelaxation,
    UnmatchedReasonCount,
)
from services.matcher.pairings.views import FocusView

ROUNDING = 1e-6  # a difference of fit below this is a rounding error


class RoundView(BaseModel):
    """A round's totals and progress.

    ``optimum``: the greatest total fit before fairness and changes by hand; ``bound``: what no set of pairs exceeds.
    ``changes``: adjustments by hand, of which ``unresolved`` have not had their effect yet.
    """

    round_id: str
    programme_id: str
    programme_version: int
    state: str
    seed: int
    progress: RoundProgress
    seniors: int
    juniors: int
    pairs: int
    proposed: int
    withdrawn: int
    unmatched_seniors: int
    unmatched_juniors: int
    total_fit: float
    lowest_fit: float | None
    optimum: float
    bound: float | None
    why: str | None
    trial: bool
    changes: int
    unresolved: int
    started_at: Instant
    computed_at: Instant | None
    published_at: Instant | None

    @classmethod
    def of(cls, round: Round) -> Self:
        changes = [adjustment.state for adjustment in round.adjustments]
        fields = round.model_dump(exclude={"adjustments"})
        open_ = sum(state != "in_force" for state in changes)
        return cls.model_validate({**fields, "changes": len(changes), "unresolved": open_})


class ProposedMember(BaseModel):
    member_id: str
    department_id: str | None
    site_id: str | None

    @classmethod
    def of(cls, member_id: str, profile: ProfileChanged | None) -> Self:
        return cls(
            member_id=member_id,
            department_id=profile.department_id if profile else None,
            site_id=profile.site_id if profile else None,
        )


class ProposalView(BaseModel):
    """One pair of a round under review."""

    pairing_id: str
    place: str
    senior: ProposedMember
    junior: ProposedMember
    fit: Fit
    reasons: dict[Side, list[str]]
    focus: list[FocusView]
    state: Literal["waiting", "proposed", "withdrawn"]
    why: str | None


class RelaxedView(BaseModel):
    """A rule and how far it would be relaxed, in its own unit."""

    rule: str
    by: float


class RelaxationView(RelaxedView):
    """The change that would give a member a partner: of one rule, or of two where one is not enough."""

    text: str
    also: RelaxedView | None = None


class LeftOverView(BaseModel):
    """A member without a partner in a round, and the reason."""

    member_id: str
    side: Side
    department_id: str
    code: str
    text: str
    numbers: dict[str, int]
    relaxation: RelaxationView | None = None

    @classmethod
    def of(cls, document: Document) -> Self:
        return cls.model_validate(document)


class SummaryView(RoundView):
    """A round in figures. The worst pairs are listed without those of the caller's line."""

    settings_used: ProgrammeSettings
    coverage: tuple[DepartmentCoverage, ...]
    reasons: tuple[UnmatchedReasonCount, ...]
    relaxations: tuple[RuleRelaxation, ...]
    worst: list[ProposalView]

    @classmethod
    def of_summary(cls, round: Round, summary: RoundSummary, worst: list[ProposalView]) -> Self:
        figures = summary.model_dump(exclude={"worst"})
        return cls(**RoundView.of(round).model_dump(), settings_used=round.settings, **figures, worst=worst)


class AdjustmentView(BaseModel):
    """One change by hand. ``kept``: whether it took effect; None until the round is solved with it.

    ``cost``: what the round's total fit has lost by it, after everybody else was paired as well as that allows.
    """

    adjustment_id: str
    kind: Literal["lock", "forbid", "swap"]
    pairs: tuple[tuple[str, str], ...]
    state: Literal["new", "in_force", "undone"]
    kept: bool | None
    cost: float | None
    text: str

    @classmethod
    def of(cls, adjustment: Adjustment) -> Self:
        return cls(**adjustment.model_dump(), text=_describe_effect(adjustment))


def _describe_effect(adjustment: Adjustment) -> str:
    if adjustment.state == "new":
        return "It takes effect when the round is solved again."
    if adjustment.state == "undone":
        return "It is undone when the round is solved again."
    if not adjustment.kept:
        return "It did not come about: the places were needed otherwise, or somebody could not be paired like this."
    cost = adjustment.cost or 0.0
    if abs(cost) < ROUNDING:
        return "It came about, and costs nothing."
    return f"It came about; the total fit is {abs(cost):.3f} {'lower' if cost > 0 else 'higher'}."


class DifferenceView(BaseModel):
    """One member in both rounds: the total fit of the member's pairs in each, by the settings of the first round."""

    member_id: str
    side: Side
    before: float
    after: float
    gain: float
    partners_before: tuple[str, ...]
    partners_after: tuple[str, ...]

    @classmethod
    def of(cls, difference: MemberDifference) -> Self:
        return cls(**asdict(difference), gain=difference.gain)


class ComparisonView(BaseModel):
    """Two rounds compared by the settings of the first. Items are members with other partners, losers first.

    The items leave out members of the caller's line; the counts include them.
    """

    first: str
    other: str
    yardstick: str
    pairs: tuple[int, int]
    pairs_in_common: int
    total_fit: tuple[float, float]
    total_fit_as_computed: tuple[float, float]
    lowest_fit: tuple[float | None, float | None]
    people_with_other_partners: int
    gain: int
    lose: int
    items: list[DifferenceView]
    next: str | None

    @classmethod
    def of(
        cls, first: Round, other: Round, comparison: RoundComparison, items: list[DifferenceView], next: str | None
    ) -> Self:
        return cls(
            first=first.round_id,
            other=other.round_id,
            yardstick=f"the settings of {first.round_id}",
            pairs=comparison.pairs,
            pairs_in_common=comparison.in_common,
            total_fit=comparison.totals,
            total_fit_as_computed=(first.total_fit, other.total_fit),
            lowest_fit=comparison.lowest,
            people_with_other_partners=len(comparison.differences),
            gain=sum(entry.gain > ROUNDING for entry in comparison.differences),
            lose=sum(entry.gain < -ROUNDING for entry in comparison.differences),
            items=items,
            next=next,
        )


class WhyNotView(BaseModel):
    """Why the last published round left a member without a partner. It never reveals the wishes of others."""

    programme_id: str
    round_id: str | None
    published_at: Instant | None
    code: str
    text: str

    @classmethod
    def of(cls, programme_id: str, round: Round | None, explanation: Mapping[str, object]) -> Self:
        return cls.model_validate(
            {
                **explanation,
                "programme_id": programme_id,
                "round_id": round.round_id if round else None,
                "published_at": round.published_at if round else None,
            }
        )
