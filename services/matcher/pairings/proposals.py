"""Choosing a partner oneself: the shortlist, a request by name, and its acceptance."""

from collections.abc import Sequence
from datetime import date

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import KeyReused, Stored
from contracts.errors import CommandRejected, NotFound
from contracts.pairings import Origin
from contracts.profiles import ProfileChanged, Side
from contracts.programmes import ProgrammeSettings
from contracts.taxonomy import Taxonomy
from services.matcher.context import Matcher
from services.matcher.domain.fit import rules
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.fit.score import compute_fit, select_focus
from services.matcher.domain.pairings import request as requests
from services.matcher.domain.pairings.pairing import (
    RUNNING_STATES,
    UNPUBLISHED_STATES,
    Pairing,
    PairingPlan,
    build_participant,
)
from services.matcher.domain.pairings.request import PartnerRequest
from services.matcher.domain.pairings.seat_ledger import count_free_seats
from services.matcher.domain.programmes.programme import Programme
from services.matcher.pairings import reservation
from services.matcher.pairings.alternatives import chosen_among_the_free
from services.matcher.pairings.partner_search import Choice, Couple, partners, possible

NOT_POSSIBLE = CommandRejected("not_possible", "The rules of this programme do not allow this pair.")
NOT_AVAILABLE = CommandRejected("not_available", "This person cannot be asked at the moment.")


def pairing_of(request_id: str) -> str:
    """The id of the pairing that a request may become."""
    return derived_id("pairing", "request", request_id)


async def shortlist(programme: Programme, me: str, limit: int, matcher: Matcher) -> list[Choice]:
    """The best partners who are free now, the best first. Raises ``CommandRejected``."""
    own = await _myself(programme, me, matcher)
    return await partners(programme, own, limit, matcher)


async def ask(programme: Programme, me: str, partner: str, op: Op, matcher: Matcher) -> Stored[PartnerRequest]:
    """Ask somebody by name. Raises ``CommandRejected``, but never because they would avoid ``me``."""
    request_id = derived_id("request", op.key)
    made = await matcher.requests.get(request_id)
    if made is not None:
        if made.state.state == "erased":
            raise NotFound("request")
        if made.state.asked != partner:
            raise KeyReused("this idempotency key was used for another request")
        return made
    own = await _myself(programme, me, matcher)
    if partner in own.profile.avoid:
        raise CommandRejected("rather_not", "You have said that you would rather not be paired with this person.")
    profile = await matcher.members.get(partner)
    other = rules.find_enrolled_member(profile, programme.programme_id) if profile else None
    today = matcher.clock.now().date()
    if (
        other is None
        or rules.find_absence_reason(other.profile, programme.programme_id, programme.settings, today) is not None
    ):
        raise NOT_AVAILABLE
    places = await matcher.ledgers.free_seats([own.profile, other.profile], programme.programme_id)
    if me not in places:
        raise CommandRejected("no_seat", "All your places are taken.")
    if partner not in places:
        raise NOT_AVAILABLE
    earlier = await matcher.pairings.earlier_pairs(of=[me])
    couple = _couple(own, other, programme.settings, matcher.taxonomy, today, earlier)
    if couple is None:
        raise NOT_POSSIBLE
    now = matcher.clock.now()
    if any(_again(known.state, request_id, programme, partner) for known in await matcher.requests.of_member(me)):
        raise CommandRejected("already_asked", "You have asked this person before.")
    side: Side = "senior" if couple.senior.id == me else "junior"
    days = programme.settings.matching.answer_within_working_days
    saved = await matcher.requests.update(
        request_id,
        op,
        lambda state: requests.open_request(
            state,
            request_id,
            programme.programme_id,
            (me, partner),
            side,
            days,
            now,
            hidden=me in other.profile.avoid,
        ),
    )
    await _forget_the_erased(request_id, (me, partner), matcher)
    return Stored(request_id, saved.require_state(), saved.version)


async def _forget_the_erased(request_id: str, people: tuple[str, str], matcher: Matcher) -> None:
    """Whoever writes about people looks afterwards who is gone: their erasure may have looked before."""
    for id, stored in (await matcher.ledgers.get_many(people)).items():
        if stored.state.erasing:
            await matcher.requests.update(
                request_id,
                Op.once(),
                lambda state: requests.erase_member(state, id) if state else None,  # noqa: B023 - used at once
            )
            raise NotFound("member of this programme")


def _again(known: PartnerRequest, request_id: str, programme: Programme, partner: str) -> bool:
    """Whether this is another request to somebody who has been asked and has not said yes: nobody is asked twice."""
    same = known.asked == partner and known.programme_id == programme.programme_id
    return same and known.request_id != request_id and known.state in ("open", "lapsed")


async def accept(request_id: str, me: str, matcher: Matcher) -> tuple[PartnerRequest, Pairing]:
    """Form the pairing if both have a seat and the rules allow it. Raises ``CommandRejected``; then it stays open."""
    stored = await matcher.requests.get(request_id)
    now = matcher.clock.now()
    known = stored.state if stored else None
    if known is not None and known.asked == me and known.state == "accepted" and known.pairing_id is not None:
        formed = await matcher.pairings.get(known.pairing_id)
        if formed is not None:
            return known, formed.state
    request = requests.require_open_request(known, me, now)
    programme = (await matcher.programmes.load(request.programme_id)).state
    plan = await _plan_of(request, programme, matcher)
    outcome = (await reservation.reserve(matcher, [plan], agreed=True))[plan.pairing_id]
    if isinstance(outcome, CommandRejected):
        raise outcome
    saved = await matcher.requests.update(
        request_id, Op.once(), lambda state: requests.accept_request(state, plan.pairing_id) if state else None
    )
    return saved.require_state(), outcome


async def look_again(found: Sequence[PartnerRequest], programme: Programme, matcher: Matcher) -> list[str]:
    """Let lapse what can no longer come about; returns the ids of those that are to be looked at once more.

    They are being accepted at this moment, the database does not know all yet that was said of the two, or a place that
    is wanted may be given back any moment.
    """
    people = sorted({id for one in found for id in (one.asker, one.asked)})
    waits = await matcher.partners.ahead_of(matcher.members, people)
    profiles = await matcher.members.get_many(people)
    ledgers = {id: stored.state for id, stored in (await matcher.ledgers.get_many(people)).items()}
    places = count_free_seats(ledgers, profiles.values(), programme.programme_id)
    waits |= await reservation.in_doubt(matcher, [ledger for id, ledger in ledgers.items() if id not in places])
    pairings = await matcher.pairings.get_many([pairing_of(one.request_id) for one in found])
    later: list[str] = []
    for one in found:
        pairing = pairings.get(pairing_of(one.request_id))
        if waits.intersection((one.asker, one.asked)) or (pairing and pairing.state.state == "reserving"):
            later.append(one.request_id)
            continue
        formed = pairing.id if pairing is not None and pairing.state.state in RUNNING_STATES else None
        both = profiles.get(one.asker), profiles.get(one.asked)
        may = places.keys() >= {one.asker, one.asked} and _still_possible(one, both, programme, matcher)
        rather_not = [
            me is not None and other in me.avoid for me, other in zip(both, (one.asked, one.asker), strict=True)
        ]

        def decide(state: PartnerRequest | None) -> requests.Decision | None:
            if state is None:
                return None
            if formed is not None and state.state == "open":  # noqa: B023 - used at once, as the others are
                return requests.accept_request(state, formed)  # noqa: B023
            return requests.reassess_request(
                state,
                possible=may,  # noqa: B023
                asker_would_rather_not=rather_not[0],  # noqa: B023
                asked_would_rather_not=rather_not[1],  # noqa: B023
            )

        await matcher.requests.update(one.request_id, Op.once(), decide)
    return later


def _still_possible(
    request: PartnerRequest,
    both: tuple[ProfileChanged | None, ProfileChanged | None],
    programme: Programme,
    matcher: Matcher,
) -> bool:
    """Whether the two, asker and asked, are there, and no rule that anybody may know of forbids the pair."""
    today = matcher.clock.now().date()
    people = [rules.find_enrolled_member(one, programme.programme_id) if one is not None else None for one in both]
    asker, asked = people
    if programme.state != "open" or asker is None or asked is None:
        return False
    if any(
        rules.find_absence_reason(one.profile, programme.programme_id, programme.settings, today)
        for one in (asker, asked)
    ):
        return False
    senior, junior = (asker, asked) if request.asker_side == "senior" else (asked, asker)
    earlier = matcher.partners.earlier(senior.id)
    return not rules.drop_private_rules(rules.find_broken_rules(senior, junior, programme.settings, today, earlier))


async def put_together(programme: Programme, senior_id: str, junior_id: str, op: Op, matcher: Matcher) -> Pairing:
    """A coordinator proposes two people to each other. Raises ``CommandRejected``, in the same words for every rule."""
    pairing_id = derived_id("pairing", "coordinator", op.key)
    return await propose(programme, (senior_id, junior_id), pairing_id, "coordinator", matcher)


async def propose(
    programme: Programme, pair: tuple[str, str], pairing_id: str, origin: Origin, matcher: Matcher
) -> Pairing:
    """Ask two people, senior and junior, if all still holds. Raises ``CommandRejected``, the same text for every rule.

    Repeated under the same ``pairing_id`` it proposes nothing twice; for another pair it raises ``KeyReused``.
    """
    senior_id, junior_id = pair
    known = await matcher.pairings.get(pairing_id)
    if known is not None and known.state.state not in UNPUBLISHED_STATES:
        if (known.state.plan.senior.member_id, known.state.plan.junior.member_id) != (senior_id, junior_id):
            raise KeyReused("this idempotency key was used for another pair")
        return known.state
    profiles = await matcher.members.get_many([senior_id, junior_id])
    today = matcher.clock.now().date()
    senior, junior = (
        rules.find_enrolled_member(profiles[id], programme.programme_id) if id in profiles else None
        for id in (senior_id, junior_id)
    )
    if senior is None or junior is None:
        raise NotFound("member of this programme")
    for one in (senior, junior):
        absent = rules.find_absence_reason(one.profile, programme.programme_id, programme.settings, today)
        if absent is not None:
            raise CommandRejected(absent, rules.REASON_TEXTS[absent])
    earlier = _others(await matcher.pairings.earlier_pairs(of=[senior_id]), senior_id)
    couple = possible(senior, junior, programme.settings, matcher.taxonomy, today, earlier)
    if couple is None:
        raise NOT_POSSIBLE
    plan = await _plan(pairing_id, programme, couple, origin, matcher)
    outcome = (await reservation.reserve(matcher, [plan]))[plan.pairing_id]
    if isinstance(outcome, CommandRejected):
        raise outcome
    return outcome


async def _myself(programme: Programme, me: str, matcher: Matcher) -> Member:
    if programme.state != "open" or not programme.settings.matching.shortlist:
        raise CommandRejected("no_shortlist", "In this programme partners are proposed by the coordinators.")
    profile = await matcher.members.get(me)
    own = rules.find_enrolled_member(profile, programme.programme_id) if profile else None
    if profile is None or own is None:
        raise CommandRejected("not_enrolled", "You do not take part in this programme.")
    absent = rules.find_absence_reason(profile, programme.programme_id, programme.settings, matcher.clock.now().date())
    if absent is not None:
        raise CommandRejected(absent, "Finish signing up, or wait until you are back, to choose a partner.")
    return own


async def _plan_of(request: PartnerRequest, programme: Programme, matcher: Matcher) -> PairingPlan:
    profiles = await matcher.members.get_many([request.asker, request.asked])
    today = matcher.clock.now().date()
    people = [
        rules.find_enrolled_member(profiles[id], programme.programme_id) if id in profiles else None
        for id in (request.asker, request.asked)
    ]
    if programme.state != "open" or any(
        one is None or rules.find_absence_reason(one.profile, programme.programme_id, programme.settings, today)
        for one in people
    ):
        raise reservation.OVER
    asker, asked = people
    assert asker is not None, "both are enrolled"
    assert asked is not None, "both are enrolled"
    pairing_id = pairing_of(request.request_id)
    known = await matcher.pairings.get(pairing_id)
    if known is not None and known.state.state not in UNPUBLISHED_STATES:
        return known.state.plan
    senior, junior = (asker, asked) if request.asker_side == "senior" else (asked, asker)
    earlier = await matcher.pairings.earlier_pairs(of=[request.asker])
    if rules.find_broken_rules(senior, junior, programme.settings, today, _others(earlier, senior.id)):
        raise reservation.OVER
    found = compute_fit(senior, junior, programme.settings, matcher.taxonomy, today)
    plan = await _plan(pairing_id, programme, Couple(senior, junior, found), "request", matcher)
    return plan.model_copy(update={"request_id": request.request_id})


def _couple(
    one: Member,
    other: Member,
    settings: ProgrammeSettings,
    taxonomy: Taxonomy,
    on: date,
    earlier: set[tuple[str, str]],
) -> Couple | None:
    """The better way round in which ``one`` and ``other`` may be paired, whoever would rather not; None if neither."""
    found: list[Couple] = []
    for senior, junior in ((one, other), (other, one)):
        if senior.enrolment.side == "junior" or junior.enrolment.side == "senior":
            continue
        again = _others(earlier, senior.id)
        parts = compute_fit(senior, junior, settings, taxonomy, on)
        if not rules.drop_private_rules(
            rules.find_broken_rules(senior, junior, settings, on, again)
        ) and not parts.find_shortfalls(settings):
            found.append(Couple(senior, junior, parts))
    return max(found, key=lambda couple: couple.fit.score, default=None)


def _others(pairs: set[tuple[str, str]], of: str) -> list[str]:
    """Who stands in a pair with this member."""
    return [id for pair in pairs if of in pair for id in pair if id != of]


async def _plan(pairing_id: str, programme: Programme, couple: Couple, origin: Origin, matcher: Matcher) -> PairingPlan:
    senior, junior = couple.senior.profile, couple.junior.profile
    settings, on = programme.settings, matcher.clock.now().date()
    why = build_reasons(senior, junior, settings, matcher.taxonomy, on)
    return PairingPlan(
        pairing_id=pairing_id,
        programme_id=programme.programme_id,
        programme_version=programme.settings_version,
        origin=origin,
        senior=build_participant(senior, "senior"),
        junior=build_participant(junior, "junior"),
        focus=select_focus(senior, junior, settings.matching.benefit, matcher.taxonomy),
        reasons={side: tuple(texts) for side, texts in why.items()},
        fit=couple.fit,
        answer_within_working_days=settings.matching.answer_within_working_days,
        duration_months=settings.meetings.duration_months,
        chosen=await chosen_among_the_free(
            programme,
            couple.senior,
            couple.junior,
            couple.fit.score,
            matcher,
            overridden=origin == "coordinator",
        ),
    )
