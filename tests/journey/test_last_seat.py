"""No member exceeds their capacity, even with two acceptances at the same moment on two replicas of the matcher."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import httpx
import pytest

from tests.journey.conditions import wait_until
from tests.journey.people import JourneyPerson, Json, Members, a_programme, admin, cohort, ok, partners
from tests.journey.stack import Stack
from tests.journey.subscriber import TOGETHER

TIMES = 200
COUPLES = 10
"""Pairs of seniors; each pair asks the same juniors, one after the other."""

OTHER = "matcher-second"


@pytest.fixture(scope="module")
def members(stack: Stack) -> Iterator[Members]:
    stack.replica(OTHER)
    people: list[JourneyPerson] = [
        *cohort("seat", 2 * COUPLES, 0, capacity=TIMES // COUPLES),
        *cohort("seat", 0, TIMES + COUPLES),
    ]
    yield a_programme(stack, "seats", people, matching={"shortlist": True})
    stack.stop(OTHER)


def ask(members: Members, senior: str, junior: str) -> str:
    answer = members.matcher(senior).post("/programmes/seats/requests", json={"partner": junior})
    return str(ok(answer)["request_id"])


def accept_both_at_once(members: Members, junior: str, requests: Sequence[str]) -> list[httpx.Response]:
    """The junior accepts both proposals at the same moment, each on another replica."""
    together = Barrier(2)

    def accept(request: str, replica: str) -> httpx.Response:
        together.wait(30)
        return members.matcher(junior, replica).post(f"/requests/{request}/accept")

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(accept, requests, ("matcher", OTHER)))


class TestLastSeat:
    def test_two_acceptances_at_once_fill_one_seat_once(self, members: Members) -> None:
        """Two requests, accepted at the same moment, 200 times, on two replicas."""
        seniors, juniors = members.of("senior"), members.of("junior")[:TIMES]

        def contests(couple: int) -> list[list[httpx.Response]]:
            rivals = seniors[2 * couple : 2 * couple + 2]
            return [
                accept_both_at_once(members, junior, [ask(members, senior, junior) for senior in rivals])
                for junior in juniors[couple::COUPLES]
            ]

        with ThreadPoolExecutor(2) as pool:
            answers = [pair for contested in pool.map(contests, range(COUPLES)) for pair in contested]
        assert len(answers) == TIMES
        for pair in answers:
            winner, loser = sorted(pair, key=lambda answer: answer.status_code)
            assert (winner.status_code, loser.status_code) == (200, 409)
            assert winner.json()["pairing"]["state"] == "formed"
            why = loser.json()["code"], loser.json()["detail"]
            lapsed = ("not_open", "This request is no longer open.")  # by a reaction, because the seat was taken
            assert why in (("no_seat", "All places of this member are taken."), lapsed)
        agreed(members)
        taken = Counter(partners(pairing)[1] for pairing in live(members))
        assert taken == Counter(dict.fromkeys(juniors, 1))
        winners = Counter(str(pair[0].status_code) for pair in answers)
        assert set(winners) == {"200", "409"}, "each replica won at least once"

    def test_a_lower_capacity_ends_nothing_and_admits_nobody(self, members: Members) -> None:
        senior = members.of("senior")[0]
        before = live(members, senior)
        assert len(before) > 1
        ok(members.profiles(senior).put("/members/me/enrolments/seats", json={"capacity": 1}))
        members.stack.settle()
        junior = members.of("junior")[TIMES]
        refused = members.matcher(senior).post("/programmes/seats/requests", json={"partner": junior})
        if refused.is_success:
            refused = members.matcher(junior).post(f"/requests/{refused.json()['request_id']}/accept")
        assert (refused.status_code, refused.json()["code"]) == (409, "no_seat")
        assert live(members, senior) == before
        agreed(members)

    def test_erasure_during_an_acceptance_leaves_nothing(self, members: Members) -> None:
        """Neither a seat nor a pairing is left."""
        asking, leaving = members.of("senior")[2:], members.of("junior")[TIMES + 1 :]
        for senior, junior in zip(asking, leaving, strict=False):
            request = ask(members, senior, junior)
            together = Barrier(2)

            def say_yes(member: str = junior, request: str = request, together: Barrier = together) -> int:
                together.wait(30)
                return members.matcher(member, OTHER).post(f"/requests/{request}/accept").status_code

            def be_forgotten(member: str = junior, together: Barrier = together) -> int:
                together.wait(30)
                return members.profiles(member).post("/members/me/erasure").status_code

            with ThreadPoolExecutor(2) as pool:
                yes, forgotten = pool.submit(say_yes), pool.submit(be_forgotten)
                assert yes.result() in (200, 404, 409)
                assert forgotten.result() == 202
        for junior in leaving:
            wait_until(partial(done, members, junior), "every service has forgotten them")
        members.stack.settle()
        assert not [pairing for pairing in live(members) if set(partners(pairing)) & set(leaving)]
        assert not [seat for junior in leaving for seat in members.ledger(junior)["held"]]
        agreed(members)


def done(members: Members, member: str) -> bool:
    return bool(ok(members.stack.api("profiles", admin(members.stack)).get(f"/erasures/{member}"))["done"])


def live(members: Members, member: str | None = None) -> list[Json]:
    return [
        pairing
        for pairing in members.pairings()
        if pairing["state"] in {"proposed", *TOGETHER} and (member is None or member in partners(pairing))
    ]


def agreed(members: Members) -> None:
    """Ledgers and pairings agree about every seat, and no reservation is incomplete."""
    members.stack.settle()
    holding = {
        (member, live_pairing["pairing_id"]) for live_pairing in live(members) for member in partners(live_pairing)
    }
    database = members.stack.database("matcher")
    member_ids = set(members.ids.values())
    held = {
        (ledger["_id"], pairing)
        for ledger in database["ledgers"].find({"_id": {"$in": sorted(member_ids)}})
        for pairing in ledger["held"]
    }
    assert held == holding
    assert not database["pairings"].find_one({"state": "reserving"})
