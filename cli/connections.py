"""How the commands reach Kafka, MongoDB and the services: settings of the environment, and what `up` wrote down."""

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

    chosen = load_addresses(data)
    named = load_settings().model_copy(update={"topic_prefix": chosen.prefix})
    return Mongo(chosen.mongo, named.database_name(service))


def open_service(data: Path, name: str) -> ServiceClient:
    """A service, asked as `VICEVERSA_TOKEN` says, or else as the local administrator."""
    chosen = load_addresses(data)
    return ServiceClient(name, chosen.urls[name], os.environ.get("VICEVERSA_TOKEN") or issue_admin_token(data, chosen))


def issue_admin_token(data: Path, chosen: Addresses) -> str:
    return issue_local_token(data, chosen, None, ["admin"], subject="viceversa-cli")


def issue_local_token(
    data: Path,
    chosen: Addresses,
    member_id: str | None,
    roles: Iterable[str],
    programmes: Iterable[str] = (),
    lifetime: timedelta = DEFAULT_LIFETIME,
    *,
    subject: str | None = None,
) -> str:
    """A token of the local issuer. Raises ``Failure`` where its key is not here."""
    if not (data / "issuer" / "key.pem").exists():
        raise Failure(
            f"There is no issuer under {data}, so no token can be made here.",
            "Start one with `viceversa up`, name its folder with --data, or set VICEVERSA_TOKEN to a token of your own "
            "identity provider.",
        )
    found = load_settings()
    return issue_token(
        data, member_id, roles, programmes, lifetime,
        subject=subject, issuer=chosen.urls[ISSUER], audience=found.audience,
    )  # fmt: skip


def provision_all_topics(chosen: Addresses) -> list[str]:
    """Creates every topic that is missing, and returns their names. Raises ``Failure``."""
    from chassis.messaging.provisioning import ProvisioningError, provision_topics
    from contracts.catalogue import SERVICE_TOPICS, TOPICS

    found = load_settings()
    reach = replace(found.connection(), servers=chosen.kafka)
    making = provision_topics(
        reach, [*TOPICS, *SERVICE_TOPICS], chosen.prefix, replication=found.replication, min_in_sync=found.min_in_sync
    )
    try:
        return run_with_kafka(making)
    except ProvisioningError as error:
        raise Failure(str(error)) from error


def run_with_kafka(work: Coroutine[Any, Any, T]) -> T:
    """What was read there or done. Raises ``Failure`` when Kafka is out of reach."""
    from aiokafka.errors import KafkaError

    try:
        return asyncio.run(work)
    except (OSError, KafkaError) as error:
        said = f"Kafka cannot be reached: {type(error).__name__}."
        raise Failure(said, "Is it up? `viceversa status` tells.", code=NOT_RUNNING) from error


def redact_password(address: str) -> str:
    """As it may be shown: a connection string without user and password."""
    return re.sub(r"//[^/]*@", "//", address)
