"""Checks that a server answers in its own protocol. An open port alone proves nothing."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

from chassis.core.connection import Connection
from deploy.local.errors import ServerError
from deploy.local.process import Process, tail

_ATTEMPT_S = 3.0
_PAUSE_S = 0.1

# While a server starts, connections are refused. Without a handler, these warnings would appear on the terminal.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


class UnhealthyError(Exception):
    """The server did not answer correctly. The message fits in one line."""


def kafka_answers(connection: Connection, cluster: str | None = None) -> None:
    """Raise UnhealthyError unless a broker of this cluster (None: any) answers a metadata request."""
    bootstrap = connection.servers
    with ThreadPoolExecutor(1) as executor:  # The caller may already run inside an event loop.
        cluster_id = executor.submit(lambda: asyncio.run(_cluster_id(connection))).result()
    if cluster is not None and cluster_id != cluster:
        raise UnhealthyError(f"another Kafka cluster ({cluster_id}) answers on {bootstrap}")


async def _cluster_id(connection: Connection) -> str:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    bootstrap = connection.servers
    admin = AIOKafkaAdminClient(**connection.client_arguments(), request_timeout_ms=int(_ATTEMPT_S * 1000))
    try:
        async with asyncio.timeout(_ATTEMPT_S):
            await admin.start()
            described = await admin.describe_cluster()
    except (KafkaError, OSError, TimeoutError) as error:
        raise UnhealthyError(f"no Kafka broker answers on {bootstrap} ({type(error).__name__})") from error
    finally:
        await admin.close()
    if not described["brokers"]:
        raise UnhealthyError(f"the Kafka controller on {bootstrap} has no broker yet")
    return str(described["cluster_id"])


def mongo_answers(uri: str) -> None:
    """Raise UnhealthyError unless the store answers a ping."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        client: MongoClient[dict[str, object]] = MongoClient(uri, serverSelectionTimeoutMS=int(_ATTEMPT_S * 1000))
        with client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise UnhealthyError(f"no store answers on {uri.rpartition('@')[2]} ({type(error).__name__})") from error


def wait_until(answers: Callable[[], None], deadline: float, process: Process | None = None) -> None:
    """Repeat a check until the server answers.

    Raises ServerError after `deadline` seconds, or at once when its process has ended. The message has the end of its
    log.
    """
    until = monotonic() + deadline
    while True:
        if process and not process.running:
            raise ServerError(
                f"{process.name} ended while it was starting. Its log ({process.log}) ends:\n{tail(process.log)}"
            )
        try:
            answers()
        except UnhealthyError as error:
            if monotonic() > until:
                log = f" Its log ({process.log}) ends:\n{tail(process.log)}" if process else ""
                raise ServerError(f"Not ready after {deadline:.0f} s: {error}.{log}") from error
        else:
            return
        sleep(_PAUSE_S)
