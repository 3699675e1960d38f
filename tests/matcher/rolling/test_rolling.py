"""Rolling matching: suggestions, their release, the reasons for which they lapse, and the worker."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from chassis.storage.mongo import ConnectionFailure
from contracts.profiles import Absence, ProfileChanged
from contracts.programmes import ProgrammeSettings
from services.matcher.context import Matcher
from services.matcher.domain.pairings.pairing import LIVE_STATES
from services.matcher.domain.rolling import programme_claim as watches
from services.matcher.rolling import worker
from services.matcher.rolling.worker import ClaimedProgramme, RollingWorker
from tests.matcher.builders import NOW, PROGRAMME, person, settings
from tests.matcher.harness import Replica, World
from tests.patience import patience
from tests.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = f"/programmes/{PROGRAMME}"
Couples = list[tuple[str, str]]


def rolling(**changes: Any) -> ProgrammeSettings:
    return settings(matching__mode="rolling", **changes)


async def waiting(company: World, replica: Replica | None = None) -> Couples:
    result = (await (replica or company.replicas[0]).get("admin", f"{PATH}/suggestions"))["items"]
    return sorted((item["senior"], item["junior"]) for item in result)


async def suggested(company: World, *couples: tuple[str, str]) -> None:
    """Wait until exactly these suggestions wait for a coordinator."""

    async def there() -> bool:
        return await waiting(company) == sorted(couples)

    await until(there)


async def suggestion_of(company: World, senior: str) -> str:
    result = (await company.replicas[0].get("admin", f"{PATH}/suggestions"))["items"]
    return next(str(item["suggestion_id"]) for item in result if item["senior"] == senior)


async def _waits(company: World, number: int) -> bool:
    return len(await waiting(company)) == number


async def paired(company: World) -> Couples:
    """Return the pairs that hold seats."""
    result = company.replicas[0].matcher.pairings.find({"state": {"$in": sorted(LIVE_STATES)}})
    return sorted([(item.state.plan.senior.member_id, item.state.plan.junior.member_id) async for item in result])


async def settled(company: World, there: Callable[[Couples], bool]) -> Couples:
    async def reached() -> bool:
        return there(await paired(company))

    await until(reached)
    return await paired(company)


def away(id: str, side: str = "senior") -> ProfileChanged:
    return person(id, side, away=(Absence(since=NOW.date()),))


async def _holder(company: World) -> str | None:
    stored = await company.replicas[0].matcher.claims.get(PROGRAMME)
    return stored.state.holder if stored is not None else None


class TestSuggestions:
    async def test_a_new_member_is_suggested_to_the_best_free_partner(self, company: World) -> None:
        first = company.replicas[0]
        await company.open_programme(rolling())
        await company.people(person("s"), person("t", seeks={"data-analysis": 1}), person("j", "junior"))
        await suggested(company, ("s", "j"))
        assert await paired(company) == [], "a suggestion takes no seat and sends no proposal"
        [shown] = (await first.get("admin", f"{PATH}/suggestions"))["items"]
        assert shown["reasons"]["junior"]
        assert "score" not in str(shown)
        released = await first.do("admin", f"/suggestions/{shown['suggestion_id']}/release")
        assert released["state"] == "released"
        pairing = await first.get("member:j", f"/pairings/{released['pairing_id']}")
        assert (pairing["state"], pairing["origin"]) == ("proposed", "rolling")
        again = await first.do("admin", f"/suggestions/{shown['suggestion_id']}/release")
        assert again["pairing_id"] == released["pairing_id"]
        assert await waiting(company) == []

    async def test_dismissed_and_refused_pairs_are_not_repeated(self, company: World) -> None:
        first = company.replicas[0]
        await company.open_programme(rolling())
        await company.people(person("s"), person("j", "junior"))
        await suggested(company, ("s", "j"))
        await first.do("admin", f"/suggestions/{await suggestion_of(company, 's')}/dismiss")
        await company.people(person("k", "junior"))
        await suggested(company, ("s", "k"))
        made = await first.do("admin", f"/suggestions/{await suggestion_of(company, 's')}/release")
        await first.do("member:k", f"/pairings/{made['pairing_id']}/answer", {"answer": "declined"})
        await company.people(person("t"))
        await until(lambda: _waits(company, 1))
        await company.people(person("u"))
        await until(lambda: _waits(company, 2))
        assert {item for couple in await waiting(company) for item in couple} == {"t", "u", "j", "k"}

    async def test_a_suggestion_lapses_when_it_becomes_impossible(self, company: World) -> None:
        await company.open_programme(rolling())
        await company.people(person("s"), person("j", "junior"))
        await suggested(company, ("s", "j"))
        id = await suggestion_of(company, "s")
        await company.people(away("s"), person("t"))
        await suggested(company, ("t", "j"))
        answer = await company.replicas[0].ask("admin", "POST", f"/suggestions/{id}/release")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_open")
        await company.people(person("s"), person("k", "junior", line=("s",)))
        assert await waiting(company) == [("t", "j")]
        await company.people(person("k", "junior"))
        await suggested(company, ("t", "j"), ("s", "k"))

    async def test_automatic_release_proposes_within_the_free_seats(
        self,
        company: World,
    ) -> None:
        """A whole company joins at once. Two replicas could both process the programme."""
        await company.second()
        await company.open_programme(rolling(matching__release="automatic"))
        await company.people(
            *(person(f"s{n}", enrolment={"capacity": 2}) for n in range(3)),
            *(person(f"j{n}", "junior") for n in range(9)),
        )
        result = await settled(company, lambda couples: len(couples) == 6)
        assert Counter(senior for senior, _ in result) == {f"s{n}": 2 for n in range(3)}
        assert max(Counter(junior for _, junior in result).values()) == 1
        await company.people(person("s0", enrolment={"capacity": 4}))
        result = await settled(company, lambda couples: len(couples) == 8)
        assert Counter(senior for senior, _ in result)["s0"] == 4
        assert await waiting(company) == []

    async def test_after_a_pairing_both_get_new_suggestions(self, company: World) -> None:
        first = company.replicas[0]
        await company.open_programme(rolling(matching__release="automatic"))
        await company.people(person("s"), person("j", "junior"))
        await settled(company, lambda couples: couples == [("s", "j")])
        [item] = (await first.get("member:s", "/pairings"))["items"]
        await company.people(person("t"), person("k", "junior"))
        await settled(company, lambda couples: couples == [("s", "j"), ("t", "k")])
        [two] = (await first.get("member:t", "/pairings"))["items"]
        for member, pairing in (("j", item), ("k", two)):
            path = f"/pairings/{pairing['pairing_id']}/answer"
            await first.do(f"member:{member}", path, {"answer": "declined"})
        await settled(company, lambda couples: couples == [("s", "k"), ("t", "j")])

    async def test_nobody_is_promised_more_seats_than_they_have(self, company: World) -> None:
        """All members join at once; all suggestions can be released at once."""
        first = company.replicas[0]
        await company.open_programme(rolling())
        await company.people(*(person(f"s{n}") for n in range(4)), *(person(f"j{n}", "junior") for n in range(6)))
        await until(lambda: _waits(company, 4))
        result = (await first.get("admin", f"{PATH}/suggestions"))["items"]
        await asyncio.gather(*(first.do("admin", f"/suggestions/{item['suggestion_id']}/release") for item in result))
        couples = await paired(company)
        assert len({senior for senior, _ in couples}) == len({junior for _, junior in couples}) == 4
        assert await waiting(company) == []

    async def test_only_coordinators_of_the_programme_decide(self, company: World) -> None:
        first = company.replicas[0]
        await company.open_programme(rolling())
        await company.people(person("s", line=("boss",)), person("boss", level=20), person("j", "junior"))
        await until(lambda: _waits(company, 1))
        id = (await first.get("admin", f"{PATH}/suggestions"))["items"][0]["suggestion_id"]
        for who, status in (("member:j", 403), ("service", 403), ("coordinator:x:other", 404)):
            for act in ("release", "dismiss"):
                assert (await first.ask(who, "POST", f"/suggestions/{id}/{act}")).status_code == status
        assert (await first.ask("coordinator:x:other", "GET", f"{PATH}/suggestions")).status_code == 403
        own_line = f"coordinator:{(await waiting(company))[0][1]}:{PROGRAMME}"
        assert (await first.get(own_line, f"{PATH}/suggestions"))["items"] == []
        assert (await first.ask(own_line, "POST", f"/suggestions/{id}/release")).status_code == 404
        await first.do(f"coordinator:x:{PROGRAMME}", f"/suggestions/{id}/dismiss")


class TestWorker:
    async def test_another_replica_continues_after_a_crash(
        self, company: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A change between the crash and the end of the lease is not lost, although no process had recorded it."""
        monkeypatch.setattr(watches, "CLAIM_LEASE", timedelta(seconds=3))
        monkeypatch.setattr(watches, "RENEWAL_THRESHOLD", timedelta(seconds=2))
        await company.second()
        await company.open_programme(rolling())
        await company.people(person("s"), person("j", "junior"))
        await suggested(company, ("s", "j"))
        turn = RollingWorker._turn

        def keeping_watch() -> list[Matcher]:
            return [replica.matcher for replica in company.replicas if replica.matcher.partners.subscribed(PROGRAMME)]

        async def one_alone() -> bool:
            """On a busy machine a claim may pass to the other replica. The loser notices this in its next turn."""
            return len(keeping_watch()) == 1

        await until(one_alone)
        [dead] = keeping_watch()

        async def dying(self: RollingWorker, work: ClaimedProgramme) -> bool:
            if self._matcher is dead:
                raise ConnectionError("this replica has stopped and keeps its claim")
            return await turn(self, work)

        async def nothing(*_: object, **__: object) -> None:
            """Write nothing, like a dead process."""

        before = await _holder(company)
        monkeypatch.setattr(RollingWorker, "_turn", dying)
        monkeypatch.setattr(RollingWorker, "_release", nothing)
        await company.people(person("t"), person("k", "junior"))
        await suggested(company, ("s", "j"), ("t", "k"))
        assert await _holder(company) not in (None, before)

    async def test_many_changes_at_once_are_all_handled(self, company: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(worker, "MAX_CHANGED", 1)
        monkeypatch.setattr(
            worker, "IDLE_PAUSE_S", 10.0
        )  # a member met in the middle of a change is checked again after it
        await company.open_programme(rolling())
        pairs = [(f"s{n}", f"j{n}") for n in range(12)]
        await company.people(*(person(id, "junior" if id[0] == "j" else "senior") for pair in pairs for id in pair))
        await until(lambda: _waits(company, len(pairs)))

    async def test_the_worker_stops_although_the_store_is_gone(
        self, company: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def unheard(*_: Any) -> None:
            await asyncio.Event().wait()

        async def lost(*_: Any) -> None:
            raise ConnectionFailure("no server at this address")

        monkeypatch.setattr(worker, "RELEASE_TIMEOUT_S", 0.01)
        for store in (unheard, lost):
            monkeypatch.setattr(RollingWorker, "_release", store)
            stopped = RollingWorker(company.replicas[0].matcher)
            stopped._claimed[PROGRAMME] = ClaimedProgramme(PROGRAMME, "holder")
            leaving = asyncio.create_task(stopped._release_all())
            done, _ = await asyncio.wait({leaving}, timeout=patience(5))
            assert done == {leaving}
            assert leaving.exception() is None


class TestRequestRecheck:
    async def test_a_request_lapses_when_it_becomes_impossible(self, company: World) -> None:
        first = company.replicas[0]
        await company.open_programme(settings(matching__shortlist=True))
        people = [person(f"s{n}") for n in range(4)]
        await company.people(*people, *(person(f"j{n}", "junior") for n in range(4)))
        request = {
            n: (await first.do(f"member:s{n}", f"{PATH}/requests", {"partner": f"j{n}"}))["request_id"]
            for n in range(4)
        }

        async def states(who: str = "s") -> list[str]:
            return [(await first.get(f"member:{who}{n}", f"/requests/{request[n]}"))["state"] for n in range(4)]

        assert await states() == ["open"] * 4
        await first.do("admin", f"{PATH}/pairings", {"senior": "s3", "junior": "j0"})  # no seat left for 0 and 3
        await company.people(away("s1"), person("j2", "junior", line=("s2",)))

        async def all_lapsed() -> bool:
            return await states() == ["lapsed"] * 4

        await until(all_lapsed)
        assert await states("j") == ["lapsed"] * 4
        seen = [await first.get(f"member:j{n}", f"/requests/{request[n]}") for n in range(4)]
        assert len({tuple(sorted(item)) for item in seen}) == 1
        refused = await first.ask("member:j1", "POST", f"/requests/{request[1]}/accept")
        assert (refused.status_code, refused.json()["code"]) == (409, "not_open")

    async def test_a_new_private_wish_looks_like_no_answer(self, company: World) -> None:
        first = company.replicas[0]
        await company.open_programme(settings(matching__shortlist=True))
        await company.people(person("s"), person("t"), person("j", "junior"))
        request = {
            who: (await first.do(f"member:{who}", f"{PATH}/requests", {"partner": "j"}))["request_id"] for who in "st"
        }
        await company.people(person("j", "junior", avoid=("s",)))

        async def hidden() -> bool:
            return (await first.ask("member:j", "GET", f"/requests/{request['s']}")).status_code == 404

        await until(hidden)
        item, other = [await first.get(f"member:{who}", f"/requests/{request[who]}") for who in "st"]
        answer = ("request_id", "asker", "asked_at", "answer_by")
        assert {name: value for name, value in item.items() if name not in answer} == {
            name: value for name, value in other.items() if name not in answer
        }


class TestSuggestionPrivacy:
    async def test_a_private_wish_changes_no_suggestion(self, company: World) -> None:
        """Two worlds: in the second the junior has a private wish against the best senior."""
        published: list[list[dict[str, Any]]] = []
        for avoid in ((), ("s",)):
            await company.forget_everything()
            await company.open_programme(rolling(matching__shortlist=True))
            await company.people(person("s"), person("t"), person("j", "junior", avoid=avoid), person("k", "junior"))
            await until(lambda: _waits(company, 2))
            suggestions = (await company.replicas[0].get("admin", f"{PATH}/suggestions"))["items"]
            published.append([{**item, "suggestion_id": "", "made_at": ""} for item in suggestions])
            answer = await company.replicas[0].ask("admin", "POST", f"{PATH}/pairings", {"senior": "s", "junior": "j"})
            assert answer.status_code == 201
        order = lambda item: str(item["senior"])  # noqa: E731
        assert sorted(published[0], key=order) == sorted(published[1], key=order)

    async def test_a_wish_takes_back_no_request(self, company: World) -> None:
        first = company.replicas[0]
        await company.open_programme(settings(matching__shortlist=True))
        await company.people(person("s"), person("j", "junior"))
        request = (await first.do("member:s", f"{PATH}/requests", {"partner": "j"}))["request_id"]
        await company.people(person("s", avoid=("j",)))
        accepted = await first.do("member:j", f"/requests/{request}/accept")
        assert accepted["pairing"]["state"] == "formed", "the asker did not withdraw it"

    async def test_an_erased_member_stands_in_no_suggestion(self, company: World) -> None:
        await company.open_programme(rolling())
        await company.people(person("s"), person("j", "junior"))
        await suggested(company, ("s", "j"))
        await company.gone("j")
        collection = company.replicas[0].matcher.suggestions.collection

        async def forgotten() -> bool:
            return '"j"' not in str([document async for document in collection.find({})]).replace("'", '"')

        await until(forgotten)
        await company.people(person("k", "junior"))
        await suggested(company, ("s", "k"))
