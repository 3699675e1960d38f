"""The trace of one request is unbroken, from HTTP through outbox and Kafka into every service that reads its events.

A chain is written ``service: span > service: span``; each span in it is the direct parent of the next. A service that
reads more events needs one more line here.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.journey.conditions import wait_until
from tests.journey.people import Json, Members, a_programme, admin, cohort, csv_of, newcomers, ok, partners
from tests.journey.span_collector import Collector
from tests.journey.stack import Stack
from tests.journey.subscriber import OtherSystem, SubscriberRecord
from tests.journey.trace_helpers import CONSUMER, PRODUCER, Leg, act

PEOPLE = cohort("traces", 3, 3)


@pytest.fixture(scope="module")
def records(stack: Stack) -> Iterator[OtherSystem]:
    """Every record of every topic, including topics that other systems may not read."""
    topics = (
        "profiles.v1",
        "contacts.v1",
        "answers.v1",
        "programmes.v1",
        "pairings.v1",
        "pairing-states.v1",
        "erasure-requests.v1",
        *(f"erasure-completions.{service}.v1" for service in ("profiles", "matcher", "notifier", "feedback")),
    )
    with OtherSystem(stack.endpoints.kafka, stack.prefix, topics) as reading:
        yield reading


@pytest.fixture(scope="module")
def began() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def members(stack: Stack, began: datetime) -> Members:
    return a_programme(stack, "traces", PEOPLE)


@pytest.fixture(scope="module")
def proposed(members: Members) -> list[Json]:
    members.publish(members.round()["round_id"])
    return members.pairings(state="proposed")


@pytest.fixture
def leg(stack: Stack, collector: Collector) -> Leg:
    return Leg(collector, stack.prefix)


class TestTraces:
    def test_an_entered_profile_reaches_the_matcher(self, members: Members, leg: Leg) -> None:
        entered = {
            "offers": [{"topic": "leadership", "level": "teach"}],
            "seeks": [{"topic": "generative-ai", "priority": 3}],
        }
        act(leg, members.profiles(members.of("senior")[0]), "PUT", "/members/me/entered", entered)
        leg.has("profiles: PUT /members/{member}/{part} > profiles: send profiles.v1 > matcher: process profiles.v1")

    def test_a_contact_preference_reaches_the_notifier(self, members: Members, leg: Leg) -> None:
        act(
            leg,
            members.profiles(members.of("senior")[0]),
            "PUT",
            "/members/me/contact",
            {"display_name": "Senior the First"},
        )
        leg.has("profiles: PUT /members/{member}/{part} > profiles: send contacts.v1 > notifier: process contacts.v1")

    def test_new_programme_settings_reach_every_service(self, members: Members, leg: Leg) -> None:
        settings = ok(members.coordinator().get("/programmes/traces"))["settings"]
        act(leg, members.coordinator(), "PUT", "/programmes/traces/settings", {**settings, "purpose": "Both gain."})
        leg.has(
            *(
                "matcher: PUT /programmes/{id}/settings > matcher: send programmes.v1"
                f" > {service}: process programmes.v1"
                for service in ("profiles", "notifier", "feedback")
            )
        )

    def test_a_forming_answer_reaches_notifier_and_feedback(
        self, members: Members, proposed: list[Json], leg: Leg
    ) -> None:
        senior, junior = partners(proposed[0])
        members.answer(senior, proposed[0]["pairing_id"], "accepted")
        act(
            leg,
            members.matcher(junior),
            "POST",
            f"/pairings/{proposed[0]['pairing_id']}/answer",
            {"answer": "accepted"},
        )
        leg.has(
            "matcher: POST /pairings/{id}/answer > matcher: send answers.v1",
            "matcher: POST /pairings/{id}/answer > matcher: send pairings.v1",
            "matcher: POST /pairings/{id}/answer > matcher: send pairing-states.v1"
            " > feedback: process pairing-states.v1",
            "matcher: POST /pairings/{id}/answer > matcher: send pairing-states.v1"
            " > profiles: process pairing-states.v1",
        )

    def test_a_refusal_returns_to_the_matcher_and_frees_seats(
        self, members: Members, proposed: list[Json], leg: Leg
    ) -> None:
        senior, _ = partners(proposed[1])
        act(
            leg,
            members.matcher(senior),
            "POST",
            f"/pairings/{proposed[1]['pairing_id']}/answer",
            {"answer": "declined"},
        )
        leg.has("matcher: POST /pairings/{id}/answer > matcher: send pairings.v1 > matcher: process pairings.v1")

    def test_an_erasure_reaches_all_and_their_reports_return(
        self, members: Members, proposed: list[Json], leg: Leg
    ) -> None:
        act(leg, members.profiles(partners(proposed[2])[1]), "POST", "/members/me/erasure", None)
        leg.has(
            *(
                "profiles: POST /members/{member}/erasure > profiles: send erasure-requests.v1"
                f" > {service}: process erasure-requests.v1"
                for service in ("matcher", "notifier", "feedback")
            ),
            *(
                f"{service}: send erasure-completions.{service}.v1 > profiles: process erasure-completions.{service}.v1"
                for service in ("profiles", "matcher", "notifier", "feedback")
            ),
            "matcher: process erasure-requests.v1 > matcher: send pairings.v1",
        )

    def test_publishing_a_round_is_one_trace(self, members: Members, leg: Leg) -> None:
        company = newcomers(members.stack, "traces", cohort("tracestoo", 2, 2))
        computing = Leg(leg.collector, leg.prefix)
        computed = act(computing, company.coordinator(), "POST", "/programmes/traces/rounds", {})
        company.round_when(computed["round_id"], "computed")
        computing.has("matcher: send rounds.v1 > notifier: process rounds.v1")
        act(leg, company.coordinator(), "POST", f"/rounds/{computed['round_id']}/publish", None)
        company.round_when(computed["round_id"], "published")
        leg.has(
            "matcher: send pairings.v1",
            "matcher: send rounds.v1",
            "matcher: send pairing-states.v1 > feedback: process pairing-states.v1",
        )

    def test_an_import_and_all_its_effects_are_one_trace(self, members: Members, leg: Leg) -> None:
        api = members.stack.api("profiles", admin(members.stack))
        content = csv_of(cohort("tracesfile", 1, 1))
        ok(api.post("/imports", content=content, headers={**leg.headers, "Content-Type": "text/csv"}))
        leg.has("profiles: POST /imports", "profiles: send profiles.v1 > matcher: process profiles.v1")

    def test_spans_name_their_event_by_the_conventions(self, members: Members, proposed: list[Json], leg: Leg) -> None:
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
            if (
                said["cloudevents.event_source"] == "/viceversa/notifier"
            ):  # both get a message about it, in the same trace
                assert said["cloudevents.event_type"].startswith("mentoring.notification.")
            else:
                assert said["cloudevents.event_source"] == "/viceversa/matcher"
                assert said["cloudevents.event_type"] in ("mentoring.pairing.paused.v1", "mentoring.pairing.state.v1")
                assert said["mentoring.pairing.id"] == said["messaging.message.conversation_id"] == pairing_id
            if operation == "process":
                assert said["messaging.consumer.group.name"] == members.stack.prefix + span.service
                assert said["messaging.destination.partition.id"].isdigit()

    def test_a_records_traceparent_is_the_span_that_sent_it(
        self, members: Members, began: datetime, records: OtherSystem, collector: Collector
    ) -> None:
        members.stack.settle()
        records.caught_up()
        sent: dict[str, set[str]] = {}

        def all_spans_are_here() -> bool:
            sent.clear()
            for span in list(collector.spans):
                if span.kind == PRODUCER:
                    event = span.attributes["cloudevents.event_id"]
                    sent.setdefault(event, set()).add(f"00-{span.trace_id}-{span.span_id}-01")
            return all(record.text("ce_id") in sent for record in since(began, records))

        wait_until(all_spans_are_here, "a send span of every record", 10)
        assert since(began, records)
        for record in since(began, records):
            assert record.text("traceparent") in sent[record.text("ce_id")]


def since(began: datetime, records: OtherSystem) -> list[SubscriberRecord]:
    """Only the records of these tests, because a killed process loses the spans that it had not exported."""
    records_since = [event.record for event in records.events]
    return [record for record in records_since if datetime.fromisoformat(record.text("ce_time")) >= began]
