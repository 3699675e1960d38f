"""The worker of rolling matching: it suggests partners, and lets lapse what is no longer possible.

Each programme is worked on by one replica of the service, under a claim that the replica renews. The partner replica
names the members who have changed. The worker reads their state of now, never the change itself, so the newest state
wins, and nothing has to survive a crash: a replica that takes a programme over checks every member once. One turn is
bounded, no matter how much has changed.
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
from chassis.erasure import write_about
from chassis.observability.telemetry import safe_message
from chassis.storage.aggregates import SaveResult
from contracts.errors import CommandRejected
from services.matcher.context import Matcher
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.pairings.pairing import UNPUBLISHED_STATES
from services.matcher.domain.pairings.seat_ledger import SeatLedger, compute_seat_limits
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rolling import programme_claim as claims
from services.matcher.domain.rolling import suggestion as suggestions
from services.matcher.domain.rolling.programme_claim import ProgrammeClaim
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.pairings import proposals
from services.matcher.pairings.partner_search import Choice, find_partners
from services.matcher.rolling.suggestions import (
    StandingSuggestions,
    assess_suggestion,
    forget_in_suggestion,
    pairing_id_of,
    suggestion_id_of,
)

log = logging.getLogger(__name__)

MAX_CHANGED = 500  # changed members in one turn
MAX_REQUESTS = 100  # requests checked in one turn
SEARCH_TIME_S = 0.5  # for partners, in one turn
MAX_OPEN_SUGGESTIONS = 500  # of one programme; more of them would only become outdated
TURN_PAUSE_S = 0.2  # so that changes that come together are handled together
RELEASE_TIMEOUT_S = 5.0  # in which claims are released when the service stops
IDLE_PAUSE_S = 1.0  # without changes; then claims are renewed, and unsettled members are checked again


@dataclass
class ClaimedProgramme:
    """A programme that this replica works on under the claim of ``holder``.

    ``members_to_match``: members for whom a partner is searched. ``unsettled``: members to try again later, since one
    of their seats is taken or given back at this moment. ``requests_to_check``: ids.
    ``checked_with``: the settings version, the programme's state and the day when every member was last checked.
    ``stirred``: of the claim, when the suggestions were last read.
    """

    programme_id: str
    holder: str
    members_to_match: set[str] = field(default_factory=set)
    unsettled: set[str] = field(default_factory=set)
    requests_to_check: list[str] = field(default_factory=list)
    standing: StandingSuggestions = field(default_factory=lambda: StandingSuggestions({}, {}))
    checked_with: tuple[int, str, date] | None = None
    stirred: int = -1


class RollingWorker:
    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._partners = matcher.partners
        self._claimed: dict[str, ClaimedProgramme] = {}

    async def run(self) -> None:
        """Work on every programme that no other replica works on; never ends."""
        await self._partners.wait_until_complete()
        try:
            while True:
                self._partners.changed.clear()
                started = time.monotonic()
                busy = await self.step()
                await self._pause(busy, time.monotonic() - started)
        finally:
            await self._release_all()

    async def step(self) -> bool:
        """Claim what is free, and do one turn for each claimed programme; returns whether more is to be done."""
        await self._claim_programmes()
        busy = False
        for work in list(self._claimed.values()):
            busy |= await self._try_turn(work)
        return busy

    async def _pause(self, busy: bool, duration_s: float) -> None:
        """Sleep as long as the last turn took (a fixed pause when idle), waking early on any change.

        Requests to the service get their share of time meanwhile. ``duration_s``: of the last turn.
        """
        await asyncio.sleep(TURN_PAUSE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(duration_s, IDLE_PAUSE_S) if busy else IDLE_PAUSE_S):
                await self._partners.changed.wait()

    async def _claim_programmes(self) -> None:
        recorded_at = self._matcher.clock.machine_now()
        async for stored in self._matcher.claims.find({"active": True}):
            lease = stored.state.lease
            if stored.id in self._claimed or (lease is not None and lease > recorded_at):
                continue
            holder = new_id()
            saved = await self._matcher.claims.update(
                stored.id,
                Op.once(),
                lambda claim: claims.take_claim(claim, holder, recorded_at),  # noqa: B023 - used at once
            )
            if saved.changed:
                self._claimed[stored.id] = ClaimedProgramme(stored.id, holder)
                self._partners.subscribe(stored.id)

    async def _release(self, work: ClaimedProgramme, stirred: int | None = None) -> None:
        self._drop(work)
        await self._matcher.claims.update(
            work.programme_id, Op.once(), lambda claim: claims.release_claim(claim, work.holder, stirred=stirred)
        )

    async def _release_all(self) -> None:
        """Release every claim, so that another replica continues at once. A claim that is not released expires."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                for work in list(self._claimed.values()):
                    await self._release(work)
        except Exception as error:  # noqa: BLE001 - the service must stop, whatever state the store is in
            log.warning("a programme is taken up by others only when its claim has lapsed: %s", safe_message(error))

    def _drop(self, work: ClaimedProgramme) -> None:
        self._claimed.pop(work.programme_id, None)
        self._partners.unsubscribe(work.programme_id)

    async def _try_turn(self, work: ClaimedProgramme) -> bool:
        """Returns whether more is to be done. A programme that fails is released, and claimed again."""
        try:
            return await self._turn(work)
        except Exception:
            log.exception(
                "a programme could not be looked after; it is taken up again", extra={"of": work.programme_id}
            )
            await self._release(work)
            return False

    async def _turn(self, work: ClaimedProgramme) -> bool:
        """Do one bounded step; returns whether more is to be done."""
        claim = await self._renew_claim(work)
        if claim is None:
            self._drop(work)
            return False
        programme = (await self._matcher.programmes.load(work.programme_id)).state
        await self._check_whole_programme(work, programme, claim)
        changed, has_more_changed = await self._pop_changed(work)
        work.members_to_match.update(changed)
        await self._check_requests(work, programme, changed)
        concerned = [each for each in work.standing.open.values() if not set(changed).isdisjoint(each.members)]
        await self._check_suggestions(work, concerned, programme)
        has_more_members = _is_rolling(programme) and await self._suggest(work, programme)
        if not _needs_worker(programme) and not work.requests_to_check and not work.standing.open:
            await self._release(work, stirred=claim.stirred)
        return has_more_members or has_more_changed or bool(work.requests_to_check)

    async def _renew_claim(self, work: ClaimedProgramme) -> ProgrammeClaim | None:
        """None where another replica holds the claim."""
        recorded_at = self._matcher.clock.machine_now()
        saved = await self._matcher.claims.update(
            work.programme_id, Op.once(), lambda claim: claims.renew_claim(claim, work.holder, recorded_at)
        )
        return saved.state if saved.state is not None and saved.state.holder == work.holder else None

    async def _check_whole_programme(self, work: ClaimedProgramme, programme: Programme, claim: ProgrammeClaim) -> None:
        """Queue every member if the settings, the state or the day have changed. Read new decisions of coordinators."""
        if work.stirred != claim.stirred:
            before, work.stirred = work.standing, claim.stirred
            stored = await self._matcher.suggestions.standing_in(work.programme_id)
            work.standing = StandingSuggestions.of(stored)
            closed = before.open.keys() - work.standing.open.keys()
            work.members_to_match.update(id for suggestion in closed for id in before.open[suggestion].members)
        today = self._matcher.clock.now().date()
        current = (programme.settings_version, programme.state, today)
        if work.checked_with != current:
            work.checked_with = current
            suggested = [id for suggestion in work.standing.open.values() for id in suggestion.members]
            self._partners.mark_changed(work.programme_id, suggested)
            work.requests_to_check = [stored.id for stored in await self._matcher.requests.open_in(work.programme_id)]
            async with self._partners.lock:
                work.members_to_match.update(self._partners.index(programme))

    async def _pop_changed(self, work: ClaimedProgramme) -> tuple[list[str], bool]:
        """Changed members, and whether more are left. A member waits until the database has the change too."""
        members = self._partners.pop_changed(work.programme_id, MAX_CHANGED)
        has_more = self._partners.has_changed(work.programme_id)
        early = await self._partners.ahead_of(self._matcher.members, members)
        self._partners.mark_changed(work.programme_id, early)
        return sorted(set(members) - early), has_more

    async def _check_requests(self, work: ClaimedProgramme, programme: Programme, changed: Sequence[str]) -> None:
        """Requests lapse when the two can no longer be paired."""
        queued = set(work.requests_to_check)
        concerned = await self._matcher.requests.open_in(work.programme_id, changed) if changed else []
        work.requests_to_check += [stored.id for stored in concerned if stored.id not in queued]
        batch, work.requests_to_check = work.requests_to_check[:MAX_REQUESTS], work.requests_to_check[MAX_REQUESTS:]
        if not batch:
            return
        requests = [stored.state for stored in (await self._matcher.requests.get_many(batch)).values()]
        work.requests_to_check += await proposals.recheck_requests(requests, programme, self._matcher)

    async def _check_suggestions(
        self, work: ClaimedProgramme, batch: Sequence[Suggestion], programme: Programme
    ) -> None:
        """Let suggestions lapse that are no longer possible, and match their members again.

        A member with more suggestions than free seats loses the newest ones.
        """
        if not batch:
            return
        members = sorted({id for suggestion in batch for id in suggestion.members})
        profiles = await self._matcher.members.get_many(members)
        seats = await self._matcher.ledgers.free_seats(list(profiles.values()), programme.programme_id)
        promised = work.standing.count_promised_seats()
        for suggestion in sorted(batch, key=lambda each: (each.made_at, each.suggestion_id), reverse=True):
            have_seats = all(seats.get(id, 0) >= promised[id] for id in suggestion.members)
            pair = assess_suggestion(suggestion, profiles, programme, self._matcher)
            if not have_seats or not _is_rolling(programme) or pair is None:
                promised.subtract(suggestion.members)
                await self._lapse(work, suggestion)

    async def _lapse(self, work: ClaimedProgramme, suggestion: Suggestion) -> None:
        """A suggestion that became a pairing just before a crash is released instead."""
        pairing = await self._matcher.pairings.get(pairing_id_of(suggestion.programme_id, *suggestion.members))
        proposed = pairing.id if pairing is not None and pairing.state.state not in UNPUBLISHED_STATES else None
        recorded_at = self._matcher.clock.machine_now()

        def decide(state: Suggestion | None) -> suggestions.Decision | None:
            if state is None:
                return None
            if proposed is None:
                return suggestions.lapse_suggestion(state)
            return suggestions.release_suggestion(state, proposed, recorded_at)

        saved = await self._matcher.suggestions.update(suggestion.suggestion_id, Op.once(), decide)
        work.standing.drop(suggestion)
        if saved.state is not None and saved.state.state != "lapsed":
            work.standing.add(saved.state)
        work.members_to_match.update(suggestion.members)

    async def _suggest(self, work: ClaimedProgramme, programme: Programme) -> bool:
        """Search partners for queued members, the longest wait first; returns whether members are left."""
        if not work.members_to_match:
            work.members_to_match, work.unsettled = work.unsettled, set()
        if not work.members_to_match or len(work.standing.open) >= MAX_OPEN_SUGGESTIONS:
            return False
        today = self._matcher.clock.now().date()
        deadline = time.monotonic() + SEARCH_TIME_S
        promised = work.standing.count_promised_seats()
        async with self._partners.lock:
            index = self._partners.index(programme)
            order = await asyncio.to_thread(
                index.order_by_wait, work.members_to_match, programme.settings, today, promised
            )
        work.members_to_match.intersection_update(order)
        for id in order:
            if time.monotonic() > deadline or len(work.standing.open) >= MAX_OPEN_SUGGESTIONS:
                break
            work.members_to_match.discard(id)
            if not await self._match_member(id, work, programme):
                work.unsettled.add(id)
        return bool(work.members_to_match)

    async def _match_member(self, id: str, work: ClaimedProgramme, programme: Programme) -> bool:
        """Suggest a partner for every free seat of a member; returns False where it must be tried again."""
        matcher = self._matcher
        if id in await self._partners.ahead_of(matcher.members, [id]):
            return False
        profile = await matcher.members.get(id)
        me = hard_rules.find_enrolled_member(profile, programme.programme_id) if profile is not None else None
        today = matcher.clock.now().date()
        if me is None or hard_rules.find_member_absence_reason(me, programme.settings, today) is not None:
            return True
        stored = await matcher.ledgers.get(id)
        ledger = stored.state if stored is not None else SeatLedger(member_id=id)
        promised = work.standing.count_promised_seats()
        limits = compute_seat_limits(me.profile, programme.programme_id)
        seats = ledger.count_free(limits, programme.programme_id) - promised[id]
        if seats <= 0:
            return all(self._partners.is_live(pairing_id) for pairing_id in ledger.held)
        excluded = work.standing.partners_of(id)
        for choice in await find_partners(programme, me, seats, matcher, promised=promised, excluded=excluded):
            await self._bring_together(choice, work, programme)
        return True

    async def _bring_together(self, choice: Choice, work: ClaimedProgramme, programme: Programme) -> None:
        """Suggest the pair to a coordinator or, with automatic release, propose it at once."""
        pair = choice.couple.senior.id, choice.couple.junior.id
        if programme.settings.matching.release == "automatic":
            pairing_id = pairing_id_of(programme.programme_id, *pair)
            try:
                await proposals.propose(programme, pair, pairing_id, "rolling", self._matcher)
            except CommandRejected:  # another process was faster; its change marks the two as changed
                work.unsettled.update(pair)
            return
        saved = await self._save_suggestion(programme.programme_id, pair)
        work.standing.add(saved.require_state())

    async def _save_suggestion(self, programme_id: str, pair: tuple[str, str]) -> SaveResult[Suggestion]:
        id, now = suggestion_id_of(programme_id, *pair), self._matcher.clock.now()
        store = self._matcher.suggestions
        return await write_about(
            lambda _: pair,
            store.update(id, Op.once(), lambda state: suggestions.open_suggestion(state, id, programme_id, pair, now)),
            find_erased=self._matcher.ledgers.erasing_among,
            forget=lambda member_id: forget_in_suggestion(store, id, member_id),
        )


def _needs_worker(programme: Programme) -> bool:
    """Whether partners are chosen or suggested outside rounds."""
    return programme.state == "open" and (_is_rolling(programme) or programme.settings.matching.shortlist)


def _is_rolling(programme: Programme) -> bool:
    return programme.state == "open" and programme.settings.matching.mode == "rolling"
