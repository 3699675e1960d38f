"""The base of every benchmark: servers, its own names on them, and the arithmetic of ratios."""

import statistics
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer
from chassis.storage.mongo import Mongo
from chassis.storage.store_profile import EMBEDDED
from deploy.local import ports, process, stack


@dataclass(frozen=True)
class Ground:
    """Servers, and the prefix of this benchmark's topics and databases."""

    endpoints: stack.Endpoints
    prefix: str

    @property
    def connection(self) -> Connection:
        return Connection(self.endpoints.kafka)

    def database(self, name: str) -> str:
        return f"{self.prefix.rstrip('.')}_{name}"


def own_prefix() -> str:
    """A prefix that no installation has, for the topics, groups and databases of one run."""
    return f"b{uuid.uuid4().hex[:8]}."


@contextmanager
def ground() -> Iterator[Ground]:
    """The benchmark's own servers, or those of VICEVERSA_KAFKA and VICEVERSA_MONGO."""
    process.bind_children()
    with (
        TemporaryDirectory(prefix="viceversa-benchmark-") as folder,
        stack.start(Path(folder), kafka_port=ports.any_free(), mongo_port=ports.any_free()) as running,
    ):
        yield Ground(running.endpoints, own_prefix())


@asynccontextmanager
async def producing(connection: Connection) -> AsyncIterator[Producer]:
    producer = Producer(connection)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def database(ground: Ground, name: str) -> AsyncIterator[Mongo]:
    mongo = Mongo(ground.endpoints.mongo, ground.database(name), EMBEDDED)
    try:
        yield mongo
    finally:
        await mongo.drop()
        mongo.close()


def quantile(values: Sequence[float], share: float) -> float:
    """The percentile ``share`` of the values, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }
