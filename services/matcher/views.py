"""What HTTP shows of the matcher's documents, to whom it may be shown."""

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
from services.matcher.domain.fit import Fit
from services.matcher.domain.ledger import Ledger
from services.matcher.domain.pairing import Pairing, fields
from services.matcher.domain.programme import Programme, public
from services.matcher.domain.request import Request
from services.matcher.domain.round import Progress, Round
from services.matcher.domain.suggestion import Suggestion
from services.matcher.suggesting import Free, Pair


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
    """A round's totals and progress."""

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
    why: str | None
    started_at: Instant
    computed_at: Instant | None
    published_at: Instant | None

    @classmethod
    def of(cls, round: Round) -> Self:
        return cls.model_validate(round.model_dump())


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


class LeftOverView(BaseModel):
    """Somebody without a partner in a round, and why."""

    member_id: str
    side: Side
    department_id: str
    code: str
    text: str
    numbers: dict[str, int]

    @classmethod
    def of(cls, document: Document) -> Self:
        return cls.model_validate(document)


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
