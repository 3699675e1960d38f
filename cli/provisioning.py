"""`provision` and `restored`: tasks of an operator before the first start, and after a disaster."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cli import connections
from cli.connections import provision_all_topics
from cli.console import FAILED, Failure, print_json, print_line, spinner
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses
from contracts.catalogue import SERVICES


def register(app: typer.Typer) -> None:
    app.command()(provision)
    app.command()(restored)


def provision(data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Create every missing topic. Existing topics are checked and not changed.

    Each service also creates its own topics when it starts. This command creates all topics before any service runs.
    In production, set VICEVERSA_REPLICATION to 3 and VICEVERSA_MIN_IN_SYNC to 2.

    [bold]Example[/]

      VICEVERSA_KAFKA=kafka:9092 VICEVERSA_REPLICATION=3 VICEVERSA_MIN_IN_SYNC=2 viceversa provision
    """
    with spinner("Creating topics"):
        created = provision_all_topics(load_addresses(data))
    if json:
        print_json(created)
    else:
        print_line("\n".join(created) or "Every topic exists.")


def restored(
    services: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SERVICE]...", help="The services whose databases were restored. Default: all."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Prepare a database that was restored from a backup, before its service starts again.

    A restored database lacks some events that other services have already received. Its next events must count as newer
    than those, so this command begins a new epoch of sequence numbers. Stop the service, restore the database, run this
    command, then start the service.

    [bold]Example[/]

      viceversa restored matcher
    """
    names = services or list(SERVICES)
    unknown = [name for name in names if name not in SERVICES]
    if unknown:
        raise typer.BadParameter(f"there is no service {', '.join(unknown)}; the services are {', '.join(SERVICES)}")
    if not yes and not typer.confirm(f"Was the database of {', '.join(names)} restored, and is the service stopped?"):
        raise typer.Exit(FAILED)
    for name, epoch in asyncio.run(_begin_epochs(data, names)).items():
        print_line(f"{name}: epoch {epoch} begins at its next start.")


async def _begin_epochs(data: Path, names: Sequence[str]) -> dict[str, int]:
    from chassis.storage.mongo import Documents, PyMongoError

    begun = {}
    for name in names:
        database = connections.open_database(data, name)
        try:
            documents = Documents(database.collection("chassis"))
            epoch = int((await documents.get("epoch") or {"value": 0})["value"]) + 1
            await documents.put({"_id": "epoch", "value": epoch})
        except PyMongoError as error:
            raise Failure(f"The database of {name} cannot be reached: {type(error).__name__}.") from error
        finally:
            database.close()
        begun[name] = epoch
    return begun
