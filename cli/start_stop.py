"""`up`, `down`, `status`: start, stop and check everything on this machine."""

from pathlib import Path
from typing import Annotated

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
        typer.Option(help="A file with the business time of all processes, for demonstrations and tests."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start Kafka, the store, a mail catcher, a token issuer and the four services on this machine.

    The first start downloads Kafka and the store (some 50 MB, once). Processes that already run are used as they are,
    so the command may be repeated. Everything runs until `viceversa down`, also when the terminal is closed.

    When VICEVERSA_KAFKA or VICEVERSA_MONGO is set, that server is used instead of a local one.

    [bold]Examples[/]

      viceversa up

      viceversa up --data /tmp/trial      # a second installation beside the first

      VICEVERSA_KAFKA=kafka:9092 viceversa up
    """
    local_stack.exit_on_sigterm()
    print_note("Starting Kafka, the store and the services ...")
    addresses = local_stack.start(data, print_note, clock=clock)
    if json:
        print_json({**addresses.model_dump(mode="json"), "mongo": redact_password(addresses.mongo)})
        return
    print_line("[bold green]Everything is running.[/]")
    _show_addresses(addresses, data)


def down(data: DataOption = DEFAULT_DATA) -> None:
    """Stop everything that `up` started, gracefully. All data stays, and `up` continues with it.

    [bold]Example[/]

      viceversa down
    """
    with spinner("Stopping"):
        stopped = local_stack.stop(data, print_note)
    print_line(f"Stopped {len(stopped)} processes." if stopped else "Nothing was running.")


def status(
    exact: Annotated[
        bool, typer.Option("--exact", help="Also count all people and pairs in each state. This is slow.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show the state and the lag of all processes, and the progress of the pairs.

    [bold]not read yet[/] and [bold]not published yet[/] count events in transit. They should fall to 0 within seconds.
    [bold]overdue[/] counts deadlines and unfinished work that should have been handled at least half a minute ago. They
    are listed below the table by kind; the log of the service shows the reason. [bold]dead letters[/]: see
    `viceversa dead-letters list`.

    [bold]pairs[/] counts each pair in every step that it has reached, in the programmes that you may see. A number that
    is so small that it could reveal single people is not shown. `--exact` counts everything that an administrator may
    list.

    Exit code 3 when a process is not ready, so that a script can wait for it.

    [bold]Examples[/]

      viceversa status

      viceversa status --exact

      viceversa status --json | jq '.funnel["fresh-eyes"].steps'

      until viceversa status >/dev/null; do sleep 1; done
    """
    from cli.status import load_report, print_report  # its parser of metrics is slow to import

    report = load_report(data, load_addresses(data), exact=exact)
    if json:
        print_json(report.to_json())
    else:
        print_report(report)
    if not report.is_ready:
        raise typer.Exit(NOT_RUNNING)


def _show_addresses(addresses: Addresses, data: Path) -> None:
    rows = [("kafka", addresses.kafka, ""), ("store", redact_password(addresses.mongo), "")]
    rows += [(name, url, "" if name == ISSUER else f"{url}/docs") for name, url in addresses.urls.items()]
    rows.append((MAIL, str(local_stack.maildir(data)), ""))
    print_table("process", "address", "API", rows=rows)
    print_line(f"\nLogs: {data / 'logs'}. Next: viceversa status, viceversa import FILE, viceversa token --as admin.")
