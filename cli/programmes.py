"""`programme`: the rules by which people are brought together, and whether it is open."""

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import connections
from cli.console import CommandGroup, Failure, print_json, print_line, print_table
from cli.installation import DEFAULT_DATA, DataOption, JsonOption

app = typer.Typer(name="programme", cls=CommandGroup, no_args_is_help=True)

ProgrammeArgument = Annotated[str, typer.Argument(metavar="PROGRAMME", help="Its id.")]


@app.callback()
def explain() -> None:
    """Create, open, close and look at programmes."""


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="A JSON file with the settings.", exists=True, dir_okay=False)],
    id_: Annotated[str | None, typer.Option("--id", help="Its id, such as fresh-eyes-2026; drawn when absent.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it at once, so that people can join.")] = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Create a programme from a file of settings.

    Required are labels (a name for each language), organisations and confidential_contact; all else has defaults.
    A complete example is cli/sample/programme.json.

    [bold]Examples[/]

      viceversa programme create cli/sample/programme.json --id fresh-eyes --open

      viceversa programme create rules.json --json
    """
    try:
        settings = jsonlib.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise Failure(f"{file} is no JSON: {error}") from error
    with connections.open_service(data, "matcher") as matcher:
        made = matcher.post("/programmes", {"settings": settings, **({"programme_id": id_} if id_ else {})})
        if open_:
            made = matcher.post(f"/programmes/{made['programme_id']}/open")
    if json:
        print_json(made)
    else:
        print_line(f"Programme [bold]{made['programme_id']}[/] is {made['state']}.")
        if made["state"] == "draft":
            print_line(f"People can join once it is open: viceversa programme open {made['programme_id']}")


@app.command("list")
def list_(data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """List all programmes.

    [bold]Example[/]

      viceversa programme list
    """
    with connections.open_service(data, "matcher") as matcher:
        found = list(matcher.list_items("/programmes"))
    if json:
        print_json(found)
    elif not found:
        print_line("No programmes yet: viceversa programme create FILE")
    else:
        rows = [(one["programme_id"], _display_name(one), one["state"], one["version"]) for one in found]
        print_table("=id", "name", "state", ">version", rows=rows)


@app.command()
def show(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Show one programme with all its settings.

    [bold]Example[/]

      viceversa programme show fresh-eyes
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.get(f"/programmes/{programme}")
    if not json:
        print_line(
            f"[bold]{_display_name(found)}[/] ({found['programme_id']}), {found['state']}, version {found['version']}\n"
        )
    print_json(found if json else found["settings"])


@app.command("open")
def open_(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA) -> None:
    """Open a programme: people can join, and rounds can be computed."""
    _change_state(data, programme, "open")


@app.command()
def close(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA) -> None:
    """Close a programme: nobody joins any longer; running pairings go on."""
    _change_state(data, programme, "close")


def _change_state(data: Path, programme: str, verb: str) -> None:
    with connections.open_service(data, "matcher") as matcher:
        moved = matcher.post(f"/programmes/{programme}/{verb}")
    print_line(f"Programme [bold]{programme}[/] is {moved['state']}.")


def _display_name(programme: Any) -> str:
    labels = programme["settings"]["labels"]
    return str((labels.get("en") or next(iter(labels.values())))["name"])
