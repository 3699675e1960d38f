"""The inbox and the preferences of a member over HTTP: their own, and nobody else's."""

from datetime import timedelta

from contracts.pairings import PairingFormed
from tests.notifier.harness import NOON, NotifierHarness, meeting, pairing


class TestInboxEndpoint:
    async def test_is_paged_newest_first(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.deliver(pairing(PairingFormed))
        await notifier.settle()
        notifier.clock.move(timedelta(hours=1))
        await notifier.deliver(meeting(NOON + timedelta(days=3)))
        await notifier.settle()
        async with notifier.client("member", member="m1") as m1:
            first = (await m1.get("/inbox", params={"limit": 1})).json()
            assert [item["purpose"] for item in first["items"]] == ["meeting_planned"]
            assert "Name of m2" in first["items"][0]["text"]
            assert first["items"][0]["by_email"] == "no"
            second = (await m1.get("/inbox", params={"limit": 1, "after": first["next"]})).json()
            assert [(item["purpose"], item["by_email"]) for item in second["items"]] == [("partners", "sent")]
            assert second["next"] is None

    async def test_read_messages_are_not_counted_as_unread(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.deliver(pairing(PairingFormed))
        await notifier.settle()
        async with notifier.client("member", member="m1") as m1, notifier.client("member", member="m2") as m2:
            [item] = (await m1.get("/inbox", params={"unread": True})).json()["items"]
            assert (await m1.get("/inbox/unread")).json() == {"unread": 1}
            assert (await m2.post(f"/inbox/{item['id']}/read")).status_code == 404
            for _ in range(2):
                answer = await m1.post(f"/inbox/{item['id']}/read", headers={"Idempotency-Key": "k"})
                assert answer.json()["read_at"] is not None
            assert (await m1.get("/inbox/unread")).json() == {"unread": 0}
            assert (await m1.get("/inbox", params={"unread": True})).json()["items"] == []
            assert (await m1.post("/inbox/none/read")).status_code == 404

    async def test_shows_at_night_what_waits_for_the_morning(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2", time_zone="Asia/Tokyo")
        await notifier.deliver(pairing())
        await notifier.settle()
        async with notifier.client("member", member="m1") as m1:
            [item] = (await m1.get("/inbox")).json()["items"]
            assert (item["purpose"], item["by_email"]) == ("proposal", "under way")
        assert notifier.server.received == []


class TestPreferencesEndpoint:
    async def test_apply_from_then_on(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        async with notifier.client("member", member="m1") as m1:
            before = (await m1.get("/preferences")).json()
            assert before["quiet_hours"] is None
            assert before["usual_hours"] == {"from_hour": 19, "until_hour": 8}
            assert {item["purpose"] for item in before["wishes"] if item["needed"]} >= {"proposal", "partners", "ended"}
            wishes = {"wishes": {"partners": {"email": False}}, "quiet_hours": {"from_hour": 22, "until_hour": 6}}
            answer = await m1.put("/preferences", json=wishes, headers={"If-Match": '"0"'})
            assert answer.status_code == 200, answer.text
            assert answer.json()["quiet_hours"] == {"from_hour": 22, "until_hour": 6}
            stale = await m1.put("/preferences", json=wishes, headers={"If-Match": '"0"'})
            assert stale.status_code == 412
        await notifier.deliver(pairing(PairingFormed))
        await notifier.settle()
        assert [str(mail["To"]) for mail in notifier.server.received] == ["Name of m2 <m2@example.com>"]

    async def test_essential_purposes_must_reach_the_inbox(self, notifier: NotifierHarness) -> None:
        async with notifier.client("member", member="m1") as m1:
            for wishes, code in (
                ({"proposal": {"inbox": False}}, "inbox_is_needed"),
                ({"weather": {}}, "unknown_purpose"),
            ):
                answer = await m1.put("/preferences", json={"wishes": wishes})
                assert (answer.status_code, answer.json()["code"]) == (422, code)


class TestAccess:
    async def test_a_contact_is_for_its_member_and_admins(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1")
        async with notifier.client("member", member="m1") as m1, notifier.client("member", member="m2") as m2:
            assert (await m1.get("/contacts/me")).json()["display_name"] == "Name of m1"
            assert (await m2.get("/contacts/m1")).status_code == 403
        async with notifier.client("admin") as admin:
            assert (await admin.get("/contacts/m1")).status_code == 200
            assert (await admin.get("/inbox")).status_code == 403

    async def test_operators_see_counts_and_nothing_else(self, notifier: NotifierHarness) -> None:
        await notifier.add_members("m1", "m2")
        await notifier.add_members("m2", employment="left")
        await notifier.deliver(pairing(PairingFormed))
        await notifier.settle()
        async with notifier.client("admin") as admin, notifier.client("member", member="m1") as m1:
            counts = (await admin.get("/notifications/counts")).json()
            assert counts.keys() == {"later", "under_way", "sent", "failed", "suppressed"}
            assert (counts["sent"], counts["failed"], counts["suppressed"], counts["under_way"]) == (1, 0, 1, 0)
            assert counts["later"] > 0
            assert (await m1.get("/notifications/counts")).status_code == 403
