"""What HTTP shows of the matcher's documents, to whom it may be shown."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel

from chassis.mongo import Document
from contracts.envelope import Instant
from contracts.pairings import DeclineReason, Focus, PairingState
from contracts.people import Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.choosing import Choice
from services.matcher.domain.adjusting import Adjustment
from services.matcher.domain.fit import Fit
from services.matcher.domain.ledger import Ledger
from services.matcher.domain.pairing import Pairing, fields
from services.matcher.domain.programme import Programme, public
from services.matcher.domain.request import Request
from services.matcher.domain.review import Comparison, Coverage, Difference, Relief, Summary, Why
from services.matcher.domain.round import Progress, Round
from services.matcher.domain.suggestion import Suggestion
from services.matcher.suggesting import Free, Pair

NOTHING = 1e-6  # differences of fit below this are rounding


class ProgrammeView(BaseModel):
    """A programme with all its settings; ``version`` is that of the settings."""

    programme_id: str
    version: int
    state: str
    settings: ProgrammeSettings
    happened_at: Instant
    recorded_at: Instant

    @classmethod
    def of(cls, programme: Programme) -> Self:
        return cls.model_validate(public(programme).model_dump())


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
    progress: Progress
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
        changes = [one.state for one in round.adjustments]
        known = round.model_dump(exclude={"adjustments"})
        open_ = sum(state != "in_force" for state in changes)
        return cls.model_validate({**known, "changes": len(changes), "unresolved": open_})


class FocusView(BaseModel):
    """A topic by id and name."""

    topic_id: str
    name: str
    from_side: Side

    @classmethod
    def of(cls, focus: Focus, taxonomy: Taxonomy) -> Self:
        return cls(topic_id=focus.topic_id, name=taxonomy.name(focus.topic_id), from_side=focus.from_side)


class ProposedMember(BaseModel):
    member_id: str
    department_id: str | None
    site_id: str | None


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
    """The change that would have given somebody a partner: of one rule, or of two where one would not do."""

    text: str
    also: RelaxedView | None = None


class LeftOverView(BaseModel):
    """Somebody without a partner in a round, and why."""

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
    """A round in figures. The worst pairs are without those of the line of whoever asks."""

    settings_used: ProgrammeSettings
    coverage: tuple[Coverage, ...]
    reasons: tuple[Why, ...]
    relaxations: tuple[Relief, ...]
    worst: list[ProposalView]

    @classmethod
    def of_summary(cls, round: Round, summary: Summary, worst: list[ProposalView]) -> Self:
        figures = summary.model_dump(exclude={"worst"})
        return cls(**RoundView.of(round).model_dump(), settings_used=round.settings, **figures, worst=worst)


class AdjustmentView(BaseModel):
    """One change by hand. ``kept``: whether it came about; None until the round is solved with it.

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
        return cls(**adjustment.model_dump(), text=_became(adjustment))


def _became(adjustment: Adjustment) -> str:
    if adjustment.state == "new":
        return "It takes effect when the round is solved again."
    if adjustment.state == "undone":
        return "It is undone when the round is solved again."
    if not adjustment.kept:
        return "It did not come about: the places were needed otherwise, or somebody could not be paired like this."
    cost = adjustment.cost or 0.0
    if abs(cost) < NOTHING:
        return "It came about, and costs nothing."
    return f"It came about; the total fit is {abs(cost):.3f} {'lower' if cost > 0 else 'higher'}."


class DifferenceView(BaseModel):
    """What the other round means for one person: the fit of all their pairs in each, by the settings of the first."""

    member_id: str
    side: Side
    before: float
    after: float
    gain: float
    partners_before: tuple[str, ...]
    partners_after: tuple[str, ...]

    @classmethod
    def of(cls, found: Difference) -> Self:
        return cls(**asdict(found), gain=found.gain)


class ComparisonView(BaseModel):
    """Two rounds by one yardstick, the settings of the first; items are people with other partners, losers first.

    Named pairs of the line of whoever asks are left out of the items, not of the counts.
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
    def of(cls, first: Round, other: Round, found: Comparison, items: list[DifferenceView], next: str | None) -> Self:
        return cls(
            first=first.round_id,
            other=other.round_id,
            yardstick=f"the settings of {first.round_id}",
            pairs=found.pairs,
            pairs_in_common=found.in_common,
            total_fit=found.totals,
            total_fit_as_computed=(first.total_fit, other.total_fit),
            lowest_fit=found.lowest,
            people_with_other_partners=len(found.differences),
            gain=sum(one.gain > NOTHING for one in found.differences),
            lose=sum(one.gain < -NOTHING for one in found.differences),
            items=items,
            next=next,
        )


class WhyNotView(BaseModel):
    """Why the last published round left a member over, as far as they may know: never who else wished what."""

    programme_id: str
    round_id: str | None
    published_at: Instant | None
    code: str
    text: str

    @classmethod
    def of(cls, programme_id: str, round: Round | None, found: Mapping[str, object]) -> Self:
        return cls.model_validate(
            {
                **found,
                "programme_id": programme_id,
                "round_id": round.round_id if round else None,
                "published_at": round.published_at if round else None,
            }
        )


class CharterView(BaseModel):
    """The charter as one side sees it; ``agreed``: have you agreed to this text?"""

    goals: list[str]
    meeting_rhythm: str
    confidential: bool
    agreed: bool


class You(BaseModel):
    """What only this participant sees; nobody sees the other's."""

    side: Side
    answer: Literal["accepted", "declined"] | None
    reason: DeclineReason | None
    reasons: list[str]
    charter: CharterView | None
    wishes_to_renew: bool


class PairingView(PairingState):
    """The public state of a pairing, and a participant's own part in it.

    Without the version of the document, which grows with every answer: it would tell each of the two that the other has
    answered, before both have.
    """

    you: You | None = None

    @classmethod
    def seen_by(cls, pairing: Pairing, side: Side | None) -> Self:
        return cls(**fields(pairing), you=_you(pairing, side) if side else None)


def _you(pairing: Pairing, side: Side) -> You:
    answer, text = pairing.answers.get(side), pairing.charter
    return You(
        side=side,
        answer=answer.answer if answer else None,
        reason=answer.reason if answer else None,
        reasons=list(pairing.plan.reasons.get(side, ())),
        charter=CharterView(
            goals=list(text.goals),
            meeting_rhythm=text.meeting_rhythm,
            confidential=text.confidential,
            agreed=side in pairing.signed,
        )
        if text
        else None,
        wishes_to_renew=side in pairing.wish_to_renew,
    )


class ChoiceView(BaseModel):
    """One possible partner, without a score."""

    member_id: str
    side: Side
    department_id: str
    reasons: list[str]
    focus: list[FocusView]

    @classmethod
    def of(cls, choice: Choice, taxonomy: Taxonomy) -> Self:
        return cls(
            member_id=choice.partner.member_id,
            side=choice.side,
            department_id=choice.partner.department_id,
            reasons=list(choice.reasons),
            focus=[FocusView.of(one, taxonomy) for one in choice.focus],
        )


class FreeView(BaseModel):
    """Somebody with a place free, and for how many days they have been waiting."""

    member_id: str
    side: Literal["senior", "junior", "either"]
    department_id: str
    places: int
    days_waiting: int

    @classmethod
    def of(cls, free: Free, now: datetime) -> Self:
        return cls(
            member_id=free.member.id,
            side=free.member.enrolment.side,
            department_id=free.member.profile.department_id,
            places=free.places,
            days_waiting=free.days(now),
        )


class SuggestionView(BaseModel):
    """Two who would fit and were never suggested to each other before; put them together to ask them."""

    senior: str
    junior: str
    reasons: dict[Side, list[str]]
    focus: list[FocusView]

    @classmethod
    def of(cls, found: Pair, taxonomy: Taxonomy) -> Self:
        return cls(
            senior=found.senior.member_id,
            junior=found.junior.member_id,
            reasons={side: list(texts) for side, texts in found.reasons.items()},
            focus=[FocusView.of(one, taxonomy) for one in found.focus],
        )


class WaitingView(BaseModel):
    """A suggestion that waits for a coordinator, or on which one has decided; then it has no reasons any longer."""

    suggestion_id: str
    programme_id: str
    senior: str
    junior: str
    state: Literal["open", "released", "dismissed"]
    made_at: Instant
    pairing_id: str | None
    reasons: dict[Side, list[str]]
    focus: list[FocusView]

    @classmethod
    def of(cls, one: Suggestion, pair: Pair | None, taxonomy: Taxonomy) -> Self:
        why = {side: list(texts) for side, texts in pair.reasons.items()} if pair is not None else {}
        topics = [FocusView.of(focus, taxonomy) for focus in pair.focus] if pair is not None else []
        return cls.model_validate({**one.model_dump(), "reasons": why, "focus": topics})


class RequestView(BaseModel):
    """A request as both sides see it: that it lapsed says nothing about why."""

    request_id: str
    programme_id: str
    asker: str
    asked: str
    asker_side: Side
    state: Literal["open", "accepted", "lapsed", "withdrawn"]
    asked_at: Instant
    answer_by: Instant
    pairing_id: str | None

    @classmethod
    def of(cls, request: Request) -> Self:
        return cls.model_validate(request.model_dump())


class AcceptedView(BaseModel):
    request: RequestView
    pairing: PairingView


class HeldSeat(BaseModel):
    pairing_id: str
    programme_id: str
    attempt: int
    partner: str


class LedgerView(BaseModel):
    """A member's seats; ``capacity`` as it was when the last one was taken."""

    member_id: str
    capacity: int
    closed: bool
    held: list[HeldSeat]
    version: int

    @classmethod
    def of(cls, ledger: Ledger, version: int) -> Self:
        held = [HeldSeat(pairing_id=id, **seat.model_dump()) for id, seat in ledger.held.items()]
        return cls(
            member_id=ledger.member_id, capacity=ledger.capacity, closed=ledger.closed, held=held, version=version
        )
