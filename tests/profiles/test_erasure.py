"""Forgetting somebody, on a real store: nothing of them stays, and nothing brings them back."""

from typing import Any

from contracts.privacy import ErasureCompleted
from services.profiles.domain.person import record_completed_erasure
from tests.profiles.conftest import ProfilesHarness, pairing

FILE = """external_id,name,organisation,department,level,email,manager,evaluators
e1,Al Ek,halden,it,15,al@halden.example,,
e2,Bo Canary,halden,it,9,bo.canary@halden.example,e1,
e3,Cy Ng,halden,it,3,,e2,e2
"""


async def erase(world: ProfilesHarness, external_id: str) -> str:
    member = (await world.member(external_id)).member_id
    async with world.client("member", member=member) as client:
        answer = await client.post("/members/me/erasure")
        assert answer.status_code == 202, answer.text
    return member


async def everything(world: ProfilesHarness) -> str:
    """Every document of the service's database, as text."""
    texts = []
    for name in ("persons", "imports", "keys", "settings", "uploads", "import_errors", "programmes", "pairings"):
        async for document in world.chassis.mongo.collection(name).find({}):
            texts.append(repr(document))
    return "\n".join(texts)


async def test_nothing_of_an_erased_person_stays(world: ProfilesHarness) -> None:
    await world.import_file(FILE)
    cy = await world.member("e3")
    async with world.client("member", member=cy.member_id) as client:
        bo_id = (await world.member("e2")).member_id
        await client.put("/members/me/avoid", json={"members": [bo_id]})
        await client.put("/members/me/contact", json={"delegates": [bo_id]})
    bo = await erase(world, "e2")
    await world.sweep()
    text = await everything(world)
    assert "Canary" not in text
    assert "canary" not in text
    assert "'e2'" not in text
    al, cy = await world.member("e1"), await world.member("e3")
    assert cy.place.line == (al.member_id,)
    assert (cy.place.manager, cy.place.evaluators, cy.avoid, cy.contact.delegates) == (al.member_id, (), (), ())
    assert [data for _, data in await world.outbox_events(world.profiles.persons, bo)][:2] == [None, None]


async def test_the_nightly_file_does_not_bring_them_back(world: ProfilesHarness) -> None:
    await world.import_file(FILE)
    await erase(world, "e2")
    for _ in range(2):
        done = await world.import_file(FILE)
        assert (done["state"], done["created"], done["failed"]) == ("done", 0, 0)
    await world.let_leases_pass()
    await world.sweep()
    assert await world.find_person("e2") is None
    assert await world.profiles.persons.count({}) == 3, "two people and a stub"
    al, cy = await world.member("e1"), await world.member("e3")
    assert cy.place.line == (al.member_id,)


async def test_it_can_be_followed_until_all_services_have_reported(world: ProfilesHarness) -> None:
    await world.import_file(FILE)
    bo = await erase(world, "e2")

    async def progress() -> dict[str, Any]:
        async with world.client("admin") as admin:
            return dict((await admin.get(f"/erasures/{bo}")).json())

    assert (await progress())["pending"] == ["feedback", "matcher", "notifier", "profiles"]
    await world.sweep()
    assert list((await progress())["completed"]) == ["profiles"]
    topics = [topic for topic, _ in await world.outbox_events(world.profiles.persons, bo)]
    assert topics.count("privacy.v1") == 2, "requested, and completed by this service"
    now = world.chassis.clock.now()
    for service in ("matcher", "notifier", "feedback"):
        done = ErasureCompleted(member_id=bo, service=service, completed_at=now)
        from chassis.core.commands import Op

        await world.profiles.persons.update(
            bo,
            Op(service),
            lambda stub, done=done: record_completed_erasure(stub, done.service, now),  # type: ignore[misc]
        )
    assert (await progress())["done"] is True
    async with world.client("member", member="somebody-else") as other:
        assert (await other.get(f"/erasures/{bo}")).status_code == 403


async def test_an_import_that_waits_is_closed_and_its_file_forgotten(world: ProfilesHarness) -> None:
    await world.import_file(FILE)
    pair = [(await world.member(id)).member_id for id in ("e1", "e3")]
    await world.project_events(pairing("pair", *pair, now=world.chassis.clock.now()))
    waiting = await world.import_file(FILE.replace("Al Ek,halden,it", "Al Ek,halden,law"))
    assert waiting["state"] == "waiting_for_release"
    await erase(world, "e2")
    await world.sweep()
    after = await world.load_import(waiting["import_id"])
    assert (after["state"], after["failure"]) == ("failed", "erasure")
    assert await world.chassis.documents("uploads").count({}) == 0


async def test_asked_twice_it_is_done_once_and_nothing_else_can_be_done(world: ProfilesHarness) -> None:
    await world.import_file(FILE)
    bo = await erase(world, "e2")
    async with world.client("member", member=bo) as client, world.client("admin") as admin:
        assert (await client.post("/members/me/erasure")).status_code == 202
        assert (await client.get("/members/me")).status_code == 404
        assert (await client.put("/members/me/away", json={"away": []})).status_code == 404
        assert (await admin.post(f"/members/{bo}/external-ids", json={"source": "x", "id": "1"})).status_code == 404
        assert (await admin.post("/members/nobody/erasure")).status_code == 404
