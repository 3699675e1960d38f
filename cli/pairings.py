"""`pairing`: one pairing as it stands."""

from typing import Annotated, Any

import typer

from cli import connections
from cli.api import Api
from cli.console import Failure, as_json, say, table
from cli.place import USUAL_DATA, DataOption, JsonOption

_TIMES = ("proposed_at", "answer_by", "formed_at", "charter_at", "planned_end", "ended_at")


def register(app: typer.Typer) -> None:
    app.command()(pairing)
    app.command()(pairings)


def pairing(
    pairing_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, as events and `pairings` show it.")],
    data: DataOption = USUAL_DATA,
    json: JsonOption = False,
) -> None:
    """Show one pairing: its state, who is in it, what it is about, and its dates.

    [bold]Examples[/]

      viceversa pairing 0192...

      viceversa pairing 0192... --json
    """
    with connections.service(data, "matcher") as matcher:
        found = matcher.get(f"/pairings/{pairing_id}")
    if json:
        as_json(found)
        return
    say(f"Pairing [bold]{found['pairing_id']}[/] is {found['state']}. It came about by {found['origin']}.")
    with connections.service(data, "profiles") as profiles:
        rows = [(one["side"], _name(profiles, one["member_id"]), one["department_id"]) for one in found["participants"]]
    table("side", "who", "department", rows=rows)
    for focus in found["focus"]:
        say(f"  {focus['topic_id']}, from the {focus['from_side']}")
    table("when", "", rows=[(name.removesuffix("_at"), found[name]) for name in _TIMES if found.get(name)])


def pairings(
    programme: Annotated[str | None, typer.Option(help="Only of this programme.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state, such as formed.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    data: DataOption = USUAL_DATA,
    json: JsonOption = False,
) -> None:
    """List pairings.

    [bold]Examples[/]

      viceversa pairings --state formed

      viceversa pairings --programme fresh-eyes --limit 1000 --json
    """
    query = {name: value for name, value in (("programme_id", programme), ("state", state)) if value}
    found: list[Any] = []
    with connections.service(data, "matcher") as matcher:
        for one in matcher.pages("/pairings", **query):
            found.append(one)
            if len(found) == limit:
                break
    if json:
        as_json(found)
    elif not found:
        say("No pairings yet: viceversa round compute PROGRAMME, then viceversa round publish ROUND")
    else:
        rows = [(one["pairing_id"], one["state"], one["origin"], one["proposed_at"], one["formed_at"]) for one in found]
        table("=id", "state", "origin", "proposed", "formed", rows=rows)


def _name(profiles: Api, member: str) -> str:
    """The name where whoever asks may see it and it still exists, the id else."""
    try:
        return str(profiles.get(f"/members/{member}")["name"])
    except Failure:
        return member
