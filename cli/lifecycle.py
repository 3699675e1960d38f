"""`up`, `down`, `status`: everything on this machine, and how it fares."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import local_stack
from cli.connections import without_password
from cli.console import NOT_RUNNING, as_json, note, say, table, waiting
from cli.installation import ISSUER, MAIL, USUAL_DATA, Addresses, DataOption, JsonOption, addresses


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
    local_stack.undo_on_sigterm()
    note("Starting Kafka, the store and the services ...")
    chosen = local_stack.start(data, note, clock=clock)
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
        stopped = local_stack.stop(data, note)
    say(f"Stopped {len(stopped)} processes." if stopped else "Nothing ran.")


def status(
    exact: Annotated[
        bool, typer.Option("--exact", help="Also count people and pairs one by one, in each state; takes a while.")
    ] = False,
    data: DataOption = USUAL_DATA,
    json: JsonOption = False,
) -> None:
    """Show what runs, whether it is well, how far behind it is, and how far the pairs have come.

    [bold]not read yet[/] and [bold]not published yet[/] are events on their way; they should fall to 0 within seconds.
    [bold]overdue[/] is what should have been acted on half a minute ago or more: a deadline that passed, or work that
    was left unfinished. It is named below, by kind; the service's log says why. [bold]dead letters[/]: see
    `viceversa dead-letters list`.

    [bold]pairs[/] counts each pair in every step that it reached, in programmes that you may see. A number so small
    that it would tell of single people is not shown; `--exact` counts what an administrator may list anyway.

    Exit code 3 when something is not ready, so that a script can wait for it.

    [bold]Examples[/]

      viceversa status

      viceversa status --exact

      viceversa status --json | jq '.funnel["fresh-eyes"].steps'

      until viceversa status >/dev/null; do sleep 1; done
    """
    from cli import status as figures

    chosen = addresses(data)
    servers = figures.servers(data, chosen)
    services = local_stack.health(data, chosen)
    measured = {name: figures.measured(chosen.urls[name]) for name in chosen.urls if name != "issuer"}
    well = all(server.trouble is None for server in servers) and all(service.ready for service in services)
    funnels, messages = figures.told(data) if well else (None, None)
    counted = None
    if exact:
        with waiting("Counting"):
            counted = figures.exact(data)
    if json:
        found: dict[str, Any] = {
            "servers": [{**asdict(server), "address": without_password(server.address or "")} for server in servers],
            "services": [
                {**asdict(service), "figures": asdict(known) if (known := measured.get(service.name)) else None}
                for service in services
            ],
            "funnel": {one.programme_id: {"k": one.k, "steps": one.steps} for one in funnels or ()},
            "messages": messages,
            **({"exact": counted} if counted is not None else {}),
        }
        as_json(found)
    else:
        figures.show(servers, services, measured)
        figures.show_funnels(funnels or ())
        if messages is not None:
            figures.show_messages(messages)
        if counted is not None:
            figures.show_exact(counted)
    if not well:
        raise typer.Exit(NOT_RUNNING)


def _show_addresses(chosen: Addresses, data: Path) -> None:
    rows = [("kafka", chosen.kafka, ""), ("store", without_password(chosen.mongo), "")]
    rows += [(name, url, "" if name == ISSUER else f"{url}/docs") for name, url in chosen.urls.items()]
    rows.append((MAIL, str(local_stack.maildir(data)), ""))
    table("what", "where", "its API", rows=rows)
    say(f"\nLogs: {data / 'logs'}. Next: viceversa status, viceversa import FILE, viceversa token --as admin.")
