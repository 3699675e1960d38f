"""One request's trace runs unbroken from HTTP through outbox and Kafka into every service that hears of it.

A chain is written ``service: span > service: span``; each span in it is the direct parent of the next. A service that
hears more is one line more here.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import httpx
import pytest

from tests.journey.collector import Collector, Finder, Span
from tests.journey.estate import Estate
from tests.journey.other_system import OtherSystem, Record
from tests.journey.people import Json, Members, a_programme, admin, cohort, csv_of, newcomers, ok, partners
from tests.journey.waiting import wait_until

SERVER, PRODUCER, CONSUMER = 2, 4, 5
PEOPLE = cohort("traces", 3, 3)


@dataclass
class Leg:
    """One human action and all that follows. Its trace id is drawn here, as by a browser that traces too."""

    collector: Collector
    prefix: str
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    caller: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def headers(self) -> Mapping[str, str]:
        return {"traceparent": f"00-{self.trace_id}-{self.caller}-01"}

    def spans(self) -> list[Span]:
        return [span for span in list(self.collector.spans) if span.trace_id == self.trace_id]

    def has(self, *chains: str) -> None:
        for chain in chains:
            wait_until(partial(self._chain, chain), f"{chain}; only {sorted(map(self._name, self.spans()))}", 30)

    def of_events(self, kind: int) -> list[Span]:
        return [span for span in self.spans() if span.kind == kind]

    def _chain(self, chain: str) -> list[Span] | None:
        """The spans of the chain, if they are there; a first one that answers a request is the caller's child."""
        inner = ("send", "process", "due")
        names = chain.split(" > ")
        parents: list[str] | None = [self.caller] if not names[0].split(": ")[1].startswith(inner) else None
        found: list[Span] = []
        for name in names:
            found = [
                span
                for span in self.spans()
                if self._name(span) == name and (parents is None or span.parent_id in parents)
            ]
            parents = [span.span_id for span in found]
        return found or None

    def _name(self, span: Span) -> str:
        return f"{span.service}: {span.name.replace(self.prefix, '')}"


@pytest.fixture(scope="module")
def records(estate: Estate) -> Iterator[OtherSystem]:
    """Every record of every topic, also those that other systems may not read."""
    topics = (
        "profiles.v1",
        "contacts.v1",
        "answers.v1",
        "programmes.v1",
        "pairings.v1",
        "pairing-states.v1",
        "privacy.v1",
    )
    with OtherSystem(estate.endpoints.kafka, estate.prefix, topics) as reading:
        yield reading


@pytest.fixture(scope="module")
def began() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def members(estate: Estate, began: datetime) -> Members:
    return a_programme(estate, "traces", PEOPLE, care={"messages_per_week": 21})


@pytest.fixture(scope="module")
def proposed(members: Members) -> list[Json]:
    members.publish(members.round()["round_id"])
    return members.pairings(state="proposed")


@pytest.fixture
def leg(estate: Estate, collector: Collector) -> Leg:
    return Leg(collector, estate.prefix)


def test_what_somebody_enters_reaches_whoever_matches_them(members: Members, leg: Leg) -> None:
    entered = {
        "offers": [{"topic": "leadership", "level": "teach"}],
        "seeks": [{"topic": "generative-ai", "priority": 3}],
    }
    act(leg, members.profiles(members.of("senior")[0]), "PUT", "/members/me/entered", entered)
    leg.has("profiles: PUT /members/{member}/entered > profiles: send profiles.v1 > matcher: process profiles.v1")


def test_how_somebody_wants_to_be_reached_reaches_whoever_writes_to_them(members: Members, leg: Leg) -> None:
    act(
        leg,
        members.profiles(members.of("senior")[0]),
        "PUT",
        "/members/me/contact",
        {"display_name": "Senior the First"},
    )
    leg.has("profiles: PUT /members/{member}/contact > profiles: send contacts.v1 > notifier: process contacts.v1")


def test_a_programme_s_new_settings_reach_every_service(members: Members, leg: Leg) -> None:
    known = ok(members.coordinator().get("/programmes/traces"))["settings"]
    act(leg, members.coordinator(), "PUT", "/programmes/traces/settings", {**known, "purpose": "Both gain."})
    leg.has(
        *(
            f"matcher: PUT /programmes/{{id}}/settings > matcher: send programmes.v1 > {service}: process programmes.v1"
            for service in ("profiles", "notifier", "feedback")
        )
    )


def test_an_answer_that_forms_a_pairing_reaches_whoever_looks_after_it(
    members: Members, proposed: list[Json], leg: Leg
) -> None:
    senior, junior = partners(proposed[0])
    members.answer(senior, proposed[0]["pairing_id"], "accepted")
    act(leg, members.matcher(junior), "POST", f"/pairings/{proposed[0]['pairing_id']}/answer", {"answer": "accepted"})
    leg.has(
        "matcher: POST /pairings/{id}/answer > matcher: send answers.v1",
        "matcher: POST /pairings/{id}/answer > matcher: send pairings.v1",
        "matcher: POST /pairings/{id}/answer > matcher: send pairing-states.v1 > feedback: process pairing-states.v1",
        "matcher: POST /pairings/{id}/answer > matcher: send pairing-states.v1 > profiles: process pairing-states.v1",
    )


def test_a_refusal_comes_back_to_the_matcher_that_frees_the_seats(
    members: Members, proposed: list[Json], leg: Leg
) -> None:
    senior, _ = partners(proposed[1])
    act(leg, members.matcher(senior), "POST", f"/pairings/{proposed[1]['pairing_id']}/answer", {"answer": "declined"})
    leg.has("matcher: POST /pairings/{id}/answer > matcher: send pairings.v1 > matcher: process pairings.v1")


def test_an_erasure_reaches_every_service_and_their_reports_come_back(
    members: Members, proposed: list[Json], leg: Leg
) -> None:
    act(leg, members.profiles(partners(proposed[2])[1]), "POST", "/members/me/erasure", None)
    leg.has(
        *(
            f"profiles: POST /members/{{member}}/erasure > profiles: send privacy.v1 > {service}: process privacy.v1"
            for service in ("matcher", "notifier", "feedback")
        ),
        *(
            f"{service}: send privacy.v1 > profiles: process privacy.v1"
            for service in ("profiles", "matcher", "notifier", "feedback")
        ),
        "matcher: process privacy.v1 > matcher: send pairings.v1",
    )


def test_publishing_a_round_and_all_that_it_proposes_are_one_trace(members: Members, leg: Leg) -> None:
    found = newcomers(members.estate, "traces", cohort("tracestoo", 2, 2))
    computing = Leg(leg.collector, leg.prefix)
    computed = act(computing, found.coordinator(), "POST", "/programmes/traces/rounds", {})
    found.round_when(computed["round_id"], "computed")
    computing.has("matcher: send rounds.v1 > notifier: process rounds.v1")
    act(leg, found.coordinator(), "POST", f"/rounds/{computed['round_id']}/publish", None)
    found.round_when(computed["round_id"], "published")
    leg.has(
        "matcher: send pairings.v1",
        "matcher: send rounds.v1",
        "matcher: send pairing-states.v1 > feedback: process pairing-states.v1",
    )


def test_a_file_of_people_and_all_that_follows_are_one_trace(members: Members, leg: Leg) -> None:
    api = members.estate.api("profiles", admin(members.estate))
    content = csv_of(cohort("tracesfile", 1, 1))
    ok(api.post("/imports", content=content, headers={**leg.headers, "Content-Type": "text/csv"}))
    leg.has("profiles: POST /imports", "profiles: send profiles.v1 > matcher: process profiles.v1")


@dataclass
class Life:
    """One pairing from proposal to end, each step a leg of its own; those that a deadline began have no caller."""

    members: Members
    collector: Collector
    id: str = ""
    legs: dict[str, Leg] = field(default_factory=dict)

    def step(self, name: str, client: httpx.Client, method: str, path: str, body: Json | None = None) -> Json:
        """Somebody acts, and all that follows has happened."""
        leg = self.legs[name] = Leg(self.collector, self.members.estate.prefix)
        answer = act(leg, client, method, path, body)
        self.members.estate.rest()
        return answer

    def until(self, moment: datetime) -> None:
        self.members.estate.until(moment)
        self.members.estate.rest()

    def has(self, *chains: str) -> None:
        """In any trace that tells of this pairing."""
        for chain in chains:
            wait_until(partial(self._has, chain), f"{chain} in a trace of the pairing", 30)

    def traces(self) -> list[str]:
        """All that tell of the pairing, in the order in which they began; not that of its phases."""
        began: dict[str, int] = {}
        for span in self.spans():
            began[span.trace_id] = min(span.start, began.get(span.trace_id, span.start))
        return sorted(began, key=lambda trace: began[trace])

    def spans(self) -> list[Span]:
        about = {span.trace_id for span in list(self.collector.spans) if self._is_told_in(span)}
        about |= {leg.trace_id for leg in self.legs.values()}  # one side's draft of a charter tells nobody
        return [span for span in list(self.collector.spans) if span.trace_id in about]

    def phases(self) -> list[Span]:
        return [
            span
            for span in list(self.collector.spans)
            if span.attributes.get("mentoring.pairing.id") == self.id and not self._is_told_in(span)
        ]

    def _is_told_in(self, span: Span) -> bool:
        told = span.attributes.get("mentoring.pairing.id") == self.id
        return told and span.kind in (PRODUCER, CONSUMER)

    def _has(self, chain: str) -> bool:
        return any(Leg(self.collector, self.members.estate.prefix, trace)._chain(chain) for trace in self.traces())


@pytest.fixture(scope="module")
def life(members: Members, collector: Collector) -> Life:
    """A coordinator puts two together; they agree, meet, take a break, are asked, part, and say how it was."""
    found = newcomers(members.estate, "traces", cohort("traceslife", 1, 1))
    life = Life(found, collector)
    senior, junior = *found.of("senior"), *found.of("junior")
    asked = {"senior": senior, "junior": junior}
    life.id = life.step("put together", found.coordinator(), "POST", "/programmes/traces/pairings", asked)["pairing_id"]
    place, yes = f"/pairings/{life.id}", {"answer": "accepted"}
    life.step("one yes", found.matcher(senior), "POST", f"{place}/answer", yes)
    life.step("both yes", found.matcher(junior), "POST", f"{place}/answer", yes)
    text = {"goals": ["to listen"], "meeting_rhythm": "monthly"}
    life.step("draft", found.matcher(senior), "POST", f"{place}/charter", text)
    life.step("agree", found.matcher(junior), "POST", f"{place}/charter", {"agree": True})
    now = found.estate.clock.now()
    later = {"starts_at": (now + timedelta(days=3)).isoformat()}
    life.step("book", found.feedback(senior), "POST", f"{place}/sessions", later)
    life.step("answer", found.feedback(junior), "PUT", f"{place}/checkins/day_0", {"answers": {"1": 3}})
    met = {"starts_at": now.isoformat(), "held": True}
    life.step("meet", found.feedback(junior), "POST", f"{place}/sessions", met)
    until = str((now + timedelta(days=7)).date())
    life.step("pause", found.matcher(junior), "POST", f"{place}/pause", {"until": until})
    life.until(now + timedelta(days=8))
    life.until(now + timedelta(days=45))
    life.step("part", found.feedback(senior), "POST", f"{place}/partner-change", {})
    life.step("last word", found.feedback(senior), "PUT", f"{place}/checkins/end", {"answers": {"5": 5}})
    life.step("last words", found.feedback(junior), "PUT", f"{place}/checkins/end", {"answers": {"5": 5}})
    return life


def test_what_moves_a_pairing_on_reaches_everybody_who_acts_on_it(life: Life) -> None:
    """The matcher's word to notifier and feedback, and what notifier then says of each message."""
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
        f"{answer} > {pairings} > feedback: process pairings.v1 > feedback: send feedback.v1"
        " > notifier: process feedback.v1 > notifier: send notifications.v1",
    )
    life.legs["agree"].has(f"matcher: POST /pairings/{{id}}/charter > {pairings} > feedback: process pairings.v1")
    life.legs["pause"].has(f"matcher: POST /pairings/{{id}}/pause > {pairings} > feedback: process pairings.v1")


def test_what_the_two_say_of_their_meetings_reaches_everybody_who_acts_on_it(life: Life) -> None:
    said = "feedback: POST /pairings/{id}/sessions > feedback: send feedback.v1"
    life.legs["book"].has(f"{said} > notifier: process feedback.v1 > notifier: send notifications.v1")
    life.legs["meet"].has(f"{said} > matcher: process feedback.v1", f"{said} > notifier: process feedback.v1")
    life.legs["answer"].has(
        "feedback: PUT /pairings/{id}/checkins/{milestone} > feedback: send feedback.v1 > notifier: process feedback.v1"
    )


def test_a_wish_for_somebody_else_is_one_trace_through_three_services(life: Life) -> None:
    ends = "feedback: send feedback.v1 > matcher: process feedback.v1 > matcher: send pairings.v1"
    life.legs["part"].has(
        f"feedback: POST /pairings/{{id}}/partner-change > {ends} > feedback: process pairings.v1"
        " > feedback: send feedback.v1 > notifier: process feedback.v1",
        f"{ends} > notifier: process pairings.v1 > notifier: send notifications.v1",
    )
    life.legs["last words"].has("feedback: PUT /pairings/{id}/checkins/{milestone} > feedback: send outcomes.v1")


def test_a_deadline_begins_a_trace_that_reaches_everybody_too(life: Life) -> None:
    life.has(
        "matcher: due pairings > matcher: send pairings.v1 > feedback: process pairings.v1",
        "matcher: due pairings > matcher: send pairings.v1 > notifier: process pairings.v1",
        "feedback: due courses > feedback: send feedback.v1 > notifier: process feedback.v1"
        " > notifier: send notifications.v1",
    )


def test_each_leg_of_a_pairing_points_to_the_one_before_from_the_end_to_the_proposal(life: Life) -> None:
    traces = life.traces()
    assert len(traces) >= len(life.legs) + 2, "with those that a deadline began"
    assert traces[0] == life.legs["put together"].trace_id
    pointed: dict[str, set[str]] = {trace: set() for trace in traces}
    for span in life.spans():
        pointed[span.trace_id].update(span.links)
    for before, after in pairwise(traces):
        assert before in pointed[after], f"{names(life, after)} does not point to {names(life, before)}"
    assert pointed[traces[0]] == set()


def names(life: Life, trace: str) -> list[str]:
    return [f"{span.service}: {span.name}" for span in life.spans() if span.trace_id == trace]


def test_a_reminder_points_to_what_it_reminds_of(life: Life) -> None:
    spans = life.collector.wait_for(Finder(service="notifier", name="due notifications"))
    assert life.legs["book"].trace_id in {link for span in spans for link in span.links}


def test_a_pairing_s_phases_are_one_trace_with_their_real_times(life: Life) -> None:
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


def test_spans_say_which_event_they_are_about_in_the_agreed_words(
    members: Members, proposed: list[Json], leg: Leg
) -> None:
    pairing_id = proposed[0]["pairing_id"]
    act(leg, members.matcher(partners(proposed[0])[0]), "POST", f"/pairings/{pairing_id}/pause", {})
    leg.has("matcher: send pairing-states.v1 > feedback: process pairing-states.v1")
    for span in [*leg.of_events(PRODUCER), *leg.of_events(CONSUMER)]:
        operation = "send" if span.kind == PRODUCER else "process"
        said = span.attributes
        assert span.name == f"{operation} {said['messaging.destination.name']}"
        assert said["messaging.system"] == "kafka"
        assert said["messaging.operation.type"] == said["messaging.operation.name"] == operation
        assert said["messaging.message.id"] == said["cloudevents.event_id"]
        assert said["cloudevents.event_source"] == "/viceversa/matcher"
        assert said["cloudevents.event_type"] in ("mentoring.pairing.paused.v1", "mentoring.pairing.state.v1")
        assert said["mentoring.pairing.id"] == said["messaging.message.conversation_id"] == pairing_id
        if operation == "process":
            assert said["messaging.consumer.group.name"] == members.estate.prefix + span.service
            assert said["messaging.destination.partition.id"].isdigit()


def test_the_traceparent_of_every_record_is_the_span_that_sent_it(
    members: Members, began: datetime, records: OtherSystem, collector: Collector
) -> None:
    members.estate.settle()
    records.caught_up()
    sent: dict[str, set[str]] = {}

    def all_spans_are_here() -> bool:
        sent.clear()
        for span in list(collector.spans):
            if span.kind == PRODUCER:
                event = span.attributes["cloudevents.event_id"]
                sent.setdefault(event, set()).add(f"00-{span.trace_id}-{span.span_id}-01")
        return all(record.text("ce_id") in sent for record in since(began, records))

    wait_until(all_spans_are_here, "a send span of every record", 20)
    assert since(began, records)
    for record in since(began, records):
        assert record.text("traceparent") in sent[record.text("ce_id")]


def since(began: datetime, records: OtherSystem) -> list[Record]:
    """Records of these tests: what a killed process had not exported yet has no spans."""
    found = [event.record for event in records.events]
    return [record for record in found if datetime.fromisoformat(record.text("ce_time")) >= began]


def act(leg: Leg, client: httpx.Client, method: str, path: str, body: Json | None) -> Json:
    return dict(ok(client.request(method, path, json=body, headers=dict(leg.headers))))
