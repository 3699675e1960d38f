"""Pairs that people choose: a member's shortlist, requests by name and their acceptance, and direct proposals."""

from collections.abc import Sequence

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import KeyReused, Stored
from contracts.days import end_of_working_day
from contracts.envelope import Envelope
from contracts.errors import CommandRejected, NotFound
from contracts.pairings import Origin
from contracts.profiles import ProfileChanged, Side
from services.matcher.context import Matcher
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.eligibility import (
    EligiblePair,
    assess,
    assess_either_way,
    list_earlier_partners,
)
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.fit.private_wish import would_rather_not
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.score import select_focus
from services.matcher.domain.pairings import request as requests
from services.matcher.domain.pairings.pairing import (
    RUNNING_STATES,
    UNPUBLISHED_STATES,
    Pairing,
    PairingPlan,
    build_participant,
    zones_of,
)
from services.matcher.domain.pairings.request import PartnerRequest
from services.matcher.domain.pairings.seat_ledger import count_free_seats
from services.matcher.domain.programmes.programme import Programme
from services.matcher.pairings import reservation
from services.matcher.pairings.partner_search import Choice, find_partners, find_runners_up
from services.matcher.stores.pairings import RequestStore

NOT_POSSIBLE = CommandRejected("not_possible", "The rules of this programme do not allow this pair.")
NOT_AVAILABLE = CommandRejected("not_available", "This person cannot be asked at the moment.")


def pairing_id_of(request_id: str) -> str:
    """The id of the pairing that a request may become."""
    return derived_id("pairing", "request", request_id)


async def find_shortlist(programme: Programme, me: str, limit: int, matcher: Matcher) -> list[Choice]:
    """The best partners who are free now, best first, without those whom the member would rather not be paired with.

    Raises ``CommandRejected``.
    """
    own = await _load_chooser(programme, me, matcher)
    return await find_partners(programme, own, limit, matcher, excluded=own.profile.avoid)


async def create_request(
    programme: Programme, me: str, partner: str, op: Op, matcher: Matcher
) -> Stored[PartnerRequest]:
    """Ask a member by name. Raises ``CommandRejected``, but not because the member would rather not be paired."""
    request_id = derived_id("request", op.key)
    existing = await matcher.requests.get(request_id)
    if existing is not None:
        if existing.state.state == "erased":
            raise NotFound("request")
        if existing.state.asked != partner:
            raise KeyReused("this idempotency key was used for another request")
        return existing
    couple = await _assess_request(programme, me, partner, matcher)
    moment = matcher.clock.moment()
    for stored in await matcher.requests.of_member(me):
        if _is_repeated(stored.state, request_id, programme, partner):
            raise CommandRejected("already_asked", "You have asked this person before.")
    side: Side = "senior" if couple.senior.id == me else "junior"
    zones = zones_of(couple.senior.profile, couple.junior.profile)
    days, working = programme.settings.matching.answer_within_working_days, programme.settings.working_days
    answer_by = end_of_working_day(moment.now, days, zones.values(), working)
    saved = await matcher.requests.update(
        request_id,
        op,
        lambda state: requests.open_request(
            state, request_id, programme.programme_id, (me, partner), side, answer_by, moment
        ),
    )
    await _forget_erased(request_id, (me, partner), matcher)
    return Stored(request_id, saved.require_state(), saved.version)


async def _assess_request(programme: Programme, me: str, partner: str, matcher: Matcher) -> EligiblePair:
    """The two on the sides that fit better. Raises ``CommandRejected``."""
    own = await _load_chooser(programme, me, matcher)
    if would_rather_not(own.profile, partner):
        raise CommandRejected("rather_not", "You have said that you would rather not be paired with this person.")
    today = matcher.clock.now().date()
    other = await matcher.members.get(partner)
    if (
        other is None
        or hard_rules.find_absence_reason(other, programme.programme_id, programme.settings, today) is not None
    ):
        raise NOT_AVAILABLE
    seats = await matcher.ledgers.free_seats([own.profile, other], programme.programme_id)
    if me not in seats:
        raise CommandRejected("no_seat", "All your places are taken.")
    if partner not in seats:
        raise NOT_AVAILABLE
    earlier = await matcher.pairings.earlier_pairs(of=[me])
    couple = assess_either_way(own.profile, other, matcher.current_terms(programme), earlier)
    if couple is None:
        raise NOT_POSSIBLE
    return couple


async def _forget_erased(request_id: str, members: tuple[str, str], matcher: Matcher) -> None:
    """Forget the request if an erasure of either began before it was saved. Raises ``NotFound`` then."""
    erasing = await matcher.ledgers.erasing_among(members)
    for member_id in erasing:
        await forget_in_request(matcher.requests, request_id, member_id)
    if erasing:
        raise NotFound("member of this programme")


async def forget_in_request(
    store: RequestStore, request_id: str, member_id: str, cause: Envelope | None = None
) -> None:
    await store.update(
        request_id,
        Op.once(),
        lambda request: requests.erase_member(request, member_id) if request else None,
        cause=cause,
    )


def _is_repeated(request: PartnerRequest, request_id: str, programme: Programme, partner: str) -> bool:
    """Whether this is an earlier request to the same member that was not accepted. Nobody is asked twice."""
    same = request.asked == partner and request.programme_id == programme.programme_id
    return same and request.request_id != request_id and request.state in ("open", "lapsed")


async def accept_request(request_id: str, me: str, matcher: Matcher) -> tuple[PartnerRequest, Pairing]:
    """Form the pairing, if both have a free seat and the rules still allow it.

    Raises ``CommandRejected``; the request then stays open.
    """
    stored = await matcher.requests.get(request_id)
    existing = stored.state if stored else None
    if existing is not None and existing.asked == me and existing.state == "accepted" and existing.pairing_id:
        formed = await matcher.pairings.get(existing.pairing_id)
        if formed is not None:
            return existing, formed.state
    request = requests.require_open_request(existing, me, await matcher.members.get(me), matcher.clock.now())
    programme = (await matcher.programmes.load(request.programme_id)).state
    plan = await _plan_of_request(request, programme, matcher)
    pairing = await reservation.reserve_pair(matcher, plan, agreed=True)
    moment = matcher.clock.moment()
    saved = await matcher.requests.update(
        request_id, Op.once(), lambda state: requests.accept_request(state, plan.pairing_id, moment) if state else None
    )
    return saved.require_state(), pairing


async def recheck_requests(batch: Sequence[PartnerRequest], programme: Programme, matcher: Matcher) -> list[str]:
    """Let requests lapse that can no longer succeed; returns the ids of those to check again.

    A request is checked again if it is being accepted at this moment, if the database is behind the replica for one
    of the two, or if a seat that it needs may be given back at any moment.
    """
    members = sorted({id for request in batch for id in (request.asker, request.asked)})
    unsettled = await matcher.partners.ahead_of(matcher.members, members)
    profiles = await matcher.members.get_many(members)
    ledgers = {id: stored.state for id, stored in (await matcher.ledgers.get_many(members)).items()}
    seats = count_free_seats(ledgers, profiles.values(), programme.programme_id)
    full = [ledger for id, ledger in ledgers.items() if id not in seats]
    unsettled |= await reservation.members_in_doubt(matcher.pairings, full)
    pairings = await matcher.pairings.get_many([pairing_id_of(request.request_id) for request in batch])
    postponed: list[str] = []
    for request in batch:
        stored = pairings.get(pairing_id_of(request.request_id))
        pairing = stored.state if stored is not None else None
        both = profiles.get(request.asker), profiles.get(request.asked)
        if unsettled.intersection((request.asker, request.asked)) or (pairing and pairing.state == "reserving"):
            postponed.append(request.request_id)
            continue
        have_seats = seats.keys() >= {request.asker, request.asked}
        possible = have_seats and _is_still_possible(request, both, programme, matcher)
        await _recheck_request(request, pairing, matcher, is_possible=possible)
    return postponed


async def _recheck_request(
    request: PartnerRequest, pairing: Pairing | None, matcher: Matcher, *, is_possible: bool
) -> None:
    """Save what follows for one request."""
    moment = matcher.clock.moment()
    formed = pairing is not None and pairing.state in RUNNING_STATES

    def decide(state: PartnerRequest | None) -> requests.Decision | None:
        if state is None:
            return None
        if formed and state.state == "open":
            return requests.accept_request(state, pairing_id_of(request.request_id), moment)
        return requests.reassess_request(state, moment, is_possible=is_possible)

    await matcher.requests.update(request.request_id, Op.once(), decide)


def _is_still_possible(
    request: PartnerRequest,
    both: tuple[ProfileChanged | None, ProfileChanged | None],
    programme: Programme,
    matcher: Matcher,
) -> bool:
    """Whether both are present, and no rule forbids the pair."""
    if programme.state != "open":
        return False
    senior, junior = both if request.asker_side == "senior" else both[::-1]
    earlier = matcher.partners.earlier(senior.member_id) if senior is not None else ()
    eligibility = assess(senior, junior, matcher.current_terms(programme), earlier)
    return eligibility.members is not None and not eligibility.broken_rules


async def propose(
    programme: Programme, pair: tuple[str, str], pairing_id: str, origin: Origin, matcher: Matcher
) -> Pairing:
    """Propose a senior and a junior to each other. Raises ``CommandRejected``, with one text for every rule.

    It may be repeated with the same ``pairing_id``; for another pair it then raises ``KeyReused``.
    """
    senior_id, junior_id = pair
    existing = await matcher.pairings.get(pairing_id)
    if existing is not None and existing.state.state not in UNPUBLISHED_STATES:
        if (existing.state.plan.senior.member_id, existing.state.plan.junior.member_id) != pair:
            raise KeyReused("this idempotency key was used for another pair")
        return existing.state
    profiles = await matcher.members.get_many([senior_id, junior_id])
    earlier = list_earlier_partners(await matcher.pairings.earlier_pairs(of=[senior_id]), senior_id)
    eligibility = assess(profiles.get(senior_id), profiles.get(junior_id), matcher.current_terms(programme), earlier)
    if eligibility.senior.member is None or eligibility.junior.member is None:
        raise NotFound("member of this programme")
    if eligibility.absence is not None:
        raise CommandRejected(eligibility.absence, hard_rules.REASON_TEXTS[eligibility.absence])
    couple = eligibility.find_pair()
    if couple is None:
        raise NOT_POSSIBLE
    return await reservation.reserve_pair(matcher, await _plan(pairing_id, programme, couple, origin, matcher))


async def _load_chooser(programme: Programme, me: str, matcher: Matcher) -> Member:
    """The member who chooses a partner. Raises ``CommandRejected`` where members do not choose, or this one cannot."""
    if programme.state != "open" or not programme.settings.matching.shortlist:
        raise CommandRejected("no_shortlist", "In this programme partners are proposed by the coordinators.")
    profile = await matcher.members.get(me)
    own = hard_rules.find_enrolled_member(profile, programme.programme_id) if profile else None
    if profile is None or own is None:
        raise CommandRejected("not_enrolled", "You do not take part in this programme.")
    absent = hard_rules.find_absence_reason(
        profile, programme.programme_id, programme.settings, matcher.clock.now().date()
    )
    if absent is not None:
        raise CommandRejected(absent, "Finish signing up, or wait until you are back, to choose a partner.")
    return own


async def _plan_of_request(request: PartnerRequest, programme: Programme, matcher: Matcher) -> PairingPlan:
    """The plan of the pairing that the request becomes. Raises ``CommandRejected`` if it is no longer possible."""
    profiles = await matcher.members.get_many([request.asker, request.asked])
    both = profiles.get(request.asker), profiles.get(request.asked)
    senior, junior = both if request.asker_side == "senior" else both[::-1]
    proposed = await matcher.pairings.earlier_pairs(of=[request.asker])
    earlier = list_earlier_partners(proposed, senior.member_id) if senior is not None else ()
    eligibility = assess(senior, junior, matcher.current_terms(programme), earlier)
    if programme.state != "open" or eligibility.members is None or eligibility.fit is None:
        raise reservation.NO_LONGER_POSSIBLE
    pairing_id = pairing_id_of(request.request_id)
    existing = await matcher.pairings.get(pairing_id)
    if existing is not None and existing.state.state not in UNPUBLISHED_STATES:
        return existing.state.plan
    if eligibility.broken_rules:
        raise reservation.NO_LONGER_POSSIBLE
    couple = EligiblePair(*eligibility.members, eligibility.fit)
    plan = await _plan(pairing_id, programme, couple, "request", matcher)
    return plan.model_copy(update={"request_id": request.request_id})


async def _plan(
    pairing_id: str, programme: Programme, couple: EligiblePair, origin: Origin, matcher: Matcher
) -> PairingPlan:
    senior, junior = couple.senior.profile, couple.junior.profile
    settings, today = programme.settings, matcher.clock.now().date()
    texts = build_reasons(senior, junior, settings, matcher.taxonomy, today)
    return PairingPlan(
        pairing_id=pairing_id,
        programme_id=programme.programme_id,
        programme_version=programme.settings_version,
        origin=origin,
        senior=build_participant(senior, "senior"),
        junior=build_participant(junior, "junior"),
        focus=select_focus(senior, junior, settings.matching.benefit, matcher.taxonomy),
        reasons={side: tuple(sentences) for side, sentences in texts.items()},
        fit=couple.fit,
        answer_within_working_days=settings.matching.answer_within_working_days,
        duration_months=settings.meetings.duration_months,
        zones=zones_of(senior, junior),
        working_days=settings.working_days,
        ends=settings.ends,
        chosen=await find_runners_up(programme, couple, matcher, overridden=origin == "coordinator"),
    )
