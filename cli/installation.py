"""Where everything is: the data folder, and under it `addresses.json`, by which the commands find what `up` started.

Without that file the usual addresses of this machine count, as `docker compose up` gives them. A variable of the
environment, such as `VICEVERSA_MATCHER_URL`, counts more than both: so the same commands work on any installation.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from cli.console import Failure
from contracts.catalogue import SERVICES

ISSUER, MAIL = "issuer", "mail"
DEFAULT_PORTS: Mapping[str, int] = {ISSUER: 8100} | {name: port for port, name in enumerate(SERVICES, 8101)}
DEFAULT_KAFKA, DEFAULT_MONGO = "127.0.0.1:9092", "mongodb://127.0.0.1:27017"
DEFAULT_PREFIX = "mentoring."
DEFAULT_MAIL_PORT = 1025

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", envvar="VICEVERSA_DATA", help="The folder with everything of this installation.", show_default=True
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON, for a script.")]
DEFAULT_DATA = Path(".viceversa")


class Addresses(BaseModel):
    """Of one installation; ``urls`` by the name of the process, without a slash at the end."""

    model_config = ConfigDict(frozen=True)

    kafka: str = DEFAULT_KAFKA
    mongo: str = DEFAULT_MONGO
    prefix: str = DEFAULT_PREFIX
    urls: Mapping[str, str] = {name: f"http://127.0.0.1:{port}" for name, port in DEFAULT_PORTS.items()}
    mail_port: int = DEFAULT_MAIL_PORT
    clock: Path | None = None
    """The file of business time; None where business time is machine time."""


def load_addresses(data: Path) -> Addresses:
    """Raises ``Failure`` when the file cannot be read."""
    return _apply_environment(read_addresses(data) or Addresses())


def read_addresses(data: Path) -> Addresses | None:
    """What the last `up` wrote, or None."""
    file = data / "addresses.json"
    try:
        return Addresses.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise Failure(f"{file} cannot be read.", f"Remove it and run `viceversa up` again. ({error})") from error


def write_addresses(data: Path, chosen: Addresses) -> None:
    data.mkdir(parents=True, exist_ok=True)
    fresh = data / "addresses.json.new"
    fresh.touch(mode=0o600)  # a connection string may hold a password
    fresh.write_text(chosen.model_dump_json(indent=2) + "\n", encoding="utf-8")
    fresh.replace(data / "addresses.json")


def _variable_name(name: str) -> str:
    """The issuer's address is a setting of the services as well, and must be exactly what its tokens say."""
    return "VICEVERSA_ISSUER" if name == ISSUER else f"VICEVERSA_{name.upper()}_URL"


def _apply_environment(found: Addresses) -> Addresses:
    urls = {name: os.environ.get(_variable_name(name), url) for name, url in found.urls.items()}
    urls |= {name: url.rstrip("/") for name, url in urls.items() if name != ISSUER}
    return found.model_copy(
        update={
            "kafka": os.environ.get("VICEVERSA_KAFKA", found.kafka),
            "mongo": os.environ.get("VICEVERSA_MONGO", found.mongo),
            "prefix": os.environ.get("VICEVERSA_TOPIC_PREFIX", found.prefix),
            "urls": urls,
        }
    )
