"""`suggestion`: who could be brought together next, in programmes that are matched as people come and go."""

from typing import Annotated, Any, Literal

import typer

from cli import connections
from cli.api import ServiceClient
from cli.console import CommandGroup, print_json, print_line, print_table
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses

app = typer.Typer(name="suggestion", cls=CommandGroup, no_args_is_help=True)

SuggestionArgument = Annotated[str, typer.Argument(metavar="SUGGESTION", help="Its id, as `suggestion list` shows it.")]


@app.callback()
def explain() -> None:
    """What waits for a coordinator in a programme whose matching mode is rolling.

    Whoever comes, changes or is free again is suggested to the best partner within seconds. Nobody is told before a
    person releases it; then the two are asked. Where the programme's release is automatic they are asked at once, and
    nothing waits here.
    """


@app.command("list")
def list_(
    programme: Annotated[str, typer.Argument(metavar="PROGRAMME", help="Its id, as `programme list` shows it.")],
    state: Annotated[
        Literal["open", "released", "dismissed"], typer.Option(help="Those that wait, or those decided on.")
    ] = "open",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """List who could be brought together, and what it would be about.

    What is no longer possible has lapsed and is not shown. Pairs in which the coordinator's own line takes part are
    left out.

    [bold]Examples[/]

      viceversa suggestion list fresh-eyes

      viceversa suggestion list fresh-eyes --json | jq -r '.[].reasons.junior[]'
    """
    with connections.open_service(data, "matcher") as matcher:
        found = list(matcher.list_items(f"/programmes/{programme}/suggestions", state=state))
    if json:
        print_json(found)
    elif not found:
        print_line(f"No suggestions are {state}." if state != "open" else "Nobody waits for a decision just now.")
    else:
        rows = [
            (one["suggestion_id"], one["senior"], one["junior"], _topic_names(one), one["made_at"]) for one in found
        ]
        print_table("=id", "senior", "junior", "about", "since", rows=rows)
        if state == "open":
            print_line("\nAsk the two: viceversa suggestion release ID; or not: viceversa suggestion dismiss ID")


@app.command()
def release(suggestion: SuggestionArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Ask the two. Every rule and every place is checked once more, and a seat is held for them until they answer.

    [bold]Example[/]

      viceversa suggestion release 7c1d...
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/suggestions/{suggestion}/release")
    if json:
        print_json(found)
    else:
        print_line(f"The two have been asked: viceversa pairing {found['pairing_id']}")


@app.command()
def dismiss(suggestion: SuggestionArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Decide against it. The two are never suggested to each other again, and both go on with somebody else.

    [bold]Example[/]

      viceversa suggestion dismiss 7c1d...
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/suggestions/{suggestion}/dismiss")
    if json:
        print_json(found)
    else:
        print_line("Dismissed. Nobody was told of it.")


def register(app: typer.Typer) -> None:
    app.command()(shortlist)


def shortlist(
    programme: Annotated[str, typer.Argument(metavar="PROGRAMME", help="Its id, as `programme list` shows it.")],
    member: Annotated[str, typer.Option("--as", metavar="MEMBER", help="The member who would choose.")],
    limit: Annotated[int, typer.Option(help="How many, the best first.", min=1, max=20)] = 10,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show whom a member could ask to be their partner, the best first, with the reasons that they see.

    For programmes that let members choose; needs the local issuer, since it asks as that member.

    [bold]Example[/]

      viceversa shortlist fresh-eyes --as 0192...
    """
    chosen = load_addresses(data)
    token = connections.issue_local_token(data, chosen, member, ["member"])
    with ServiceClient("matcher", chosen.urls["matcher"], token) as matcher:
        found = matcher.get(f"/programmes/{programme}/shortlist", limit=limit)["items"]
    if json:
        print_json(found)
    elif not found:
        print_line("Nobody who would fit is free just now.")
    for place, one in enumerate([] if json else found, start=1):
        print_line(f"{place}. [bold]{one['member_id']}[/], as {one['side']}")
        for reason in one["reasons"]:
            print_line(f"   {reason}")


def _topic_names(suggestion: Any) -> str:
    return ", ".join(focus["name"] for focus in suggestion["focus"])
