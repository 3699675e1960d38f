"""Receipts on the running service: one for every proposal, also after a crash; access, verification and erasure."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from chassis.storage.mongo import Document
from contracts.pairings import PAIRINGS
from contracts.privacy import erasure_completions_of
from contracts.profiles import ProfileChanged
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.receipts.receipt import RunnerUp, Selection
from services.matcher.pairings import reservation
from services.matcher.pairings.reservation import reserve
from services.matcher.receipts import repository
from tests.matcher.builders import PROGRAMME, person, settings
from tests.matcher.domain.test_seat_ledger import plan
from tests.matcher.harness import World
from tests.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

COORDINATOR = f"coordinator:boss:{PROGRAMME}"
WEAK = {"generative-ai": "explain"}  # this makes a junior the second choice


async def put_together(company: World, senior: str = "s", junior: str = "j") -> str:
    made = await company.replicas[0].do(
        "admin", f"/programmes/{PROGRAMME}/pairings", {"senior": senior, "junior": junior}
    )
    return str(made["pairing_id"])


async def stored_receipts(company: World) -> list[Document]:
    return [document async for document in company.replicas[0].matcher.receipts.find({})]


async def seen(company: World, who: str, pairing_id: str) -> Mapping[str, Any]:
    result: Mapping[str, Any] = await company.replicas[0].get(who, f"/pairings/{pairing_id}/receipt")
    return result


async def verified(company: World, who: str, receipt_id: str) -> Mapping[str, Any]:
    result: Mapping[str, Any] = await company.replicas[0].get(who, f"/receipts/{receipt_id}/verification")
    return result


async def published_events(company: World, count: int) -> list[Mapping[str, Any]]:
    """Wait until ``pairings`` holds the given number of events, and return them."""

    async def all_of_it() -> bool:
        return len(await company.read_topic(PAIRINGS)) >= count

    await until(all_of_it)
    return [json.loads(record.value or b"{}") for record in await company.read_topic(PAIRINGS)]


async def forgotten(company: World, member_id: str) -> None:
    await company.gone(member_id)

    async def done() -> bool:
        return bool(await company.read_topic(erasure_completions_of("matcher")))

    await until(done)


class TestReceiptContent:
    async def test_the_receipt_of_a_round_verifies_for_every_viewer(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"), person("boss", enrolments=[]))
        await company.round()
        first = company.replicas[0]
        [mine] = (await first.get("member:s", "/pairings"))["items"]
        own, full = [await seen(company, who, mine["pairing_id"]) for who in ("member:s", COORDINATOR)]
        assert own["receipt_id"] == full["receipt_id"] == mine["receipt_id"]
        assert own["reasons"] == mine["you"]["reasons"]
        assert set(own) == {"receipt_id", "pairing_id", "made_at", "how", "reasons", "parts"}
        assert full["reasons"]["senior"] == own["reasons"]
        assert full["weights"] == settings().matching.weights.model_dump()
        assert (full["origin"], full["programme_version"], full["algorithm"]) == ("round", 1, "2")
        assert full["fit"]["score"] > 0
        assert full["chosen_with"] is None, "no profile has changed since the proposal"
        for who in ("member:s", "member:j", COORDINATOR, "admin"):
            result = await verified(company, who, own["receipt_id"])
            assert result["verified"], result
            assert result["differs"] == result["unknown"] == []
            assert (result["changed_since"] is None) == who.startswith("member")
            assert await seen(company, who, mine["pairing_id"]) == await first.get(
                who, f"/receipts/{own['receipt_id']}"
            )
        assert [event["receipt_id"] for event in await published_events(company, 1)] == [own["receipt_id"]]

    async def test_a_coordinators_pair_has_runners_up_and_a_cost(self, company: World) -> None:
        await company.open_programme()
        await company.people(
            person("s"),
            person("j", "junior", offers=WEAK),
            person("best", "junior"),
            person("unwanted", "junior", offers={"generative-ai": "teach"}, avoid=("s",)),
            person("report", "junior", offers={"generative-ai": "teach"}, line=("s",)),
        )
        full = await seen(company, "admin", await put_together(company))
        assert full["runner_up"].keys() == {"senior"}
        second = full["runner_up"]["senior"]
        assert second["member_id"] == "unwanted", (
            "private wishes are ignored; members excluded by a rule are no candidates"
        )
        assert full["override_cost"] == pytest.approx(second["score"] - full["fit"]["score"])
        assert full["override_cost"] > 0
        assert full["seed"] is None
        assert "probability" not in full
        assert "avoid" not in json.dumps(await stored_receipts(company))

    async def test_the_receipt_of_a_request_has_no_cost(self, company: World) -> None:
        await company.open_programme(settings(matching__shortlist=True))
        await company.people(
            person("s"), person("j", "junior"), person("best", "junior", offers={"generative-ai": "teach"})
        )
        first = company.replicas[0]
        request = await first.do("member:s", f"/programmes/{PROGRAMME}/requests", {"partner": "j"})
        done = await first.do("member:j", f"/requests/{request['request_id']}/accept")
        full = await seen(company, "admin", done["pairing"]["pairing_id"])
        assert (full["origin"], full["override_cost"]) == ("request", None)
        assert full["runner_up"]["senior"]["member_id"] == "best"
        own = await seen(company, "member:j", done["pairing"]["pairing_id"])
        assert own["how"] == "One of you asked the other by name."
        assert "best" not in json.dumps(own)
        assert {event["receipt_id"] for event in await published_events(company, 2)} == {full["receipt_id"]}

    async def test_changes_before_the_publication_are_included(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        computed = await company.round(publish=False)
        await company.people(person("j", "junior", offers={"generative-ai": "teach"}))
        first = company.replicas[0]
        await first.do("admin", f"/rounds/{computed['round_id']}/publish")
        await company.round_in(f"/rounds/{computed['round_id']}", "published")
        [mine] = (await first.get("member:s", "/pairings"))["items"]
        assert "can teach it" in mine["you"]["reasons"][0]
        full = await seen(company, "admin", mine["pairing_id"])
        assert full["chosen_with"]["score"] < full["fit"]["score"]
        assert (await verified(company, "admin", full["receipt_id"]))["verified"]

    async def test_pairs_proposed_together_have_their_own_receipts(self, company: World) -> None:
        await company.open_programme()
        people: list[ProfileChanged] = []
        for n in range(30):
            people += [person(f"s{n}"), person(f"j{n}", "junior")]
        await company.people(*people)
        await company.round()
        documents = await stored_receipts(company)
        assert len(documents) == len({document["pairing_id"] for document in documents}) == 30
        result = await asyncio.gather(*(verified(company, "admin", document["_id"]) for document in documents))
        assert all(item["verified"] for item in result)


class TestStoredReceiptVerification:
    async def test_changed_profiles_show_but_private_wishes_do_not(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        id = (await seen(company, "admin", await put_together(company)))["receipt_id"]
        await company.people(person("s", avoid=("j",)))
        assert (await verified(company, "admin", id))["changed_since"] == {"senior": False, "junior": False}
        await company.people(person("j", "junior", offers={"generative-ai": "explain"}))
        result = await verified(company, "admin", id)
        assert result["changed_since"] == {"senior": False, "junior": True}
        assert result["verified"], "the receipt uses the data of the time of the proposal"

    async def test_a_changed_document_does_not_verify(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        await put_together(company)
        [document] = await stored_receipts(company)
        forged = {**document, "inputs": document["inputs"].replace('"level":12', '"level":13')}
        await company.replicas[0].matcher.receipts.put(forged)
        result = await verified(company, "admin", document["_id"])
        assert not result["verified"]
        assert result["differs"] == ["inputs"]
        assert result["words"][0] == "Not the same is what it was computed from."

    async def test_only_viewers_of_the_pairing_see_its_receipt(self, company: World) -> None:
        await company.open_programme()
        await company.people(
            person("s"),
            person("j", "junior", offers=WEAK, line=("chief",)),
            person("best", "junior", line=("boss",)),
            person("boss"),
            person("chief"),
        )
        pairing_id = await put_together(company)
        full = await seen(company, "admin", pairing_id)
        assert full["runner_up"]["senior"]["member_id"] == "best"
        hidden = await seen(company, COORDINATOR, pairing_id)
        assert hidden["runner_up"]["senior"] == {**full["runner_up"]["senior"], "member_id": None}, (
            "conflict of interest: own reporting line"
        )
        first = company.replicas[0]
        paths = (
            f"/pairings/{pairing_id}/receipt",
            f"/receipts/{full['receipt_id']}",
            f"/receipts/{full['receipt_id']}/verification",
        )
        for path in paths:
            for who in (f"coordinator:chief:{PROGRAMME}", "admin:chief", "member:best", "coordinator:boss:another"):
                assert (await first.ask(who, "GET", path)).status_code == 404, (who, path)
            assert (await first.ask("service", "GET", path)).status_code == 403
        assert (await first.ask("admin", "GET", "/receipts/nowhere")).status_code == 404


class TestReceiptCrash:
    async def test_a_crash_before_the_proposal_leaves_no_receipt(
        self, company: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pairings, "RESERVATION_LEASE", timedelta(seconds=1))
        real = repository.write_receipts
        died: list[bool] = []

        async def dying(*arguments: Any) -> Any:
            result = await real(*arguments)
            if not died:
                died.append(True)
                raise ConnectionError("the process ends after the receipt was written")
            return result

        monkeypatch.setattr(reservation, "write_receipts", dying)
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        body = {"senior": "s", "junior": "j"}
        path = f"/programmes/{PROGRAMME}/pairings"
        assert (await company.replicas[0].ask("admin", "POST", path, body, key="again")).status_code >= 500
        [orphan] = await stored_receipts(company)
        assert (await company.replicas[0].ask("admin", "GET", f"/receipts/{orphan['_id']}")).status_code == 404

        async def dropped() -> bool:
            return not await stored_receipts(company)

        await until(dropped)
        assert await company.read_topic(PAIRINGS) == []
        made = await company.replicas[0].do("admin", path, body, key="again")
        [document] = await stored_receipts(company)
        assert (document["attempt"], document["pairing_id"]) == (2, made["pairing_id"])

    async def test_two_processes_share_the_first_receipt(
        self,
        company: World,
    ) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        matcher, same = company.replicas[0].matcher, plan("p", "s", "j").model_copy(update={"origin": "coordinator"})
        item = await repository.write_receipts(matcher, [same], {"p": 1})
        await company.people(person("s", offers={"negotiation": "explain"}))
        other = await repository.write_receipts((await company.second()).matcher, [same], {"p": 1})
        assert item == other
        again = await repository.write_receipts(matcher, [same], {"p": 2})
        assert again["p"].fit != item["p"].fit


class TestReceiptErasure:
    async def test_an_erased_member_is_gone_also_as_a_runner_up(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior", offers=WEAK), person("best", "junior"), person("t"))
        pairing_id = await put_together(company)
        others = await put_together(company, "t", "best")
        assert (await seen(company, "admin", pairing_id))["runner_up"]["senior"]["member_id"] == "best"
        await forgotten(company, "best")
        [left] = await stored_receipts(company)
        assert left["pairing_id"] == pairing_id
        assert '"best"' not in json.dumps(left)
        after = await seen(company, "admin", pairing_id)
        assert after["runner_up"].keys() == {"junior"}
        assert (await verified(company, "admin", after["receipt_id"]))["verified"]
        assert (await company.replicas[0].ask("member:t", "GET", f"/pairings/{others}/receipt")).status_code == 404

    async def test_a_later_receipt_does_not_name_an_erased_runner_up(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"), person("third", "junior"))
        await forgotten(company, "third")
        chosen = Selection(runner_up={"senior": RunnerUp(member_id="third", score=0.5)})
        late = plan("late", "s", "j").model_copy(update={"origin": "coordinator", "chosen": chosen})
        outcome = (await reserve(company.replicas[0].matcher, [late]))["late"]
        assert isinstance(outcome, pairings.Pairing)
        [document] = await stored_receipts(company)
        assert "third" not in json.dumps(document)
