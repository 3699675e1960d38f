from abc import ABC, abstractmethod

from aiokafka.structs import TopicPartition

class AbstractTokenProvider(ABC):
    @abstractmethod
    async def token(self) -> str: ...

class ConsumerRebalanceListener(ABC):
    @abstractmethod
    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None: ...
    @abstractmethod
    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None: ...
