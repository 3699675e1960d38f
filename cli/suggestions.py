"""`suggestion`: suggested pairs in programmes with rolling matching; `shortlist`: possible partners of a member."""

from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from cli import connections
from cli.api import ServiceClient
from cli.console import CommandGroup, print_json, print_line, print_table
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses

app = typer.Typer(name="suggestion", cls=CommandGroup, no_args_is_help=True)

SuggestionArgument = Annotated[
    str, typer.Argument(metavar="SUGGESTION", help="The id of the suggestion, as `suggestion list` shows it.")
]


@app.callback()
def explain() -> None:
    """Decide about suggested pairs in a programme whose matching mode is rolling.

    When a person joins, changes or becomes free, the best partner is suggested within seconds. Nobody is informed until
    a coordinator releases the suggestion; then both are asked. In a programme with automatic release both are asked at
    once, and this list stays empty.
    """


@app.command("list")
def list_(
    programme: Annotated[
        str, typer.Argument(metavar="PROGRAMME", help="The id of the programme, as `programme list` shows it.")
    ],
    state: Annotated[
        Literal["open", "released", "dismissed"], typer.Option(help="The state: open ones wait for a decision.")
    ] = "open",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """List the suggested pairs with their topics.

    Suggestions that are no longer possible have lapsed and are not shown. Pairs with people of the coordinator's own
    reporting line are left out.

    [bold]Examples[/]

      viceversa suggestion list fresh-eyes

      viceversa suggestion list fresh-eyes --json | jq -r '.[].reasons.junior[]'
    """
    with connections.open_service(data, "matcher") as matcher:
        suggestions = list(matcher.list_items(f"/programmes/{programme}/suggestions", state=state))
    if json:
        print_json(suggestions)
    elif not suggestions:
        print_line(f"No suggestions are {state}." if state != "open" else "No suggestion waits for a decision.")
    else:
        rows = [
            (
                suggestion["suggestion_id"],
                suggestion["senior"],
                suggestion["junior"],
                _topic_names(suggestion),
                suggestion["made_at"],
            )
            for suggestion in suggestions
        ]
        print_table("=id", "senior", "junior", "about", "since", rows=rows)
        if state == "open":
            print_line("\nAsk both: viceversa suggestion release ID. Reject: viceversa suggestion dismiss ID")


@app.command()
def release(suggestion: SuggestionArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Ask both people. All rules and seats are checked again, and a seat is held for each of them until they answer.

    [bold]Example[/]

      viceversa suggestion release 7c1d...
    """
    with connections.open_service(data, "matcher") as matcher:
        result = matcher.post(f"/suggestions/{suggestion}/release")
    if json:
        print_json(result)
    else:
        print_line(f"Both have been asked. See: viceversa pairing {result['pairing_id']}")


@app.command()
def dismiss(suggestion: SuggestionArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Reject a suggestion. The two are never suggested to each other again; each may get another suggestion.

    [bold]Example[/]

      viceversa suggestion dismiss 7c1d...
    """
    with connections.open_service(data, "matcher") as matcher:
        result = matcher.post(f"/suggestions/{suggestion}/dismiss")
    if json:
        print_json(result)
    else:
        print_line("Dismissed. Nobody was informed.")


def register(app: typer.Typer) -> None:
    app.command()(shortlist)


def shortlist(
    programme: Annotated[
        str, typer.Argument(metavar="PROGRAMME", help="The id of the programme, as `programme list` shows it.")
    ],
    member: Annotated[str, typer.Option("--as", metavar="MEMBER", help="The member who chooses.")],
    limit: Annotated[int, typer.Option(help="Number of people to show, best first.", min=1, max=20)] = 10,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show whom a member could ask to be their partner, best first, with the reasons that the member sees.

    It works in programmes where members choose. It needs the local issuer, because it asks as that member.

    [bold]Example[/]

      viceversa shortlist fresh-eyes --as 0192...
    """
    addresses = load_addresses(data)
    token = connections.issue_local_token(data, addresses, member, ["member"])
    with ServiceClient("matcher", addresses.urls["matcher"], token) as matcher:
        candidates = matcher.get(f"/programmes/{programme}/shortlist", limit=limit)["items"]
    if json:
        print_json(candidates)
    elif not candidates:
        print_line("No suitable person is free at the moment.")
    for rank, candidate in enumerate([] if json else candidates, start=1):
        print_line(f"{rank}. [bold]{candidate['member_id']}[/], as {candidate['side']}")
        for reason in candidate["reasons"]:
            print_line(f"   {escape(reason)}")


def _topic_names(suggestion: Any) -> str:
    return ", ".join(focus["name"] for focus in suggestion["focus"])
