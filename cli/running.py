"""`up`, `down`, `status`: everything on this machine, and how it fares."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import estate
from cli.connections import without_password
from cli.console import NOT_RUNNING, as_json, note, say, table, waiting
from cli.place import MAIL, USUAL_DATA, Addresses, DataOption, JsonOption, addresses


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(
    data: DataOption = USUAL_DATA,
    clock: Annotated[
        Path | None,
        typer.Option(help="A file of business time that all processes share; for demonstrations and tests."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start Kafka, the store, a catcher of mail, an issuer of tokens and the four services, here and now.

    The first start fetches Kafka and the store (some 50 MB, once). What already runs is used as it is, so the
    command may be repeated. Everything goes on when the terminal is closed, until `viceversa down`.

    With VICEVERSA_KAFKA or VICEVERSA_MONGO set, those servers are used and none is started in their place.

    [bold]Examples[/]

      viceversa up

      viceversa up --data /tmp/trial      # a second installation beside the first

      VICEVERSA_KAFKA=kafka:9092 viceversa up
    """
    estate.undo_on_sigterm()
    note("Starting Kafka, the store and the services ...")
    chosen = estate.start(data, note, clock=clock)
    if json:
        as_json({**chosen.model_dump(mode="json"), "mongo": without_password(chosen.mongo)})
        return
    say("[bold green]Everything runs.[/]")
    _show_addresses(chosen, data)


def down(data: DataOption = USUAL_DATA) -> None:
    """Stop everything that `up` started, gracefully. All data stays; `up` goes on where it was.

    [bold]Example[/]

      viceversa down
    """
    with waiting("Stopping"):
        stopped = estate.stop(data, note)
    say(f"Stopped {len(stopped)} processes." if stopped else "Nothing ran.")


def status(
    funnel: Annotated[
        bool, typer.Option("--funnel", help="Also count how many people and pairs have come how far; asks for each.")
    ] = False,
    data: DataOption = USUAL_DATA,
    json: JsonOption = False,
) -> None:
    """Show what runs, whether it is well, and how far behind it is.

    Exit code 3 when something is not ready, so that a script can wait for it.

    [bold]Examples[/]

      viceversa status

      viceversa status --funnel

      until viceversa status >/dev/null; do sleep 1; done
    """
    from cli import figures

    chosen = addresses(data)
    servers = figures.servers(data, chosen)
    services = estate.health(data, chosen)
    measured = {name: figures.measured(chosen.urls[name]) for name in chosen.urls if name != "issuer"}
    reached = figures.funnel(data) if funnel else None
    if json:
        found: dict[str, Any] = {
            **({"funnel": reached} if reached is not None else {}),
            "servers": [{**asdict(server), "address": without_password(server.address or "")} for server in servers],
            "services": [{**asdict(service), "figures": measured.get(service.name)} for service in services],
        }
        as_json(found)
    else:
        figures.show(servers, services, measured)
        if reached is not None:
            figures.show_funnel(reached)
    if not all(server.trouble is None for server in servers) or not all(service.ready for service in services):
        raise typer.Exit(NOT_RUNNING)


def _show_addresses(chosen: Addresses, data: Path) -> None:
    rows = [("kafka", chosen.kafka, ""), ("store", without_password(chosen.mongo), "")]
    rows += [(name, url, f"{url}/docs" if name in ("profiles", "matcher") else "") for name, url in chosen.urls.items()]
    rows.append((MAIL, str(estate.maildir(data)), ""))
    table("what", "where", "its API", rows=rows)
    say(f"\nLogs: {data / 'logs'}. Next: viceversa status, viceversa import FILE, viceversa token --as admin.")
