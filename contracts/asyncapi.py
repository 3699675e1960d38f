"""The AsyncAPI 3.0 document: every topic, every message, and the guarantees to a subscriber.

All schemas stand under ``#/components/schemas``, because the official parser does not follow ``$defs``. The
discriminator is removed, because the parser reads it as a name.
"""

from typing import Any

from pydantic import JsonValue
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from contracts.catalogue import EVENTS, SERVICE_TOPICS, TOPICS
from contracts.envelope import Cleanup, EventData, Topic, schema_urn, source_of
from contracts.examples import examples, headers_of

Json = dict[str, JsonValue]

VERSION = "1.0.0"  # of the document; event types carry their own version in their names
RETENTION_MS = 90 * 24 * 60 * 60 * 1000
RULES = """\
The events of mentoring pairs, as CloudEvents 1.0 in Kafka's binary mode. The attributes are headers of the record \
(`ce_...`, UTF-8). The value of the record is the data of the event alone, as JSON.

These are the guarantees to a subscriber, and there are no others:

- **Order holds for one key of one topic only.** There is no order between keys or between topics.
- **Gaps in offsets are normal**: transactions, compaction and retention leave them. Do not count offsets.
- **At least once**: the same event may arrive again, with the same `ce_id`. Remember the ids, or the highest \
`ce_sequence` for each `ce_source`, `ce_subject` and topic, and ignore events that are not newer.
- **`ce_sequence` grows** for each `ce_source` and `ce_subject`, with gaps. It has 20 digits: compare it as text.
- **Ignore unknown types, fields and headers**: they are no error. Optional fields may be added to a type at any time. \
Any other change comes as a new type, `.v2`, beside the old one for a while.
- **Every event carries the whole public state** of its aggregate, so the newest one brings you up to date.
- **The last record of a key in `pairing-states.v1` is the current state** of that pairing; start with it.
- **A tombstone** (all headers, no value) on a compacted topic means that the aggregate of the key is gone: erase your \
copy. It stays for 30 days; after a longer absence, drop your copy and read the topic from its beginning.
- Times are UTC with milliseconds. `happened_at` is business time, `recorded_at` and `ce_time` are machine time.
"""
CLEANUP_TEXT: dict[Cleanup, str] = {
    "compact": "Compacted: the newest record of each key stays; a tombstone ends a key.",
    "time": "Records stay for 90 days.",
    "keep": "Records stay for ever.",
}


class Untitled(GenerateJsonSchema):
    """Generates JSON Schema without titles of fields, which would only repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def document() -> Json:
    """The whole document, in a fixed order."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Viceversa",
            "version": VERSION,
            "description": RULES,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{host}",
                "protocol": "kafka",
                "description": "Your own cluster.",
                "variables": {"host": {"default": "localhost:9092", "description": "host and port of a broker"}},
            }
        },
        "channels": {topic.name: _channel(topic) for topic in (*TOPICS, *SERVICE_TOPICS)},
        "operations": {f"send.{topic.name}": _operation(topic) for topic in TOPICS},
        "components": {"schemas": _schemas(), "messages": _messages()},
    }


def _types(topic: Topic) -> list[type[EventData]]:
    return [event for event in EVENTS if topic in event.topics()]


def _message_names(topic: Topic) -> list[str]:
    if topic in SERVICE_TOPICS:
        return ["FailedRecord"]
    names = [event.__name__ for event in _types(topic)]
    return [*names, *(f"{name}Tombstone" for name in names if topic.cleanup == "compact")]


def _readers(topic: Topic) -> str:
    if topic in SERVICE_TOPICS:
        return "For operators and the service itself."
    if topic.restricted:
        return f"Restricted: only {' and '.join(topic.readers)} may read it."
    return "Anyone may read it."


def _writers(topic: Topic) -> str:
    if not topic.writers:
        return "Only commands of an operator write it. "
    return f"Only {topic.writers[0]} writes it, with the ce_source {source_of(topic.writers[0])}. "


def _key(topic: Topic) -> str:
    return _types(topic)[0].KEY if topic in TOPICS else "the key of the failed record"


def _channel(topic: Topic) -> Json:
    config: Json = {
        "cleanup.policy": ["compact" if topic.cleanup == "compact" else "delete"],
        "max.message.bytes": topic.max_bytes,
    }
    if topic.cleanup != "compact":
        config["retention.ms"] = RETENTION_MS if topic.cleanup == "time" else -1
    partitions = f"{topic.partitions} partitions; the number never changes."
    text = f"Key: {_key(topic)}. {CLEANUP_TEXT[topic.cleanup]} {partitions} {_writers(topic)}{_readers(topic)}"
    return {
        "address": "{prefix}" + topic.name,
        "description": text,
        "parameters": {"prefix": {"default": "mentoring.", "description": "set at the installation"}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(topic)},
        "bindings": {
            "kafka": {"partitions": topic.partitions, "topicConfiguration": config, "bindingVersion": "0.5.0"}
        },
        "x-key": _key(topic),
        "x-writers": list(topic.writers),
        "x-readers": list(topic.readers),
    }


def _operation(topic: Topic) -> Json:
    channel = f"#/channels/{topic.name}"
    return {
        "action": "send",
        "channel": {"$ref": channel},
        "summary": f"Viceversa publishes its events on {topic.name}; subscribe to receive them.",
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in _message_names(topic)],
    }


def _messages() -> Json:
    messages: Json = {}
    for event in EVENTS:
        messages[event.__name__] = _message(event)
        if event.TOPIC.cleanup == "compact":
            messages[f"{event.__name__}Tombstone"] = _tombstone(event)
    messages["FailedRecord"] = {
        "title": "A record that could not be processed",
        "description": (
            "The unchanged bytes of the record, or only its position if its topic is restricted. The `dl-` headers "
            "name its origin and the error."
        ),
        "contentType": "application/octet-stream",
    }
    return messages


def _base(event: type[EventData]) -> Json:
    kafka: Json = {"key": {"type": "string", "description": event.KEY}, "bindingVersion": "0.5.0"}
    return {
        "name": event.TYPE,
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEventHeaders"},
                {
                    "type": "object",
                    "properties": {
                        "ce_type": {"type": "string", "const": event.TYPE},
                        "ce_dataschema": {"type": "string", "const": schema_urn(event.TYPE)},
                    },
                },
            ]
        },
        "correlationId": {"location": "$message.header#/ce_correlationid"},
        "bindings": {"kafka": kafka},
    }


def _message(event: type[EventData]) -> Json:
    example = examples()[event]
    headers: Json = dict(headers_of(example))
    return {
        **_base(event),
        "title": event.__name__,
        "summary": (event.__doc__ or "").strip(),
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
        "examples": [{"name": "example", "headers": headers, "payload": example.model_dump(mode="json")}],
    }


def _tombstone(event: type[EventData]) -> Json:
    return {
        **_base(event),
        "title": f"{event.__name__}, gone",
        "summary": f"The aggregate named by {event.KEY} is gone for good: erase it. All headers, no value.",
        "payload": {"type": "null"},
    }


def _schemas() -> Json:
    _, generated = models_json_schema(
        [(event, "validation") for event in EVENTS],
        ref_template="#/components/schemas/{model}",
        schema_generator=Untitled,
    )
    schemas: Json = {"CloudEventHeaders": _headers()}
    schemas.update(_without_discriminator(generated["$defs"]))
    return schemas


def _without_discriminator(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_discriminator(value) for name, value in schema.items() if name != "discriminator"}
    if isinstance(schema, list):
        return [_without_discriminator(item) for item in schema]
    return schema


def _headers() -> Json:
    texts = {
        "ce_specversion": "1.0",
        "ce_id": "the event's id; the same when it is delivered again",
        "ce_type": "the event's type with its version",
        "ce_source": "the service that publishes the event",
        "ce_subject": "the aggregate of the event",
        "ce_time": "machine time, UTC",
        "ce_dataschema": "URN of the JSON Schema of the data",
        "ce_sequence": "grows for each source and subject, with gaps; 20 digits, to be compared as text",
        "ce_correlationid": "the pairing or member whose history the event belongs to",
        "ce_causationid": "id of the event that caused this one",
        "traceparent": "W3C trace context",
        "content-type": "application/json",
    }
    properties: dict[str, Json] = {name: {"type": "string", "description": text} for name, text in texts.items()}
    properties["ce_specversion"]["const"] = "1.0"
    properties["ce_time"]["format"] = "date-time"
    properties["ce_sequence"]["pattern"] = "^[0-9]{20}$"
    optional = ("ce_causationid", "traceparent")
    return {
        "type": "object",
        "description": "CloudEvents 1.0 attributes, one header each.",
        "properties": dict(properties),
        "required": [name for name in texts if name not in optional],
    }
