"""The traces of one pairing, from its proposal to its last event, across all services.

A chain is written ``service: span > service: span``; each span in it is the direct parent of the next.
"""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from tests.journey.conditions import wait_until
from tests.journey.people import Members, a_programme, cohort
from tests.journey.span_collector import Collector, Finder
from tests.journey.stack import Stack
from tests.journey.trace_helpers import PairingTraces


@pytest.fixture(scope="module")
def members(stack: Stack) -> Members:
    return a_programme(stack, "legs", cohort("legs", 1, 1), care={"messages_per_week": 21})


@pytest.fixture(scope="module")
def life(members: Members, collector: Collector) -> PairingTraces:
    """A coordinator pairs two members; they agree, meet, pause, answer check-ins, end, and answer again."""
    company, life = members, PairingTraces(members, collector)
    senior, junior = *company.of("senior"), *company.of("junior")
    body = {"senior": senior, "junior": junior}
    life.id = life.step("put together", company.coordinator(), "POST", "/programmes/legs/pairings", body)["pairing_id"]
    path, yes = f"/pairings/{life.id}", {"answer": "accepted"}
    life.step("one yes", company.matcher(senior), "POST", f"{path}/answer", yes)
    life.step("both yes", company.matcher(junior), "POST", f"{path}/answer", yes)
    text = {"goals": ["to listen"], "meeting_rhythm": "monthly"}
    life.step("draft", company.matcher(senior), "POST", f"{path}/charter", text)
    life.step("agree", company.matcher(junior), "POST", f"{path}/charter", {"agree": True})
    now = company.stack.clock.now()
    later = {"starts_at": (now + timedelta(days=3)).isoformat()}
    life.step("book", company.feedback(senior), "POST", f"{path}/sessions", later)
    life.step("answer", company.feedback(junior), "PUT", f"{path}/checkins/day_0", {"answers": {"1": 3}})
    met = {"starts_at": now.isoformat(), "held": True}
    life.step("meet", company.feedback(junior), "POST", f"{path}/sessions", met)
    until = str((now + timedelta(days=7)).date())
    life.step("pause", company.matcher(junior), "POST", f"{path}/pause", {"until": until})
    life.until(now + timedelta(days=8))
    life.until(now + timedelta(days=45))
    life.step("part", company.feedback(senior), "POST", f"{path}/partner-change", {})
    life.step("last word", company.feedback(senior), "PUT", f"{path}/checkins/end", {"answers": {"5": 5}})
    life.step("last words", company.feedback(junior), "PUT", f"{path}/checkins/end", {"answers": {"5": 5}})
    return life


def names(life: PairingTraces, trace: str) -> list[str]:
    return [f"{span.service}: {span.name}" for span in life.spans() if span.trace_id == trace]


class TestLegs:
    def test_a_transition_reaches_every_service_that_reacts(self, life: PairingTraces) -> None:
        """The matcher's events to notifier and feedback, and the notifier's event for each message."""
        pairings = "matcher: send pairings.v1"
        life.legs["put together"].has(
            f"matcher: POST /programmes/{{id}}/pairings > {pairings} > notifier: process pairings.v1"
            " > notifier: send notifications.v1"
        )
        answer = "matcher: POST /pairings/{id}/answer"
        for leg in ("one yes", "both yes"):
            life.legs[leg].has(f"{answer} > matcher: send answers.v1 > notifier: process answers.v1")
        life.legs["both yes"].has(
            f"{answer} > {pairings} > notifier: process pairings.v1 > notifier: send notifications.v1",
            f"{answer} > {pairings} > feedback: process pairings.v1 > feedback: send checkins.v1"
            " > notifier: process checkins.v1",
        )
        life.legs["agree"].has(f"matcher: POST /pairings/{{id}}/charter > {pairings} > feedback: process pairings.v1")
        life.legs["pause"].has(f"matcher: POST /pairings/{{id}}/pause > {pairings} > feedback: process pairings.v1")

    def test_a_meeting_reaches_every_service_that_reacts(self, life: PairingTraces) -> None:
        said = "feedback: POST /pairings/{id}/sessions > feedback: send feedback.v1"
        life.legs["book"].has(f"{said} > notifier: process feedback.v1 > notifier: send notifications.v1")
        life.legs["meet"].has(f"{said} > matcher: process feedback.v1", f"{said} > notifier: process feedback.v1")
        life.legs["answer"].has(
            "feedback: PUT /pairings/{id}/checkins/{milestone} > feedback: send checkins.v1"
            " > notifier: process checkins.v1"
        )

    def test_a_partner_change_is_one_trace_of_three_services(self, life: PairingTraces) -> None:
        asks = "feedback: send partner-changes.v1 > matcher: process partner-changes.v1"
        ends = f"{asks} > matcher: send pairings.v1"
        life.legs["part"].has(
            f"feedback: POST /pairings/{{id}}/partner-change > {ends} > feedback: process pairings.v1"
            " > feedback: send checkins.v1 > notifier: process checkins.v1",
            f"{ends} > notifier: process pairings.v1 > notifier: send notifications.v1",
        )
        life.legs["last words"].has("feedback: PUT /pairings/{id}/checkins/{milestone} > feedback: send outcomes.v1")

    def test_a_deadline_begins_a_trace_that_reaches_all(self, life: PairingTraces) -> None:
        life.has(
            "matcher: due pairings > matcher: send pairings.v1 > feedback: process pairings.v1",
            "matcher: due pairings > matcher: send pairings.v1 > notifier: process pairings.v1",
            "feedback: due courses > feedback: send feedback.v1 > notifier: process feedback.v1"
            " > notifier: send notifications.v1",
        )

    def test_each_leg_links_to_the_one_before(self, life: PairingTraces) -> None:
        """The links lead from the end of a pairing back to its proposal."""
        traces = life.traces()
        assert len(traces) >= len(life.legs) + 2, "includes the legs that a deadline started"
        assert traces[0] == life.legs["put together"].trace_id
        pointed: dict[str, set[str]] = {trace: set() for trace in traces}
        for span in life.spans():
            pointed[span.trace_id].update(span.links)
        for before, after in pairwise(traces):
            assert before in pointed[after], f"{names(life, after)} does not point to {names(life, before)}"
        assert pointed[traces[0]] == set()

    def test_a_reminder_links_to_its_cause(self, life: PairingTraces) -> None:
        spans = life.collector.wait_for(Finder(service="notifier", name="due notifications"))
        assert life.legs["book"].trace_id in {link for span in spans for link in span.links}

    def test_phases_are_one_trace_with_their_real_times(self, life: PairingTraces) -> None:
        wait_until(lambda: any(span.name == "pairing" for span in life.phases()), "the whole life")
        phases = {span.name: span for span in life.phases()}
        assert set(phases) == {"proposed", "formed", "until they met", "paused", "chartered", "pairing"}
        assert len({span.trace_id for span in phases.values()}) == 1
        whole = phases["pairing"]
        assert {span.parent_id for name, span in phases.items() if name != "pairing"} == {whole.span_id}
        pairing = life.members.pairing(life.id)
        assert [nanoseconds(pairing[name]) for name in ("proposed_at", "ended_at")] == [whole.start, whole.end]
        assert phases["chartered"].start == nanoseconds(pairing["charter_at"])
        assert 6 < (phases["paused"].end - phases["paused"].start) / 86_400e9 < 9
        closed = {"proposed": "both yes", "formed": "agree", "until they met": "meet", "pairing": "part"}
        for name, leg in closed.items():
            assert phases[name].links == (life.legs[leg].trace_id,)


def nanoseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000) * 10**6
