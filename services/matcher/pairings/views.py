"""HTTP representations of pairings, requests, shortlists and seat ledgers."""

from typing import Literal, Self

from pydantic import BaseModel

from contracts.envelope import Instant
from contracts.pairings import DeclineReason, Focus, PairingState
from contracts.profiles import ProfileChanged, Side
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.private_wish import would_rather_not
from services.matcher.domain.pairings.pairing import Pairing, to_public_fields
from services.matcher.domain.pairings.request import PartnerRequest
from services.matcher.domain.pairings.seat_ledger import SeatLedger
from services.matcher.pairings.partner_search import Choice


class FocusView(BaseModel):
    """A topic by id and name."""

    topic_id: str
    name: str
    from_side: Side

    @classmethod
    def of(cls, focus: Focus, taxonomy: Taxonomy) -> Self:
        return cls(topic_id=focus.topic_id, name=taxonomy.name(focus.topic_id), from_side=focus.from_side)


class CharterView(BaseModel):
    """The charter as one side sees it. ``agreed``: whether this side has agreed to the text."""

    goals: list[str]
    meeting_rhythm: str
    confidential: bool
    agreed: bool


class You(BaseModel):
    """The part of a pairing that only this participant sees.

    ``rather_not``: the participant would rather not be paired with the other. They need not answer: an unanswered
    proposal lapses in its time, and the other one never learns why. They may answer all the same.
    """

    side: Side
    answer: Literal["accepted", "declined"] | None
    reason: DeclineReason | None
    reasons: list[str]
    charter: CharterView | None
    wishes_to_renew: bool
    rather_not: bool


class PairingView(PairingState):
    """The public state of a pairing, and a participant's own part in it.

    It leaves out the version of the document, which grows with every answer: it would show each of the two that the
    other one has answered, before both have.
    """

    you: You | None = None

    @classmethod
    def seen_by(cls, pairing: Pairing, side: Side | None, own: ProfileChanged | None = None) -> Self:
        """``side`` and ``own`` profile: of the participant who looks; None for everybody else."""
        return cls(**to_public_fields(pairing), you=_you(pairing, side, own) if side else None)


def _you(pairing: Pairing, side: Side, own: ProfileChanged | None) -> You:
    answer, text = pairing.answers.get(side), pairing.charter
    partner = pairing.plan.junior if side == "senior" else pairing.plan.senior
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
        rather_not=would_rather_not(own, partner.member_id),
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
            focus=[FocusView.of(topic, taxonomy) for topic in choice.focus],
        )


class RequestView(BaseModel):
    """A request as both sides see it. A lapsed request does not reveal the reason."""

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
    def of(cls, request: PartnerRequest) -> Self:
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
    """A member's seats. ``capacity``: when the last seat was taken."""

    member_id: str
    capacity: int
    closed: bool
    held: list[HeldSeat]
    version: int

    @classmethod
    def of(cls, ledger: SeatLedger, version: int) -> Self:
        held = [HeldSeat(pairing_id=id, **seat.model_dump()) for id, seat in ledger.held.items()]
        return cls(
            member_id=ledger.member_id, capacity=ledger.capacity, closed=ledger.closed, held=held, version=version
        )
