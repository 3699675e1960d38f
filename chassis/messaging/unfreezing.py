"""Unfreezing: an operator lets a service take the newest record of one key, whatever sequence its own copy has.

A copy takes higher sequences only. A record with a plausible but wrong sequence, by the owner or in its name, freezes
the copy: later records of that key count as older. The owner's guardian publishes the right state again, with its usual
sequence. The request goes to the topic ``retries.<service>``, which only that service reads.

What always holds: a copy never stays behind the topic. Once its sequence is lowered, later records count again, and the
topic is read a second time for those that were refused before.
"""

from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer, read_key
from chassis.messaging.records import KafkaRecord, ReadableRecord, read_record
from chassis.messaging.subscriptions import C, HandlerRegistry
from contracts.envelope import Topic, retries_of

TOPIC_HEADER = "unfreeze-topic"


async def request_unfreezing(producer: Producer, prefix: str, service: str, topic: Topic, key: str) -> None:
    """Ask a service to take the newest record of this key again. Raises the client's errors."""
    await producer.deliver(
        retries_of(service).full_name(prefix),
        key=key.encode(),
        value=b"",
        headers=[(TOPIC_HEADER, topic.name.encode())],
    )


async def find_newest(
    connection: Connection, prefix: str, handlers: HandlerRegistry[C], topic: str, key: str
) -> ReadableRecord | None:
    """The last readable record of the key on this topic that feeds a projection; None where there is none."""
    newest = None
    async for record in read_key(connection, prefix, topic, key):
        result = read_record(record, handlers)
        if isinstance(result, ReadableRecord) and handlers.has_projection(result.received.envelope.type):
            newest = result
    return newest


def requested_key(record: KafkaRecord) -> str | None:
    """The key of a request; None when it cannot be read."""
    try:
        return (record.key or b"").decode() or None
    except UnicodeDecodeError:
        return None
