"""Does a server answer in its own protocol? An open port alone proves nothing."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

from deploy.local.errors import ServerError
from deploy.local.process import Process, tail

_ATTEMPT_S = 3.0
_PAUSE_S = 0.1

# Refused connections are what waiting looks like; without a handler they would end up on the person's terminal.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


class UnhealthyError(Exception):
    """The server did not answer as it should; the message fits in one line."""


def kafka_answers(bootstrap: str, cluster: str | None = None) -> None:
    """Raises UnhealthyError unless a broker of that cluster (any, when None) answers a metadata request."""
    with ThreadPoolExecutor(1) as apart:  # The caller may already be inside an event loop of its own.
        found = apart.submit(lambda: asyncio.run(_cluster_id(bootstrap))).result()
    if cluster is not None and found != cluster:
        raise UnhealthyError(f"another Kafka cluster ({found}) answers on {bootstrap}")


async def _cluster_id(bootstrap: str) -> str:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(_ATTEMPT_S * 1000))
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
    """Raises UnhealthyError unless the store answers a ping."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        client: MongoClient[dict[str, object]] = MongoClient(uri, serverSelectionTimeoutMS=int(_ATTEMPT_S * 1000))
        with client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise UnhealthyError(f"no store answers on {uri.rpartition('@')[2]} ({type(error).__name__})") from error


def wait_until(answers: Callable[[], None], deadline: float, process: Process | None = None) -> None:
    """Asks again until the server answers.

    Raises ServerError after `deadline` seconds, or at once when its process has ended; with the end of its log.
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
                raise ServerError(f"Waited {deadline:.0f} s in vain: {error}.{log}") from error
        else:
            return
        sleep(_PAUSE_S)
