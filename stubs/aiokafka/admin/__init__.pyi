from ssl import SSLContext
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin.config_resource import ConfigResource
from aiokafka.structs import OffsetAndMetadata, TopicPartition

class NewTopic:
    name: str
    num_partitions: int
    replication_factor: int
    topic_configs: dict[str, str]
    def __init__(
        self,
        name: str,
        num_partitions: int,
        replication_factor: int,
        replica_assignments: dict[int, list[int]] | None = ...,
        topic_configs: dict[str, str] | None = ...,
    ) -> None: ...

class NewPartitions:
    def __init__(self, total_count: int, new_assignments: list[list[int]] | None = ...) -> None: ...

class RecordsToDelete:
    def __init__(self, before_offset: int) -> None: ...

class TopicsResponse:
    """The parts of the create and delete responses that do not depend on the protocol's version.

    Neither request raises: read each error code, the second item of every row.
    """

    topic_errors: list[tuple[Any, ...]]
    topic_error_codes: list[tuple[str, int]]

class ConfigsResponse:
    resources: list[tuple[Any, ...]]

class AIOKafkaAdminClient:
    async def _send_request(self, request: Any, node_id: int | None = ...) -> Any: ...  # what the public ones use
    def __init__(
        self,
        *,
        bootstrap_servers: str | list[str] = ...,
        client_id: str = ...,
        request_timeout_ms: int = ...,
        connections_max_idle_ms: int = ...,
        retry_backoff_ms: int = ...,
        metadata_max_age_ms: int = ...,
        security_protocol: str = ...,
        ssl_context: SSLContext | None = ...,
        sasl_mechanism: str = ...,
        sasl_plain_username: str | None = ...,
        sasl_plain_password: str | None = ...,
        sasl_oauth_token_provider: AbstractTokenProvider | None = ...,
    ) -> None: ...
    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def create_topics(
        self, new_topics: list[NewTopic], timeout_ms: int | None = ..., validate_only: bool = ...
    ) -> TopicsResponse: ...
    async def delete_topics(self, topics: list[str], timeout_ms: int | None = ...) -> TopicsResponse: ...
    async def delete_records(
        self, records_to_delete: dict[TopicPartition, RecordsToDelete], timeout_ms: int | None = ...
    ) -> dict[TopicPartition, int]: ...
    async def describe_cluster(self) -> dict[str, Any]: ...
    async def describe_configs(
        self, config_resources: list[ConfigResource], include_synonyms: bool = ...
    ) -> list[ConfigsResponse]: ...
    async def alter_configs(self, config_resources: list[ConfigResource]) -> list[ConfigsResponse]: ...
    async def describe_topics(self, topics: list[str] | None = ...) -> list[dict[str, Any]]: ...
    async def list_topics(self) -> list[str]: ...
    async def describe_consumer_groups(self, group_ids: list[str]) -> list[Any]: ...
    async def list_consumer_groups(self, broker_ids: list[int] | None = ...) -> list[tuple[Any, ...]]: ...
    async def list_consumer_group_offsets(
        self,
        group_id: str,
        group_coordinator_id: int | None = ...,
        partitions: list[TopicPartition] | None = ...,
    ) -> dict[TopicPartition, OffsetAndMetadata]: ...
