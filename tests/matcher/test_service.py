"""The running matcher: seats, privacy, publication, requests and commands, also after crashes and erasures."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from contracts.errors import CommandRejected
from contracts.feedback import PartnerChangeRequested, Session, SessionHeld
from contracts.pairings import PAIRING_STATES, PAIRINGS
from contracts.privacy import ERASURE_REQUESTS, erasure_completions_of
from contracts.profiles import ProfileChanged
from contracts.programmes import ROUNDS
from services.matcher import erasure
from services.matcher.domain.rounds import round as domain_round
from services.matcher.pairings import reservation
from services.matcher.rounds import lifecycle
from tests.matcher.builders import NOW, PROGRAMME, person, settings
from tests.matcher.domain.test_seat_ledger import plan
from tests.matcher.harness import World
from tests.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHOICE = {"matching__shortlist": True}


async def state_of(company: World, pairing_id: str) -> str:
    stored = await company.replicas[0].matcher.pairings.get(pairing_id)
    assert stored is not None
    return stored.state.state


async def held_by(company: World, member_id: str) -> int:
    stored = await company.replicas[0].matcher.ledgers.get(member_id)
    return len(stored.state.held) if stored else 0


async def formed(company: World, senior: str = "s", junior: str = "j") -> str:
    """Return a formed pairing of these two members."""
    first = company.replicas[0]
    made = await first.do("admin", f"/programmes/{PROGRAMME}/pairings", {"senior": senior, "junior": junior})
    for who in (senior, junior):
        await first.do(f"member:{who}", f"/pairings/{made['pairing_id']}/answer", {"answer": "accepted"})
    return str(made["pairing_id"])


async def is_over(company: World, pairing_id: str, state: str, *members: str) -> None:
    """Wait until the pairing has ended and its seats are free."""

    async def over() -> bool:
        free = [not await held_by(company, member) for member in members]
        return await state_of(company, pairing_id) == state and all(free)

    await until(over)


async def types_on(company: World, topic: Any) -> list[str]:
    return [str(record.header("ce_type")).removeprefix("mentoring.") for record in await company.read_topic(topic)]


class TestSeats:
    async def test_two_replicas_cannot_take_one_seat_twice(self, company: World) -> None:
        """The second reservation is refused. The journey test repeats this 200 times."""
        times = 20
        await company.open_programme(settings(**CHOICE))
        await company.people(
            *(person(f"j{n}", "junior") for n in range(times)),
            *(person(f"{side}{n}") for n in range(times) for side in ("a", "b")),
        )
        item, two = company.replicas[0], await company.second()
        slots = asyncio.Semaphore(8)

        async def contest(n: int) -> list[int]:
            async with slots:
                request_body = [
                    await item.do(f"member:{side}{n}", f"/programmes/{PROGRAMME}/requests", {"partner": f"j{n}"})
                    for side in ("a", "b")
                ]
                answers = await asyncio.gather(
                    *(
                        replica.ask(f"member:j{n}", "POST", f"/requests/{request['request_id']}/accept")
                        for replica, request in zip((item, two), request_body, strict=True)
                    )
                )
                for answer in answers:
                    if answer.status_code != 200:
                        assert answer.json()["code"] in ("no_seat", "already_partners")
                        assert "places" in answer.json()["detail"]
                return sorted(answer.status_code for answer in answers)

        outcomes = await asyncio.gather(*(contest(n) for n in range(times)))
        assert all(outcome in ([200, 409], [409, 409]) for outcome in outcomes)
        live = [stored.state async for stored in item.matcher.pairings.find({"state": "formed"})]
        juniors = [pairing.plan.junior.member_id for pairing in live]
        assert len(juniors) == len(set(juniors)) == sum(200 in outcome for outcome in outcomes)

    async def test_an_unanswered_proposal_lapses_and_frees_its_seats(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        await company.round()
        [pairing] = (await company.replicas[0].get("member:s", "/pairings"))["items"]
        await company.pass_time(timedelta(days=13))
        assert await state_of(company, pairing["pairing_id"]) == "proposed"
        await company.pass_time(timedelta(days=2))
        await is_over(company, pairing["pairing_id"], "lapsed", "s", "j")
        again = await company.round()
        assert again["pairs"] == 0, "no pair is suggested twice"

    async def test_a_leaver_ends_their_pairings_without_blame(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        pairing_id = await formed(company)
        await company.say(person("s", employment="left"))
        await is_over(company, pairing_id, "ended", "s", "j")
        assert b'"end_kind":"not_started"' in ((await company.read_topic(PAIRINGS))[-1].value or b"")


class TestPrivacy:
    async def test_nobody_learns_who_refused(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"), person("boss", enrolments=[]))
        await company.round()
        first = company.replicas[0]
        [mine] = (await first.get("member:j", "/pairings"))["items"]
        path = f"/pairings/{mine['pairing_id']}"
        await first.do("member:s", f"{path}/answer", {"answer": "accepted"})
        refused = await first.do("member:j", f"{path}/answer", {"answer": "declined", "reason": "no_time"})
        assert refused["you"]["reason"] == "no_time"
        for who in ("member:s", f"coordinator:boss:{PROGRAMME}", "admin"):
            seen = await first.get(who, path)
            assert seen["state"] == "lapsed"
            assert "declined" not in str(seen)
            assert "no_time" not in str(seen)
        for who in ("member:boss", "coordinator:boss:another", "service"):
            assert (await first.ask(who, "GET", path)).status_code in (403, 404)
        await is_over(company, mine["pairing_id"], "lapsed", "s", "j")
        events = [record.value for topic in (PAIRINGS, PAIRING_STATES) for record in await company.read_topic(topic)]
        assert not any(b"no_time" in value or b"declined" in value for value in events if value)

    async def test_an_erased_member_is_gone_and_reported_once(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        pairing_id = await formed(company)
        await company.round(publish=False)
        await company.gone("j")

        async def is_published() -> bool:
            return "erasure.completed.v1" in await types_on(company, erasure_completions_of("matcher"))

        await until(is_published)
        assert await types_on(company, ERASURE_REQUESTS) == ["erasure.requested.v1"]
        assert await types_on(company, erasure_completions_of("matcher")) == ["erasure.completed.v1"]
        await is_over(company, pairing_id, "ended", "s", "j")
        assert "pairing.ended.v1" in await types_on(company, PAIRINGS)
        assert (await company.read_topic(PAIRING_STATES))[-1].value is None
        matcher = company.replicas[0].matcher
        for collection in (
            matcher.pairings.collection,
            matcher.requests.collection,
            matcher.proposals.collection,
            matcher.unmatched.collection,
        ):
            assert '"j"' not in str([document async for document in collection.find({})]).replace("'", '"')
        await company.say(person("j", "junior"))
        assert (await company.replicas[0].get("admin", "/ledgers/j"))["closed"]
        answer = await company.replicas[0].ask(
            "admin", "POST", f"/programmes/{PROGRAMME}/pairings", {"senior": "s", "junior": "j"}
        )
        assert answer.status_code in (404, 409)

    async def test_a_plan_after_an_erasure_leaves_no_trace(self, company: World) -> None:
        """The erasure has finished its search. A proposal prepared before it is reserved only afterwards."""
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        matcher = company.replicas[0].matcher
        await erasure.forget("j", matcher)
        outcome = (await reservation.reserve(matcher, [plan("late", "s", "j")]))["late"]
        assert isinstance(outcome, CommandRejected)
        assert outcome.code == "closed"
        assert await matcher.pairings.of_member("j") == []
        assert await held_by(company, "s") == 0

    async def test_a_coordinator_sees_nothing_of_their_own_line(self, company: World) -> None:
        await company.open_programme()
        await company.people(
            person("s"), person("j", "junior", line=("c",)), person("t"), person("k", "junior"), person("c", level=14)
        )
        first = company.replicas[0]
        coordinator = f"coordinator:c:{PROGRAMME}"
        await formed(company, "s", "j")
        await formed(company, "t", "k")
        seen = (await first.get(coordinator, f"/pairings?programme_id={PROGRAMME}"))["items"]
        assert [{item["member_id"] for item in pairing["participants"]} for pairing in seen] == [{"t", "k"}]
        everything = (await first.get("admin", f"/pairings?programme_id={PROGRAMME}"))["items"]
        hidden = next(pairing for pairing in everything if pairing not in seen)
        assert (await first.ask(coordinator, "GET", f"/pairings/{hidden['pairing_id']}")).status_code == 404
        assert (await first.ask(coordinator, "POST", f"/pairings/{hidden['pairing_id']}/end")).status_code == 404
        mine = {"senior": "c", "junior": "k"}
        refused = await first.ask(coordinator, "POST", f"/programmes/{PROGRAMME}/pairings", mine)
        assert refused.json()["code"] == "own_line"
        assert (
            await first.ask("coordinator:c:another", "POST", f"/programmes/{PROGRAMME}/rounds", {})
        ).status_code == 403

    async def test_a_coordinator_sees_no_waiting_of_their_own_line(self, company: World) -> None:
        """A free seat, or no partner, tells what became of a pairing."""
        await company.open_programme()
        await company.people(person("s"), person("t", line=("c",)), person("c", level=14))
        first, round = company.replicas[0], await company.round(publish=False)
        for path in (f"/programmes/{PROGRAMME}/free", f"/rounds/{round['round_id']}/unmatched"):
            seen = {
                token: {item["member_id"] for item in (await first.get(token, path))["items"]}
                for token in (f"coordinator:c:{PROGRAMME}", "admin:c", "admin")
            }
            assert list(seen.values()) == [{"s"}, {"s"}, {"s", "t", "c"}]


class TestPartnerChange:
    async def test_meetings_and_partner_changes_update_the_pairing(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        pairing_id = await formed(company)
        common: dict[str, Any] = {
            "pairing_id": pairing_id,
            "programme_id": PROGRAMME,
            "happened_at": NOW,
            "recorded_at": NOW,
        }
        await company.say(SessionHeld(session=Session(session_id="1", state="held", starts_at=NOW), **common))
        await company.say(PartnerChangeRequested(**common))
        await is_over(company, pairing_id, "ended", "s", "j")
        stored = await company.replicas[0].matcher.pairings.get(pairing_id)
        assert stored is not None
        assert stored.state.end_kind == "ended_early"

    async def test_a_new_partner_is_suggested_and_never_the_old_one(
        self,
        company: World,
    ) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        pairing_id = await formed(company)
        first = company.replicas[0]
        wish = PartnerChangeRequested(pairing_id=pairing_id, programme_id=PROGRAMME, happened_at=NOW, recorded_at=NOW)
        await company.say(wish)
        await is_over(company, pairing_id, "ended", "s", "j")
        await company.pass_time(timedelta(days=3))
        free = (await first.get("admin", f"/programmes/{PROGRAMME}/free"))["items"]
        assert [(item["member_id"], item["days_waiting"]) for item in free] == [("s", 3), ("j", 3)]
        path = f"/programmes/{PROGRAMME}/suggestions"
        assert (await first.do("admin", path))["items"] == []
        await company.people(person("t"))
        [suggested] = (await first.do("admin", path))["items"]
        assert (suggested["senior"], suggested["junior"]) == ("t", "j")
        assert suggested["reasons"]["junior"]
        assert (await first.ask("member:j", "GET", f"/programmes/{PROGRAMME}/free")).status_code == 403
        pair = {"senior": suggested["senior"], "junior": suggested["junior"]}
        assert (await first.do("admin", f"/programmes/{PROGRAMME}/pairings", pair))["state"] == "proposed"
        assert (await first.do("admin", path))["items"] == []


class TestPublication:
    async def test_pairs_are_checked_again_before_they_are_proposed(self, company: World) -> None:
        await company.open_programme()
        await company.people(*(person(f"s{n}") for n in range(3)), *(person(f"j{n}", "junior") for n in range(3)))
        computed = await company.round(publish=False)
        path = f"/rounds/{computed['round_id']}"
        first = company.replicas[0]
        before = (await first.get("admin", f"{path}/proposals"))["items"]
        assert [proposal["state"] for proposal in before] == ["waiting"] * 3
        now_reports = person(before[0]["junior"]["member_id"], "junior", line=(before[0]["senior"]["member_id"],))
        now_avoids = person(before[1]["junior"]["member_id"], "junior", avoid=(before[1]["senior"]["member_id"],))
        await company.people(now_reports, now_avoids)
        await first.do("admin", f"{path}/publish")
        done = await company.round_in(path, "published")
        assert (done["proposed"], done["withdrawn"]) == (2, 1)
        after = (await first.get("admin", f"{path}/proposals"))["items"]
        assert [proposal["state"] for proposal in after] == ["withdrawn", "proposed", "proposed"], "a wish is no rule"

    async def test_a_crash_loses_no_proposal_and_sends_none_twice(
        self, company: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lifecycle, "PUBLISH_BATCH", 2)
        crashed: list[str] = []
        real = lifecycle._save_cursor

        async def crashing(*arguments: Any) -> bool:
            if len(crashed) < 2:
                crashed.append(arguments[1])
                raise ConnectionError("the process dies after the proposals went out, before the cursor was saved")
            return await real(*arguments)

        monkeypatch.setattr(lifecycle, "_save_cursor", crashing)
        await company.open_programme()
        await company.people(*(person(f"s{n}") for n in range(5)), *(person(f"j{n}", "junior") for n in range(5)))
        await company.second()
        computed = await company.round(publish=False)
        monkeypatch.setattr(domain_round, "ROUND_LEASE", timedelta(seconds=2))
        await company.replicas[0].do("admin", f"/rounds/{computed['round_id']}/publish")
        done = await company.round_in(f"/rounds/{computed['round_id']}", "published")
        assert crashed == ["000001", "000001"]
        assert (done["pairs"], done["proposed"], done["withdrawn"]) == (5, 5, 0)

        async def all_told() -> bool:
            return (await types_on(company, PAIRINGS)).count("pairing.proposed.v1") >= 5

        await until(all_told)
        assert (await types_on(company, ROUNDS)) == ["round.computed.v1", "round.published.v1"]
        assert len({record.header("ce_id") for record in await company.read_topic(PAIRINGS)}) == 5

    async def test_an_empty_round_explains_itself(self, company: World) -> None:
        await company.open_programme()
        lonely: ProfileChanged = person("s")
        await company.people(lonely)
        done = await company.round()
        assert done["pairs"] == 0
        assert done["why"] == "There is no junior who is ready and has a place free."
        [left] = (await company.replicas[0].get("admin", f"/rounds/{done['round_id']}/unmatched"))["items"]
        assert left["code"] == "nobody_on_the_other_side"


class TestRequests:
    async def test_a_request_against_a_private_wish_looks_like_others(self, company: World) -> None:
        await company.open_programme(settings(**CHOICE))
        await company.people(
            person("s"), person("j1", "junior"), person("j2", "junior", avoid=("s",)), person("j3", "junior")
        )
        first = company.replicas[0]
        request_body = {
            partner: await first.do("member:s", f"/programmes/{PROGRAMME}/requests", {"partner": partner})
            for partner in ("j1", "j2")
        }
        plain, hidden = (
            {
                name: value
                for name, value in request_body[partner].items()
                if name not in ("request_id", "asked", "asked_at")
            }
            for partner in ("j1", "j2")
        )
        assert plain.keys() == hidden.keys()
        assert hidden["state"] == plain["state"] == "open"
        assert len((await first.get("member:s", "/requests"))["items"]) == 2
        assert (await first.get("member:j2", "/requests"))["items"] == []
        request = f"/requests/{request_body['j2']['request_id']}"
        assert (await first.ask("member:j2", "GET", request)).status_code == 404
        assert (await first.ask("member:j2", "POST", f"{request}/accept")).status_code == 404
        shortlist = (await first.get("member:s", f"/programmes/{PROGRAMME}/shortlist"))["items"]
        assert {choice["member_id"] for choice in shortlist} == {"j1", "j2", "j3"}
        own = (await first.get("member:j2", f"/programmes/{PROGRAMME}/shortlist"))["items"]
        assert own == [], "nobody else's list, but their own"
        assert "score" not in str(shortlist)
        await first.do("member:j1", f"/requests/{request_body['j1']['request_id']}/decline")
        await company.pass_time(timedelta(days=20))

        async def both_lapsed() -> bool:
            return {item["state"] for item in (await first.get("member:s", "/requests"))["items"]} == {"lapsed"}

        await until(both_lapsed)

    async def test_an_accepted_request_forms_the_pairing_at_once(self, company: World) -> None:
        await company.open_programme(settings(**CHOICE))
        await company.people(person("s"), person("j", "junior"))
        first = company.replicas[0]
        request = await first.do("member:j", f"/programmes/{PROGRAMME}/requests", {"partner": "s"})
        assert request["asker_side"] == "junior"
        done = await first.do("member:s", f"/requests/{request['request_id']}/accept")
        assert (done["request"]["state"], done["pairing"]["state"], done["pairing"]["origin"]) == (
            "accepted",
            "formed",
            "request",
        )
        again = await first.do("member:s", f"/requests/{request['request_id']}/accept")
        assert again["pairing"]["pairing_id"] == done["pairing"]["pairing_id"]

    async def test_members_choose_only_where_the_programme_allows_it(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        answer = await company.replicas[0].ask("member:s", "GET", f"/programmes/{PROGRAMME}/shortlist")
        assert (answer.status_code, answer.json()["code"]) == (409, "no_shortlist")


class TestCommands:
    async def test_a_repeated_command_has_no_second_effect(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        first = company.replicas[0]
        path = f"/programmes/{PROGRAMME}/rounds"
        once = await first.do("admin", path, {"seed": 3}, key="one")
        again = await first.do("admin", path, {"seed": 3}, key="one")
        assert once["round_id"] == again["round_id"]
        other = await first.ask("admin", "POST", path, {"seed": 4}, key="one")
        assert (other.status_code, other.json()["code"]) == (422, "key_reused")
        body = {"senior": "s", "junior": "j"}
        pairs = [await first.do("admin", f"/programmes/{PROGRAMME}/pairings", body, key="two") for _ in range(2)]
        assert pairs[0]["pairing_id"] == pairs[1]["pairing_id"]
        refused = await first.ask("admin", "POST", f"/programmes/{PROGRAMME}/pairings", body)
        assert refused.status_code == 409

    async def test_charter_pause_and_end(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        path = f"/pairings/{await formed(company)}"
        first = company.replicas[0]
        await first.do("member:s", f"{path}/charter", {"goals": ["Try one new tool a month"]})
        chartered = await first.do("member:j", f"{path}/charter", {"agree": True})
        assert chartered["state"] == "chartered"
        assert chartered["you"]["charter"]["goals"] == ["Try one new tool a month"]
        assert (await first.do("member:j", f"{path}/pause"))["state"] == "paused"
        assert (await first.do("admin", f"{path}/resume"))["state"] == "chartered"
        assert (await first.do("member:s", f"{path}/renew", {"months": 3}))["renewals"] == 0
        assert (await first.do("member:j", f"{path}/renew", {"months": 3}))["renewals"] == 1
        ended = await first.do("member:j", f"{path}/end")
        assert (ended["state"], ended["end_kind"]) == ("ended", "not_started")
        late = await first.ask("member:s", "POST", f"{path}/pause", {})
        assert (late.status_code, late.json()["code"]) == (409, "wrong_state")

    async def test_contradicting_settings_are_refused_with_a_text(self, company: World) -> None:
        first = company.replicas[0]
        wrong = settings().model_dump(mode="json")
        wrong["matching"]["weights"] = dict.fromkeys(wrong["matching"]["weights"], 0)
        answer = await first.ask("admin", "POST", "/programmes", {"settings": wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "contradictory_settings")
        assert "sum to 0" in answer.json()["detail"]
        missing = await first.ask("admin", "GET", "/programmes/nowhere")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert (await first.ask("member:s", "POST", "/programmes", {"settings": wrong})).status_code == 403


class TestConfidentialContact:
    async def test_only_an_admin_names_another_one(self, company: World) -> None:
        await company.open_programme()
        first, path = company.replicas[0], f"/programmes/{PROGRAMME}/settings"
        coordinator = f"coordinator:c:{PROGRAMME}"
        other = settings(confidential_contact="c-second-account").model_dump(mode="json")
        assert (await first.ask(coordinator, "PUT", path, other)).status_code == 403
        same = settings(rules__min_level_gap=3).model_dump(mode="json")
        assert (await first.ask(coordinator, "PUT", path, same)).status_code == 200
        assert (await first.ask("admin", "PUT", path, other)).status_code == 200
        stored = await first.matcher.programmes.get(PROGRAMME)
        assert stored is not None
        assert stored.state.contact_since == stored.state.happened_at

    async def test_nobody_who_runs_programmes_names_themselves(self, company: World) -> None:
        await company.open_programme()
        first, path = company.replicas[0], f"/programmes/{PROGRAMME}/settings"
        own = settings(confidential_contact="a").model_dump(mode="json")
        refused = await first.ask("admin:a", "PUT", path, own)
        assert (refused.status_code, refused.json()["code"]) == (409, "contact_is_caller")
        new = {"programme_id": "another", "settings": own}
        for token in ("admin:a", "coordinator:a:another"):
            refused = await first.ask(token, "POST", "/programmes", new)
            assert (refused.status_code, refused.json()["code"]) == (409, "contact_is_caller")
        both = settings(confidential_contact="b", coordinators=["b"]).model_dump(mode="json")
        refused = await first.ask("admin", "POST", "/programmes", {"settings": both})
        assert (refused.status_code, refused.json()["code"]) == (422, "contradictory_settings")
