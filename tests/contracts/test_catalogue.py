"""The table of topics, and what no event may hold."""

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from contracts.catalogue import BY_TYPE, EVENTS, FORMER_TOPICS, SERVICE_TOPICS, SERVICES, TOPICS
from contracts.envelope import EventData, current_topic, retries_of
from contracts.examples import envelope_of, examples
from contracts.privacy import ErasureCompleted, ErasureRequested

# name: clean-up, partitions, readers (none: anyone), key, types without "mentoring." and ".v1"
TABLE: Mapping[str, tuple[str, int, tuple[str, ...], str, str]] = {
    "profiles.v1": ("compact", 12, ("matcher", "feedback"), "member_id", "profile.changed"),
    "contacts.v1": ("compact", 12, ("notifier",), "member_id", "contact.changed"),
    "programmes.v1": ("compact", 3, (), "programme_id", "programme.changed"),
    "rounds.v1": ("time", 3, (), "round_id", "round.computed round.published"),
    "pairings.v1": (
        "keep",
        12,
        (),
        "pairing_id",
        (
            "pairing.proposed pairing.lapsed pairing.formed pairing.chartered pairing.paused pairing.resumed "
            "pairing.renewed pairing.ended"
        ),
    ),
    "pairing-states.v1": ("compact", 12, (), "pairing_id", "pairing.state"),
    "answers.v1": ("time", 12, ("notifier",), "pairing_id", "answer.given"),
    "requests.v1": (
        "time",
        12,
        ("notifier",),
        "request_id",
        "request.opened request.accepted request.lapsed request.withdrawn",
    ),
    "unmatched.v1": ("time", 12, ("notifier",), "member_id", "member.unmatched"),
    "feedback.v1": (
        "time",
        12,
        (),
        "pairing_id",
        ("session.scheduled session.held session.cancelled session.missed contact.needed"),
    ),
    "checkins.v1": ("time", 12, ("notifier",), "pairing_id", "checkin.due checkin.completed"),
    "partner-changes.v1": ("time", 12, ("matcher",), "pairing_id", "partner.change.requested"),
    "outcomes.v1": ("time", 12, ("matcher",), "pairing_id", "outcome.recorded"),
    "notifications.v1": (
        "time",
        12,
        (),
        "member_id",
        "notification.sent notification.failed notification.suppressed",
    ),
    "erasure-requests.v1": ("keep", 12, (), "member_id", "erasure.requested"),
    "erasure-completions.profiles.v1": ("keep", 12, (), "member_id", "erasure.completed"),
    "erasure-completions.matcher.v1": ("keep", 12, (), "member_id", "erasure.completed"),
    "erasure-completions.notifier.v1": ("keep", 12, (), "member_id", "erasure.completed"),
    "erasure-completions.feedback.v1": ("keep", 12, (), "member_id", "erasure.completed"),
}

# Every field that can hold text of somebody's choice, and why it may. A new one fails here until it is argued.
ARGUED: Mapping[str, str] = {
    "ContactChanged.display_name": "the contact topic is where a name belongs; restricted to the notifier",
    "ContactChanged.email": "the contact topic is where an address belongs; restricted to the notifier",
    "Labels.name": "a programme's name, written by its coordinator for everybody",
    "Labels.senior": "what a programme calls one side, written by its coordinator for everybody",
    "Labels.junior": "what a programme calls one side, written by its coordinator for everybody",
    "ProgrammeSettings.purpose": "what a programme is for, written by its coordinator for everybody",
    "ProgrammeSettings.confidential_contact": "a function, not a person; members must be able to see it",
}
# Patterns that leave no room for a sentence, a full name or an address.
CODES = {r"^[a-z][a-z0-9-]*$", r"^[^\s@]+$", r"^[A-Za-z0-9_+/-]+$", r"^[a-z][a-z0-9_.-]*$", r"^(day_[0-9]{1,4}|end)$"}
CODES |= {r"^[A-Z]{2}$", r"^[A-Z0-9]{1,4}$"}


def test_the_topics_are_those_of_the_design() -> None:
    assert {topic.name: _row(topic.name) for topic in TOPICS} == TABLE


def _row(name: str) -> tuple[str, int, tuple[str, ...], str, str]:
    (topic,) = (topic for topic in TOPICS if topic.name == name)
    events = [event for event in EVENTS if topic in event.topics()]
    (key,) = {event.KEY for event in events}
    said = " ".join(event.TYPE.removeprefix("mentoring.").removesuffix(".v1") for event in events)
    return topic.cleanup, topic.partitions, topic.readers, key, said


def test_every_topic_has_one_writer() -> None:
    assert {topic.name for topic in (*TOPICS, *SERVICE_TOPICS) if len(topic.writers) != 1} == {
        retries_of(service).name
        for service in SERVICES  # written by the operator's commands
    }
    assert all(set(topic.writers) <= set(SERVICES) for topic in (*TOPICS, *SERVICE_TOPICS, *FORMER_TOPICS))


def test_every_type_stands_on_a_topic_of_its_writer() -> None:
    for event in EVENTS:
        for topic in event.topics():
            assert event.topic_of(topic.writers[0]) == topic
            assert topic in TOPICS


def test_an_event_of_a_former_topic_goes_to_the_present_one() -> None:
    """An earlier version saved it in an outbox, and stopped before it was published."""
    requested, completed = ErasureRequested.TYPE, ErasureCompleted.TYPE
    assert current_topic(requested, "privacy.v1", "profiles") == "erasure-requests.v1"
    assert current_topic(completed, "privacy.v1", "matcher") == "erasure-completions.matcher.v1"
    assert current_topic("mentoring.pairing.state.v1", "pairing-states.v1", "matcher") == "pairing-states.v1"


def test_a_fifth_service_may_report_an_erasure() -> None:
    report = {"member_id": "m1", "service": "portal", "completed_at": "2026-03-02T09:30:00Z"}
    completed = ErasureCompleted.model_validate(report)
    assert completed.topic_of("portal").name == "erasure-completions.portal.v1"
    for service in ("Portal of Maria", "", "a" * 65, "portal/../profiles"):
        with pytest.raises(ValueError, match="service"):
            ErasureCompleted.model_validate({**report, "service": service})


def test_every_service_has_its_dead_letters_and_retries() -> None:
    names = {f"{kind}.{service}" for kind in ("dead-letters", "retries") for service in SERVICES}
    assert {topic.name for topic in SERVICE_TOPICS} == names
    assert {topic.max_bytes - 64 * 1024 for topic in SERVICE_TOPICS} == {max(topic.max_bytes for topic in TOPICS)}
    assert {topic.cleanup for topic in SERVICE_TOPICS} == {"time"}


def test_every_event_class_is_in_the_catalogue_once() -> None:
    assert set(EVENTS) == {event for event in _subclasses(EventData) if "TYPE" in event.__dict__ and _ours(event)}
    assert len(BY_TYPE) == len(EVENTS)


def _ours(event: type[EventData]) -> bool:
    return event.__module__.startswith("contracts.")


def _subclasses(event: type[EventData]) -> Iterator[type[EventData]]:
    for child in event.__subclasses__():
        yield child
        yield from _subclasses(child)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)
def test_key_subject_and_correlation_are_fields(event: type[EventData]) -> None:
    example = examples()[event]
    assert example.key()
    assert envelope_of(example).subject == example.subject()
    assert envelope_of(example).correlationid == example.correlation()


def test_no_field_can_hold_free_text_unless_it_was_argued() -> None:
    result = {name for event in EVENTS for name in free_texts(event)}
    assert result == set(ARGUED)


def test_only_contact_events_hold_a_name_or_an_address() -> None:
    holders = {
        event.__name__ for event in EVENTS if any("email" in name or "display" in name for name in free_texts(event))
    }
    assert holders == {"ContactChanged"}
    assert BY_TYPE["mentoring.contact.changed.v1"].TOPIC.restricted


@pytest.mark.parametrize("word", ["score", "reason", "comment", "intro", "birth", "gender", "salary", "rating"])
def test_no_field_is_called_what_no_event_may_say(word: str) -> None:
    named = {name for event in EVENTS for name in field_names(event) if word in name}
    assert named == ({"AnswerGiven.reason"} if word == "reason" else set())  # a code, and restricted


def test_the_walk_finds_free_text_wherever_it_hides() -> None:
    class Inner(BaseModel):
        note: str | None = None

    class Hiding(EventData):
        inner: tuple[Inner, ...] = ()
        words: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it
        loose: Any = None
        fine: Literal["a"] = "a"

    assert set(free_texts(Hiding)) == {"Inner.note", "Hiding.words", "Hiding.loose"}


def free_texts(model: type[BaseModel]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        whole = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        for result in _texts(whole, closed=False):
            yield f"{model.__name__}.{name}" if result == "here" else result


def field_names(model: type[BaseModel]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield f"{model.__name__}.{name}"
        for inner in _models(info.annotation):
            yield from field_names(inner)


def _texts(kind: Any, *, closed: bool) -> Iterator[str]:
    """``here`` for an open text in ``kind`` itself, the names of fields for those of models within."""
    if get_origin(kind) is Annotated:
        inner, *metadata = get_args(kind)
        yield from _texts(inner, closed=closed or any(_patterns(metadata)))
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from free_texts(kind)
    elif get_origin(kind) in (Union, types.UnionType, tuple, dict):
        for argument in get_args(kind):
            yield from _texts(argument, closed=closed)
    elif (kind in (str, bytes) and not closed) or kind in (Any, object, dict, list, tuple):
        yield "here"


def _patterns(metadata: Any) -> Iterator[bool]:
    for entry in metadata:
        if getattr(entry, "pattern", None) in CODES:
            yield True
        yield from _patterns(getattr(entry, "metadata", ()))


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for argument in get_args(kind):
        yield from _models(argument)
