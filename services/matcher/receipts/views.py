"""HTTP representations of receipts."""

from typing import Self

from pydantic import BaseModel

from contracts.envelope import Instant
from contracts.pairings import Focus, Origin
from contracts.profiles import Side
from contracts.programmes import Floors, Weights
from services.matcher.domain.fit.score import Fit
from services.matcher.domain.receipts.explanation import explain_factors, explain_origin
from services.matcher.domain.receipts.receipt import InputHashes, Receipt, VerificationCheck


class OwnReceiptView(BaseModel):
    """How this match was made, as one of the two reads it."""

    receipt_id: str
    pairing_id: str
    made_at: Instant
    how: str
    reasons: list[str]
    parts: list[str]

    @classmethod
    def of(cls, receipt: Receipt, side: Side) -> Self:
        return cls(
            receipt_id=receipt.receipt_id,
            pairing_id=receipt.pairing_id,
            made_at=receipt.made_at,
            how=explain_origin(receipt.origin, to_the_two=True),
            reasons=list(receipt.reasons[side]),
            parts=list(explain_factors(receipt, side)),
        )


class RunnerUpView(BaseModel):
    """``member_id`` is None where it is the caller, or a member of the caller's line."""

    member_id: str | None
    score: float


class ReceiptView(BaseModel):
    """The whole receipt except the data that it was computed from: of that, only the hashes.

    ``weights`` and ``floors``: the settings with which the pair was matched. ``chosen_with``: the fit by which the
    round chose the pair, if a profile changed between that and the proposal.
    """

    receipt_id: str
    pairing_id: str
    programme_id: str
    programme_version: int
    origin: Origin
    round_id: str | None
    made_at: Instant
    how: str
    algorithm: str
    weights: Weights | None
    floors: Floors | None
    fit: Fit
    chosen_with: Fit | None
    reasons: dict[Side, list[str]]
    focus: list[Focus]
    seed: int | None
    runner_up: dict[Side, RunnerUpView]
    override_cost: float | None
    hashes: InputHashes


class VerificationView(BaseModel):
    """The result of computing the receipt again.

    ``changed_since``: by side, whether the matching data of the profile has changed. None for the two members
    themselves, who would learn of each other's changes.
    """

    receipt_id: str
    pairing_id: str
    verified: bool
    agrees: list[VerificationCheck]
    differs: list[VerificationCheck]
    unknown: list[VerificationCheck]
    words: list[str]
    changed_since: dict[Side, bool] | None
