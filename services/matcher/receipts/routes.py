"""Endpoints of receipts: in plain words for the two members, in full for coordinators; both may verify one."""

from fastapi import APIRouter

from chassis.web.http import Principal
from contracts.errors import NotFound
from contracts.profiles import Side
from services.matcher.context import Matcher
from services.matcher.dependencies import MatcherContext, UserPrincipal
from services.matcher.domain.receipts import receipt as receipts
from services.matcher.domain.receipts.explanation import CHECK_TEXTS, explain_origin
from services.matcher.domain.receipts.receipt import SIDES, Receipt
from services.matcher.permissions import not_in_conflict, pairing_for
from services.matcher.receipts.views import OwnReceiptView, ReceiptView, RunnerUpView, VerificationView

router = APIRouter(tags=["receipts"])


@router.get("/pairings/{id}/receipt")
async def get_receipt_of_pairing(
    id: str, principal: UserPrincipal, matcher: MatcherContext
) -> ReceiptView | OwnReceiptView:
    pairing = (await pairing_for(principal, id, "see_pairing", matcher))[0].state
    receipt = await matcher.receipts.load(pairing.receipt_id)
    return await _view(receipt, pairing.side_of(principal.member_id), principal, matcher)


@router.get("/receipts/{id}")
async def get_receipt(id: str, principal: UserPrincipal, matcher: MatcherContext) -> ReceiptView | OwnReceiptView:
    receipt, side = await _load_receipt(id, principal, matcher)
    return await _view(receipt, side, principal, matcher)


@router.get("/receipts/{id}/verification")
async def verify_receipt(id: str, principal: UserPrincipal, matcher: MatcherContext) -> VerificationView:
    receipt, side = await _load_receipt(id, principal, matcher)
    verification = receipts.verify_receipt(receipt, matcher.taxonomy)
    profiles = await matcher.members.get_many(list(receipt.members.values()))
    changed = {each: receipts.has_profile_changed(receipt, each, profiles.get(receipt.members[each])) for each in SIDES}
    return VerificationView(
        receipt_id=receipt.receipt_id,
        pairing_id=receipt.pairing_id,
        verified=verification.is_verified,
        agrees=list(verification.agrees),
        differs=list(verification.differs),
        unknown=list(verification.unknown),
        words=_describe(verification),
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


async def _view(
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
        reasons={each: list(texts) for each, texts in receipt.reasons.items()},
        focus=list(receipt.focus),
        seed=receipt.chosen.seed,
        runner_up=await _view_runners_up(receipt, principal, matcher),
        override_cost=receipt.chosen.override_cost,
        hashes=receipt.hashes,
    )


async def _view_runners_up(receipt: Receipt, principal: Principal, matcher: Matcher) -> dict[Side, RunnerUpView]:
    runners_up = receipt.chosen.runner_up
    allowed = await not_in_conflict(principal, [{each.member_id} for each in runners_up.values()], matcher.members)
    return {
        side: RunnerUpView(member_id=runner_up.member_id if is_visible else None, score=runner_up.score)
        for (side, runner_up), is_visible in zip(runners_up.items(), allowed, strict=True)
    }


def _describe(verification: receipts.Verification) -> list[str]:
    """One sentence for each result that has checks."""
    sentences = [
        (verification.agrees, "Computed again, it is the same in"),
        (verification.differs, "Not the same is"),
        (verification.unknown, "This could not be computed again:"),
    ]
    return [f"{text} {', '.join(CHECK_TEXTS[check] for check in checks)}." for checks, text in sentences if checks]
