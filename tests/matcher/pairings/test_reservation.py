"""Reservations that crash or are overtaken between their steps, on the running service. No seat stays reserved."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from chassis.core.commands import Op
from chassis.core.ids import new_id
from contracts.errors import CommandRejected
from contracts.pairings import PAIRINGS
from contracts.privacy import erasure_completions_of
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.rounds import round as rounds
from services.matcher.pairings import proposals, reservation
from tests.matcher.builders import PROGRAMME, person, settings
from tests.matcher.harness import World
from tests.patience import patience
from tests.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

Take = Callable[..., Awaitable[Mapping[str, CommandRejected]]]
Then = Callable[[], Awaitable[None]]


class Died(ConnectionError):
    """The simulated end of the process."""


async def die() -> None:
    raise Died("after both seats were taken, before the proposal")


@pytest.fixture
def after_taking(monkeypatch: pytest.MonkeyPatch) -> list[Then]:
    """Actions to run, one after each successful reservation of both seats. Leases are shortened."""
    monkeypatch.setattr(pairings, "RESERVATION_LEASE", timedelta(seconds=1))
    happens: list[Then] = []
    real: Take = reservation._take_seats

    async def take(*arguments: Any) -> Mapping[str, CommandRejected]:
        refused = await real(*arguments)
        if happens:
            await happens.pop(0)()
        return refused

    monkeypatch.setattr(reservation, "_take_seats", take)
    return happens


async def send_request(company: World) -> str:
    """The senior has requested the junior, who can accept. Return the pairing."""
    await company.open_programme(settings(matching__shortlist=True))
    await company.people(person("s"), person("j", "junior"))
    made = await company.replicas[0].do("member:s", f"/programmes/{PROGRAMME}/requests", {"partner": "j"})
    return str(made["request_id"])


async def say_yes(company: World, request_id: str) -> tuple[int, str]:
    answer = await company.replicas[0].ask("member:j", "POST", f"/requests/{request_id}/accept")
    return answer.status_code, answer.json().get("code", "")


async def only(company: World) -> pairings.Pairing:
    (stored,) = [stored async for stored in company.replicas[0].matcher.pairings.find({})]
    return stored.state


async def held(company: World) -> dict[str, list[int]]:
    """The attempts that hold a seat, for each member."""
    result = await company.replicas[0].matcher.ledgers.get_many(["s", "j"])
    return {id: [seat.attempt for seat in result[id].state.held.values()] for id in sorted(result)}


async def given_up(company: World) -> None:
    async def there() -> bool:
        return (await only(company)).state == "abandoned"

    await until(there)


async def nobody_holds(company: World) -> None:
    async def there() -> bool:
        return not any((await held(company)).values())

    await until(there)


async def types_on(company: World, topic: Any) -> list[str]:
    return [str(record.header("ce_type")).removeprefix("mentoring.") for record in await company.read_topic(topic)]


async def until_told(company: World, type: str) -> None:
    async with asyncio.timeout(patience(5)):
        while type not in await types_on(company, PAIRINGS):  # noqa: ASYNC110 - another process' topic
            await asyncio.sleep(0.05)


class TestReservationCrash:
    async def test_a_dead_reservation_is_abandoned_and_not_published(
        self, company: World, after_taking: list[Then]
    ) -> None:
        request = await send_request(company)
        after_taking.append(die)
        assert (await say_yes(company, request))[0] >= 500
        assert await held(company) == {"j": [1], "s": [1]}
        await given_up(company)
        await nobody_holds(company)
        assert await company.read_topic(PAIRINGS) == []
        assert await say_yes(company, request) == (200, "")
        assert await held(company) == {"j": [2], "s": [2]}

    async def test_a_retry_continues_the_dead_attempt(self, company: World, after_taking: list[Then]) -> None:
        request = await send_request(company)
        after_taking.append(die)
        assert (await say_yes(company, request))[0] >= 500
        assert await say_yes(company, request) == (200, "")
        assert await held(company) == {"j": [(await only(company)).attempt], "s": [(await only(company)).attempt]}
        await until_told(company, "pairing.formed.v1")
        assert await types_on(company, PAIRINGS) == ["pairing.proposed.v1", "pairing.formed.v1"]

    async def test_a_retry_overtaken_by_the_sweep_leaves_no_seat(
        self, company: World, after_taking: list[Then]
    ) -> None:
        request = await send_request(company)
        after_taking += [die, lambda: given_up(company)]
        assert (await say_yes(company, request))[0] >= 500
        assert await say_yes(company, request) == (409, "no_longer_possible")
        await nobody_holds(company)
        assert await say_yes(company, request) == (200, "")
        assert (await only(company)).state == "formed"
        assert await held(company) == {"j": [2], "s": [2]}

    async def test_a_request_waits_while_a_seat_is_in_doubt(
        self, company: World, after_taking: list[Then], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without this the request would lapse for lack of a seat that is released a moment later.

        The seat may belong to its own reservation or to another pair's.
        """
        request = await send_request(company)
        monkeypatch.setattr(pairings, "RESERVATION_LEASE", timedelta(minutes=5))
        after_taking.append(die)
        assert (await say_yes(company, request))[0] >= 500
        matcher = company.replicas[0].matcher
        programme = (await matcher.programmes.load(PROGRAMME)).state
        [stored] = await matcher.requests.open_in(PROGRAMME)
        other = stored.state.model_copy(update={"request_id": new_id()})
        assert await proposals.recheck_requests([other], programme, matcher) == [other.request_id]
        pairing = await only(company)
        now = matcher.clock.machine_now()
        dead = await matcher.pairings.update(
            pairing.plan.pairing_id, Op("dead"), lambda state: pairings.abandon_reservation(state, pairing.attempt, now)
        )
        assert dead.require_state().state == "abandoned"
        assert await proposals.recheck_requests([stored.state], programme, matcher) == [request]
        await reservation.free_seats(matcher.ledgers, pairing.plan.pairing_id, pairing.attempt, ["s", "j"])
        assert await proposals.recheck_requests([stored.state], programme, matcher) == []
        assert await say_yes(company, request) == (200, "")

    async def test_a_round_reserves_again_what_the_sweep_abandons(
        self, company: World, after_taking: list[Then], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        computed = await company.round(publish=False)
        monkeypatch.setattr(rounds, "ROUND_LEASE", timedelta(seconds=2))
        after_taking += [die, lambda: given_up(company)]
        await company.replicas[0].do("admin", f"/rounds/{computed['round_id']}/publish")
        done = await company.round_in(f"/rounds/{computed['round_id']}", "published")
        assert (done["proposed"], done["withdrawn"]) == (1, 0)
        attempt = (await only(company)).attempt
        assert await held(company) == {"j": [attempt], "s": [attempt]}


class TestReservationRace:
    async def test_an_erasure_between_the_steps_frees_the_seats(self, company: World, after_taking: list[Then]) -> None:
        request = await send_request(company)

        async def forgotten() -> None:
            await company.gone("j")

            async def is_published() -> bool:
                return "erasure.completed.v1" in await types_on(company, erasure_completions_of("matcher"))

            await until(is_published)

        after_taking.append(forgotten)
        status, _ = await say_yes(company, request)
        assert status in (404, 409)
        await nobody_holds(company)
        assert await company.read_topic(PAIRINGS) == []
        assert (await types_on(company, erasure_completions_of("matcher"))).count("erasure.completed.v1") == 1
        assert (await only(company)).side_of("j") is None

    async def test_a_capacity_lowered_between_the_steps_ends_nothing(
        self, company: World, after_taking: list[Then]
    ) -> None:
        request = await send_request(company)

        async def lowered() -> None:
            await company.people(person("j", "junior", enrolment={"capacity": 0}))

        after_taking.append(lowered)
        assert await say_yes(company, request) == (200, "")
        assert await held(company) == {"j": [1], "s": [1]}
