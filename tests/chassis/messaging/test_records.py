"""A description of an unprocessable record holds none of its data."""

import dataclasses
import json
from datetime import UTC, datetime
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from chassis.core.clocks import Clock
from chassis.core.connection import Connection
from chassis.messaging.dead_letters import DeadLetters
from chassis.messaging.kafka import Producer
from chassis.messaging.records import KafkaRecord, PoisonRecord, ReadableRecord, SkippedRecord, read_record
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent
from contracts.envelope import Envelope, EventData, Topic, source_of
from contracts.examples import envelope_of, examples
from contracts.feedback import FEEDBACK, PARTNER_CHANGES, PartnerChangeRequested
from contracts.profiles import ProfileChanged
from contracts.text import find_fault

WHISPERS = Topic("whispers.v1", "time", writers=("toys",), readers=("toys",))
NAME = "Kasimira"


class NoteWritten(EventData):
    TYPE: ClassVar[str] = "toys.note_written.v1"
    TOPIC: ClassVar[Topic] = WHISPERS
    KEY: ClassVar[str] = "id"

    id: str
    by_name: dict[str, int] = Field(default_factory=dict)


handlers: HandlerRegistry[None] = HandlerRegistry()


@handlers.on(NoteWritten)
async def when_a_note_is_written_do_nothing(event: ReceivedEvent[NoteWritten], context: None) -> None:
    """Registers the type."""


@handlers.on(ProfileChanged)
async def when_a_profile_changes_do_nothing(event: ReceivedEvent[ProfileChanged], context: None) -> None:
    """Registers the type."""


class RecordingProducer(Producer):
    """Remembers the last record that it should deliver."""

    def __init__(self) -> None:
        super().__init__(Connection("nowhere"))
        self.delivered: tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]] = ("", None, None, [])

    async def deliver(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        self.delivered = (topic, key, value, headers)


def build_record(value: bytes, **changed: bytes) -> KafkaRecord:
    headers = dict(build_note_envelope().headers()) | changed
    return KafkaRecord(WHISPERS.name, 0, 0, b"one", value, tuple(headers.items()))


def read_profile(change: dict[str, object]) -> object:
    example = examples()[ProfileChanged]
    data = {**example.model_dump(mode="json"), **change}
    envelope = envelope_of(example)
    headers = tuple(dict(envelope.headers()).items())
    key, value = envelope.subject.encode(), json.dumps(data).encode()
    return read_record(KafkaRecord(ProfileChanged.TOPIC.name, 0, 0, key, value, headers), handlers)


def build_note_envelope() -> Envelope:
    return Envelope("e-1", NoteWritten.TYPE, source_of("toys"), "one", datetime(2026, 3, 2, tzinfo=UTC), 1, "one")


class TestNoPersonalData:
    def test_name_in_place_of_a_field_is_not_repeated(self) -> None:
        poison = read_record(build_record(b'{"id":"one","by_name":{"%s Held":"many"}}' % NAME.encode()), handlers)
        assert isinstance(poison, PoisonRecord)
        assert poison.code == "bad_data"
        assert NAME not in poison.detail

    async def test_pointer_repeats_only_headers_that_are_ids(self) -> None:
        producer = RecordingProducer()
        dead_letters = DeadLetters(producer, Connection("nowhere"), "toys", "t.", [WHISPERS], Clock())
        unreadable = build_record(b"{", ce_id=f"{NAME} Held".encode(), ce_type=b"kasimira@held.example")
        await dead_letters.send(unreadable, "not_json", "")
        assert NAME.lower() not in str(producer.delivered).lower()
        await dead_letters.send(build_record(b"{"), "not_json", "")
        topic, key, value, headers = producer.delivered
        sent = dict(headers)
        assert (topic, key, value) == ("t.dead-letters.toys", None, b"")
        assert (sent["ce_id"], sent["ce_type"]) == (b"e-1", NoteWritten.TYPE.encode())


class TestStrictTypes:
    @pytest.mark.parametrize("change", [
        {"level": True}, {"level": "7"}, {"level": 7.0}, {"personal_cap": "3"}, {"employed_until": 0},
        {"employed_until": "0"}, {"member_id": 7}, {"away": [{"since": 1}]},
    ])  # fmt: skip
    def test_value_of_another_type_makes_a_record_poison(self, change: dict[str, object]) -> None:
        assert isinstance(read_profile({}), ReadableRecord)
        poison = read_profile(change)
        assert isinstance(poison, PoisonRecord)
        assert poison.code == "bad_data"


class TestTextBorder:
    @pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_subject", "ce_correlationid", "traceparent"])
    @pytest.mark.parametrize("text", ["\x1f", "a\x00b", "\x1b[2J", "\x9b2J", "\u202egnp", "a\nb", "\ufffe"])
    def test_unsafe_header_makes_a_record_poison(self, name: str, text: str) -> None:
        poison = read_record(build_record(b'{"id":"one"}', **{name: text.encode()}), handlers)
        assert isinstance(poison, PoisonRecord)
        assert poison.code == "unsafe_text"
        assert text not in poison.detail

    def test_unsafe_key_makes_a_record_poison(self) -> None:
        poison = read_record(dataclasses.replace(build_record(b'{"id":"one"}'), key=b"o\x1bne"), handlers)
        assert isinstance(poison, PoisonRecord)
        assert poison.code == "unsafe_text"

    @given(
        st.dictionaries(st.sampled_from(["ce_id", "ce_type", "ce_source", "ce_subject"]), st.binary(max_size=12)),
        st.none() | st.binary(max_size=12),
        st.none() | st.binary(max_size=30),
    )
    def test_no_bytes_make_reading_fail(
        self, headers: dict[str, bytes], key: bytes | None, value: bytes | None
    ) -> None:
        record = dataclasses.replace(build_record(b"", **headers), key=key, value=value)
        result = read_record(record, handlers)
        if isinstance(result, ReadableRecord | SkippedRecord):
            assert not find_fault((key or b"").decode("utf-8", "replace"))


class TestFormerTopics:
    """A type that moved to another topic: records of the time before are still read."""

    @pytest.mark.parametrize("topic", [PARTNER_CHANGES, FEEDBACK])
    def test_a_record_on_the_former_topic_is_read(self, topic: Topic) -> None:
        registry: HandlerRegistry[None] = HandlerRegistry()
        registry.on(PartnerChangeRequested)(_ignore)
        envelope = dataclasses.replace(
            build_note_envelope(), type=PartnerChangeRequested.TYPE, source=source_of("feedback")
        )
        value = (
            b'{"pairing_id":"one","programme_id":"p","happened_at":"2026-03-02T09:00:00.000Z",'
            b'"recorded_at":"2026-03-02T09:00:00.000Z","checkins_completed":2}'
        )
        record = KafkaRecord(topic.name, 0, 0, b"one", value, tuple(envelope.headers()))
        assert isinstance(read_record(record, registry), ReadableRecord)
        assert topic in (*registry.topics(), *registry.former_topics())

    def test_a_record_on_any_other_topic_is_not_read(self) -> None:
        misplaced = dataclasses.replace(build_record(b'{"id":"one"}'), topic="others.v1")
        assert not isinstance(read_record(misplaced, handlers), ReadableRecord)


async def _ignore(event: ReceivedEvent[PartnerChangeRequested], context: None) -> None:
    """Reads it, and does nothing."""
