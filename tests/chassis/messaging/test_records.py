"""What is said of a record that cannot be processed holds nothing of what stood in it."""

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


class Said(EventData):
    TYPE: ClassVar[str] = "toys.said.v1"
    TOPIC: ClassVar[Topic] = WHISPERS
    KEY: ClassVar[str] = "id"

    id: str
    by_name: dict[str, int] = Field(default_factory=dict)


hearing: HandlerRegistry[None] = HandlerRegistry()


@hearing.on(Said)
async def when_it_is_said_do_nothing(event: ReceivedEvent[Said], context: None) -> None:
    """Only that the type is known matters here."""


class Kept(Producer):
    """Keeps what it is to deliver."""

    def __init__(self) -> None:
        super().__init__(Connection("nowhere"))
        self.delivered: tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]] = ("", None, None, [])

    async def deliver(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        self.delivered = (topic, key, value, headers)


def record(value: bytes, **changed: bytes) -> KafkaRecord:
    headers = dict(_envelope().headers()) | changed
    return KafkaRecord(WHISPERS.name, 0, 0, b"one", value, tuple(headers.items()))


def _envelope() -> Envelope:

    return Envelope("e-1", Said.TYPE, "/toys", "one", datetime(2026, 3, 2, tzinfo=UTC), 1, "one")


class TestNoPersonalData:
    def test_name_in_place_of_a_field_is_not_repeated(self) -> None:
        poison = read_record(record(b'{"id":"one","by_name":{"%s Held":"many"}}' % NAME.encode()), hearing)
        assert isinstance(poison, PoisonRecord)
        assert poison.code == "bad_data"
        assert NAME not in poison.detail

    async def test_pointer_repeats_only_headers_that_are_ids(self) -> None:
        producer = Kept()
        letters = DeadLetters(producer, Connection("nowhere"), "toys", "t.", [WHISPERS], Clock())
        said = record(b"{", ce_id=f"{NAME} Held".encode(), ce_type=b"kasimira@held.example")
        await letters.send(said, "not_json", "")
        assert NAME.lower() not in str(producer.delivered).lower()
        await letters.send(record(b"{"), "not_json", "")
        topic, key, value, headers = producer.delivered
        kept = dict(headers)
        assert (topic, key, value) == ("t.dead-letters.toys", None, b"")
        assert (kept["ce_id"], kept["ce_type"]) == (b"e-1", Said.TYPE.encode())
