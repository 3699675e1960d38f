"""The partner index compared with a plain reference: rules, fit and ledger must give the same partners one by one."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from contracts.profiles import Absence, ProfileChanged
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.eligibility import MatchingTerms, assess_present
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.pairings.seat_ledger import Seat, SeatLedger, compute_seat_limits
from services.matcher.engine.partner_index import PartnerIndex, wait_state
from tests.matcher.builders import PROGRAMME, TAXONOMY, TODAY, any_settings, cohorts, member, person, profiles, settings

Held = dict[str, int]


def crowd_of(
    people: list[ProfileChanged], held: Held | None = None, marks: ProgrammeSettings | None = None
) -> PartnerIndex:
    crowd = PartnerIndex(TAXONOMY, marks or settings(), TODAY)
    for item in people:
        tell(crowd, item)
    for id, seats in (held or {}).items():
        crowd.set_reserved_seats(id, seats, seats)
    crowd.flush()
    return crowd


def tell(crowd: PartnerIndex, profile: ProfileChanged) -> None:
    crowd.upsert(member(profile), compute_seat_limits(profile, PROGRAMME))


def free(profile: ProfileChanged, held: Held) -> int:
    numbers = range(held.get(profile.member_id, 0))
    seats = {str(n): Seat(attempt=1, partner=str(n), programme_id=PROGRAMME) for n in numbers}
    return SeatLedger(member_id=profile.member_id, held=seats).count_free(
        compute_seat_limits(profile, PROGRAMME), PROGRAMME
    )


def truth(
    me: Member, people: list[ProfileChanged], held: Held, rule: ProgrammeSettings, on: date = TODAY
) -> dict[str, float]:
    """Present members with a free seat who may be paired with ``me``, with the score of the better order."""
    result: dict[str, float] = {}
    for profile in people:
        other = member(profile)
        if (
            other.id == me.id
            or hard_rules.find_absence_reason(profile, PROGRAMME, rule, on)
            or free(profile, held) <= 0
        ):
            continue
        for pair in ((me, other), (other, me)):
            couple = assess_present(*pair, MatchingTerms(PROGRAMME, rule, TAXONOMY, on)).find_pair()
            if couple is not None:
                result[other.id] = max(couple.fit.score, result.get(other.id, 0))
    return result


@cache
def changes(side: str) -> st.SearchStrategy[dict[str, Any]]:
    """Random changes of side, state, absence, leave and planned departure."""
    away = st.tuples(st.integers(-2, 2), st.sampled_from([None, 0, 3])).map(lambda result: (_absence(*result),))
    return st.fixed_dictionaries(
        {
            "side": st.sampled_from([side, "either"]),
            "state": st.sampled_from(["ready", "ready", "ready", "enrolled", "left"]),
            "employment": st.sampled_from(["active", "active", "active", "on_leave", "leaving"]),
            "away": st.one_of(st.just(()), st.just(()), away),
            "employed_until": st.sampled_from([None, None, TODAY, TODAY + timedelta(days=1)]),
            "personal_cap": st.sampled_from([None, None, 0, 1]),
        }
    )


def _absence(begins: int, lasts: int | None) -> Absence:
    since = TODAY + timedelta(days=begins)
    return Absence(since=since, until=None if lasts is None else since + timedelta(days=lasts))


SEATS = st.integers(0, 2)


@st.composite
def companies(draw: st.DrawFn) -> tuple[list[ProfileChanged], Held]:
    """People who may be away, on leave, on either side, and hold seats."""
    seniors, juniors = draw(cohorts(most=4))
    people = []
    for item in [*seniors, *juniors]:
        changed = dict(draw(changes(item.enrolments[0].side)))
        update = {"side": changed.pop("side"), "state": changed.pop("state")}
        enrolment = item.enrolments[0].model_copy(update=update)
        people.append(item.model_copy(update={**changed, "enrolments": (enrolment,)}))
    return people, {item.member_id: draw(SEATS) for item in people}


class TestPartnerIndex:
    @run_with(max_examples=80, deadline=None)
    @given(companies(), any_settings(), st.integers(0, 3))
    def test_best_partners_follow_rules_fit_and_ledger(
        self, company: tuple[list[ProfileChanged], Held], rule: ProgrammeSettings, days: int
    ) -> None:
        people, held = company
        on = TODAY + timedelta(days=days)
        crowd = crowd_of(people, held, rule)
        for me in map(member, people):
            expected = truth(me, people, held, rule, on)
            result = crowd.best_partners(me, rule, on, len(people))
            assert {item.id: item.score for item in result} == pytest.approx(expected, abs=1e-6)
            assert [item.score for item in result] == sorted((item.score for item in result), reverse=True)
            for item in result:
                other = next(member(profile) for profile in people if profile.member_id == item.id)
                both = (other, me) if item.side == "senior" else (me, other)
                couple = assess_present(*both, MatchingTerms(PROGRAMME, rule, TAXONOMY, on)).find_pair()
                assert couple is not None
                assert couple.fit.score == pytest.approx(item.score, abs=1e-6)

    @run_with(max_examples=60, deadline=None)
    @given(cohorts(most=4), st.data())
    def test_updates_equal_a_fresh_index(
        self, cohort: tuple[list[ProfileChanged], list[ProfileChanged]], data: st.DataObject
    ) -> None:
        people = {item.member_id: item for side in cohort for item in side}
        crowd, names = crowd_of([]), sorted(people)
        now: dict[str, ProfileChanged] = {}
        for _ in range(data.draw(st.integers(0, 12))):
            if not names:
                break
            id = data.draw(st.sampled_from(names))
            if data.draw(st.booleans()):
                other = data.draw(profiles(people[id].enrolments[0].side, id, ()))
                now[id] = data.draw(st.sampled_from([people[id], other]))
                tell(crowd, now[id])
            else:
                now.pop(id, None)
                crowd.remove(id)
            if data.draw(st.booleans()):
                crowd.flush()
        crowd.flush()
        anew = crowd_of(list(now.values()))
        assert sorted(crowd) == sorted(anew)
        for me in map(member, people.values()):
            result, expected = (
                {item.id: item.score for item in selection.best_partners(me, settings(), TODAY, 9)}
                for selection in (crowd, anew)
            )
            assert result == pytest.approx(expected, abs=1e-6)

    def test_promised_or_excluded_members_are_not_offered(self) -> None:
        crowd = crowd_of([person("s", enrolment={"capacity": 2}), person("t"), person("j", "junior")])
        me = member(person("j", "junior"))

        def offered(**options: object) -> list[str]:
            return [item.id for item in crowd.best_partners(me, settings(), TODAY, 9, **options)]  # type: ignore[arg-type]

        assert offered() == ["s", "t"]
        assert offered(promised_seats={"s": 1, "t": 1}) == ["s"]
        assert offered(excluded=["s"]) == ["t"]

    def test_failed_pairings_come_first_then_longest_waits(self) -> None:
        crowd = crowd_of([person(id) for id in ("new", "old", "unknown", "failed")])
        begin = datetime(2026, 1, 1, tzinfo=UTC)
        crowd.set_wait("new", wait_state(begin + timedelta(days=9), None, failed=False))
        crowd.set_wait("old", wait_state(begin, begin + timedelta(days=2), failed=False))
        crowd.set_wait("failed", wait_state(begin, begin + timedelta(days=30), failed=True))
        assert crowd.order_by_wait(list(crowd), settings(), TODAY) == ["failed", "old", "new", "unknown"]
        assert crowd.order_by_wait(["unknown", "new"], settings(), TODAY, {"new": 1}) == ["unknown"]

    def test_reused_row_keeps_no_earlier_state(self) -> None:
        crowd = crowd_of([person("s"), person("j", "junior")], {"s": 1})
        crowd.remove("s")
        tell(crowd, person("t"))
        crowd.flush()
        assert [item.id for item in crowd.best_partners(member(person("j", "junior")), settings(), TODAY, 9)] == ["t"]
