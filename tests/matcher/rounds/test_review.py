"""A round as its coordinator uses it: figures, manual changes, comparison, cancellation, and permissions."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from typing import Any

import pytest

from contracts.profiles import ProfileChanged
from services.matcher.domain.rounds import round as domain_round
from services.matcher.engine.unmatched_texts import member_text
from services.matcher.solver_process import client as solving
from tests.matcher.builders import PROGRAMME, person, settings
from tests.matcher.harness import World
from tests.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

COORDINATOR = f"coordinator:c:{PROGRAMME}"


def four_and_four(**of_j0: Any) -> list[ProfileChanged]:
    """Four seniors and four juniors: every pair is possible, and equal numbers fit best."""
    topics = ("negotiation", "budgeting", "leadership", "generative-ai")
    people = []
    for n, topic in enumerate(topics):
        own = {topic: "teach", "prompt-writing": "explain"}
        people.append(person(f"s{n}", offers=own, seeks={topic: 3, "prompt-writing": 1}))
        changes = of_j0 if n == 0 else {}
        people.append(person(f"j{n}", "junior", offers=own, seeks={topic: 3, "prompt-writing": 1}, **changes))
    return people


EASY = settings(matching__floors__benefit=0.01, matching__floors__compatibility=0.01)


async def pairs_of(company: World, path: str, who: str = "admin") -> set[tuple[str, str]]:
    result = (await company.replicas[0].get(who, f"{path}/proposals?limit=200"))["items"]
    return {(item["senior"]["member_id"], item["junior"]["member_id"]) for item in result}


async def adjust(company: World, path: str, kind: str, *pairs: tuple[str, str], who: str = "admin") -> Any:
    two = [{"senior": senior, "junior": junior} for senior, junior in pairs]
    body = {"kind": kind, **({"swap": two} if kind == "swap" else {"pair": two[0]})}
    return await company.replicas[0].do(who, f"{path}/adjustments", body)


async def resolved(company: World, path: str, *, whole: bool = False) -> list[Any]:
    """Resolve the round, and return its adjustments with their results."""
    await company.replicas[0].do("admin", f"{path}/resolve", {"whole": whole})
    assert (await company.round_in(path, "computed", "failed"))["state"] == "computed"
    result: list[Any] = await company.replicas[0].get("admin", f"{path}/adjustments")
    return result


def _two(senior: str, junior: str) -> dict[str, str]:
    return {"senior": senior, "junior": junior}


def _named(adjustment: Any) -> set[str]:
    return {adjustment["member_id"], *adjustment["partners_before"], *adjustment["partners_after"]}


async def _processes(
    company: World, monkeypatch: pytest.MonkeyPatch, *, hold_the_first: bool = False
) -> list[solving._WorkerProcess]:
    """Return a list of all workers that start from now on. The first may be stopped; later ones run."""
    for replica in company.replicas:
        await replica.matcher.solver.stop()
    begun: list[solving._WorkerProcess] = []
    real = solving._start_worker

    async def started() -> solving._WorkerProcess:
        worker = await real()
        if hold_the_first and not begun:
            os.kill(worker._process.pid, signal.SIGSTOP)
        begun.append(worker)
        return worker

    monkeypatch.setattr(solving, "_start_worker", started)
    return begun


async def _is(condition: bool) -> bool:
    await asyncio.sleep(0)
    return condition


class TestReview:
    async def test_the_summary_has_coverage_reasons_and_worst_pairs(self, company: World) -> None:
        await company.open_programme(EASY)
        await company.people(*four_and_four(), person("alone", "junior", level=11))
        round = await company.round(publish=False)
        first = company.replicas[0]
        summary = await first.get("admin", f"/rounds/{round['round_id']}/summary")
        assert (summary["pairs"], summary["seniors"], summary["juniors"]) == (4, 4, 5)
        assert summary["optimum"] >= summary["total_fit"] - 1e-6 > 0
        assert summary["coverage"] == [
            {"department_id": "department-of-juniors", "side": "junior", "people": 5, "matched": 4},
            {"department_id": "department-of-seniors", "side": "senior", "people": 4, "matched": 4},
        ]
        assert summary["reasons"] == [{"side": "junior", "code": "level_gap", "people": 1}]
        scores = [item["fit"]["score"] for item in summary["worst"]]
        assert scores == sorted(scores)
        assert len(scores) == 4
        [left] = (await first.get("admin", f"/rounds/{round['round_id']}/unmatched"))["items"]
        assert (left["member_id"], left["code"]) == ("alone", "level_gap")

    async def test_a_member_learns_why_they_have_no_partner(self, company: World) -> None:
        await company.open_programme(EASY)
        await company.people(*four_and_four(), person("alone", "junior", level=11))
        first = company.replicas[0]
        path = f"/programmes/{PROGRAMME}/why-not"
        assert (await first.get("member:alone", path))["code"] == "no_round"
        await company.round()
        answer = await first.get("member:alone", path)
        assert (answer["code"], answer["round_id"] is not None) == ("level_gap", True)
        assert answer["text"] == member_text("level_gap")
        assert not {"numbers", "relaxation"} & answer.keys()
        assert (await first.get("member:j0", path))["code"] == "not_left_over"
        assert (await first.ask("member:stranger", "GET", path)).status_code == 404
        round = await first.matcher.rounds.load(answer["round_id"])
        assert round.state.told_cursor == "alone"

    async def test_a_trial_is_compared_and_never_published(self, company: World) -> None:
        await company.open_programme(EASY)
        people = four_and_four()
        people[0] = people[0].model_copy(update={"department_id": "department-of-juniors"})
        await company.people(*people)
        first = company.replicas[0]
        computed = (await company.round(publish=False))["round_id"]
        wishes = {"matching": {"weights": {"lower_benefit": 0, "higher_benefit": 0.01, "perspective": 100}}}
        started = await first.do("admin", f"/programmes/{PROGRAMME}/rounds", {"seed": 1, "trial": wishes})
        trial = await company.round_in(f"/rounds/{started['round_id']}", "computed", "failed")
        assert trial["trial"]
        refused = await first.ask("admin", "POST", f"/rounds/{trial['round_id']}/publish", {})
        assert refused.json()["code"] == "trial_round"
        result = await first.get("admin", f"/rounds/{computed}/compare/{trial['round_id']}")
        assert result["total_fit"][0] == pytest.approx(result["total_fit_as_computed"][0])
        assert result["total_fit"][1] <= result["total_fit"][0] + 1e-6
        gains = [item["gain"] for item in result["items"]]
        assert gains == sorted(gains)
        same = await first.get("admin", f"/rounds/{computed}/compare/{computed}")
        assert (same["items"], same["pairs_in_common"]) == ([], 4)
        impossible: list[Any] = [{"care": {}}, {"matching": {"weight": {}}}, {"matching": {"floors": {"benefit": 7}}}]
        for wrong in impossible:
            answer = await first.ask("admin", "POST", f"/programmes/{PROGRAMME}/rounds", {"trial": wrong})
            assert answer.status_code == 422, wrong


class TestAdjustments:
    async def test_lock_and_forbid_take_effect_and_can_be_undone(self, company: World) -> None:
        await company.open_programme(EASY)
        await company.people(*four_and_four())
        path = f"/rounds/{(await company.round(publish=False))['round_id']}"
        before = await pairs_of(company, path)
        assert before == {(f"s{n}", f"j{n}") for n in range(4)}
        locked = await adjust(company, path, "lock", ("s0", "j1"))
        await adjust(company, path, "forbid", ("s2", "j2"))
        first = company.replicas[0]
        refused = await first.ask("admin", "POST", f"{path}/publish", {})
        assert refused.json()["code"] == "not_resolved"
        effects = await resolved(company, path)
        assert [(item["state"], item["kept"]) for item in effects] == [("in_force", True)] * 2
        assert all(item["cost"] > 0 for item in effects)
        after = await pairs_of(company, path)
        assert ("s0", "j1") in after
        assert ("s2", "j2") not in after
        assert len(after) == 4
        round = await first.get("admin", path)
        assert round["total_fit"] == pytest.approx(round["optimum"] - sum(item["cost"] for item in effects), abs=1e-3)
        for item in effects:
            await first.do("admin", f"{path}/adjustments/{item['adjustment_id']}/undo")
        assert await resolved(company, path) == []
        assert await pairs_of(company, path) == before
        assert locked["state"] == "new"

    async def test_a_swap_is_published_whichever_process_solves_it(self, company: World) -> None:
        await company.open_programme(EASY)
        await company.people(*four_and_four())
        path = f"/rounds/{(await company.round(publish=False))['round_id']}"
        await adjust(company, path, "swap", ("s0", "j0"), ("s1", "j1"))
        first = company.replicas[0]
        await first.matcher.solver.stop()  # the process has lost its memory, as after a restart
        [swap] = await resolved(company, path)
        wanted = {("s0", "j1"), ("s1", "j0"), ("s2", "j2"), ("s3", "j3")}
        assert await pairs_of(company, path) == wanted
        assert swap["kept"]
        await resolved(company, path, whole=True)
        assert await pairs_of(company, path) == wanted
        await first.do("admin", f"{path}/publish")
        done = await company.round_in(path, "published")
        assert (done["proposed"], done["withdrawn"]) == (4, 0)
        stored = [result async for result in first.matcher.pairings.find({})]
        assert {(item.state.plan.senior.member_id, item.state.plan.junior.member_id) for item in stored} == wanted
        late = await first.ask("admin", "POST", f"{path}/adjustments", {"kind": "lock", "pair": _two("s0", "j0")})
        assert late.json()["code"] == "round_not_ready"

    async def test_a_lock_is_kept_and_published_despite_a_wish(self, company: World) -> None:
        """Two worlds: in one of them a junior would rather not be paired with the senior of the lock."""
        answer = []
        first = company.replicas[0]
        for avoid in ((), ("s1",)):
            await company.forget_everything()
            await company.open_programme(EASY)
            await company.people(*four_and_four(avoid=avoid))
            path = f"/rounds/{(await company.round(publish=False))['round_id']}"
            accepted = await first.ask(
                "admin", "POST", f"{path}/adjustments", {"kind": "lock", "pair": _two("s1", "j0")}, key="k"
            )
            assert accepted.status_code == 201
            effect = (await resolved(company, path))[-1]
            assert effect["kept"]
            assert ("s1", "j0") in await pairs_of(company, path)
            await first.do("admin", f"{path}/publish")
            done = await company.round_in(path, "published")
            answer.append([{**accepted.json(), "adjustment_id": ""}, {**effect, "adjustment_id": ""}, done["proposed"]])
        assert answer[0] == answer[1]

    async def test_broken_rules_are_named(self, company: World) -> None:
        await company.open_programme(EASY)
        await company.people(*four_and_four(), person("report", "junior", line=("s3",)))
        path = f"/rounds/{(await company.round(publish=False))['round_id']}"
        refused = await company.replicas[0].ask(
            "admin", "POST", f"{path}/adjustments", {"kind": "lock", "pair": _two("s3", "report")}
        )
        assert (refused.status_code, refused.json()["code"]) == (409, "reporting_line")

    async def test_a_coordinator_cannot_change_or_see_their_own_line(self, company: World) -> None:
        await company.open_programme(EASY)
        await company.people(*four_and_four(line=("c",)), person("c", level=14))
        path = f"/rounds/{(await company.round(publish=False))['round_id']}"
        first = company.replicas[0]
        for body in (
            {"kind": "forbid", "pair": _two("s0", "j0")},
            {"kind": "swap", "swap": [_two("s0", "j0"), _two("s1", "j1")]},
        ):
            refused = await first.ask(COORDINATOR, "POST", f"{path}/adjustments", body)
            assert refused.json()["code"] == "own_line"
        made = await adjust(company, path, "forbid", ("s0", "j0"))
        await adjust(company, path, "forbid", ("s1", "j1"), who=COORDINATOR)
        assert len(await first.get("admin", f"{path}/adjustments")) == 2
        assert [item["pairs"] for item in await first.get(COORDINATOR, f"{path}/adjustments")] == [[["s1", "j1"]]]
        undone = await first.ask(COORDINATOR, "POST", f"{path}/adjustments/{made['adjustment_id']}/undo", {})
        assert undone.json()["code"] == "adjustment_unknown"
        await resolved(company, path)
        worst = (await first.get(COORDINATOR, f"{path}/summary"))["worst"]
        assert "j0" not in {item["junior"]["member_id"] for item in worst}
        other = (await company.round(publish=False))["round_id"]
        compared = await first.get(COORDINATOR, f"{path}/compare/{other}")
        assert compared["people_with_other_partners"] > len(compared["items"])
        assert "j0" not in {name for item in compared["items"] for name in _named(item)}

    async def test_an_erasure_removes_changes_that_name_the_member(self, company: World) -> None:
        await company.open_programme(EASY)
        await company.people(*four_and_four())
        path = f"/rounds/{(await company.round(publish=False))['round_id']}"
        await adjust(company, path, "lock", ("s0", "j1"))
        await adjust(company, path, "forbid", ("s2", "j2"))
        await company.gone("j1")
        first = company.replicas[0]

        async def forgotten() -> bool:
            return [item["pairs"] for item in await first.get("admin", f"{path}/adjustments")] == [[["s2", "j2"]]]

        await until(forgotten)
        await resolved(company, path)
        assert "j1" not in {junior for _, junior in await pairs_of(company, path)}


class TestSolverProcess:
    async def test_a_cancelled_computation_leaves_nothing(
        self, company: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = await _processes(company, monkeypatch, hold_the_first=True)
        await company.open_programme(EASY)
        await company.people(*four_and_four())
        first = company.replicas[0]
        started = await first.do("admin", f"/programmes/{PROGRAMME}/rounds", {})
        path = f"/rounds/{started['round_id']}"
        await until(lambda: _is(len(begun) == 1))
        assert (await first.do("admin", f"{path}/cancel"))["state"] == "discarded"
        await until(lambda: _is(not begun[0].is_alive()))
        await first.matcher.tasks.idle()
        assert (await first.get("admin", path))["state"] == "discarded"
        assert await first.matcher.proposals.count({}) == 0

    async def test_the_round_of_a_killed_worker_is_computed_again(
        self, company: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = await _processes(company, monkeypatch, hold_the_first=True)
        await company.open_programme(EASY)
        await company.people(*four_and_four())
        first = company.replicas[0]
        with monkeypatch.context() as soon:  # then the usual wait: on a busy machine a process starts late
            soon.setattr(domain_round, "ROUND_LEASE", timedelta(seconds=2))
            started = await first.do("admin", f"/programmes/{PROGRAMME}/rounds", {})
            await until(lambda: _is(len(begun) == 1))
            begun[0].kill()
            await until(lambda: _is(len(begun) > 1))
        done = await company.round_in(f"/rounds/{started['round_id']}", "computed", "failed")
        assert (done["state"], done["pairs"]) == ("computed", 4)

    async def test_one_process_computes_one_round_after_the_other(
        self, company: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = await _processes(company, monkeypatch)
        await company.open_programme(EASY)
        await company.people(*four_and_four())
        first, second = await company.round(publish=False), await company.round(publish=False)
        assert (first["pairs"], second["pairs"]) == (4, 4)
        assert first["round_id"] != second["round_id"]
        assert len(begun) == 1
        await company.replicas[0].do("admin", f"/rounds/{first['round_id']}/discard")
        path = f"/rounds/{second['round_id']}"
        await adjust(company, path, "forbid", ("s0", "j0"))
        await resolved(company, path)
        assert ("s0", "j0") not in await pairs_of(company, path)

    async def test_a_worker_without_its_parent_ends(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.matcher.solver_process.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await process.communicate(b"")
        assert process.returncode == 0
