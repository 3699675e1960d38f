"""How to reach the Kafka brokers.

This file imports no Kafka client, so that a command that does not talk to the brokers starts fast.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


def split_servers(text: str) -> list[str]:
    """The addresses in a list of bootstrap servers such as ``kafka-1:9092, [::1]:9092``; blanks do not count.

    This is the only place that splits the list: some clients take a text for a single address. Raises ``ValueError``
    for a list without an address, and for an address that is not ``host`` or ``host:port``.
    """
    servers = [server for part in text.split(",") if (server := part.strip())]
    if not servers:
        raise ValueError("must name at least one server, host:port")
    for server in servers:
        if not _is_host_and_port(server):
            raise ValueError("must be host:port, several of them with commas between; [host]:port for IPv6")
    return servers


def _is_host_and_port(server: str) -> bool:
    if any(character.isspace() or character in "/@?#" for character in server):
        return False
    try:
        parts = urlsplit(f"//{server}")
        return bool(parts.hostname) and parts.port != 0  # ``port`` raises ValueError when it is no port
    except ValueError:
        return False


@dataclass(frozen=True)
class Connection:
    """Address and credentials of the brokers. ``protocol`` is Kafka's: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.

    ``servers`` is a list in one text, as in the setting: ``host:port,host:port``.
    """

    servers: str
    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    @property
    def bootstrap_servers(self) -> list[str]:
        return split_servers(self.servers)

    def client_arguments(self) -> Mapping[str, Any]:
        """Keyword arguments for aiokafka's clients."""
        arguments: dict[str, Any] = {"bootstrap_servers": self.bootstrap_servers, "security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            arguments["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
        if self.protocol.startswith("SASL"):
            arguments["sasl_mechanism"] = self.mechanism
            arguments["sasl_plain_username"] = self.username
            arguments["sasl_plain_password"] = self.password
        return arguments
