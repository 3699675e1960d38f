"""Looking after programmes while people come and go: the next suggestion, and what is no longer possible.

Each programme is looked after by one replica, under a claim that it renews. The pool tells it about whom something has
changed; it looks at their state now, never at what changed, so the newest state wins and nothing need be remembered
over a crash: whoever takes a programme over looks at everybody once. A turn is bounded, whatever has come in.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from chassis.core.commands import Op
from chassis.core.ids import new_id
from chassis.observability.telemetry import safe_message
from contracts.errors import CommandRejected
from services.matcher.context import Matcher
from services.matcher.domain.fit import rules
from services.matcher.domain.pairings.pairing import UNPUBLISHED_STATES
from services.matcher.domain.pairings.seat_ledger import SeatLedger, compute_seat_limits
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rolling import programme_claim as watches
from services.matcher.domain.rolling import suggestion as suggested
from services.matcher.domain.rolling.programme_claim import ProgrammeClaim
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.pairings import proposals
from services.matcher.pairings.partner_search import Choice, find_partners
from services.matcher.rolling.suggestions import Standing, couple_of, forget_the_erased, pairing_of, suggestion_id

log = logging.getLogger(__name__)

NEWS = 500  # people about whom a turn hears
REQUESTS = 100  # requests that it looks at again
LOOKING = 0.5  # seconds in which it looks for partners
WAITING = 500  # suggestions that may wait for a programme's coordinators; more would only grow old
TOGETHER = 0.2  # seconds between two turns, so that what changes in one moment is looked at together
LEAVE = 5.0  # seconds in which claims are given back at the end
QUIET = 1.0  # seconds of rest where nothing changes: the claim is renewed, and what is unsettled looked at again


@dataclass
class Keeping:
    """A programme that this replica looks after, under the claim ``holder``.

    ``todo``: for whom to look for a partner; ``unsettled``: for whom to try again, since a seat of theirs is given back
    or taken at this moment. ``doubtful``: requests to be looked at again. ``seen``: the settings' version, the state
    and the day under which everybody was looked at.
    """

    programme_id: str
    holder: str
    todo: set[str] = field(default_factory=set)
    unsettled: set[str] = field(default_factory=set)
    doubtful: list[str] = field(default_factory=list)
    standing: Standing = field(default_factory=lambda: Standing({}, {}))
    seen: tuple[int, str, date] | None = None
    stirred: int = -1


async def run_worker(matcher: Matcher) -> None:
    """Look after every programme that nobody else looks after; never ends."""
    await matcher.partners.wait_until_complete()
    kept: dict[str, Keeping] = {}
    try:
        while True:
            matcher.partners.changed.clear()
            started = time.monotonic()
            await _claim(kept, matcher)
            busy = False
            for keeping in list(kept.values()):
                busy |= await _turn_of(keeping, kept, matcher)
            await _rest(matcher, busy, time.monotonic() - started)
    finally:
        await _hand_over(kept, matcher)


async def _hand_over(kept: dict[str, Keeping], matcher: Matcher) -> None:
    """Give back every claim, so that another replica goes on at once; what the store does not hear of lapses."""
    try:
        async with asyncio.timeout(LEAVE):
            for keeping in list(kept.values()):
                await _give_back(keeping, kept, matcher)
    except Exception as error:  # noqa: BLE001 - leaving must end, whatever state the store is in
        log.warning("a programme is taken up by others only when its claim has lapsed: %s", safe_message(error))


async def _rest(matcher: Matcher, busy: bool, took: float) -> None:
    """As long as a turn took, so that requests have their share, or with nothing left to do a while; in both cases no
    longer than until something changes, since who comes now is looked at first."""
    await asyncio.sleep(TOGETHER)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(took, QUIET) if busy else QUIET):
            await matcher.partners.changed.wait()


async def _claim(kept: dict[str, Keeping], matcher: Matcher) -> None:
    machine = matcher.clock.machine_now()
    async for stored in matcher.claims.find({"active": True}):
        lease = stored.state.lease
        if stored.id in kept or (lease is not None and lease > machine):
            continue
        holder = new_id()
        saved = await matcher.claims.update(
            stored.id,
            Op.once(),
            lambda state: watches.take_claim(state, holder, machine),  # noqa: B023 - used at once
        )
        if saved.changed:
            kept[stored.id] = Keeping(stored.id, holder)
            matcher.partners.subscribe(stored.id)


async def _turn_of(keeping: Keeping, kept: dict[str, Keeping], matcher: Matcher) -> bool:
    """Whether there is more to do. What fails is given back, and taken up anew."""
    try:
        return await turn(keeping, kept, matcher)
    except Exception:
        log.exception("a programme could not be looked after; it is taken up again", extra={"of": keeping.programme_id})
        await _give_back(keeping, kept, matcher)
        return False


async def turn(keeping: Keeping, kept: dict[str, Keeping], matcher: Matcher) -> bool:
    """One bounded step; whether there is more to do."""
    machine = matcher.clock.machine_now()
    watch = (
        await matcher.claims.update(
            keeping.programme_id, Op.once(), lambda state: watches.renew_claim(state, keeping.holder, machine)
        )
    ).state
    if watch is None or watch.holder != keeping.holder:
        _drop(keeping, kept, matcher)
        return False
    programme = (await matcher.programmes.load(keeping.programme_id)).state
    await _look_around(keeping, programme, watch, matcher)
    news, others = await _news(keeping, matcher)
    keeping.todo.update(news)
    await _look_at_requests(keeping, programme, news, matcher)
    await _look_at_suggestions(keeping, programme, news, matcher)
    more = await _suggest(keeping, programme, matcher) if _rolling(programme) else False
    if not _wanted(programme) and not keeping.doubtful and not keeping.standing.open:
        await _give_back(keeping, kept, matcher, stirred=watch.stirred)
    return more or others or bool(keeping.doubtful)


def _wanted(programme: Programme) -> bool:
    """Whether anything happens in it beside rounds."""
    return programme.state == "open" and (_rolling(programme) or programme.settings.matching.shortlist)


def _rolling(programme: Programme) -> bool:
    return programme.state == "open" and programme.settings.matching.mode == "rolling"


async def _give_back(keeping: Keeping, kept: dict[str, Keeping], matcher: Matcher, stirred: int | None = None) -> None:
    _drop(keeping, kept, matcher)
    await matcher.claims.update(
        keeping.programme_id, Op.once(), lambda state: watches.release_claim(state, keeping.holder, stirred=stirred)
    )


def _drop(keeping: Keeping, kept: dict[str, Keeping], matcher: Matcher) -> None:
    kept.pop(keeping.programme_id, None)
    matcher.partners.unsubscribe(keeping.programme_id)


async def _look_around(keeping: Keeping, programme: Programme, watch: ProgrammeClaim, matcher: Matcher) -> None:
    """What concerns everybody: other rules, another day, a decision of a coordinator."""
    today = matcher.clock.now().date()
    seen = (programme.settings_version, programme.state, today)
    if keeping.stirred != watch.stirred:
        before, keeping.stirred = keeping.standing, watch.stirred
        keeping.standing = Standing.of(await matcher.suggestions.standing_in(keeping.programme_id))
        gone = before.open.keys() - keeping.standing.open.keys()
        keeping.todo.update(id for one in gone for id in before.open[one].members)
    if keeping.seen != seen:
        keeping.seen = seen
        matcher.partners.mark_changed(
            keeping.programme_id, [id for one in keeping.standing.open.values() for id in one.members]
        )
        keeping.doubtful = [stored.id for stored in await matcher.requests.open_in(keeping.programme_id)]
        async with matcher.partners.lock:
            keeping.todo.update(matcher.partners.index(programme))


async def _news(keeping: Keeping, matcher: Matcher) -> tuple[list[str], bool]:
    """About whom something has changed, as far as the database knows it too, and whether there are others; those whom
    the database does not know yet wait until it does."""
    told = matcher.partners.pop_changed(keeping.programme_id, NEWS)
    others = matcher.partners.has_changed(keeping.programme_id)
    late = await matcher.partners.ahead_of(matcher.members, told)
    matcher.partners.mark_changed(keeping.programme_id, late)
    return sorted(set(told) - late), others


async def _look_at_requests(keeping: Keeping, programme: Programme, news: Sequence[str], matcher: Matcher) -> None:
    """Requests lapse when one of the two cannot be paired any longer."""
    known = set(keeping.doubtful)
    touched = await matcher.requests.open_in(keeping.programme_id, news) if news else []
    keeping.doubtful += [stored.id for stored in touched if stored.id not in known]
    now, keeping.doubtful = keeping.doubtful[:REQUESTS], keeping.doubtful[REQUESTS:]
    if not now:
        return
    found = [stored.state for stored in (await matcher.requests.get_many(now)).values()]
    keeping.doubtful += await proposals.recheck_requests(found, programme, matcher)


async def _look_at_suggestions(keeping: Keeping, programme: Programme, news: Sequence[str], matcher: Matcher) -> None:
    concerned = [one for one in keeping.standing.open.values() if not set(news).isdisjoint(one.members)]
    await _lapse_what_is_over(keeping, concerned, programme, matcher)


async def _lapse_what_is_over(
    keeping: Keeping, some: Sequence[Suggestion], programme: Programme, matcher: Matcher
) -> None:
    """Those of ``some`` that are no longer possible lapse, and both are looked at anew.

    Where somebody has fewer places than suggestions by now, the newest ones go.
    """
    if not some:
        return
    people = sorted({id for one in some for id in one.members})
    profiles = await matcher.members.get_many(people)
    places = await matcher.ledgers.free_seats(list(profiles.values()), programme.programme_id)
    promised = keeping.standing.promised()
    for one in sorted(some, key=lambda one: (one.made_at, one.suggestion_id), reverse=True):
        roomy = all(places.get(id, 0) >= promised[id] for id in one.members)
        if roomy and _rolling(programme) and couple_of(one, profiles, programme, matcher) is not None:
            continue
        promised.subtract(one.members)
        await _lapse(keeping, one, matcher)


async def _lapse(keeping: Keeping, one: Suggestion, matcher: Matcher) -> None:
    """A pairing that it became before a crash came makes it a released one."""
    pairing = await matcher.pairings.get(pairing_of(one.programme_id, *one.members))
    became = pairing.id if pairing is not None and pairing.state.state not in UNPUBLISHED_STATES else None
    machine = matcher.clock.machine_now()

    def decide(state: Suggestion | None) -> suggested.Decision | None:
        if state is None:
            return None
        return (
            suggested.lapse_suggestion(state)
            if became is None
            else suggested.release_suggestion(state, became, machine)
        )

    saved = await matcher.suggestions.update(one.suggestion_id, Op.once(), decide)
    keeping.standing.drop(one)
    if saved.state is not None and saved.state.state != "lapsed":
        keeping.standing.add(saved.state)
    keeping.todo.update(one.members)


async def _suggest(keeping: Keeping, programme: Programme, matcher: Matcher) -> bool:
    """Look for partners for some of those whose turn it is; whether others are left for whom to look at once."""
    if not keeping.todo:
        keeping.todo, keeping.unsettled = keeping.unsettled, set()
    if not keeping.todo or len(keeping.standing.open) >= WAITING:
        return False
    today = matcher.clock.now().date()
    until = time.monotonic() + LOOKING
    promised = keeping.standing.promised()
    async with matcher.partners.lock:
        index = matcher.partners.index(programme)
        turns = await asyncio.to_thread(index.order_by_wait, keeping.todo, programme.settings, today, promised)
    keeping.todo.intersection_update(turns)
    for id in turns:
        if time.monotonic() > until or len(keeping.standing.open) >= WAITING:
            break
        keeping.todo.discard(id)
        if not await _look_for(id, keeping, programme, matcher):
            keeping.unsettled.add(id)
    return bool(keeping.todo)


async def _look_for(id: str, keeping: Keeping, programme: Programme, matcher: Matcher) -> bool:
    """Suggest the best partner to somebody, for as many places as they have; False where it is to be tried again."""
    if id in await matcher.partners.ahead_of(matcher.members, [id]):
        return False
    profile = await matcher.members.get(id)
    me = rules.find_enrolled_member(profile, programme.programme_id) if profile is not None else None
    today = matcher.clock.now().date()
    if (
        me is None
        or rules.find_absence_reason(me.profile, programme.programme_id, programme.settings, today) is not None
    ):
        return True
    stored = await matcher.ledgers.get(id)
    ledger = stored.state if stored is not None else SeatLedger(member_id=id)
    promised = keeping.standing.promised()
    places = (
        ledger.count_free(compute_seat_limits(me.profile, programme.programme_id), programme.programme_id)
        - promised[id]
    )
    if places <= 0:
        return all(matcher.partners.is_live(pairing_id) for pairing_id in ledger.held)
    best = await find_partners(programme, me, places, matcher, promised=promised, excluded=keeping.standing.named(id))
    for choice in best:
        await _bring_together(choice, keeping, programme, matcher)
    return True


async def _bring_together(choice: Choice, keeping: Keeping, programme: Programme, matcher: Matcher) -> None:
    """By a suggestion that waits for a coordinator or, where the programme says so, by asking the two at once."""
    programme_id = programme.programme_id
    pair = choice.couple.senior.id, choice.couple.junior.id
    if programme.settings.matching.release == "automatic":
        try:
            await proposals.propose(programme, pair, pairing_of(programme_id, *pair), "rolling", matcher)
        except CommandRejected:  # somebody else was faster, and what they did comes back as news
            keeping.unsettled.update(pair)
        return
    id, now = suggestion_id(programme_id, *pair), matcher.clock.now()
    saved = await matcher.suggestions.update(
        id, Op.once(), lambda state: suggested.open_suggestion(state, id, programme_id, pair, now)
    )
    keeping.standing.add(saved.require_state())
    await forget_the_erased(id, pair, matcher)
