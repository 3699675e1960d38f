"""Erasure on a real store: no data of the person remains, and nothing re-creates them."""

from typing import Any

from chassis.core.commands import Op
from contracts.privacy import ErasureCompleted
from services.profiles.domain.person import record_completed_erasure
from tests.profiles.conftest import ProfilesHarness, pairing

FILE = """external_id,name,organisation,department,level,email,manager,evaluators
e1,Al Ek,halden,it,15,al@halden.example,,
e2,Bo Canary,halden,it,9,bo.canary@halden.example,e1,
e3,Cy Ng,halden,it,3,,e2,e2
"""


async def request_erasure(harness: ProfilesHarness, external_id: str) -> str:
    member = (await harness.member(external_id)).member_id
    async with harness.client("member", member=member) as client:
        response = await client.post("/members/me/erasure")
        assert response.status_code == 202, response.text
    return member


async def dump_database(harness: ProfilesHarness) -> str:
    """Every document of the service's database, as text."""
    texts = []
    for name in ("persons", "imports", "keys", "settings", "uploads", "import_errors", "programmes", "pairings"):
        async for document in harness.chassis.mongo.collection(name).find({}):
            texts.append(repr(document))
    return "\n".join(texts)


class TestErasedData:
    async def test_no_data_of_an_erased_person_remains(self, harness: ProfilesHarness) -> None:
        await harness.import_file(FILE)
        cy = await harness.member("e3")
        async with harness.client("member", member=cy.member_id) as client:
            bo_id = (await harness.member("e2")).member_id
            await client.put("/members/me/avoid", json={"members": [bo_id]})
            await client.put("/members/me/contact", json={"delegates": [bo_id]})
        bo = await request_erasure(harness, "e2")
        await harness.sweep()
        text = await dump_database(harness)
        assert "Canary" not in text
        assert "canary" not in text
        assert "'e2'" not in text
        al, cy = await harness.member("e1"), await harness.member("e3")
        assert cy.place.line == (al.member_id,)
        assert (cy.place.manager, cy.place.evaluators, cy.avoid, cy.contact.delegates) == (al.member_id, (), (), ())
        assert [data for _, data in await harness.outbox_events(harness.profiles.persons, bo)][:2] == [None, None]

    async def test_the_nightly_file_does_not_recreate_the_person(self, harness: ProfilesHarness) -> None:
        await harness.import_file(FILE)
        await request_erasure(harness, "e2")
        for _ in range(2):
            result = await harness.import_file(FILE)
            assert (result["state"], result["created"], result["failed"]) == ("done", 0, 0)
        await harness.let_leases_pass()
        await harness.sweep()
        assert await harness.find_person("e2") is None
        assert await harness.profiles.persons.count({}) == 3, "two people and a stub"
        al, cy = await harness.member("e1"), await harness.member("e3")
        assert cy.place.line == (al.member_id,)

    async def test_a_waiting_import_is_closed_and_its_file_deleted(self, harness: ProfilesHarness) -> None:
        harness.configure(release_from=1)
        await harness.import_file(FILE)
        pair = [(await harness.member(id)).member_id for id in ("e1", "e3")]
        await harness.project_events(pairing("pair", *pair, now=harness.chassis.clock.now()))
        waiting = await harness.import_file(FILE.replace("Al Ek,halden,it", "Al Ek,halden,law"))
        assert waiting["state"] == "waiting_for_release"
        await request_erasure(harness, "e2")
        await harness.sweep()
        after = await harness.load_import(waiting["import_id"])
        assert (after["state"], after["failure"]) == ("failed", "erasure")
        assert await harness.chassis.documents("uploads").count({}) == 0


class TestErasureProgress:
    async def test_progress_is_visible_until_all_services_reported(self, harness: ProfilesHarness) -> None:
        await harness.import_file(FILE)
        bo = await request_erasure(harness, "e2")

        async def progress() -> dict[str, Any]:
            async with harness.client("admin") as admin:
                return dict((await admin.get(f"/erasures/{bo}")).json())

        assert (await progress())["pending"] == ["feedback", "matcher", "notifier", "profiles"]
        await harness.sweep()
        assert list((await progress())["completed"]) == ["profiles"]
        topics = [topic for topic, _ in await harness.outbox_events(harness.profiles.persons, bo)]
        assert topics.count("erasure-requests.v1") == topics.count("erasure-completions.profiles.v1") == 1
        now = harness.chassis.clock.now()
        for service in ("matcher", "notifier", "feedback"):
            completed = ErasureCompleted(member_id=bo, service=service, completed_at=now)

            await harness.profiles.persons.update(
                bo,
                Op(service),
                lambda stub, completed=completed: record_completed_erasure(stub, completed.service, now),  # type: ignore[misc]
            )
        assert (await progress())["done"] is True
        async with harness.client("member", member="somebody-else") as other:
            assert (await other.get(f"/erasures/{bo}")).status_code == 403

    async def test_a_repeated_request_erases_once(self, harness: ProfilesHarness) -> None:
        """Every other command about the erased person is answered with 404."""
        await harness.import_file(FILE)
        bo = await request_erasure(harness, "e2")
        async with harness.client("member", member=bo) as client, harness.client("admin") as admin:
            assert (await client.post("/members/me/erasure")).status_code == 202
            assert (await client.get("/members/me")).status_code == 404
            assert (await client.put("/members/me/away", json={"away": []})).status_code == 404
            assert (await admin.post(f"/members/{bo}/external-ids", json={"source": "x", "id": "1"})).status_code == 404
            assert (await admin.post("/members/nobody/erasure")).status_code == 404
