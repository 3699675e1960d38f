"""Who may do what by HTTP, and what everybody sees."""

import httpx
import pytest

from services.profiles.domain.person import Person
from tests.profiles.conftest import ProfilesHarness

FILE = """external_id,name,organisation,department,level,email,programme,manager
e1,Al Ek,halden,it,9,al@halden.example,p1,e2
e2,Bo Li,halden,it,15,,p2,
e3,Cy Al,halden,it,3,,,
"""


@pytest.fixture
async def people(world: ProfilesHarness) -> dict[str, Person]:
    await world.publish_programme("p1")
    await world.publish_programme("p2")
    await world.import_file(FILE)
    return {id: await world.member(id) for id in ("e1", "e2", "e3")}


async def test_a_member_enrols_and_becomes_ready(world: ProfilesHarness, people: dict[str, Person]) -> None:
    async with world.client("member", member=people["e1"].member_id) as al:
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


async def test_a_new_notice_asks_everybody_who_takes_part(world: ProfilesHarness, people: dict[str, Person]) -> None:
    from chassis.messaging.subscriptions import ReceivedEvent
    from contracts.envelope import Envelope
    from services.profiles.handlers import when_a_programme_changes_see_who_is_ready

    async with world.client("member", member=people["e1"].member_id) as al:
        await al.put("/members/me/entered", json={"offers": [{"topic": "excel"}], "seeks": [{"topic": "python"}]})
        await al.put("/members/me/enrolments/p1", json={"side": "senior", "notice": "1"})
    now = world.chassis.clock.now()
    from tests.profiles.conftest import programme

    changed = programme("p1", now=now, notice="2")
    await world.project_events(changed, sequence=2)
    envelope = Envelope(
        id="x1", type=changed.TYPE, source="/viceversa/matcher", subject="p1", time=now, sequence=2, correlationid="p1"
    )
    for _ in range(2):
        await when_a_programme_changes_see_who_is_ready(ReceivedEvent(envelope, changed), world.profiles)
    assert (await world.member("e1")).enrolments[0].state == "enrolled"


async def test_what_is_private_is_shown_to_nobody_else(world: ProfilesHarness, people: dict[str, Person]) -> None:
    al, bo = people["e1"].member_id, people["e2"].member_id
    async with world.client("member", member=al) as me:
        await me.put("/members/me/avoid", json={"members": [bo]})
        await me.put("/members/me/statements", json={"answers": {"pace_try": 2, "pace_plan": 0}})
        mine = (await me.get("/members/me")).json()
        assert mine["private"]["avoid"] == [bo]
        assert mine["private"]["style"]["pace"] == 1.0
    for other in (
        world.client("admin"),
        world.client("service"),
        world.client("coordinator", programmes=("p1",)),
    ):
        async with other:
            shown = await other.get(f"/members/{al}")
            assert shown.status_code == 200
            assert shown.json()["private"] is None


async def test_a_repeated_command_is_done_once_and_an_old_version_is_refused(
    world: ProfilesHarness, people: dict[str, Person]
) -> None:
    async with world.client("member", member=people["e1"].member_id) as al:
        first = await al.get("/members/me")
        asked = {"If-Match": first.headers["ETag"], "Idempotency-Key": "k"}
        away = {"away": [{"since": "2026-03-01", "until": "2026-03-10"}]}
        done = await al.put("/members/me/away", json=away, headers=asked)
        again = await al.put("/members/me/away", json=away, headers=asked)
        other = await al.put("/members/me/away", json={"away": []}, headers=asked)
        stale = await al.put("/members/me/away", json={"away": []}, headers={"If-Match": first.headers["ETag"]})
    assert done.headers["ETag"] == again.headers["ETag"]
    assert (done.status_code, again.status_code, other.status_code, stale.status_code) == (200, 200, 422, 412)


OWN = [
    ("PUT", "/members/{m}/entered", {}),
    ("PUT", "/members/{m}/statements", {"answers": {}}),
    ("PUT", "/members/{m}/contact", {}),
    ("PUT", "/members/{m}/away", {"away": []}),
    ("PUT", "/members/{m}/avoid", {"members": []}),
    ("PUT", "/members/{m}/enrolments/p1", {}),
    ("POST", "/members/{m}/enrolments/p1/leave", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OWN)
async def test_only_a_member_changes_what_is_their_own(
    world: ProfilesHarness, people: dict[str, Person], method: str, path: str, body: dict[str, object] | None
) -> None:
    al, bo = people["e1"].member_id, people["e2"].member_id
    allowed = {"themselves": 200, "another": 403, "coordinator": 403, "admin": 403, "service": 403, "nobody": 401}
    clients = {
        "themselves": world.client("member", member=al),
        "another": world.client("member", member=bo),
        "coordinator": world.client("coordinator", programmes=("p1",)),
        "admin": world.client("admin"),
        "service": world.client("service"),
        "nobody": httpx.AsyncClient(transport=world.client("admin")._transport, base_url="http://profiles"),
    }
    found = {}
    for who, client in clients.items():
        async with client:
            found[who] = (await client.request(method, path.format(m=al), json=body)).status_code
    assert found == allowed


async def test_whom_one_may_see(world: ProfilesHarness, people: dict[str, Person]) -> None:
    al = people["e1"].member_id
    sees = {
        "themselves": (world.client("member", member=al), 200),
        "another": (world.client("member", member=people["e2"].member_id), 404),
        "their coordinator": (world.client("coordinator", programmes=("p1",)), 200),
        "another coordinator": (world.client("coordinator", programmes=("p2",), subject="c2"), 404),
        "admin": (world.client("admin"), 200),
        "service": (world.client("service"), 200),
    }
    for who, (client, status) in sees.items():
        async with client:
            assert (await client.get(f"/members/{al}")).status_code == status, who


async def test_people_are_found_by_external_id_name_and_email(
    world: ProfilesHarness, people: dict[str, Person]
) -> None:
    async def found(client: httpx.AsyncClient, **asked: str) -> list[str]:
        answer = await client.get("/members", params=asked)
        assert answer.status_code == 200, answer.text
        return sorted(one["name"] for one in answer.json()["items"])

    async with world.client("admin") as admin:
        assert await found(admin, external_id="e2") == ["Bo Li"]
        assert await found(admin, external_id="e9") == []
        assert await found(admin, name="al") == ["Al Ek", "Cy Al"]
        assert await found(admin, name=".*") == []
        assert await found(admin, email="AL@halden.example") == ["Al Ek"]
        assert await found(admin, programme="p1", state="invited") == ["Al Ek"]
        assert await found(admin) == ["Al Ek", "Bo Li", "Cy Al"]
        first = (await admin.get("/members", params={"limit": "2"})).json()
        rest = (await admin.get("/members", params={"limit": "2", "after": first["next"]})).json()
        assert (len(first["items"]), len(rest["items"]), rest["next"]) == (2, 1, None)
    async with world.client("coordinator", programmes=("p1",)) as coordinator:
        assert await found(coordinator) == ["Al Ek"]
        assert await found(coordinator, external_id="e2") == []
        assert await found(coordinator, programme="p2") == []
        assert await found(coordinator, state="invited") == ["Al Ek"]
        assert await found(coordinator, state="ready") == []
    async with world.client("member", member=people["e1"].member_id) as member:
        assert (await member.get("/members")).status_code == 403


async def test_a_coordinator_invites_to_their_own_programme(world: ProfilesHarness, people: dict[str, Person]) -> None:
    cy = people["e3"].member_id
    async with world.client("coordinator", programmes=("p1",)) as coordinator:
        invited = await coordinator.post(f"/members/{cy}/enrolments/p1/invitation", json={"side": "junior"})
        other = await coordinator.post(f"/members/{cy}/enrolments/p2/invitation", json={})
    assert (invited.status_code, other.status_code) == (200, 403)
    assert [(one.side, one.state) for one in (await world.member("e3")).enrolments] == [("junior", "invited")]


async def test_a_second_external_id_leads_from_then_on(world: ProfilesHarness, people: dict[str, Person]) -> None:
    cy = people["e3"].member_id
    async with world.client("admin") as admin:
        assert (await admin.post(f"/members/{cy}/external-ids", json={"source": "sap", "id": "77"})).status_code == 200
        taken = await admin.post(f"/members/{cy}/external-ids", json={"source": "hr", "id": "e1"})
        assert (taken.status_code, taken.json()["code"]) == (409, "taken")
    merged = "external_id,name,organisation,department,level\n77,Cy Al-Ek,halden,law,4\n"
    assert (await world.import_file(merged, source="sap"))["changed"] == 1
    assert (await world.import_file(FILE))["unchanged"] == 3
    person = await world.find_person("77", "sap")
    assert person is not None
    assert person.hr is not None
    assert (person.member_id, person.hr.department_id) == (cy, "law")


async def test_topics_are_searched_and_unknown_words_reported(
    world: ProfilesHarness, people: dict[str, Person]
) -> None:
    async with world.client("member", member=people["e1"].member_id) as al:
        found = (await al.get("/topics", params={"query": "python"})).json()["items"]
        assert found
        assert all("python" in str(one).lower() for one in found)
        await al.put("/members/me/entered", json={"seeks": [{"topic": "llamas"}]})
        assert (await al.get("/topics/unknown")).status_code == 403
    async with world.client("admin") as admin, world.client("coordinator", programmes=("p1",)) as coordinator:
        assert (await admin.get("/topics/unknown")).json()["items"] == [{"words": "llamas", "people": 1}]
        assert (await coordinator.get("/topics/unknown")).json()["items"] == []
