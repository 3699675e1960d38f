"""Feedback on real servers, over HTTP and Kafka: actions of members, published events, and privacy."""

import itertools
from datetime import datetime, timedelta
from typing import Any

from contracts.feedback import CHECKINS, FEEDBACK, OUTCOMES, PARTNER_CHANGES
from contracts.privacy import erasure_completions_of
from tests.feedback.followups import programme
from tests.feedback.harness import FeedbackHarness
from tests.processes import until

CARE = {"1": 2, "2": 4}
FULL = {"1": 4, "2": 2, "3": 5, "4": 1, "5": 4, "6": 3, "7": 5, "8": 1}


async def types_on(company: FeedbackHarness, topic: Any = FEEDBACK) -> list[str]:
    return [kind for kind, _ in await company.events_on(topic)]


async def events_of_type(company: FeedbackHarness, type: str, topic: Any = FEEDBACK) -> list[dict[str, Any]]:
    """Wait until an event of this type exists, and return all events of this type."""

    async def there() -> bool:
        return type in await types_on(company, topic)

    await until(there)
    return [data for kind, data in await company.events_on(topic) if kind == type and data is not None]


async def pair_with_manager(company: FeedbackHarness) -> str:
    """A pairing of ``s`` and ``j``; ``boss`` is above the senior and coordinates, and ``c`` coordinates only."""
    await company.person("s", line=["boss"])
    await company.person("j")
    await company.person("boss")
    return await company.pair("s", "j")


class TestPairing:
    async def test_from_the_first_question_to_the_last(self, company: FeedbackHarness) -> None:
        id = await pair_with_manager(company)
        await company.settled()
        mine = await company.get("member:j", "/checkins?language=de")
        assert [(item["milestone"], len(item["questions"]), item["open"]) for item in mine["items"]] == [
            ("day_0", 2, True)
        ]
        assert mine["items"][0]["questions"][0]["text"].startswith("Es fällt mir leicht")
        answered = await company.do(
            "member:j", "PUT", f"/pairings/{id}/checkins/day_0", {"answers": {"1": 1, "2": None}}
        )
        assert (answered["completed"], answered["answers"]) == (True, {"1": 1, "2": None})
        assert any("Speaking up takes practice" in sentence for sentence in answered["advice"])
        assert (await company.get("member:j", "/checkins"))["items"] == []
        start = (company.now() + timedelta(days=5)).isoformat()
        refused = await company.code("member:j", "POST", f"/pairings/{id}/sessions", {"starts_at": start})
        assert refused == (409, "not_yours_to_book")
        booked = await company.do("member:s", "POST", f"/pairings/{id}/sessions", {"starts_at": start}, key="once")
        again = await company.do("member:s", "POST", f"/pairings/{id}/sessions", {"starts_at": start}, key="once")
        [session] = booked["sessions"]
        assert again["sessions"] == booked["sessions"]
        path = f"/pairings/{id}/sessions/{session['session_id']}"
        later = (company.now() + timedelta(days=6)).isoformat()
        moved = await company.do("member:s", "PUT", path, {"starts_at": later})
        assert moved["sessions_scheduled"] == 1
        assert await company.code("member:j", "POST", f"{path}/held") == (409, "not_yet")
        await company.pass_time(7)
        after = await company.do("member:j", "PUT", f"{path}/pulse", {"met": True, "worth": 2})
        assert (after["sessions_held"], after["state"]) == (1, "warming_up")
        assert "worth" not in str(after)
        ideas = await company.do("member:j", "POST", f"/pairings/{id}/ideas", {"text": "a lunch for new people"})
        assert (await company.get("admin", f"/pairings/{id}/care"))["ideas"] == {"count": 1, "shared": []}
        idea = f"/pairings/{id}/ideas/{ideas['items'][0]['idea_id']}/agree"
        assert await company.code("member:j", "POST", idea) == (409, "own_idea")
        await company.do("member:s", "POST", idea)
        assert (await company.get("admin", f"/pairings/{id}/care"))["ideas"]["shared"] == ["a lunch for new people"]
        await company.do("member:j", "POST", f"/pairings/{id}/partner-change")
        [wish] = await events_of_type(company, "partner.change.requested", PARTNER_CHANGES)
        assert "side" not in wish
        await company.end(id, "ended_early")
        for member in ("s", "j"):
            await company.do(f"member:{member}", "PUT", f"/pairings/{id}/checkins/end", {"answers": FULL})
        [outcome] = await events_of_type(company, "outcome.recorded", OUTCOMES)
        assert (outcome["junior_learned"], outcome["meetings"]) == ("high", "low")
        assert [kind for kind in await types_on(company) if kind.startswith("session")] == [
            "session.scheduled",
            "session.scheduled",
            "session.held",
        ]


def readable_paths(company: FeedbackHarness, id: str, session: str) -> list[str]:
    """Every GET path of the API, with every id that a caller could use."""
    paths = set()
    for path, methods in company.app.openapi()["paths"].items():
        if "get" in methods:
            named = path.replace("{id}", "p1" if path.startswith("/programmes") else id).replace("{session}", session)
            paths |= {named.replace("{member}", member).replace("{milestone}", "day_0") for member in ("j", "s")}
    return sorted(paths)


class TestWhoAnswered:
    async def test_nobody_learns_that_somebody_has_answered(self, company: FeedbackHarness) -> None:
        """Of two people each knows what they did themselves: "one of the two" would tell who it was."""
        id = await pair_with_manager(company)
        await company.settled()
        viewers = ("member:s", "coordinator:c:p1", "admin", "service")

        async def everything() -> list[tuple[int, str, dict[str, str]]]:
            paths = itertools.product(viewers, readable_paths(company, id, "none"))
            answers = [await company.ask(viewer, "GET", path) for viewer, path in paths]
            return [(answer.status_code, answer.text, dict(answer.headers)) for answer in answers]

        before, events = await everything(), await company.events_on(FEEDBACK)
        await company.do("member:j", "PUT", f"/pairings/{id}/checkins/day_0", {"answers": {"1": 1}})
        await events_of_type(company, "checkin.completed", CHECKINS)
        assert await everything() == before
        assert await company.events_on(FEEDBACK) == events


class TestProgramme:
    async def test_pairs_that_need_help_are_listed_with_their_facts(self, company: FeedbackHarness) -> None:
        id = await pair_with_manager(company)
        await company.settled()
        await company.pass_time(16)
        [event] = await events_of_type(company, "contact.needed")
        assert (event["pairing_id"], event["facts"]) == (id, ["no_first_meeting_booked"])
        listed = await company.get("coordinator:c:p1", "/programmes/p1/care?help_wanted=true")
        assert [(item["pairing_id"], item["state"]) for item in listed["items"]] == [(id, "would_like_help")]
        assert (await company.get("coordinator:boss:p1", "/programmes/p1/care"))["items"] == []
        assert (await company.ask("coordinator:c:p2", "GET", "/programmes/p1/care")).status_code == 403

    async def test_a_statistic_is_released_by_weeks_and_five_people(
        self,
        company: FeedbackHarness,
    ) -> None:
        pairs = [await company.pair(f"s{n}", f"j{n}") for n in range(10)]
        await company.settled()
        for n, id in enumerate(pairs):
            await company.do(f"member:j{n}", "PUT", f"/pairings/{id}/checkins/day_0", {"answers": {"1": 2}})
            noted = {"starts_at": company.now().isoformat(), "held": True}
            await company.do(f"member:s{n}", "POST", f"/pairings/{id}/sessions", noted)
        await company.pass_time(33)

        async def figure() -> dict[str, Any] | None:
            await company.settled()
            report = await company.get("coordinator:c:p1", "/programmes/p1/report")
            return next((item for item in report["figures"] if item["name"] == "1:day_30:junior"), None)

        for n, id in enumerate(pairs):
            answer = None if n == 4 else 4
            await company.do(f"member:j{n}", "PUT", f"/pairings/{id}/checkins/day_30", {"answers": {"1": answer}})
            assert await figure() is None, "the moment of an answer shows nothing"
            if n == 3:
                await company.pass_time(7)
                assert await figure() is None, "too few people"
        await company.pass_time(7)
        last = await figure()
        assert last is not None
        assert (last["change"], last["n"], last["asked"], last["response_rate"]) == ("much_better", 10, 10, 1.0)
        assert datetime.fromisoformat(last["released_at"]).weekday() == 0
        report = await company.get("admin", "/programmes/p1/report")
        assert report["funnel"]["met"] == report["funnel"]["formed"] == 10
        by_name = {item["name"]: item for item in report["figures"]}
        assert by_name["met_by_day_30"]["share"] == 1.0
        assert by_name["days_to_first_meeting"]["median_days"] == 0
        for token in ("member:j1", "service", "coordinator:c:p2"):
            assert (await company.ask(token, "GET", "/programmes/p1/report")).status_code == 403


class TestConfidentiality:
    async def test_answers_change_nothing_that_others_can_read(
        self,
        company: FeedbackHarness,
    ) -> None:
        id = await pair_with_manager(company)
        await company.settled()
        viewers = {
            "the senior": "member:s",
            "the senior as a coordinator": "member+coordinator:s:p1",
            "the senior's manager, a coordinator": "coordinator:boss:p1",
            "the senior's manager, an admin": "admin:boss",
            "a coordinator": "coordinator:c:p1",
            "another coordinator": "coordinator:d:p2",
            "an admin": "admin",
            "another system": "service",
            "a stranger": "member:x",
        }
        start = company.now().isoformat()
        met = await company.do("member:s", "POST", f"/pairings/{id}/sessions", {"starts_at": start, "held": True})
        session = met["sessions"][0]["session_id"]

        async def everything() -> dict[tuple[str, str], tuple[int, str, dict[str, str]]]:
            answers_by_path = {}
            for (viewer, token), path in itertools.product(viewers.items(), readable_paths(company, id, session)):
                answer = await company.ask(token, "GET", path)
                assert answer.status_code < 500
                answers_by_path[viewer, path] = (answer.status_code, answer.text, dict(answer.headers))
            return answers_by_path

        async def answers(first: int, worth: int, *, call_me: bool) -> None:
            body = {"answers": {"1": first, "2": 6 - first}, "call_me": call_me}
            await company.do("member:j", "PUT", f"/pairings/{id}/checkins/day_0", body)
            pulse = f"/pairings/{id}/sessions/{session}/pulse"
            await company.do("member:j", "PUT", pulse, {"met": True, "worth": worth})
            await company.settled()

        await answers(1, 1, call_me=False)
        await events_of_type(company, "checkin.completed", CHECKINS)
        seen, events = await everything(), await company.events_on(FEEDBACK)
        await answers(5, 5, call_me=True)
        assert await everything() == seen
        assert await company.events_on(FEEDBACK) == events
        for viewer in ("the senior's manager, a coordinator", "the senior's manager, an admin", "another coordinator"):
            assert seen[viewer, f"/pairings/{id}/care"][0] == 404
        for viewer in viewers:
            if viewer not in ("the senior", "the senior as a coordinator"):
                assert seen[viewer, f"/pairings/{id}/checkins"][0] in (403, 404)
        own = seen["the senior", f"/pairings/{id}/checkins"][1]
        assert '"answers":null' in own
        outside = [token for token in viewers.values() if token not in ("member:s", "member+coordinator:s:p1")]
        for token in outside:
            answer = await company.ask(token, "PUT", f"/pairings/{id}/checkins/day_0", {"answers": {"1": 3}})
            assert answer.status_code in (403, 404)
        own = await company.get("member:j", f"/pairings/{id}/checkins")
        assert own["items"][0]["answers"] == {"1": 5, "2": 1}
        stored = await company.feedback.followups.collection.find_one({"_id": id})
        assert stored is not None
        assert "call_me" not in str(stored["outbox"]) + str(stored["recent"])

    async def test_calls_are_for_the_confidential_contact_only(self, company: FeedbackHarness) -> None:
        id = await pair_with_manager(company)
        await company.settled()
        await company.do("member:j", "PUT", f"/pairings/{id}/checkins/day_0", {"answers": {}, "call_me": True})
        for token in ("member:j", "member:s", "coordinator:c:p1", "admin", "service", "admin:people-team"):
            assert (await company.ask(token, "GET", "/programmes/p1/calls")).status_code == 403
            assert (await company.ask(token, "POST", "/programmes/p1/calls/j/done")).status_code == 403
        contact = "service:people-team"
        assert [item["member_id"] for item in (await company.get(contact, "/programmes/p1/calls"))["items"]] == ["j"]
        assert (await company.do(contact, "POST", "/programmes/p1/calls/j/done"))["items"] == []

    async def test_an_erasure_leaves_nothing_and_is_reported(
        self,
        company: FeedbackHarness,
    ) -> None:
        id = await pair_with_manager(company)
        await company.settled()
        body = {"answers": CARE, "call_me": True}
        await company.do("member:j", "PUT", f"/pairings/{id}/checkins/day_0", body)
        noted = {"starts_at": company.now().isoformat(), "held": True}
        await company.do("member:s", "POST", f"/pairings/{id}/sessions", noted)
        await company.settled()
        await company.forget("j")
        [done] = await events_of_type(company, "erasure.completed", erasure_completions_of("feedback"))
        assert (done["member_id"], done["service"]) == ("j", "feedback")
        feedback = company.feedback
        for collection in (
            feedback.followups.collection,
            feedback.contributions.collection,
            feedback.pairings.collection,
            feedback.cells.collection,
        ):
            everything = str([document async for document in collection.find({})])
            assert "'j'" not in everything
            assert "'2': 4" not in everything
        await company.end(id)
        assert "'j'" not in str(await feedback.followups.collection.find_one({"_id": id}))
        assert (await company.ask("member:s", "GET", f"/pairings/{id}/care")).status_code == 404


async def name_contact(company: FeedbackHarness, contact: str, **changes: Any) -> None:
    """The programme names another contact, and feedback knows it."""
    await company.say(programme(confidential_contact=contact, **changes))

    async def is_known() -> bool:
        stored = await company.feedback.programmes.get("p1")
        return stored is not None and stored.settings == programme(confidential_contact=contact, **changes).settings

    await until(is_known)


async def call_of_junior(company: FeedbackHarness) -> str:
    """A pairing in which ``j`` asks for a call."""
    id = await pair_with_manager(company)
    await company.settled()
    await company.do("member:j", "PUT", f"/pairings/{id}/checkins/day_0", {"answers": {}, "call_me": True})
    return id


async def callers(company: FeedbackHarness, token: str) -> list[str]:
    return [item["member_id"] for item in (await company.get(token, CALLS))["items"]]


async def contacts_shown(company: FeedbackHarness, token: str, id: str) -> tuple[str | None, str | None]:
    """Who has the call, and whom the programme names, as the caller reads it."""
    [checkin] = (await company.get(token, f"/pairings/{id}/checkins"))["items"]
    return checkin["call_contact"], checkin["contact"]


CALLS = "/programmes/p1/calls"
FORMER, NEW = "service:people-team", "member:new-ear"


class TestCalls:
    async def test_stay_with_the_contact_who_was_asked(self, company: FeedbackHarness) -> None:
        id = await call_of_junior(company)
        await name_contact(company, "new-ear")
        assert (await callers(company, NEW), await callers(company, FORMER)) == ([], ["j"])
        await company.do(NEW, "POST", f"{CALLS}/j/done")
        assert await callers(company, FORMER) == ["j"]
        assert await contacts_shown(company, "member:j", id) == ("people-team", "new-ear")
        await company.do("member:j", "PUT", f"/pairings/{id}/checkins/day_0", {"answers": CARE, "call_me": True})
        assert await callers(company, NEW) == []

    async def test_move_when_the_caller_says_to_whom(self, company: FeedbackHarness) -> None:
        id = await call_of_junior(company)
        await name_contact(company, "new-ear")
        path = f"/pairings/{id}/call/hand-over"
        assert await company.code("member:j", "POST", path, {"contact": "people-team"}) == (409, "contact_changed")
        assert await company.code("member:s", "POST", path, {"contact": "new-ear"}) == (409, "no_call")
        for token in (NEW, FORMER, "admin", "coordinator:c:p1"):
            assert (await company.ask(token, "POST", path, {"contact": "new-ear"})).status_code in (403, 404)
        assert await callers(company, NEW) == []
        await company.do("member:j", "POST", path, {"contact": "new-ear"})
        assert await callers(company, NEW) == ["j"]
        assert (await company.ask(FORMER, "GET", CALLS)).status_code == 403
        assert (await company.do(NEW, "POST", f"{CALLS}/j/done"))["items"] == []

    async def test_former_contact_closes_the_last_one(self, company: FeedbackHarness) -> None:
        await call_of_junior(company)
        await name_contact(company, "new-ear")
        assert (await company.do(FORMER, "POST", f"{CALLS}/j/done"))["items"] == []
        assert (await company.ask(FORMER, "GET", CALLS)).status_code == 403

    async def test_nobody_who_runs_programmes_reads_them(self, company: FeedbackHarness) -> None:
        await call_of_junior(company)
        for token in ("coordinator:people-team:p1", "member+coordinator:people-team:p2", "member+admin:people-team"):
            assert (await company.ask(token, "GET", CALLS)).status_code == 403
        await name_contact(company, "new-ear", coordinators=["people-team"])
        assert (await company.ask(FORMER, "GET", CALLS)).status_code == 403
        await name_contact(company, "service")
        assert await company.code("service:::undeclared", "GET", CALLS) == (403, "undeclared_account")

    async def test_line_of_a_participant_reads_none(self, company: FeedbackHarness) -> None:
        """Also when the contact joins the line later, and when the contact is one of the two."""
        for contact in ("boss", "s", "j"):
            await name_contact(company, contact)
            id = await call_of_junior(company) if contact == "boss" else "pair-s-j"
            hand_over = f"/pairings/{id}/call/hand-over"
            await company.do("member:j", "POST", hand_over, {"contact": contact})
            assert await callers(company, f"member:{contact}") == []
            assert (await company.do(f"member:{contact}", "POST", f"{CALLS}/j/done"))["items"] == []
            assert (await contacts_shown(company, "member:j", id))[0] == contact

    async def test_erased_contact_leaves_them_to_the_caller(self, company: FeedbackHarness) -> None:
        await company.person("ear")
        await name_contact(company, "ear")
        id = await call_of_junior(company)
        assert await callers(company, "member:ear") == ["j"]
        await name_contact(company, "new-ear")
        await company.forget("ear")
        await events_of_type(company, "erasure.completed", erasure_completions_of("feedback"))
        assert await contacts_shown(company, "member:j", id) == (None, "new-ear")
        assert await callers(company, NEW) == []
        await company.do("member:j", "POST", f"/pairings/{id}/call/hand-over", {"contact": "new-ear"})
        assert await callers(company, NEW) == ["j"]
