"""Asks the broker which topics exist, and what this user may do with each; it creates none, whatever the broker does.

The client's own metadata request does not ask for rights, and lets a broker with automatic creation make the topic.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

READ, WRITE = 1 << 3, 1 << 4  # bits of Kafka's AclOperation
NO_ERROR = 0


@dataclass(frozen=True)
class TopicRights:
    """What the broker says about one topic. ``operations`` has a bit for each operation that is allowed."""

    name: str
    error_code: int
    partitions: int
    operations: int

    @property
    def is_missing(self) -> bool:
        return self.error_code == UnknownTopicOrPartitionError.errno

    def refused_operations(self, *, reads: bool, writes: bool) -> list[str]:
        """The operations among the wanted ones that this user may not do."""
        if self.error_code == TopicAuthorizationFailedError.errno:
            return ["DESCRIBE", *(["READ"] if reads else []), *(["WRITE"] if writes else [])]
        wanted = [("READ", READ, reads), ("WRITE", WRITE, writes)]
        return [name for name, bit, is_wanted in wanted if is_wanted and not self.operations & bit]


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _MetadataRequestStruct(RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _RightsRequest(Request[_MetadataRequestStruct]):
    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return request_struct_class(self._names, False, False, True)


async def read_topic_rights(admin: AIOKafkaAdminClient, names: Iterable[str]) -> list[TopicRights]:
    """The state of each topic for the user of this client."""
    response: Any = await admin._send_request(_RightsRequest(sorted(names)))
    return [
        TopicRights(topic["topic"], topic["error_code"], len(topic["partitions"]), topic["authorized_operations"])
        for topic in response.to_object()["topics"]
    ]
