"""Receipts are written before a pair is proposed: one document for each attempt.

The first receipt of an attempt stands, so two processes that work on the same attempt propose the same. The receipt of
an attempt that was given up is deleted with it. If a crash prevents that, nobody can see the receipt, since no pairing
names it. It is deleted with the first of the two members who is erased.
"""

from collections.abc import Iterable, Mapping, Sequence

from chassis.core.ids import derived_id, new_id
from chassis.erasure import write_about
from chassis.storage.projections import Numbered
from contracts.profiles import ProfileChanged
from services.matcher.context import Matcher
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.pairings.conflict import find_structural_conflicts
from services.matcher.domain.pairings.pairing import PairingPlan
from services.matcher.domain.receipts import receipt as receipts
from services.matcher.domain.receipts.receipt import MatchingBasis, MemberSnapshot, Receipt, ReceiptSubject
from services.matcher.stores.receipts import ReceiptStore


def receipt_id_of(pairing_id: str, attempt: int) -> str:
    return derived_id("receipt", pairing_id, str(attempt))


async def write_receipts(
    matcher: Matcher, plans: Sequence[PairingPlan], attempts: Mapping[str, int]
) -> Mapping[str, Receipt]:
    """Write the receipt of each plan's attempt; returns the stored receipts by pairing id.

    A pair has no receipt if one of the two no longer takes part, or if the organisation has put the two in conflict
    meanwhile. Call this while both seats are held: every later change of the organisation then reaches this pair too.
    """
    profiles = await matcher.members.numbered(
        [id for plan in plans for id in (plan.senior.member_id, plan.junior.member_id)]
    )
    bases: dict[str, MatchingBasis] = {}
    written: dict[str, Receipt] = {}
    for plan in plans:
        source = plan.round_id or plan.programme_id
        if source not in bases:
            bases[source] = await _load_basis(plan, matcher)
        receipt = _build_receipt(plan, attempts[plan.pairing_id], bases[source], profiles, matcher)
        if receipt is not None:
            written[plan.pairing_id] = receipt
    return await write_about(
        _runners_up,
        _add(written, matcher.receipts),
        find_erased=matcher.ledgers.erasing_among,
        forget=matcher.receipts.forget_member,
    )


async def _add(written: Mapping[str, Receipt], receipts: ReceiptStore) -> Mapping[str, Receipt]:
    existing = await receipts.add(list(written.values()))
    return {**written, **{receipt.pairing_id: receipt for receipt in existing}}


def _runners_up(written: Mapping[str, Receipt]) -> Iterable[str]:
    """The members that receipts name beside the two. A pair of which one is erased is never proposed anyway."""
    return {each.member_id for receipt in written.values() for each in receipt.chosen.runner_up.values()}


async def _load_basis(plan: PairingPlan, matcher: Matcher) -> MatchingBasis:
    """The settings of the plan: those with which its round began; without a round, those of today."""
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


def _build_receipt(
    plan: PairingPlan,
    attempt: int,
    basis: MatchingBasis,
    profiles: Mapping[str, Numbered[ProfileChanged]],
    matcher: Matcher,
) -> Receipt | None:
    senior = _enrolled(profiles.get(plan.senior.member_id), plan.programme_id)
    junior = _enrolled(profiles.get(plan.junior.member_id), plan.programme_id)
    if senior is None or junior is None:
        return None
    if find_structural_conflicts(senior.member, junior.member, basis.settings, basis.on):
        return None
    id = receipt_id_of(plan.pairing_id, attempt)
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


def _enrolled(profile: Numbered[ProfileChanged] | None, programme_id: str) -> MemberSnapshot | None:
    member = hard_rules.find_enrolled_member(profile.data, programme_id) if profile else None
    return MemberSnapshot(member, profile.sequence) if profile and member else None
