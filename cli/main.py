"""The command `viceversa`. Every subcommand explains itself: `viceversa COMMAND --help`."""

import typer

from cli import (
    acls,
    adjustments,
    care,
    conflicts,
    contracts,
    dead_letters,
    imports,
    learning,
    pairings,
    people,
    programmes,
    provisioning,
    receipts,
    rounds,
    start_stop,
    suggestions,
)
from cli.console import CommandGroup

app = typer.Typer(
    name="viceversa",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Reverse mentoring for a whole organisation.

    [bold]A first round, from nothing:[/]

      viceversa up
      viceversa programme create my-programme.json --open
      viceversa import people.csv
      viceversa round compute PROGRAMME
      viceversa round show ROUND
      viceversa round publish ROUND

    [bold]And then:[/]

      viceversa status               # processes, lag, and the progress of the pairs
      viceversa care PROGRAMME       # the coordinator's Monday list
      viceversa pairing ID           # the history of one pairing in words

    [bold]To see everything at once[/], with a made-up company: ./scripts/demo
    """,
    epilog="""Exit codes: 0 done, 1 failed, 2 not understood, 3 not running, 4 refused by a service, 130 interrupted.
    [bold]--json[/] prints the result for a script. NO_COLOR is respected. VICEVERSA_DATA is the default of --data.""",
)

start_stop.register(app)
people.register(app)
app.add_typer(imports.app)
app.add_typer(programmes.app)
adjustments.register(rounds.app)
app.add_typer(rounds.app)
app.add_typer(suggestions.app)
suggestions.register(app)
app.add_typer(learning.app)
pairings.register(app)
app.add_typer(receipts.app)
care.register(app)
conflicts.register(app)
app.add_typer(dead_letters.app)
app.add_typer(contracts.app)
provisioning.register(app)
acls.register(app)

if __name__ == "__main__":
    app()
