"""`conflicts`: pairs that break a rule after a change in the organisation; `conflict`: the decision about one pair."""

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
    """List the pairs that break a rule after a change in the organisation.

    The rules are about the reporting line, a common manager, evaluators and the organisation. The pair is not informed,
    and nothing ends automatically unless the programme requires it (rules.on_conflict). Pairs of your own reporting
    line are left out; another coordinator decides about them.

    [bold]Examples[/]

      viceversa conflicts fresh-eyes

      viceversa conflict ID keep           # the pair continues
    """
    with connections.open_service(data, "matcher") as matcher:
        items = list(matcher.list_items(f"/programmes/{programme}/conflicts"))
    if json:
        print_json(items)
    elif not items:
        print_line("No pair breaks a rule about the organisation.")
    else:
        with connections.open_service(data, "profiles") as profiles:
            print_conflicts(items, MemberNames(profiles))


def conflict(
    pairing_id: Annotated[str, typer.Argument(metavar="ID", help="The pairing's id, as `conflicts` shows it.")],
    decision: Annotated[
        Literal["keep", "end"], typer.Argument(help="Whether the pair continues, or the pairing ends.")
    ],
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Decide about a pair that breaks a rule after a change in the organisation. The end is like any other end.

    Talk to both before you end it: their message says only that the pairing is finished.

    [bold]Examples[/]

      viceversa conflict 0192... keep

      viceversa conflict 0192... end
    """
    with connections.open_service(data, "matcher") as matcher:
        result = matcher.post(f"/pairings/{pairing_id}/conflict", {"decision": decision})
    if json:
        print_json(result)
    else:
        print_line("The pair continues and is no longer listed." if decision == "keep" else "The pairing is finished.")


def print_conflicts(items: Sequence[Mapping[str, Any]], names: MemberNames) -> None:
    """Print one line for each pair."""
    rows = [
        (
            names.join(item["members"][side] for side in ("senior", "junior")),
            " ".join(item["words"]),
            format_day(datetime.fromisoformat(item["since"])),
            format_day(datetime.fromisoformat(item["ends_at"])) if item["ends_at"] else "when somebody decides",
            item["pairing_id"],
        )
        for item in items
    ]
    print_table("  who", "why", "since", "ends", "=pairing", rows=rows)
