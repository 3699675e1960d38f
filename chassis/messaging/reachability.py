"""Tells why no broker can be used: nothing listens, its certificate is not trusted, or the login is refused.

Kafka's client reports each of these as "unable to bootstrap".
"""

import asyncio
import os
import socket
import ssl
from contextlib import suppress

from aiokafka.errors import KafkaConnectionError

from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer

CONNECT_TIMEOUT_S = 5.0
DEFAULT_PORT = 9092


class BrokersUnreachable(Exception):
    """No broker can be used. The message names each address with its reason, and the setting to look at."""


async def start_producer(producer: Producer, connection: Connection) -> None:
    """Start the producer. Raises ``BrokersUnreachable`` when no broker accepts it."""
    try:
        await producer.start()
    except KafkaConnectionError:
        raise BrokersUnreachable(await explain_failure(connection)) from None


async def explain_failure(connection: Connection) -> str:
    """Why the client cannot use any of the brokers: one reason for each address."""
    reasons = await asyncio.gather(*(_explain_address(server, connection) for server in connection.bootstrap_servers))
    return "; ".join(
        f"{server}: {reason}" for server, reason in zip(connection.bootstrap_servers, reasons, strict=True)
    )


async def _explain_address(server: str, connection: Connection) -> str:
    host, _, port = server.rpartition(":") if server.rpartition(":")[2].isdecimal() else (server, "", "")
    context = connection.client_arguments().get("ssl_context")
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port or DEFAULT_PORT), ssl=context)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted ({error.verify_message}); VICEVERSA_KAFKA_CA_FILE names the authority"
    except ssl.SSLError:
        return "it does not answer in TLS; look at VICEVERSA_KAFKA_PROTOCOL"
    except TimeoutError:
        return f"no answer within {CONNECT_TIMEOUT_S:.0f} s"
    except OSError as error:
        if isinstance(error, socket.gaierror):
            return "there is no such host"
        return os.strerror(error.errno).lower() if error.errno else "nothing listens there"
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
    if connection.protocol.startswith("SASL"):
        return "it answers but refuses the login; look at VICEVERSA_KAFKA_USERNAME, _PASSWORD and _MECHANISM"
    return "it answers, but not in Kafka's protocol as VICEVERSA_KAFKA_PROTOCOL says"
