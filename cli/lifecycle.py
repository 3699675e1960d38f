"""`up`, `down`, `status`: everything on this machine, and how it fares."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import local_stack
from cli.connections import redact_password
from cli.console import NOT_RUNNING, print_json, print_line, print_note, print_table, spinner
from cli.installation import DEFAULT_DATA, ISSUER, MAIL, Addresses, DataOption, JsonOption, load_addresses


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(
    data: DataOption = DEFAULT_DATA,
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
    local_stack.exit_on_sigterm()
    print_note("Starting Kafka, the store and the services ...")
    chosen = local_stack.start(data, print_note, clock=clock)
    if json:
        print_json({**chosen.model_dump(mode="json"), "mongo": redact_password(chosen.mongo)})
        return
    print_line("[bold green]Everything runs.[/]")
    _show_addresses(chosen, data)


def down(data: DataOption = DEFAULT_DATA) -> None:
    """Stop everything that `up` started, gracefully. All data stays; `up` goes on where it was.

    [bold]Example[/]

      viceversa down
    """
    with spinner("Stopping"):
        stopped = local_stack.stop(data, print_note)
    print_line(f"Stopped {len(stopped)} processes." if stopped else "Nothing ran.")


def status(
    exact: Annotated[
        bool, typer.Option("--exact", help="Also count people and pairs one by one, in each state; takes a while.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
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

    chosen = load_addresses(data)
    servers = figures.check_servers(data, chosen)
    services = local_stack.check_health(data, chosen)
    measured = {name: figures.read_figures(chosen.urls[name]) for name in chosen.urls if name != "issuer"}
    well = all(server.trouble is None for server in servers) and all(service.ready for service in services)
    funnels, messages = figures.load_progress(data) if well else (None, None)
    counted = None
    if exact:
        with spinner("Counting"):
            counted = figures.count_exactly(data)
    if json:
        found: dict[str, Any] = {
            "servers": [{**asdict(server), "address": redact_password(server.address or "")} for server in servers],
            "services": [
                {**asdict(service), "figures": asdict(known) if (known := measured.get(service.name)) else None}
                for service in services
            ],
            "funnel": {one.programme_id: {"k": one.k, "steps": one.steps} for one in funnels or ()},
            "messages": messages,
            **({"exact": counted} if counted is not None else {}),
        }
        print_json(found)
    else:
        figures.print_processes(servers, services, measured)
        figures.print_funnels(funnels or ())
        if messages is not None:
            figures.print_message_counts(messages)
        if counted is not None:
            figures.print_exact_counts(counted)
    if not well:
        raise typer.Exit(NOT_RUNNING)


def _show_addresses(chosen: Addresses, data: Path) -> None:
    rows = [("kafka", chosen.kafka, ""), ("store", redact_password(chosen.mongo), "")]
    rows += [(name, url, "" if name == ISSUER else f"{url}/docs") for name, url in chosen.urls.items()]
    rows.append((MAIL, str(local_stack.maildir(data)), ""))
    print_table("what", "where", "its API", rows=rows)
    print_line(f"\nLogs: {data / 'logs'}. Next: viceversa status, viceversa import FILE, viceversa token --as admin.")
