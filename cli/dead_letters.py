"""`dead-letters`: what a service could not process, for a person to look at and to try again."""

from collections.abc import Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from chassis.core.connection import Connection
from cli.connections import kafka_connection, run_with_kafka
from cli.console import CommandGroup, Failure, print_json, print_line, print_table, progress_bar
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses
from contracts.catalogue import SERVICES

if TYPE_CHECKING:
    from chassis.messaging.dead_letters import DeadLetter
    from chassis.messaging.records import KafkaRecord

app = typer.Typer(name="dead-letters", cls=CommandGroup, no_args_is_help=True)

T = TypeVar("T")

_SHOWN_BYTES = 4000

ServiceArgument = Annotated[str, typer.Argument(help=f"Whose: {', '.join(SERVICES)}.")]
PositionArgument = Annotated[str, typer.Argument(help="Which one: its place, such as 3-17, as `list` shows it.")]


@app.callback()
def explain() -> None:
    """Look at what a service could not process, and let it try again.

    A record lands here when trying again by itself would never help: it is unreadable, breaks its schema, or met a bug.
    Nothing behind it waits. Mend the cause, then replay; a replay goes to that one service only, and is safe to repeat.
    """


@app.command("list")
def list_(
    service: Annotated[str | None, typer.Argument(help=f"One of {', '.join(SERVICES)}; all without it.")] = None,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """List the dead letters of one service or of all, oldest first.

    [bold]Examples[/]

      viceversa dead-letters list

      viceversa dead-letters list matcher --json
    """
    from chassis.messaging.dead_letters import list_dead_letters

    prefix = load_addresses(data).prefix
    found: dict[str, list[DeadLetter]] = {}
    for name in [_require_service(service)] if service else SERVICES:
        found[name] = _run(list_dead_letters(kafka_connection(data), prefix, name))
    rows = [(name, one) for name, all_of_it in found.items() for one in all_of_it]
    if json:
        print_json([{"service": name, **_as_fields(one)} for name, one in rows])
    elif not rows:
        print_line("No dead letters.")
    else:
        cells = [(name, one.position, one.at, one.code, one.type, _format_origin(one)) for name, one in rows]
        print_table("service", "place", "at", "code", "type", "from", rows=cells)
        print_line("\nOne of them in full: viceversa dead-letters show SERVICE PLACE")


@app.command()
def show(
    service: ServiceArgument, place: PositionArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Show one dead letter: where it came from, why it failed, its headers and its value.

    A record of a restricted topic shows no value: only a pointer to it is kept here.

    [bold]Example[/]

      viceversa dead-letters show matcher 3-17
    """
    from chassis.messaging.dead_letters import read_dead_letter

    found, record = _run(
        read_dead_letter(kafka_connection(data), load_addresses(data).prefix, _require_service(service), place)
    )
    if json:
        print_json({**_as_fields(found), "headers": _decode_headers(record), "value": _decode_value(record)})
        return
    print_table("field", "value", rows=[*_as_fields(found).items(), *_decode_headers(record).items()])
    print_line("")
    typer.echo(_decode_value(record) or "(no value here)")


@app.command("replay")
def replay_(
    service: ServiceArgument,
    place: Annotated[str | None, typer.Argument(help="Which one; or --all.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every dead letter of this service.")] = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Let the service try again. The letter itself stays until its time is over.

    [bold]Examples[/]

      viceversa dead-letters replay matcher 3-17

      viceversa dead-letters replay matcher --all
    """
    from chassis.messaging.dead_letters import list_dead_letters

    if all_ == (place is not None):
        raise typer.BadParameter("name one place, such as 3-17, or say --all")
    prefix, reach, name = load_addresses(data).prefix, kafka_connection(data), _require_service(service)
    places = [place] if place else [one.position for one in _run(list_dead_letters(reach, prefix, name))]
    _run(_replay_all(reach, prefix, name, places))
    print_line(f"{len(places)} handed to {name} again.")


async def _replay_all(reach: Connection, prefix: str, service: str, places: list[str]) -> None:
    from chassis.messaging.dead_letters import replay_dead_letter
    from chassis.messaging.kafka import Producer

    producer = Producer(reach)
    await producer.start()
    try:
        with progress_bar() as progress:
            for place in progress.track(places, description="Replaying"):
                await replay_dead_letter(producer, reach, prefix, service, place)
    finally:
        await producer.stop()


def _require_service(service: str) -> str:
    if service not in SERVICES:
        raise typer.BadParameter(f"{service!r} is no service; the services are {', '.join(SERVICES)}")
    return service


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result; what the chassis reports as missing becomes a message."""
    try:
        return run_with_kafka(work)
    except LookupError as error:
        raise Failure(str(error), "`viceversa dead-letters list` shows what there is.") from error


def _as_fields(letter: "DeadLetter") -> dict[str, object]:
    """The fields for scripts, which know the position as ``place``."""
    fields = asdict(letter)
    return {"place": fields.pop("position"), **fields}


def _format_origin(one: "DeadLetter") -> str:
    return f"{one.topic} {one.partition}-{one.offset}"


def _decode_headers(record: "KafkaRecord") -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in record.headers}


def _decode_value(record: "KafkaRecord") -> str | None:
    return record.value[:_SHOWN_BYTES].decode("utf-8", "replace") if record.value is not None else None
