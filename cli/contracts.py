"""`contracts`: the documents that other systems read, made from the models and compared with what was promised."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import CommandGroup, Failure, print_json, print_line
from cli.installation import JsonOption

app = typer.Typer(name="contracts", cls=CommandGroup, no_args_is_help=True)

FolderOption = Annotated[Path | None, typer.Option("--folder", help="Where the documents lie; contracts/ without it.")]


@app.callback()
def explain() -> None:
    """Write or check the JSON Schemas and the AsyncAPI document of all events."""


@app.command()
def export(folder: FolderOption = None, json: JsonOption = False) -> None:
    """Write a JSON Schema for each event type, and the AsyncAPI document, from the models.

    Nothing is written where nothing changed. Commit what was.

    [bold]Examples[/]

      viceversa contracts export

      viceversa contracts export --folder /tmp/schemas    # for a system that wants them without our code
    """
    from contracts.export import FOLDER, export

    changed = [str(path) for path in export(folder or FOLDER)]
    if json:
        print_json(changed)
    else:
        print_line("\n".join(changed) or "All documents are as the models say; nothing was written.")


@app.command()
def check(folder: FolderOption = None, json: JsonOption = False) -> None:
    """Check that the documents are what the models say, and that no promise to subscribers is broken.

    Exit code 1 when something differs; every difference is named.

    [bold]Example[/]

      viceversa contracts check
    """
    from contracts import compat
    from contracts.export import FOLDER, differences

    outdated, broken = differences(folder or FOLDER), compat.check()
    if json:
        print_json({"outdated": outdated, "broken": broken})
    else:
        print_line(
            "\n".join([*outdated, *broken])
            or "The documents are as the models say, and every released shape still holds."
        )
    if broken:
        raise Failure(
            "A released type was changed.", "Add optional fields only; for anything else publish a .v2 type beside it."
        )
    if outdated:
        raise Failure("The documents are older than the models.", "`viceversa contracts export` writes them anew.")
