"""`conflicts`: pairs between whom the organisation has come to stand; `conflict`: what is to become of one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from cli import connections
from cli.console import as_json, say, table
from cli.formatting import day
from cli.installation import USUAL_DATA, DataOption, JsonOption
from cli.member_names import Names
from cli.programmes import ProgrammeArgument


def register(app: typer.Typer) -> None:
    app.command()(conflicts)
    app.command()(conflict)


def conflicts(programme: ProgrammeArgument, data: DataOption = USUAL_DATA, json: JsonOption = False) -> None:
    """List the pairs that break a rule since the organisation has changed: line, manager, evaluators, organisation.

    They are told nothing of it, and nothing ends by itself unless the programme says so (rules.on_conflict). Pairs of
    your own line are left out; somebody else decides about those.

    [bold]Examples[/]

      viceversa conflicts fresh-eyes

      viceversa conflict ID keep           # they go on all the same
    """
    with connections.service(data, "matcher") as matcher:
        found = list(matcher.pages(f"/programmes/{programme}/conflicts"))
    if json:
        as_json(found)
    elif not found:
        say("No pair breaks a rule about the organisation.")
    else:
        with connections.service(data, "profiles") as profiles:
            show(found, Names(profiles))


def conflict(
    pairing_id: Annotated[str, typer.Argument(metavar="ID", help="The pairing's id, as `conflicts` shows it.")],
    decision: Annotated[Literal["keep", "end"], typer.Argument(help="Whether they go on all the same, or it ends.")],
    data: DataOption = USUAL_DATA,
    json: JsonOption = False,
) -> None:
    """Decide about a pair that breaks a rule since the organisation has changed. An end is like any other.

    Talk to the two before you end it: all that they will read is that it is finished.

    [bold]Examples[/]

      viceversa conflict 0192... keep

      viceversa conflict 0192... end
    """
    with connections.service(data, "matcher") as matcher:
        found = matcher.post(f"/pairings/{pairing_id}/conflict", {"decision": decision})
    if json:
        as_json(found)
    else:
        say("They go on; it is not listed any longer." if decision == "keep" else "It is finished.")


def show(found: Sequence[Mapping[str, Any]], names: Names) -> None:
    """One line for each pair."""
    rows = [
        (
            names.both(one["members"][side] for side in ("senior", "junior")),
            " ".join(one["words"]),
            day(datetime.fromisoformat(one["since"])),
            day(datetime.fromisoformat(one["ends_at"])) if one["ends_at"] else "when somebody decides",
            one["pairing_id"],
        )
        for one in found
    ]
    table("  who", "why", "since", "ends", "=pairing", rows=rows)
