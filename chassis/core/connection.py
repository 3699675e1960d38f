"""How to reach the Kafka brokers.

This file imports no Kafka client, so that a command that does not talk to the brokers starts fast.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Connection:
    """Address and credentials of the brokers. ``protocol`` is Kafka's: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""

    servers: str
    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def client_arguments(self) -> Mapping[str, Any]:
        """Keyword arguments for aiokafka's clients."""
        arguments: dict[str, Any] = {"bootstrap_servers": self.servers, "security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            arguments["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
        if self.protocol.startswith("SASL"):
            arguments["sasl_mechanism"] = self.mechanism
            arguments["sasl_plain_username"] = self.username
            arguments["sasl_plain_password"] = self.password
        return arguments
