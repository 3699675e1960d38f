"""Seats: each rule of the ledger, and the whole reservation under random interleavings.

The simulation runs reservations, retries, sweeps, audits, endings, changes of capacity and erasures step by step in
random order. It lets processes die between any two steps, and repeats steps whose acknowledgement was lost. It drives
the real decisions of ``domain.ledger`` and ``domain.pairing``.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from contracts.envelope import Tombstone
from contracts.errors import CommandRejected
from contracts.pairings import Participant
from contracts.privacy import ErasureCompleted
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings import seat_ledger as ledgers
from services.matcher.domain.pairings.pairing import LIVE_STATES, Pairing, PairingPlan
from services.matcher.domain.pairings.seat_ledger import Seat, SeatLedger, SeatLimits, compute_seat_limits
from services.matcher.domain.receipts.receipt import (
    MatchingBasis,
    MemberSnapshot,
    Receipt,
    ReceiptSubject,
    issue_receipt,
)
from services.matcher.pairings.reservation import split_into_batches
from tests.matcher.builders import MOMENT, NOW, PROGRAMME, TAXONOMY, TODAY, member, moment_at, person, settings

SINGLE = SeatLimits(total=1, programme=1)
SEAT = Seat(attempt=1, partner="b", programme_id=PROGRAMME)


def plan(pairing_id: str, senior: str, junior: str) -> PairingPlan:
    def somebody(id: str, side: str) -> Participant:
        return Participant.model_validate(
            {"member_id": id, "side": side, "organisation_id": "acme", "department_id": "it"}
        )

    return PairingPlan(
        pairing_id=pairing_id,
        programme_id=PROGRAMME,
        programme_version=1,
        origin="round",
        senior=somebody(senior, "senior"),
        junior=somebody(junior, "junior"),
        answer_within_working_days=10,
        duration_months=6,
    )


def receipt_for(pairing: Pairing) -> Receipt:
    """A receipt for the pairing's current attempt; its members are arbitrary."""
    both = [MemberSnapshot(member(person(id, side)), 1) for id, side in (("s", "senior"), ("j", "junior"))]
    basis = MatchingBasis(PROGRAMME, 1, settings(), TAXONOMY, "0", TODAY)
    return issue_receipt(
        ReceiptSubject("r", pairing.id, pairing.attempt, "round"), basis, both[0], both[1], NOW, "salt"
    )


def taken(ledger: SeatLedger | None, pairing_id: str, seat: Seat, limits: SeatLimits = SINGLE) -> SeatLedger:
    decided = ledgers.take_seat(ledger, "a", pairing_id, seat, limits, NOW)
    assert decided is not None
    return decided[0]


def refusal(ledger: SeatLedger, pairing_id: str, seat: Seat, limits: SeatLimits = SINGLE) -> str:
    with pytest.raises(CommandRejected) as caught:
        ledgers.take_seat(ledger, "a", pairing_id, seat, limits, NOW)
    return caught.value.code


class TestSeatTaking:
    def test_last_seat_is_taken_once(self) -> None:
        full = taken(None, "ab", SEAT)
        assert full.held == {"ab": SEAT}
        assert refusal(full, "ac", Seat(attempt=1, partner="c", programme_id=PROGRAMME)) == "no_seat"
        assert ledgers.take_seat(full, "a", "ab", SEAT, SINGLE, NOW) is None, "a repeated step changes nothing"

    def test_same_partner_holds_no_second_seat(self) -> None:
        ledger = taken(None, "ab", SEAT, SeatLimits(total=5, programme=5))
        assert refusal(ledger, "another-ab", SEAT, SeatLimits(total=5, programme=5)) == "already_partners"

    def test_older_attempt_neither_takes_nor_frees_a_newer_seat(self) -> None:
        newer = taken(taken(None, "ab", SEAT), "ab", SEAT.model_copy(update={"attempt": 2}))
        assert refusal(newer, "ab", SEAT) == "overtaken"
        assert ledgers.release_seat(newer, "ab", 1) is None
        freed = ledgers.release_seat(newer, "ab", 2)
        assert freed is not None
        assert freed[0].held == {}

    def test_lower_capacity_keeps_seats_and_admits_nobody(self) -> None:
        two = SeatLimits(total=2, programme=2)
        ledger = taken(taken(None, "ab", SEAT, two), "ac", SEAT.model_copy(update={"partner": "c"}), two)
        assert len(ledger.held) == 2
        assert refusal(ledger, "ad", SEAT.model_copy(update={"partner": "d"}), SINGLE) == "no_seat"

    def test_limits_count_in_total_and_for_each_programme(self) -> None:
        both = {"programme_id": "other", "side": "senior", "state": "ready", "capacity": 2}
        profile = person("a", enrolment={"capacity": 2})
        profile = profile.model_copy(
            update={"enrolments": (*profile.enrolments, type(profile.enrolments[0]).model_validate(both))}
        )
        assert compute_seat_limits(profile, PROGRAMME) == SeatLimits(total=4, programme=2)
        assert compute_seat_limits(profile.model_copy(update={"personal_cap": 1}), PROGRAMME) == SeatLimits(
            total=1, programme=1
        )
        assert compute_seat_limits(None, PROGRAMME) == SeatLimits(total=0, programme=0)
        elsewhere = taken(
            None, "ab", SEAT.model_copy(update={"programme_id": "other"}), SeatLimits(total=4, programme=2)
        )
        assert elsewhere.count_free(SeatLimits(total=4, programme=2), PROGRAMME) == 2
        assert elsewhere.count_free(SeatLimits(total=1, programme=1), PROGRAMME) == 0


class TestSeatErasure:
    def test_closed_ledger_takes_nothing_and_reports_completion(self) -> None:
        closing = ledgers.close_ledger(taken(None, "ab", SEAT), "a", NOW)
        assert closing is not None
        assert refusal(closing[0], "ac", SEAT.model_copy(update={"partner": "c"})) == "closed"
        waiting = ledgers.complete_erasure(closing[0], is_clean=True, moment=MOMENT)
        assert waiting is not None
        assert waiting[1] == [], "a seat is still held"
        freed = ledgers.release_seat(closing[0], "ab", 1)
        assert freed is not None
        done = ledgers.complete_erasure(freed[0], is_clean=True, moment=MOMENT)
        assert done is not None
        assert done[1] == [ErasureCompleted(member_id="a", service="matcher", completed_at=NOW)]
        assert ledgers.complete_erasure(done[0], is_clean=True, moment=MOMENT) is None, "completion is published once"
        assert ledgers.close_ledger(done[0], "a", NOW) is None


Process = Iterator[None]


class Company:
    """Three people, four possible pairings, and processes that work on them at the same time."""

    PLANS = (plan("r1-ab", "a", "b"), plan("r2-ab", "a", "b"), plan("ac", "a", "c"), plan("bc", "b", "c"))

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.room = {id: self._room() for id in "abc"}
        self.ledgers: dict[str, SeatLedger] = {}
        self.pairings: dict[str, Pairing] = {}
        self.running: list[Process] = []
        self.closed: set[str] = set()
        self.held_before: dict[str, int] = {}

    def _room(self) -> SeatLimits:
        limits = self.chance.randint(1, 2)
        return SeatLimits(total=limits, programme=limits)

    def save(self, id: str, decide: Callable[[Pairing | None], pairings.Decision | None]) -> Pairing | None:
        """One atomic save; sometimes its acknowledgement is lost and the same decision is made again."""
        for _ in range(2 if self.chance.random() < 0.1 else 1):
            if (decided := decide(self.pairings.get(id))) is not None:
                self.pairings[id] = decided[0]
        return self.pairings.get(id)

    def note(self, id: str, decide: Callable[[SeatLedger | None], ledgers.Decision | None]) -> bool:
        for _ in range(2 if self.chance.random() < 0.1 else 1):
            try:
                decided = decide(self.ledgers.get(id))
            except CommandRejected:
                return False
            if decided is not None:
                self.ledgers[id] = decided[0]
        return True

    def reserve(self, of: PairingPlan) -> Process:
        begun = self.save(of.pairing_id, lambda state: pairings.begin_reservation(state, of, MOMENT))
        assert begun is not None
        yield
        if begun.state != "reserving":
            return
        attempt, both = begun.attempt, (of.senior.member_id, of.junior.member_id)
        seated = True
        for me, other in (both, both[::-1]):
            seat = Seat(attempt=attempt, partner=other, programme_id=PROGRAMME)
            limits = self.room[me]
            seated &= self.note(me, lambda state: ledgers.take_seat(state, me, of.pairing_id, seat, limits, NOW))  # noqa: B023
            yield
        if seated:
            after = self.save(of.pairing_id, lambda state: pairings.propose_pairing(state, receipt_for(begun), MOMENT))
            yield
            if after is not None and after.state not in ("reserving", "abandoned"):
                return
        yield from self.give_up(of, attempt)

    def give_up(self, of: PairingPlan, attempt: int) -> Process:
        after = self.save(of.pairing_id, lambda state: pairings.abandon_reservation(state, attempt, NOW))
        yield
        if after is not None and (after.attempt > attempt or after.state not in {"reserving", *LIVE_STATES}):
            yield from self.free(of, attempt)

    def free(self, of: PairingPlan, attempt: int) -> Process:
        for me in (of.senior.member_id, of.junior.member_id):
            self.note(me, lambda state: ledgers.release_seat(state, of.pairing_id, attempt))
            yield

    def sweep(self, of: PairingPlan) -> Process:
        stored = self.pairings.get(of.pairing_id)
        yield
        if stored is not None and stored.state == "reserving":
            yield from self.give_up(of, stored.attempt)

    def audit(self, me: str) -> Process:
        ledger = self.ledgers.get(me)
        if ledger is None:
            return
        seen = {id: seat.attempt for id, seat in ledger.held.items()}
        dead, unsettled = {}, False
        for id, attempt in seen.items():
            pairing = self.pairings[id]
            yield
            if pairing.attempt != attempt or pairing.state not in {"reserving", *LIVE_STATES}:
                dead[id] = attempt
            unsettled |= pairing.state == "reserving"
        self.note(me, lambda state: ledgers.apply_audit(state, seen, dead, unsettled, NOW))

    def end(self, of: PairingPlan) -> Process:
        stored = self.pairings.get(of.pairing_id)
        if stored is None or stored.state not in LIVE_STATES:
            return
        after = self.save(of.pairing_id, lambda state: pairings.end_pairing(state, MOMENT) if state else None)
        yield
        if after is not None:
            yield from self.free(of, after.attempt)

    def change_capacity(self, me: str) -> Process:
        self.room[me] = self._room()
        yield

    def erase(self, me: str) -> Process:
        self.closed.add(me)
        self.note(me, lambda state: ledgers.close_ledger(state, me, NOW))
        yield
        for of in self.PLANS:
            if me in (of.senior.member_id, of.junior.member_id) and of.pairing_id in self.pairings:
                after = self.save(
                    of.pairing_id, lambda state: pairings.erase_member(state, me, MOMENT) if state else None
                )
                yield
                if after is not None:
                    yield from self.free(of, after.attempt)
        yield from self.audit(me)

    def begin_something(self) -> None:
        pair, who, x = self.chance.choice(self.PLANS), self.chance.choice("abc"), self.chance.random()
        for limit, process in (
            (0.25, self.reserve(pair)),
            (0.33, self.sweep(pair)),
            (0.38, self.end(pair)),
            (0.42, self.audit(who)),
            (0.44, self.change_capacity(who)),
            (0.443, self.erase(who)),
        ):
            if x < limit:
                self.running.append(process)
                return

    def step(self) -> None:
        """One step of one process; now and then the process dies instead."""
        if not self.running:
            return
        n = self.chance.randrange(len(self.running))
        if self.chance.random() < 0.02 or next(self.running[n], self) is self:
            self.running.pop(n)
        self.check()

    def check(self) -> None:
        live: Counter[str] = Counter()
        couples: Counter[tuple[str, str]] = Counter()
        for id, pairing in self.pairings.items():
            if pairing.state not in LIVE_STATES:
                continue
            both = pairing.plan.senior.member_id, pairing.plan.junior.member_id
            couples[both] += 1
            for me in both:
                live[me] += 1
                seat = self.ledgers[me].held.get(id)
                assert seat is not None, "a live pairing holds its seats"
                assert seat.attempt == pairing.attempt
        for me, ledger in self.ledgers.items():
            before = self.held_before.get(me, 0)
            assert len(ledger.held) <= max(before, self.room[me].total, 2)
            assert len(ledger.held) <= before or not ledger.closed, "a closed ledger accepts no seat"
            assert live[me] <= len(ledger.held)
            self.held_before[me] = len(ledger.held)
        assert all(count == 1 for count in couples.values()), "two members have at most one pairing"

    def settle(self) -> None:
        """Run everything that the leases start sooner or later."""
        while self.running:
            self.step()
        for _ in range(3):
            for me in self.closed:
                self.running.append(self.erase(me))
            self.running += [self.sweep(of) for of in self.PLANS]
            while self.running:
                if next(self.running[0], self) is self:
                    self.running.pop(0)
            for me in "abc":
                for _ in self.audit(me):
                    self.check()
        self.check()


class TestSeatReservations:
    @given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=30))
    def test_batch_has_each_member_once_and_loses_no_plan(self, couples: list[tuple[str, str]]) -> None:
        plans = [plan(f"{n}", senior, junior) for n, (senior, junior) in enumerate(couples)]
        made = split_into_batches(plans)
        for wave in made:
            people = [id for group in wave for id in (group.senior.member_id, group.junior.member_id)]
            assert len(people) == len(set(people))
        assert sorted(group.pairing_id for wave in made for group in wave) == sorted(
            group.pairing_id for group in plans
        )

    @run_with(max_examples=300)
    @given(st.integers(0, 2**32), st.integers(60, 160))
    def test_random_histories_respect_limits_and_lose_no_seat(self, seed: int, steps: int) -> None:
        company = Company(seed)
        for _ in range(steps):
            company.begin_something()
            company.step()
        company.settle()
        for me, ledger in company.ledgers.items():
            for id in ledger.held:
                assert company.pairings[id].state in LIVE_STATES, "each held seat belongs to a live pairing"
            assert me not in company.closed or not ledger.held, "an erased member holds no seat"

    def test_lease_is_machine_time_and_taken_seat_is_audited(self) -> None:
        begun = pairings.begin_reservation(None, plan("ab", "a", "b"), moment_at(NOW + timedelta(days=100)))
        assert begun is not None
        assert begun[0].lease == NOW + pairings.RESERVATION_LEASE, "leases use machine time, not business time"
        assert taken(None, "ab", SEAT).lease == NOW + ledgers.AUDIT_DELAY
        assert not any(isinstance(event, Tombstone) for event in begun[1])
