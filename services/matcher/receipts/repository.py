"""Receipts as they are kept: one document for each attempt to propose a pair, written before anything is proposed.

The first that is written for an attempt stands, so two processes that work on the same attempt propose the same. What
an attempt leaves that was given up is dropped with it; should a crash prevent that, it is shown to nobody, since no
pairing names it, and goes with the first of the two who asks to be forgotten.
"""

from collections.abc import Mapping, Sequence

from chassis.core.ids import derived_id, new_id
from chassis.storage.mongo import Document
from chassis.storage.projections import Numbered
from contracts.profiles import ProfileChanged
from services.matcher.context import Matcher
from services.matcher.domain.fit import rules
from services.matcher.domain.pairings.conflict import find_structural_conflicts
from services.matcher.domain.pairings.pairing import PairingPlan
from services.matcher.domain.receipts import receipt as receipts
from services.matcher.domain.receipts.receipt import SIDES, MatchingBasis, MemberSnapshot, Receipt, ReceiptSubject


def receipt_of(pairing_id: str, attempt: int) -> str:
    """The id of the receipt of one attempt."""
    return derived_id("receipt", pairing_id, str(attempt))


async def keep(matcher: Matcher, plans: Sequence[PairingPlan], attempts: Mapping[str, int]) -> dict[str, Receipt]:
    """The receipt of each, by pairing id.

    None for a pair of which one takes part no longer, or between whom the organisation has come to stand meanwhile. Now
    that both seats are held, every later change is heard for this pair too.
    """
    known = await matcher.members.numbered([one.member_id for plan in plans for one in (plan.senior, plan.junior)])
    bases: dict[str, MatchingBasis] = {}
    made: dict[str, Receipt] = {}
    for plan in plans:
        source = plan.round_id or plan.programme_id
        if source not in bases:
            bases[source] = await _basis(plan, matcher)
        if (receipt := _made(plan, attempts[plan.pairing_id], bases[source], known, matcher)) is not None:
            made[plan.pairing_id] = receipt
    standing = await matcher.receipts.add_many([_document(receipt) for receipt in made.values()])
    if standing:
        found = await matcher.receipts.get_many([document["_id"] for document in standing])
        made |= {document["pairing_id"]: Receipt.model_validate(document) for document in found.values()}
    await _forget_the_erased(list(made.values()), matcher)
    return made


async def drop(matcher: Matcher, ids: Sequence[str]) -> None:
    """Take away the receipts of attempts that were given up."""
    await matcher.receipts.delete({"_id": {"$in": list(ids)}})


async def forget(member_id: str, matcher: Matcher) -> None:
    """Remove the receipts of a member's own pairs, and the member from those in which they were a runner-up."""
    await matcher.receipts.delete({"$or": [{f"members.{side}": member_id} for side in SIDES]})
    for side in SIDES:
        place = f"chosen.runner_up.{side}"
        await matcher.receipts.unset({f"{place}.member_id": member_id}, place)


async def _basis(plan: PairingPlan, matcher: Matcher) -> MatchingBasis:
    """A round is matched under the settings with which it began, everything else under those of today."""
    if plan.round_id is not None:
        round = (await matcher.rounds.load(plan.round_id)).state
        version, settings = round.programme_version, round.settings
    else:
        programme = (await matcher.programmes.load(plan.programme_id)).state
        version, settings = programme.settings_version, programme.settings
    return MatchingBasis(
        programme_id=plan.programme_id,
        programme_version=version,
        settings=settings,
        taxonomy=matcher.taxonomy,
        taxonomy_hash=receipts.hash_taxonomy(matcher.taxonomy),
        on=matcher.clock.now().date(),
    )


def _made(
    plan: PairingPlan,
    attempt: int,
    basis: MatchingBasis,
    known: Mapping[str, Numbered[ProfileChanged]],
    matcher: Matcher,
) -> Receipt | None:
    both = [_known(known.get(one.member_id), plan.programme_id) for one in (plan.senior, plan.junior)]
    senior, junior = both
    if senior is None or junior is None:
        return None
    if find_structural_conflicts(senior.member, junior.member, basis.settings, basis.on):
        return None
    id = receipt_of(plan.pairing_id, attempt)
    return receipts.issue_receipt(
        ReceiptSubject(id, plan.pairing_id, attempt, plan.origin, plan.round_id),
        basis,
        senior,
        junior,
        matcher.clock.now(),
        new_id(),
        chosen_with=plan.fit,
        chosen=plan.chosen,
    )


def _known(profile: Numbered[ProfileChanged] | None, programme_id: str) -> MemberSnapshot | None:
    member = rules.find_enrolled_member(profile.data, programme_id) if profile else None
    return MemberSnapshot(member, profile.sequence) if profile and member else None


async def _forget_the_erased(made: Sequence[Receipt], matcher: Matcher) -> None:
    """Whoever writes about people looks afterwards who is gone: their erasure may have looked before.

    Of the two themselves the reservation takes care: a pair of which one is erased is never proposed.
    """
    others = {one.member_id for receipt in made for one in receipt.chosen.runner_up.values()}
    if not others:
        return
    for id, stored in (await matcher.ledgers.get_many(sorted(others))).items():
        if stored.state.erasing:
            await forget(id, matcher)


def _document(receipt: Receipt) -> Document:
    return {**receipt.model_dump(mode="json"), "_id": receipt.receipt_id}
