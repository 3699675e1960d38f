"""`dead-letters`: records that a service could not process, to be inspected and replayed by a person."""

from collections.abc import Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from chassis.core.connection import Connection
from cli.connections import kafka_connection, run_with_kafka
from cli.console import CommandGroup, Failure, print_json, print_line, print_table, print_text, progress_bar
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses
from contracts.catalogue import SERVICES

if TYPE_CHECKING:
    from chassis.messaging.dead_letters import DeadLetter
    from chassis.messaging.records import KafkaRecord

app = typer.Typer(name="dead-letters", cls=CommandGroup, no_args_is_help=True)

T = TypeVar("T")

_SHOWN_BYTES = 4000

ServiceArgument = Annotated[str, typer.Argument(help=f"The service: {', '.join(SERVICES)}.")]
PositionArgument = Annotated[
    str, typer.Argument(help="The position of the dead letter, such as 3-17, as `list` shows it.")
]


@app.callback()
def explain() -> None:
    """Inspect the records that a service could not process, and replay them.

    A record becomes a dead letter when automatic retries cannot help: it is unreadable, violates its schema, or hit a
    bug. Later records do not wait for it. Fix the cause, then replay. A replay goes only to that service, and is safe
    to repeat.
    """


@app.command("list")
def list_(
    service: Annotated[str | None, typer.Argument(help=f"One of {', '.join(SERVICES)}. Default: all.")] = None,
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
    by_service: dict[str, list[DeadLetter]] = {}
    for name in [_require_service(service)] if service else SERVICES:
        by_service[name] = _run(list_dead_letters(kafka_connection(data), prefix, name))
    rows = [(name, letter) for name, letters in by_service.items() for letter in letters]
    if json:
        print_json([{"service": name, **_as_fields(letter)} for name, letter in rows])
    elif not rows:
        print_line("No dead letters.")
    else:
        cells = [
            (name, letter.position, letter.at, letter.code, letter.type, _format_origin(letter))
            for name, letter in rows
        ]
        print_table("service", "position", "at", "code", "type", "from", rows=cells)
        print_line("\nShow one: viceversa dead-letters show SERVICE POSITION")


@app.command()
def show(
    service: ServiceArgument, position: PositionArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Show one dead letter: its origin, the reason of the failure, its headers and its value.

    A record of a restricted topic has no value here: the dead letter holds only a pointer to it.

    [bold]Example[/]

      viceversa dead-letters show matcher 3-17
    """
    from chassis.messaging.dead_letters import read_dead_letter

    letter, record = _run(
        read_dead_letter(kafka_connection(data), load_addresses(data).prefix, _require_service(service), position)
    )
    if json:
        print_json({**_as_fields(letter), "headers": _decode_headers(record), "value": _decode_value(record)})
        return
    print_table("field", "value", rows=[*_as_fields(letter).items(), *_decode_headers(record).items()])
    print_line("")
    print_text(_decode_value(record) or "(no value here)")


@app.command("replay")
def replay_(
    service: ServiceArgument,
    position: Annotated[str | None, typer.Argument(help="The position of the dead letter, or use --all.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Replay every dead letter of this service.")] = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Let the service process dead letters again. A dead letter itself stays until its retention ends.

    [bold]Examples[/]

      viceversa dead-letters replay matcher 3-17

      viceversa dead-letters replay matcher --all
    """
    from chassis.messaging.dead_letters import list_dead_letters

    if all_ == (position is not None):
        raise typer.BadParameter("give one position, such as 3-17, or --all")
    prefix, kafka, name = load_addresses(data).prefix, kafka_connection(data), _require_service(service)
    positions = [position] if position else [letter.position for letter in _run(list_dead_letters(kafka, prefix, name))]
    _run(_replay_all(kafka, prefix, name, positions))
    print_line(f"{len(positions)} sent to {name} again.")


async def _replay_all(kafka: Connection, prefix: str, service: str, positions: list[str]) -> None:
    from chassis.messaging.dead_letters import replay_dead_letter
    from chassis.messaging.kafka import Producer

    producer = Producer(kafka)
    await producer.start()
    try:
        with progress_bar() as progress:
            for position in progress.track(positions, description="Replaying"):
                await replay_dead_letter(producer, kafka, prefix, service, position)
    finally:
        await producer.stop()


def _require_service(service: str) -> str:
    if service not in SERVICES:
        raise typer.BadParameter(f"there is no service {service!r}; the services are {', '.join(SERVICES)}")
    return service


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run work that uses Kafka. A ``LookupError`` of the chassis becomes a ``Failure``."""
    try:
        return run_with_kafka(work)
    except LookupError as error:
        raise Failure(str(error), "List the dead letters: `viceversa dead-letters list`.") from error


def _as_fields(letter: "DeadLetter") -> dict[str, object]:
    """The fields for scripts, which know the position as ``place``."""
    fields = asdict(letter)
    return {"place": fields.pop("position"), **fields}


def _format_origin(letter: "DeadLetter") -> str:
    return f"{letter.topic} {letter.partition}-{letter.offset}"


def _decode_headers(record: "KafkaRecord") -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in record.headers}


def _decode_value(record: "KafkaRecord") -> str | None:
    return record.value[:_SHOWN_BYTES].decode("utf-8", "replace") if record.value is not None else None
