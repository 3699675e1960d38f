"""Who may change HR data, and what an import tells to whom. Each test is an attack that once succeeded."""

from typing import Any

import httpx
import pytest

from chassis.web.authentication import Role
from services.profiles.domain.person import Person
from tests.profiles.conftest import ProfilesHarness, pairing

FILE = """external_id,name,organisation,department,level,email,manager,programme
boss,Bo Ss,halden,it,19,boss@halden.example,,
e1,Al Ek,halden,it,9,al@halden.example,boss,p1
e2,Cy Li,halden,law,15,cy@halden.example,boss,
"""
STOLEN = """external_id,name,organisation,department,level,email,manager,employment
e1,Al Ek,halden,it,9,thief@evil.example,,left
"""
HIDDEN = ("created", "changed", "unchanged", "remarks", "total", "running_pairings", "touched_pairings", "held_rows")


@pytest.fixture
async def people(harness: ProfilesHarness) -> dict[str, Person]:
    harness.configure(release_from=1, sources={"hr": ["hr-job", "hr-spare"], "sap": ["sap-job"]})
    for programme_id in ("p1", "p2"):
        await harness.publish_programme(programme_id, coordinators=(f"named-{programme_id}",))
    await harness.import_file(FILE)
    return {id: await harness.member(id) for id in ("boss", "e1", "e2")}


async def invite(client: httpx.AsyncClient, content: str, programme: str = "p1", **query: str) -> httpx.Response:
    return await client.post(f"/programmes/{programme}/invitations", content=content, params=query)


async def read_import(client: httpx.AsyncClient, id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    shown, errors = await client.get(f"/imports/{id}"), await client.get(f"/imports/{id}/errors")
    assert (shown.status_code, errors.status_code) == (200, 200)
    return shown.json(), errors.json()["items"]


class TestHrData:
    async def test_a_coordinator_changes_nobody(self, harness: ProfilesHarness, people: dict[str, Person]) -> None:
        """Not the address to which mails go, not the line that bars them from a pairing, not the employment."""
        clients = [
            harness.client("coordinator", programmes=("p1",), subject="c1"),
            harness.client("coordinator", subject="without a programme"),
            harness.client("member", "coordinator", member=people["boss"].member_id, programmes=("p1",)),
            harness.client("member", "coordinator", member="named-p1"),
        ]
        for client in clients:
            async with client:
                assert (await client.post("/imports", content=STOLEN)).status_code == 403
                await invite(client, STOLEN)
        await harness.sweep()
        assert {id: await harness.member(id) for id in people} == people

    async def test_a_service_sends_the_sources_bound_to_it(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        statuses = {}
        for subject in ("hr-job", "hr-spare", "sap-job", "warehouse"):
            async with harness.client("service", subject=subject) as service:
                statuses[subject] = (await service.post("/imports", content=FILE)).status_code
        assert statuses == {"hr-job": 202, "hr-spare": 202, "sap-job": 403, "warehouse": 403}

    async def test_a_row_of_another_source_is_refused(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        """The column ``source`` cannot reach the people of a source that is not bound to the service."""
        rows = (
            "external_id,name,organisation,department,level,source\ne1,Al Stolen,halden,it,1,hr\n7,New,halden,it,1,\n"
        )
        async with harness.client("service", subject="sap-job") as service:
            response = await service.post("/imports", content=rows, params={"source": "sap"})
        result = await harness.let_run(response.json()["import_id"])
        assert (result["created"], result["changed"], result["failed"]) == (1, 0, 1)
        assert await harness.import_errors(result["import_id"]) == [(2, "source", "other_source")]
        assert await harness.member("e1") == people["e1"]

    async def test_only_an_admin_binds_an_external_id(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        """Otherwise a service would make itself the leading source of anybody, and overwrite their data."""
        path = f"/members/{people['e1'].member_id}/external-ids"
        for subject in ("sap-job", "hr-job"):
            async with harness.client("service", subject=subject) as service:
                answer = await service.post(path, json={"source": "sap", "id": "mine"})
                assert answer.status_code == 403

    async def test_a_coordinators_old_file_is_not_run(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        """A former version accepted it; it may wait in the queue when this version starts."""
        import_id = await harness.start_import(STOLEN)
        await harness.profiles.imports.collection.update_one({"_id": import_id}, {"$set": {"invites_to": ["p1"]}})
        result = await harness.let_run(import_id)
        assert (result["state"], result["failure"]) == ("failed", "not_allowed")
        assert await harness.member("e1") == people["e1"]


class TestImportVisibility:
    async def test_each_reader_sees_own_uploads_and_no_more(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        async with harness.client("service", subject="hr-job") as service:
            by_service = (await service.post("/imports", content=FILE)).json()["import_id"]
        async with harness.client("coordinator", programmes=("p1",), subject="c1") as coordinator:
            by_coordinator = (await invite(coordinator, "email\nal@halden.example\n")).json()["import_id"]
        by_admin = await harness.start_import(FILE)
        callers: list[tuple[Role, str, tuple[str, ...], set[str]]] = [
            ("service", "hr-job", (), {by_service}),
            ("service", "hr-spare", (), set()),
            ("coordinator", "c1", ("p1",), {by_coordinator}),
            ("coordinator", "c1", ("p2",), set()),
            ("coordinator", "c2", ("p1",), set()),
        ]
        for role, subject, programmes, visible in callers:
            client, caller = harness.client(role, subject=subject, programmes=programmes), f"{subject} of {programmes}"
            async with client:
                listed = (await client.get("/imports")).json()["items"]
                assert {item["import_id"] for item in listed} == visible, caller
                for id in (by_service, by_coordinator, by_admin):
                    for path in (f"/imports/{id}", f"/imports/{id}/errors"):
                        assert (await client.get(path)).status_code == (200 if id in visible else 404), caller
                    if id not in visible:
                        assert (await client.post(f"/imports/{id}/cancel")).status_code == 404, caller
                    assert (await client.post(f"/imports/{id}/release")).status_code == 403, caller
                    assert (await client.get(f"/imports/{id}/pairings")).status_code == 403, caller

    async def test_a_service_learns_nothing_of_pairings(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        members = people["e1"].member_id, people["e2"].member_id
        await harness.project_events(pairing("pair", *members, now=harness.chassis.clock.now()))
        async with harness.client("service", subject="hr-job") as service:
            import_id = (await service.post("/imports", content=STOLEN)).json()["import_id"]
            await harness.sweep()
            shown, _ = await read_import(service, import_id)
        assert shown["state"] == "waiting_for_release"
        hidden = ("running_pairings", "touched_pairings", "held_rows", "uploaded_by", "released_by", "waits_for")
        assert [shown[name] for name in hidden] == [None] * len(hidden)


class TestInvitationLists:
    async def test_a_list_invites_and_changes_nothing_else(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        rows = "external_id,email,side,capacity,name\ne2,,junior,3,Other Name\n,BOSS@halden.example,,,\ne1,,senior,,\n"
        async with harness.client("member", "coordinator", member="named-p1") as coordinator:
            answer = await invite(coordinator, rows)
            assert answer.status_code == 202, answer.text
            await harness.let_run(answer.json()["import_id"])
            shown, errors = await read_import(coordinator, answer.json()["import_id"])
        assert (shown["state"], shown["rows"], shown["failed"]) == ("done", 3, 0)
        assert [(error["line"], error["column"], error["code"]) for error in errors] == [
            (1, "column 5", "unknown_column")
        ]
        for id, side, capacity in (("boss", "either", 1), ("e1", "either", 1), ("e2", "junior", 3)):
            after = await harness.member(id)
            assert [(e.programme_id, e.side, e.capacity, e.state) for e in after.enrolments] == [
                ("p1", side, capacity, "invited")
            ]
            assert after.model_copy(update={"enrolments": ()}) == people[id].model_copy(update={"enrolments": ()})

    async def test_only_own_programmes_take_a_list(self, harness: ProfilesHarness, people: dict[str, Person]) -> None:
        async with (
            harness.client("coordinator", programmes=("p1", "p9"), subject="c1") as coordinator,
            harness.client("member", "coordinator", member="named-p2") as named,
            harness.client("service", subject="hr-job") as service,
            harness.client("admin") as admin,
        ):
            cells = [(coordinator, "p1", 202), (coordinator, "p2", 403), (coordinator, "p9", 404)]
            cells += [(named, "p1", 403), (named, "p2", 202), (service, "p1", 403), (admin, "p1", 202)]
            for client, programme, status in cells:
                assert (await invite(client, "email\nal@halden.example\n", programme)).status_code == status

    async def test_two_worlds_differ_for_admins_alone(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        """A guessed address or number tells a coordinator nothing, whether it is somebody's or nobody's."""
        async with harness.client("member", member=people["e1"].member_id) as me:
            await me.put("/members/me/enrolments/p1", json={})
            await me.post("/members/me/enrolments/p1/leave")
        bad_rows = ",,junior\n,x,no side\n"
        lists = {
            "everybody": "al@halden.example,,\ncy@halden.example,,\n,boss,\n" + bad_rows,
            "nobody": "zz@halden.example,,\nyy@halden.example,,\n,b0ss,\n" + bad_rows,
            "the same twice": "al@halden.example,,\n,e1,\n,boss,\n" + bad_rows,
        }
        answers, by_admin = {}, {}
        async with harness.client("coordinator", programmes=("p1",)) as coordinator, harness.client("admin") as admin:
            for name, content in lists.items():
                import_id = (await invite(coordinator, "email,external_id,side\n" + content)).json()["import_id"]
                await harness.sweep()
                shown, errors = await read_import(coordinator, import_id)
                assert [shown[field] for field in HIDDEN] == [None] * len(HIDDEN)
                for own in ("import_id", "received_at", "finished_at", "size"):
                    del shown[own]
                answers[name] = (shown, errors)
                by_admin[name] = [
                    error["line"] for error in (await read_import(admin, import_id))[1] if not error["refused"]
                ]
            listed = (await coordinator.get("/members")).json()["items"]
        assert answers["everybody"] == answers["nobody"] == answers["the same twice"]
        assert [error["code"] for error in answers["nobody"][1]] == ["missing", "bad_side"]
        assert by_admin == {"everybody": [], "nobody": [2, 3, 4], "the same twice": []}
        assert listed == [], "an invitation alone shows nobody"

    async def test_a_shared_address_invites_nobody(self, harness: ProfilesHarness, people: dict[str, Person]) -> None:
        twins = FILE.replace("cy@halden.example", "al@halden.example")
        await harness.import_file(twins)
        async with harness.client("admin") as admin:
            import_id = (await invite(admin, "email\nal@halden.example\n", "p2")).json()["import_id"]
        await harness.sweep()
        assert [code for _, _, code in await harness.import_errors(import_id)] == ["several_people"]
        assert not [e for id in people for e in (await harness.member(id)).enrolments if e.programme_id == "p2"]

    @pytest.mark.parametrize(
        ("content", "failure"), [("", "no_rows"), ("email\n", "no_rows"), ("side\njunior\n", "missing_column")]
    )
    async def test_a_list_that_names_nobody_fails(
        self, harness: ProfilesHarness, people: dict[str, Person], content: str, failure: str
    ) -> None:
        async with harness.client("admin") as admin:
            import_id = (await invite(admin, content)).json()["import_id"]
        result = await harness.let_run(import_id)
        assert (result["state"], result["failure"]) == ("failed", failure)


class TestSecondPerson:
    @pytest.mark.parametrize(
        ("subject", "member", "status"),
        [("first", None, 409), ("first-at-home", "boss", 409), ("second", None, 200), ("second", "e2", 200)],
    )
    async def test_a_held_import_needs_another_admin(
        self, harness: ProfilesHarness, people: dict[str, Person], subject: str, member: str | None, status: int
    ) -> None:
        """The uploader is recognised by the account and by the person behind it."""
        pair = people["e1"].member_id, people["e2"].member_id
        await harness.project_events(pairing("pair", *pair, now=harness.chassis.clock.now()))
        boss = people["boss"].member_id
        async with harness.client("member", "admin", member=boss, subject="first") as uploader:
            import_id = (await uploader.post("/imports", content=STOLEN)).json()["import_id"]
        held = await harness.let_run(import_id)
        assert (held["state"], held["changed"]) == ("waiting_for_release", 0)
        me = people[member].member_id if member else None
        async with harness.client("member", "admin", member=me, subject=subject) as releasing:
            assert (await releasing.post(f"/imports/{import_id}/release")).status_code == status
        result = await harness.let_run(import_id)
        assert (result["state"], result["changed"]) == (("done", 1) if status == 200 else ("waiting_for_release", 0))

    async def test_undeclared_accounts_neither_hold_nor_release(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        """Nobody knows whether the same person is behind both accounts, or takes part in one of the pairs."""
        pair = people["e1"].member_id, people["e2"].member_id
        await harness.project_events(pairing("pair", *pair, now=harness.chassis.clock.now()))
        async with (
            harness.client("admin", subject="declared") as declared,
            harness.client("admin", subject="second") as second,
            harness.client("admin", subject="undeclared", undeclared=True) as undeclared,
        ):
            first = (await declared.post("/imports", content=STOLEN)).json()["import_id"]
            await harness.sweep()
            for answer in (
                await undeclared.post(f"/imports/{first}/release"),
                await undeclared.get(f"/imports/{first}/pairings"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (403, "undeclared_account")
            other = (await undeclared.post("/imports", content=STOLEN)).json()["import_id"]
            await harness.sweep()
            refused = await second.post(f"/imports/{other}/release")
        assert (refused.status_code, refused.json()["code"]) == (409, "undeclared_upload")

    async def test_any_admin_releases_the_file_of_a_service(
        self, harness: ProfilesHarness, people: dict[str, Person]
    ) -> None:
        pair = people["e1"].member_id, people["e2"].member_id
        await harness.project_events(pairing("pair", *pair, now=harness.chassis.clock.now()))
        async with harness.client("service", subject="hr-job") as service:
            import_id = (await service.post("/imports", content=STOLEN)).json()["import_id"]
        await harness.sweep()
        async with harness.client("admin") as admin:
            assert (await admin.post(f"/imports/{import_id}/release")).status_code == 200
        assert (await harness.let_run(import_id))["state"] == "done"
