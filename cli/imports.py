"""`imports`: what is imported, what waits and behind what, and how it goes on."""

from typing import Annotated, Any

import typer

from cli import connections
from cli.console import CommandGroup, print_json, print_line, print_note, print_table
from cli.installation import DEFAULT_DATA, DataOption, JsonOption
from cli.people import await_import, print_import, print_issues

app = typer.Typer(
    name="imports",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="""The imports of HR's files and of invitations: list, show, release, cancel.

    [bold]Examples[/]

      viceversa imports list --unfinished

      viceversa imports release 0192...
    """,
)

ImportArgument = Annotated[str, typer.Argument(metavar="IMPORT", help="The id of the import, as `list` shows it.")]


@app.command("list")
def list_imports(
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only those that have not ended.")] = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """List the imports, the latest first. Others than admins see their own uploads."""
    with connections.open_service(data, "profiles") as profiles:
        query = {"unfinished": "true"} if unfinished else {}
        items = sorted(
            profiles.list_items("/imports", **query), key=lambda item: str(item["received_at"]), reverse=True
        )
    if json:
        print_json(items)
        return
    rows = [
        (item["import_id"], item["received_at"], item["kind"], describe_state(item), item["rows"], item["failed"])
        for item in items
    ]
    print_table("import", "received", "kind", "state", ">rows", ">refused", rows=rows)


def describe_state(item: Any) -> str:
    """The state of an import, and what it waits for."""
    if item["state"] == "received" and item["waits_behind"]:
        first = f", first {item['waits_for']}" if item["waits_for"] else ""
        return f"waits behind {item['waits_behind']}{first}"
    if item["state"] == "waiting_for_release":
        return "waits for another admin to release it"
    return f"failed: {item['failure']}" if item["failure"] else str(item["state"])


@app.command()
def show(import_: ImportArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Show an import and its report: the lines that were refused or remarked."""
    with connections.open_service(data, "profiles") as profiles:
        item = profiles.get(f"/imports/{import_}")
        errors = list(profiles.list_items(f"/imports/{import_}/errors"))
    if json:
        print_json({**item, "errors": errors})
        return
    print_line(f"{item['kind']} from {item['source']}, received {item['received_at']}: {describe_state(item)}")
    if item["created"] is not None:
        print_import(item, errors)
    else:
        print_line(f"{item['rows']} rows, {item['failed']} of them refused.")
        print_issues(errors)


@app.command()
def pairs(import_: ImportArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Show the running pairings that the held rows of an import touch. Pairings of your own line are left out."""
    with connections.open_service(data, "profiles") as profiles:
        items = list(profiles.list_items(f"/imports/{import_}/pairings"))
    if json:
        print_json(items)
        return
    rows = [
        (
            item["pairing_id"],
            item["programme_id"],
            *(member["name"] or member["member_id"] for member in item["members"]),
        )
        for item in items
    ]
    print_table("pairing", "programme", "senior", "junior", rows=rows)
    if not items:
        print_note("Nothing is held, or you may not see these pairings.")


@app.command()
def release(import_: ImportArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Let the held rows of an import take effect. Another admin than the one who uploaded the file must do this."""
    with connections.open_service(data, "profiles") as profiles:
        done = await_import(profiles, profiles.post(f"/imports/{import_}/release"))
    if json:
        print_json(done)
    else:
        print_import(done, [])


@app.command()
def cancel(import_: ImportArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Stop an import. Rows that took effect stay; a running import ends after its current batch."""
    with connections.open_service(data, "profiles") as profiles:
        item = profiles.post(f"/imports/{import_}/cancel")
    if json:
        print_json(item)
    else:
        print_line("It stops after its current batch." if item["state"] == "running" else "It is cancelled.")
