"""Endpoints of receipts: in plain words for the two members, in full for coordinators; both may verify one."""

from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel

from chassis.web.http import Principal
from contracts.envelope import Instant
from contracts.errors import NotFound
from contracts.pairings import Focus, Origin
from contracts.profiles import Side
from contracts.programmes import Floors, Weights
from services.matcher.context import Matcher
from services.matcher.dependencies import MatcherContext, UserPrincipal
from services.matcher.domain.fit.score import Fit
from services.matcher.domain.receipts import receipt as receipts
from services.matcher.domain.receipts.explanation import CHECK_TEXTS, explain_factors, explain_origin
from services.matcher.domain.receipts.receipt import SIDES, InputHashes, Receipt, VerificationCheck
from services.matcher.permissions import not_in_conflict, pairing_for

router = APIRouter(tags=["receipts"])


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
    """``member_id`` is left out where it is whoever asks, or somebody of their own line."""

    member_id: str | None
    score: float


class ReceiptView(BaseModel):
    """The whole receipt but for what it was computed from, which is told by its hashes alone.

    ``weights`` and ``floors`` are those under which it was matched. ``chosen_with``: the fit by which the round chose
    the pair, where a profile changed between then and the proposal.
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
    """What came of computing it again.

    ``changed_since``: whether what matching sees of each side is another today; left out for the two themselves,
    who would learn of each other's changes.
    """

    receipt_id: str
    pairing_id: str
    verified: bool
    agrees: list[VerificationCheck]
    differs: list[VerificationCheck]
    unknown: list[VerificationCheck]
    words: list[str]
    changed_since: dict[Side, bool] | None


@router.get("/pairings/{id}/receipt")
async def get_receipt_of_pairing(
    id: str, principal: UserPrincipal, matcher: MatcherContext
) -> ReceiptView | OwnReceiptView:
    pairing = (await pairing_for(principal, id, "see_pairing", matcher))[0].state
    receipt = await matcher.receipts.load(pairing.receipt_id)
    return await _shown(receipt, pairing.side_of(principal.member_id), principal, matcher)


@router.get("/receipts/{id}")
async def get_receipt(id: str, principal: UserPrincipal, matcher: MatcherContext) -> ReceiptView | OwnReceiptView:
    receipt, side = await _load_receipt(id, principal, matcher)
    return await _shown(receipt, side, principal, matcher)


@router.get("/receipts/{id}/verification")
async def verify_receipt(id: str, principal: UserPrincipal, matcher: MatcherContext) -> VerificationView:
    receipt, side = await _load_receipt(id, principal, matcher)
    found = receipts.verify_receipt(receipt, matcher.taxonomy)
    now = await matcher.members.get_many(list(receipt.members.values()))
    changed = {one: receipts.has_profile_changed(receipt, one, now.get(receipt.members[one])) for one in SIDES}
    return VerificationView(
        receipt_id=receipt.receipt_id,
        pairing_id=receipt.pairing_id,
        verified=found.is_verified,
        agrees=list(found.agrees),
        differs=list(found.differs),
        unknown=list(found.unknown),
        words=_words(found),
        changed_since=changed if side is None else None,
    )


async def _load_receipt(id: str, principal: Principal, matcher: Matcher) -> tuple[Receipt, Side | None]:
    """The receipt of a pairing that the caller may see, and the caller's side.

    The side is None for a caller who is not one of the two. Raises ``NotFound`` for a receipt that no pairing names.
    """
    receipt = await matcher.receipts.load(id)
    stored, relation = await pairing_for(principal, receipt.pairing_id, "see_pairing", matcher)
    if stored.state.receipt_id != id:
        raise NotFound("receipt")
    return receipt, stored.state.side_of(principal.member_id) if relation == "participant" else None


async def _shown(
    receipt: Receipt, side: Side | None, principal: Principal, matcher: Matcher
) -> ReceiptView | OwnReceiptView:
    if side is not None:
        return OwnReceiptView.of(receipt, side)
    inputs = receipts.read_inputs(receipt)
    matching = inputs.settings.matching if inputs else None
    return ReceiptView(
        **receipt.model_dump(include={"receipt_id", "pairing_id", "programme_id", "programme_version", "origin"}),
        round_id=receipt.round_id,
        made_at=receipt.made_at,
        how=explain_origin(receipt.origin, to_the_two=False),
        algorithm=receipt.algorithm,
        weights=matching.weights if matching else None,
        floors=matching.floors if matching else None,
        fit=receipt.fit,
        chosen_with=receipt.chosen_with,
        reasons={one: list(texts) for one, texts in receipt.reasons.items()},
        focus=list(receipt.focus),
        seed=receipt.chosen.seed,
        runner_up=await _runners_up(receipt, principal, matcher),
        override_cost=receipt.chosen.override_cost,
        hashes=receipt.hashes,
    )


async def _runners_up(receipt: Receipt, principal: Principal, matcher: Matcher) -> dict[Side, RunnerUpView]:
    found = receipt.chosen.runner_up
    named = await not_in_conflict(principal, [{one.member_id} for one in found.values()], matcher)
    return {
        side: RunnerUpView(member_id=one.member_id if ok else None, score=one.score)
        for (side, one), ok in zip(found.items(), named, strict=True)
    }


def _words(found: receipts.Verification) -> list[str]:
    said = [
        (found.agrees, "Computed again, it is the same in"),
        (found.differs, "Not the same is"),
        (found.unknown, "This could not be computed again:"),
    ]
    return [f"{words} {', '.join(CHECK_TEXTS[check] for check in checks)}." for checks, words in said if checks]
