"""The addresses of an installation. `up` saves them in `addresses.json` in the data folder, and the commands read them.

Without that file, the default addresses on this machine are used, which are those of `docker compose up`. Environment
variables such as `VICEVERSA_MATCHER_URL` override both, so the same commands work with any installation.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from chassis.core.connection import split_servers
from chassis.core.settings import MANAGEMENT_PORT_DISTANCE
from cli.console import Failure
from contracts.catalogue import SERVICES
from deploy.local import private_files

ISSUER, MAIL = "issuer", "mail"
DEFAULT_PORTS: Mapping[str, int] = {ISSUER: 8100} | {name: port for port, name in enumerate(SERVICES, 8101)}
DEFAULT_MANAGEMENT_PORTS: Mapping[str, int] = {
    name: DEFAULT_PORTS[name] + MANAGEMENT_PORT_DISTANCE for name in SERVICES
}
DEFAULT_KAFKA, DEFAULT_MONGO = "127.0.0.1:9092", "mongodb://127.0.0.1:27017"
DEFAULT_PREFIX = "mentoring."
DEFAULT_MAIL_PORT = 1025

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", envvar="VICEVERSA_DATA", help="The folder with all data of this installation.", show_default=True
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for a script.")]
DEFAULT_DATA = Path(".viceversa")


class Addresses(BaseModel):
    """The addresses of one installation. ``urls``: process name -> URL without a slash at the end.

    ``management_urls``: service -> URL of its metrics and health.
    """

    model_config = ConfigDict(frozen=True)

    kafka: str = DEFAULT_KAFKA
    mongo: str = DEFAULT_MONGO
    prefix: str = DEFAULT_PREFIX
    urls: Mapping[str, str] = {name: f"http://127.0.0.1:{port}" for name, port in DEFAULT_PORTS.items()}
    management_urls: Mapping[str, str] = {
        name: f"http://127.0.0.1:{port}" for name, port in DEFAULT_MANAGEMENT_PORTS.items()
    }
    mail_port: int = DEFAULT_MAIL_PORT
    clock: Path | None = None
    """The file of business time; None when business time is machine time."""

    def health_url(self, name: str) -> str:
        """Where the health of a process is. The issuer has no management port: it is for one machine alone."""
        return self.management_urls.get(name, self.urls[name])


def load_addresses(data: Path) -> Addresses:
    """The saved or default addresses, overridden by environment variables. Raises ``Failure`` for a bad file."""
    return _apply_environment(read_addresses(data) or Addresses())


def read_addresses(data: Path) -> Addresses | None:
    """The addresses saved by the last `up`, or None."""
    file = data / "addresses.json"
    try:
        return Addresses.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise Failure(f"{file} cannot be read.", f"Remove it and run `viceversa up` again. ({error})") from error


def write_addresses(data: Path, addresses: Addresses) -> None:
    private_files.make_folder(data)
    private_files.write_text(data / "addresses.json", addresses.model_dump_json(indent=2) + "\n")


def _variable_name(name: str) -> str:
    """The environment variable for a process. The issuer's is also a setting of the services, and is in its tokens."""
    return "VICEVERSA_ISSUER" if name == ISSUER else f"VICEVERSA_{name.upper()}_URL"


def _read_servers(variable: str) -> str | None:
    """The bootstrap servers of an environment variable, without blanks; None when it is not set."""
    value = os.environ.get(variable)
    if not value:
        return None
    try:
        return ",".join(split_servers(value))
    except ValueError as error:
        raise Failure(f"{variable} {error}.", "An example: kafka-1:9092,kafka-2:9092") from error


def _apply_environment(addresses: Addresses) -> Addresses:
    urls = {name: os.environ.get(_variable_name(name), url) for name, url in addresses.urls.items()}
    urls |= {name: url.rstrip("/") for name, url in urls.items() if name != ISSUER}
    management_urls = {
        name: os.environ.get(f"VICEVERSA_{name.upper()}_MANAGEMENT_URL", url).rstrip("/")
        for name, url in addresses.management_urls.items()
    }
    return addresses.model_copy(
        update={
            "kafka": _read_servers("VICEVERSA_KAFKA") or addresses.kafka,
            "mongo": os.environ.get("VICEVERSA_MONGO", addresses.mongo),
            "prefix": os.environ.get("VICEVERSA_TOPIC_PREFIX", addresses.prefix),
            "urls": urls,
            "management_urls": management_urls,
        }
    )
