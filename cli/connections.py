"""How the commands reach Kafka, MongoDB and the services: environment variables, and the addresses saved by `up`."""

import asyncio
import os
import re
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from chassis.core.connection import Connection
from chassis.core.settings import Settings, SettingsError, load_section
from chassis.web.dev_tokens import DEFAULT_LIFETIME, issue_token
from cli.api import ServiceClient
from cli.console import NOT_RUNNING, Failure
from cli.installation import ISSUER, Addresses, load_addresses

if TYPE_CHECKING:
    from chassis.storage.mongo import Mongo

T = TypeVar("T")


def load_settings() -> Settings:
    """Raises ``Failure`` with a line for each setting that is wrong."""
    try:
        return load_section(Settings)
    except SettingsError as error:
        raise Failure(f"Some settings are wrong:\n{error}", "They are listed in .env.example.") from error


def kafka_connection(data: Path) -> Connection:
    return replace(load_settings().connection(), servers=load_addresses(data).kafka)


def open_database(data: Path, service: str) -> "Mongo":
    from chassis.storage.mongo import Mongo

    addresses = load_addresses(data)
    settings = load_settings().model_copy(update={"topic_prefix": addresses.prefix})
    return Mongo(addresses.mongo, settings.database_name(service))


def open_service(data: Path, name: str) -> ServiceClient:
    """A client of a service, with the token in `VICEVERSA_TOKEN`, or else as the local administrator."""
    addresses = load_addresses(data)
    return ServiceClient(
        name, addresses.urls[name], os.environ.get("VICEVERSA_TOKEN") or issue_admin_token(data, addresses)
    )


def issue_admin_token(data: Path, addresses: Addresses) -> str:
    return issue_local_token(data, addresses, None, ["admin"], subject="viceversa-cli")


def issue_local_token(
    data: Path,
    addresses: Addresses,
    member_id: str | None,
    roles: Iterable[str],
    programmes: Iterable[str] = (),
    lifetime: timedelta = DEFAULT_LIFETIME,
    *,
    subject: str | None = None,
) -> str:
    """A token of the local issuer. Raises ``Failure`` when the issuer's key is not in the data folder."""
    if not (data / "issuer" / "key.pem").exists():
        raise Failure(
            f"There is no issuer in {data}, so no token can be issued here.",
            "Start one with `viceversa up`, name its folder with --data, or set VICEVERSA_TOKEN to a token of your own "
            "identity provider.",
        )
    settings = load_settings()
    return issue_token(
        data, member_id, roles, programmes, lifetime,
        subject=subject, issuer=addresses.urls[ISSUER], audience=settings.audience,
    )  # fmt: skip


def provision_all_topics(addresses: Addresses) -> list[str]:
    """Create every missing topic and return the names of the created ones. Raises ``Failure``."""
    from chassis.messaging.provisioning import ProvisioningError, provision_topics
    from contracts.catalogue import SERVICE_TOPICS, TOPICS

    settings = load_settings()
    kafka = replace(settings.connection(), servers=addresses.kafka)
    provisioning = provision_topics(
        kafka,
        [*TOPICS, *SERVICE_TOPICS],
        addresses.prefix,
        replication=settings.replication,
        min_in_sync=settings.min_in_sync,
    )
    try:
        return run_with_kafka(provisioning)
    except ProvisioningError as error:
        raise Failure(str(error)) from error


def run_with_kafka(work: Coroutine[Any, Any, T]) -> T:
    """Run work that uses Kafka and return its result. Raises ``Failure`` when Kafka cannot be reached."""
    from aiokafka.errors import KafkaError

    try:
        return asyncio.run(work)
    except (OSError, KafkaError) as error:
        message = f"Kafka cannot be reached: {type(error).__name__}."
        raise Failure(message, "Check whether it runs: `viceversa status`.", code=NOT_RUNNING) from error


def redact_password(address: str) -> str:
    """The connection string without user and password, for display."""
    return re.sub(r"//[^/]*@", "//", address)
