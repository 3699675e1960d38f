"""A broker with Kafka's own authorizer: every client signs in with SASL, and may do nothing without a rule.

A client on the plain listener is the administrator; the test uses it to add the rules.
"""

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from chassis.core.connection import Connection
from contracts.access_rules import USERS, AccessRule
from deploy.local import health, jars, kafka_server, ports
from deploy.local.java import java_env
from deploy.local.process import changed_environment
from tests.patience import patience

PASSWORD = "only-in-this-test"


@dataclass(frozen=True)
class SecuredKafka:
    admin: str
    servers: str

    def connection(self, user: str) -> Connection:
        return Connection(self.servers, "SASL_PLAINTEXT", "PLAIN", user, PASSWORD)

    def allow(self, rules: Iterable[AccessRule]) -> None:
        """Add these rules; returns when the broker has them."""
        client = AdminClient({"bootstrap.servers": self.admin})
        for done in client.create_acls([_binding(rule) for rule in rules]).values():
            done.result(patience(30))


def _binding(rule: AccessRule) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC if rule.resource == "topic" else ResourceType.GROUP,
        rule.name,
        ResourcePatternType.PREFIXED if rule.is_prefix else ResourcePatternType.LITERAL,
        f"User:{rule.user}",
        "*",
        AclOperation[rule.operation],
        AclPermissionType.ALLOW,
    )


@contextmanager
def run_secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    plain, controller, secured = (ports.any_free() for _ in range(3))
    users = " ".join(f'user_{user}="{PASSWORD}"' for user in USERS)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},CLIENTS://127.0.0.1:{secured}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},CLIENTS://127.0.0.1:{secured}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CLIENTS:SASL_PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.name.clients.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.clients.plain.sasl.jaas.config": f"{login} {users};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": "User:ANONYMOUS",
    }
    log = folder / "kafka.log"
    command = kafka_server.prepare(folder / "kafka", jars.class_path("kafka"), plain, controller, settings, log)
    with (
        log.open("ab") as output,
        subprocess.Popen(command, env=changed_environment(java_env()), stdout=output, stderr=output) as running,
    ):
        try:
            health.wait_until(lambda: health.kafka_answers(Connection(f"127.0.0.1:{plain}")), patience(60))
            yield SecuredKafka(f"127.0.0.1:{plain}", f"127.0.0.1:{secured}")
        finally:
            running.terminate()
