"""A description of an unprocessable record holds none of its data."""

from datetime import UTC, datetime
from typing import ClassVar

from pydantic import Field

from chassis.core.clocks import Clock
from chassis.core.connection import Connection
from chassis.messaging.dead_letters import DeadLetters
from chassis.messaging.kafka import Producer
from chassis.messaging.records import KafkaRecord, PoisonRecord, read_record
from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent
from contracts.envelope import Envelope, EventData, Topic

WHISPERS = Topic("whispers.v1", "time", readers=("toys",))
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


def build_note_envelope() -> Envelope:
    return Envelope("e-1", NoteWritten.TYPE, "/toys", "one", datetime(2026, 3, 2, tzinfo=UTC), 1, "one")


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
