"""The safety catch of an import: what it holds, what it lets through, whom it names, and which files it stops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.moment import Moment
from services.profiles.domain import enrolment, imports
from tests.profiles.conftest import ProfilesHarness, pairing, programme
from tests.profiles.test_import_failures import NOW

HEADER = "external_id,name,organisation,department,level,manager,employment,programme\n"


def rows_of(numbers: range, department: str = "it", more: str = "") -> str:
    return "".join(f"e{n},Name {n},halden,{department},9,boss,,\n" for n in numbers) + more


BOSSES = "boss,Bo Ss,halden,it,19,,,\ntop,To P,halden,it,20,,,\n"


async def pair_up(harness: ProfilesHarness, pairs: int) -> list[str]:
    """Import ``2 * pairs`` people and let the first half be paired with the second one. Returns all member ids."""
    await harness.import_file(HEADER + BOSSES + rows_of(range(2 * pairs)))
    members = [(await harness.member(f"e{n}")).member_id for n in range(2 * pairs)]
    now = harness.chassis.clock.now()
    states = [pairing(f"pair{n:02}", members[n], members[n + pairs], now=now) for n in range(pairs)]
    await harness.project_events(*states)
    return members


class TestLeastNumber:
    @given(touched=st.integers(0, 10_000), running=st.integers(0, 10_000), least=st.integers(1, 100))
    def test_a_number_and_a_share_must_be_exceeded(self, touched: int, running: int, least: int) -> None:
        expected = touched >= least and touched * 20 > running
        assert imports.needs_release(touched, running, least) == expected

    async def test_few_pairings_are_no_reason_to_wait(self, harness: ProfilesHarness) -> None:
        """The default is 20 pairings: in a small programme, every single pair is more than 5 %."""
        await pair_up(harness, 3)
        result = await harness.import_file(HEADER + rows_of(range(3), "sales"))
        assert (result["state"], result["touched_pairings"], result["changed"]) == ("done", 3, 3)


class TestHeldRows:
    async def test_harmless_rows_take_effect_meanwhile(self, harness: ProfilesHarness) -> None:
        harness.configure(release_from=3)
        await pair_up(harness, 4)
        news = "boss,Bo New,halden,it,19,,,\nn1,New One,halden,it,9,boss,,\ne7,Renamed,halden,it,9,boss,,\n"
        held = await harness.import_file(HEADER + rows_of(range(3), "sales", news))
        counts = {name: held[name] for name in ("rows", "created", "changed", "held_rows", "touched_pairings", "total")}
        assert held["state"] == "waiting_for_release"
        assert counts == {"rows": 3, "created": 1, "changed": 2, "held_rows": 3, "touched_pairings": 3, "total": 6}
        assert [await department_of(harness, f"e{n}") for n in range(3)] == ["it"] * 3
        renamed = await harness.member("e7")
        assert renamed.hr is not None
        assert renamed.hr.name == "Renamed"
        async with harness.client("admin", subject="second") as admin:
            assert (await admin.post(f"/imports/{held['import_id']}/release")).status_code == 200
        done = await harness.let_run(held["import_id"])
        assert (done["state"], done["rows"], done["created"], done["changed"]) == ("done", 6, 1, 5)
        assert [await department_of(harness, f"e{n}") for n in range(3)] == ["sales"] * 3

    async def test_held_people_stay_in_their_lines(self, harness: ProfilesHarness) -> None:
        """A report of a held person keeps the line that the held person really has, until the release."""
        harness.configure(release_from=1)
        await pair_up(harness, 1)
        below = "n1,New One,halden,it,9,e0,,\n"
        held = await harness.import_file(f"{HEADER}e0,Name 0,halden,it,9,top,,\n{below}")
        boss, top, e0 = [(await harness.member(id)).member_id for id in ("boss", "top", "e0")]
        assert held["state"] == "waiting_for_release"
        assert (await harness.member("n1")).place.line == (e0, boss)
        async with harness.client("admin", subject="second") as admin:
            await admin.post(f"/imports/{held['import_id']}/release")
        assert (await harness.let_run(held["import_id"]))["state"] == "done"
        assert (await harness.member("e0")).place.line == (top,)
        assert (await harness.member("n1")).place.line == (e0, top)

    async def test_nothing_held_takes_effect_without_release(self, harness: ProfilesHarness) -> None:
        harness.configure(release_from=1)
        await pair_up(harness, 1)
        held = await harness.import_file(HEADER + rows_of(range(1), "sales"))
        await harness.let_leases_pass()
        result = await harness.let_run(held["import_id"])
        assert (result["state"], result["failure"]) == ("failed", "not_released")
        assert await department_of(harness, "e0") == "it"

    async def test_pairs_are_named_to_those_who_may_see_them(self, harness: ProfilesHarness) -> None:
        harness.configure(release_from=1)
        members = await pair_up(harness, 2)
        boss = (await harness.member("boss")).member_id
        held = await harness.import_file(HEADER + rows_of(range(2), "sales"))
        path = f"/imports/{held['import_id']}/pairings"
        async with harness.client("admin") as admin:
            [first, second] = (await admin.get(path)).json()["items"]
            assert [member["name"] for member in first["members"]] == ["Name 0", "Name 2"]
            page = (await admin.get(path, params={"limit": 1})).json()
            rest = (await admin.get(path, params={"limit": 1, "after": page["next"]})).json()
            assert (page["items"], rest["items"], rest["next"]) == ([first], [second], None)
        for who, member, visible in (("their manager", boss, []), ("one of them", members[0], ["pair01"])):
            async with harness.client("member", "admin", member=member, subject=who) as admin:
                items = (await admin.get(path)).json()["items"]
                assert [item["pairing_id"] for item in items] == visible, who


async def department_of(harness: ProfilesHarness, external_id: str) -> str:
    person = await harness.member(external_id)
    assert person.hr is not None
    return person.hr.department_id


class TestUnknownManagers:
    @pytest.mark.parametrize(("unknown", "state"), [(2, "done"), (3, "failed")])
    async def test_too_many_unknown_managers_stop_the_file(
        self, harness: ProfilesHarness, unknown: int, state: str
    ) -> None:
        """For instance a column of e-mail addresses or names where external ids belong."""
        await harness.import_file(HEADER + BOSSES + rows_of(range(20)))
        before = {id: await harness.member(id) for id in ("e0", "e5", "e19")}
        wrong = "".join(f"e{n},Name {n},halden,sales,9,boss@halden.example,,\n" for n in range(unknown))
        result = await harness.import_file(HEADER + wrong + rows_of(range(unknown, 20)))
        assert (result["state"], result["failure"]) == (state, "unknown_managers" if state == "failed" else None)
        codes = [(line, code) for line, _, code in await harness.import_errors(result["import_id"])]
        lines = [(2 + n, "unknown_manager") for n in range(unknown)]
        assert codes == (lines if state == "done" else [(1, "unknown_managers"), *lines])
        if state == "failed":
            assert {id: await harness.member(id) for id in before} == before


class TestReturn:
    async def test_who_returns_is_invited_again(self, harness: ProfilesHarness) -> None:
        """Who left by themselves is not, nor is somebody who is still away from the company."""
        for programme_id in ("p1", "p2", "p3"):
            await harness.publish_programme(programme_id)

        def row(employment: str, programme_id: str) -> str:
            return f"{HEADER}e1,Al,halden,it,9,,{employment},{programme_id}\n"

        for programme_id in ("p1", "p2"):
            await harness.import_file(row("active", programme_id))
        me = (await harness.member("e1")).member_id
        async with harness.client("member", member=me) as client:
            await client.put("/members/me/enrolments/p1", json={"side": "senior", "notice": "1"})
            await client.post("/members/me/enrolments/p2/leave")

        async def states() -> list[str]:
            return [enrolment.state for enrolment in (await harness.member("e1")).enrolments]

        await harness.import_file(row("left", "p1"))
        assert await states() == ["left", "left"]
        assert (await harness.import_file(row("left", "p1")))["unchanged"] == 1
        await harness.import_file(row("active", "p2"))
        assert await states() == ["invited", "left"]
        assert (await harness.member("e1")).enrolments[0].side == "senior"
        async with harness.client("member", member=me) as client:
            await client.put("/members/me/enrolments/p1", json={"notice": "1"})
            await client.post("/members/me/enrolments/p1/leave")
        await harness.import_file(row("active", "p1"))
        assert await states() == ["left", "left"]

    def test_a_closed_programme_invites_nobody_again(self) -> None:
        moment = Moment(NOW, NOW)
        ended = enrolment.mark_left(enrolment.ProgrammeEnrolment(programme_id="p1"), moment.now, with_job=True)
        for state, expected in (("open", "invited"), ("closed", "left"), ("draft", "left")):
            settings = programme("p1", now=NOW, state=state)
            assert enrolment.invite_again(ended, settings, NOW).state == expected
        assert enrolment.invite_again(ended, None, NOW).state == "left"
