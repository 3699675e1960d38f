"""`provision`, `restored` and `unfreeze`: tasks of an operator before the first start, and after a disaster."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cli import connections
from cli.connections import kafka_connection, provision_all_topics, run_with_kafka
from cli.console import FAILED, Failure, print_json, print_line, spinner
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses
from contracts.access_rules import SUBSCRIPTIONS
from contracts.catalogue import SERVICES
from contracts.envelope import Topic


def register(app: typer.Typer) -> None:
    app.command()(provision)
    app.command()(restored)
    app.command()(unfreeze)


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


def unfreeze(
    service: Annotated[str, typer.Argument(help=f"The service whose copy stands still: {', '.join(SERVICES)}.")],
    topic: Annotated[str, typer.Argument(help="The topic that the copy is made from, such as profiles.v1.")],
    key: Annotated[str, typer.Argument(help="The key: the id of the person, pairing or programme.")],
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Let a service take the newest record of one key again.

    A copy takes only records with a higher sequence than its own. A record with a wrong one, written by its owner or in
    its name, freezes the copy. First take away the right to write from whoever did it. The owner then publishes the
    right state again by itself, and this command makes the service take it. It is safe to repeat. The log of the
    service says whether the copy was frozen.

    [bold]Example[/]

      viceversa unfreeze matcher profiles.v1 0192f0c1-6d5e-7c3a-9b1f-2f3e4d5c6b7a
    """
    read = {each.name: each for each in SUBSCRIPTIONS.get(service, ())}
    if not read:
        raise typer.BadParameter(f"there is no service {service!r}; the services are {', '.join(SERVICES)}")
    if topic not in read:
        raise typer.BadParameter(f"{service} does not read {topic!r}; it reads {', '.join(sorted(read))}")
    run_with_kafka(_request_unfreezing(data, service, read[topic], key))
    if json:
        print_json({"service": service, "topic": topic, "key": key})
    else:
        print_line(f"{service} takes the newest record of {key} on {topic} again.")


async def _request_unfreezing(data: Path, service: str, topic: Topic, key: str) -> None:
    from chassis.messaging.kafka import Producer
    from chassis.messaging.unfreezing import request_unfreezing

    producer = Producer(kafka_connection(data))
    await producer.start()
    try:
        await request_unfreezing(producer, load_addresses(data).prefix, service, topic, key)
    finally:
        await producer.stop()


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
