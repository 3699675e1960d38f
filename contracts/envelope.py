"""The envelope of every event: CloudEvents 1.0 in Kafka's binary mode.

The value of a record holds the data of the event alone; everything else is in headers. A *tombstone* has the same
headers and no value: the aggregate named by the key is gone for good.

Guarantees to a subscriber: order holds for one key of one topic only; ``ce_sequence`` grows for each event of one
``(ce_source, ce_subject)``, with gaps; the same ``ce_id`` may arrive more than once. Subscribers must ignore unknown
types and fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter

from contracts.base import FrozenModel

CONTENT_TYPE = "application/json"
SEQUENCE_DIGITS = 20  # zero padded, so that texts sort like numbers (CloudEvents extension "sequence")
EPOCH = 2**40  # sequences of one epoch; a restored backup begins the next one
MAX_EPOCHS = 2**10  # more backups than any installation restores
MAX_EVENTS_OF_AN_EPOCH = 2**24  # more events than one aggregate has: one a minute for thirty years
SOURCE_PREFIX = "/viceversa/"


def _utc(value: datetime) -> datetime:
    if value.tzinfo is UTC and value.microsecond % 1000 == 0:
        return value
    try:
        moved = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time outside the years 1 to 9999 in UTC") from None
    return moved.replace(microsecond=moved.microsecond // 1000 * 1000)


def iso(value: datetime) -> str:
    value = value if value.tzinfo is UTC else value.astimezone(UTC)
    return value.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _read_day(value: object) -> object:
    """pydantic would take the text of a number for seconds since 1970."""
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a date, such as 2026-03-01") from None


def _read_instant(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a time with its zone, such as 2026-03-01T09:30:00+01:00") from None


Day = Annotated[date, BeforeValidator(_read_day)]
"""A calendar day; in JSON ``2026-03-01``, and never a number."""

Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_read_instant),
    AfterValidator(_utc),
    PlainSerializer(iso, return_type=str, when_used="json"),
]
"""A point in time in UTC; in JSON ``2026-03-01T09:30:00.000Z``. A time without a zone is refused. Digits below one
millisecond are dropped, so that a value equals its stored form. A number is refused."""

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\s@]+$")]
"""An id or a code. White space and ``@`` are refused, so that no sentence, full name or address passes for an id."""

Tag = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$")]
"""A BCP 47 language tag or the IANA name of a time zone."""

Cleanup = Literal["compact", "time", "keep"]


@dataclass(frozen=True)
class Topic:
    """A topic by its logical name; the broker knows it as ``prefix + name``.

    ``cleanup``: *compact* keeps the newest record of each key, *time* keeps 90 days, *keep* keeps everything.
    ``writers``: the services that publish on it, exactly one unless an earlier version wrote it. A record of anybody
    else is foreign: it has no effect.
    ``readers``: the consumer groups that may read a restricted topic; empty means anyone.
    ``max_bytes``: the largest record.
    """

    name: str
    cleanup: Cleanup
    partitions: int = 12
    writers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    max_bytes: int = 1_000_000

    @property
    def restricted(self) -> bool:
        return bool(self.readers)

    @property
    def holds_private_acts(self) -> bool:
        """Whether each record is one private act of a person at its moment, rather than the newest state."""
        return self.restricted and self.cleanup != "compact"

    def full_name(self, prefix: str) -> str:
        return prefix + self.name


def dead_letters_of(service: str) -> Topic:
    """The topic of records that ``service`` could not process; 64 KiB larger than its sources, for ``dl-*`` headers."""
    return Topic(f"dead-letters.{service}", "time", writers=(service,), max_bytes=1_000_000 + 64 * 1024)


def retries_of(service: str) -> Topic:
    """The topic of records that ``service`` alone must process again."""
    return Topic(f"retries.{service}", "time", max_bytes=1_000_000 + 64 * 1024)


_TRACED_AS: dict[str, str] = {}
_MOVED: "dict[tuple[str, str], type[EventData]]" = {}
_RESTRICTED_TYPES: set[str] = set()


def is_restricted(event_type: str) -> bool:
    """Whether only named services may read events of this type."""
    return event_type in _RESTRICTED_TYPES


def traced_as(event_type: str) -> str | None:
    """The span attribute for the correlation id of this type's events; None if it has none."""
    return _TRACED_AS.get(event_type)


def current_topic(event_type: str, topic: str, service: str) -> str:
    """The topic on which ``service`` publishes an event that was saved for ``topic``, perhaps by an earlier version."""
    moved = _MOVED.get((event_type, topic))
    return moved.topic_of(service).name if moved else topic


class EventData(FrozenModel):
    """The data of one event type: what happened, with the whole public state of the aggregate.

    A subclass declares its ``TYPE`` (for example ``mentoring.pairing.formed.v1``), its ``TOPIC``, and three fields:
    ``KEY`` is the key of the record and decides the order, ``SUBJECT`` is the CloudEvents subject (the aggregate), and
    ``CORRELATION`` names the pairing or member whose history the event belongs to.
    """

    TYPE: ClassVar[str]
    TOPIC: ClassVar[Topic]
    KEY: ClassVar[str]
    SUBJECT: ClassVar[str | None] = None
    CORRELATION: ClassVar[str | None] = None
    TRACED_AS: ClassVar[str | None] = None
    """The span attribute that carries the correlation id in traces."""
    FORMER_TOPIC: ClassVar[Topic | None] = None
    """The topic that an earlier version used. Its records are still read, and nothing is published on it."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.TRACED_AS is not None and "TYPE" in cls.__dict__:
            _TRACED_AS[cls.TYPE] = cls.TRACED_AS
        if "TYPE" in cls.__dict__ and cls.TOPIC.restricted:
            _RESTRICTED_TYPES.add(cls.TYPE)
        if cls.FORMER_TOPIC is not None and "TYPE" in cls.__dict__:
            _MOVED[cls.TYPE, cls.FORMER_TOPIC.name] = cls

    @classmethod
    def topic_of(cls, service: str) -> Topic:  # noqa: ARG003 - for subclasses
        """The topic on which ``service`` publishes this type. Only reports that every service gives differ in it."""
        return cls.TOPIC

    @classmethod
    def topics(cls) -> tuple[Topic, ...]:
        """Every topic on which this type is published."""
        return (cls.TOPIC,)

    def writer(self) -> str | None:
        """The service that the data says it is from; None where the data does not say."""
        return None

    def key(self) -> str:
        return str(getattr(self, self.KEY))

    def subject(self) -> str:
        return str(getattr(self, self.SUBJECT or self.KEY))

    def correlation(self) -> str:
        return str(getattr(self, self.CORRELATION or self.KEY))


def is_plausible(sequence: int) -> bool:
    """Whether an aggregate can have reached this sequence. Readers refuse others, since a row that took one would
    refuse every later event of its owner.
    """
    epoch, number = divmod(sequence, EPOCH)
    return 0 <= epoch < MAX_EPOCHS and number <= MAX_EVENTS_OF_AN_EPOCH


def repeats_an_attribute(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Whether an attribute is there twice; which of the two counts would depend on the reader."""
    names = [name for name, _ in headers if name in _ATTRIBUTE_HEADERS]
    return len(names) != len(set(names))


@dataclass(frozen=True)
class Tombstone:
    """Publishes on a compacted topic that the aggregate ``key`` is gone; ``type`` is the event type of its state."""

    type: type[EventData]
    key: str


OutgoingEvent = EventData | Tombstone


@dataclass(frozen=True, slots=True)
class Envelope:
    """The attributes of one CloudEvent, without its data.

    Attributes that are read from a record are validated (``from_headers``); our own are not validated again.
    """

    id: Annotated[str, Field(min_length=1, max_length=64)]
    type: Annotated[str, Field(min_length=1, max_length=128)]
    source: Annotated[str, Field(min_length=1, max_length=128)]
    subject: Annotated[str, Field(min_length=1, max_length=128)]
    time: Instant
    sequence: Annotated[int, Field(ge=0, lt=2**63)]
    correlationid: Annotated[str, Field(max_length=128)]
    causationid: Annotated[str, Field(max_length=128)] | None = None
    traceparent: Annotated[str, Field(max_length=64)] | None = None

    @property
    def dataschema(self) -> str:
        return schema_urn(self.type)

    def headers(self) -> list[tuple[str, bytes]]:
        """The record's headers, in a fixed order."""
        named: list[tuple[str, str | None]] = [
            ("ce_specversion", "1.0"),
            ("ce_id", self.id),
            ("ce_type", self.type),
            ("ce_source", self.source),
            ("ce_subject", self.subject),
            ("ce_time", iso(self.time)),
            ("ce_dataschema", self.dataschema),
            ("ce_sequence", f"{self.sequence:0{SEQUENCE_DIGITS}d}"),
            ("ce_correlationid", self.correlationid),
            ("ce_causationid", self.causationid),
            ("traceparent", self.traceparent),
            ("content-type", CONTENT_TYPE),
        ]
        return [(name, value.encode()) for name, value in named if value is not None]

    @classmethod
    def from_headers(cls, headers: Sequence[tuple[str, bytes]]) -> "Envelope":
        """Read the attributes from a record's headers; unknown headers are ignored.

        Raises ``ValueError`` (pydantic's ``ValidationError`` is one) if a required header is missing or malformed, or
        if one of these headers is not UTF-8.
        """
        by_name: Mapping[str, bytes] = dict(headers)
        attributes: dict[str, str] = {}
        if by_name.get("ce_specversion") != b"1.0":
            raise ValueError("ce_specversion is missing or not 1.0")
        for name in _ATTRIBUTES:
            if (value := by_name.get(f"ce_{name}")) is not None:
                attributes[name] = value.decode("utf-8")
        if (parent := by_name.get("traceparent")) is not None:
            attributes["traceparent"] = parent.decode("utf-8")
        if not (by_name.get("ce_sequence") or b"").isdigit():  # a header may be null
            raise ValueError("ce_sequence is missing or not a number")
        return _ENVELOPE.validate_python((attributes,))[0]


_ATTRIBUTES = ("id", "type", "source", "subject", "time", "sequence", "correlationid", "causationid")
_ATTRIBUTE_HEADERS = frozenset({"ce_specversion", "traceparent", *(f"ce_{name}" for name in _ATTRIBUTES)})

# Errors must not repeat their input. Pydantic reads that option from the outermost type; a dataclass cannot set it.
_ENVELOPE = TypeAdapter(tuple[Envelope], config=ConfigDict(hide_input_in_errors=True))


def schema_urn(event_type: str) -> str:
    return f"urn:viceversa:schema:{event_type}"


def source_of(service: str) -> str:
    """The ``ce_source`` of a service."""
    return SOURCE_PREFIX + service


def find_writer(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    """The service that a record says it is from, by its ``ce_source``; None if it names no service, or several."""
    sources = [value for name, value in headers if name == "ce_source"]
    if len(sources) != 1 or not (sources[0] or b"").startswith(SOURCE_PREFIX.encode()):
        return None
    return (sources[0] or b"")[len(SOURCE_PREFIX) :].decode("utf-8", "replace")
