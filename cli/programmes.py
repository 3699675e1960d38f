"""`programme`: mentoring programmes with their settings and state."""

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli import connections
from cli.console import CommandGroup, Failure, print_json, print_line, print_table
from cli.installation import DEFAULT_DATA, DataOption, JsonOption

app = typer.Typer(name="programme", cls=CommandGroup, no_args_is_help=True)

ProgrammeArgument = Annotated[str, typer.Argument(metavar="PROGRAMME", help="The id of the programme.")]


@app.callback()
def explain() -> None:
    """Create, open, close and show programmes."""


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="A JSON file with the settings.", exists=True, dir_okay=False)],
    id_: Annotated[
        str | None, typer.Option("--id", help="The id, such as fresh-eyes-2026. Default: a generated one.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it at once, so that people can join.")] = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Create a programme from a settings file.

    Required settings: labels (a name for each language), organisations and confidential_contact. All others have
    defaults. A complete example is cli/sample/programme.json.

    [bold]Examples[/]

      viceversa programme create cli/sample/programme.json --id fresh-eyes --open

      viceversa programme create rules.json --json
    """
    try:
        settings = jsonlib.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise Failure(f"{file} is not valid JSON: {error}") from error
    with connections.open_service(data, "matcher") as matcher:
        programme = matcher.post("/programmes", {"settings": settings, **({"programme_id": id_} if id_ else {})})
        if open_:
            programme = matcher.post(f"/programmes/{programme['programme_id']}/open")
    if json:
        print_json(programme)
    else:
        print_line(f"Programme [bold]{programme['programme_id']}[/] is {programme['state']}.")
        if programme["state"] == "draft":
            print_line(f"Open it, so that people can join: viceversa programme open {programme['programme_id']}")


@app.command("list")
def list_(data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """List all programmes.

    [bold]Example[/]

      viceversa programme list
    """
    with connections.open_service(data, "matcher") as matcher:
        programmes = list(matcher.list_items("/programmes"))
    if json:
        print_json(programmes)
    elif not programmes:
        print_line("No programmes yet. Create one: viceversa programme create FILE")
    else:
        rows = [
            (programme["programme_id"], _display_name(programme), programme["state"], programme["version"])
            for programme in programmes
        ]
        print_table("=id", "name", "state", ">version", rows=rows)


@app.command()
def show(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Show one programme with all its settings.

    [bold]Example[/]

      viceversa programme show fresh-eyes
    """
    with connections.open_service(data, "matcher") as matcher:
        current = matcher.get(f"/programmes/{programme}")
    if not json:
        state = f"{current['state']}, version {current['version']}"
        print_line(f"[bold]{escape(_display_name(current))}[/] ({current['programme_id']}), {state}\n")
    print_json(current if json else current["settings"])


@app.command("open")
def open_(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA) -> None:
    """Open a programme: people can join, and rounds can be computed."""
    _change_state(data, programme, "open")


@app.command()
def close(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA) -> None:
    """Close a programme: nobody can join any longer, and running pairings continue."""
    _change_state(data, programme, "close")


def _change_state(data: Path, programme: str, verb: str) -> None:
    with connections.open_service(data, "matcher") as matcher:
        moved = matcher.post(f"/programmes/{programme}/{verb}")
    print_line(f"Programme [bold]{programme}[/] is {moved['state']}.")


def _display_name(programme: Any) -> str:
    labels = programme["settings"]["labels"]
    return str((labels.get("en") or next(iter(labels.values())))["name"])
