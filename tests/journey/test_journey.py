"""A programme from HR's file to the end of a pairing, with each service in its own process, as other systems see it.

After each step the matcher's API, the pairing's events, `pairing-states` and the data of other services must agree.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from services.matcher.domain.fit.calendar import add_months
from tests.journey.conditions import wait_until
from tests.journey.people import (
    JourneyPerson,
    Json,
    Members,
    a_programme,
    admin,
    begin_import,
    cohort,
    csv_of,
    everything,
    ids_of,
    imported,
    ok,
    partners,
    second_admin,
)
from tests.journey.stack import Stack
from tests.journey.subscriber import MAY_READ, TOGETHER, OtherSystem

PEOPLE = cohort("journey", 9, 9)
STAYS_AWAY = JourneyPerson("journey-X", "senior", "Nomen Nescio", department="legal")
GOAL = "speak up in the quiet quokka meeting"
RHYTHM = "every second purple thursday"


@dataclass
class JourneyStory:
    """The people of one programme, and an independent subscriber."""

    members: Members
    others: OtherSystem
    told: list[Json] = field(default_factory=list)

    @property
    def stack(self) -> Stack:
        return self.members.stack

    def a_proposal(self) -> Json:
        """A proposed pairing that no other test uses."""
        return self.told.pop()

    def a_formed(self) -> Json:
        return self.members.accept_both(self.a_proposal())

    def agreed(self, pairing_id: str, *happened: str) -> Json:
        """Check that all services agree on the pairing and that these are its events so far; return the pairing."""
        self.stack.settle()
        self.others.caught_up()
        here = self.members.pairing(pairing_id)
        life = self.others.history(pairing_id)
        assert [event.type for event in life] == [f"mentoring.pairing.{name}.v1" for name in happened]
        for said in (life[-1].data, self.others.states()[pairing_id]):
            assert said is not None
            assert {name: here[name] for name in said} == said
        for service in ("feedback", "profiles"):
            document = self.stack.database(service)["pairings"].find_one({"_id": pairing_id})
            assert document["state"] == here["state"], f"what {service} keeps"
        return here

    def holders(self, pairing: Json) -> list[str]:
        """The members who hold a seat for the pairing."""
        held = {member: self.members.ledger(member)["held"] for member in partners(pairing)}
        return [member for member in held if pairing["pairing_id"] in {seat["pairing_id"] for seat in held[member]}]


@pytest.fixture(scope="module")
def others(stack: Stack) -> Iterator[OtherSystem]:
    with OtherSystem(stack.endpoints.kafka, stack.prefix) as listening:
        yield listening


@pytest.fixture(scope="module")
def members(stack: Stack) -> Members:
    company = a_programme(stack, "journey", PEOPLE)
    imported(stack, begin_import(stack, csv_of([STAYS_AWAY], "journey")))
    stack.settle()
    return company


@pytest.fixture(scope="module")
def round(members: Members) -> Json:
    return members.round()


@pytest.fixture(scope="module")
def story(members: Members, round: Json, others: OtherSystem) -> JourneyStory:
    members.publish(round["round_id"])
    return JourneyStory(members, others, members.pairings(state="proposed"))


def months_after(text: str, months: int) -> str:
    return add_months(datetime.fromisoformat(text).date(), months).isoformat()


def release_if_it_waits(story: JourneyStory, import_id: str) -> None:
    """Release an import that waits.

    It waits when it affects more than 5 % of the running pairings, and one pairing exceeds that here.
    """
    api = story.stack.api("profiles", admin(story.stack))
    settled = wait_until(
        lambda: next(
            (s for s in [ok(api.get(f"/imports/{import_id}"))["state"]] if s in ("done", "waiting_for_release")), None
        ),
        "the import done or waiting",
    )
    if settled == "waiting_for_release":
        ok(story.stack.api("profiles", second_admin(story.stack)).post(f"/imports/{import_id}/release"))


def erased(answer: Any) -> Json | None:
    report = ok(answer)
    return dict(report) if report["done"] else None


class TestJourney:
    def test_hr_file_creates_members_once(self, members: Members) -> None:
        """The same file again changes nothing."""
        again = imported(members.stack, begin_import(members.stack, csv_of(PEOPLE, "journey")))
        assert (again["created"], again["changed"], again["unchanged"], again["failed"]) == (0, 0, len(PEOPLE), 0)
        assert len(ids_of(members.stack, "journey")) == len(PEOPLE) + 1

    def test_importing_is_not_joining(self, members: Members, round: Json) -> None:
        parameters = {"programme": "journey", "state": "ready"}
        ready = everything(partial(members.stack.api("profiles", admin(members.stack)).get, "/members"), parameters)
        assert {member["member_id"] for member in ready} == set(members.ids.values())
        assert (round["seniors"], round["juniors"]) == (9, 9)

    def test_a_round_is_reviewed_before_it_is_public(self, members: Members, round: Json, others: OtherSystem) -> None:
        proposals = everything(partial(members.coordinator().get, f"/rounds/{round['round_id']}/proposals"), {})
        assert len(proposals) == round["pairs"] == 9
        assert all(proposal["reasons"]["senior"] and proposal["reasons"]["junior"] for proposal in proposals)
        assert members.pairings() == []
        members.stack.settle()
        others.caught_up()
        assert not [state for state in others.states().values() if state["programme_id"] == "journey"]

    def test_publishing_proposes_every_pair_and_holds_both_seats(self, story: JourneyStory) -> None:
        assert len(story.told) == 9
        for pairing in story.told:
            assert story.agreed(pairing["pairing_id"], "proposed")["state"] == "proposed"
            assert story.holders(pairing) == list(partners(pairing))
        published = [
            event for event in story.others.distinct("rounds.v1") if event.type == "mentoring.round.published.v1"
        ]
        mine = [event.data for event in published if event.data and event.data["programme_id"] == "journey"]
        assert [(said["proposed"], said["withdrawn"]) for said in mine] == [(9, 0)]

    def test_two_acceptances_form_a_pairing(self, story: JourneyStory) -> None:
        """A single acceptance is visible to no other person."""
        pairing = story.a_proposal()
        senior, junior = partners(pairing)
        story.members.answer(senior, pairing["pairing_id"], "accepted")
        assert story.agreed(pairing["pairing_id"], "proposed")["state"] == "proposed"
        story.members.answer(junior, pairing["pairing_id"], "accepted")
        formed = story.agreed(pairing["pairing_id"], "proposed", "formed")
        assert formed["state"] == "formed"
        assert formed["planned_end"] == months_after(formed["formed_at"], 6)
        assert story.holders(pairing) == [senior, junior]

    def test_a_refusal_is_a_lapse_and_frees_both_seats(self, story: JourneyStory) -> None:
        pairing = story.a_proposal()
        senior, junior = partners(pairing)
        story.members.answer(senior, pairing["pairing_id"], "accepted")
        story.members.answer(junior, pairing["pairing_id"], "declined", reason="know_each_other")
        assert story.agreed(pairing["pairing_id"], "proposed", "lapsed")["state"] == "lapsed"
        assert story.holders(pairing) == []
        too_late = story.members.matcher(senior).post(
            f"/pairings/{pairing['pairing_id']}/answer", json={"answer": "declined"}
        )
        assert (too_late.status_code, too_late.json()["code"]) == (409, "not_proposed")

    def test_charter_of_both_then_pause_and_resume(self, story: JourneyStory) -> None:
        pairing = story.a_formed()
        id = pairing["pairing_id"]
        senior, junior = partners(pairing)
        text = {"goals": [GOAL], "meeting_rhythm": RHYTHM, "confidential": True}
        ok(story.members.matcher(senior).post(f"/pairings/{id}/charter", json=text))
        assert story.agreed(id, "proposed", "formed")["state"] == "formed"
        ok(story.members.matcher(junior).post(f"/pairings/{id}/charter", json={"agree": True}))
        assert story.agreed(id, "proposed", "formed", "chartered")["charter_at"] is not None
        ok(story.members.matcher(junior).post(f"/pairings/{id}/pause", json={}))
        assert story.agreed(id, "proposed", "formed", "chartered", "paused")["state"] == "paused"
        assert story.holders(pairing) == [senior, junior]
        ok(story.members.coordinator().post(f"/pairings/{id}/resume"))
        assert story.agreed(id, "proposed", "formed", "chartered", "paused", "resumed")["state"] == "chartered"

    def test_a_pairing_is_renewed_when_both_wish_it(self, story: JourneyStory) -> None:
        pairing = story.a_formed()
        id = pairing["pairing_id"]
        senior, junior = partners(pairing)
        ok(story.members.matcher(senior).post(f"/pairings/{id}/renew", json={"months": 6}))
        assert story.agreed(id, "proposed", "formed")["renewals"] == 0
        ok(story.members.matcher(junior).post(f"/pairings/{id}/renew", json={"months": 3}))
        renewed = story.agreed(id, "proposed", "formed", "renewed")
        assert (renewed["renewals"], renewed["planned_end"]) == (1, months_after(renewed["formed_at"], 6 + 3))

    def test_an_end_frees_both_seats(self, story: JourneyStory) -> None:
        pairing = story.a_formed()
        ok(story.members.matcher(partners(pairing)[1]).post(f"/pairings/{pairing['pairing_id']}/end"))
        ended = story.agreed(pairing["pairing_id"], "proposed", "formed", "ended")
        assert (ended["state"], ended["end_kind"]) == ("ended", "not_started")
        assert story.holders(pairing) == []

    def test_leaving_the_programme_ends_the_pairing(self, story: JourneyStory) -> None:
        pairing = story.a_formed()
        leaver = partners(pairing)[0]
        ok(story.members.profiles(leaver).post("/members/me/enrolments/journey/leave"))
        assert story.agreed(pairing["pairing_id"], "proposed", "formed", "ended")["state"] == "ended"
        assert story.holders(pairing) == []

    def test_leaving_the_company_ends_the_pairing(self, story: JourneyStory) -> None:
        """HR's file reports the departure."""
        pairing = story.a_formed()
        by_id = {id: external for external, id in story.members.ids.items()}
        leaver = by_id[partners(pairing)[1]]
        row = next(somebody for somebody in PEOPLE if somebody.external_id == leaver)
        text = csv_of([row]).decode().splitlines()
        content = f"{text[0]},employment\n{text[1]},left\n".encode()
        waiting = begin_import(story.stack, content)
        release_if_it_waits(story, waiting)
        assert imported(story.stack, waiting)["changed"] == 1
        assert story.agreed(pairing["pairing_id"], "proposed", "formed", "ended")["state"] == "ended"
        assert story.holders(pairing) == []

    def test_erasure_reaches_every_service_and_frees_the_partner(self, story: JourneyStory) -> None:
        pairing = story.a_formed()
        story.agreed(pairing["pairing_id"], "proposed", "formed")
        senior, junior = partners(pairing)
        erasure = ok(story.members.profiles(junior).post("/members/me/erasure"))
        assert erasure["member_id"] == junior
        api = story.stack.api("profiles", admin(story.stack))
        done = wait_until(lambda: erased(api.get(f"/erasures/{junior}")), "every service has forgotten them")
        assert set(done["completed"]) == {"profiles", "matcher", "notifier", "feedback"}
        story.stack.settle()
        story.others.caught_up()
        assert pairing["pairing_id"] not in story.others.states()
        assert story.others.history(pairing["pairing_id"])[-1].type == "mentoring.pairing.ended.v1"
        assert api.get(f"/members/{junior}").status_code == 404
        assert story.members.coordinator().get(f"/pairings/{pairing['pairing_id']}").status_code == 404
        assert story.members.ledger(senior)["held"] == []
        assert story.members.ledger(junior) | {"version": 0} == {
            "member_id": junior, "capacity": 0, "closed": True, "held": [], "version": 0,
        }  # fmt: skip

    def test_an_unanswered_proposal_lapses_in_business_time(self, story: JourneyStory) -> None:
        pairing = story.a_proposal()
        story.members.answer(partners(pairing)[0], pairing["pairing_id"], "accepted")
        story.stack.advance(timedelta(days=13))
        assert story.agreed(pairing["pairing_id"], "proposed")["answer_by"] == pairing["answer_by"]
        story.stack.advance(timedelta(days=2))
        wait_until(lambda: story.members.pairing(pairing["pairing_id"])["state"] == "lapsed", "the proposal lapsed")
        story.agreed(pairing["pairing_id"], "proposed", "lapsed")
        assert story.holders(pairing) == []


class TestAnotherSystem:
    def test_pairing_states_alone_tell_the_current_pairs(self, story: JourneyStory) -> None:
        with OtherSystem(story.stack.endpoints.kafka, story.stack.prefix, ("pairing-states.v1",)) as late:
            late.caught_up()
            now = {frozenset(partners(pairing)) for pairing in story.members.pairings() if pairing["state"] in TOGETHER}
            assert late.who_with_whom("journey") == story.others.who_with_whom("journey") == now
            assert len(now) == 3

    def test_understands_every_event_and_their_order(self, story: JourneyStory) -> None:
        story.others.caught_up()
        assert {event.record.topic for event in story.others.events} >= {
            "programmes.v1", "rounds.v1", "pairings.v1", "pairing-states.v1", "erasure-requests.v1",
        }  # fmt: skip
        for topic in MAY_READ:
            firsts = {
                of: list(dict.fromkeys(numbers)) for of, numbers in story.others.sequences(topic).items()
            }  # the same event may come again
            assert firsts == {of: sorted(numbers) for of, numbers in firsts.items()}

    def test_seats_and_pairings_agree_for_everybody(self, story: JourneyStory) -> None:
        story.stack.settle()
        holding = {
            (member, pairing["pairing_id"])
            for pairing in story.members.pairings()
            if pairing["state"] in {"proposed", *TOGETHER}
            for member in partners(pairing)
        }
        held = {
            (member, seat["pairing_id"])
            for member in story.members.ids.values()
            for seat in story.members.ledger(member)["held"]
            if seat["programme_id"] == "journey"
        }
        assert held == holding

    def test_open_topics_hold_nothing_personal(self, story: JourneyStory) -> None:
        story.others.caught_up()
        private = [GOAL, RHYTHM, "know_each_other", "quokka", STAYS_AWAY.name]
        private += [word for somebody in PEOPLE for word in (somebody.name, somebody.email)]
        for event in story.others.events:
            record = event.record
            everything_said = json.dumps(
                [
                    record.key,
                    {name: str(value) for name, value in record.headers.items()},
                    (record.value or b"").decode(),
                ]
            )
            assert not [word for word in private if word in everything_said], f"on {record.topic}: {event.type}"
