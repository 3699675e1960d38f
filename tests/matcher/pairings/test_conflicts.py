"""Conflicts after a change of the organisation: only coordinators see them, and a coordinator decides."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from chassis.storage.mongo import BatchedLookup, Document
from contracts.errors import CommandRejected
from contracts.pairings import PAIRING_STATES, PAIRINGS
from contracts.profiles import ProfileChanged
from services.matcher.pairings import conflicts, reservation
from tests.matcher.builders import PROGRAMME, person, settings
from tests.matcher.harness import World
from tests.processes import say, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFLICTS = f"/programmes/{PROGRAMME}/conflicts"


async def listed(company: World, who: str = "admin") -> list[Mapping[str, Any]]:
    result: list[Mapping[str, Any]] = (await company.replicas[0].get(who, CONFLICTS))["items"]
    return result


async def seen(company: World, count: int) -> list[Mapping[str, Any]]:
    """Wait until the list has ``count`` conflicts, and return it."""

    async def so_many() -> bool:
        return len(await listed(company)) == count

    await until(so_many)
    return await listed(company)


async def running(company: World, senior: ProfileChanged | None = None, junior: ProfileChanged | None = None) -> str:
    """Return a formed pairing of two members."""
    await company.people(senior or person("s"), junior or person("j", "junior"))
    first = company.replicas[0]
    made = await first.do("admin", f"/programmes/{PROGRAMME}/pairings", {"senior": "s", "junior": "j"})
    for who in ("s", "j"):
        await first.do(f"member:{who}", f"/pairings/{made['pairing_id']}/answer", {"answer": "accepted"})
    return str(made["pairing_id"])


async def decide(company: World, pairing_id: str, decision: str, who: str = "admin") -> int:
    answer = await company.replicas[0].ask(f"{who}", "POST", f"/pairings/{pairing_id}/conflict", {"decision": decision})
    return answer.status_code


async def state_of(company: World, pairing_id: str) -> str:
    return str((await company.replicas[0].get("admin", f"/pairings/{pairing_id}"))["state"])


async def is_over(company: World, pairing_id: str, state: str = "ended") -> None:
    async def over() -> bool:
        return await state_of(company, pairing_id) == state

    await until(over)


class TestConflictDetection:
    @pytest.mark.parametrize(
        ("changed", "rule"),
        [
            ({"line": ("j",)}, "reporting_line"),
            ({"line": ("boss",)}, "same_manager"),
            ({"evaluators": ("j",)}, "evaluator"),
            ({"organisation_id": "daughter"}, "other_organisation"),
        ],
    )
    async def test_coordinators_see_a_conflict_while_it_lasts(
        self, company: World, changed: dict[str, Any], rule: str
    ) -> None:
        await company.open_programme()
        pairing_id = await running(company, junior=person("j", "junior", line=("boss",)))
        await company.people(person("s", **changed))
        [result] = await seen(company, 1)
        assert (result["pairing_id"], result["rules"], result["ends_at"]) == (pairing_id, [rule], None)
        assert result["members"] == {"senior": "s", "junior": "j"}
        assert result["words"]
        assert result["state"] == "formed"
        await company.people(person("s"))
        assert await seen(company, 0) == []
        assert await state_of(company, pairing_id) == "formed"

    async def test_a_proposal_is_checked_and_can_still_be_answered(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        first = company.replicas[0]
        made = await first.do("admin", f"/programmes/{PROGRAMME}/pairings", {"senior": "s", "junior": "j"})
        await company.people(person("s", evaluators=("j",)))
        [result] = await seen(company, 1)
        assert result["state"] == "proposed"
        assert await decide(company, made["pairing_id"], "end") == 200
        await is_over(company, made["pairing_id"], "lapsed")

    async def test_a_repeated_old_event_flags_nothing(self, company: World) -> None:
        """The reaction runs again and reads the current state, not the state in the event."""
        await company.open_programme()
        pairing_id = await running(company)
        before = company._sequence
        await company.people(person("s", line=("j",)))
        await seen(company, 1)
        await company.people(person("s"))
        await seen(company, 0)
        await say(company.producer, company.prefix, person("s", line=("j",)), "profiles", before + 1)
        await company.people(person("marker"), person("s", site_id="berlin"))  # after the old event, with the same key
        await company.people(person("s", evaluators=("j",)))
        [result] = await seen(company, 1)
        assert result["rules"] == ["evaluator"]
        assert result["pairing_id"] == pairing_id

    async def test_two_simultaneous_changes_are_judged_by_their_result(self, company: World) -> None:
        """Many pairs, two replicas.

        Half of the pairs end up under the same manager; in the others both members change sides.
        """
        pairs = 10
        await company.open_programme()
        await company.second()
        first = company.replicas[0]
        people = [person(f"s{n}", line=("old",)) for n in range(pairs)]
        people += [person(f"j{n}", "junior", line=("new",)) for n in range(pairs)]
        await company.people(*people)
        for n in range(pairs):
            await first.do("admin", f"/programmes/{PROGRAMME}/pairings", {"senior": f"s{n}", "junior": f"j{n}"})
        moved = []
        for n in range(pairs):
            senior = person(f"s{n}", line=("new",))
            junior = person(f"j{n}", "junior", line=("old",) if n % 2 else ("new",), site_id="berlin")
            moved += [senior, junior] if n % 3 else [junior, senior]
        await company.people(*moved)
        together = {f"s{n}" for n in range(pairs) if not n % 2}

        async def settled() -> bool:
            return {item["members"]["senior"] for item in await listed(company)} == together

        await until(settled)
        await company.people(*(entry.model_copy(update={"site_id": "lyon"}) for entry in moved))
        await until(settled)

    async def test_a_writer_with_stale_data_checks_again(self, company: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """One writer has read the old line and stalls.

        Another writer records that no conflict exists. Then the first continues.
        """
        await company.open_programme()
        pairing_id = await running(company)
        matcher = company.replicas[0].matcher
        real: Callable[..., Awaitable[Any]] = conflicts._find_broken_rules
        stale: list[Any] = [(("same_manager",), "flag")]

        async def reading(*arguments: Any) -> Any:
            result = await real(*arguments)
            return stale.pop() if stale else result

        monkeypatch.setattr(conflicts, "_find_broken_rules", reading)
        await conflicts.check_pairing(pairing_id, matcher)
        assert stale == []
        assert await listed(company) == []

    @pytest.mark.parametrize("heard_before_the_seats", [True, False])
    async def test_a_conflict_during_the_reservation_prevents_a_proposal(
        self, company: World, monkeypatch: pytest.MonkeyPatch, heard_before_the_seats: bool
    ) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        real = reservation._take_seats

        async def reorganised() -> None:
            await company.people(person("s", line=("j",)))

        async def taking(*arguments: Any) -> Mapping[str, CommandRejected]:
            if heard_before_the_seats:
                await reorganised()
            refused = await real(*arguments)
            if not heard_before_the_seats:
                await reorganised()
            return refused

        monkeypatch.setattr(reservation, "_take_seats", taking)
        body = {"senior": "s", "junior": "j"}
        answer = await company.replicas[0].ask("admin", "POST", f"/programmes/{PROGRAMME}/pairings", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "no_longer_possible")
        assert await company.read_topic(PAIRINGS) == []

    async def test_ledgers_of_many_members_are_read_in_batches(
        self, company: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A whole company is imported at once, and hardly any member has a pairing yet."""
        batches: list[Sequence[str]] = []

        class CountedLookup(BatchedLookup):
            async def _read(self, ids: list[str]) -> list[Document | None]:
                batches.append(ids)
                return await super()._read(ids)

        for replica in company.replicas:
            ledgers = replica.matcher.ledgers
            monkeypatch.setattr(ledgers, "_by_id", CountedLookup(ledgers.collection))
        await company.people(*(person(f"p{n}") for n in range(200)))

        async def all_asked() -> bool:
            return len(set().union(*batches)) == 200

        await until(all_asked)
        assert len(batches) < 150


class TestConflictDecision:
    async def test_members_and_events_reveal_no_conflict(self, company: World) -> None:
        await company.open_programme()
        pairing_id = await running(company)
        first = company.replicas[0]

        async def is_published() -> bool:
            return len(await company.read_topic(PAIRINGS)) == 2

        await until(is_published)
        people = ("member:s", "member:j")
        views = [await first.get(who, f"/pairings/{pairing_id}") for who in people]
        states = len(await company.read_topic(PAIRING_STATES))
        await company.people(person("s", line=("j",)))
        await seen(company, 1)
        assert await decide(company, pairing_id, "keep") == 200
        assert await listed(company) == []
        assert [await first.get(who, f"/pairings/{pairing_id}") for who in people] == views
        assert (len(await company.read_topic(PAIRINGS)), len(await company.read_topic(PAIRING_STATES))) == (2, states)
        for who in ("member:s", "member:j"):
            assert (await first.ask(who, "GET", CONFLICTS)).status_code == 403
        await decide(company, pairing_id, "end")
        await is_over(company, pairing_id)
        views = [await first.get(who, f"/pairings/{pairing_id}") for who in people]
        assert all("conflict" not in str(view) and "line" not in str(view) for view in views)

    async def test_a_decision_stands_until_another_rule_is_broken(self, company: World) -> None:
        await company.open_programme()
        pairing_id = await running(company)
        await company.people(person("s", line=("j",)))
        await seen(company, 1)
        assert await decide(company, pairing_id, "keep") == 200
        await company.people(person("s", line=("j",), department_id="another"))
        await company.people(person("s", line=("j",), evaluators=("j",)))
        [result] = await seen(company, 1)
        assert result["rules"] == ["reporting_line", "evaluator"]

    async def test_only_unconcerned_coordinators_see_and_decide(self, company: World) -> None:
        await company.open_programme()
        pairing_id = await running(company)
        await company.people(person("chief"), person("other"), person("s", line=("chief",)))
        await company.people(person("j", "junior", line=("chief",)))
        await seen(company, 1)
        others = f"coordinator:other:{PROGRAMME}"
        assert len(await listed(company, others)) == 1
        for who in (f"coordinator:chief:{PROGRAMME}", "admin:chief", f"coordinator+member:j:{PROGRAMME}"):
            assert await listed(company, who) == [], who
        codes = {
            f"coordinator:chief:{PROGRAMME}": 404,
            "admin:chief": 404,
            "coordinator:other:another": 404,
            f"coordinator+member:j:{PROGRAMME}": 403,
            "member:s": 403,
            "service": 403,
        }
        for who, code in codes.items():
            assert await decide(company, pairing_id, "keep", who) == code, who
        assert (await company.replicas[0].ask("coordinator:other:another", "GET", CONFLICTS)).status_code == 403
        assert await decide(company, pairing_id, "perhaps", others) == 422
        assert await decide(company, pairing_id, "keep", others) == 200


class TestConflictEnd:
    async def test_a_conflict_ends_a_pairing_after_a_day_if_configured(self, company: World) -> None:
        await company.open_programme(settings(rules__on_conflict="end"))
        pairing_id = await running(company)
        await company.people(person("s", line=("j",)))
        [result] = await seen(company, 1)
        assert result["ends_at"] is not None
        assert await state_of(company, pairing_id) == "formed"
        await company.pass_time(timedelta(days=1, minutes=1))
        await is_over(company, pairing_id)
        assert await listed(company) == []

        async def is_published() -> bool:
            events = await company.read_topic(PAIRINGS)
            return events[-1].header("ce_type") == "mentoring.pairing.ended.v1" and b"not_started" in (
                events[-1].value or b""
            )

        await until(is_published)
        ledger = await company.replicas[0].matcher.ledgers.get("s")

        async def free() -> bool:
            stored = await company.replicas[0].matcher.ledgers.get("s")
            return stored is not None and not stored.state.held

        assert ledger is not None
        await until(free)

    async def test_a_decision_or_a_new_setting_prevents_that_end(self, company: World) -> None:
        await company.open_programme(settings(rules__on_conflict="end"))
        await company.people(person("t"), person("k", "junior"))
        first = company.replicas[0]
        stored = await running(company)
        body = {"senior": "t", "junior": "k"}
        other = (await first.do("admin", f"/programmes/{PROGRAMME}/pairings", body))["pairing_id"]
        await company.people(person("s", line=("j",)), person("t", line=("k",)))
        await seen(company, 2)
        assert await decide(company, stored, "keep") == 200
        changed = settings(rules__on_conflict="flag").model_dump(mode="json")
        await first.do("admin", f"/programmes/{PROGRAMME}/settings", changed, method="PUT")
        await company.pass_time(timedelta(days=1, minutes=1))

        async def only_flagged() -> bool:
            return [(item["pairing_id"], item["ends_at"]) for item in await listed(company)] == [(other, None)]

        await until(only_flagged)
        assert [await state_of(company, id) for id in (stored, other)] == ["formed", "proposed"]

    async def test_conflicts_are_checked_in_closed_programmes_too(self, company: World) -> None:
        await company.open_programme()
        pairing_id = await running(company)
        await company.replicas[0].do("admin", f"/programmes/{PROGRAMME}/close")
        await company.people(person("s", line=("j",)))
        await seen(company, 1)
        assert await decide(company, pairing_id, "end") == 200
        await is_over(company, pairing_id)
        await company.people(person("s", line=("j", "boss")))
        assert await listed(company) == []
        assert await decide(company, pairing_id, "keep") == 409
