"""`contracts`: the documents for other systems, written from the models and checked against the released shapes."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import CommandGroup, Failure, print_json, print_line
from cli.installation import JsonOption

app = typer.Typer(name="contracts", cls=CommandGroup, no_args_is_help=True)

FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="The folder of the documents. Default: contracts/.")
]


@app.callback()
def explain() -> None:
    """Write or check the JSON Schemas and the AsyncAPI document of all events."""


@app.command()
def export(folder: FolderOption = None, json: JsonOption = False) -> None:
    """Write a JSON Schema for each event type, and the AsyncAPI document, from the models.

    Only changed documents are written. Commit them.

    [bold]Examples[/]

      viceversa contracts export

      viceversa contracts export --folder /tmp/schemas    # for a system that uses them without our code
    """
    from contracts.export import FOLDER, export

    changed = [str(path) for path in export(folder or FOLDER)]
    if json:
        print_json(changed)
    else:
        print_line("\n".join(changed) or "All documents agree with the models; nothing was written.")


@app.command()
def check(folder: FolderOption = None, json: JsonOption = False) -> None:
    """Check that the documents agree with the models, and that every released shape still holds.

    Exit code 1 when something differs. Every difference is printed.

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
            or "The documents agree with the models, and every released shape still holds."
        )
    if broken:
        raise Failure(
            "A released event type has an incompatible change.",
            "Add only optional fields. For anything else, publish a .v2 type beside it.",
        )
    if outdated:
        raise Failure("The documents are older than the models.", "Write them again: `viceversa contracts export`.")
