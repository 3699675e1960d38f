"""The HTTP API of profiles: permissions, visibility and commands."""

import httpx
import pytest

from chassis.messaging.subscriptions import ReceivedEvent
from contracts.envelope import Envelope
from contracts.moment import next_week
from services.profiles import due_work
from services.profiles.domain.person import Person
from services.profiles.handlers import when_a_programme_changes_see_who_is_ready
from tests.profiles.conftest import ProfilesHarness, programme

FILE = """external_id,name,organisation,department,level,email,programme,manager
e1,Al Ek,halden,it,9,al@halden.example,p1,e2
e2,Bo Li,halden,it,15,,p2,
e3,Cy Al,halden,it,3,,,
"""


@pytest.fixture
async def people(harness: ProfilesHarness) -> dict[str, Person]:
    await harness.publish_programme("p1")
    await harness.publish_programme("p2")
    await harness.import_file(FILE)
    return {id: await harness.member(id) for id in ("e1", "e2", "e3")}


OWN_DATA_COMMANDS = [
    ("PUT", "/members/{m}/entered", {}),
    ("PUT", "/members/{m}/statements", {"answers": {}}),
    ("PUT", "/members/{m}/contact", {}),
    ("PUT", "/members/{m}/away", {"away": []}),
    ("PUT", "/members/{m}/avoid", {"members": []}),
    ("PUT", "/members/{m}/enrolments/p1", {}),
    ("POST", "/members/{m}/enrolments/p1/leave", None),
]


class TestVisibility:
    async def test_private_data_is_shown_to_nobody_else(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        al, bo = people["e1"].member_id, people["e2"].member_id
        async with harness.client("member", member=al) as me:
            await me.put("/members/me/avoid", json={"members": [bo]})
            await me.put("/members/me/statements", json={"answers": {"pace_try": 2, "pace_plan": 0}})
            mine = (await me.get("/members/me")).json()
            assert mine["private"]["avoid"] == [bo]
            assert mine["private"]["style"]["pace"] == 1.0
        for other in (
            harness.client("admin"),
            harness.client("service"),
        ):
            async with other:
                shown = await other.get(f"/members/{al}")
                assert shown.status_code == 200
                assert shown.json()["private"] is None

    async def test_each_role_sees_only_permitted_members(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        al = people["e1"].member_id
        async with harness.client("member", member=al) as me:
            await me.put("/members/me/enrolments/p1", json={})
        expected = {
            "themselves": (harness.client("member", member=al), 200),
            "another": (harness.client("member", member=people["e2"].member_id), 404),
            "their coordinator": (harness.client("coordinator", programmes=("p1",)), 200),
            "another coordinator": (harness.client("coordinator", programmes=("p2",), subject="c2"), 404),
            "admin": (harness.client("admin"), 200),
            "service": (harness.client("service"), 200),
        }
        for caller, (client, status) in expected.items():
            async with client:
                assert (await client.get(f"/members/{al}")).status_code == status, caller

    async def test_members_are_found_by_external_id_name_and_email(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        async def find_names(client: httpx.AsyncClient, **query: str) -> list[str]:
            response = await client.get("/members", params=query)
            assert response.status_code == 200, response.text
            return sorted(member["name"] for member in response.json()["items"])

        async with harness.client("admin") as admin:
            assert await find_names(admin, external_id="e2") == ["Bo Li"]
            assert await find_names(admin, external_id="e9") == []
            assert await find_names(admin, name="al") == ["Al Ek", "Cy Al"]
            assert await find_names(admin, name=".*") == []
            assert await find_names(admin, email="AL@halden.example") == ["Al Ek"]
            assert await find_names(admin, programme="p1", state="invited") == ["Al Ek"]
            assert await find_names(admin) == ["Al Ek", "Bo Li", "Cy Al"]
            first = (await admin.get("/members", params={"limit": "2"})).json()
            rest = (await admin.get("/members", params={"limit": "2", "after": first["next"]})).json()
            assert (len(first["items"]), len(rest["items"]), rest["next"]) == (2, 1, None)
        async with harness.client("member", member=people["e1"].member_id) as me:
            await me.put("/members/me/enrolments/p1", json={})
        async with harness.client("coordinator", programmes=("p1",)) as coordinator:
            assert await find_names(coordinator) == ["Al Ek"]
            assert await find_names(coordinator, programme="p2") == []
            assert await find_names(coordinator, state="enrolled") == ["Al Ek"]
            assert await find_names(coordinator, state="ready") == []
        async with harness.client("member", member=people["e1"].member_id) as member:
            assert (await member.get("/members")).status_code == 403


class TestEnrolmentEndpoints:
    async def test_a_member_enrols_and_becomes_ready(self, harness: ProfilesHarness, people: dict[str, Person]) -> None:
        async with harness.client("member", member=people["e1"].member_id) as al:
            entered = await al.put(
                "/members/me/entered",
                json={
                    "offers": [{"topic": "Excel", "level": "teach"}, {"topic": "llamas"}],
                    "seeks": [{"topic": "python"}],
                },
            )
            assert entered.status_code == 200, entered.text
            assert entered.json()["unknown_topics"] == ["llamas"]
            assert entered.json()["enrolments"][0]["missing"] == ["notice"]
            stale = await al.put("/members/me/enrolments/p1", json={"notice": "0"})
            assert (stale.status_code, stale.json()["code"]) == (409, "outdated_notice")
            answer = await al.put("/members/me/enrolments/p1", json={"side": "senior", "notice": "1", "capacity": 2})
            enrolment = answer.json()["enrolments"][0]
            assert (enrolment["state"], enrolment["missing"], enrolment["capacity"]) == ("ready", [], 2)
            left = await al.post("/members/me/enrolments/p1/leave")
            assert left.json()["enrolments"][0]["state"] == "left"
            unknown = await al.put("/members/me/enrolments/p9", json={})
            assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_programme")

    async def test_a_new_notice_makes_participants_confirm_again(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:

        async with harness.client("member", member=people["e1"].member_id) as al:
            await al.put("/members/me/entered", json={"offers": [{"topic": "excel"}], "seeks": [{"topic": "python"}]})
            await al.put("/members/me/enrolments/p1", json={"side": "senior", "notice": "1"})
        now = harness.chassis.clock.now()

        changed = programme("p1", now=now, notice="2")
        await harness.project_events(changed, sequence=2)
        envelope = Envelope(
            id="x1",
            type=changed.TYPE,
            source="/viceversa/matcher",
            subject="p1",
            time=now,
            sequence=2,
            correlationid="p1",
        )
        for _ in range(2):
            await when_a_programme_changes_see_who_is_ready(ReceivedEvent(envelope, changed), harness.profiles)
        assert (await harness.member("e1")).enrolments[0].state == "enrolled"

    async def test_a_coordinator_invites_to_their_own_programme(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        cy = people["e3"].member_id
        async with harness.client("coordinator", programmes=("p1",)) as coordinator:
            invited = await coordinator.post(f"/members/{cy}/enrolments/p1/invitation", json={"side": "junior"})
            other = await coordinator.post(f"/members/{cy}/enrolments/p2/invitation", json={})
        assert (invited.status_code, other.status_code) == (200, 403)
        assert [(enrolment.side, enrolment.state) for enrolment in (await harness.member("e3")).enrolments] == [
            ("junior", "invited")
        ]


class TestMemberCommands:
    async def test_a_repeated_command_runs_once(self, harness: ProfilesHarness, people: dict[str, Person]) -> None:
        """A command for an old version is refused."""
        async with harness.client("member", member=people["e1"].member_id) as al:
            first = await al.get("/members/me")
            headers = {"If-Match": first.headers["ETag"], "Idempotency-Key": "k"}
            away = {"away": [{"since": "2026-03-01", "until": "2026-03-10"}]}
            done = await al.put("/members/me/away", json=away, headers=headers)
            again = await al.put("/members/me/away", json=away, headers=headers)
            other = await al.put("/members/me/away", json={"away": []}, headers=headers)
            stale = await al.put("/members/me/away", json={"away": []}, headers={"If-Match": first.headers["ETag"]})
        assert done.headers["ETag"] == again.headers["ETag"]
        assert (done.status_code, again.status_code, other.status_code, stale.status_code) == (200, 200, 422, 412)

    @pytest.mark.parametrize(("method", "path", "body"), OWN_DATA_COMMANDS)
    async def test_only_the_member_changes_their_own_data(
        self,
        harness: ProfilesHarness,
        people: dict[str, Person],
        method: str,
        path: str,
        body: dict[str, object] | None,
    ) -> None:
        al, bo = people["e1"].member_id, people["e2"].member_id
        allowed = {"themselves": 200, "another": 403, "coordinator": 403, "admin": 403, "service": 403, "nobody": 401}
        clients = {
            "themselves": harness.client("member", member=al),
            "another": harness.client("member", member=bo),
            "coordinator": harness.client("coordinator", programmes=("p1",)),
            "admin": harness.client("admin"),
            "service": harness.client("service"),
            "nobody": httpx.AsyncClient(transport=harness.client("admin")._transport, base_url="http://profiles"),
        }
        statuses = {}
        for caller, client in clients.items():
            async with client:
                statuses[caller] = (await client.request(method, path.format(m=al), json=body)).status_code
        assert statuses == allowed

    async def test_a_second_external_id_becomes_leading(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        cy = people["e3"].member_id
        async with harness.client("admin") as admin:
            assert (
                await admin.post(f"/members/{cy}/external-ids", json={"source": "sap", "id": "77"})
            ).status_code == 200
            taken = await admin.post(f"/members/{cy}/external-ids", json={"source": "hr", "id": "e1"})
            assert (taken.status_code, taken.json()["code"]) == (409, "taken")
        merged = "external_id,name,organisation,department,level\n77,Cy Al-Ek,halden,law,4\n"
        assert (await harness.import_file(merged, source="sap"))["changed"] == 1
        assert (await harness.import_file(FILE))["unchanged"] == 3
        person = await harness.find_person("77", "sap")
        assert person is not None
        assert person.hr is not None
        assert (person.member_id, person.hr.department_id) == (cy, "law")


class TestTopicEndpoints:
    async def test_topics_are_searched_and_unknown_ones_listed(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        async with harness.client("member", member=people["e1"].member_id) as al:
            topics = (await al.get("/topics", params={"query": "python"})).json()["items"]
            assert topics
            assert all("python" in str(topic).lower() for topic in topics)
            await al.put("/members/me/entered", json={"seeks": [{"topic": "llamas"}]})
            assert (await al.get("/topics/unknown")).status_code == 403
        async with harness.client("admin") as admin, harness.client("coordinator", programmes=("p1",)) as coordinator:
            assert (await admin.get("/topics/unknown")).json()["items"] == [{"words": "llamas", "people": 1}]
            assert (await coordinator.get("/topics/unknown")).json()["items"] == []

    async def test_unknown_topics_of_five_are_listed_once_a_week(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        """The moment in which the fifth person enters a word shows nothing."""
        rows = "".join(f"x{n},Al {n},halden,it,{n + 1},,,\n" for n in range(6))
        await harness.import_file(FILE.splitlines()[0] + "\n" + rows)
        await due_work.plan_unknown_topics(harness.profiles)
        async with harness.client("coordinator", programmes=("p1",)) as coordinator:
            for n in range(6):
                member = (await harness.member(f"x{n}")).member_id
                async with harness.client("member", member=member) as me:
                    await me.put("/members/me/entered", json={"seeks": [{"topic": "llamas"}]})
                await harness.sweep()
                assert (await coordinator.get("/topics/unknown")).json()["items"] == []
            [planned] = [stored async for stored in harness.profiles.unknown_topics.find({})]
            assert planned.state.due == next_week(harness.chassis.clock.now())
            await due_work.list_unknown_topics(planned, harness.profiles)
            assert (await coordinator.get("/topics/unknown")).json()["items"] == [{"words": "llamas", "people": 5}]
