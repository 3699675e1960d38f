"""`conflicts`: pairs between whom the organisation has come to stand; `conflict`: what is to become of one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from cli import connections
from cli.console import print_json, print_line, print_table
from cli.formatting import format_day
from cli.installation import DEFAULT_DATA, DataOption, JsonOption
from cli.member_names import MemberNames
from cli.programmes import ProgrammeArgument


def register(app: typer.Typer) -> None:
    app.command()(conflicts)
    app.command()(conflict)


def conflicts(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """List the pairs that break a rule since the organisation has changed: line, manager, evaluators, organisation.

    They are told nothing of it, and nothing ends by itself unless the programme says so (rules.on_conflict). Pairs of
    your own line are left out; somebody else decides about those.

    [bold]Examples[/]

      viceversa conflicts fresh-eyes

      viceversa conflict ID keep           # they go on all the same
    """
    with connections.open_service(data, "matcher") as matcher:
        found = list(matcher.list_items(f"/programmes/{programme}/conflicts"))
    if json:
        print_json(found)
    elif not found:
        print_line("No pair breaks a rule about the organisation.")
    else:
        with connections.open_service(data, "profiles") as profiles:
            print_conflicts(found, MemberNames(profiles))


def conflict(
    pairing_id: Annotated[str, typer.Argument(metavar="ID", help="The pairing's id, as `conflicts` shows it.")],
    decision: Annotated[Literal["keep", "end"], typer.Argument(help="Whether they go on all the same, or it ends.")],
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Decide about a pair that breaks a rule since the organisation has changed. An end is like any other.

    Talk to the two before you end it: all that they will read is that it is finished.

    [bold]Examples[/]

      viceversa conflict 0192... keep

      viceversa conflict 0192... end
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/pairings/{pairing_id}/conflict", {"decision": decision})
    if json:
        print_json(found)
    else:
        print_line("They go on; it is not listed any longer." if decision == "keep" else "It is finished.")


def print_conflicts(found: Sequence[Mapping[str, Any]], names: MemberNames) -> None:
    """One line for each pair."""
    rows = [
        (
            names.join(one["members"][side] for side in ("senior", "junior")),
            " ".join(one["words"]),
            format_day(datetime.fromisoformat(one["since"])),
            format_day(datetime.fromisoformat(one["ends_at"])) if one["ends_at"] else "when somebody decides",
            one["pairing_id"],
        )
        for one in found
    ]
    print_table("  who", "why", "since", "ends", "=pairing", rows=rows)
